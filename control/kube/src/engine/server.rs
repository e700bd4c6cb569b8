//! The Redis server behind the volume, as far as the engine needs it.

use std::pin::Pin;
use std::time::Duration;

use understudy_control::snapshot::Level;

/// What is known of the server's data at or before the cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its replication offset.
    pub offset: Option<u64>,
    /// Keys in all databases.
    pub keys: Option<u64>,
    /// Its process.
    pub run_id: Option<String>,
    /// Its version.
    pub version: Option<String>,
}

/// Why the server did not do what a level needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(pub String);

/// What a call answers with.
pub type Said<'a, T> = Pin<Box<dyn Future<Output = Result<T, ServerError>> + Send + 'a>>;

/// The server behind the volume.
pub trait Server: Send + Sync {
    /// App: its data is on the disk, without holding a client. Crash: only looks. Tells what is known then.
    fn quiesce(&self, level: Level) -> Said<'_, Facts>;

    /// Holds writes for so long at most: the server ends it by itself, also when we are gone.
    fn hold(&self, most: Duration) -> Said<'_, ()>;

    /// Ends the hold. Harmless without one.
    fn lift(&self) -> Said<'_, ()>;
}
