//! Huge commands: each goes by a lane of its session's own, so that it never stands before a neighbour's command.
//!
//! ```text
//!  whole      kept until it is answered, put into the lane in pieces; as nothing of it is lost, it can be sent again
//!  streamed   client ─> tail ─> lane.out ─> server     what has gone by is kept nowhere: sent once, in flight from its first byte
//!                       └ knows where the frame ends; no byte goes on before it was looked at
//!  passed over    answered before its end (its lane died, its gate expired): the tail goes on, the bytes go nowhere
//! ```
//!
//! It is an errand: before it all replies are in, and behind it nothing is scanned. Backpressure is the lane's: above
//! `bulk_threshold` of unsent bytes nothing more is put into it, the session's input fills, and its client is not read.

use understudy_resp::args::{Args, FrameArgs};
use understudy_resp::command::{self, Class, CommandSpec, Flags};
use understudy_resp::encode;
use understudy_resp::scan::{Fed, ProtocolError, RequestScanner, RequestTail};

use super::admit::{Admitted, Pass, latency_class};
use super::counters::LatencyClass;
use super::dirty::CloseReason;
use super::errands::Begin;
use super::ids::{LaneId, SessionId, Tick};
use super::pinned::{Bulk, Kind, Place};
use super::recover::effect_of_frame;
use super::retry::{Effect, Remedy};
use super::session::Stop;
use super::{Worker, texts};
use crate::route::ShardIndex;

/// What becomes of a frame that is not complete and will be huge.
pub(super) enum Huge {
    /// It has to be whole before anything can be said of it.
    Keep,
    /// The same, and it may not become so large.
    TooLarge,
    /// It waits, and is looked at again from its first byte.
    Stop(Stop),
    /// Its session takes it in from here on; all bytes of the pass are taken.
    Taken,
}

/// The arguments of a frame as far as they have come. It counts those that are still to come.
#[derive(Clone, Copy)]
struct Begun<'a> {
    here: FrameArgs<'a>,
    count: usize,
}

impl Args for Begun<'_> {
    fn count(&self) -> usize {
        self.count
    }

    fn arg(&self, index: usize) -> &[u8] {
        self.here.slice(index)
    }
}

impl Worker {
    /// A frame whose beginning lies at the end of the pass's data has more than `bulk_threshold` bytes, `need` at least.
    #[cold]
    #[inline(never)]
    pub(super) fn admit_huge(
        &mut self,
        pass: &mut Pass<'_>,
        scanner: &RequestScanner,
        at: usize,
        need: usize,
    ) -> Huge {
        let keep = if need as u64 <= self.settings.scan.frame_max {
            Huge::Keep
        } else {
            Huge::TooLarge
        };
        let frame = pass.data.get(at..).unwrap_or_default();
        let args = Begun {
            here: FrameArgs {
                frame,
                ranges: scanner.args(),
            },
            count: scanner.args_in_all(),
        };
        let plain = self
            .session(pass.id)
            .is_some_and(|it| it.user.is_some() && it.transaction.is_none());
        let Some((spec, shard)) = self.destination(pass, args).filter(|_| plain) else {
            return keep;
        };
        let mut tail = RequestTail::new();
        if !tail
            .feed(frame, &self.settings.scan)
            .is_ok_and(|fed| !fed.over && fed.taken == frame.len())
        {
            return keep; // The scanner has more to say about it.
        }
        self.flush(pass);
        match self.may_begin(pass, shard) {
            Begin::Drained => {}
            Begin::Stop(stop) => return Huge::Stop(stop),
            Begin::Expired => {
                self.answer_held(pass, shard);
                if let Some(session) = self.session(pass.id) {
                    session.pinned.get_or_insert_default().tail = Some(tail);
                }
                return Huge::Taken;
            }
        }
        if !self.gate_is_open(pass.pool, shard) {
            return Huge::Stop(Stop::Gate(shard));
        }
        let Some(session) = self.session(pass.id) else {
            return Huge::Taken;
        };
        session.pinned.get_or_insert_default().tail = Some(tail);
        let effect = if command::is_readonly(spec) {
            Effect::Read
        } else {
            Effect::Write
        };
        self.counters.commands_streamed += 1;
        let bulk = Bulk::new(frame.to_vec(), 1, effect);
        self.take_errand(
            pass,
            Kind::Bulk(bulk),
            shard,
            latency_class(spec),
            effect == Effect::Read,
        );
        Huge::Taken
    }

