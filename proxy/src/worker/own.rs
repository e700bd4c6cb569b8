//! A session's own lanes: dialled when an errand needs one, kept for the next, closed with the session or when idle for long.

use understudy_resp::encode;

use super::ids::{LaneId, SessionId, Tick};
use super::lane::{Expect, InFlight, Lane, LaneKey, LaneState};
use super::pinned::{Errand, Kind, Pinned, Place};
use super::{Worker, texts};
use crate::route::{PoolIndex, ShardIndex};

/// How far a session's own lane is.
pub(super) enum Own {
    Open(LaneId),
    Dialling,
    /// The last dial to this shard failed; no other before this.
    After(Tick),
    /// The shard is no longer configured.
    Gone,
}

impl Worker {
    /// Begins the errand that was just put into the session, or lets it wait at its gate.
    pub(super) fn begin_errand(&mut self, id: SessionId, now: Tick) {
        let Some((pool, shard)) = self.errand_place(id) else {
            return;
        };
        if self.shard_mut(pool, shard).is_none() {
            return self.answer_errand(id, texts::NOT_EXECUTED_REMOVED, now);
        }
        let goes = self
            .shard_mut(pool, shard)
            .is_some_and(|it| it.gate.is_open() && it.gate.room.is_empty());
        if !goes {
            self.enter_room(id);
            self.set_alarm(id);
            return self.empty_room(pool, shard, now);
        }
        self.send_or_dial(id, now);
    }

    pub(super) fn send_or_dial(&mut self, id: SessionId, now: Tick) {
        match self.own_lane(id, now) {
            Own::Open(lane) => self.send_errand(id, lane, now),
            Own::Dialling => self.place_errand(id, Place::Dialling),
            Own::After(tick) => self.place_errand(id, Place::Waiting(tick)),
            Own::Gone => self.answer_errand(id, texts::NOT_EXECUTED_REMOVED, now),
        }
        self.set_alarm(id);
    }

    /// The session's lane to its errand's shard, at the server that serves it now; dialled where there is none.
    pub(super) fn own_lane(&mut self, id: SessionId, now: Tick) -> Own {
        let Some((pool, shard)) = self.errand_place(id) else {
            return Own::Gone;
        };
        let Some(session) = self.sessions.find(id.index, id.generation) else {
            return Own::Gone;
        };
        let Some(it) = self
            .pools
            .get(usize::from(pool.0))
            .and_then(|pool| pool.shards.get(usize::from(shard.0)))
        else {
            return Own::Gone;
        };
        let key = LaneKey {
            pool,
            shard,
            epoch: it.gate.epoch,
            protocol: session.protocol,
            db: session.db,
        };
        let (address, url, after) = (it.address, it.gate.url.clone(), it.dial_after);
        let mut useless = None;
        for lane in session.pinned.iter().flat_map(|pinned| &pinned.lanes) {
            let Some(found) = self.lanes.find(lane.index, lane.generation) else {
                continue;
            };
            if (found.key.pool, found.key.shard) != (pool, shard) {
                continue;
            }
            if found.key == key && found.address == address && !found.retired {
                return match found.state {
                    LaneState::Open => Own::Open(*lane),
                    LaneState::Dialing | LaneState::Delayed(_) => Own::Dialling,
                };
            }
            useless = Some(*lane);
        }
        if let Some(lane) = useless {
            self.close_own_lane(lane);
        }
        if after > now {
            return Own::After(after);
        }
        let mut lane = Lane::new(key, LaneState::Dialing, self.settings.lane_piece_bytes, now);
        (lane.owner, lane.address) = (Some(id), address);
        let (index, generation) = self.lanes.insert(lane);
        let lane = LaneId { index, generation };
        if let Some(pinned) = self.pinned_mut(id) {
            pinned.lanes.push(lane);
        }
        self.dial(lane, url);
        Own::Dialling
    }

