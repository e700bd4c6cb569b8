//! Who carries out an effect: the real world, or the dry run that UPGRADE PLAN prints.

mod dry_run;
mod failpoint;
mod perform;
mod real;

use crate::effect::{Effect, EffectError, Outcome};

pub(crate) use dry_run::DryRun;
pub(crate) use failpoint::Failpoint;
pub(crate) use perform::{PerformError, Performer};
pub(crate) use real::{
    NOWHERE, Real, SERVES_STALE, arming_changes, source_settings, target_settings,
};

/// All outside actions go through here.
pub(crate) trait Effects: Send + Sync {
    /// Does it, or says why not. Idempotent: an effect whose result was lost is done again.
    fn apply(&self, effect: &Effect) -> impl Future<Output = Result<Outcome, EffectError>> + Send;
}
