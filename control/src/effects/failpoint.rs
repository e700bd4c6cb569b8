//! Where a crash test stops us: `UNDERSTUDY_FAILPOINT=<effect>:<begun|applied>:<kill|stop|error>`.
//!
//! `begun` is after the intention is journalled and before the effect, `applied` after the effect and before its result
//! is journalled. `kill` is SIGKILL, `stop` is SIGSTOP, both sent to ourselves; `error` makes the effect fail. Read once,
//! at start, and only in builds with debug assertions.

use crate::effect::{Effect, EffectError};

/// When, relative to the effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Begun,
    Applied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Kill,
    Stop,
    Error,
}

/// What the environment asked for, if anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failpoint {
    wanted: Option<(&'static str, Moment, Act)>,
}

impl Moment {
    fn name(self) -> &'static str {
        match self {
            Moment::Begun => "begun",
            Moment::Applied => "applied",
        }
    }
}

impl Failpoint {
    /// Nothing in a release build, or without the variable. A text that is no failpoint is logged and ignored.
    pub(crate) fn from_environment() -> Failpoint {
        if !cfg!(debug_assertions) {
            return Failpoint::default();
        }
        let Ok(text) = std::env::var("UNDERSTUDY_FAILPOINT") else {
            return Failpoint::default();
        };
        let parsed = Failpoint::parse(&text);
        if parsed.wanted.is_none() {
            tracing::warn!(%text, "UNDERSTUDY_FAILPOINT is not <effect>:<begun|applied>:<kill|stop|error>");
        }
        parsed
    }

    fn parse(text: &str) -> Failpoint {
        let mut parts = text.split(':');
        let effect = parts
            .next()
            .and_then(|name| Effect::ALL.into_iter().find(|known| *known == name));
        let moment = match parts.next() {
            Some("begun") => Some(Moment::Begun),
            Some("applied") => Some(Moment::Applied),
            Some(_) | None => None,
        };
        let act = match parts.next() {
            Some("kill") => Some(Act::Kill),
            Some("stop") => Some(Act::Stop),
            Some("error") => Some(Act::Error),
            Some(_) | None => None,
        };
        let wanted = match (effect, moment, act, parts.next()) {
            (Some(effect), Some(moment), Some(act), None) => Some((effect, moment, act)),
            _ => None,
        };
        Failpoint { wanted }
    }

    /// Does what was asked for at this moment of this effect.
    pub(crate) fn at(&self, effect: &Effect, moment: Moment) -> Result<(), EffectError> {
        let Some((name, when, act)) = self.wanted else {
            return Ok(());
        };
        if name != effect.name() || when != moment {
            return Ok(());
        }
        match act {
            Act::Kill => signal_ourselves("-KILL"),
            Act::Stop => signal_ourselves("-STOP"),
            Act::Error => {
                let cause = format!("failpoint at {}", moment.name());
                return Err(EffectError {
                    effect: effect.name(),
                    cause,
                    passing: false,
                });
            }
        }
        Ok(())
    }
}

/// By the `kill` command, since this crate forbids `unsafe`.
fn signal_ourselves(signal: &str) {
    let sent = std::process::Command::new("kill")
        .arg(signal)
        .arg(std::process::id().to_string())
        .status();
    if let Err(error) = sent {
        tracing::error!(%error, "failpoint: run kill");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_effect_has_its_failpoints() {
        for name in Effect::ALL {
            for moment in ["begun", "applied"] {
                for act in ["kill", "stop", "error"] {
                    assert!(
                        Failpoint::parse(&format!("{name}:{moment}:{act}"))
                            .wanted
                            .is_some()
                    );
                }
            }
        }
    }

    #[test]
    fn nonsense_is_no_failpoint() {
        for text in [
            "",
            "hold",
            "hold:begun",
            "hold:begun:kill:now",
            "frob:begun:kill",
            "hold:later:kill",
        ] {
            assert_eq!(Failpoint::parse(text), Failpoint::default(), "{text}");
        }
    }

    #[test]
    fn an_error_point_fails_its_effect_and_no_other() {
        let point = Failpoint::parse("promote:applied:error");
        let promote = Effect::Promote { server: "a".into() };
        let unfence = Effect::Unfence { server: "a".into() };
        assert!(point.at(&promote, Moment::Applied).is_err());
        assert!(point.at(&promote, Moment::Begun).is_ok());
        assert!(point.at(&unfence, Moment::Applied).is_ok());
    }
}