    pub(super) fn send_errand(&mut self, id: SessionId, lane: LaneId, now: Tick) {
        let Some(errand) = self.pinned_mut(id).and_then(|it| it.errand.as_mut()) else {
            return;
        };
        let (bytes, replies) = errand.bytes(now);
        errand.place = Place::Sent(lane);
        let bulk = matches!(errand.kind, Kind::Bulk(_));
        let expect = match &errand.kind {
            Kind::Exec { .. } => Expect::Unit { refused: false },
            Kind::Bulk(bulk) if bulk.replies > 1 => Expect::Unit { refused: false },
            Kind::Block(_) | Kind::Watch(_) | Kind::Bulk(_) => Expect::Own,
        };
        let entry = entry_of(id, errand, expect, replies);
        self.send(lane, &bytes, entry, 1, now);
        if bulk {
            if let Some(lane) = self.lanes.find_mut(lane.index, lane.generation) {
                lane.open_entry();
            }
            self.feed(id, now);
            self.take_in(id, now);
        }
    }

    /// A lane opened: whoever waited for it goes on.
    pub(super) fn own_lane_opened(&mut self, lane: LaneId, now: Tick) {
        let Some(it) = self.lanes.find(lane.index, lane.generation) else {
            return;
        };
        let (key, owner) = (it.key, it.owner);
        let Some(id) = owner else {
            if self.is_held(key.pool, key.shard) {
                self.unblock_shard(key.pool, key.shard, now);
            }
            return;
        };
        let waits = self
            .pinned_mut(id)
            .and_then(|it| it.errand.as_ref())
            .is_some_and(|errand| errand.place == Place::Dialling && errand.shard == key.shard);
        if waits && self.gate_is_open(key.pool, key.shard) {
            self.send_or_dial(id, now);
        }
        self.empty_room(key.pool, key.shard, now);
    }

    /// The route moved: what sessions watched is no longer watched by anybody, and their lanes lead to the old server.
    pub(super) fn own_lanes_switched(&mut self, pool: PoolIndex, shard: ShardIndex, now: Tick) {
        let of_shard =
            |lane: &Lane| lane.owner.is_some() && (lane.key.pool, lane.key.shard) == (pool, shard);
        let old: Vec<LaneId> = self
            .lanes
            .iter()
            .filter(|(_, _, lane)| of_shard(lane))
            .map(|(index, generation, _)| LaneId { index, generation })
            .collect();
        for lane in old {
            self.close_own_lane(lane);
        }
        self.empty_room(pool, shard, now);
    }

    /// Forgets what is watched. What the server knows of it is taken back, or goes with the lane.
    pub(super) fn end_watch(&mut self, id: SessionId, now: Tick) {
        let Some(watch) = self.pinned_mut(id).and_then(|it| it.watch.take()) else {
            return;
        };
        let Some(lane) = self.lanes.find(watch.lane.index, watch.lane.generation) else {
            return self.set_alarm(id);
        };
        let key = lane.key;
        if watch.broken || !self.gate_is_open(key.pool, key.shard) {
            self.close_own_lane(watch.lane);
        } else {
            let mut word = Vec::new();
            encode::command(&mut word, &["UNWATCH"]);
            let entry = InFlight {
                session: id,
                run: 0,
                expect: Expect::Unwatch,
                answered: 0,
                left: 1,
                start: 0,
                end: 0,
                since: now,
                class: super::LatencyClass::Transaction,
            };
            self.send(watch.lane, &word, entry, 0, now);
        }
        self.set_alarm(id);
    }

    /// A client that waits for a blocked command is gone: its lane is closed at once, so that nothing is popped for nobody.
    /// What the server gave while it left is lost with it, as it is when a client of Redis leaves: that can be counted, not helped.
    pub(super) fn abandon(&mut self, id: SessionId) {
        let Some(errand) = self
            .pinned_mut(id)
            .and_then(|it| it.errand.as_ref())
            .filter(|errand| errand.blocks())
        else {
            return;
        };
        if let Place::Sent(lane) = errand.place {
            self.counters.blocked_abandoned += 1;
            self.close_own_lane(lane);
        }
        self.place_errand(id, Place::Room);
        if let Some(pinned) = self.pinned_mut(id) {
            pinned.errand = None;
        }
        self.set_alarm(id);
    }

