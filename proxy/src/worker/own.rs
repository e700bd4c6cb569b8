//! A session's own lanes: dials them, sends its errands there, and takes the answers.
//!
//! A hold does not wait for a blocked command: it is unblocked from another connection, and what the server then answers
//! tells which it was. A value is the client's. A nil before its time was ours, so the command was not executed: it waits in
//! the gate's room and is sent again, with what is left of its time, in the order in which the clients came.
//!
//! CLIENT UNBLOCK kills servers before 8.0 when the client it names was postponed by CLIENT PAUSE (measured: 6.2.14 and
//! 7.0.15 abort). So it goes inside MULTI, behind a PFCOUNT, which a pause postpones as a whole.

use understudy_resp::encode;

use super::dirty::LaneLoss;
use super::ids::{LaneId, SessionId, Tick};
use super::lane::{Expect, InFlight, Lane, LaneKey, LaneState};
use super::order::GatePosition;
use super::patience::newest_id;
use super::pinned::{Errand, Kind, Pinned, Place};
use super::reply::is_not_executed;
use super::retry::{Refusal, refusal};
use super::{Worker, texts};
use crate::route::{PoolIndex, ShardIndex};

/// Lanes of waiting sessions that are dialled at a time when a gate moves.
const DIALS_MAX: usize = 256;
/// Doublings of the wait between two tries.
const DOUBLINGS_MAX: u32 = 3;
/// How long after its timeout a blocked command's answer is waited for, where the pool sets no timeout.
const OVERDUE: std::time::Duration = std::time::Duration::from_secs(10);

/// How far a session's own lane is.
enum Own {
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

    fn send_or_dial(&mut self, id: SessionId, now: Tick) {
        match self.own_lane(id, now) {
            Own::Open(lane) => self.send_errand(id, lane, now),
            Own::Dialling => self.place_errand(id, Place::Dialling),
            Own::After(tick) => self.place_errand(id, Place::Waiting(tick)),
            Own::Gone => self.answer_errand(id, texts::NOT_EXECUTED_REMOVED, now),
        }
        self.set_alarm(id);
    }

    /// The session's lane to its errand's shard, at the server that serves it now; dialled where there is none.
    fn own_lane(&mut self, id: SessionId, now: Tick) -> Own {
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
        let mut lane = Lane::new(key, LaneState::Dialing, now);
        (lane.owner, lane.address) = (Some(id), address);
        let (index, generation) = self.lanes.insert(lane);
        let lane = LaneId { index, generation };
        if let Some(pinned) = self.pinned_mut(id) {
            pinned.lanes.push(lane);
        }
        self.dial(lane, url);
        Own::Dialling
    }

