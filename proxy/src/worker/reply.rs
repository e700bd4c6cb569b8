//! Gives replies to their commands: the front entry of the lane, and through it the run of a session.
//!
//! Consecutive replies of one entry are handed over as one range of bytes. A reply is looked into only when it is an
//! error, and pushes are passed over: nobody here subscribes, and they answer no command.

use understudy_resp::scan::{ReplyKind, ReplyScanner};

use super::Worker;
use super::dirty::LaneLoss;
use super::ids::{LaneId, Tick};
use super::lane::{Expect, InFlight};
use super::retry::{Refusal, refusal};

/// What the front entry needs.
enum Way {
    /// A range of replies, copied as it is.
    Range,
    /// One reply, looked at.
    Single,
    /// One reply for a session that recovers on this lane.
    Recovering,
}

/// A backend that does not speak RESP, or speaks when not asked.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the backend sent a reply that no command asked for")]
    Unasked,
    #[error("the backend broke the protocol: {0}")]
    Protocol(String),
}

impl Worker {
    pub(super) fn take_replies(&mut self, id: LaneId, bytes: &[u8], now: Tick) {
        let Some(lane) = self.lanes.find_mut(id.index, id.generation) else {
            return;
        };
        if lane.passing.is_some() {
            return self.pass_on(id, bytes, now);
        }
        let mut scanner = std::mem::take(&mut lane.scanner);
        let mut input = std::mem::take(&mut lane.input);
        let matched = if input.is_empty() {
            self.match_replies(id, &mut scanner, bytes, now)
                .inspect(|consumed| {
                    input.extend_from_slice(bytes.get(*consumed..).unwrap_or_default());
                })
        } else {
            self.match_behind(id, &mut scanner, &mut input, bytes, now)
        };
        if let Err(broken) = matched {
            return self.break_lane(id, &broken, now);
        }
        if !input.is_empty()
            && scanner.need() > self.settings.bulk_threshold
            && let Err(why) = self.huge_reply(id, &mut scanner, &mut input, now)
        {
            return self.break_lane(id, &Broken::Protocol(why.into()), now);
        }
        let Some(lane) = self.lanes.find_mut(id.index, id.generation) else {
            return;
        };
        lane.scanner = scanner;
        if input.is_empty() && input.capacity() > super::SPARE_BYTES_MAX {
            input = Vec::new();
        }
        lane.input = input;
        lane.release_answered();
        lane.active = now;
        if self.slow || lane.retired {
            self.end_replies(id, now);
        }
    }

    #[cold]
    fn break_lane(&mut self, id: LaneId, broken: &Broken, now: Tick) {
        self.dirty.close_lanes.push(id);
        self.lose_lane(id, &LaneLoss::Closed(broken.to_string()), now);
    }

    /// Behind all replies that came together.
    #[cold]
    #[inline(never)]
    pub(super) fn end_replies(&mut self, id: LaneId, now: Tick) {
        let Some(lane) = self.lanes.find_mut(id.index, id.generation) else {
            return;
        };
        lane.release_answered();
        lane.active = now;
        if lane.retired && lane.in_flight.is_empty() {
            self.emptied(id);
        }
        if self.slow {
            self.slow = false;
            self.hold_back(id, now);
        }
    }

