//! What happens when a lane is lost or a command is refused: who gets which answer, and what is sent again.
//!
//! A recovery belongs to one session and one shard. While a session has one, nothing more of it is scanned. A recovery
//! that waits has nothing at any server, so it does not count as in flight: a hold may drain past it, and it goes on,
//! like every held command, where the gate opens to.

use understudy_resp::args::{Args, FrameArgs};
use understudy_resp::command::{self, Class};
use understudy_resp::encode;
use understudy_resp::scan::{RequestScanner, Scan, ScanLimits};

use super::dirty::LaneLoss;
use super::ids::{LaneId, SessionId, Tick};
use super::lane::{Expect, InFlight, Lane, LaneState};
use super::recovery::{Next, Outcome, Piece, Recovery, State};
use super::reply::is_not_executed;
use super::retry::{Effect, Remedy, Sent, refusal};
use super::{Worker, texts};
use crate::route::{PoolIndex, ShardIndex};

/// Doublings of the wait between two tries.
const DOUBLINGS_MAX: u32 = 3;

impl Worker {
    /// The front entry's next reply is an error that may be a refusal. If it is one that can be mended, the session
    /// recovers from here on; the reply itself is then taken by [`Worker::take_recovering`].
    pub(super) fn begin_recovery(&mut self, id: LaneId, entry: &InFlight, reply: &[u8], now: Tick) {
        let Some(lane) = self.lanes.find(id.index, id.generation) else {
            return;
        };
        let key = lane.key;
        let pieces: Vec<Piece> = pieces_of(lane, entry.session)
            .into_iter()
            .map(|(piece, _)| piece)
            .collect();
        let Some(first) = pieces.first().filter(|piece| !piece.frame.is_empty()) else {
            return;
        };
        let mendable = match first.refused(reply) {
            Some((_, Remedy::Replay)) => true,
            Some((_, Remedy::Heal)) => self.healed(key.pool, &first.frame).is_some(),
            Some((_, Remedy::Resend | Remedy::Unknown | Remedy::Pass)) | None => false,
        };
        let deadline = now.after(self.settings.retry_max);
        if mendable && let Some(session) = self.session(entry.session) {
            session.recoveries.push(Recovery {
                key,
                state: State::Collecting(id),
                pieces: pieces.into(),
                deadline,
                attempts: 0,
            });
        }
    }

    /// A reply for a session that recovers on this lane.
    pub(super) fn take_recovering(&mut self, lane: LaneId, id: SessionId, reply: &[u8], now: Tick) {
        let Some(session) = self.sessions.find_mut(id.index, id.generation) else {
            return;
        };
        let pool = session.pool;
        let Some(recovery) = session
            .recoveries
            .iter_mut()
            .find(|recovery| recovery.collects_on(lane))
        else {
            return;
        };
        let Some(piece) = recovery.pending() else {
            debug_assert!(false, "a reply that no piece waits for");
            return;
        };
        piece.left = piece.left.saturating_sub(1);
        if piece.left > 0 {
            piece.refused_inside |= refusal(reply).is_some_and(is_not_executed);
            return;
        }
        match piece.refused(reply) {
            Some((_, Remedy::Replay)) => piece.outcome = Outcome::Refused(reply.to_vec()),
            Some((_, Remedy::Heal)) => match healed(&self.pools, pool, &piece.frame) {
                Some(frame) => {
                    piece.frame = frame;
                    piece.outcome = Outcome::Healed(reply.to_vec());
                    self.counters.scripts_healed += 1;
                }
                None => piece.answered(reply),
            },
            Some((_, Remedy::Resend | Remedy::Unknown | Remedy::Pass)) | None => {
                piece.answered(reply);
            }
        }
        if recovery.pending().is_none() {
            let at = session
                .recoveries
                .iter()
                .position(|recovery| recovery.collects_on(lane));
            self.resolve(id, at, now);
        }
    }

