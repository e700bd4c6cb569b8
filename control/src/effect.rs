//! Every outside action of an upgrade, as a value.
//!
//! The driver does nothing to a server, a proxy, a guard or a disk but by one of these: journalled before, applied by an
//! implementation of `Effects`, journalled after. All of them are idempotent, since a restart may repeat one. Servers are
//! named by URL without password.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cutover::Standing;
use crate::journal::{GuardPlace, SnapshotNote};
use crate::snapshot::{Release, SnapshotHandle, SnapshotWish};

/// Which gate an order is for, and on whose behalf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Pool.
    pub pool: String,
    /// Shard.
    pub shard: String,
    /// The epoch that the gate stands at.
    pub epoch: u64,
    /// The attempt.
    pub term: u64,
}

impl fmt::Display for Gate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{} epoch {}", self.pool, self.shard, self.epoch)
    }
}

/// An outside action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "kebab-case")]
pub enum Effect {
    /// Takes the snapshot that guards the shard, until it is ready and verified. The wish names the run.
    TakeSnapshot(SnapshotWish),
    /// Makes a server's role safe to change: read-only when a replica, never elected, and its backlog kept. The old
    /// values are in the journal before.
    Arm {
        server: String,
        settings: BTreeMap<String, String>,
    },
    /// Makes the target a replica of the source.
    Attach { target: String, source: String },
    /// Carries over the allow-listed settings.
    CarrySettings { source: String, target: String },
    /// Carries over the ACL users.
    CarryUsers { source: String, target: String },
    /// Loads the scripts that clients used.
    CarryScripts { pool: String, target: String },
    /// Before the hold: proxies that registered serve the shard only for as long as control answers them.
    ArmProxies { gate: Gate },
    /// Step 1: no command is admitted, nothing is in flight.
    Hold { gate: Gate, lease_ms: u64 },
    /// Step 2: a bridge until the fence; it expires by itself.
    Pause { server: String, pause_ms: u64 },
    /// Step 3: from here on no proxy opens by itself.
    Prepare { gate: Gate },
    /// Step 4: the server that loses its role becomes a replica of the parked guard.
    Fence { server: String, guard: GuardPlace },
    /// Step 6: the server that gains the role becomes a primary.
    Promote { server: String },
    /// Step 7: the guard asks for the partial resync.
    Unpark { server: String },
    /// Step 8: the journal names the new route.
    Commit { gate: Gate, url: String },
    /// Step 9: the proxies route to the new server, still held.
    Switch { gate: Gate, url: String },
    /// Step 9, and the last step of the undo: the gates open.
    Release { gate: Gate },
    /// Undo: the server that was to gain the role is a replica again.
    Demote { server: String, primary: GuardPlace },
    /// Undo: the server that was to lose its role is a primary again.
    Unfence { server: String },
    /// A server that lost its role for good follows an address where nobody is, and refuses writes.
    Retire { server: String },
    /// A server that gained its role keeps it over a restart: what CONFIG REWRITE wrote down of its former role goes.
    KeepRole { server: String },
    /// A server that lost its role answers no read while its link is down: whoever still reads there learns nothing old.
    RefuseStale { server: String },
    /// Gives a server its own settings back.
    Disarm {
        server: String,
        settings: BTreeMap<String, String>,
    },
    /// The end: a snapshot is needed no longer.
    ReleaseSnapshot {
        snapshot: Box<SnapshotHandle>,
        why: Release,
    },
}

/// The effects' names, for failpoints and crash tests.
pub const EFFECTS: [&str; 23] = [
    "take-snapshot",
    "arm",
    "attach",
    "carry-settings",
    "carry-users",
    "carry-scripts",
    "arm-proxies",
    "hold",
    "pause",
    "prepare",
    "fence",
    "promote",
    "unpark",
    "commit",
    "switch",
    "release",
    "demote",
    "unfence",
    "retire",
    "keep-role",
    "refuse-stale",
    "disarm",
    "release-snapshot",
];

impl Effect {
    /// The effects' names, for failpoints and crash tests.
    pub const ALL: [&str; 23] = EFFECTS;

