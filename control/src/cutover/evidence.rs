//! What a server was seen to be at one instant, as far as a cutover is decided by it.
//!
//! An offset alone proves nothing: it counts bytes of *some* history. So evidence is always identity (run id, replication
//! id, full syncs given) and offset together.

use serde::{Deserialize, Serialize};

/// A server's role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Accepts writes.
    Primary,
    /// Follows another server.
    Replica {
        /// The host it follows.
        host: String,
        /// The port.
        port: u16,
        /// True when the link is up and no sync is going on.
        link_up: bool,
    },
}

impl Role {
    /// True for a replica.
    pub fn is_replica(&self) -> bool {
        matches!(self, Role::Replica { .. })
    }
}

/// A server at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Changes when the process restarts.
    pub run_id: String,
    /// Names the history that the offset counts.
    pub replid: String,
    /// The history before that, up to `second_offset`.
    pub replid2: String,
    /// Where the older history ended; negative without one.
    pub second_offset: i64,
    /// Bytes of the history that were applied here.
    pub offset: u64,
    /// Role.
    pub role: Role,
    /// Full resyncs that the server gave to replicas.
    pub sync_full: u64,
    /// Commands of its primary that it could not execute.
    pub replica_errors: u64,
    /// True while it loads its data.
    pub loading: bool,
    /// True while it writes its append-only file anew: a crash now would lose what a full copy brought.
    #[serde(default)]
    pub unsaved: bool,
}

impl Standing {
    /// True when this server knows the history `replid`, as its own or as the one before its promotion.
    pub fn knows(&self, replid: &str) -> bool {
        self.replid == replid || self.replid2 == replid
    }
}

/// What must not change between verification and promotion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process of the server that loses its role.
    pub from_run_id: String,
    /// Process of the server that gains it.
    pub to_run_id: String,
    /// The common history.
    pub replid: String,
    /// Full resyncs that the loser had given.
    pub sync_full: u64,
    /// Commands that the winner could not execute.
    pub replica_errors: u64,
}

impl Identity {
    /// The identity of a pair that replicates, as it is now.
    pub fn of(from: &Standing, to: &Standing) -> Identity {
        Identity {
            from_run_id: from.run_id.clone(),
            to_run_id: to.run_id.clone(),
            replid: from.replid.clone(),
            sync_full: from.sync_full,
            replica_errors: to.replica_errors,
        }
    }

    /// What changed since, in words; `None` when nothing did.
    pub fn broken_by(&self, from: &Standing, to: &Standing) -> Option<String> {
        if from.run_id != self.from_run_id {
            return Some("the server that serves the shard was restarted".to_owned());
        }
        if to.run_id != self.to_run_id {
            return Some("the server that is to take over was restarted".to_owned());
        }
        if !from.knows(&self.replid) {
            return Some("the history of the serving server changed (another replid)".to_owned());
        }
        if to.replid != self.replid && to.replid != from.replid {
            return Some(
                "the server that is to take over follows another history (another replid)"
                    .to_owned(),
            );
        }
        if from.sync_full != self.sync_full {
            return Some("a full resync was given since the verification".to_owned());
        }
        if to.replica_errors != self.replica_errors {
            return Some(format!(
                "the server that is to take over could not execute {} replicated commands",
                to.replica_errors.saturating_sub(self.replica_errors)
            ));
        }
        None
    }
}