    /// Where a command goes, if that can be told before it is whole.
    fn destination(
        &mut self,
        pass: &Pass<'_>,
        args: Begun<'_>,
    ) -> Option<(&'static CommandSpec, ShardIndex)> {
        if args.here.count() == 0 {
            return None;
        }
        let spec = command::resolve(args).ok()?;
        let ordinary = matches!(spec.class, Class::Forward | Class::Split(_))
            && !spec.flags.contains(Flags::BLOCKING)
            && !matches!(spec.name, "sort" | "sort_ro")
            && !spec.name.contains('|');
        let mset = matches!(spec.class, Class::Split(command::Split::Mset));
        if !ordinary || (mset && args.count.is_multiple_of(2)) {
            return None;
        }
        if pass.shards == 1 {
            return Some((spec, ShardIndex(0)));
        }
        let key = spec.single_key()?;
        if spec.class != Class::Forward || key >= args.here.count() {
            return None;
        }
        Some((spec, self.shard_of(pass, args.here.slice(key))))
    }

    /// A huge command that is whole.
    #[cold]
    #[inline(never)]
    pub(super) fn forward_whole(
        &mut self,
        pass: &mut Pass<'_>,
        shard: ShardIndex,
        class: LatencyClass,
        at: usize,
        len: usize,
    ) -> Admitted {
        self.flush(pass);
        match self.may_begin(pass, shard) {
            Begin::Drained => {}
            Begin::Stop(stop) => return Admitted::Stop(stop),
            Begin::Expired => return self.answer_held(pass, shard),
        }
        if !self.gate_is_open(pass.pool, shard) {
            return Admitted::Stop(Stop::Gate(shard));
        }
        let frame = pass.data.get(at..at + len).unwrap_or_default().to_vec();
        let effect = effect_of_frame(&frame);
        let bulk = Bulk::new(frame, 1, effect);
        self.take_errand(pass, Kind::Bulk(bulk), shard, class, effect == Effect::Read)
    }

    /// EXEC of a transaction that is huge as a whole.
    #[cold]
    #[inline(never)]
    pub(super) fn exec_whole(&mut self, pass: &mut Pass<'_>, shard: ShardIndex) -> Admitted {
        match self.may_begin(pass, shard) {
            Begin::Drained => {}
            Begin::Stop(stop) => return Admitted::Stop(stop),
            Begin::Expired => {
                self.take_transaction(pass.id);
                return self.answer_held(pass, shard);
            }
        }
        if !self.gate_is_open(pass.pool, shard) {
            return Admitted::Stop(Stop::Gate(shard));
        }
        let Some(transaction) = self.take_transaction(pass.id) else {
            return Admitted::Next;
        };
        let (unit, replies) = transaction.unit();
        let bulk = Bulk::new(unit, replies, Effect::Write);
        self.take_errand(
            pass,
            Kind::Bulk(bulk),
            shard,
            LatencyClass::Transaction,
            false,
        )
    }

    /// Its lane is open and its entry in it: from here on it is in flight. Its bytes follow as there is room.
    pub(super) fn feed(&mut self, id: SessionId, now: Tick) {
        let room_max = self.settings.bulk_threshold;
        let Some(pinned) = self
            .sessions
            .find_mut(id.index, id.generation)
            .and_then(|session| session.pinned.as_deref_mut())
        else {
            return;
        };
        let streams = pinned.tail.is_some();
        let Some((lane_id, bulk)) = pinned.bulk_mut() else {
            return;
        };
        let Some(lane) = self.lanes.find_mut(lane_id.index, lane_id.generation) else {
            return;
        };
        let kept = bulk.frame.get(bulk.fed..).unwrap_or_default();
        let n = kept.len().min(room_max.saturating_sub(lane.queued()));
        lane.append(kept.get(..n).unwrap_or_default(), now);
        bulk.fed += n;
        if bulk.fed < bulk.frame.len() {
            wait_for_room(lane, id);
        } else if !streams {
            lane.close_entry();
        }
        self.list_lane(lane_id);
    }

    /// Something left a session's own lane: there may be room for more.
    #[cold]
    #[inline(never)]
    pub(super) fn made_room(&mut self, lane: LaneId, now: Tick) {
        let Some(it) = self.lanes.find_mut(lane.index, lane.generation) else {
            return;
        };
        let Some(owner) = it.owner else {
            if it.queued() <= self.settings.lane_queue_max / 2 {
                for waiter in std::mem::take(&mut it.waiters) {
                    self.wake(waiter);
                }
                self.settle(now);
            }
            return;
        };
        it.progress = now;
        if it.queued() > self.settings.bulk_threshold / 2 {
            return;
        }
        it.waiters.clear();
        self.feed(owner, now);
        self.take_in(owner, now);
        self.set_alarm(owner);
        self.settle(now);
    }

