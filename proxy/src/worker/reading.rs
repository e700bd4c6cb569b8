//! Whether a client is read: it is not while as much of it waits as may.

use super::Worker;
use super::dirty::Took;
use super::ids::{SessionId, Tick};
use super::session::Stop;
use crate::route::ShardIndex;

impl Worker {
    /// Whether the shell should read this session on.
    pub(super) fn reading(&mut self, id: SessionId) -> Took {
        let full = self.is_full(id);
        let Some(session) = self.session(id) else {
            return Took::Pause;
        };
        if session.closing.is_some() || full {
            session.paused = true;
            return Took::Pause;
        }
        Took::Continue
    }

    fn is_full(&self, id: SessionId) -> bool {
        let Some(session) = self.sessions.find(id.index, id.generation) else {
            return true;
        };
        let ahead_max = self.settings.session_ahead_max;
        let held = |shard: ShardIndex| {
            let gate = &self
                .pools
                .get(usize::from(session.pool.0))?
                .shards
                .get(usize::from(shard.0))?
                .gate;
            Some(gate.held_bytes >= self.settings.held_bytes_max)
        };
        match session.stop {
            Stop::No => false,
            Stop::Gate(shard) => session.input.len() >= ahead_max || held(shard).unwrap_or(false),
            Stop::Drain
            | Stop::Retry
            | Stop::Lane
            | Stop::Output
            | Stop::Commands
            | Stop::Upload
            | Stop::Errand => session.input.len() >= ahead_max,
        }
    }

    /// Lets the shell read a session again that it stopped reading.
    pub(super) fn resume(&mut self, id: SessionId) {
        if self.is_full(id) {
            return;
        }
        if let Some(session) = self.sessions.find_mut(id.index, id.generation)
            && session.paused
            && session.closing.is_none()
            && !session.read_closed
        {
            session.paused = false;
            self.dirty.resume.push(id);
        }
    }

    /// Bytes of a client that waits: kept, or a piece of a huge command.
    #[cold]
    #[inline(never)]
    pub(super) fn take_ahead(&mut self, session: SessionId, bytes: &[u8], now: Tick) {
        let Some(it) = self.sessions.find_mut(session.index, session.generation) else {
            return;
        };
        if it.stop == Stop::Upload {
            return self.take_upload(session, bytes, now);
        }
        if it.input.capacity() == 0 {
            it.input = self.spare.pop().unwrap_or_default();
        }
        it.input.extend_from_slice(bytes);
        if let Stop::Gate(shard) = it.stop
            && !it.ready
        {
            let pool = it.pool;
            if let Some(shard) = self.shard_mut(pool, shard) {
                shard.gate.held_bytes += bytes.len();
            }
            self.check_limits(pool, shard, now);
        }
    }
}
