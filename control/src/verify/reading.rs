//! What one server said about a batch of keys, and where in its history it said it.

use std::time::Duration;

use super::info;
use super::judge::{KeyState, Sight, Verdict, judge};

/// What a batch of keys looked like at one moment.
pub(crate) struct Reading {
    /// In the order in which they were asked for.
    pub(crate) states: Vec<Option<KeyState>>,
    /// The server's own clock, in milliseconds since 1970.
    pub(crate) now_ms: i64,
    pub(crate) position: Position,
    pub(crate) bytes: usize,
}

/// Where in which history a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) replid: String,
    /// What it has executed.
    pub(crate) offset: u64,
    pub(crate) is_replica: bool,
}

impl Reading {
    pub(crate) fn state(&self, index: usize) -> Option<&KeyState> {
        self.states.get(index)?.as_ref()
    }

    /// Compares one key of this reading, the source's, with the target's.
    pub(crate) fn judge_against(
        &self,
        target: &Reading,
        index: usize,
        tolerance: Duration,
    ) -> Verdict {
        let source = Sight {
            state: self.state(index),
            now_ms: self.now_ms,
        };
        let target = Sight {
            state: target.state(index),
            now_ms: target.now_ms,
        };
        judge(source, target, tolerance)
    }
}

impl Position {
    pub(crate) fn parse(info: &str) -> Option<Self> {
        let is_replica = info::field(info, "role")? == "slave";
        // A replica's own master_repl_offset is what it has received, which may not be executed yet.
        let offset = if is_replica {
            "slave_repl_offset"
        } else {
            "master_repl_offset"
        };
        Some(Self {
            replid: info::field(info, "master_replid")?.to_owned(),
            offset: info::number(info, offset)?,
            is_replica,
        })
    }
}
