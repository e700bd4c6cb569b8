//! What can take a snapshot: the one interface between an upgrade and a backup system.
//!
//! ```text
//!   preflight ─► take(run) ─► handle ─► check … check ─► release(finalized | abandoned)
//!   PLAN, START   once a run    journal   right before each HOLD     the upgrade's end
//! ```
//!
//! The rules that every provider keeps:
//!
//! - **A run is taken once.** `SnapshotWish::run` is journalled before `take` is called, and a restart calls `take` again with
//!   the same run: a provider that finds what it began for that run goes on with it, and never triggers twice.
//! - **`take` gives a handle only for what is ready and verified.** A run that failed stays failed; a new attempt is a new run.
//! - **`check` remembers nothing.** It reads afresh that the snapshot is there, ready and still what was taken.
//! - **`release` deletes nothing that could be needed.** `Finalized` undoes protection and keeps the snapshot. `Abandoned`
//!   may delete, where the recipe says that this is safe. A handle without an id ([`SnapshotHandle::of_run`]) is a run that
//!   did not end: what it began is ended.
//! - **No client is held by a provider.** What a level needs of the server is done by `snapshot::quiesce`.
//! - **Errors are one line**: the object, the system's own words, the age of the condition, the next step.
//!
//! Futures are dropped when the operator aborts or control ends: whatever a provider leaves then is found again by its run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

/// What every call of a provider answers with.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ProviderError>> + Send + 'a>>;

/// Is told, in a few words, what a long call waits for now.
pub type Progress<'a> = &'a (dyn Fn(String) + Send + Sync);

/// A backup system, or something that drives one.
pub trait SnapshotProvider: Send + Sync {
    /// What `SNAPSHOT <name>` may name. A provider that asks others answers with what they say now.
    fn recipes(&self) -> Answer<'_, Vec<String>>;

    /// Whether `take` could go well. Touches nothing.
    fn preflight<'a>(&'a self, wish: &'a SnapshotWish) -> Answer<'a, Preflight>;

    /// Whether `take` may be called here at all, without asking anybody: another one of our kind may lead.
    fn may_begin(&self, _wish: &SnapshotWish) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Takes the snapshot of a run, or goes on with it; answers when it is ready and verified.
    fn take<'a>(
        &'a self,
        wish: &'a SnapshotWish,
        progress: Progress<'a>,
    ) -> Answer<'a, SnapshotHandle>;

    /// Reads afresh whether the snapshot is ready, and still what was taken.
    fn check<'a>(&'a self, handle: &'a SnapshotHandle) -> Answer<'a, ()>;

    /// The upgrade needs the snapshot no longer. May be repeated.
    fn release<'a>(&'a self, handle: &'a SnapshotHandle, why: Release) -> Answer<'a, ()>;

    /// Every snapshot that this provider took and still has, oldest first.
    fn list(&self) -> Answer<'_, Vec<SnapshotHandle>>;

    /// One snapshot, as fields for a person, in order.
    fn show<'a>(&'a self, id: &'a str) -> Answer<'a, Vec<(String, String)>>;

    /// Brings a snapshot back to where the operator says, and never onto a server that serves. Answers with what was made.
    fn restore<'a>(
        &'a self,
        id: &'a str,
        to: &'a RestoreTo,
        progress: Progress<'a>,
    ) -> Answer<'a, Vec<(String, String)>>;

    /// Reads a snapshot's data back whole and compares it with what is on record.
    fn verify<'a>(&'a self, id: &'a str, progress: Progress<'a>) -> Answer<'a, Verified>;

    /// Deletes a snapshot because an operator said so by its name.
    fn delete<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;
}

/// A snapshot that an upgrade wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotWish {
    /// Its name for good: part of an object's name and a label's value, at most 63 of `a-z 0-9 -`.
    #[serde(alias = "label")]
    pub run: String,
    /// Pool.
    #[serde(default)]
    pub pool: String,
    /// Shard.
    #[serde(default)]
    pub shard: String,
    /// The server that is about to lose its role, as a URL without password.
    pub server: String,
    /// Which recipe.
    #[serde(default = "local")]
    pub recipe: String,
    /// How far the server is quieted first.
    #[serde(default)]
    pub level: Level,
}

fn local() -> String {
    super::LOCAL.to_owned()
}