    /// A lane is gone: every command on it gets its row of the retry matrix.
    pub(super) fn lose_lane(&mut self, id: LaneId, why: &LaneLoss, now: Tick) {
        self.deadlines_moved();
        let Some(lane) = self.remove_lane(id) else {
            return;
        };
        let excuse = self.count_loss(&lane, why, now);
        self.cut_off(&lane);
        let left: u64 = lane
            .in_flight
            .iter()
            .map(|entry| u64::from(entry.left))
            .sum();
        if let Some(shard) = self.shard_mut(lane.key.pool, lane.key.shard) {
            shard.gate.in_flight = shard.gate.in_flight.saturating_sub(left);
        }
        if lane.owner.is_none() {
            for waiter in &lane.waiters {
                self.wake(*waiter);
            }
        }
        if lane.owner.is_some() {
            self.own_lane_lost(id, &lane, &excuse, now);
            return self.empty_room(lane.key.pool, lane.key.shard, now);
        }
        let clients = lane.in_flight.iter().filter(|it| !it.expect.is_ours());
        let mut seen: Vec<SessionId> = clients.map(|entry| entry.session).collect();
        let mut first_of = std::collections::HashSet::new();
        seen.retain(|session| first_of.insert(*session));
        for session in seen {
            self.lane_lost_for(&lane, id, session, &excuse, now);
        }
        self.unblockings_lost(&lane, now);
    }

    fn lane_lost_for(
        &mut self,
        lane: &Lane,
        lane_id: LaneId,
        id: SessionId,
        excuse: &[u8],
        now: Tick,
    ) {
        let deadline = now.after(self.settings.retry_max);
        let Some(session) = self.sessions.find_mut(id.index, id.generation) else {
            return;
        };
        let pieces = pieces_of(lane, id);
        let sent: Vec<Sent> = pieces
            .iter()
            .map(|(_, end)| {
                if *end <= lane.sent() {
                    Sent::Fully
                } else {
                    Sent::No
                }
            })
            .collect();
        let at = session
            .recoveries
            .iter()
            .position(|recovery| recovery.collects_on(lane_id))
            .unwrap_or_else(|| {
                let pieces = pieces.into_iter().map(|(piece, _)| piece).collect();
                session.recoveries.push(Recovery {
                    key: lane.key,
                    state: State::Collecting(lane_id),
                    pieces,
                    deadline,
                    attempts: 0,
                });
                session.recoveries.len() - 1
            });
        if let Some(recovery) = session.recoveries.get_mut(at) {
            let unknown = recovery.lane_lost(sent, excuse);
            self.counters.outcomes_unknown += unknown;
        }
        self.resolve(id, Some(at), now);
    }

    /// Nothing of this recovery is pending: answers what can be answered, and plans the rest.
    fn resolve(&mut self, id: SessionId, at: Option<usize>, now: Tick) {
        let wait = self.settings.retry_wait;
        let Some(session) = self.session(id) else {
            return;
        };
        let Some(at) = at.filter(|at| *at < session.recoveries.len()) else {
            return;
        };
        let mut recovery = session.recoveries.swap_remove(at);
        let next = recovery.resolve(now);
        if next == Next::Wait {
            recovery.attempts += 1;
        }
        while let Some((piece, answer)) = recovery.pop_answered() {
            self.answer_piece(id, &recovery, &piece, &answer, now);
        }
        let Some(session) = self.sessions.find_mut(id.index, id.generation) else {
            return;
        };
        if recovery.pieces.is_empty() {
            self.progressed(id);
            return;
        }
        let doublings = recovery.attempts.saturating_sub(1).min(DOUBLINGS_MAX);
        recovery.state = State::Waiting(if next == Next::Wait {
            now.after(wait * 2_u32.pow(doublings))
        } else {
            now
        });
        session.recoveries.push(recovery);
        if !session.retry_listed {
            session.retry_listed = true;
            self.retrying.push(id);
        }
        self.deadlines_moved();
        self.progressed(id);
        self.retry_session(id, now);
    }

