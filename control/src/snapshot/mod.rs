//! Snapshots: what can take one ([`SnapshotProvider`]), and the provider `local` that is always there.
//!
//! `local` is an RDB of our own, kept under data_dir, taken without seeing the server's disk:
//!
//! ```text
//!   server ── REPLCONF · PSYNC ? -1 ──► +FULLRESYNC replid offset ──► RDB ──► .<id>.rdb.partial
//!                                                                             fsync · read back · rename · <id>.json
//! ```
//!
//! We pose as a replica that wants nothing but the RDB, announces no port (so that no Sentinel can elect it) and leaves
//! when it has it. Where PSYNC is forbidden and the server's directory is visible here, a BGSAVE is copied instead.
//!
//! - A snapshot exists when its `<id>.json` does. That is written last, so there is no half one under a good name.
//! - The server may have to fork and save for this, and that may fail. A failed save makes a server refuse writes
//!   (`stop-writes-on-bgsave-error`), so that setting is off meanwhile and comes back after a good save.
//! - What arrives is checked while it does (every section, the checksum), and read back from the disk before it counts.

mod agents;
mod catalogue;
mod copy;
mod data;
mod error;
mod keep;
mod local;
mod local_provider;
mod logins;
mod protect;
mod provider;
mod providers;
mod quiesce;
mod record;
mod restore;
mod run;
mod store;
mod verbs;
mod wire;

pub use agents::{AgentSnapshots, Sidecars};
pub use catalogue::Catalogue;
pub use data::{Checksum, DataRead, read_data};
pub use error::SnapshotError;
pub use local::LocalSnapshots;
pub use logins::Logins;
pub use provider::{
    Answer, Level, ObjectRef, Preflight, PreflightProblem, Progress, ProviderError,
    ProviderErrorKind, Release, RestoreTo, SnapshotHandle, SnapshotProvider, SnapshotWish,
    Verified,
};
pub(crate) use providers::Providers;
pub use quiesce::{Quiesce, Quiesced, quiesce};
pub use record::{How, SnapshotRecord};
pub use run::run_name;
pub use verbs::SnapshotVerbs;

/// The recipe that needs no backup system.
pub const LOCAL: &str = "local";
