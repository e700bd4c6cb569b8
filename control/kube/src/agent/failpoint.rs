//! Where a crash test stops a sidecar: `UNDERSTUDY_FAILPOINT=<step>:<begun|applied>:<kill|stop>[:<nth time>]`, more behind
//! commas. As in control: `begun` is before the step, `applied` after it and before anybody is told; read once, at start,
//! and only in builds with debug assertions.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

/// A thread of ours has taken SIGSTOP, and stopped all others, within this time.
const STOPPED_WITHIN: Duration = Duration::from_millis(250);

/// What an agent does, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Makes the Lease its own.
    Lease,
    /// Writes the run into the Lease.
    Fence,
    /// Makes, or changes, an object of the backup system.
    Trigger,
    /// Writes the record of a finished snapshot.
    Record,
}

impl Step {
    const ALL: [Self; 4] = [Self::Lease, Self::Fence, Self::Trigger, Self::Record];

    fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Fence => "fence",
            Self::Trigger => "trigger",
            Self::Record => "record",
        }
    }
}

#[derive(Debug)]
struct Wanted {
    step: Step,
    applied: bool,
    signal: Signal,
    nth: u32,
    met: AtomicU32,
}

/// What the environment asked for, if anything.
#[derive(Debug, Default)]
pub(super) struct Failpoint(Vec<Wanted>);

impl Failpoint {
    /// Nothing in a release build, or without the variable. A text that is no failpoint is logged and ignored.
    pub(super) fn from_environment() -> Self {
        if !cfg!(debug_assertions) {
            return Self::default();
        }
        let Ok(text) = std::env::var("UNDERSTUDY_FAILPOINT") else {
            return Self::default();
        };
        let wanted: Option<Vec<Wanted>> = text.split(',').map(parse).collect();
        if wanted.is_none() {
            tracing::warn!(%text, "UNDERSTUDY_FAILPOINT is not <lease|fence|trigger|record>:<begun|applied>:<kill|stop>");
        }
        Self(wanted.unwrap_or_default())
    }

    pub(super) fn begun(&self, step: Step) {
        self.at(step, false);
    }

    pub(super) fn applied(&self, step: Step) {
        self.at(step, true);
    }

    fn at(&self, step: Step, applied: bool) {
        for wanted in &self.0 {
            if (wanted.step, wanted.applied) == (step, applied)
                && wanted.met.fetch_add(1, Ordering::Relaxed) + 1 == wanted.nth
            {
                signal_ourselves(wanted.signal);
            }
        }
    }
}

fn parse(text: &str) -> Option<Wanted> {
    let mut parts = text.split(':');
    let name = parts.next()?;
    let step = Step::ALL.into_iter().find(|step| step.name() == name)?;
    let applied = match parts.next()? {
        "begun" => false,
        "applied" => true,
        _ => return None,
    };
    let signal = match parts.next()? {
        "kill" => Signal::KILL,
        "stop" => Signal::STOP,
        _ => return None,
    };
    let nth = parts.next().map_or(Some(1), |text| text.parse().ok())?;
    let met = AtomicU32::new(0);
    parts.next().is_none().then_some(Wanted {
        step,
        applied,
        signal,
        nth,
        met,
    })
}

fn signal_ourselves(signal: Signal) {
    if let Err(error) = kill_process(getpid(), signal) {
        tracing::error!(%error, "failpoint: signal ourselves");
    }
    // Any thread may take the signal; until one has, this one must not go on past its point.
    std::thread::park_timeout(STOPPED_WITHIN);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_failpoints_and_nonsense_has_none() {
        for step in Step::ALL {
            for moment in ["begun", "applied"] {
                for act in ["kill", "stop", "kill:2"] {
                    assert!(parse(&format!("{}:{moment}:{act}", step.name())).is_some());
                }
            }
        }
        for text in [
            "",
            "fence",
            "fence:begun",
            "fence:begun:error",
            "hold:begun:kill",
            "fence:begun:kill:1:2",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