    /// Matches as many whole replies as there are; says how many bytes they were.
    fn match_replies(
        &mut self,
        id: LaneId,
        scanner: &mut ReplyScanner,
        data: &[u8],
        now: Tick,
    ) -> Result<usize, Broken> {
        let limits = self.reply_limits();
        let mut at = 0;
        while let Some(rest) = data.get(at..).filter(|rest| !rest.is_empty()) {
            let front = self
                .lanes
                .find(id.index, id.generation)
                .and_then(|lane| lane.in_flight.front())
                .copied();
            let scan = |scanner: &mut ReplyScanner, bytes: &[u8]| {
                scanner
                    .scan(bytes, &limits)
                    .map_err(|error| Broken::Protocol(error.to_string()))
            };
            let Some(entry) = front else {
                match scan(scanner, rest)? {
                    Some(frame) if frame.kind == ReplyKind::Push => at += frame.len,
                    Some(_) => return Err(Broken::Unasked),
                    None => break,
                }
                continue;
            };
            if !matches!(self.way(id, &entry), Way::Range) {
                let Some(frame) = scan(scanner, rest)? else {
                    break;
                };
                at += frame.len;
                if frame.kind != ReplyKind::Push {
                    let reply = rest.get(..frame.len).unwrap_or_default();
                    self.take_single(id, entry, reply, frame.kind == ReplyKind::Error, now);
                }
                continue;
            }
            let start = at;
            let (mut count, mut errors) = (0, 0);
            let mut ends = End::Entry;
            while count < entry.left {
                let rest = data.get(at..).unwrap_or_default();
                let Some(frame) = (if rest.is_empty() {
                    None
                } else {
                    scan(scanner, rest)?
                }) else {
                    ends = End::Data;
                    break;
                };
                if frame.kind == ReplyKind::Push {
                    ends = End::Push(frame.len);
                    break;
                }
                if frame.kind == ReplyKind::Error {
                    if refusal(rest.get(..frame.len).unwrap_or_default()).is_some() {
                        ends = End::Refusal(frame.len);
                        break;
                    }
                    errors += 1;
                }
                at += frame.len;
                count += 1;
            }
            if count > 0 {
                self.take_range(
                    id,
                    entry,
                    data.get(start..at).unwrap_or_default(),
                    count,
                    errors,
                    now,
                );
            }
            match ends {
                End::Entry => {}
                End::Data => break,
                End::Push(len) => at += len,
                End::Refusal(len) => {
                    let reply = data.get(at..at + len).unwrap_or_default();
                    at += len;
                    let front = self
                        .lanes
                        .find(id.index, id.generation)
                        .and_then(|lane| lane.in_flight.front())
                        .copied();
                    if let Some(entry) = front {
                        self.take_single(id, entry, reply, true, now);
                    }
                }
            }
        }
        Ok(at)
    }

    /// Matches bytes behind a half reply that was kept. It first gets only what it still needs, so that of a long read
    /// only that is copied, and the replies behind it are taken from where they were read.
    fn match_behind(
        &mut self,
        id: LaneId,
        scanner: &mut ReplyScanner,
        input: &mut Vec<u8>,
        bytes: &[u8],
        now: Tick,
    ) -> Result<usize, Broken> {
        let needed = scanner.need().saturating_sub(input.len());
        let (completes, behind) = bytes.split_at(needed.min(bytes.len()));
        input.extend_from_slice(completes);
        let consumed = self.match_replies(id, scanner, input, now)?;
        input.drain(..consumed);
        if input.is_empty() {
            let consumed = self.match_replies(id, scanner, behind, now)?;
            input.extend_from_slice(behind.get(consumed..).unwrap_or_default());
            return Ok(consumed);
        }
        // A reply whose length is not told before its end: all of it in one piece.
        input.extend_from_slice(behind);
        self.match_replies(id, scanner, input, now)
            .inspect(|consumed| {
                input.drain(..*consumed);
            })
    }

    fn way(&self, id: LaneId, entry: &InFlight) -> Way {
        let session = self
            .sessions
            .find(entry.session.index, entry.session.generation);
        if session.is_some_and(|session| {
            session
                .recoveries
                .iter()
                .any(|recovery| recovery.collects_on(id))
        }) {
            Way::Recovering
        } else if entry.expect == Expect::Plain {
            Way::Range
        } else {
            Way::Single
        }
    }

    /// Whole replies of one plain entry.
    fn take_range(
        &mut self,
        id: LaneId,
        entry: InFlight,
        replies: &[u8],
        count: u32,
        errors: u64,
        now: Tick,
    ) {
        self.account(id, &entry, count, errors, now);
        self.record(id, &entry, count, now);
        let Some(session) = self
            .sessions
            .find_mut(entry.session.index, entry.session.generation)
        else {
            self.counters.replies_swallowed += u64::from(count);
            return;
        };
        if session.out.capacity() == 0 {
            session.out = self.spare.pop().unwrap_or_default();
        }
        session.deliver(entry.run, replies, count);
        self.progressed(entry.session);
    }

