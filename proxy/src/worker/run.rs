//! Runs: what one session waits for, in the order of its commands.
//!
//! A run is some consecutive commands that share a fate: all on one lane, or one command with parts on several lanes, or
//! an answer that is ready and only waits for its turn. Only the head of a session's runs writes to the session's output;
//! a reply that comes for a later run is kept in it.

use super::gather::Gather;

/// One entry of a session's queue.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) kind: RunKind,
    /// Replies that are still to come; 0 when it may leave the queue.
    pub(super) left: u32,
    /// Replies that came while the run was not the head.
    pub(super) stash: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum RunKind {
    /// Answered by the proxy.
    Local,
    /// Each reply of a lane is one reply to the client.
    Lane,
    /// Parts of one command; the client gets one reply when all are there.
    Gather(Box<Gather>),
}

impl Run {
    pub(super) fn lane(replies: u32) -> Run {
        Run {
            kind: RunKind::Lane,
            left: replies,
            stash: Vec::new(),
        }
    }

    pub(super) fn gather(gather: Box<Gather>, parts: u32) -> Run {
        Run {
            kind: RunKind::Gather(gather),
            left: parts,
            stash: Vec::new(),
        }
    }

    pub(super) fn local(reply: &[u8]) -> Run {
        Run {
            kind: RunKind::Local,
            left: 0,
            stash: reply.to_vec(),
        }
    }

    /// Bytes kept here.
    pub(super) fn bytes(&self) -> usize {
        match &self.kind {
            RunKind::Gather(gather) => gather.bytes() + self.stash.len(),
            RunKind::Local | RunKind::Lane => self.stash.len(),
        }
    }
}
