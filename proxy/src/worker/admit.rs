//! Takes a client's bytes in: frame by frame, until one has to wait.
//!
//! Consecutive commands for one lane become a batch: their bytes lie side by side in what the client sent, so they are
//! copied once, as one run with one entry. The gate is asked when a batch begins; nothing can move it before the batch
//! is flushed, because both happen in one call.

use understudy_resp::args::{Args, FrameArgs};
use understudy_resp::command::{self, Class, CommandSpec, Flags, RefuseReason, ResolveError};
use understudy_resp::encode;
use understudy_resp::scan::{ProtocolError, RequestScanner, Scan};

use super::bulk::Huge;
use super::counters::LatencyClass;
use super::dirty::CloseReason;
use super::ids::{LaneId, SessionId, Tick};
use super::lane::{Expect, InFlight, LaneKey};
use super::run::Run;
use super::session::{Remembered, Session, Stop};
use super::{Worker, texts};
use crate::route::{PoolIndex, ShardIndex};

/// A command that is forwarded by one key at a fixed place: the way most commands go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fast {
    key: usize,
    class: LatencyClass,
}

/// One walk over bytes that a session sent.
pub(super) struct Pass<'d> {
    pub(super) id: SessionId,
    pub(super) pool: PoolIndex,
    pub(super) shards: usize,
    pub(super) now: Tick,
    /// When the commands of this pass arrived.
    pub(super) since: Tick,
    pub(super) data: &'d [u8],
    batch: Option<Batch>,
}

/// Commands that lie side by side in the pass's data and go to the same lane.
struct Batch {
    lane: LaneId,
    shard: ShardIndex,
    start: usize,
    end: usize,
    commands: u32,
    class: LatencyClass,
}

/// One command as it lies in the pass's data.
#[derive(Clone, Copy)]
pub(super) struct Command<'d> {
    pub(super) args: FrameArgs<'d>,
    pub(super) at: usize,
    pub(super) len: usize,
}

/// What became of a command.
pub(super) enum Admitted {
    /// Taken: sent, queued or answered.
    Next,
    /// Not taken; it is scanned again when the session goes on.
    Stop(Stop),
    /// Taken, and nothing behind it is before it is answered: it went to the session's own lane.
    Errand,
    /// Taken, and the session ends with it.
    Close(CloseReason),
}

/// Whether a command may go to a shard now.
pub(super) enum Entry {
    Lane(LaneId),
    Stop(Stop),
    /// The gate waited too long: the command is answered `not executed`.
    Expired,
}

impl Session {
    /// Its commands need no second look: logged in, no open transaction.
    fn is_plain(&self) -> bool {
        self.user.is_some() && self.transaction.is_none()
    }
}

impl Remembered {
    fn new(name: &[u8], spec: &'static CommandSpec) -> Option<Remembered> {
        let mut kept = [0; 16];
        kept.get_mut(..name.len())?.copy_from_slice(name);
        let fast = match (spec.class, spec.single_key()) {
            (Class::Forward, Some(key))
                if !spec.flags.contains(Flags::BLOCKING)
                    && !matches!(spec.name, "sort" | "sort_ro") =>
            {
                Some(Fast {
                    key,
                    class: latency_class(spec),
                })
            }
            _ => None,
        };
        Some(Remembered {
            name: kept,
            length: name.len() as u8,
            spec,
            fast,
        })
    }

    fn is(&self, name: &[u8]) -> bool {
        self.name.get(..usize::from(self.length)) == Some(name)
    }
}

pub(super) fn latency_class(spec: &CommandSpec) -> LatencyClass {
    if spec.class == Class::Keyless {
        LatencyClass::Script
    } else if command::is_readonly(spec) {
        LatencyClass::Read
    } else {
        LatencyClass::Write
    }
}

