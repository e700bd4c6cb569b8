//! Whether a shard could be rolled back now, and at what price. Computed from what is true now, never remembered.

use std::fmt;

/// The way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WayBack {
    /// The source has everything that the target has.
    Exact,
    /// But for this many keys, of commands that the source cannot execute.
    ExceptKeys(u64),
    /// There is none, and why.
    Gone(String),
    /// The guard is being made again or the source is reconnecting.
    Unknown(String),
}

impl fmt::Display for WayBack {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WayBack::Exact => write!(out, "exact"),
            WayBack::ExceptKeys(keys) => write!(out, "exact except {keys} keys"),
            WayBack::Gone(_) => write!(out, "gone"),
            WayBack::Unknown(_) => write!(out, "unknown"),
        }
    }
}

impl WayBack {
    /// The names of all kinds, as metrics have them.
    pub(crate) const NAMES: [&str; 4] = ["exact", "except_keys", "gone", "unknown"];

    /// This kind's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            WayBack::Exact => "exact",
            WayBack::ExceptKeys(_) => "except_keys",
            WayBack::Gone(_) => "gone",
            WayBack::Unknown(_) => "unknown",
        }
    }

    /// Why, where that needs saying.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            WayBack::Gone(why) | WayBack::Unknown(why) => Some(why),
            WayBack::Exact | WayBack::ExceptKeys(_) => None,
        }
    }

    /// Whether ROLLBACK may go, with the loss that the operator accepts; else what to say.
    pub(crate) fn allows(&self, accept_loss: Option<u64>) -> Result<(), String> {
        match self {
            WayBack::Exact => Ok(()),
            WayBack::ExceptKeys(keys) if accept_loss.is_some_and(|accepted| accepted >= *keys) => {
                Ok(())
            }
            WayBack::ExceptKeys(keys) => Err(format!(
                "way-back: the source could not execute commands on {keys} keys; ROLLBACK … ACCEPT-LOSS {keys} goes back without them"
            )),
            WayBack::Gone(why) => Err(format!(
                "way-back: there is none ({why}); FINALIZE, or upgrade to a copy of the old version"
            )),
            WayBack::Unknown(why) => Err(format!(
                "way-back: it cannot be told now ({why}); try again"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_that_loses_keys_needs_their_number() {
        assert!(WayBack::Exact.allows(None).is_ok());
        assert!(
            WayBack::ExceptKeys(3)
                .allows(None)
                .unwrap_err()
                .contains("ACCEPT-LOSS 3")
        );
        assert!(WayBack::ExceptKeys(3).allows(Some(2)).is_err());
        assert!(WayBack::ExceptKeys(3).allows(Some(3)).is_ok());
        assert!(WayBack::Gone("full resync".into()).allows(Some(9)).is_err());
    }

    #[test]
    fn status_shows_the_words_of_the_contract() {
        assert_eq!(WayBack::Exact.to_string(), "exact");
        assert_eq!(WayBack::ExceptKeys(2).to_string(), "exact except 2 keys");
        assert_eq!(WayBack::Gone("x".into()).to_string(), "gone");
    }
}