    fn answer_piece(
        &mut self,
        id: SessionId,
        recovery: &Recovery,
        piece: &Piece,
        answer: &[u8],
        now: Tick,
    ) {
        if let Some(shard) = self.shard_mut(recovery.key.pool, recovery.key.shard) {
            let waited = now.since(piece.since);
            shard.counters.latency[piece.class as usize].record(waited, 1);
            shard.gate.longest_gap_us = shard.gate.longest_gap_us.max(waited);
            shard.counters.errors += u64::from(answer.first() == Some(&b'-'));
        }
        let Some(session) = self.sessions.find_mut(id.index, id.generation) else {
            return;
        };
        if session.out.capacity() == 0 {
            session.out = self.spare.pop().unwrap_or_default();
        }
        match piece.part {
            Some(part) => session.deliver_part(piece.run, part, answer),
            None => session.deliver(piece.run, answer, 1),
        }
    }

    /// Recoveries whose time has come, where the gate allows.
    pub(super) fn check_retries(&mut self, now: Tick) {
        let mut listed = std::mem::take(&mut self.retrying);
        for id in listed.drain(..) {
            if let Some(session) = self.session(id) {
                session.retry_listed = false;
                self.retry_session(id, now);
            }
            if let Some(session) = self.sessions.find_mut(id.index, id.generation)
                && !session.retry_listed
                && session
                    .recoveries
                    .iter()
                    .any(|recovery| recovery.waits_until().is_some())
            {
                session.retry_listed = true;
                self.retrying.push(id);
            }
        }
    }

    pub(super) fn retry_deadlines(&self) -> impl Iterator<Item = Tick> {
        let recoveries = self
            .retrying
            .iter()
            .filter_map(|id| self.sessions.find(id.index, id.generation))
            .flat_map(|it| &it.recoveries);
        recoveries
            .filter(|recovery| self.gate_is_open(recovery.key.pool, recovery.key.shard))
            .filter_map(Recovery::waits_until)
    }

    /// Sessions that wait to send again to this shard.
    pub(super) fn retries_held(&self, pool: PoolIndex, shard: ShardIndex) -> usize {
        let waits = |it: &&Recovery| {
            it.key.pool == pool && it.key.shard == shard && it.waits_until().is_some()
        };
        let sessions = self
            .retrying
            .iter()
            .filter_map(|id| self.sessions.find(id.index, id.generation));
        sessions
            .filter(|session| session.recoveries.iter().any(|it| waits(&it)))
            .count()
    }

    /// A gate opened: what waits for that shard goes at once, with all its time before it.
    pub(super) fn retry_shard(&mut self, pool: PoolIndex, shard: ShardIndex, now: Tick) {
        self.deadlines_moved();
        let deadline = now.after(self.settings.retry_max);
        for id in &self.retrying {
            let Some(session) = self.sessions.find_mut(id.index, id.generation) else {
                continue;
            };
            for recovery in &mut session.recoveries {
                if recovery.key.pool == pool
                    && recovery.key.shard == shard
                    && recovery.waits_until().is_some()
                {
                    recovery.state = State::Waiting(now);
                    recovery.deadline = deadline;
                    recovery.attempts = 0;
                }
            }
        }
        self.check_retries(now);
    }

    fn retry_session(&mut self, id: SessionId, now: Tick) {
        let mut at = 0;
        while let Some(recovery) = self
            .sessions
            .find(id.index, id.generation)
            .and_then(|session| session.recoveries.get(at))
        {
            let (key, due) = (
                recovery.key,
                recovery.waits_until().is_some_and(|until| until <= now),
            );
            let waiting = recovery.waits_until().is_some();
            let gate = self
                .pools
                .get(usize::from(key.pool.0))
                .and_then(|pool| pool.shards.get(usize::from(key.shard.0)))
                .map(|it| &it.gate);
            let (open, hopeless) = match gate {
                None => (false, Some(texts::NOT_EXECUTED_REMOVED)),
                Some(gate) => (
                    gate.is_open(),
                    gate.expired.then_some(texts::NOT_EXECUTED_HELD),
                ),
            };
            if waiting && let Some(answer) = hopeless {
                self.give_up(id, at, answer, now);
            } else if due && open {
                self.send_again(id, at, now);
                at += 1;
            } else {
                at += 1;
            }
        }
    }

