//! What the journal keeps, as plain values that a person can read.
//!
//! Every record carries its format's version, `v`. No record has a place for a password: servers are written as URLs
//! without one, and whoever reads them takes the credentials from the config.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cutover::Identity;
use crate::effect::{Effect, Outcome};
use crate::guard::ForeignKeys;
use crate::phase::Phase;
use crate::snapshot::{LOCAL, SnapshotHandle, SnapshotWish};
use crate::whereabouts::PodName;

/// The format that this build writes.
pub(crate) const FORMAT: u32 = 1;

/// One START: which shards, and what the operator chose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpgradeRecord {
    /// Format.
    pub v: u32,
    /// Number of the upgrade; grows.
    pub id: u64,
    /// The pool.
    pub pool: String,
    /// Its shards, in the order in which they are upgraded.
    pub shards: Vec<String>,
    /// What the operator chose.
    pub options: Options,
    /// When START was accepted, in milliseconds since 1970.
    pub started_at_ms: u64,
}

/// What the operator chose at START.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Which snapshot guards a shard.
    pub snapshot: SnapshotChoice,
    /// Who starts the nine steps.
    pub cutover: CutoverMode,
    /// Longest hold of clients while the evidence is gathered, in milliseconds.
    pub hold_max_ms: u64,
    /// Seconds of soak after which the shard is finalized by itself; without it, never.
    pub soak_s: Option<u64>,
    /// A target that holds data may be overwritten.
    pub replace: bool,
    /// Blockers accepted by name.
    pub accept: Vec<String>,
}

/// Which snapshot guards a shard. In the journal it is the word that the operator wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum SnapshotChoice {
    /// One that a provider takes by this recipe.
    Recipe(String),
    /// None, chosen by name.
    None,
}

/// The word for no snapshot, which no recipe may have for its name.
const NO_SNAPSHOT: &str = "none";

impl From<String> for SnapshotChoice {
    fn from(word: String) -> SnapshotChoice {
        match word.as_str() {
            NO_SNAPSHOT => SnapshotChoice::None,
            _ => SnapshotChoice::Recipe(word),
        }
    }
}

impl From<SnapshotChoice> for String {
    fn from(choice: SnapshotChoice) -> String {
        match choice {
            SnapshotChoice::Recipe(name) => name,
            SnapshotChoice::None => NO_SNAPSHOT.to_owned(),
        }
    }
}

/// Who starts the nine steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutoverMode {
    /// The driver, as soon as the shard is verified.
    Auto,
    /// The operator, by `UPGRADE CUTOVER`.
    Manual,
}

/// Which way an attempt moves a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the source to the target.
    Forward,
    /// From the target back to the source.
    Back,
}

/// One attempt at the nine steps. While a shard's record holds one, its effects may have happened or not: look it up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The attempt's number, known to every gate.
    pub term: u64,
    /// Which way.
    pub direction: Direction,
    /// The route epoch before it.
    pub epoch: u64,
    /// Where the guard of this attempt listened.
    pub guard: Option<GuardPlace>,
    /// True for a rehearsal, which always ends in the undo.
    pub rehearsal: bool,
    /// The journal's proof that the shard was moved; `None` until step 8.
    pub committed_offset: Option<u64>,
}

/// Where a guard listens, as the server that dials it sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardPlace {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A snapshot, as far as the journal needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotNote {
    /// The handle under which it is found again.
    pub id: String,
    /// Of which server, without credentials.
    pub server: String,
    /// Keys in it, where they were counted.
    pub keys: Option<u64>,
    /// Size in bytes, where it is known.
    pub bytes: Option<u64>,
    /// Where it lies.
    pub place: String,
    /// How it was taken.
    pub how: String,
    /// When, in milliseconds since 1970.
    pub taken_at_ms: u64,
    /// What its provider needs to find, check and release it. Journals of before there were providers have none.
    #[serde(default)]
    pub handle: Option<SnapshotHandle>,
}

