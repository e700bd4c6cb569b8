//! The worker core: sessions, lanes and gates of one thread, as values.
//!
//! No socket, clock, await or randomness inside. The shell moves bytes, says what time it is, and afterwards does what
//! [`Dirty`] lists.

use std::sync::Arc;

mod counters;
mod dirty;
mod ids;
mod order;
mod settings;

pub use counters::{Counters, Histogram, LatencyClass, ShardCounters};
pub use dirty::{ClientEnd, CloseReason, Dial, Dirty, LaneLoss, RefuseReason, Took};
pub use ids::{LaneId, SessionId, Tick};
pub use order::{Ack, GateError, GatePosition, GateStatus, Order, SessionLine};
pub use settings::WorkerSettings;

use crate::route::{PoolIndex, RouteTable};

/// One worker.
#[derive(Debug)]
pub struct Worker {
    settings: WorkerSettings,
    routes: Arc<RouteTable>,
    dirty: Dirty,
}

impl Worker {
    /// A worker without sessions; its gates are open at the epochs of `routes`.
    #[must_use]
    pub fn new(settings: WorkerSettings, routes: Arc<RouteTable>) -> Worker {
        Worker { settings, routes, dirty: Dirty::default() }
    }

    /// A client connected.
    ///
    /// # Errors
    /// At the limit of sessions, or when the pool is gone: write the error's text as an error reply and close.
    pub fn open_session(&mut self, pool: PoolIndex, _peer: String, _now: Tick) -> Result<SessionId, RefuseReason> {
        if self.routes.pool(pool).is_none() || self.settings.sessions_max == 0 {
            return Err(RefuseReason::NoPool);
        }
        Err(RefuseReason::TooManySessions)
    }

    /// Takes bytes that a client sent. After `Pause` the shell reads no more until the session is in [`Dirty::resume`].
    pub fn client_bytes(&mut self, _session: SessionId, _bytes: &[u8], _now: Tick) -> Took {
        Took::Continue
    }

    /// A client's connection ended, in part or in whole. `Gone` frees the session.
    pub fn client_closed(&mut self, _session: SessionId, _how: ClientEnd, _now: Tick) {}

    /// Bytes to write to a client.
    #[must_use]
    pub fn session_output(&self, _session: SessionId) -> &[u8] {
        &[]
    }

    /// So many of them were written.
    pub fn session_wrote(&mut self, _session: SessionId, _n: usize, _now: Tick) {}

    /// A dialled lane is ready: connected, logged in, db selected.
    pub fn lane_opened(&mut self, _lane: LaneId, _now: Tick) {}

    /// A lane ended, or never opened. Its id is dead afterwards.
    pub fn lane_lost(&mut self, _lane: LaneId, _why: LaneLoss, _now: Tick) {}

    /// Takes bytes that a backend sent.
    pub fn backend_bytes(&mut self, _lane: LaneId, _bytes: &[u8], _now: Tick) {}

    /// Bytes to write to a backend; empty until the lane is open.
    #[must_use]
    pub fn lane_output(&self, _lane: LaneId) -> &[u8] {
        &[]
    }

    /// So many of them were written.
    pub fn lane_wrote(&mut self, _lane: LaneId, _n: usize, _now: Tick) {}

    /// An order; its answer comes out of [`Worker::take_dirty`] with the same ticket, now or later.
    pub fn order(&mut self, _ticket: u64, _order: Order, _now: Tick) {}

    /// Time passed. To be called at [`Worker::next_deadline`], early is harmless.
    pub fn tick(&mut self, _now: Tick) {}

    /// When [`Worker::tick`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        None
    }

    /// Swaps the list of what is to do with an empty one.
    pub fn take_dirty(&mut self, into: &mut Dirty) {
        into.clear();
        std::mem::swap(&mut self.dirty, into);
    }

    /// Panics in debug builds when the worker contradicts itself.
    pub fn check_invariants(&self) {}
}
