//! What can go wrong with the journal, in words that name the remedy.

use std::io;
use std::path::{Path, PathBuf};

/// Why the journal could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The directory cannot be made, or its thread not started.
    #[error("make the journal's directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Another process holds it.
    #[error("the journal {} is open in another process: only one control may run for a data_dir", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is not a journal, or no longer one.
    #[error(
        "the journal {} is damaged ({cause}): keep the file aside, and run `understudy recover --from-servers`",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// Written by another version of understudy.
    #[error(
        "the journal has format {format}, this build reads format 1: use the understudy that wrote it"
    )]
    Format {
        /// The format found.
        format: u64,
    },
    /// No room.
    #[error("the journal's disk is full ({cause}): free space under data_dir")]
    Full {
        /// What the system said.
        cause: String,
    },
    /// The disk refused.
    #[error("write or read the journal: {cause}")]
    Storage {
        /// What redb said.
        cause: String,
    },
    /// A value is not what this build writes.
    #[error("read a record of the journal: {cause}")]
    Record {
        /// What serde said.
        cause: String,
    },
    /// Its thread is gone.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    pub(super) fn opening(path: &Path, error: redb::DatabaseError) -> JournalError {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen
            | redb::DatabaseError::LockProtocolMismatch => JournalError::Locked {
                path: path.to_owned(),
            },
            redb::DatabaseError::Storage(redb::StorageError::Io(cause)) if is_full(&cause) => {
                JournalError::Full {
                    cause: cause.to_string(),
                }
            }
            redb::DatabaseError::Storage(redb::StorageError::Io(cause))
                if matches!(
                    cause.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound
                ) =>
            {
                JournalError::Directory {
                    path: path.to_owned(),
                    cause,
                }
            }
            other => JournalError::Damaged {
                path: path.to_owned(),
                cause: other.to_string(),
            },
        }
    }

    fn storage(error: redb::StorageError) -> JournalError {
        match error {
            redb::StorageError::Io(cause) if is_full(&cause) => JournalError::Full {
                cause: cause.to_string(),
            },
            other => JournalError::Storage {
                cause: other.to_string(),
            },
        }
    }
}

/// ENOSPC, EDQUOT, and EFBIG, which is what a limit on file sizes gives.
fn is_full(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

impl From<redb::StorageError> for JournalError {
    fn from(error: redb::StorageError) -> JournalError {
        JournalError::storage(error)
    }
}

impl From<redb::TransactionError> for JournalError {
    fn from(error: redb::TransactionError) -> JournalError {
        match error {
            redb::TransactionError::Storage(error) => JournalError::storage(error),
            other => JournalError::Storage {
                cause: other.to_string(),
            },
        }
    }
}

impl From<redb::TableError> for JournalError {
    fn from(error: redb::TableError) -> JournalError {
        match error {
            redb::TableError::Storage(error) => JournalError::storage(error),
            other => JournalError::Storage {
                cause: other.to_string(),
            },
        }
    }
}

impl From<redb::CommitError> for JournalError {
    fn from(error: redb::CommitError) -> JournalError {
        match error {
            redb::CommitError::Storage(error) => JournalError::storage(error),
            other => JournalError::Storage {
                cause: other.to_string(),
            },
        }
    }
}

impl From<redb::SetDurabilityError> for JournalError {
    fn from(error: redb::SetDurabilityError) -> JournalError {
        JournalError::Storage {
            cause: error.to_string(),
        }
    }
}
