//! Names of sessions and lanes: a place in a slab and a generation, so that a late event never reaches a newer tenant.

use std::time::Duration;

/// Microseconds since the worker started. The shell reads the clock; the core only compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// This moment and a while.
    #[must_use]
    pub fn after(self, wait: Duration) -> Tick {
        Tick(
            self.0
                .saturating_add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)),
        )
    }

    /// How long from `now` until this moment; nothing when it has passed.
    #[must_use]
    pub fn until(self, now: Tick) -> Duration {
        Duration::from_micros(self.since(now))
    }

    /// Microseconds from `earlier` to this moment; 0 when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One client's session in one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// Place in the slab.
    pub index: u32,
    /// Which tenant of that place.
    pub generation: u32,
}

/// One backend connection of one worker, from its [`Dial`](super::Dial) until it is lost or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId {
    /// Place in the slab.
    pub index: u32,
    /// Which tenant of that place.
    pub generation: u32,
}
