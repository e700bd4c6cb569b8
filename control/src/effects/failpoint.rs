//! Where a crash test stops us: `UNDERSTUDY_FAILPOINT=<effect>:<begun|applied>:<kill|stop|error>[:<nth time>]`, and
//! more of these behind commas, such as an error and then a kill in the undo that follows.
//!
//! `begun` is after the intention is journalled and before the effect, `applied` after the effect and before its result
//! is journalled. `kill` is SIGKILL, `stop` is SIGSTOP, both sent to ourselves; `error` makes the effect fail. Read once,
//! at start, and only in builds with debug assertions.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use crate::effect::{Effect, EffectError, Hope};

/// A thread of ours has taken SIGSTOP, and stopped all others, within this time.
const STOPPED_WITHIN: Duration = Duration::from_millis(250);

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
#[derive(Debug, Default)]
pub(crate) struct Failpoint {
    wanted: Vec<Wanted>,
}

#[derive(Debug)]
struct Wanted {
    effect: &'static str,
    moment: Moment,
    act: Act,
    /// From 1.
    nth: u32,
    /// How often its moment has come.
    met: AtomicU32,
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
        if parsed.wanted.is_empty() {
            tracing::warn!(%text, "UNDERSTUDY_FAILPOINT is not <effect>:<begun|applied>:<kill|stop|error>");
        }
        parsed
    }

    /// None at all when one of them is nonsense.
    fn parse(text: &str) -> Failpoint {
        let wanted: Option<Vec<Wanted>> = text.split(',').map(Wanted::parse).collect();
        Failpoint {
            wanted: wanted.unwrap_or_default(),
        }
    }

    /// Does what was asked for at this moment of this effect.
    pub(crate) fn at(&self, effect: &Effect, moment: Moment) -> Result<(), EffectError> {
        let here = |wanted: &&Wanted| wanted.effect == effect.name() && wanted.moment == moment;
        for wanted in self.wanted.iter().filter(here) {
            if wanted.met.fetch_add(1, Ordering::Relaxed) + 1 == wanted.nth {
                wanted.act(effect)?;
            }
        }
        Ok(())
    }
}

impl Wanted {
    fn parse(text: &str) -> Option<Wanted> {
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
        let nth = parts.next().map_or(Some(1), |text| text.parse().ok());
        match (effect, moment, act, nth, parts.next()) {
            (Some(effect), Some(moment), Some(act), Some(nth), None) => Some(Wanted {
                effect,
                moment,
                act,
                nth,
                met: AtomicU32::new(0),
            }),
            _ => None,
        }
    }

    fn act(&self, effect: &Effect) -> Result<(), EffectError> {
        match self.act {
            Act::Kill => signal_ourselves(Signal::KILL),
            Act::Stop => {
                signal_ourselves(Signal::STOP);
                // Any thread may take the signal; until one has, this one must not go on past its point.
                std::thread::park_timeout(STOPPED_WITHIN);
            }
            Act::Error => {
                let cause = format!("failpoint at {}", self.moment.name());
                return Err(EffectError {
                    effect: effect.name(),
                    cause,
                    hope: Hope::None,
                });
            }
        }
        Ok(())
    }
}

fn signal_ourselves(signal: Signal) {
    if let Err(error) = kill_process(getpid(), signal) {
        tracing::error!(%error, "failpoint: signal ourselves");
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
                    assert!(Wanted::parse(&format!("{name}:{moment}:{act}")).is_some());
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
            "hold:begun:kill:1:2",
            "hold:begun:kill,",
        ] {
            assert!(Failpoint::parse(text).wanted.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_point_may_wait_for_the_second_time() {
        let point = Failpoint::parse("promote:begun:error:2");
        let promote = Effect::Promote { server: "a".into() };
        let fails: Vec<bool> = (0..3)
            .map(|_| point.at(&promote, Moment::Begun).is_err())
            .collect();
        assert_eq!(fails, [false, true, false]);
    }

    #[test]
    fn one_point_may_follow_another() {
        let point = Failpoint::parse("promote:begun:error,unfence:begun:error");
        for effect in [
            Effect::Promote { server: "a".into() },
            Effect::Unfence { server: "a".into() },
        ] {
            assert!(point.at(&effect, Moment::Begun).is_err());
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
