//! One client's session: what it has said, and its replies in the order of its commands.
//!
//! ```text
//!  runs   [ lane A: 3 of 16 to come ] [ local "+PONG" ] [ lane B: 0 to come, kept ] …
//!          ^ head writes to `out`      wait for the head
//! ```
//!
//! A run is pushed before its command is sent. Runs are numbered; a number is never given twice in a session, so a reply
//! finds its run or nothing.

use std::collections::VecDeque;

use understudy_resp::Protocol;
use understudy_resp::command::CommandSpec;
use understudy_resp::scan::RequestScanner;

use super::dirty::CloseReason;
use super::ids::{LaneId, Tick};
use super::pinned::Pinned;
use super::recovery::Recovery;
use super::run::{Run, RunKind};
use super::transaction::Transaction;
use crate::route::{PoolIndex, ShardIndex};

/// Why a session's next command is not taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is.
    #[default]
    No,
    /// The gate of this shard is closed: it stands in that gate's queue.
    Gate(ShardIndex),
    /// It changed db or protocol, or the routes changed: its next command goes by another lane, so all replies must be in.
    Drain,
    /// Commands of it wait to be sent again; what is behind them waits too.
    Retry,
    /// The lane has too much queued.
    Lane,
    /// It does not take its replies.
    Output,
    /// It waits for too many replies.
    Commands,
    /// A command on its own lane is not answered.
    Errand,
    /// A huge command of it is not complete: what it sends belongs to that.
    Upload,
}

impl Stop {
    /// The word in PROXY SESSIONS.
    pub(super) fn name(self) -> &'static str {
        match self {
            Stop::No => "-",
            Stop::Gate(_) => "gate",
            Stop::Drain => "drain",
            Stop::Retry => "retry",
            Stop::Lane => "lane",
            Stop::Output => "output",
            Stop::Commands => "commands",
            Stop::Errand => "own lane",
            Stop::Upload => "upload",
        }
    }
}

/// The last command's name and what the table says: pipelines repeat themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remembered {
    pub(super) name: [u8; 16],
    pub(super) length: u8,
    pub(super) spec: &'static CommandSpec,
    pub(super) fast: Option<super::admit::Fast>,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) pool: PoolIndex,
    pub(super) peer: String,
    pub(super) client_id: u64,
    pub(super) opened: Tick,
    pub(super) active: Tick,
    pub(super) protocol: Protocol,
    pub(super) db: u32,
    /// Who logged in; `None` where a pool asks for it and it has not happened.
    pub(super) user: Option<String>,
    pub(super) name: Vec<u8>,
    pub(super) library: Vec<u8>,
    pub(super) library_version: Vec<u8>,
    pub(super) commands: u64,

    /// What it sent and was not taken: an incomplete frame, or everything from a command that waits.
    pub(super) input: Vec<u8>,
    /// Where the scan of an incomplete frame stopped.
    pub(super) scanner: Option<RequestScanner>,
    pub(super) stop: Stop,
    /// In the list of sessions that go on.
    pub(super) ready: bool,
    /// When its held command began to wait.
    pub(super) waits_since: Option<Tick>,
    /// The shell was told to read no more.
    pub(super) paused: bool,
    pub(super) read_closed: bool,
    /// No more input is taken; when set and listed, the shell closes it after its output.
    pub(super) closing: Option<CloseReason>,
    pub(super) close_listed: bool,

    pub(super) runs: VecDeque<Run>,
    /// Number of the first run.
    pub(super) head: u64,
    /// Replies from backends that its runs wait for.
    pub(super) waiting: usize,
    /// Bytes kept in runs behind the head.
    pub(super) stashed: usize,
    pub(super) out: Vec<u8>,
    pub(super) written: usize,
    /// In the list of sessions to write.
    pub(super) listed: bool,
    /// Lanes that are not read until it has taken more of its replies.
    pub(super) held_back: Vec<LaneId>,

    pub(super) transaction: Option<Box<Transaction>>,
    pub(super) pinned: Option<Box<Pinned>>,
    pub(super) recoveries: Vec<Recovery>,
    /// In the list of sessions whose recoveries wait.
    pub(super) retry_listed: bool,
    pub(super) remembered: Option<Remembered>,
    /// The worker's stamp when the session last chose lanes; another one makes it drain first.
    pub(super) stamp: u32,
}

impl Session {
    pub(super) fn new(
        pool: PoolIndex,
        peer: String,
        client_id: u64,
        user: Option<String>,
        now: Tick,
    ) -> Session {
        Session {
            pool,
            peer,
            client_id,
            opened: now,
            active: now,
            protocol: Protocol::Resp2,
            db: 0,
            user,
            name: Vec::new(),
            library: Vec::new(),
            library_version: Vec::new(),
            commands: 0,
            input: Vec::new(),
            scanner: None,
            stop: Stop::No,
            ready: false,
            waits_since: None,
            paused: false,
            read_closed: false,
            closing: None,
            close_listed: false,
            runs: VecDeque::new(),
            head: 0,
            waiting: 0,
            stashed: 0,
            out: Vec::new(),
            written: 0,
            listed: false,
            held_back: Vec::new(),
            transaction: None,
            pinned: None,
            recoveries: Vec::new(),
            retry_listed: false,
            remembered: None,
            stamp: 0,
        }
    }