    /// Answers everything of a recovery that waits.
    pub(super) fn give_up(&mut self, id: SessionId, at: usize, answer: &[u8], now: Tick) {
        let Some(session) = self.session(id) else {
            return;
        };
        if at >= session.recoveries.len() {
            return;
        }
        let mut recovery = session.recoveries.swap_remove(at);
        recovery.give_up(answer);
        if let Some(shard) = self.shard_mut(recovery.key.pool, recovery.key.shard) {
            shard.counters.not_executed += recovery.pieces.len() as u64;
        }
        while let Some((piece, answer)) = recovery.pop_answered() {
            self.answer_piece(id, &recovery, &piece, &answer, now);
        }
        self.progressed(id);
    }

    /// Sends what is unsent, in order, to the shard's present backend.
    fn send_again(&mut self, id: SessionId, at: usize, now: Tick) {
        let Some(key) = self
            .session(id)
            .and_then(|session| session.recoveries.get(at))
            .map(|recovery| recovery.key)
        else {
            return;
        };
        let Some(lane) = self.lane_of(key, now) else {
            return;
        };
        let Some(session) = self.sessions.find_mut(id.index, id.generation) else {
            return;
        };
        let Some(recovery) = session.recoveries.get_mut(at) else {
            return;
        };
        recovery.state = State::Collecting(lane);
        let mut sends = Vec::new();
        for piece in &mut recovery.pieces {
            if !matches!(piece.outcome, Outcome::Unsent(_)) {
                continue;
            }
            piece.outcome = Outcome::Pending;
            piece.left = piece.replies;
            piece.refused_inside = false;
            let expect = match piece.part {
                Some(part) => Expect::Part(part),
                None if piece.replies > 1 => Expect::Unit { refused: false },
                None => Expect::Plain,
            };
            let entry = InFlight {
                session: id,
                run: piece.run,
                expect,
                answered: 0,
                left: piece.replies,
                start: 0,
                end: 0,
                since: piece.since,
                class: piece.class,
            };
            sends.push((piece.frame.clone(), entry));
        }
        self.counters.commands_resent += sends.len() as u64;
        for (frame, entry) in sends {
            self.send(lane, &frame, entry, 1, now);
        }
    }

    /// Counts a lost lane, spaces out dialling, and words the answer for what could not be sent.
    fn count_loss(&mut self, lane: &Lane, why: &LaneLoss, now: Tick) -> Vec<u8> {
        self.counters.lanes_closed += 1;
        let jitter = u64::from(self.next_random());
        let wait = self.settings.retry_wait;
        let words = match why {
            LaneLoss::ConnectFailed(text) => {
                self.counters.dials_failed += 1;
                if let Some(shard) = self.shard_mut(lane.key.pool, lane.key.shard) {
                    let doublings = shard.dial_failures.min(DOUBLINGS_MAX);
                    shard.dial_failures += 1;
                    let wait = wait * 2_u32.pow(doublings);
                    let quarter = (wait.as_micros() as u64 / 4).max(1);
                    shard.dial_after = Tick(now.after(wait).0 + jitter % quarter);
                }
                text.as_str()
            }
            LaneLoss::Closed(text) => text.as_str(),
            LaneLoss::TimedOut => "it did not answer in time",
        };
        let mut excuse = Vec::new();
        encode::error(
            &mut excuse,
            &format!("ERR not executed: the backend is unavailable: {words}"),
        );
        excuse
    }