impl Worker {
    /// Takes commands until the bytes end or one has to wait; says how many bytes were taken. Where it stopped and why is in
    /// the session.
    pub(super) fn process(&mut self, id: SessionId, data: &[u8], now: Tick) -> usize {
        let output_pause = self.settings.session_output_pause;
        let Some(session) = self.sessions.find_mut(id.index, id.generation) else {
            return data.len();
        };
        if session.closing.is_some() {
            return data.len();
        }
        if !session.recoveries.is_empty() {
            session.stop = Stop::Retry;
            return 0;
        }
        let pool = session.pool;
        let since = session.waits_since.take().unwrap_or(now);
        let mut scanner = session
            .scanner
            .take()
            .or_else(|| self.scanners.pop())
            .unwrap_or_default();
        let mut pass = Pass {
            id,
            pool,
            shards: self.shard_count(pool),
            now,
            since,
            data,
            batch: None,
        };
        let mut at = 0;
        let mut commands = 0;
        let mut stop = Stop::No;
        let mut incomplete = false;
        let mut closing = None;
        while let Some(rest) = data.get(at..).filter(|rest| !rest.is_empty()) {
            match scanner.scan(rest, &self.scan) {
                Ok(Scan::Complete { len }) => match self.admit(&mut pass, &scanner, at, len) {
                    Admitted::Next => {
                        at += len;
                        commands += 1;
                    }
                    Admitted::Stop(why) => {
                        stop = why;
                        break;
                    }
                    Admitted::Errand => {
                        at += len;
                        commands += 1;
                        stop = Stop::Errand;
                        break;
                    }
                    Admitted::Close(reason) => {
                        closing = Some(reason);
                        break;
                    }
                },
                Ok(Scan::Incomplete { need }) if need <= self.settings.bulk_threshold => {
                    incomplete = true;
                    break;
                }
                Ok(Scan::Incomplete { need }) => {
                    match self.admit_huge(&mut pass, &scanner, at, need) {
                        Huge::Keep => incomplete = true,
                        Huge::TooLarge => closing = Some(self.refuse_frame(&mut pass)),
                        Huge::Stop(why) => stop = why,
                        Huge::Taken => {
                            at = data.len();
                            commands += 1;
                            stop = Stop::Upload;
                        }
                    }
                    break;
                }
                Err(ProtocolError::FrameTooBig) => {
                    closing = Some(self.refuse_frame(&mut pass));
                    break;
                }
                Err(error) => {
                    self.flush(&mut pass);
                    self.answer_error(id, &format!("ERR Protocol error: {error}"));
                    closing = Some(CloseReason::Protocol);
                    break;
                }
            }
            // Only answers of our own add to the output within a pass, and they flush the batch.
            if pass.batch.is_none()
                && self
                    .sessions
                    .find(id.index, id.generation)
                    .is_some_and(|session| session.kept() > output_pause)
            {
                stop = Stop::Output;
                break;
            }
        }
        self.flush(&mut pass);
        let kept = if incomplete {
            Some(scanner)
        } else {
            self.keep_and_forget(scanner)
        };
        let Some(session) = self.session(id) else {
            return data.len();
        };
        session.scanner = kept;
        session.stop = stop;
        session.commands += commands;
        // A client that does not take its replies waits for itself: no gap of the shard's.
        if !matches!(stop, Stop::No | Stop::Output | Stop::Errand) {
            session.waits_since = Some(since);
        }
        if closing.is_some() {
            session.closing = closing;
            return data.len();
        }
        at
    }

    #[cold]
    #[inline(never)]
    fn refuse_frame(&mut self, pass: &mut Pass<'_>) -> CloseReason {
        self.flush(pass);
        let text = format!(
            "ERR Protocol error: a request may have {} bytes",
            self.settings.scan.frame_max
        );
        self.answer_error(pass.id, &text);
        CloseReason::FrameTooLarge
    }

    fn keep_and_forget(&mut self, scanner: RequestScanner) -> Option<RequestScanner> {
        self.keep_scanner(scanner);
        None
    }