    /// Keys are watched on its own lane, which speaks one protocol and has one db selected.
    pub(super) fn watches(&self) -> bool {
        self.pinned.as_ref().is_some_and(|it| it.watch.is_some())
    }

    /// Bytes that the client has not taken.
    pub(super) fn unwritten(&self) -> &[u8] {
        self.out.get(self.written..).unwrap_or_default()
    }

    /// Bytes of replies that are kept for the client.
    pub(super) fn kept(&self) -> usize {
        self.unwritten().len() + self.stashed
    }

    /// Queues a run; gives its number.
    pub(super) fn push(&mut self, run: Run) -> u64 {
        let number = self.head + self.runs.len() as u64;
        self.waiting += run.left as usize;
        self.runs.push_back(run);
        number
    }

    /// An answer of the proxy itself, in its place among the others.
    pub(super) fn reply(&mut self, reply: &[u8]) {
        match self.runs.back_mut() {
            None => self.out.extend_from_slice(reply),
            Some(Run {
                kind: RunKind::Local,
                stash,
                ..
            }) => {
                stash.extend_from_slice(reply);
                self.stashed += reply.len();
            }
            Some(_) => {
                self.stashed += reply.len();
                self.push(Run::local(reply));
            }
        }
    }

    /// Whole replies for a run on one lane.
    pub(super) fn deliver(&mut self, run: u64, replies: &[u8], count: u32) {
        let is_head = run == self.head;
        let Some(entry) = self.run_mut(run) else {
            debug_assert!(false, "a reply for a run that is not there");
            return;
        };
        debug_assert!(
            entry.left >= count && matches!(entry.kind, RunKind::Lane),
            "more replies than commands"
        );
        entry.left = entry.left.saturating_sub(count);
        if !is_head {
            entry.stash.extend_from_slice(replies);
            self.stashed += replies.len();
            self.waiting = self.waiting.saturating_sub(count as usize);
            return;
        }
        let done = entry.left == 0;
        self.waiting = self.waiting.saturating_sub(count as usize);
        self.out.extend_from_slice(replies);
        if done {
            self.leave();
        }
    }

    /// A piece of the next reply for a run on one lane, which is not its last.
    pub(super) fn deliver_some(&mut self, run: u64, bytes: &[u8]) {
        let is_head = run == self.head;
        let Some(entry) = self.run_mut(run) else {
            debug_assert!(false, "a piece for a run that is not there");
            return;
        };
        if is_head {
            self.out.extend_from_slice(bytes);
        } else {
            entry.stash.extend_from_slice(bytes);
            self.stashed += bytes.len();
        }
    }

    /// Takes back the last pieces of a reply that will not end. `false`: the client has them.
    pub(super) fn forget_some(&mut self, run: u64, bytes: usize) -> bool {
        if run == self.head {
            return false;
        }
        let Some(entry) = self.run_mut(run) else {
            return false;
        };
        let kept = entry.stash.len().saturating_sub(bytes);
        entry.stash.truncate(kept);
        self.stashed = self.stashed.saturating_sub(bytes);
        true
    }

    /// The whole reply of one part of a gather.
    pub(super) fn deliver_part(&mut self, run: u64, part: u16, reply: &[u8]) {
        let is_head = run == self.head;
        let Some(entry) = self.run_mut(run) else {
            debug_assert!(false, "a part for a run that is not there");
            return;
        };
        debug_assert!(entry.left >= 1, "more parts than were sent");
        entry.left = entry.left.saturating_sub(1);
        let done = entry.left == 0;
        let (mut added, mut removed) = (0, 0);
        if let RunKind::Gather(gather) = &mut entry.kind {
            added = gather.take(part, reply);
            if done {
                removed = gather.bytes();
                gather.finish(&mut entry.stash);
                added += entry.stash.len();
                entry.kind = RunKind::Local;
            }
        }
        self.waiting = self.waiting.saturating_sub(1);
        self.stashed = (self.stashed + added).saturating_sub(removed);
        if done && is_head {
            self.leave_if_done();
        }
    }

    /// The head is done: it leaves, and what was kept behind it follows as far as it is complete.
    fn leave(&mut self) {
        self.runs.pop_front();
        self.head += 1;
        self.leave_if_done();
    }

    fn leave_if_done(&mut self) {
        while let Some(run) = self.runs.front_mut() {
            self.stashed = self.stashed.saturating_sub(run.stash.len());
            self.out.append(&mut run.stash);
            if run.left > 0 {
                return;
            }
            self.runs.pop_front();
            self.head += 1;
        }
    }

    fn run_mut(&mut self, run: u64) -> Option<&mut Run> {
        let index = usize::try_from(run.checked_sub(self.head)?).ok()?;
        self.runs.get_mut(index)
    }
}
