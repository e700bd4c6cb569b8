//! How a hold takes blocked commands back, and how they go on when the gate opens.
//!
//! A hold does not wait for a blocked command: it is unblocked from another connection, and waits in the gate's room until it is
//! sent again, with what is left of its time, in the order in which the clients came.
//!
//! CLIENT UNBLOCK kills servers before 8.0 when the client it names was postponed by CLIENT PAUSE (measured: 6.2.14 and
//! 7.0.15 abort). So it goes inside MULTI, behind a PFCOUNT, which a pause postpones as a whole.

use understudy_resp::encode;

use super::dirty::LaneLoss;
use super::ids::{LaneId, SessionId, Tick};
use super::lane::{Expect, InFlight, Lane, LaneState};
use super::order::GatePosition;
use super::own::{Own, entry_of};
use super::pinned::{Kind, Place};
use super::{Worker, texts};
use crate::route::{PoolIndex, ShardIndex};

/// Lanes of waiting sessions that are dialled at a time when a gate moves.
const DIALS_MAX: usize = 256;
/// What somebody who left kept waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeftBehind {
    /// Those in the room of a gate, who go in the order in which they came.
    Room(PoolIndex, ShardIndex),
    /// A lane that was not read for its sake.
    Lane(LaneId),
}

impl Worker {
    /// A hold has begun, or a lane opened during one: whatever of this shard waits on lanes of sessions' own is taken back.
    pub(super) fn unblock_shard(&mut self, pool: PoolIndex, shard: ShardIndex, now: Tick) {
        let of_shard = |session: &super::Session| {
            session.pool == pool
                && session
                    .pinned
                    .as_ref()
                    .and_then(|it| it.errand.as_ref())
                    .is_some_and(|errand| errand.shard == shard)
        };
        let found: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, _, session)| of_shard(session))
            .map(|(index, generation, _)| SessionId { index, generation })
            .collect();
        for id in found {
            let Some(pinned) = self.pinned_mut(id) else {
                continue;
            };
            let watches = pinned.watch.is_some();
            let Some(errand) = pinned.errand.as_ref() else {
                continue;
            };
            let (run, blocked) = (errand.run, errand.is_blocked());
            let once = match &errand.kind {
                Kind::Exec { .. } => true,
                Kind::Bulk(bulk) => bulk.once,
                Kind::Watch(_) => watches,
                Kind::Block(_) => false,
            };
            let lane = match errand.place {
                Place::Room => continue,
                Place::Dialling | Place::Waiting(_) => {
                    self.enter_room(id);
                    self.set_alarm(id);
                    continue;
                }
                Place::Sent(lane) => lane,
            };
            let unsent = self
                .lanes
                .find(lane.index, lane.generation)
                .is_some_and(|lane| {
                    let sent = lane.sent();
                    let mine = |entry: &InFlight| entry.run == run && !entry.expect.is_ours();
                    lane.in_flight
                        .iter()
                        .any(|entry| mine(entry) && entry.end > sent)
                });
            if unsent && once && self.stands_still(id, now) {
                self.answer_errand(id, texts::NOT_EXECUTED_STALLED, now);
                self.close_own_lane(lane);
            } else if unsent && !once {
                // A server executes no half command, and it never gets the other half.
                self.close_own_lane(lane);
                self.enter_room(id);
                self.set_alarm(id);
            } else if blocked {
                self.unblock(id, lane, now);
            }
        }
    }

    /// Asks the server, by a shared lane to the same one, to end a blocked command.
    pub(super) fn unblock(&mut self, id: SessionId, own: LaneId, now: Tick) {
        let Some(it) = self.lanes.find(own.index, own.generation) else {
            return;
        };
        if it.passing.is_some() {
            return; // It is being answered.
        }
        let (key, address, server_id) = (it.key, it.address, it.server_id);
        let Some(server_id) = server_id else {
            return;
        };
        let Some(shard) = self
            .pools
            .get(usize::from(key.pool.0))
            .and_then(|pool| pool.shards.get(usize::from(key.shard.0)))
        else {
            return;
        };
        if address != shard.address {
            // The address was corrected while it blocked: nobody here speaks to that server any more.
            self.dirty.close_lanes.push(own);
            let why = LaneLoss::Closed("its server is no longer configured".into());
            return self.lose_lane(own, &why, now);
        }
        let open = shard.lanes.iter().copied().find(|lane| {
            self.lanes
                .find(lane.index, lane.generation)
                .is_some_and(|it| it.state == LaneState::Open && it.address == address)
        });
        let Some(open) = open else {
            if shard.lanes.is_empty() {
                self.lane_of(key, now);
            }
            return; // It is asked again when the lane is open.
        };
        let Some(errand) = self.pinned_mut(id).and_then(|it| it.errand.as_mut()) else {
            return;
        };
        let Kind::Block(block) = &errand.kind else {
            return;
        };
        if errand.unblocking {
            return;
        }
        errand.unblocking = true;
        let key = block.words.get(block.key).map_or(&[][..], Vec::as_slice);
        let mut unit = Vec::new();
        encode::command(&mut unit, &["MULTI"]);
        encode::command(&mut unit, &[b"PFCOUNT", key]);
        encode::command(
            &mut unit,
            &["CLIENT", "UNBLOCK", &server_id.to_string(), "TIMEOUT"],
        );
        encode::command(&mut unit, &["EXEC"]);
        let entry = entry_of(id, errand, Expect::Unblock, 4);
        self.send(open, &unit, entry, 0, now);
    }

    /// The server has answered an unblocking. It may have come before the command that it should end: then once more.
    pub(super) fn unblocked(&mut self, lane: LaneId, entry: &InFlight, is_error: bool, now: Tick) {
        let Some(place) = self
            .lanes
            .find(lane.index, lane.generation)
            .map(|it| it.key)
        else {
            return;
        };
        let Some(errand) = self
            .pinned_mut(entry.session)
            .and_then(|it| it.errand.as_mut())
            .filter(|errand| errand.run == entry.run)
        else {
            return;
        };
        errand.unblocking = false;
        let again = errand.is_blocked();
        let Place::Sent(own) = errand.place else {
            return;
        };
        if is_error {
            self.counters.unblocks_refused += 1;
        } else if again && self.is_held(place.pool, place.shard) {
            self.unblock(entry.session, own, now);
        }
    }

    /// A shared lane died with unblockings on it.
    pub(super) fn unblockings_lost(&mut self, lane: &Lane, now: Tick) {
        let mut any = false;
        for entry in lane
            .in_flight
            .iter()
            .filter(|it| it.expect == Expect::Unblock)
        {
            if let Some(errand) = self
                .pinned_mut(entry.session)
                .and_then(|it| it.errand.as_mut())
                .filter(|errand| errand.run == entry.run)
            {
                errand.unblocking = false;
                any = true;
            }
        }
        if any && self.is_held(lane.key.pool, lane.key.shard) {
            self.unblock_shard(lane.key.pool, lane.key.shard, now);
        }
    }

    /// The gate opened or moved, or a lane did: errands in its room go in the order in which they came, each when its lane is
    /// open. Behind a gate that is switched, the lanes are dialled already.
    pub(super) fn empty_room(&mut self, pool: PoolIndex, shard: ShardIndex, now: Tick) {
        let (mut next, mut dialling) = (0, 0);
        while dialling < DIALS_MAX {
            let Some(it) = self.shard_mut(pool, shard) else {
                return;
            };
            let open = it.gate.is_open();
            if !open && it.gate.position != GatePosition::Switched {
                return;
            }
            let Some((arrival, id)) = it.gate.room.range(next..).next().map(|(at, id)| (*at, *id))
            else {
                return;
            };
            next = arrival + 1;
            match self.own_lane(id, now) {
                Own::Open(lane) if open && dialling == 0 => {
                    self.place_errand(id, Place::Room);
                    self.send_errand(id, lane, now);
                }
                Own::Open(_) => {}
                Own::Dialling => dialling += 1,
                Own::After(tick) if open => self.place_errand(id, Place::Waiting(tick)),
                Own::After(_) => {}
                Own::Gone => self.answer_errand(id, texts::NOT_EXECUTED_REMOVED, now),
            }
            if open && let Some(errand) = self.pinned_mut(id).and_then(|it| it.errand.as_mut()) {
                (errand.retry_until, errand.attempts) = (None, 0);
            }
            self.set_alarm(id);
        }
    }

    /// A prepared gate waited too long.
    pub(super) fn give_up_room(&mut self, pool: PoolIndex, shard: ShardIndex, now: Tick) {
        while let Some(id) = self
            .shard_mut(pool, shard)
            .and_then(|it| it.gate.room.values().next().copied())
        {
            if let Some(it) = self.shard_mut(pool, shard) {
                it.counters.not_executed += 1;
            }
            self.answer_errand(id, texts::NOT_EXECUTED_HELD, now);
        }
    }

    /// Into the room of its gate.
    pub(super) fn enter_room(&mut self, id: SessionId) {
        self.place_errand(id, Place::Room);
        let Some((pool, shard)) = self.errand_place(id) else {
            return;
        };
        let Some(arrival) = self
            .pinned_mut(id)
            .and_then(|it| it.errand.as_ref())
            .map(|errand| errand.arrival)
        else {
            return;
        };
        if let Some(it) = self.shard_mut(pool, shard) {
            it.gate.room.insert(arrival, id);
        }
    }

    /// Somewhere else, and out of the room of its gate.
    pub(super) fn place_errand(&mut self, id: SessionId, place: Place) {
        let Some((pool, shard)) = self.errand_place(id) else {
            return;
        };
        let Some(errand) = self.pinned_mut(id).and_then(|it| it.errand.as_mut()) else {
            return;
        };
        errand.place = place;
        let arrival = errand.arrival;
        if let Some(it) = self.shard_mut(pool, shard)
            && it.gate.room.remove(&arrival).is_some()
        {
            let room = LeftBehind::Room(pool, shard);
            if self.left_behind.last() != Some(&room) {
                self.left_behind.push(room);
            }
        }
    }

    /// Whoever was in line behind one that left its room has its turn, and a lane whose client went is read again.
    #[cold]
    #[inline(never)]
    pub(super) fn go_on_behind(&mut self, now: Tick) {
        while let Some(what) = self.left_behind.pop() {
            match what {
                LeftBehind::Room(pool, shard) => self.empty_room(pool, shard, now),
                LeftBehind::Lane(lane) => self.resume_lanes(&[lane], now),
            }
        }
    }

    pub(super) fn is_held(&self, pool: PoolIndex, shard: ShardIndex) -> bool {
        self.pools
            .get(usize::from(pool.0))
            .and_then(|pool| pool.shards.get(usize::from(shard.0)))
            .is_some_and(|shard| {
                matches!(
                    shard.gate.position,
                    GatePosition::Held | GatePosition::Lapsed
                )
            })
    }
}
