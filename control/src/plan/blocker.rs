//! What stands in the way of an upgrade: a code, a sentence, a remedy.
//!
//! Some blockers may be accepted by name at START (`ACCEPT big-keys`); those that would lose writes may not.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether an operator may go on in spite of a blocker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Acceptable {
    /// By name.
    Yes,
    /// Never: it must be mended.
    No,
}

/// One thing that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blocker {
    /// What ACCEPT takes, in kebab-case.
    pub code: String,
    /// Whose.
    pub shard: String,
    /// What is so.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
    /// Whether ACCEPT takes it.
    pub acceptable: Acceptable,
}

impl fmt::Display for Blocker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} (shard {}): {}; {}",
            self.code, self.shard, self.text, self.remedy
        )?;
        match self.acceptable {
            Acceptable::Yes => write!(out, ", or ACCEPT {}", self.code),
            Acceptable::No => Ok(()),
        }
    }
}

/// Those that START must refuse for.
pub(crate) fn refused<'a>(blockers: &'a [Blocker], accept: &[String]) -> Vec<&'a Blocker> {
    let accepted = |blocker: &&Blocker| {
        blocker.acceptable == Acceptable::Yes && accept.contains(&blocker.code)
    };
    blockers
        .iter()
        .filter(|blocker| !accepted(blocker))
        .collect()
}