    fn send_errand(&mut self, id: SessionId, lane: LaneId, now: Tick) {
        let Some(errand) = self.pinned_mut(id).and_then(|it| it.errand.as_mut()) else {
            return;
        };
        let (bytes, replies) = errand.bytes(now);
        errand.place = Place::Sent(lane);
        let expect = match &errand.kind {
            Kind::Exec { .. } => Expect::Unit { refused: false },
            Kind::Block(_) | Kind::Watch(_) => Expect::Own,
        };
        let entry = entry_of(id, errand, expect, replies);
        self.send(lane, &bytes, entry, 1, now);
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

    /// A reply on a session's own lane, or to a word of ours on any lane.
    pub(super) fn take_own(
        &mut self,
        lane: LaneId,
        entry: &InFlight,
        reply: &[u8],
        is_error: bool,
        now: Tick,
    ) {
        self.account(lane, entry, 1, 0, now);
        match entry.expect {
            Expect::Unblock if entry.left == 1 => {
                return self.unblocked(lane, entry, is_error, now);
            }
            Expect::Unit { .. } if entry.left > 1 => {
                if is_error && refusal(reply).is_some_and(is_not_executed) {
                    self.mark_refused_unit(lane);
                }
                return;
            }
            Expect::Unblock | Expect::Unwatch => return,
            Expect::Own | Expect::Unit { .. } | Expect::Plain | Expect::Part(_) => {}
        }
        let refused_inside = entry.expect == Expect::Unit { refused: true };
        let protocol = self
            .lanes
            .find(lane.index, lane.generation)
            .map(|it| it.key.protocol);
        let Some(pinned) = self.pinned_mut(entry.session) else {
            self.counters.replies_swallowed += 1;
            return;
        };
        let watches = pinned.watch.is_some();
        let Some(errand) = pinned
            .errand
            .as_mut()
            .filter(|errand| errand.place == Place::Sent(lane) && errand.run == entry.run)
        else {
            self.counters.replies_swallowed += 1;
            return;
        };
        let refused = refusal(reply).filter(|refusal| {
            is_not_executed(*refusal) || matches!(refusal, Refusal::Unblocked | Refusal::ExecAbort)
        });
        match (&mut errand.kind, refused) {
            (Kind::Exec { .. }, refused) => {
                let not_executed =
                    refused.is_some() || (refused_inside && reply.starts_with(b"-EXECABORT"));
                pinned.watch = None;
                if not_executed {
                    let mut null = Vec::new();
                    encode::null_array(
                        &mut null,
                        protocol.unwrap_or(understudy_resp::Protocol::Resp2),
                    );
                    return self.answer_errand(entry.session, &null, now);
                }
            }
            (Kind::Block(_) | Kind::Watch(_), Some(refusal)) => {
                if matches!(refusal, Refusal::Unblocked | Refusal::ReadOnly) {
                    // A demoted server closes the connection behind its -UNBLOCKED; the next lane must find another.
                    self.close_own_lane(lane);
                }
                return self.try_again(entry.session, reply, now);
            }
            (Kind::Watch(_), None) => {
                if !is_error && !watches {
                    let shard = errand.shard;
                    pinned.watch = Some(super::pinned::Watch {
                        shard,
                        lane,
                        broken: false,
                    });
                }
            }
            (Kind::Block(block), None) if !block.unresolved.is_empty() => {
                let Some(newest) = newest_id(reply).filter(|_| !is_error) else {
                    // The first key that is no stream; what is still to come of the others is swallowed.
                    return self.answer_errand(entry.session, reply, now);
                };
                let (_, at) = block.unresolved.remove(0);
                if let Some(word) = block.words.get_mut(at) {
                    *word = newest;
                }
                if block.unresolved.is_empty() {
                    self.begin_again(entry.session, now);
                }
                return;
            }
            (Kind::Block(block), None) => {
                block.asked = true;
                // A timeout that we cannot read may be one that the server can: then its nil is final.
                let early = block.patience.is_some()
                    && block.deadline.is_none_or(|deadline| deadline > now);
                if early && matches!(reply, b"*-1\r\n" | b"_\r\n" | b"$-1\r\n") {
                    self.counters.commands_parked += 1;
                    return self.begin_again(entry.session, now);
                }
            }
        }
        if !matches!(self.errand_kind(entry.session), Some(Kind::Block(_))) {
            self.record(lane, entry, 1, now);
        }
        self.answer_errand(entry.session, reply, now);
    }

    fn errand_kind(&self, id: SessionId) -> Option<&Kind> {
        let session = self.sessions.find(id.index, id.generation)?;
        Some(&session.pinned.as_ref()?.errand.as_ref()?.kind)
    }

    /// Nothing of the errand is at any server: it goes now, or waits for its gate.
    fn begin_again(&mut self, id: SessionId, now: Tick) {
        self.place_errand(id, Place::Room);
        let Some((pool, shard)) = self.errand_place(id) else {
            return;
        };
        if self.gate_is_open(pool, shard) {
            self.send_or_dial(id, now);
        } else {
            self.begin_errand(id, now);
        }
    }

    /// The errand was not executed, in these words: it is tried again for a while, and behind a closed gate without limit.
    fn try_again(&mut self, id: SessionId, excuse: &[u8], now: Tick) {
        let (wait, until) = (self.settings.retry_wait, now.after(self.settings.retry_max));
        let Some((pool, shard)) = self.errand_place(id) else {
            return;
        };
        if !self.gate_is_open(pool, shard) {
            return self.begin_again(id, now);
        }
        let Some(errand) = self.pinned_mut(id).and_then(|it| it.errand.as_mut()) else {
            return;
        };
        let until = *errand.retry_until.get_or_insert(until);
        if until <= now {
            return self.answer_errand(id, excuse, now);
        }
        let doublings = errand.attempts.min(DOUBLINGS_MAX);
        errand.attempts += 1;
        self.counters.commands_resent += 1;
        self.place_errand(id, Place::Waiting(now.after(wait * 2_u32.pow(doublings))));
        self.set_alarm(id);
    }

    /// The client has its answer and goes on.
    pub(super) fn answer_errand(&mut self, id: SessionId, reply: &[u8], now: Tick) {
        let Some((pool, shard)) = self.errand_place(id) else {
            return;
        };
        self.place_errand(id, Place::Room);
        let Some(errand) = self.pinned_mut(id).and_then(|it| it.errand.take()) else {
            return;
        };
        if let Some(it) = self.shard_mut(pool, shard) {
            it.counters.errors += u64::from(reply.first() == Some(&b'-'));
            if !errand.blocks() {
                let waited = now.since(errand.since);
                it.gate.longest_gap_us = it.gate.longest_gap_us.max(waited);
            }
        }
        let Some(session) = self.sessions.find_mut(id.index, id.generation) else {
            return;
        };
        if session.out.capacity() == 0 {
            session.out = self.spare.pop().unwrap_or_default();
        }
        session.deliver(errand.run, reply, 1);
        self.set_alarm(id);
        self.progressed(id);
    }

    /// Ends an errand whose time is over with the servers' word for it: all measured ones say null array, or null in RESP3.
    fn end_errand(&mut self, id: SessionId, now: Tick) {
        let Some(session) = self.session(id) else {
            return;
        };
        let mut nil = Vec::new();
        encode::null_array(&mut nil, session.protocol);
        self.answer_errand(id, &nil, now);
    }

    /// A session's own lane is gone, and `lane` is all that is known of it.
    pub(super) fn own_lane_lost(&mut self, id: LaneId, lane: &Lane, excuse: &[u8], now: Tick) {
        let Some(owner) = lane.owner else {
            return;
        };
        let sent = lane.sent();
        let Some(pinned) = self.pinned_mut(owner) else {
            return;
        };
        pinned.forget(id);
        let watches = pinned.watch.is_some();
        let Some(errand) = pinned.errand.as_mut() else {
            return self.set_alarm(owner);
        };
        let entry = lane
            .in_flight
            .iter()
            .rfind(|entry| entry.run == errand.run && !entry.expect.is_ours());
        match errand.place {
            Place::Sent(there) if there == id => {}
            Place::Dialling if errand.shard == lane.key.shard => {
                return self.try_again(owner, excuse, now);
            }
            Place::Sent(_) | Place::Dialling | Place::Room | Place::Waiting(_) => {
                return self.set_alarm(owner);
            }
        }
        let fully = entry.is_none_or(|entry| entry.end <= sent);
        match &mut errand.kind {
            Kind::Exec { .. } if !fully => {
                pinned.watch = None;
                self.answer_null(owner, now);
            }
            Kind::Watch(_) if watches => self.answer_errand(owner, b"+OK\r\n", now),
            Kind::Exec { .. } => {
                pinned.watch = None;
                self.counters.outcomes_unknown += 1;
                self.answer_errand(owner, texts::OUTCOME_UNKNOWN, now);
            }
            Kind::Block(block) => {
                let may_have_run = fully && block.unresolved.is_empty();
                block.asked |= may_have_run;
                if may_have_run && !errand.reads {
                    self.counters.outcomes_unknown += 1;
                    return self.answer_errand(owner, texts::OUTCOME_UNKNOWN, now);
                }
                self.try_again(owner, excuse, now);
            }
            Kind::Watch(_) => self.try_again(owner, excuse, now),
        }
    }

    /// EXEC's answer when it did not run, as if a watched key had changed.
    fn answer_null(&mut self, id: SessionId, now: Tick) {
        self.end_errand(id, now);
    }

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
            let once = match errand.kind {
                Kind::Exec { .. } => true,
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
            if unsent && !once {
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
    fn unblock(&mut self, id: SessionId, own: LaneId, now: Tick) {
        let Some(it) = self.lanes.find(own.index, own.generation) else {
            return;
        };
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
    fn unblocked(&mut self, lane: LaneId, entry: &InFlight, is_error: bool, now: Tick) {
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

    /// Sessions whose time has come.
    pub(super) fn check_alarms(&mut self, now: Tick) {
        let due: Vec<(Tick, SessionId)> = self
            .alarms
            .iter()
            .take_while(|(at, _)| *at <= now)
            .copied()
            .collect();
        for alarm in due {
            self.alarms.remove(&alarm);
            let id = alarm.1;
            if let Some(pinned) = self.pinned_mut(id) {
                pinned.alarm = None;
            }
            self.wake_up(id, now);
            self.set_alarm(id);
        }
    }

    fn wake_up(&mut self, id: SessionId, now: Tick) {
        let idle_max = self.settings.lane_idle_max;
        let Some(pinned) = self.pinned_mut(id) else {
            return;
        };
        let Some(errand) = pinned.errand.as_ref() else {
            let watched = pinned.watched();
            for lane in pinned.lanes.clone() {
                let idle = self
                    .lanes
                    .find(lane.index, lane.generation)
                    .is_some_and(|it| it.active.after(idle_max) <= now);
                if idle && watched != Some(lane) {
                    self.close_own_lane(lane);
                }
            }
            return;
        };
        let ends = errand.ends().is_some_and(|end| end <= now);
        match errand.place {
            Place::Sent(lane) => {
                if self.overdue(id, lane).is_some_and(|at| at <= now) {
                    self.dirty.close_lanes.push(lane);
                    self.lose_lane(lane, &LaneLoss::TimedOut, now);
                }
            }
            Place::Room | Place::Dialling | Place::Waiting(_) if ends => self.end_errand(id, now),
            Place::Waiting(at) if at <= now => self.begin_again(id, now),
            Place::Room | Place::Dialling | Place::Waiting(_) => {}
        }
    }

    /// When a server has had its time to answer an errand. `None`: it may take for ever.
    fn overdue(&self, id: SessionId, lane: LaneId) -> Option<Tick> {
        let session = self.sessions.find(id.index, id.generation)?;
        let errand = session.pinned.as_ref()?.errand.as_ref()?;
        let timeout = self.routes.pool(session.pool)?.timeout;
        match &errand.kind {
            Kind::Block(block) if block.unresolved.is_empty() => {
                Some(block.deadline?.after(timeout.unwrap_or(OVERDUE)))
            }
            Kind::Block(_) | Kind::Watch(_) | Kind::Exec { .. } => {
                let lane = self.lanes.find(lane.index, lane.generation)?;
                Some(lane.progress.after(timeout?))
            }
        }
    }

    /// Files when the worker has to look at this session again.
    pub(super) fn set_alarm(&mut self, id: SessionId) {
        let Some(session) = self.sessions.find(id.index, id.generation) else {
            return;
        };
        let Some(pinned) = session.pinned.as_ref() else {
            return;
        };
        let next = match &pinned.errand {
            Some(errand) => match errand.place {
                Place::Sent(lane) => self.overdue(id, lane),
                Place::Room | Place::Dialling => errand.ends(),
                Place::Waiting(at) => Some(errand.ends().map_or(at, |end| end.min(at))),
            },
            None => {
                let watched = pinned.watched();
                let idle = pinned.lanes.iter().filter(|lane| watched != Some(**lane));
                idle.filter_map(|lane| self.lanes.find(lane.index, lane.generation))
                    .map(|lane| lane.active.after(self.settings.lane_idle_max))
                    .min()
            }
        };
        let before = pinned.alarm;
        if before == next {
            return;
        }
        if let Some(before) = before {
            self.alarms.remove(&(before, id));
        }
        if let Some(next) = next {
            self.alarms.insert((next, id));
        }
        if let Some(pinned) = self.pinned_mut(id) {
            pinned.alarm = next;
        }
    }

    pub(super) fn pinned_mut(&mut self, id: SessionId) -> Option<&mut Pinned> {
        self.sessions
            .find_mut(id.index, id.generation)?
            .pinned
            .as_deref_mut()
    }

    fn errand_place(&self, id: SessionId) -> Option<(PoolIndex, ShardIndex)> {
        let session = self.sessions.find(id.index, id.generation)?;
        let errand = session.pinned.as_ref()?.errand.as_ref()?;
        Some((session.pool, errand.shard))
    }

    /// Into the room of its gate.
    fn enter_room(&mut self, id: SessionId) {
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
    fn place_errand(&mut self, id: SessionId, place: Place) {
        let Some((pool, shard)) = self.errand_place(id) else {
            return;
        };
        let Some(errand) = self.pinned_mut(id).and_then(|it| it.errand.as_mut()) else {
            return;
        };
        errand.place = place;
        let arrival = errand.arrival;
        if let Some(it) = self.shard_mut(pool, shard) {
            it.gate.room.remove(&arrival);
        }
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

    fn is_held(&self, pool: PoolIndex, shard: ShardIndex) -> bool {
        self.pools
            .get(usize::from(pool.0))
            .and_then(|pool| pool.shards.get(usize::from(shard.0)))
            .is_some_and(|shard| shard.gate.position == GatePosition::Held)
    }
}

fn entry_of(id: SessionId, errand: &Errand, expect: Expect, left: u32) -> InFlight {
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
    fn watched(&self) -> Option<LaneId> {
        self.watch.filter(|watch| !watch.broken).map(|it| it.lane)
    }

    fn forget(&mut self, id: LaneId) {
        self.lanes.retain(|lane| *lane != id);
        if let Some(watch) = &mut self.watch
            && watch.lane == id
        {
            watch.broken = true;
        }
    }
}