/// How far a server is quieted before its volume is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Not at all: what is on the volume is what a power failure would leave.
    Crash,
    /// An RDB was finished after the request, or the append-only file was synced after it.
    #[default]
    App,
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Level::Crash => "crash",
            Level::App => "app",
        })
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Level, String> {
        match text {
            "crash" => Ok(Level::Crash),
            "app" => Ok(Level::App),
            _ => Err(format!("no level '{text}': crash or app")),
        }
    }
}

/// A snapshot that was taken. It holds no password and may be shown to anybody who may see the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotHandle {
    /// What `snapshots show` and the like take; unique in its provider. Empty for a run that did not end.
    pub id: String,
    /// The wish's run.
    pub run: String,
    /// The recipe that took it.
    pub recipe: String,
    /// Pool.
    pub pool: String,
    /// Shard.
    pub shard: String,
    /// The server, as a URL without password.
    pub server: String,
    /// When the point in time was fixed, in milliseconds since 1970, by the clock of whoever fixed it.
    pub taken_at_ms: u64,
    /// The level that was reached, in a word that the recipe chose: `app`, `crash`, `file-copy`, …
    pub level_reached: String,
    /// The server's replication offset at the point in time or before it, where one is known.
    pub offset: Option<u64>,
    /// Keys in all databases, where they were counted.
    pub keys: Option<u64>,
    /// Size, where the system says it.
    pub bytes: Option<u64>,
    /// The server's process.
    pub run_id: Option<String>,
    /// The server's version.
    pub version: Option<String>,
    /// The object that stands for it, where there is one.
    pub object: Option<ObjectRef>,
    /// What the recipe needs to find, check and restore it.
    pub handle: BTreeMap<String, String>,
}

impl SnapshotHandle {
    /// Stands for a run that did not end: there is no snapshot, but what was begun for it may be somewhere.
    pub fn of_run(wish: &SnapshotWish) -> SnapshotHandle {
        SnapshotHandle {
            run: wish.run.clone(),
            recipe: wish.recipe.clone(),
            pool: wish.pool.clone(),
            shard: wish.shard.clone(),
            server: wish.server.clone(),
            ..SnapshotHandle::default()
        }
    }

    /// Where it lies, in a few words.
    pub fn place(&self) -> String {
        match &self.object {
            Some(object) => object.to_string(),
            None => self.handle.get("path").cloned().unwrap_or_default(),
        }
    }
}

/// An object of an API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectRef {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for an object of the cluster.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Which one of that name.
    pub uid: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(out, "{} {}", self.kind, self.name),
            namespace => write!(out, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// Why a snapshot is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Release {
    /// The way back is closed for good: protection is undone, the snapshot stays.
    Finalized,
    /// The upgrade never came to its commit, and the source serves: the snapshot may go where the recipe says so.
    Abandoned,
}

impl fmt::Display for Release {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Release::Finalized => "finalized",
            Release::Abandoned => "abandoned",
        })
    }
}

/// Where a snapshot is brought back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreTo {
    /// A file or a directory on this machine.
    Path(PathBuf),
    /// An object of this name, such as a PVC; in a namespace of its own where one is given.
    Object {
        /// Namespace; the recipe's own without it.
        namespace: Option<String>,
        /// Name.
        name: String,
    },
}

impl fmt::Display for RestoreTo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreTo::Path(path) => write!(out, "path:{}", path.display()),
            RestoreTo::Object {
                namespace: Some(namespace),
                name,
            } => write!(out, "object:{namespace}/{name}"),
            RestoreTo::Object {
                namespace: None,
                name,
            } => write!(out, "object:{name}"),
        }
    }
}

impl std::str::FromStr for RestoreTo {
    type Err = String;

    /// `object:[namespace/]name`, or a path with `path:` before it or nothing.
    fn from_str(text: &str) -> Result<RestoreTo, String> {
        let plain = text.strip_prefix("path:").unwrap_or(text);
        match text.strip_prefix("object:") {
            Some("") => Err("object: needs a name behind it".to_owned()),
            Some(object) => Ok(match object.split_once('/') {
                Some((namespace, name)) => RestoreTo::Object {
                    namespace: Some(namespace.to_owned()),
                    name: name.to_owned(),
                },
                None => RestoreTo::Object {
                    namespace: None,
                    name: object.to_owned(),
                },
            }),
            None if plain.is_empty() => Err("a path, or object:[namespace/]name".to_owned()),
            None => Ok(RestoreTo::Path(PathBuf::from(plain))),
        }
    }
}