    /// The effect's name.
    pub fn name(&self) -> &'static str {
        match self {
            Effect::TakeSnapshot(_) => "take-snapshot",
            Effect::Arm { .. } => "arm",
            Effect::Attach { .. } => "attach",
            Effect::CarrySettings { .. } => "carry-settings",
            Effect::CarryUsers { .. } => "carry-users",
            Effect::CarryScripts { .. } => "carry-scripts",
            Effect::ArmProxies { .. } => "arm-proxies",
            Effect::Hold { .. } => "hold",
            Effect::Pause { .. } => "pause",
            Effect::Prepare { .. } => "prepare",
            Effect::Fence { .. } => "fence",
            Effect::Promote { .. } => "promote",
            Effect::Unpark { .. } => "unpark",
            Effect::Commit { .. } => "commit",
            Effect::Switch { .. } => "switch",
            Effect::Release { .. } => "release",
            Effect::Demote { .. } => "demote",
            Effect::Unfence { .. } => "unfence",
            Effect::Retire { .. } => "retire",
            Effect::KeepRole { .. } => "keep-role",
            Effect::RefuseStale { .. } => "refuse-stale",
            Effect::Disarm { .. } => "disarm",
            Effect::ReleaseSnapshot { .. } => "release-snapshot",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::TakeSnapshot(wish) => write!(
                out,
                "take a snapshot of {} by recipe {} as {}",
                wish.server, wish.recipe, wish.run
            ),
            Effect::Arm { server, settings } | Effect::Disarm { server, settings } => {
                write!(out, "set on {server}:")?;
                for (name, value) in settings {
                    write!(out, " {name}={value}")?;
                }
                Ok(())
            }
            Effect::Attach { target, source } => write!(out, "make {target} a replica of {source}"),
            Effect::CarrySettings { source, target } => {
                write!(out, "carry settings from {source} to {target}")
            }
            Effect::CarryUsers { source, target } => {
                write!(out, "carry ACL users from {source} to {target}")
            }
            Effect::CarryScripts { pool, target } => {
                write!(out, "load the scripts of pool {pool} on {target}")
            }
            Effect::ArmProxies { gate } => write!(out, "arm {gate} in proxies that registered"),
            Effect::Hold { gate, lease_ms } => {
                write!(out, "hold {gate} for at most {lease_ms} ms until drained")
            }
            Effect::Pause { server, pause_ms } => {
                write!(out, "pause writes on {server} for at most {pause_ms} ms")
            }
            Effect::Prepare { gate } => write!(out, "prepare {gate}"),
            Effect::Fence { server, guard } if guard.port == 0 => {
                write!(
                    out,
                    "fence {server} behind the guard at {}, at a port chosen then",
                    guard.host
                )
            }
            Effect::Fence { server, guard } => {
                write!(
                    out,
                    "fence {server} behind the guard at {}:{}",
                    guard.host, guard.port
                )
            }
            Effect::Promote { server } => write!(out, "promote {server}"),
            Effect::Unpark { server } => write!(
                out,
                "let {server} follow through the guard, by partial resync only"
            ),
            Effect::Commit { gate, url } => write!(out, "commit {gate} to {url} in the journal"),
            Effect::Switch { gate, url } => write!(out, "switch {gate} to {url}"),
            Effect::Release { gate } => write!(out, "release {gate}"),
            Effect::Demote { server, primary } => {
                write!(
                    out,
                    "make {server} a replica of {}:{}",
                    primary.host, primary.port
                )
            }
            Effect::Unfence { server } => write!(out, "make {server} a primary again"),
            Effect::Retire { server } => write!(out, "leave {server} fenced, following nobody"),
            Effect::KeepRole { server } => write!(out, "let {server} keep its role over a restart"),
            Effect::RefuseStale { server } => {
                write!(out, "let {server} refuse reads while its link is down")
            }
            Effect::ReleaseSnapshot { snapshot, why } => {
                let name = match snapshot.id.as_str() {
                    "" => &snapshot.run,
                    id => id,
                };
                write!(out, "release snapshot {name}: {why}")
            }
        }
    }
}

/// What an effect was seen to have done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done, and there is nothing to tell.
    Done,
    /// A server after it.
    Stands(Standing),
    /// The snapshot.
    Snapshot(Box<SnapshotNote>),
    /// Sentences for the report, such as what was not carried over.
    Said(Vec<String>),
    /// How many proxies acknowledged, and how long the longest of them waited to drain, in microseconds.
    Proxies { count: usize, waited_us: u64 },
}

/// Why an effect did not happen, or may have.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{effect}: {cause}")]
pub(crate) struct EffectError {
    /// Which.
    pub effect: &'static str,
    /// Why, in one line.
    pub cause: String,
    /// Whether another try may go better.
    pub hope: Hope,
}

/// Whether an effect that failed may go better another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hope {
    /// It will fail again.
    None,
    /// Another attempt may go better: a drain that did not end, a lease that lapsed, lag.
    Passing,
    /// A server did not answer, or its connection broke in the middle. What it did of the effect is unknown.
    Silent,
}