impl SnapshotNote {
    /// What the journal keeps of a snapshot of `server`.
    pub(crate) fn new(handle: SnapshotHandle) -> SnapshotNote {
        SnapshotNote {
            id: handle.id.clone(),
            server: handle.server.clone(),
            keys: handle.keys,
            bytes: handle.bytes,
            place: handle.place(),
            how: format!("{}, {}", handle.recipe, handle.level_reached),
            taken_at_ms: handle.taken_at_ms,
            handle: Some(handle),
        }
    }

    /// The provider's handle. What an old journal has none of is a local snapshot.
    pub(crate) fn handle(&self) -> SnapshotHandle {
        self.handle.clone().unwrap_or_else(|| SnapshotHandle {
            id: self.id.clone(),
            recipe: LOCAL.to_owned(),
            server: self.server.clone(),
            taken_at_ms: self.taken_at_ms,
            keys: self.keys,
            bytes: self.bytes,
            ..SnapshotHandle::default()
        })
    }
}

/// Everything control knows about one shard's upgrade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// Format.
    pub v: u32,
    /// Pool.
    pub pool: String,
    /// Shard.
    pub shard: String,
    /// The upgrade it belongs to.
    pub upgrade: u64,
    /// Phase.
    pub phase: Phase,
    /// The server that is left, as a URL without password.
    pub source: String,
    /// The server that is moved to, as a URL without password.
    pub target: String,
    /// The route's epoch before the upgrade.
    pub epoch: u64,
    /// Both servers as they were when the replication was armed; verification is void when it changes.
    pub identity: Option<Identity>,
    /// Settings that arming changed, with their old values, by server role (`source`, `target`) and name.
    pub armed: BTreeMap<String, BTreeMap<String, String>>,
    /// The attempt under way, or the last one that was committed.
    pub attempt: Option<Attempt>,
    /// The snapshot of the server that loses its role next.
    pub snapshot: Option<SnapshotNote>,
    /// Snapshots that this upgrade took before that one, and has not released. Bounded.
    #[serde(default)]
    pub earlier_snapshots: Vec<SnapshotNote>,
    /// A snapshot that is being taken: written down before anything is triggered, so that a restart goes on with the same run.
    #[serde(default)]
    pub snapshot_wish: Option<SnapshotWish>,
    /// Runs that were begun for this shard in this upgrade.
    #[serde(default)]
    pub snapshot_runs: u64,
    /// Where the guard of the way back listens during soak.
    pub guard: Option<GuardPlace>,
    /// What the source could not execute during soak, as far as it was seen.
    pub foreign: Option<ForeignKeys>,
    /// Keys that the full compare looked at.
    pub keys_verified: u64,
    /// Differences that it found.
    pub differences: u64,
    /// Longest gap between two served commands of the shard at its cutover, in milliseconds.
    pub hold_ms: Option<f64>,
    /// Soak began, in milliseconds since 1970.
    pub soak_since_ms: Option<u64>,
    /// p99 of the shard's commands in the minutes before the cutover, in microseconds.
    pub p99_before_us: Option<u64>,
    /// What an operator should know afterwards: settings not carried over, accepted blockers, odd events. Bounded.
    pub notes: Vec<String>,
    /// Why the last thing failed.
    pub error: Option<String>,
    /// Why it is being aborted: a restart in the middle of that goes on with it, and with nothing else.
    #[serde(default)]
    pub aborting: Option<String>,
    /// A rollback was accepted and is not done: a restart in the middle of it says so.
    #[serde(default)]
    pub rollback_accepted: bool,
}

/// Most snapshots kept in mind for one shard beside the last one; the oldest are named in a note and left alone.
const SNAPSHOTS_MAX: usize = 32;

/// Most notes kept for one shard; the oldest are dropped first.
pub(super) const NOTES_MAX: usize = 100;

