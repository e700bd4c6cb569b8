//! Huge replies: given to their client piece by piece, on a lane that takes no more commands.
//!
//! ```text
//!  server ─> lane [ front entry: 500 MB under way | what was behind it already ]   set aside: new commands go by another lane
//!               │ each piece, as it comes
//!               v
//!            run at the head: session.out ─> client            above `session_output_pause` the lane is not read; where somebody
//!            run behind it:   its stash                        else's command is behind on it, only for a client that goes on reading
//! ```
//!
//! A lane that was set aside and is empty again is kept for the next time. What can not be given piece by piece (a part of a
//! command over several shards, a reply that a recovery looks at) is kept whole, and its lane is set aside all the same.

use std::time::Duration;

use understudy_resp::scan::{ReplyScanner, ReplyTail, ScanLimits};

use super::Worker;
use super::dirty::{CloseReason, LaneLoss, Took};
use super::ids::{LaneId, SessionId, Tick};
use super::lane::{Expect, InFlight, Lane, LaneState};
use super::pinned::{Kind, Place};

/// Lanes of one shard that are kept for the next huge reply.
const SPARE_LANES_MAX: usize = 2;
/// Within so long a client that reads steadily has taken something.
const STEADY: Duration = Duration::from_millis(100);
/// So many times `session_output_pause` a reply may run ahead of its client while neighbours wait behind it.
const BURST: usize = 16;
/// Largest reply that is kept whole because it cannot be given in pieces.
const WHOLE_MAX: usize = 1 << 30;

/// The reply of the front entry, of which a part was given to its client.
#[derive(Debug)]
pub(super) struct Passing {
    tail: ReplyTail,
    given: usize,
}

