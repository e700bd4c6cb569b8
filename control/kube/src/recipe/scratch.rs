//! How a snapshot is brought into a claim that nobody uses, to be read back and forgotten: what `verify` rests on.
//!
//! A recipe says it in `scratch`. One whose restore makes a new claim by itself need not: that is the way.

use super::{Lookup, Recipe, RestoreMode, Step, Trigger};
use crate::recipe::Resolve;

/// A recipe's own way into a scratch claim.
#[derive(Clone, Debug)]
pub struct Scratch {
    /// Into what.
    pub into: ScratchInto,
    /// Where it ends, one sentence each: for the docs.
    pub limits: Vec<String>,
    /// Reads before it.
    pub resolve: Vec<Resolve>,
    /// Its triggers, in order. Each makes an object, which is forgotten afterwards.
    pub steps: Vec<Step>,
    /// What the system makes beside the claim by itself, and what is forgotten too.
    pub leaves: Vec<Lookup>,
    /// Why there is no way.
    pub because: String,
}

/// Where the data comes to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScratchInto {
    /// A claim that the steps make, beside the server's own.
    Made,
    /// An empty claim that we make first, beside the server's own, and the system fills.
    Filled,
    /// A claim of the name that it had, which the system makes in the namespace of `kubernetes.verify`.
    Namespace,
    /// There is no way: `because` says why.
    Nowhere,
}

/// The way of one recipe.
#[derive(Clone, Copy, Debug)]
pub struct Way<'r> {
    /// Into what; never [`ScratchInto::Nowhere`].
    pub into: ScratchInto,
    /// Reads before it.
    pub resolve: &'r [Resolve],
    /// Its triggers, in order.
    pub steps: &'r [Step],
    /// What the system makes beside the claim.
    pub leaves: &'r [Lookup],
}

impl Recipe {
    /// How a snapshot is brought into a scratch claim, or why it cannot be.
    pub fn way_back(&self) -> Result<Way<'_>, String> {
        if let Some(scratch) = &self.scratch {
            return match scratch.into {
                ScratchInto::Nowhere => Err(scratch.because.clone()),
                into => Ok(Way {
                    into,
                    resolve: &scratch.resolve,
                    steps: &scratch.steps,
                    leaves: &scratch.leaves,
                }),
            };
        }
        let Some(restore) = &self.restore else {
            return Err("it does not say how to restore".to_owned());
        };
        let why = match restore.mode {
            RestoreMode::NewPvc if restore.by_hand.is_empty() => {
                return Ok(Way {
                    into: ScratchInto::Made,
                    resolve: &restore.resolve,
                    steps: &restore.steps,
                    leaves: &[],
                });
            }
            RestoreMode::NewPvc | RestoreMode::Manual => "a restore needs a hand",
            RestoreMode::InPlace => {
                "the system restores onto the claim that was snapshotted, never into another one"
            }
            RestoreMode::App => {
                "the system restores claims under the names that they had, and not into a claim of ours"
            }
        };
        Err(why.to_owned())
    }
}

impl Step {
    /// The kind of the object that it makes; none where it changes or asks.
    #[must_use]
    pub fn makes(&self) -> Option<&str> {
        match &self.trigger {
            Trigger::Create(object)
            | Trigger::Apply(object)
            | Trigger::JobFromCronJob { job: object, .. } => Some(&object.kind),
            Trigger::Patch(_) | Trigger::Http(_) => None,
        }
    }
}