/// What a reading of all the data found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Keys in all databases.
    pub keys: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What was compared and how, for a person.
    pub lines: Vec<String>,
}

/// Whether a snapshot could be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preflight {
    /// What stands in the way. With none, `take` may be called.
    pub problems: Vec<PreflightProblem>,
    /// What an operator should know: the level that will be reached, what was found, which class is used.
    pub notes: Vec<String>,
}

/// One thing that stands in the way of a snapshot. It is a blocker of PLAN under its code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreflightProblem {
    /// In kebab-case, beginning with `snapshot-`, such as `snapshot-class`.
    pub code: String,
    /// What is so, with the object's name.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

/// Which way a call of a provider failed. It decides what an upgrade does next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderErrorKind {
    /// It is not ready now, or no longer. Another look may find it ready; nothing is known to be lost.
    NotReady,
    /// It will never be ready, or is gone or damaged. Final for this run.
    Failed,
    /// The system does not let us.
    Denied,
    /// Who would know does not answer. Says nothing about the snapshot.
    Unreachable,
    /// What was asked for cannot be, as things are configured: no such recipe, id, class or claim.
    Misconfigured,
    /// Another one of our kind leads, and has to be asked.
    NotLeader {
        /// How it calls itself.
        holder: String,
    },
}

impl ProviderErrorKind {
    /// The word that stands for it on an admin port.
    pub fn word(&self) -> &'static str {
        match self {
            ProviderErrorKind::NotReady => "NOTREADY",
            ProviderErrorKind::Failed => "FAILED",
            ProviderErrorKind::Denied => "DENIED",
            ProviderErrorKind::Unreachable => "UNREACHABLE",
            ProviderErrorKind::Misconfigured => "MISCONFIGURED",
            ProviderErrorKind::NotLeader { .. } => "NOTLEADER",
        }
    }
}

/// Why a provider did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ProviderError {
    /// Which way it failed.
    pub kind: ProviderErrorKind,
    /// One line: the object, the system's own words, the age of the condition, the next step.
    pub text: String,
}

impl ProviderError {
    /// An error of a kind, with its line.
    pub fn new(kind: ProviderErrorKind, text: impl Into<String>) -> ProviderError {
        let text = text.into().replace(['\r', '\n'], " ");
        ProviderError { kind, text }
    }

    /// It will never be ready.
    pub fn failed(text: impl Into<String>) -> ProviderError {
        ProviderError::new(ProviderErrorKind::Failed, text)
    }

    /// It cannot be, as things are configured.
    pub fn misconfigured(text: impl Into<String>) -> ProviderError {
        ProviderError::new(ProviderErrorKind::Misconfigured, text)
    }

    /// True when it says that the snapshot itself is not, or no longer, what an upgrade may rely on.
    pub fn is_about_the_snapshot(&self) -> bool {
        match self.kind {
            ProviderErrorKind::NotReady | ProviderErrorKind::Failed => true,
            ProviderErrorKind::Denied
            | ProviderErrorKind::Unreachable
            | ProviderErrorKind::Misconfigured
            | ProviderErrorKind::NotLeader { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_restore_to_reads_as_it_is_written() {
        for text in ["path:/tmp/x.rdb", "object:redis/data-0", "object:data-0"] {
            assert_eq!(text.parse::<RestoreTo>().unwrap().to_string(), text);
        }
        let bare: RestoreTo = "./x".parse().unwrap();
        assert_eq!(bare, RestoreTo::Path("./x".into()));
        assert!("object:".parse::<RestoreTo>().is_err());
        assert!("".parse::<RestoreTo>().is_err());
    }

    #[test]
    fn an_effect_of_an_old_journal_is_a_wish() {
        let old = r#"{"server":"redis://a:1","label":"p-s1-1"}"#;
        let wish: SnapshotWish = serde_json::from_str(old).unwrap();
        assert_eq!(
            (wish.run.as_str(), wish.recipe.as_str(), wish.level),
            ("p-s1-1", "local", Level::App)
        );
    }

    #[test]
    fn an_error_is_one_line() {
        assert_eq!(ProviderError::failed("a\r\nb").to_string(), "a  b");
    }
}
