//! What the ledger found wrong, each naming its entry.

use std::fmt;

/// One thing that must not happen, with the ledger entry it happened to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Finding {
    /// What kind of harm.
    pub kind: FindingKind,
    /// Whose entry: the number of the load's connection. None for what no single connection owns.
    pub connection: Option<usize>,
    /// The connection's command number: of the wrong reply, or of the last acknowledged write to the key.
    pub sequence: u64,
    /// The key.
    pub key: String,
    /// What the ledger expects.
    pub expected: String,
    /// What was answered, or is on the server.
    pub found: String,
    /// The server that was read; none when a client saw it.
    pub server: Option<String>,
    /// When: milliseconds since the load began.
    pub at_ms: u64,
}

/// The kinds of harm, worst first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// An acknowledged write is not on the servers.
    Lost,
    /// A write was executed more than once, or one that was not acknowledged is there.
    Doubled,
    /// Acknowledged writes are there in another order.
    Reordered,
    /// A key is on more than one server.
    Misplaced,
    /// A reply that belongs to another command, or says what cannot be.
    WrongReply,
    /// The time to live is not the acknowledged one.
    WrongExpiry,
    /// A client got an error reply.
    ClientError,
    /// A client's connection ended or fell silent.
    ConnectionLost,
}

impl fmt::Display for FindingKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            FindingKind::Lost => "acknowledged write lost",
            FindingKind::Doubled => "write doubled",
            FindingKind::Reordered => "writes reordered",
            FindingKind::Misplaced => "key on several servers",
            FindingKind::WrongReply => "wrong reply",
            FindingKind::WrongExpiry => "wrong time to live",
            FindingKind::ClientError => "client error",
            FindingKind::ConnectionLost => "connection lost",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.kind)?;
        if let Some(connection) = self.connection {
            write!(out, "connection {connection}, command {}, ", self.sequence)?;
        }
        write!(
            out,
            "key {}: expected {}, found {}",
            self.key, self.expected, self.found
        )?;
        if let Some(server) = &self.server {
            write!(out, " on {server}")?;
        }
        Ok(())
    }
}
