//! What becomes of an errand: its reply, a refusal, or the loss of its lane.
//!
//! A nil before its time was ours: the command was unblocked for a hold, was not executed, and goes again. EXEC behind WATCH is
//! sent once: where it certainly did not run it answers null, as if a key had changed, and where it may have, that is said.

use understudy_resp::Protocol;
use understudy_resp::encode;

use super::ids::{LaneId, SessionId, Tick};
use super::lane::{Expect, InFlight, Lane};
use super::patience::newest_id;
use super::pinned::{Kind, Place, Watch};
use super::reply::is_not_executed;
use super::retry::{Refusal, refusal};
use super::{Worker, texts};

/// Doublings of the wait between two tries.
const DOUBLINGS_MAX: u32 = 3;
impl Worker {
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
            (Kind::Bulk(_), _) => {
                return self.bulk_answered(entry.session, lane, reply, refused_inside, now);
            }
            (Kind::Exec { .. }, refused) => {
                let not_executed =
                    refused.is_some() || (refused_inside && reply.starts_with(b"-EXECABORT"));
                pinned.watch = None;
                if not_executed {
                    let mut null = Vec::new();
                    encode::null_array(&mut null, protocol.unwrap_or(Protocol::Resp2));
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
                    pinned.watch = Some(Watch {
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

    pub(super) fn errand_kind(&self, id: SessionId) -> Option<&Kind> {
        let session = self.sessions.find(id.index, id.generation)?;
        Some(&session.pinned.as_ref()?.errand.as_ref()?.kind)
    }

    /// Nothing of the errand is at any server: it goes now, or waits for its gate.
    pub(super) fn begin_again(&mut self, id: SessionId, now: Tick) {
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
    pub(super) fn try_again(&mut self, id: SessionId, excuse: &[u8], now: Tick) {
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
        if let Some(it) = self.shard_mut(pool, shard) {
            it.counters.errors += u64::from(reply.first() == Some(&b'-'));
        }
        self.end_errand_with(id, reply, now);
    }

    /// As `answer_errand`, with what may be only the end of a reply.
    pub(super) fn end_errand_with(&mut self, id: SessionId, reply: &[u8], now: Tick) {
        let Some((pool, shard)) = self.errand_place(id) else {
            return;
        };
        self.place_errand(id, Place::Room);
        let Some(errand) = self.pinned_mut(id).and_then(|it| it.errand.take()) else {
            return;
        };
        if !errand.blocks()
            && !matches!(errand.kind, Kind::Bulk(_))
            && let Some(it) = self.shard_mut(pool, shard)
        {
            let waited = now.since(errand.since);
            it.gate.longest_gap_us = it.gate.longest_gap_us.max(waited);
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
        self.take_in(id, now);
    }

    /// Ends an errand whose time is over with the servers' word for it: all measured ones say null array, or null in RESP3.
    pub(super) fn end_errand(&mut self, id: SessionId, now: Tick) {
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
            Kind::Bulk(_) => self.bulk_lost(owner, fully, excuse, now),
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
    pub(super) fn answer_null(&mut self, id: SessionId, now: Tick) {
        self.end_errand(id, now);
    }
}