    /// Bytes of a session that takes a huge command in. `data` is all that it has not taken; gives how much of it went.
    pub(super) fn upload(&mut self, id: SessionId, data: &[u8], now: Tick) -> usize {
        let (limits, room_max) = (self.settings.scan, self.settings.bulk_threshold);
        let Some(session) = self.sessions.find_mut(id.index, id.generation) else {
            return data.len();
        };
        if session.closing.is_some() || data.is_empty() {
            return data.len();
        }
        let Some(pinned) = session.pinned.as_deref_mut() else {
            return 0;
        };
        let Some(mut tail) = pinned.tail.take() else {
            return 0;
        };
        let fed: Result<Fed, ProtocolError> = match &mut pinned.errand {
            // Answered before its end: the rest of it goes nowhere.
            None => tail.feed(data, &limits),
            Some(_) => {
                let Some((lane_id, bulk)) = pinned.bulk_mut() else {
                    pinned.tail = Some(tail);
                    return 0; // Its lane is not there yet.
                };
                let Some(lane) = self.lanes.find_mut(lane_id.index, lane_id.generation) else {
                    pinned.tail = Some(tail);
                    return 0;
                };
                let room = room_max.saturating_sub(lane.queued());
                if bulk.fed < bulk.frame.len() || room == 0 {
                    wait_for_room(lane, id);
                    pinned.tail = Some(tail);
                    return 0;
                }
                let piece = data.get(..data.len().min(room)).unwrap_or_default();
                let fed = tail.feed(piece, &limits);
                if let Ok(fed) = fed {
                    lane.append(piece.get(..fed.taken).unwrap_or_default(), now);
                    (bulk.once, bulk.fed) = (true, 0);
                    bulk.frame = Vec::new();
                    if fed.over {
                        lane.close_entry();
                    } else if lane.queued() >= room_max {
                        wait_for_room(lane, id);
                    }
                    self.list_lane(lane_id);
                }
                fed
            }
        };
        let Some(session) = self.sessions.find_mut(id.index, id.generation) else {
            return data.len();
        };
        match fed {
            Ok(fed) => {
                if fed.over {
                    session.stop = Stop::Errand;
                } else if let Some(pinned) = session.pinned.as_deref_mut() {
                    pinned.tail = Some(tail);
                }
                fed.taken
            }
            Err(error) => {
                self.break_upload(id, error, now);
                data.len()
            }
        }
    }

    /// Takes in what the session has kept of a huge command.
    #[cold]
    #[inline(never)]
    pub(super) fn take_in(&mut self, id: SessionId, now: Tick) {
        let Some(session) = self
            .session(id)
            .filter(|session| session.stop == Stop::Upload)
        else {
            return;
        };
        let mut input = std::mem::take(&mut session.input);
        let taken = self.upload(id, &input, now);
        input.drain(..taken.min(input.len()));
        self.keep_input(id, input);
        self.after_upload(id);
    }

    /// Bytes of a client whose huge command is under way.
    #[cold]
    #[inline(never)]
    pub(super) fn take_upload(&mut self, id: SessionId, bytes: &[u8], now: Tick) {
        let Some(session) = self.session(id) else {
            return;
        };
        if !session.input.is_empty() {
            session.input.extend_from_slice(bytes);
            return self.take_in(id, now);
        }
        let taken = self.upload(id, bytes, now);
        let rest = bytes.get(taken..).unwrap_or_default();
        if !rest.is_empty() {
            let mut input = self.spare.pop().unwrap_or_default();
            input.extend_from_slice(rest);
            self.keep_input(id, input);
        }
        self.after_upload(id);
    }

    fn keep_input(&mut self, id: SessionId, input: Vec<u8>) {
        match self.sessions.find_mut(id.index, id.generation) {
            Some(session) if !input.is_empty() => session.input = input,
            Some(_) | None => super::keep_spare(&mut self.spare, input),
        }
    }

    /// Behind each piece: who can go on, and who can not any more.
    #[cold]
    #[inline(never)]
    pub(super) fn after_upload(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else {
            return;
        };
        if session.read_closed && session.stop == Stop::Upload && session.input.is_empty() {
            return self.abandon_upload(id);
        }
        self.set_alarm(id);
        self.resume(id);
        self.progressed(id);
    }

    /// The client ended in the middle of a command. It was not executed and never will be.
    pub(super) fn abandon_upload(&mut self, id: SessionId) {
        self.drop_bulk(id);
        let Some(session) = self.session(id) else {
            return;
        };
        if let Some(pinned) = session.pinned.as_deref_mut() {
            pinned.tail = None;
        }
        session.head += session.runs.len() as u64;
        session.runs.clear();
        session.waiting = 0;
        session.stop = Stop::No;
        session.closing = Some(CloseReason::Client);
        self.set_alarm(id);
        self.progressed(id);
    }

