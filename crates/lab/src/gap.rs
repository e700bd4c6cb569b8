//! How long clients waited: every wait of a connection between two replies while a command was outstanding.

use std::time::{Duration, Instant};

/// Waits shorter than this are not kept; the longest of a window is asked for, and that is longer.
const KEPT_FROM: Duration = Duration::from_micros(500);
/// Waits kept per connection. At the limit the shorter half is forgotten.
const KEPT_MAX: usize = 4_096;

/// One wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Whose.
    pub connection: usize,
    /// When it began.
    pub began: Instant,
    /// How long it took, or takes until now.
    pub waited: Duration,
}

/// The waits of one connection.
#[derive(Debug)]
pub(crate) struct GapLog {
    connection: usize,
    waiting_since: Option<Instant>,
    longest: Option<Gap>,
    kept: Vec<Gap>,
    kept_from: Duration,
}

impl GapLog {
    pub(crate) fn new(connection: usize) -> GapLog {
        GapLog {
            connection,
            waiting_since: None,
            longest: None,
            kept: Vec::new(),
            kept_from: KEPT_FROM,
        }
    }

    /// Commands were sent and nothing else is outstanding.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.waiting_since = Some(now);
    }

    /// A command was answered in full; `outstanding` says whether others are not.
    pub(crate) fn answered(&mut self, now: Instant, outstanding: bool) {
        if let Some(began) = self.waiting_since.take() {
            let gap = Gap {
                connection: self.connection,
                began,
                waited: now.saturating_duration_since(began),
            };
            self.keep(gap);
        }
        self.waiting_since = outstanding.then_some(now);
    }

    /// The connection ended: the wait ends with it and counts.
    pub(crate) fn lost(&mut self, now: Instant) {
        self.answered(now, false);
    }

    /// The longest of all.
    pub(crate) fn longest(&self, now: Instant) -> Option<Gap> {
        self.longest
            .into_iter()
            .chain(self.open(now))
            .max_by_key(|gap| gap.waited)
    }

    /// The longest that touches the window.
    pub(crate) fn longest_within(&self, from: Instant, to: Instant, now: Instant) -> Option<Gap> {
        let touches = |gap: &Gap| gap.began <= to && gap.began + gap.waited >= from;
        self.kept
            .iter()
            .copied()
            .chain(self.open(now))
            .filter(touches)
            .max_by_key(|gap| gap.waited)
    }

    fn open(&self, now: Instant) -> Option<Gap> {
        let began = self.waiting_since?;
        Some(Gap {
            connection: self.connection,
            began,
            waited: now.saturating_duration_since(began),
        })
    }

    fn keep(&mut self, gap: Gap) {
        if self
            .longest
            .is_none_or(|longest| longest.waited < gap.waited)
        {
            self.longest = Some(gap);
        }
        if gap.waited < self.kept_from {
            return;
        }
        if self.kept.len() == KEPT_MAX {
            let mut waits: Vec<Duration> = self.kept.iter().map(|kept| kept.waited).collect();
            waits.sort_unstable();
            // Just above the median, so that equal waits cannot keep the log full.
            self.kept_from = waits[KEPT_MAX / 2] + Duration::from_nanos(1);
            self.kept.retain(|kept| kept.waited >= self.kept_from);
            if gap.waited < self.kept_from {
                return;
            }
        }
        self.kept.push(gap);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{GapLog, KEPT_MAX};

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn the_longest_wait_of_a_window_is_found() {
        let start = Instant::now();
        let mut log = GapLog::new(7);
        for (sent, answered) in [(0, 2), (10, 40), (100, 105)] {
            log.sent(start + ms(sent));
            log.answered(start + ms(answered), false);
        }
        let within = |from, to| {
            log.longest_within(start + ms(from), start + ms(to), start + ms(200))
                .map(|gap| gap.waited)
        };
        assert_eq!(within(0, 200), Some(ms(30)));
        assert_eq!(within(90, 200), Some(ms(5)));
        assert_eq!(
            within(20, 30),
            Some(ms(30)),
            "a wait that spans the window counts"
        );
        assert_eq!(within(50, 90), None);
        assert_eq!(log.longest(start).unwrap().waited, ms(30));
    }

    #[test]
    fn a_wait_that_has_not_ended_counts_already() {
        let start = Instant::now();
        let mut log = GapLog::new(0);
        log.sent(start);
        log.answered(start + ms(1), true);
        assert_eq!(log.longest(start + ms(51)).unwrap().waited, ms(50));
    }

    #[test]
    fn a_full_log_forgets_the_short_ones() {
        let start = Instant::now();
        let mut log = GapLog::new(0);
        for round in 0..3 * KEPT_MAX as u64 {
            log.sent(start + ms(round));
            log.answered(
                start + ms(round) + Duration::from_micros(600 + round % 100),
                false,
            );
        }
        log.sent(start);
        log.answered(start + ms(500), false);
        assert!(log.kept.len() <= KEPT_MAX);
        assert_eq!(
            log.longest_within(start, start + ms(1), start)
                .unwrap()
                .waited,
            ms(500)
        );
    }
}
