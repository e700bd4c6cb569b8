//! The ledger of a load that has ended, and its audit against the servers themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::audit::{Audit, AuditOptions};
use crate::book::Book;
use crate::error::LabError;
use crate::gap::Gap;
use crate::report::Report;
use crate::watch::{Progress, Watch};
use crate::wire::Address;

/// What every connection wrote down.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) books: Vec<Book>,
    /// Connections of the load whose task panicked: their writes cannot be checked, so no audit may pass.
    pub(crate) unaccounted: usize,
    pub(crate) watch: Arc<Watch>,
    pub(crate) prefix: String,
    pub(crate) elapsed: Duration,
}

impl Ledger {
    /// As [`crate::Load::longest_gap`], after its end.
    pub fn longest_gap(&self, from: Instant, to: Instant) -> Option<Gap> {
        self.watch.longest_gap_within(from, to)
    }

    /// Counts of the load.
    pub fn progress(&self) -> Progress {
        self.watch.progress()
    }

    /// Reads every entry's key on `servers` (the primaries of all shards, each directly, not by a proxy) and tells what
    /// is lost, doubled, reordered or misplaced. The servers must be quiet meanwhile.
    pub async fn audit(
        &self,
        servers: &[Address],
        options: &AuditOptions,
    ) -> Result<Report, LabError> {
        if self.unaccounted > 0 {
            let answer = format!("{} of its connections panicked", self.unaccounted);
            return Err(LabError::Answer {
                doing: "end the load".to_owned(),
                answer,
            });
        }
        let mut audit = Audit::connect(servers, options, self.watch.at_ms()).await?;
        for book in &self.books {
            audit.read_book(book).await?;
        }
        audit.read_shared(&self.books, &self.prefix).await?;
        let keys_checked = audit.keys_checked();
        let mut findings = self.watch.findings();
        for finding in audit.into_findings() {
            findings.add(finding);
        }
        Ok(Report::new(
            &self.watch,
            &findings,
            keys_checked,
            self.elapsed,
        ))
    }
}
