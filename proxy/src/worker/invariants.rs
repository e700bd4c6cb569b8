//! What must hold of a whole worker between two calls. For tests: it walks over everything.

use super::Worker;
use super::ids::{LaneId, SessionId};
use super::lane::LaneKey;
use super::order::GatePosition;
use super::run::Run;
use super::session::Stop;
use crate::route::ShardIndex;

impl Worker {
    /// Panics in debug builds when the worker contradicts itself. Walks over everything: for tests.
    pub fn check_invariants(&self) {
        if let Some(earliest) = self.earliest_deadline() {
            debug_assert!(
                self.next_deadline().is_some_and(|next| next <= earliest),
                "a deadline is not missed"
            );
        }
        debug_assert!(
            self.left_behind.is_empty(),
            "who leaves keeps nobody waiting"
        );
        for (pool, state) in self.pools.iter().enumerate() {
            for (index, shard) in state.shards.iter().enumerate() {
                let here = |key: &LaneKey| {
                    usize::from(key.pool.0) == pool && usize::from(key.shard.0) == index
                };
                let lanes = self.lanes.iter().filter(|(_, _, lane)| here(&lane.key));
                for id in shard.lanes.iter().chain(&shard.spare_lanes) {
                    let lane = self.lanes.find(id.index, id.generation);
                    debug_assert!(
                        lane.is_some_and(|lane| !lane.retired && lane.passing.is_none()),
                        "a lane that was set aside takes no commands"
                    );
                }
                for id in &shard.spare_lanes {
                    let lane = self.lanes.find(id.index, id.generation);
                    debug_assert!(
                        lane.is_some_and(|lane| lane.in_flight.is_empty()),
                        "a spare lane is empty"
                    );
                }
                let in_flight: u64 = lanes
                    .flat_map(|(_, _, lane)| &lane.in_flight)
                    .map(|entry| u64::from(entry.left))
                    .sum();
                debug_assert_eq!(
                    shard.gate.in_flight, in_flight,
                    "in flight is what lanes wait for"
                );
                let closed = matches!(
                    shard.gate.position,
                    GatePosition::Prepared | GatePosition::Switched
                );
                debug_assert!(
                    !closed || in_flight == 0,
                    "nothing is in flight behind a prepared gate"
                );
                let parked = self.sessions.iter().filter(|(_, _, session)| {
                    usize::from(session.pool.0) == pool
                        && session.stop == Stop::Gate(ShardIndex(index as u16))
                        && !session.ready
                });
                let (mut sessions, mut bytes) = (0, 0);
                for (_, _, session) in parked {
                    sessions += 1;
                    bytes += session.input.len();
                }
                debug_assert_eq!(
                    (shard.gate.held_sessions, shard.gate.held_bytes),
                    (sessions, bytes),
                    "what is held is what waits"
                );
            }
        }
        for (index, generation, session) in self.sessions.iter() {
            let waiting: usize = session.runs.iter().map(|run| run.left as usize).sum();
            debug_assert_eq!(session.waiting, waiting, "replies to come");
            let stashed: usize = session.runs.iter().map(Run::bytes).sum();
            debug_assert_eq!(session.stashed, stashed, "bytes kept behind the head");
            let id = SessionId { index, generation };
            let mut entries = self
                .lanes
                .iter()
                .filter(|(_, _, lane)| lane.owner.is_none())
                .flat_map(|(_, _, lane)| &lane.in_flight)
                .filter(|entry| entry.session == id && !entry.expect.is_ours());
            debug_assert!(
                entries.all(|entry| entry.run >= session.head),
                "a run left before its replies came"
            );
            debug_assert!(
                session.runs.front().is_none_or(|run| run.left > 0),
                "a run that is done has left"
            );
            self.check_pinned(id, session);
            let takes_in = session.pinned.as_ref().is_some_and(|it| it.tail.is_some());
            debug_assert_eq!(
                session.stop == Stop::Upload,
                takes_in && session.closing.is_none(),
                "a huge command is taken in to its end"
            );
        }
        for (index, generation, lane) in self.lanes.iter().filter(|(_, _, lane)| lane.paused) {
            let who = lane.in_flight.front().map(|entry| entry.session);
            let held_back = who
                .and_then(|id| self.sessions.find(id.index, id.generation))
                .is_some_and(|it| it.held_back.contains(&LaneId { index, generation }));
            debug_assert!(
                held_back,
                "a lane that is not read is known to the client that it waits for"
            );
        }
    }
}