    /// Lanes whose time has come: to be dialled, to be given up, to be closed because nobody needs them.
    pub(super) fn check_lanes(&mut self, now: Tick) {
        let is_due = |lane: &Lane| self.lane_deadline(lane).is_some_and(|at| at <= now);
        let due: Vec<LaneId> = self
            .shared_lanes
            .iter()
            .filter(|id| self.lanes.find(id.index, id.generation).is_some_and(is_due))
            .copied()
            .collect();
        for id in due {
            // One that was given up may have handed its commands to another.
            let lane = self.lanes.find(id.index, id.generation);
            let Some(lane) =
                lane.filter(|lane| self.lane_deadline(lane).is_some_and(|at| at <= now))
            else {
                continue;
            };
            let key = lane.key;
            if matches!(lane.state, LaneState::Delayed(_)) {
                if let Some(url) = self
                    .shard_mut(key.pool, key.shard)
                    .map(|shard| shard.gate.url.clone())
                {
                    self.dial(id, url);
                }
            } else if lane.in_flight.is_empty() {
                self.close_lane(id);
            } else if lane.paused {
                self.lose_patience(id, now);
            } else {
                self.dirty.close_lanes.push(id);
                self.lose_lane(id, &LaneLoss::TimedOut, now);
            }
        }
    }

    pub(super) fn lane_deadline(&self, lane: &Lane) -> Option<Tick> {
        match lane.state {
            LaneState::Delayed(after) => Some(after),
            LaneState::Dialing => None,
            LaneState::Open if lane.in_flight.is_empty() => {
                Some(lane.active.after(self.settings.lane_idle_max))
            }
            // It waits for a client to take its replies.
            LaneState::Open if lane.paused => self.patience_ends(lane),
            LaneState::Open => self
                .routes
                .pool(lane.key.pool)?
                .timeout
                .map(|timeout| lane.progress.after(timeout)),
        }
    }

    /// Closes a lane that nobody waits for.
    pub(super) fn close_lane(&mut self, id: LaneId) {
        if let Some(lane) = self.remove_lane(id) {
            debug_assert!(
                lane.in_flight.is_empty(),
                "a lane is closed when it is empty"
            );
            self.counters.lanes_closed += 1;
            self.dirty.close_lanes.push(id);
            for waiter in lane.waiters {
                self.wake(waiter);
            }
        }
    }

    pub(super) fn remove_lane(&mut self, id: LaneId) -> Option<Lane> {
        let lane = self.lanes.remove(id.index, id.generation)?;
        if lane.owner.is_none() || lane.retired {
            self.shared_lanes.retain(|other| *other != id);
        }
        if let Some(shard) = self.shard_mut(lane.key.pool, lane.key.shard) {
            shard.lanes.retain(|other| *other != id);
            shard.old_lanes.retain(|other| *other != id);
            shard.spare_lanes.retain(|other| *other != id);
        }
        Some(lane)
    }

    pub(super) fn gate_is_open(&self, pool: PoolIndex, shard: ShardIndex) -> bool {
        self.pools
            .get(usize::from(pool.0))
            .and_then(|pool| pool.shards.get(usize::from(shard.0)))
            .is_some_and(|shard| shard.gate.is_open())
    }

    pub(super) fn healed(&self, pool: PoolIndex, frame: &[u8]) -> Option<Vec<u8>> {
        healed(&self.pools, pool, frame)
    }
}

/// EVAL with the body in place of EVALSHA with its digest, if the body is known.
fn healed(pools: &[super::Pool], pool: PoolIndex, frame: &[u8]) -> Option<Vec<u8>> {
    let mut scanner = RequestScanner::new();
    scanner.scan(frame, &ScanLimits::default()).ok()?;
    let args = FrameArgs {
        frame,
        ranges: scanner.args(),
    };
    let name: &[u8] = match command::resolve(args).ok()?.name {
        "evalsha" => b"EVAL",
        "evalsha_ro" => b"EVAL_RO",
        _ => return None,
    };
    let body = pools
        .get(usize::from(pool.0))?
        .scripts
        .body(args.slice(1))?;
    let mut words = vec![name, body];
    words.extend((2..scanner.args().len()).map(|at| args.slice(at)));
    let mut out = Vec::new();
    encode::command(&mut out, &words);
    Some(out)
}

