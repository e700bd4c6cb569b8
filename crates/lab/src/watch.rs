//! What a running load shows to whoever watches it: counts, waits and findings, written by all its connections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::finding::{Finding, FindingKind};
use crate::gap::{Gap, GapLog};

/// Findings kept of each kind; all are counted.
const KEPT_PER_KIND: usize = 50;

/// Shared by the connections of one load.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) started: Instant,
    pub(crate) stop: AtomicBool,
    pub(crate) counts: Counts,
    gaps: Vec<Mutex<GapLog>>,
    findings: Mutex<Findings>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) commands: AtomicU64,
    pub(crate) acknowledged_writes: AtomicU64,
    pub(crate) connections_lost: AtomicU64,
    pub(crate) connects_failed: AtomicU64,
    pub(crate) connected: AtomicU64,
}

/// Findings, bounded in number and counted in full.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub(crate) counts: BTreeMap<FindingKind, u64>,
    pub(crate) kept: Vec<Finding>,
}

impl Findings {
    pub(crate) fn add(&mut self, finding: Finding) {
        let count = self.counts.entry(finding.kind).or_default();
        *count += 1;
        if *count <= KEPT_PER_KIND as u64 {
            self.kept.push(finding);
        }
    }

    pub(crate) fn count(&self, kind: FindingKind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }
}

/// How far a load is, as of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// Commands answered.
    pub commands: u64,
    /// Writes acknowledged.
    pub acknowledged_writes: u64,
    /// Connections that are up.
    pub connected: u64,
    /// Connections that ended under a client, or fell silent.
    pub connections_lost: u64,
    /// Attempts to connect that failed.
    pub connects_failed: u64,
    /// Error replies.
    pub client_errors: u64,
    /// Replies that cannot be.
    pub wrong_replies: u64,
}

impl Watch {
    pub(crate) fn new(connections: usize) -> Watch {
        Watch {
            started: Instant::now(),
            stop: AtomicBool::new(false),
            counts: Counts::default(),
            gaps: (0..connections)
                .map(|connection| Mutex::new(GapLog::new(connection)))
                .collect(),
            findings: Mutex::new(Findings::default()),
        }
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn gap(&self, connection: usize) -> MutexGuard<'_, GapLog> {
        locked(&self.gaps[connection])
    }

    pub(crate) fn add(&self, finding: Finding) {
        locked(&self.findings).add(finding);
    }

    pub(crate) fn findings(&self) -> Findings {
        locked(&self.findings).clone()
    }

    pub(crate) fn at_ms(&self) -> u64 {
        millis(self.started.elapsed())
    }

    pub(crate) fn longest_gap(&self) -> Option<Gap> {
        let now = Instant::now();
        self.gaps
            .iter()
            .filter_map(|gap| locked(gap).longest(now))
            .max_by_key(|gap| gap.waited)
    }

    pub(crate) fn longest_gap_within(&self, from: Instant, to: Instant) -> Option<Gap> {
        let now = Instant::now();
        self.gaps
            .iter()
            .filter_map(|gap| locked(gap).longest_within(from, to, now))
            .max_by_key(|gap| gap.waited)
    }

    pub(crate) fn progress(&self) -> Progress {
        let findings = locked(&self.findings);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Progress {
            commands: read(&self.counts.commands),
            acknowledged_writes: read(&self.counts.acknowledged_writes),
            connected: read(&self.counts.connected),
            connections_lost: read(&self.counts.connections_lost),
            connects_failed: read(&self.counts.connects_failed),
            client_errors: findings.count(FindingKind::ClientError),
            wrong_replies: findings.count(FindingKind::WrongReply),
        }
    }
}

/// A connection that panicked has left its own counts as they were: still true.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970, which EXPIRE's outcome is compared with.
pub(crate) fn unix_ms() -> u64 {
    millis(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    )
}