impl ShardRecord {
    /// A shard at the start of its upgrade.
    pub fn new(
        upgrade: &UpgradeRecord,
        shard: &str,
        source: String,
        target: String,
        epoch: u64,
    ) -> ShardRecord {
        ShardRecord {
            v: FORMAT,
            pool: upgrade.pool.clone(),
            shard: shard.to_owned(),
            upgrade: upgrade.id,
            phase: Phase::Plan,
            source,
            target,
            epoch,
            identity: None,
            armed: BTreeMap::new(),
            attempt: None,
            snapshot: None,
            aborting: None,
            rollback_accepted: false,
            earlier_snapshots: Vec::new(),
            snapshot_wish: None,
            snapshot_runs: 0,
            guard: None,
            foreign: None,
            keys_verified: 0,
            differences: 0,
            hold_ms: None,
            soak_since_ms: None,
            p99_before_us: None,
            notes: Vec::new(),
            error: None,
        }
    }

    /// Puts a new snapshot in the place of the last one, which stays on record until it is released.
    pub(crate) fn guarded_by(&mut self, snapshot: SnapshotNote) {
        if let Some(before) = self.snapshot.replace(snapshot) {
            self.earlier_snapshots.push(before);
        }
        if self.earlier_snapshots.len() > SNAPSHOTS_MAX {
            let forgotten = self.earlier_snapshots.remove(0);
            self.note(format!(
                "snapshot {} is left where it is: more than {SNAPSHOTS_MAX} were taken",
                forgotten.id
            ));
        }
    }

    /// Every snapshot that this upgrade took and has not released, oldest first.
    pub(crate) fn snapshots(&self) -> impl DoubleEndedIterator<Item = &SnapshotNote> {
        self.earlier_snapshots.iter().chain(self.snapshot.as_ref())
    }

    /// The last snapshot of a server.
    pub(crate) fn snapshot_of(&self, server: &str) -> Option<&SnapshotNote> {
        self.snapshots().rev().find(|note| note.server == server)
    }

    /// The attempt that is neither undone nor told to all proxies.
    pub fn open_attempt(&self) -> Option<&Attempt> {
        let open = |attempt: &&Attempt| match self.phase {
            Phase::Cutover | Phase::Committed => true,
            Phase::Soak => attempt.direction == Direction::Back,
            Phase::Plan
            | Phase::Snapshot
            | Phase::Replicate
            | Phase::Verify
            | Phase::Finalized
            | Phase::RolledBack
            | Phase::Aborted => false,
        };
        self.attempt.as_ref().filter(open)
    }

    /// Keeps a note for the report, once.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if self.notes.contains(&text) {
            return;
        }
        if self.notes.len() >= NOTES_MAX {
            self.notes.remove(0);
        }
        self.notes.push(text);
    }
}

/// Where a shard's clients belong. The truth about routes: before the overlay of a proxy, before the YAML.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRecord {
    /// Format.
    pub v: u32,
    /// Pool.
    pub pool: String,
    /// Shard.
    pub shard: String,
    /// The route's number.
    pub epoch: u64,
    /// The primary, as a URL without password.
    pub url: String,
    /// Servers that once served this shard and are fenced; an upgrade may use them again as targets.
    pub retired: Vec<String>,
}

/// How far an effect came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectState {
    /// Intended. It happened or not: look it up.
    Begun,
    /// It happened, and this is what was seen.
    Confirmed(Outcome),
    /// It failed; what it left is unknown.
    Failed(String),
}

/// One outside action: the intention before it, the result after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EffectRecord {
    /// Format.
    pub v: u32,
    /// Number; grows.
    pub seq: u64,
    /// Pool.
    pub pool: String,
    /// Shard.
    pub shard: String,
    /// What.
    pub effect: Effect,
    /// How far it came.
    pub state: EffectState,
    /// When it was intended, in milliseconds since 1970.
    pub begun_at_ms: u64,
}

/// A proxy that registered, so that a restart of control forgets nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyRecord {
    /// Format.
    pub v: u32,
    /// Its name over all of its starts.
    pub id: String,
    /// Where its admin port is dialled, without a password.
    pub address: String,
    /// The pools that it serves.
    pub pools: Vec<String>,
    /// The Pod that it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
    /// Our API server has shown that Pod.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pod_seen: bool,
    /// When it registered there, in milliseconds since 1970.
    pub registered_at_ms: u64,
}
