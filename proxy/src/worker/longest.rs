//! What a hold that did not drain waited for longest, so that the operator knows whom to ask.

use std::fmt;

use super::Worker;
use super::ids::Tick;
use super::lane::{Expect, InFlight, Lane};
use super::recover::command_names;
use crate::route::{PoolIndex, ShardIndex};

/// The command in flight that came first, and whose it is. Its text ends a `-NOTHELD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Longest {
    /// Its name, from the command table; `None` when its bytes are gone or not complete.
    pub command: Option<&'static str>,
    /// Id and address of the client; `None` when it has gone.
    pub client: Option<(u64, String)>,
    /// The client has not sent all of it yet.
    pub incomplete: bool,
    /// Microseconds since it came.
    pub waited_us: u64,
}

impl fmt::Display for Longest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.command {
            Some(name) => write!(out, "{} of ", name.to_ascii_uppercase())?,
            None => write!(out, "a command of ")?,
        }
        match &self.client {
            Some((id, address)) => write!(out, "client {id} ({address})")?,
            None => write!(out, "a client that is gone")?,
        }
        let waited_ms = self.waited_us / 1_000;
        if self.incomplete {
            write!(out, " is not sent to its end after {waited_ms} ms")
        } else {
            write!(out, " is not answered after {waited_ms} ms")
        }
    }
}

impl Worker {
    /// Of what is in flight to a shard, what came first. Walks over all lanes.
    pub(super) fn longest_in_flight(
        &self,
        pool: PoolIndex,
        shard: ShardIndex,
        now: Tick,
    ) -> Option<Longest> {
        let here = |lane: &&Lane| lane.key.pool == pool && lane.key.shard == shard;
        let (lane, entry) = (self.lanes.iter().map(|(_, _, lane)| lane))
            .filter(here)
            .flat_map(|lane| lane.in_flight.iter().map(move |entry| (lane, entry)))
            .filter(|(_, entry)| entry.left > 0 && !entry.expect.is_ours())
            .min_by_key(|(lane, entry)| (self.blocks(lane, entry), entry.since))?;
        let session = (self.sessions).find(entry.session.index, entry.session.generation);
        Some(Longest {
            command: command_name(lane, entry),
            client: session.map(|it| (it.client_id, it.peer.clone())),
            incomplete: entry.end == u64::MAX,
            waited_us: now.since(entry.since),
        })
    }

    /// A command that blocks is ended by a word of ours, so it is not what is waited for while anything else is in flight.
    fn blocks(&self, lane: &Lane, entry: &InFlight) -> bool {
        let session = (self.sessions).find(entry.session.index, entry.session.generation);
        let errand = session.and_then(|it| it.pinned.as_ref()?.errand.as_ref());
        lane.owner.is_some() && errand.is_some_and(|it| it.run == entry.run && it.blocks())
    }
}

/// The first command of an entry that is not answered.
fn command_name(lane: &Lane, entry: &InFlight) -> Option<&'static str> {
    let answered = match entry.expect {
        // A transaction is one.
        Expect::Unit { .. } => 0,
        _ => entry.answered as usize,
    };
    command_names(lane.bytes(entry)?)
        .into_iter()
        .nth(answered)?
}