    fn admit(
        &mut self,
        pass: &mut Pass<'_>,
        scanner: &RequestScanner,
        at: usize,
        len: usize,
    ) -> Admitted {
        if scanner.is_inline() {
            return self.admit_inline(pass, scanner.inline_args());
        }
        let data = pass.data;
        let args = FrameArgs {
            frame: data.get(at..at + len).unwrap_or_default(),
            ranges: scanner.args(),
        };
        if args.count() == 0 {
            return Admitted::Next;
        }
        let Some(session) = self.sessions.find(pass.id.index, pass.id.generation) else {
            return Admitted::Next;
        };
        if let Some(remembered) = &session.remembered
            && let Some(fast) = remembered.fast
            && remembered.is(args.slice(0))
            && session.is_plain()
            && remembered.spec.accepts(args.count())
        {
            let shard = self.shard_of(pass, args.slice(fast.key));
            return self.forward(pass, shard, fast.class, at, len);
        }
        self.admit_slowly(pass, Command { args, at, len })
    }

    /// An inline command is written as a multibulk frame and goes the same way.
    fn admit_inline(&mut self, pass: &mut Pass<'_>, args: &[Vec<u8>]) -> Admitted {
        if args.is_empty() {
            return Admitted::Next;
        }
        self.flush(pass);
        let mut frame = Vec::new();
        encode::command(&mut frame, args);
        let mut scanner = RequestScanner::new();
        let Ok(Scan::Complete { len }) = scanner.scan(&frame, &self.settings.scan) else {
            return Admitted::Close(CloseReason::Protocol);
        };
        let mut inner = Pass {
            data: &frame,
            batch: None,
            ..*pass
        };
        let command = Command {
            args: FrameArgs {
                frame: &frame,
                ranges: scanner.args(),
            },
            at: 0,
            len,
        };
        let admitted = self.admit_slowly(&mut inner, command);
        self.flush(&mut inner);
        admitted
    }

    fn admit_slowly(&mut self, pass: &mut Pass<'_>, it: Command<'_>) -> Admitted {
        let args = it.args;
        let spec = match command::resolve(args) {
            Ok(spec) => spec,
            Err(ResolveError::WrongArity(spec)) if spec.name == "exec" => {
                return self.abort_exec(pass);
            }
            Err(error) => return self.refuse(pass, &error.error_text(args)),
        };
        let Some(session) = self.session(pass.id) else {
            return Admitted::Next;
        };
        if spec.subcommands.is_empty() && !spec.name.contains('|') {
            session.remembered = Remembered::new(args.slice(0), spec);
        }
        if session.user.is_none() && !matches!(spec.name, "auth" | "hello" | "quit" | "reset") {
            self.break_transaction(pass.id);
            return self.answer(pass, texts::NOAUTH);
        }
        let queueing = session.transaction.is_some();
        match spec.class {
            Class::Transaction(verb) => self.transact(pass, verb, spec, it),
            Class::Local(local) if !queueing || matches!(spec.name, "quit" | "reset") => {
                self.answer_here(pass, local, it)
            }
            _ if queueing => self.queue(pass, spec, it),
            Class::Local(local) => self.answer_here(pass, local, it),
            Class::Forward => self.forward_by_keys(pass, spec, it),
            Class::Block => self.block(pass, spec, it),
            Class::Keyless => {
                self.remember_script(pass.pool, spec, it.args);
                self.forward_by_keys(pass, spec, it)
            }
            Class::FirstShard => {
                self.forward(pass, ShardIndex(0), latency_class(spec), it.at, it.len)
            }
            Class::Split(split) => self.split(pass, spec, split, it),
            Class::Broadcast(broadcast) => self.broadcast(pass, spec, broadcast, it),
            Class::Refuse(reason) => {
                let close = reason == RefuseReason::CrossProtocol;
                let admitted = self.refuse(pass, &reason.error_text(&shown(spec)));
                if close {
                    Admitted::Close(CloseReason::Protocol)
                } else {
                    admitted
                }
            }
        }
    }

    fn forward_by_keys(
        &mut self,
        pass: &mut Pass<'_>,
        spec: &'static CommandSpec,
        it: Command<'_>,
    ) -> Admitted {
        if command::is_blocking(spec, it.args) {
            return self.block(pass, spec, it);
        }
        match self.shard_of_keys(pass, spec, it.args) {
            Ok(Some(shard)) => self.forward(pass, shard, latency_class(spec), it.at, it.len),
            Ok(None) => self.refuse(pass, &no_keys(spec)),
            Err(text) => self.refuse(pass, &text),
        }
    }