    /// One reply of an entry that is not a plain range, or an error that may be a refusal.
    fn take_single(
        &mut self,
        id: LaneId,
        entry: InFlight,
        reply: &[u8],
        is_error: bool,
        now: Tick,
    ) {
        let own = |lane: &super::Lane| lane.owner.is_some();
        if entry.expect.is_ours() || self.lanes.find(id.index, id.generation).is_some_and(own) {
            return self.take_own(id, &entry, reply, is_error, now);
        }
        if is_error && !matches!(self.way(id, &entry), Way::Recovering) && self.is_last(&entry) {
            self.begin_recovery(id, &entry, reply, now);
        }
        if matches!(self.way(id, &entry), Way::Recovering) {
            self.account(id, &entry, 1, 0, now);
            self.take_recovering(id, entry.session, reply, now);
            return;
        }
        if let Expect::Unit { .. } = entry.expect
            && entry.left > 1
        {
            self.account(id, &entry, 1, 0, now);
            if is_error && refusal(reply).is_some_and(is_not_executed) {
                self.mark_refused_unit(id);
            }
            return;
        }
        self.account(id, &entry, 1, u64::from(is_error), now);
        self.record(id, &entry, 1, now);
        let Some(session) = self
            .sessions
            .find_mut(entry.session.index, entry.session.generation)
        else {
            self.counters.replies_swallowed += 1;
            return;
        };
        match entry.expect {
            Expect::Part(part) => session.deliver_part(entry.run, part, reply),
            Expect::Plain | Expect::Unit { .. } => session.deliver(entry.run, reply, 1),
            Expect::Own | Expect::Unblock | Expect::Unwatch => {
                debug_assert!(false, "taken above");
            }
        }
        self.progressed(entry.session);
    }

    /// Whether the next reply is one that the client would see.
    fn is_last(&self, entry: &InFlight) -> bool {
        match entry.expect {
            Expect::Plain | Expect::Part(_) | Expect::Own => true,
            Expect::Unit { .. } | Expect::Unblock | Expect::Unwatch => entry.left == 1,
        }
    }

    /// Replies have come for the front entry.
    pub(super) fn account(
        &mut self,
        id: LaneId,
        entry: &InFlight,
        count: u32,
        errors: u64,
        now: Tick,
    ) {
        let Some(lane) = self.lanes.find_mut(id.index, id.generation) else {
            return;
        };
        lane.progress = now;
        if let Some(front) = lane.in_flight.front_mut() {
            debug_assert_eq!(
                (front.session, front.run),
                (entry.session, entry.run),
                "the front entry is answered"
            );
            front.answered += count;
            front.left = front.left.saturating_sub(count);
            if front.left == 0 {
                lane.in_flight.pop_front();
            }
        }
        let key = lane.key;
        if let Some(shard) = self.shard_mut(key.pool, key.shard) {
            debug_assert!(
                shard.gate.in_flight >= u64::from(count),
                "more replies than commands"
            );
            shard.gate.in_flight = shard.gate.in_flight.saturating_sub(u64::from(count));
            shard.counters.errors += errors;
        }
    }

    /// Commands of this entry have their final replies.
    pub(super) fn record(&mut self, id: LaneId, entry: &InFlight, count: u32, now: Tick) {
        let Some(key) = self
            .lanes
            .find(id.index, id.generation)
            .map(|lane| lane.key)
        else {
            return;
        };
        if let Some(shard) = self.shard_mut(key.pool, key.shard) {
            let waited = now.since(entry.since);
            shard.counters.latency[entry.class as usize].record(waited, u64::from(count));
            shard.gate.longest_gap_us = shard.gate.longest_gap_us.max(waited);
        }
    }

    pub(super) fn mark_refused_unit(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.find_mut(id.index, id.generation)
            && let Some(front) = lane.in_flight.front_mut()
        {
            front.expect = Expect::Unit { refused: true };
        }
    }
}

/// Why a range of replies ends.
enum End {
    Entry,
    Data,
    Push(usize),
    Refusal(usize),
}

/// Refusals of a queued command that make EXEC abort, and go away by themselves.
pub(super) fn is_not_executed(refusal: Refusal) -> bool {
    match refusal {
        Refusal::ReadOnly
        | Refusal::Loading
        | Refusal::MasterDown
        | Refusal::ClusterDown
        | Refusal::TryAgain => true,
        Refusal::ExecAbort
        | Refusal::ScriptReadOnly
        | Refusal::Unblocked
        | Refusal::Moved
        | Refusal::Ask
        | Refusal::NoScript => false,
    }
}