    /// Gives up everything that a session has for itself: it goes, or becomes as new.
    pub(super) fn leave_pinned(&mut self, id: SessionId) {
        self.abandon(id);
        self.drop_bulk(id);
        let Some(place) = self
            .pinned_mut(id)
            .map(|it| it.errand.as_ref().map(|errand| errand.place))
        else {
            return;
        };
        if let Some(place) = place {
            self.place_errand(id, place); // Out of the room.
        }
        let Some(pinned) = self.session(id).and_then(|session| session.pinned.take()) else {
            return;
        };
        if let Some(alarm) = pinned.alarm {
            self.alarms.remove(&(alarm, id));
        }
        for lane in pinned.lanes {
            let orphan = pinned
                .errand
                .as_ref()
                .is_some_and(|errand| errand.place == Place::Sent(lane) && !errand.blocks());
            if let Some(it) = self.lanes.find_mut(lane.index, lane.generation)
                && orphan
            {
                // An EXEC on its way is executed whoever listens, so a hold has to wait for it.
                it.retired = true;
                self.shared_lanes.push(lane);
                self.deadlines_moved();
            } else {
                self.close_own_lane(lane);
            }
        }
    }

    /// Closes a lane of a session's own, with whatever is on it. What is watched there is watched no more.
    pub(super) fn close_own_lane(&mut self, id: LaneId) {
        let Some(lane) = self.remove_lane(id) else {
            return;
        };
        let left: u64 = lane
            .in_flight
            .iter()
            .map(|entry| u64::from(entry.left))
            .sum();
        if let Some(shard) = self.shard_mut(lane.key.pool, lane.key.shard) {
            shard.gate.in_flight = shard.gate.in_flight.saturating_sub(left);
        }
        self.counters.lanes_closed += 1;
        self.dirty.close_lanes.push(id);
        if let Some(pinned) = lane.owner.and_then(|owner| self.pinned_mut(owner)) {
            pinned.forget(id);
        }
    }

    pub(super) fn pinned_mut(&mut self, id: SessionId) -> Option<&mut Pinned> {
        self.sessions
            .find_mut(id.index, id.generation)?
            .pinned
            .as_deref_mut()
    }

    pub(super) fn errand_place(&self, id: SessionId) -> Option<(PoolIndex, ShardIndex)> {
        let session = self.sessions.find(id.index, id.generation)?;
        let errand = session.pinned.as_ref()?.errand.as_ref()?;
        Some((session.pool, errand.shard))
    }

    /// What must hold for a session's own: for tests.
    pub(super) fn check_pinned(&self, id: SessionId, session: &super::Session) {
        let Some(pinned) = &session.pinned else {
            return;
        };
        debug_assert_eq!(
            pinned
                .alarm
                .is_some_and(|at| self.alarms.contains(&(at, id))),
            pinned.alarm.is_some(),
            "an alarm is listed"
        );
        for lane in &pinned.lanes {
            let found = self.lanes.find(lane.index, lane.generation);
            debug_assert!(
                found.is_some_and(|it| it.owner == Some(id)),
                "a session's own lanes are alive and its own"
            );
        }
        let Some(errand) = &pinned.errand else {
            return;
        };
        debug_assert!(
            session.waiting == 1 && session.runs.len() == 1 && session.head == errand.run,
            "an errand is alone"
        );
        let room = self
            .pools
            .get(usize::from(session.pool.0))
            .and_then(|pool| pool.shards.get(usize::from(errand.shard.0)))
            .map(|shard| &shard.gate.room);
        debug_assert_eq!(
            room.is_some_and(|room| room.get(&errand.arrival) == Some(&id)),
            errand.place == Place::Room,
            "who waits for a gate is in its room"
        );
        if let Place::Sent(lane) = errand.place {
            let waits = |it: &Lane| it.in_flight.iter().any(|entry| entry.run == errand.run);
            let found = self.lanes.find(lane.index, lane.generation);
            debug_assert!(found.is_some_and(waits), "who is sent waits for a reply");
        }
    }
}

/// The entry of an errand, or of a word about it.
pub(super) fn entry_of(id: SessionId, errand: &Errand, expect: Expect, left: u32) -> InFlight {
    InFlight {
        session: id,
        run: errand.run,
        expect,
        answered: 0,
        left,
        start: 0,
        end: 0,
        since: errand.since,
        class: errand.class,
    }
}

impl Pinned {
    /// The lane that watches keys.
    pub(super) fn watched(&self) -> Option<LaneId> {
        self.watch.filter(|watch| !watch.broken).map(|it| it.lane)
    }

    pub(super) fn forget(&mut self, id: LaneId) {
        self.lanes.retain(|lane| *lane != id);
        if let Some(watch) = &mut self.watch
            && watch.lane == id
        {
            watch.broken = true;
        }
    }
}
