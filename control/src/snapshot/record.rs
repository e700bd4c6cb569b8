//! What is kept about a snapshot, beside its file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One snapshot. Written as JSON beside the RDB, and the last thing to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Its name: the label and the time.
    pub id: String,
    /// What it was taken for.
    pub label: String,
    /// The pool of the shard that it guards; empty where it was taken for none.
    #[serde(default)]
    pub pool: String,
    /// The shard that it guards; empty where it was taken for none.
    #[serde(default)]
    pub shard: String,
    /// The RDB.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Keys in all databases.
    pub keys: u64,
    /// The RDB's own checksum in hex; absent where the server is told to write none.
    pub checksum: Option<String>,
    /// BLAKE3 of the file, in hex.
    pub digest: String,
    /// The server's address, without login.
    pub server: String,
    /// The server's process.
    pub run_id: String,
    /// The server's version.
    pub version: String,
    /// The history that the snapshot is a moment of.
    pub replid: String,
    /// The moment. Absent in a copied one: a file tells its offset only if the server had replicas.
    pub offset: Option<u64>,
    /// When it was asked for, in milliseconds since 1970, by our clock.
    pub taken_at_unix_ms: u64,
    /// How it came here.
    pub how: How,
}

/// How a snapshot came to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// By a replica's handshake; the server's disk was not looked at.
    OverTheWire,
    /// From the server's directory, after a BGSAVE.
    Copied,
}
