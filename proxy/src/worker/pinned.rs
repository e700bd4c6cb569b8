//! What a session has for itself: lanes that nobody shares, the one command on its way there, and what it watches.
//!
//! ```text
//!  errand    nowhere yet ─> dialling ─┐                     the lane was lost, or the server refused
//!               │                     v                  ┌──────────────────────────────────────────> waiting ─┐
//!               └────────────────> sent on its lane ─────┤                                                     │
//!                                     ^                  └─ unblocked for a hold ─> in the gate's room ─┐      │
//!                                     └─────────────────────── the gate opened, in order of arrival ────┴──────┘
//! ```
//!
//! A session has at most one errand. Before it all its replies are in, and behind it nothing is scanned: so its own lane and
//! the shared ones need no order between them, and the way of ordinary commands does not know that any of this exists.

use understudy_resp::encode;
use understudy_resp::scan::RequestTail;

use super::counters::LatencyClass;
use super::ids::{LaneId, Tick};
use super::patience::Patience;
use super::retry::{Effect, Refusal, Remedy, Sent, refusal, remedy};
use crate::route::ShardIndex;

/// A session's own. Made with its first command that needs it.
#[derive(Debug, Default)]
pub(super) struct Pinned {
    /// Its lanes, one for each shard at most.
    pub(super) lanes: Vec<LaneId>,
    pub(super) errand: Option<Errand>,
    pub(super) watch: Option<Watch>,
    /// Where the frame ends that the session sends: a huge command that is not complete. Without an errand it was answered
    /// already, and the rest is passed over.
    pub(super) tail: Option<RequestTail>,
    /// When the worker looks at it again, as the worker's list has it.
    pub(super) alarm: Option<Tick>,
}

/// Keys are watched, until EXEC, DISCARD, UNWATCH or RESET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) shard: ShardIndex,
    pub(super) lane: LaneId,
    /// The server that knew what was watched is not the one that would run EXEC, or its connection is gone: EXEC answers
    /// null, as if a key had changed.
    pub(super) broken: bool,
}

/// A command on the session's own lane.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) kind: Kind,
    pub(super) shard: ShardIndex,
    pub(super) run: u64,
    pub(super) place: Place,
    /// Its place among all errands of the worker: what waits at a gate goes on in this order.
    pub(super) arrival: u64,
    /// When it was taken; a timeout counts from here.
    pub(super) began: Tick,
    /// When it arrived, a wait at the gate included.
    pub(super) since: Tick,
    pub(super) class: LatencyClass,
    /// It changes nothing, so it may be sent again when its reply was lost.
    pub(super) reads: bool,
    /// Refused or never sent since then: it is tried again until this.
    pub(super) retry_until: Option<Tick>,
    pub(super) attempts: u32,
    /// A CLIENT UNBLOCK for it is on its way.
    pub(super) unblocking: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In its gate's room, or just taken: nothing of it is on any lane.
    Room,
    /// Its lane is being connected.
    Dialling,
    /// In its lane's queue, or at the server.
    Sent(LaneId),
    /// To be tried again then.
    Waiting(Tick),
}

#[derive(Debug)]
pub(super) enum Kind {
    /// Blocks until there is something, or its time is over.
    Block(Block),
    /// WATCH and its keys.
    Watch(Vec<Vec<u8>>),
    /// MULTI … EXEC on the lane that watches. Sent once or never.
    Exec { unit: Vec<u8>, replies: u32 },
    /// A huge command, or transaction. Its bytes go into the lane as there is room.
    Bulk(Bulk),
}

#[derive(Debug)]
pub(super) struct Bulk {
    /// What of it is kept: all of it, or its beginning until more has come and gone.
    pub(super) frame: Vec<u8>,
    /// So much of that is in the lane.
    pub(super) fed: usize,
    /// Bytes of it are at the lane and nowhere else: it is sent once.
    pub(super) once: bool,
    /// Replies that one sending of it gets; only the last is the client's.
    pub(super) replies: u32,
    pub(super) effect: Effect,
}