    /// The one shard of a command's keys; `None` when it has no keys; otherwise the error's text.
    pub(super) fn shard_of_keys(
        &mut self,
        pass: &Pass<'_>,
        spec: &'static CommandSpec,
        args: FrameArgs<'_>,
    ) -> Result<Option<ShardIndex>, String> {
        if pass.shards == 1 {
            // Whatever its keys are, they lie there; and what is wrong with them, the server says best.
            return Ok(Some(ShardIndex(0)));
        }
        let mut keys = std::mem::take(&mut self.keys);
        let found = match command::keys(spec, args, &mut keys) {
            Err(error) => Err(format!("ERR {error}")),
            Ok(()) if command::reaches_unnamed_keys(spec, args) => Err(format!(
                "ERR understudy does not carry '{}' with patterns in a pool of several shards",
                shown(spec)
            )),
            Ok(()) => {
                let shard = keys
                    .first()
                    .map(|key| self.shard_of(pass, args.slice(*key)));
                let same = keys
                    .iter()
                    .skip(1)
                    .all(|key| Some(self.shard_of(pass, args.slice(*key))) == shard);
                if same {
                    Ok(shard)
                } else {
                    Err(texts::crossslot())
                }
            }
        };
        self.keys = keys;
        found
    }

    pub(super) fn shard_of(&mut self, pass: &Pass<'_>, key: &[u8]) -> ShardIndex {
        if pass.shards <= 1 {
            return ShardIndex(0);
        }
        let random = self.next_random();
        let found = self
            .routes
            .pool(pass.pool)
            .map_or(0, |pool| pool.ring.locate(key, random));
        ShardIndex(u16::try_from(found.min(pass.shards - 1)).unwrap_or(0))
    }

    /// Sends a command as it is, together with its neighbours if they go the same way.
    pub(super) fn forward(
        &mut self,
        pass: &mut Pass<'_>,
        shard: ShardIndex,
        class: LatencyClass,
        at: usize,
        len: usize,
    ) -> Admitted {
        if len > self.settings.bulk_threshold {
            return self.forward_whole(pass, shard, class, at, len);
        }
        if let Some(batch) = &mut pass.batch
            && batch.shard == shard
            && batch.end == at
            && (batch.commands as usize) < self.settings.session_commands_max
        {
            batch.end = at + len;
            batch.commands += 1;
            batch.class = batch.class.max(class);
            return Admitted::Next;
        }
        self.flush(pass);
        match self.entry(pass, shard) {
            Entry::Lane(lane) => {
                pass.batch = Some(Batch {
                    lane,
                    shard,
                    start: at,
                    end: at + len,
                    commands: 1,
                    class,
                });
                Admitted::Next
            }
            Entry::Stop(stop) => Admitted::Stop(stop),
            Entry::Expired => self.answer_held(pass, shard),
        }
    }

    /// Asks the gate, and everything else that can make a command wait.
    pub(super) fn entry(&mut self, pass: &Pass<'_>, shard: ShardIndex) -> Entry {
        let stamp = self.stamp;
        let Some(gate) = self.shard_mut(pass.pool, shard).map(|shard| &shard.gate) else {
            return Entry::Expired;
        };
        if !gate.is_open() {
            return if gate.expired {
                Entry::Expired
            } else {
                Entry::Stop(Stop::Gate(shard))
            };
        }
        let epoch = gate.epoch;
        let commands_max = self.settings.session_commands_max;
        let Some(session) = self.session(pass.id) else {
            return Entry::Expired;
        };
        if session.waiting >= commands_max {
            return Entry::Stop(Stop::Commands);
        }
        if session.stamp != stamp {
            if !session.runs.is_empty() {
                return Entry::Stop(Stop::Drain);
            }
            session.stamp = stamp;
        }
        let key = LaneKey {
            pool: pass.pool,
            shard,
            epoch,
            protocol: session.protocol,
            db: session.db,
        };
        let Some(id) = self.lane_of(key, pass.now) else {
            return Entry::Expired;
        };
        if let Some(lane) = self.lanes.find_mut(id.index, id.generation)
            && lane.queued() >= self.settings.lane_queue_max
        {
            lane.waiters.push(pass.id);
            return Entry::Stop(Stop::Lane);
        }
        Entry::Lane(id)
    }

