//! A lane: one backend connection that sessions share, and the commands in flight on it.
//!
//! ```text
//!  out   [ answered | written, kept until answered | to write ]        by their place in the whole stream (`outbound.rs`)
//!                   ^ the first entry's start       ^ sent
//!  in flight   (session 4, run 17, 16 replies) → (session 9, run 3, 1 reply) → …
//! ```
//!
//! The backend answers in the order of `in_flight`; nothing else pairs replies with commands. An entry is pushed together
//! with its bytes. Written bytes stay until they are answered, so that a read, or a refused command, can be sent again.

use std::collections::VecDeque;

use understudy_resp::Protocol;
use understudy_resp::scan::ReplyScanner;

use super::counters::LatencyClass;
use super::flow::Passing;
use super::ids::{SessionId, Tick};
use super::outbound::Outbound;
use crate::route::{PoolIndex, ShardIndex};

/// What a lane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneKey {
    pub(super) pool: PoolIndex,
    pub(super) shard: ShardIndex,
    pub(super) epoch: u64,
    pub(super) protocol: Protocol,
    pub(super) db: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneState {
    /// The last dial of this shard failed; the next one waits until then.
    Delayed(Tick),
    /// The shell connects it.
    Dialing,
    /// Bytes may be written.
    Open,
}

/// What kind of reply an entry waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// Each reply answers one command of the run.
    Plain,
    /// One reply, for this part of a gather.
    Part(u16),
    /// MULTI … EXEC: only the last reply is the client's. The flag says that a queued command was refused as not executable here.
    Unit { refused: bool },
    /// A command on its session's own lane.
    Own,
    /// CLIENT UNBLOCK for that session's run, in a transaction: no client waits for it.
    Unblock,
    /// UNWATCH behind a session's back: no client waits for it.
    Unwatch,
}

impl Expect {
    /// A word of the proxy's own.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Expect::Unblock | Expect::Unwatch)
    }
}

/// Consecutive commands of one session on one lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub(super) session: SessionId,
    /// Which run of the session the replies belong to.
    pub(super) run: u64,
    pub(super) expect: Expect,
    /// Replies that have come.
    pub(super) answered: u32,
    /// Replies still to come.
    pub(super) left: u32,
    /// Where its bytes lie in the lane's stream.
    pub(super) start: u64,
    pub(super) end: u64,
    /// When the commands arrived, a wait at the gate included.
    pub(super) since: Tick,
    pub(super) class: LatencyClass,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) key: LaneKey,
    pub(super) state: LaneState,
    /// Whose own it is; `None`: shared.
    pub(super) owner: Option<SessionId>,
    /// What the server calls the connection, if it was asked.
    pub(super) server_id: Option<u64>,
    /// Which of its shard's servers it leads to.
    pub(super) address: u32,
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) scanner: ReplyScanner,
    /// The beginning of a reply that is not complete.
    pub(super) input: Vec<u8>,
    /// The front entry's reply is huge and goes to its client in pieces.
    pub(super) passing: Option<Box<Passing>>,
    /// When it was set aside for a huge reply.
    pub(super) aside_since: Tick,
    /// The shell was told to read no more.
    pub(super) paused: bool,
    /// Most written bytes that are kept until they are answered.
    pub(super) retain_max: usize,
    /// Sessions that wait until less is queued here.
    pub(super) waiters: Vec<SessionId>,
    /// Takes no more commands, and is closed once it is empty.
    pub(super) retired: bool,
    /// Already in the list of lanes to write.
    pub(super) listed: bool,
    /// Last time that a command was added or answered.
    pub(super) active: Tick,
    /// When the lane last made progress: a reply came, or its first command was added. The reply timeout counts from here.
    pub(super) progress: Tick,
    out: Outbound,
}

/// Written bytes that a session's own lane keeps: none of them is sent again from there.
const OWN_RETAIN_MAX: usize = 64 << 10;

impl Lane {
    /// Its commands lie in pieces of so many bytes.
    pub(super) fn new(key: LaneKey, state: LaneState, piece_bytes: usize, now: Tick) -> Lane {
        Lane {
            key,
            state,
            owner: None,
            server_id: None,
            address: 0,
            in_flight: VecDeque::new(),
            scanner: ReplyScanner::new(),
            input: Vec::new(),
            passing: None,
            aside_since: now,
            paused: false,
            retain_max: OWN_RETAIN_MAX,
            waiters: Vec::new(),
            retired: false,
            listed: false,
            active: now,
            progress: now,
            out: Outbound::new(piece_bytes),
        }
    }

    /// Where the first unwritten byte lies.
    pub(super) fn sent(&self) -> u64 {
        self.out.sent()
    }

    /// Adds commands and the entry that waits for their replies, in one step.
    pub(super) fn push(&mut self, bytes: &[u8], mut entry: InFlight, now: Tick) {
        entry.start = self.out.push(bytes);
        entry.end = self.out.end();
        if self.in_flight.is_empty() {
            self.progress = now;
        }
        self.active = now;
        self.in_flight.push_back(entry);
    }

    /// Adds bytes to the last entry, which goes on until it is closed.
    pub(super) fn append(&mut self, bytes: &[u8], now: Tick) {
        self.out.push(bytes);
        (self.active, self.progress) = (now, now);
    }

    /// More bytes belong to the last entry, nobody knows how many.
    pub(super) fn open_entry(&mut self) {
        if let Some(entry) = self.in_flight.back_mut() {
            entry.end = u64::MAX;
        }
    }

    /// The last entry's bytes are all there.
    pub(super) fn close_entry(&mut self) {
        let end = self.out.end();
        if let Some(entry) = self.in_flight.back_mut() {
            entry.end = end;
        }
    }

    /// The next bytes to write; behind them there may be more.
    pub(super) fn unsent(&self) -> &[u8] {
        self.out.unsent()
    }

    /// So many bytes left us. Keeps at most `retain_max` of the written ones.
    pub(super) fn wrote(&mut self, n: usize) {
        self.out.wrote(n, self.retain_max);
    }

    /// Lets go of bytes that are answered.
    pub(super) fn release_answered(&mut self) {
        let needed = self
            .in_flight
            .front()
            .map_or(u64::MAX, |entry| entry.start)
            .min(self.out.sent());
        self.out.release(needed);
    }

    /// The bytes of an entry, or `None` when they had to be let go.
    pub(super) fn bytes(&self, entry: &InFlight) -> Option<&[u8]> {
        self.out.bytes(entry.start, entry.end)
    }

    /// How many bytes are to be written.
    pub(super) fn queued(&self) -> usize {
        self.out.queued()
    }
}