impl Bulk {
    pub(super) fn new(frame: Vec<u8>, replies: u32, effect: Effect) -> Bulk {
        Bulk {
            frame,
            fed: 0,
            once: false,
            replies,
            effect,
        }
    }

    /// What is done behind this reply. `refused_inside`: a command of the transaction was refused as not executable here.
    pub(super) fn remedy(&self, reply: &[u8], refused_inside: bool) -> Remedy {
        let found = match refusal(reply) {
            None if refused_inside && reply.starts_with(b"-EXECABORT") => Some(Refusal::ExecAbort),
            found => found,
        };
        match found {
            Some(found) if !self.once => remedy(Sent::Refused(found), self.effect),
            Some(_) | None => Remedy::Pass,
        }
    }
}

impl Pinned {
    /// The huge command that has its lane.
    pub(super) fn bulk_mut(&mut self) -> Option<(LaneId, &mut Bulk)> {
        let errand = self.errand.as_mut()?;
        match (&mut errand.kind, errand.place) {
            (Kind::Bulk(bulk), Place::Sent(lane)) => Some((lane, bulk)),
            _ => None,
        }
    }

    /// The huge command, wherever it is.
    pub(super) fn any_bulk(&mut self) -> Option<&mut Bulk> {
        match &mut self.errand.as_mut()?.kind {
            Kind::Bulk(bulk) => Some(bulk),
            Kind::Block(_) | Kind::Watch(_) | Kind::Exec { .. } => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Block {
    pub(super) words: Vec<Vec<u8>>,
    /// Place of its first key.
    pub(super) key: usize,
    pub(super) patience: Option<Patience>,
    pub(super) deadline: Option<Tick>,
    /// Keys and ids `$` of an XREAD whose newest ids are asked for first.
    pub(super) unresolved: Vec<(usize, usize)>,
    /// A server has looked at its keys: from then on it may end with its time, before that it may not.
    pub(super) asked: bool,
}

impl Errand {
    /// The bytes to send now, and how many replies they get.
    pub(super) fn bytes(&mut self, now: Tick) -> (Vec<u8>, u32) {
        let mut out = Vec::new();
        match &mut self.kind {
            Kind::Watch(words) => {
                encode::command(&mut out, words);
                (out, 1)
            }
            Kind::Exec { unit, replies } => (std::mem::take(unit), *replies),
            Kind::Bulk(bulk) => {
                bulk.fed = 0;
                (out, bulk.replies)
            }
            Kind::Block(block) if !block.unresolved.is_empty() => {
                for (key, _) in &block.unresolved {
                    let key = block.words.get(*key).map_or(&[][..], Vec::as_slice);
                    encode::command(&mut out, &[b"XREVRANGE", key, b"+", b"-", b"COUNT", b"1"]);
                }
                (out, block.unresolved.len() as u32)
            }
            Kind::Block(block) => {
                if let (Some(patience), Some(deadline)) = (block.patience, block.deadline)
                    && now > self.began
                {
                    patience.write(&mut block.words, deadline.until(now));
                }
                encode::command(&mut out, &block.words);
                (out, 1)
            }
        }
    }

    /// When it ends with nothing; `None`: never, or not before a server was asked.
    pub(super) fn ends(&self) -> Option<Tick> {
        match &self.kind {
            Kind::Block(block) if block.asked => block.deadline,
            Kind::Block(_) | Kind::Watch(_) | Kind::Exec { .. } | Kind::Bulk(_) => None,
        }
    }

    pub(super) fn blocks(&self) -> bool {
        matches!(self.kind, Kind::Block(_))
    }

    /// Waits at a server until there is something: what a hold has to end.
    pub(super) fn is_blocked(&self) -> bool {
        matches!(&self.kind, Kind::Block(block) if block.unresolved.is_empty())
            && matches!(self.place, Place::Sent(_))
    }
}