    /// Sends the batch: the run first, then its bytes.
    pub(super) fn flush(&mut self, pass: &mut Pass<'_>) {
        let Some(batch) = pass.batch.take() else {
            return;
        };
        let Some(session) = self.sessions.find_mut(pass.id.index, pass.id.generation) else {
            return;
        };
        let run = session.push(Run::lane(batch.commands));
        let bytes = pass.data.get(batch.start..batch.end).unwrap_or_default();
        let entry = entry_for(pass, run, Expect::Plain, batch.commands, batch.class);
        self.send(
            batch.lane,
            bytes,
            entry,
            u64::from(batch.commands),
            pass.now,
        );
    }

    /// Puts bytes and their entry into a lane, and counts them.
    pub(super) fn send(
        &mut self,
        id: LaneId,
        bytes: &[u8],
        entry: InFlight,
        commands: u64,
        now: Tick,
    ) {
        let Some(lane) = self.lanes.find_mut(id.index, id.generation) else {
            debug_assert!(false, "a lane is looked up just before it is used");
            return;
        };
        lane.push(bytes, entry, now);
        let key = lane.key;
        if let Some(shard) = self.shard_mut(key.pool, key.shard) {
            shard.gate.in_flight += u64::from(entry.left);
            shard.counters.commands += commands;
        }
        self.list_lane(id);
    }

    /// Answers with these bytes, in the command's place.
    pub(super) fn answer(&mut self, pass: &mut Pass<'_>, reply: &[u8]) -> Admitted {
        self.flush(pass);
        self.answer_now(pass.id, reply);
        Admitted::Next
    }

    /// As `answer`, where nothing is batched.
    pub(super) fn answer_now(&mut self, id: SessionId, reply: &[u8]) {
        if let Some(session) = self.sessions.find_mut(id.index, id.generation) {
            if session.out.capacity() == 0 {
                session.out = self.spare.pop().unwrap_or_default();
            }
            session.reply(reply);
        }
    }

    fn answer_error(&mut self, id: SessionId, text: &str) {
        let mut reply = Vec::new();
        encode::error(&mut reply, text);
        self.answer_now(id, &reply);
    }

    /// Answers an error about the command itself. In a transaction it breaks it.
    pub(super) fn refuse(&mut self, pass: &mut Pass<'_>, text: &str) -> Admitted {
        self.flush(pass);
        self.counters.commands_refused += 1;
        self.break_transaction(pass.id);
        self.answer_error(pass.id, text);
        Admitted::Next
    }

    /// The gate is prepared or switched and has waited too long.
    pub(super) fn answer_held(&mut self, pass: &mut Pass<'_>, shard: ShardIndex) -> Admitted {
        if let Some(shard) = self.shard_mut(pass.pool, shard) {
            shard.counters.not_executed += 1;
            shard.counters.errors += 1;
        }
        self.answer(pass, texts::NOT_EXECUTED_HELD)
    }

    fn remember_script(&mut self, pool: PoolIndex, spec: &CommandSpec, args: FrameArgs<'_>) {
        if matches!(spec.name, "eval" | "eval_ro")
            && let Some(pool) = self.pools.get_mut(usize::from(pool.0))
        {
            pool.scripts.remember(
                args.slice(1),
                self.settings.scripts_max,
                self.settings.script_bytes_max,
            );
        }
    }
}

pub(super) fn entry_for(
    pass: &Pass<'_>,
    run: u64,
    expect: Expect,
    left: u32,
    class: LatencyClass,
) -> InFlight {
    InFlight {
        session: pass.id,
        run,
        expect,
        answered: 0,
        left,
        start: 0,
        end: 0,
        since: pass.since,
        class,
    }
}

/// A command's name as errors show it: `client setname`.
pub(super) fn shown(spec: &CommandSpec) -> String {
    spec.name.replace('|', " ")
}

pub(super) fn no_keys(spec: &CommandSpec) -> String {
    format!(
        "ERR understudy cannot route '{}' without keys in a pool of several shards",
        shown(spec)
    )
}