    /// What it sends is no command. What is before the wrong byte went to the server, which never gets the rest.
    fn break_upload(&mut self, id: SessionId, error: ProtocolError, now: Tick) {
        let mut reply = Vec::new();
        encode::error(&mut reply, &format!("ERR Protocol error: {error}"));
        let lane = self
            .pinned_mut(id)
            .and_then(|it| it.bulk_mut())
            .map(|(lane, _)| lane);
        if self.pinned_mut(id).is_some_and(|it| it.errand.is_some()) {
            self.answer_errand(id, &reply, now);
        } else {
            self.answer_now(id, &reply);
        }
        if let Some(lane) = lane {
            self.close_own_lane(lane);
        }
        if let Some(session) = self.session(id) {
            session.stop = Stop::No;
            session.closing = Some(CloseReason::Protocol);
        }
        self.progressed(id);
    }

    /// Its client stopped in the middle of a huge command, longer ago than is waited for.
    pub(super) fn stands_still(&self, id: SessionId, now: Tick) -> bool {
        self.sessions
            .find(id.index, id.generation)
            .is_some_and(|session| {
                session.stop == Stop::Upload
                    && session.input.is_empty()
                    && session.active.after(self.settings.client_stall_max) <= now
            })
    }

    /// Forgets a huge command that no server has as a whole: its lane is closed in the middle of it.
    pub(super) fn drop_bulk(&mut self, id: SessionId) {
        let Some(pinned) = self.pinned_mut(id) else {
            return;
        };
        let streams = pinned.tail.is_some();
        let lane = pinned
            .bulk_mut()
            .filter(|(_, bulk)| streams || bulk.fed < bulk.frame.len())
            .map(|(lane, _)| lane);
        let waits = pinned.errand.as_ref().is_some_and(|errand| {
            matches!(errand.kind, Kind::Bulk(_)) && !matches!(errand.place, Place::Sent(_))
        });
        if lane.is_none() && !waits {
            return;
        }
        if let Some(lane) = lane {
            self.close_own_lane(lane);
        }
        self.place_errand(id, Place::Room);
        if let Some(pinned) = self.pinned_mut(id) {
            pinned.errand = None;
        }
    }

    /// A reply to a huge command on its session's own lane, or to one command of its transaction's.
    pub(super) fn bulk_answered(
        &mut self,
        id: SessionId,
        lane: LaneId,
        reply: &[u8],
        refused_inside: bool,
        now: Tick,
    ) {
        let unsent = self
            .lanes
            .find(lane.index, lane.generation)
            .is_some_and(|it| it.queued() > 0);
        let Some(pinned) = self.pinned_mut(id) else {
            return;
        };
        let streams = pinned.tail.is_some();
        let Some((_, bulk)) = pinned.bulk_mut() else {
            return;
        };
        if streams || unsent || bulk.fed < bulk.frame.len() {
            // The server has had enough before the end. Whatever follows would be nonsense to it.
            self.answer_errand(id, reply, now);
            return self.close_own_lane(lane);
        }
        let remedy = bulk.remedy(reply, refused_inside);
        let frame = if remedy == Remedy::Heal {
            std::mem::take(&mut bulk.frame)
        } else {
            Vec::new()
        };
        match remedy {
            Remedy::Replay => {
                if reply.starts_with(b"-READONLY") || reply.starts_with(b"-UNBLOCKED") {
                    self.close_own_lane(lane); // A demoted server; the next lane must find another.
                }
                self.try_again(id, reply, now);
            }
            Remedy::Heal => {
                let pool = self.errand_place(id).map(|(pool, _)| pool);
                let Some(healed) = pool.and_then(|pool| self.healed(pool, &frame)) else {
                    return self.answer_errand(id, reply, now);
                };
                if let Some(bulk) = self.pinned_mut(id).and_then(|it| it.any_bulk()) {
                    bulk.frame = healed;
                }
                self.counters.scripts_healed += 1;
                self.begin_again(id, now);
            }
            Remedy::Resend | Remedy::Unknown | Remedy::Pass => self.answer_errand(id, reply, now),
        }
    }

    /// The lane of a huge command is gone. `fully`: a server may have all of it.
    pub(super) fn bulk_lost(&mut self, id: SessionId, fully: bool, excuse: &[u8], now: Tick) {
        let Some(bulk) = self.pinned_mut(id).and_then(|it| it.any_bulk()) else {
            return;
        };
        let (once, reads) = (bulk.once, bulk.effect == Effect::Read);
        if fully && (once || !reads) {
            self.counters.outcomes_unknown += 1;
            self.answer_errand(id, texts::OUTCOME_UNKNOWN, now);
        } else if once {
            self.answer_errand(id, excuse, now);
        } else {
            self.try_again(id, excuse, now);
        }
    }
}

fn wait_for_room(lane: &mut super::Lane, id: SessionId) {
    if lane.waiters.is_empty() {
        lane.waiters.push(id);
    }
}