/// A session's unanswered commands on a lane, in order, each with the place of its end in the lane's stream.
fn pieces_of(lane: &Lane, session: SessionId) -> Vec<(Piece, u64)> {
    let mut pieces = Vec::new();
    for entry in lane
        .in_flight
        .iter()
        .filter(|entry| entry.session == session && !entry.expect.is_ours())
    {
        let bytes = lane.bytes(entry);
        let part = match entry.expect {
            Expect::Part(part) => Some(part),
            Expect::Plain
            | Expect::Unit { .. }
            | Expect::Own
            | Expect::Unblock
            | Expect::Unwatch => None,
        };
        let piece =
            |frame: &[u8], replies: u32, left: u32, refused_inside: bool, effect: Effect| Piece {
                run: entry.run,
                part,
                frame: frame.to_vec(),
                replies,
                left,
                refused_inside,
                effect,
                class: entry.class,
                since: entry.since,
                ran: false,
                outcome: Outcome::Pending,
            };
        if let Expect::Unit { refused } = entry.expect {
            let frame = bytes.unwrap_or_default();
            pieces.push((
                piece(
                    frame,
                    entry.answered + entry.left,
                    entry.left,
                    refused,
                    Effect::Write,
                ),
                entry.end,
            ));
            continue;
        }
        let Some(bytes) = bytes else {
            // They had to be let go, so they were written; nobody can tell any more what they were.
            pieces.extend(
                (0..entry.left).map(|_| (piece(&[], 1, 1, false, Effect::Write), entry.start)),
            );
            continue;
        };
        let mut at = 0;
        for (number, (frame, effect)) in commands_of(bytes).into_iter().enumerate() {
            at += frame.len() as u64;
            if number >= entry.answered as usize {
                pieces.push((piece(frame, 1, 1, false, effect), entry.start + at));
            }
        }
    }
    pieces
}

/// The commands in bytes that we composed ourselves, and what they may do.
fn commands_of(bytes: &[u8]) -> Vec<(&[u8], Effect)> {
    frames_of(bytes, effect_of)
}

/// The names of the commands in bytes that we composed ourselves, as far as the table knows them.
pub(super) fn command_names(bytes: &[u8]) -> Vec<Option<&'static str>> {
    let name = |args: FrameArgs<'_>| Some(command::lookup(args.arg(0))?.name);
    let frames = frames_of(bytes, name);
    frames.into_iter().map(|(_, name)| name).collect()
}

/// The commands in bytes that we composed ourselves, and something about each.
fn frames_of<T>(bytes: &[u8], about: impl Fn(FrameArgs<'_>) -> T) -> Vec<(&[u8], T)> {
    let (mut at, mut found, mut scanner) = (0, Vec::new(), RequestScanner::new());
    // What the limits of clients' commands are was decided when they came.
    let limits = ScanLimits {
        args_max: u32::MAX,
        bulk_max: u64::MAX,
        frame_max: u64::MAX,
        ..ScanLimits::default()
    };
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Ok(Scan::Complete { len }) = scanner.scan(rest, &limits) else {
            debug_assert!(false, "a lane holds whole commands only");
            break;
        };
        let frame = rest.get(..len).unwrap_or_default();
        found.push((
            frame,
            about(FrameArgs {
                frame,
                ranges: scanner.args(),
            }),
        ));
        at += len;
    }
    found
}

/// What a whole command may do.
pub(super) fn effect_of_frame(frame: &[u8]) -> Effect {
    commands_of(frame)
        .first()
        .map_or(Effect::Write, |(_, effect)| *effect)
}

fn effect_of(args: FrameArgs<'_>) -> Effect {
    match command::resolve(args) {
        Ok(spec) if command::is_readonly(spec) => Effect::Read,
        Ok(spec) if spec.class == Class::Keyless => Effect::Script,
        Ok(spec) if spec.class == Class::FirstShard && !command::is_write(spec) => Effect::Read,
        Ok(_) | Err(_) => Effect::Write,
    }
}
