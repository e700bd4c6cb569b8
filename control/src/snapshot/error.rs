//! Why there is no snapshot.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use understudy_net::ClientError;
use understudy_rdb::{FileError, RdbError};

/// Why a snapshot was not taken, or is not sound. In each case nothing was left under a snapshot's name.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The server could not be asked.
    #[error("ask {server} for {what}")]
    Ask {
        /// Its address.
        server: String,
        /// What for.
        what: &'static str,
        /// Why.
        #[source]
        cause: ClientError,
    },
    /// The server does not give us its data.
    #[error("{server} refused {what}: {text}")]
    Refused {
        /// Its address.
        server: String,
        /// What.
        what: &'static str,
        /// The server's words.
        text: String,
    },
    /// The server ended the transfer: its save failed, or our reading was too slow for its limits.
    #[error("{server} ended the transfer after {bytes} bytes of RDB{hint}")]
    Ended {
        /// Its address.
        server: String,
        /// Bytes of the RDB that had arrived.
        bytes: u64,
        /// What the server says about its last save, if that explains it.
        hint: String,
    },
    /// The connection failed.
    #[error("read the RDB from {server}")]
    Receive {
        /// Its address.
        server: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Nothing came for too long.
    #[error("{server} sent nothing for {} s after {bytes} bytes of RDB", idle.as_secs())]
    Idle {
        /// Its address.
        server: String,
        /// The limit.
        idle: Duration,
        /// Bytes of the RDB that had arrived.
        bytes: u64,
    },
    /// What came is not a sound RDB.
    #[error("the RDB of {server} is not sound: {cause}")]
    Unsound {
        /// Its address.
        server: String,
        /// What is wrong.
        #[source]
        cause: RdbError,
    },
    /// Our disk did not take it.
    #[error("write the snapshot to {}: {cause}; nothing of it was kept", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why: no space, no right, a limit on sizes of files.
        #[source]
        cause: io::Error,
    },
    /// Our disk does not give it back.
    #[error("read the snapshot {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The file is no longer what was taken.
    #[error("the snapshot {} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is no such snapshot.
    #[error("there is no snapshot '{id}' in {}", directory.display())]
    Unknown {
        /// The name that was asked for.
        id: String,
        /// Where snapshots are kept.
        directory: PathBuf,
    },
    /// A failing save could stop the server's writes, and we may not prevent that.
    #[error(
        "{server} does not let us set stop-writes-on-bgsave-error, so a failing save would stop its writes: {text}; \
         allow CONFIG GET and CONFIG SET, or set it to 'no'"
    )]
    Unprotected {
        /// Its address.
        server: String,
        /// The server's words.
        text: String,
    },
    /// The caller wanted it no longer.
    #[error("the snapshot was cancelled; nothing of it was kept")]
    Cancelled,
}

impl SnapshotError {
    pub(super) fn damaged(path: impl Into<PathBuf>, cause: FileError) -> Self {
        let path = path.into();
        match cause {
            FileError::Read(cause) => Self::Read { path, cause },
            FileError::Rdb(cause) => Self::Damaged {
                path,
                what: cause.to_string(),
            },
        }
    }
}
