//! What can be wrong with RDB bytes. Positions count from the first byte that was handed in.

/// Why bytes are not a value, a payload or a file that we can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RdbError {
    /// The bytes end inside a value.
    #[error("data ends at byte {at}, in the middle of {what}")]
    Truncated {
        /// Where the missing byte would be.
        at: u64,
        /// What was being read.
        what: &'static str,
    },
    /// Bytes that no server writes.
    #[error("damaged data before byte {at}: {what}")]
    Corrupt {
        /// Where it was noticed.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The checksum in the data is not the checksum of the data.
    #[error("checksum differs: stored {stored:016x}, computed {computed:016x}")]
    Checksum {
        /// The one that the data carries.
        stored: u64,
        /// The one of the bytes before it.
        computed: u64,
    },
    /// A value type that none of the supported servers writes.
    #[error("value type {type_number} is not known (RDB version {version})")]
    UnknownType {
        /// The type byte.
        type_number: u8,
        /// The version that the data claims.
        version: u16,
    },
    /// A section of a file that is known, but that we do not carry.
    #[error("cannot read {what} (RDB version {version})")]
    Unsupported {
        /// The section's name.
        what: &'static str,
        /// The version that the data claims.
        version: u16,
    },
    /// The file does not start with `REDIS` or `VALKEY` and a version.
    #[error("not an RDB file: it starts with neither REDIS nor VALKEY and a version")]
    Magic,
    /// Bytes follow where a value or a file has ended.
    #[error("{count} bytes too many after the end, at byte {at}")]
    Trailing {
        /// Where the end was.
        at: u64,
        /// How many bytes follow.
        count: u64,
    },
}