impl Worker {
    /// Behind replies that were matched: `input` begins with one that is not complete, and will be huge.
    #[cold]
    #[inline(never)]
    pub(super) fn huge_reply(
        &mut self,
        id: LaneId,
        scanner: &mut ReplyScanner,
        input: &mut Vec<u8>,
        now: Tick,
    ) -> Result<(), &'static str> {
        self.set_aside(id, now);
        let Some(entry) = self
            .lanes
            .find(id.index, id.generation)
            .and_then(|lane| lane.in_flight.front())
            .copied()
        else {
            return Ok(());
        };
        if !self.may_pass(id, &entry, input) {
            return if scanner.need() > WHOLE_MAX {
                Err("too big frame")
            } else {
                Ok(())
            };
        }
        let (mut tail, limits) = (ReplyTail::new(), self.reply_limits());
        let begun = tail
            .feed(input, &limits)
            .is_ok_and(|fed| !fed.over && fed.taken == input.len());
        debug_assert!(begun, "a tail and a scanner say the same");
        scanner.reset();
        let bytes = std::mem::take(input);
        if let Some(lane) = self.lanes.find_mut(id.index, id.generation) {
            lane.passing = Some(Box::new(Passing {
                tail,
                given: bytes.len(),
            }));
        }
        self.counters.replies_streamed += 1;
        self.give_some(&entry, &bytes);
        self.lane_alive(id, now);
        // A server that began to answer has to go on, however long it could let a blocked client wait before.
        if let Some(owner) = self
            .lanes
            .find(id.index, id.generation)
            .and_then(|lane| lane.owner)
        {
            self.set_alarm(owner);
        }
        Ok(())
    }

    /// The next bytes of a reply that is given in pieces.
    #[cold]
    #[inline(never)]
    pub(super) fn pass_on(&mut self, id: LaneId, bytes: &[u8], now: Tick) {
        let limits = self.reply_limits();
        let Some(lane) = self.lanes.find_mut(id.index, id.generation) else {
            return;
        };
        let Some(entry) = lane.in_flight.front().copied() else {
            return;
        };
        let Some(mut passing) = lane.passing.take() else {
            return;
        };
        let fed = match passing.tail.feed(bytes, &limits) {
            Ok(fed) => fed,
            Err(error) => {
                lane.passing = Some(passing);
                self.dirty.close_lanes.push(id);
                let why = format!("the backend broke the protocol: {error}");
                return self.lose_lane(id, &LaneLoss::Closed(why), now);
            }
        };
        let piece = bytes.get(..fed.taken).unwrap_or_default();
        if !fed.over {
            passing.given += piece.len();
            lane.passing = Some(passing);
            self.give_some(&entry, piece);
            self.lane_alive(id, now);
            return self.hold_back(id, now);
        }
        self.give_last(id, &entry, piece, now);
        match bytes.get(fed.taken..).filter(|rest| !rest.is_empty()) {
            Some(rest) => self.take_replies(id, rest, now),
            None => self.end_replies(id, now),
        }
    }

    /// Whether a reply can be given to its client before it is whole.
    fn may_pass(&self, id: LaneId, entry: &InFlight, input: &[u8]) -> bool {
        if !matches!(input.first(), Some(b'$' | b'*' | b'%' | b'~' | b'=')) {
            return false;
        }
        let Some(lane) = self.lanes.find(id.index, id.generation) else {
            return false;
        };
        let Some(session) = self
            .sessions
            .find(entry.session.index, entry.session.generation)
        else {
            return true; // Swallowed as it comes.
        };
        if session.recoveries.iter().any(|it| it.collects_on(id)) {
            return false;
        }
        let last = match entry.expect {
            Expect::Plain | Expect::Own => true,
            Expect::Unit { .. } => entry.left == 1,
            Expect::Part(_) | Expect::Unblock | Expect::Unwatch => false,
        };
        if lane.owner.is_none() {
            return last;
        }
        let errand = session.pinned.as_ref().and_then(|it| it.errand.as_ref());
        last && errand.is_some_and(|errand| {
            errand.place == Place::Sent(id)
                && errand.run == entry.run
                && match &errand.kind {
                    Kind::Block(block) => block.unresolved.is_empty(),
                    Kind::Bulk(_) | Kind::Exec { .. } => true,
                    Kind::Watch(_) => false,
                }
        })
    }

    fn give_some(&mut self, entry: &InFlight, bytes: &[u8]) {
        let Some(session) = self
            .sessions
            .find_mut(entry.session.index, entry.session.generation)
        else {
            return;
        };
        session.deliver_some(entry.run, bytes);
        self.progressed(entry.session);
    }

    fn give_last(&mut self, id: LaneId, entry: &InFlight, bytes: &[u8], now: Tick) {
        let owned = self
            .lanes
            .find(id.index, id.generation)
            .is_some_and(|lane| lane.owner.is_some());
        // How long it took is the client's own doing as much as the server's: it is no latency.
        self.account(id, entry, 1, 0, now);
        let Some(session) = self
            .sessions
            .find_mut(entry.session.index, entry.session.generation)
        else {
            self.counters.replies_swallowed += 1;
            return;
        };
        if !owned {
            session.deliver(entry.run, bytes, 1);
            return self.progressed(entry.session);
        }
        if let Some(pinned) = session.pinned.as_deref_mut()
            && matches!(
                pinned.errand.as_ref().map(|it| &it.kind),
                Some(Kind::Exec { .. })
            )
        {
            pinned.watch = None;
        }
        self.end_errand_with(entry.session, bytes, now);
    }

    fn lane_alive(&mut self, id: LaneId, now: Tick) {
        if let Some(lane) = self.lanes.find_mut(id.index, id.generation) {
            (lane.active, lane.progress) = (now, now);
        }
    }

    /// A shared lane takes no more commands: whoever has some on it drains first, and new ones go by another.
    pub(super) fn set_aside(&mut self, id: LaneId, now: Tick) {
        let before = self.stamp.wrapping_sub(1);
        let Some(lane) = self
            .lanes
            .find_mut(id.index, id.generation)
            .filter(|lane| lane.owner.is_none() && !lane.retired)
        else {
            return;
        };
        lane.retired = true;
        lane.aside_since = now;
        let key = lane.key;
        for entry in &lane.in_flight {
            if let Some(session) = self
                .sessions
                .find_mut(entry.session.index, entry.session.generation)
            {
                session.stamp = before;
            }
        }
        let waiters = std::mem::take(&mut lane.waiters);
        if let Some(shard) = self.shard_mut(key.pool, key.shard) {
            shard.lanes.retain(|other| *other != id);
        }
        for waiter in waiters {
            self.wake(waiter);
        }
        self.counters.lanes_set_aside += 1;
    }

    /// A lane that takes no more commands is empty: it is kept for the next time, or closed.
    #[cold]
    #[inline(never)]
    pub(super) fn emptied(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.find(id.index, id.generation) else {
            return;
        };
        let (key, address) = (lane.key, lane.address);
        let fit = lane.owner.is_none() && lane.state == LaneState::Open && lane.input.is_empty();
        let keep = fit
            && self.shard_mut(key.pool, key.shard).is_some_and(|shard| {
                let fits = shard.gate.is_open()
                    && (shard.gate.epoch, shard.address) == (key.epoch, address)
                    && !shard.old_lanes.contains(&id)
                    && shard.spare_lanes.len() < SPARE_LANES_MAX;
                if fits {
                    shard.spare_lanes.push(id);
                }
                fits
            });
        if !keep {
            return self.close_lane(id);
        }
        if let Some(lane) = self.lanes.find_mut(id.index, id.generation) {
            lane.retired = false;
        }
    }

    /// A spare lane for this key takes commands again.
    #[cold]
    #[inline(never)]
    pub(super) fn take_spare(&mut self, key: super::LaneKey) -> Option<LaneId> {
        let (lanes, shard) = (
            &self.lanes,
            self.pools
                .get_mut(usize::from(key.pool.0))?
                .shards
                .get_mut(usize::from(key.shard.0))?,
        );
        let (epoch, address) = (shard.gate.epoch, shard.address);
        let at = shard.spare_lanes.iter().position(|id| {
            lanes.find(id.index, id.generation).is_some_and(|lane| {
                (lane.key.protocol, lane.key.db) == (key.protocol, key.db)
                    && (lane.key.epoch, lane.address) == (epoch, address)
            })
        })?;
        let id = shard.spare_lanes.swap_remove(at);
        shard.lanes.push(id);
        Some(id)
    }

    /// Some client takes its replies slowly: the lane that brings them is not read for a while, if nobody else waits for it.
    #[cold]
    #[inline(never)]
    pub(super) fn hold_back(&mut self, id: LaneId, now: Tick) {
        let Some((front, alone, aside, aside_since)) =
            self.lanes.find(id.index, id.generation).map(|lane| {
                let front = lane.in_flight.front().copied();
                let who = front.map(|entry| entry.session);
                let alone = lane
                    .in_flight
                    .iter()
                    .all(|entry| Some(entry.session) == who);
                let aside = lane.retired || lane.owner.is_some();
                (front, alone, aside, lane.aside_since)
            })
        else {
            return;
        };
        let pause = self.settings.session_output_pause;
        let stall_max = self.settings.client_stall_max;
        let Some(session) = front
            .filter(|entry| !matches!(entry.expect, Expect::Part(_)))
            .and_then(|entry| {
                self.sessions
                    .find_mut(entry.session.index, entry.session.generation)
            })
            .filter(|session| session.kept() > pause)
        else {
            return;
        };
        if !aside {
            // Others would stand behind it for as long as this client likes.
            if session.kept() > pause.saturating_mul(4) {
                self.set_aside(id, now);
            }
            return;
        }
        let patient = if alone {
            session.active.after(stall_max) > now
        } else {
            // Neighbours' commands are behind it on this lane: they wait for a client that reads steadily, and not for long.
            session.kept() > pause.saturating_mul(BURST)
                && session.active.after(STEADY) > now
                && aside_since.after(stall_max) > now
        };
        if patient && !session.held_back.contains(&id) {
            session.held_back.push(id);
            let mut owner = None;
            if let Some(lane) = self.lanes.find_mut(id.index, id.generation) {
                lane.paused = true;
                owner = lane.owner;
            }
            self.paused = true;
            self.deadlines_moved();
            if let Some(owner) = owner {
                self.set_alarm(owner);
            }
        }
    }

    /// What the shell is to do behind bytes of this lane.
    #[cold]
    #[inline(never)]
    pub(super) fn lane_reading(&self, id: LaneId) -> Took {
        match self.lanes.find(id.index, id.generation) {
            Some(lane) if lane.paused => Took::Pause,
            _ => Took::Continue,
        }
    }

    /// A client took some: its lanes are read again once it has taken enough.
    #[cold]
    #[inline(never)]
    pub(super) fn read_lanes_again(&mut self, id: SessionId, now: Tick) {
        let enough = self.settings.session_output_pause / 2;
        let Some(session) = self
            .sessions
            .find_mut(id.index, id.generation)
            .filter(|session| session.kept() <= enough)
        else {
            return;
        };
        let lanes = std::mem::take(&mut session.held_back);
        self.resume_lanes(&lanes, now);
    }

    /// When a lane is read again whatever its client does.
    pub(super) fn patience_ends(&self, lane: &Lane) -> Option<Tick> {
        let who = lane.in_flight.front()?.session;
        let session = self.sessions.find(who.index, who.generation)?;
        let stall_max = self.settings.client_stall_max;
        if lane.in_flight.iter().all(|entry| entry.session == who) {
            return Some(session.active.after(stall_max));
        }
        Some(
            session
                .active
                .after(STEADY)
                .min(lane.aside_since.after(stall_max)),
        )
    }

    /// The client has taken nothing for too long: its lane is read on, until there is too much for it.
    pub(super) fn lose_patience(&mut self, id: LaneId, now: Tick) {
        let who = self
            .lanes
            .find(id.index, id.generation)
            .and_then(|lane| lane.in_flight.front())
            .map(|entry| entry.session);
        if let Some(session) = who.and_then(|who| self.session(who)) {
            session.held_back.retain(|other| *other != id);
        }
        self.resume_lanes(&[id], now);
    }

    #[cold]
    #[inline(never)]
    pub(super) fn resume_lanes(&mut self, lanes: &[LaneId], now: Tick) {
        for id in lanes {
            if let Some(lane) = self.lanes.find_mut(id.index, id.generation)
                && lane.paused
            {
                lane.paused = false;
                lane.progress = lane.progress.max(now);
                self.dirty.resume_lanes.push(*id);
                if let Some(owner) = lane.owner {
                    self.set_alarm(owner);
                }
            }
        }
    }

    /// A lane is gone in the middle of a reply that was given in pieces. What its client has of it cannot be taken back: then
    /// it is closed, as by a server that dies. What it has not seen is forgotten, and has its row of the matrix.
    pub(super) fn cut_off(&mut self, lane: &Lane) {
        let (Some(passing), Some(entry)) = (&lane.passing, lane.in_flight.front()) else {
            return;
        };
        let Some(session) = self
            .sessions
            .find_mut(entry.session.index, entry.session.generation)
        else {
            return;
        };
        if !session.forget_some(entry.run, passing.given) {
            self.cut_session(entry.session, CloseReason::BackendProtocol);
        }
    }

    /// Bounds of replies. Of the whole there is none here: what is given in pieces may be as large as it likes.
    pub(super) fn reply_limits(&self) -> ScanLimits {
        ScanLimits {
            frame_max: u64::MAX,
            depth_max: self.settings.scan.depth_max,
            ..ScanLimits::default()
        }
    }
}
