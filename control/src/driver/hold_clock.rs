//! Where the time of a hold went, step by step: what an operator reads after a cutover that took longer than it should.

use std::fmt;
use std::time::{Duration, Instant};

/// Runs from HOLD to the answer to RELEASE.
#[derive(Clone, Debug)]
pub(super) struct HoldClock {
    begun: Instant,
    last: Instant,
    laps: Vec<(&'static str, Duration)>,
}

impl HoldClock {
    /// Starts now.
    pub(super) fn start() -> HoldClock {
        let begun = Instant::now();
        HoldClock {
            begun,
            last: begun,
            laps: Vec::new(),
        }
    }

    /// When it was started.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// Milliseconds from the start to the last lap.
    pub(super) fn total_ms(&self) -> f64 {
        ms(self.last - self.begun)
    }

    /// What was done since the last call was this.
    pub(super) fn lap(&mut self, what: &'static str) {
        let now = Instant::now();
        let took = now - self.last;
        self.last = now;
        tracing::debug!(
            what,
            took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "hold"
        );
        self.laps.push((what, took));
    }
}

/// `hold 12.3 ms: drain 0.4, pause 0.3`, in milliseconds, up to the last lap.
impl fmt::Display for HoldClock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "hold {:.1} ms", self.total_ms())?;
        for (index, (what, took)) in self.laps.iter().enumerate() {
            let before = if index == 0 { ":" } else { "," };
            write!(out, "{before} {what} {:.1}", ms(*took))?;
        }
        Ok(())
    }
}

/// To the microsecond: what lies behind is noise to a reader.
#[expect(
    clippy::cast_precision_loss,
    reason = "holds are far shorter than 2^52 microseconds"
)]
pub(super) fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_told_step_by_step() {
        let begun = Instant::now();
        let clock = HoldClock {
            begun,
            last: begun + Duration::from_micros(1_550),
            laps: vec![
                ("drain", Duration::from_micros(400)),
                ("pause", Duration::from_micros(1_150)),
            ],
        };
        assert_eq!(clock.to_string(), "hold 1.6 ms: drain 0.4, pause 1.1");
    }
}
