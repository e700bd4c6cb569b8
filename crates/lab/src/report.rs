//! The result of a load and its audit: the zeros that matter, as one document.

use std::time::Duration;

use crate::finding::{Finding, FindingKind};
use crate::watch::{Findings, Watch, millis};

/// The zeros, and what they are zeros of.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// How long the load ran.
    pub seconds: f64,
    /// Commands answered.
    pub commands: u64,
    /// Writes acknowledged.
    pub acknowledged_writes: u64,
    /// Keys of the ledger that were read on the servers.
    pub keys_checked: u64,
    /// Error replies that clients got.
    pub client_errors: u64,
    /// Connections that ended under a client, or fell silent.
    pub connections_lost: u64,
    /// Attempts to connect that failed.
    pub connects_failed: u64,
    /// Keys of which an acknowledged write is missing.
    pub lost: u64,
    /// Keys to which a write was done more than once, or not acknowledged and never sent again.
    pub doubled: u64,
    /// Keys whose acknowledged writes are there in another order.
    pub reordered: u64,
    /// Replies that belong to another command or cannot be.
    pub wrong_replies: u64,
    /// Keys on more than one server.
    pub misplaced: u64,
    /// Keys with another time to live than the acknowledged one.
    pub wrong_expiries: u64,
    /// The longest any connection waited for a reply.
    pub longest_gap: Option<GapLine>,
    /// The findings, of each kind the first ones.
    pub findings: Vec<Finding>,
}

/// One wait, as printed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GapLine {
    /// Whose.
    pub connection: usize,
    /// When it began: milliseconds since the load began.
    pub began_ms: u64,
    /// How long it took, in microseconds.
    pub waited_us: u64,
}

impl Report {
    pub(crate) fn new(
        watch: &Watch,
        findings: &Findings,
        keys_checked: u64,
        elapsed: Duration,
    ) -> Report {
        let progress = watch.progress();
        let count = |kind| findings.count(kind);
        let mut named = findings.kept.clone();
        named.sort_by_key(|finding| (finding.kind, finding.at_ms));
        Report {
            seconds: elapsed.as_secs_f64(),
            commands: progress.commands,
            acknowledged_writes: progress.acknowledged_writes,
            keys_checked,
            client_errors: count(FindingKind::ClientError),
            connections_lost: progress.connections_lost,
            connects_failed: progress.connects_failed,
            lost: count(FindingKind::Lost),
            doubled: count(FindingKind::Doubled),
            reordered: count(FindingKind::Reordered),
            wrong_replies: count(FindingKind::WrongReply),
            misplaced: count(FindingKind::Misplaced),
            wrong_expiries: count(FindingKind::WrongExpiry),
            longest_gap: watch.longest_gap().map(|gap| GapLine {
                connection: gap.connection,
                began_ms: millis(gap.began.saturating_duration_since(watch.started)),
                waited_us: u64::try_from(gap.waited.as_micros()).unwrap_or(u64::MAX),
            }),
            findings: named,
        }
    }

    /// Nothing acknowledged was lost, doubled, reordered or misplaced, and no reply was wrong. What a client suffers by
    /// a dead server (errors, ended connections) is not in it.
    pub fn is_true(&self) -> bool {
        let harms = [
            self.lost,
            self.doubled,
            self.reordered,
            self.wrong_replies,
            self.misplaced,
            self.wrong_expiries,
        ];
        harms.iter().all(|harm| *harm == 0)
    }

    /// [`Report::is_true`], and no client noticed anything: what an upgrade promises.
    pub fn is_clean(&self) -> bool {
        self.is_true()
            && self.client_errors == 0
            && self.connections_lost == 0
            && self.connects_failed == 0
    }
}
