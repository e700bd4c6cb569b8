//! When the worker has to be looked at next, without a walk over its shards and lanes at every call.
//!
//! `due` is never later than the earliest deadline of gates, shared lanes and commands that wait to be sent again; an early
//! tick is harmless. A deadline that moves away is not followed: the tick comes early, does nothing, and `due` is found anew.
//! A command or a reply may give a lane a deadline that it did not have, but none nearer than the shortest time that
//! anything may take, so such a tick comes at least that often. Whatever else may bring a deadline nearer (an order, a
//! lane that is made, opened, paused or lost, a command to be sent again) says so by `deadlines_moved`.

use std::time::Duration;

use super::Worker;
use super::ids::Tick;

/// When to look next, as far as it is known without a walk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deadlines {
    /// `None`: there is none.
    due: Option<Tick>,
    /// Something may be nearer than `due`.
    moved: bool,
}

impl Worker {
    /// When [`Worker::tick`] has something to do, or a little before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        if !self.ready.is_empty() {
            return Some(Tick(0));
        }
        let due = if self.deadlines.moved {
            self.earliest_deadline()
        } else {
            self.deadlines.due
        };
        match self.alarms.first() {
            None => due,
            Some((alarm, _)) => Some(due.map_or(*alarm, |due| due.min(*alarm))),
        }
    }

    /// Something may have to be done earlier than was known.
    pub(super) fn deadlines_moved(&mut self) {
        self.deadlines.moved = true;
    }

    /// Finds `due` anew where it may be too late.
    pub(super) fn settle_deadlines(&mut self, now: Tick) {
        if self.deadlines.moved {
            self.find_deadline(now);
        }
    }

    #[cold]
    #[inline(never)]
    fn find_deadline(&mut self, now: Tick) {
        let lanes = self.shared_lanes.iter();
        let mut lanes = lanes.filter_map(|id| self.lanes.find(id.index, id.generation));
        // Patience with a slow client hangs on what others do: it is followed at every call, for as long as it lasts.
        let paused = lanes.any(|lane| lane.paused);
        let new_ones = (!self.shared_lanes.is_empty()).then(|| now.after(self.shortest_time()));
        let earliest = self.earliest_deadline();
        self.deadlines = Deadlines {
            due: earliest.into_iter().chain(new_ones).min(),
            moved: paused,
        };
    }

    /// No lane's deadline comes sooner after a command or a reply.
    fn shortest_time(&self) -> Duration {
        let timeouts = self.routes.pools.iter().filter_map(|pool| pool.timeout);
        timeouts.fold(self.settings.lane_idle_max, Duration::min)
    }

    /// The earliest deadline but for alarms: a walk over everything.
    pub(super) fn earliest_deadline(&self) -> Option<Tick> {
        let shards = self.pools.iter().flat_map(|pool| &pool.shards);
        let gates = shards.filter_map(|shard| shard.gate.due());
        let lanes = self
            .shared_lanes
            .iter()
            .filter_map(|id| self.lanes.find(id.index, id.generation))
            .filter_map(|lane| self.lane_deadline(lane));
        gates.chain(lanes).chain(self.retry_deadlines()).min()
    }
}
