//! The gate's verbs over all workers of this proxy: order everybody, answer once. docs/gate.md is the contract.
//!
//! ```text
//!  ARM      post to all: the shard is served only while control answers this proxy's registrations.
//!  HOLD     post to all; all drained: yes. One is not: RELEASE to all, and NOTHELD names it.
//!  PREPARE  post to all; all prepared: write the overlay; then yes. Otherwise RELEASE to all.
//!  SWITCH   all prepared?  write the overlay; post to all; all switched: yes. Repeat it when one was silent.
//!  RELEASE  write the overlay; post to all; all open: yes. A disk that is full does not keep clients waiting.
//! ```
//!
//! One verb at a time, except that HOLD does not keep the next one (an abort, say) waiting while it drains. Orders of one
//! verb reach every worker before those of the next: posting does not wait.

mod answers;
mod error;
mod standing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

pub(crate) use self::error::VerbError;

use self::answers::{switched, unanimous};
use self::standing::{address_only, entry};
use crate::orders::{ANSWER_MAX, Asked, Crew};
use crate::overlay::{Entry, Overlay, OverlayFile, Standing};
use crate::shared::Known;
use crate::table;
use crate::worker::{Ack, GateError, GatePosition, GateStatus, Lease, Order};

/// How much longer than its lease a HOLD waits for a worker to say how it went. Default: 50 ms.
const LEASE_GRACE: Duration = Duration::from_millis(50);

/// Whose gate, and who speaks.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) pool: String,
    pub(crate) shard: String,
    pub(crate) epoch: u64,
    pub(crate) term: u64,
}

/// The gates of one proxy.
pub(crate) struct Gates {
    known: Known,
    crew: Crew,
    file: Arc<OverlayFile>,
    /// The highest term seen of each shard, by pool and shard. Locked for the length of a verb.
    terms: Mutex<HashMap<(String, String), u64>>,
}

/// Exclusive use of routes and gates: a verb's, or a reload's.
pub(crate) type Turn<'a> = MutexGuard<'a, HashMap<(String, String), u64>>;

impl Gates {
    pub(crate) fn new(known: Known, crew: Crew, file: OverlayFile) -> Gates {
        let overlay = known.overlay.load();
        let terms = overlay
            .entries()
            .iter()
            .map(|entry| ((entry.pool.clone(), entry.shard.clone()), entry.term));
        let terms = Mutex::new(terms.collect());
        drop(overlay);
        Gates {
            known,
            crew,
            file: Arc::new(file),
            terms,
        }
    }

    /// Waits until no verb is under way and keeps others out.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        self.terms.lock().await
    }

    /// From now on the shard is served only while control answers: `left` is how long what it last said may be believed.
    pub(crate) async fn arm(
        &self,
        attempt: &Attempt,
        left: Duration,
    ) -> Result<GateStatus, VerbError> {
        let mut turn = self.turn().await;
        let (pool, shard) = self.admit(&mut turn, attempt)?;
        // No epoch: an order may be read late, so it neither opens a gate nor says what holds.
        let asked = self.crew.post(&Order::Lease {
            pool,
            shard,
            epoch: None,
            term: attempt.term,
            lease: Lease::Armed,
            left,
        });
        let status = self.all(asked, ANSWER_MAX, |_| true).await;
        let status = status.map_err(|failed| failed.for_repeating("ARM"))?;
        let shard = || attempt.shard.clone();
        match status.state {
            GatePosition::Lapsed => Err(GateError::NoLease { shard: shard() }.into()),
            _ if status.epoch != attempt.epoch => Err(GateError::WrongEpoch {
                shard: shard(),
                is: status.epoch,
                given: attempt.epoch,
            }
            .into()),
            _ => Ok(status),
        }
    }

    /// Stops admission and waits until nothing is in flight.
    pub(crate) async fn hold(
        &self,
        attempt: &Attempt,
        lease: Duration,
    ) -> Result<GateStatus, VerbError> {
        let lease = lease.min(self.known.config.load().limits.hold_max);
        let asked = {
            let mut turn = self.turn().await;
            let (pool, shard) = self.admit(&mut turn, attempt)?;
            let Attempt { epoch, term, .. } = *attempt;
            self.crew.post(&Order::Hold {
                pool,
                shard,
                epoch,
                term,
                lease,
            })
        };
        let held =
            |status: &GateStatus| status.state != GatePosition::Open && status.term == attempt.term;
        match self.all(asked, lease + LEASE_GRACE, held).await {
            Ok(status) => Ok(status),
            Err(failed) => Err(self.undo(attempt, failed).await),
        }
    }

    /// Ends the lease, durably.
    pub(crate) async fn prepare(&self, attempt: &Attempt) -> Result<GateStatus, VerbError> {
        let mut turn = self.turn().await;
        let (pool, shard) = self.admit(&mut turn, attempt)?;
        let Attempt { epoch, term, .. } = *attempt;
        let asked = self.crew.post(&Order::Prepare {
            pool,
            shard,
            epoch,
            term,
        });
        let prepared = |status: &GateStatus| {
            matches!(
                status.state,
                GatePosition::Prepared | GatePosition::Switched
            ) && status.term == term
        };
        let status = match self.all(asked, ANSWER_MAX, prepared).await {
            Ok(status) => status,
            Err(failed) => {
                drop(turn);
                return Err(self.undo(attempt, failed).await);
            }
        };
        if status.state == GatePosition::Prepared && !self.is_prepared(attempt) {
            let entry = entry(attempt, epoch, &status.backend, Standing::Prepared);
            if let Err(failed) = self.write(entry, &status.backend).await {
                drop(turn);
                return Err(self.undo(attempt, failed).await);
            }
            // A worker that was rebuilt before the write came back open. From the write on they come back prepared.
            let asked = self.crew.post(&Order::Gate { pool, shard });
            if let Err(failed) = self.all(asked, ANSWER_MAX, prepared).await {
                self.reopen(attempt, &status.backend).await;
                drop(turn);
                return Err(self.undo(attempt, failed).await);
            }
        }
        Ok(status)
    }

    /// Writes the new route, then flips every worker, still held.
    pub(crate) async fn switch(
        &self,
        attempt: &Attempt,
        next_epoch: u64,
        url: &str,
    ) -> Result<GateStatus, VerbError> {
        let url = address_only(url)?;
        let mut turn = self.turn().await;
        let (pool, shard) = self.admit(&mut turn, attempt)?;
        let Attempt { epoch, term, .. } = *attempt;
        if !self.is_switched(attempt, next_epoch, &url) {
            let asked = self.crew.post(&Order::Gate { pool, shard });
            let any = self.all(asked, ANSWER_MAX, |_| true).await?;
            self.expect_prepared(attempt, &any)?;
            if next_epoch <= epoch {
                return Err(VerbError::BadUrl(format!(
                    "the next epoch must be above {epoch}, it is {next_epoch}"
                )));
            }
            self.write(
                entry(attempt, next_epoch, &url, Standing::Open),
                &any.backend,
            )
            .await?;
        }
        let asked = self.crew.post(&Order::Switch {
            pool,
            shard,
            epoch,
            term,
            next_epoch,
            url: url.clone(),
        });
        let mut acks = asked.gather(ANSWER_MAX).await;
        for (_, ack) in &mut acks {
            // A worker that was rebuilt after the write has no gate to flip: it started on the new route.
            if let Ok(Ack::Refused(GateError::WrongEpoch { is, .. })) = ack
                && *is == next_epoch
            {
                *ack = Ok(Ack::Gate(switched(next_epoch, term, &url)));
            }
        }
        let there = |status: &GateStatus| status.epoch == next_epoch;
        unanimous(acks, there).map_err(|failed| failed.for_repeating("SWITCH"))
    }

    /// Opens the gate at the epoch it stands at.
    pub(crate) async fn release(&self, attempt: &Attempt) -> Result<GateStatus, VerbError> {
        let mut turn = self.turn().await;
        let (pool, shard) = self.admit(&mut turn, attempt)?;
        let Attempt { epoch, term, .. } = *attempt;
        if self.is_prepared(attempt) {
            let overlay = self.known.overlay.load_full();
            let backend = overlay
                .entry(&attempt.pool, &attempt.shard)
                .map(|entry| &entry.backend);
            self.reopen(attempt, backend.map_or("", String::as_str))
                .await;
        }
        let asked = self.crew.post(&Order::Release {
            pool,
            shard,
            epoch,
            term,
        });
        let open = |status: &GateStatus| status.state == GatePosition::Open;
        self.all(asked, ANSWER_MAX, open)
            .await
            .map_err(|failed| failed.for_repeating("RELEASE"))
    }

    /// Where the gate stands: of workers that differ, the least advanced.
    pub(crate) async fn read(&self, pool: &str, shard: &str) -> Result<GateStatus, VerbError> {
        let (pool, shard) = self.names(pool, shard)?;
        let asked = self.crew.post(&Order::Gate { pool, shard });
        self.all(asked, ANSWER_MAX, |_| true)
            .await
            .map_err(|failed| failed.for_repeating("GATE"))
    }

    async fn all(
        &self,
        asked: Asked,
        limit: Duration,
        wanted: impl Fn(&GateStatus) -> bool,
    ) -> Result<GateStatus, VerbError> {
        unanimous(asked.gather(limit).await, wanted)
    }

    /// Opens what this attempt has closed, so that a HOLD or PREPARE that failed leaves nobody waiting. An attempt that
    /// was already prepared stays so: only RELEASE ends it.
    async fn undo(&self, attempt: &Attempt, failed: VerbError) -> VerbError {
        if failed.is_refusal() || self.is_prepared(attempt) {
            return failed;
        }
        let Ok((pool, shard)) = self.names(&attempt.pool, &attempt.shard) else {
            return failed;
        };
        let Attempt { epoch, term, .. } = *attempt;
        // Posted, not awaited: a frozen worker finds it behind the order that it has not read yet.
        drop(self.crew.post(&Order::Release {
            pool,
            shard,
            epoch,
            term,
        }));
        failed
    }

    /// Writes that a restart may open the gate. A disk that refuses does not keep clients waiting.
    async fn reopen(&self, attempt: &Attempt, backend: &str) {
        let opened = entry(attempt, attempt.epoch, backend, Standing::Open);
        if let Err(cause) = self.write(opened.clone(), backend).await {
            // Only a restart would read the file, and would start held: late, never wrong. The next write mends it.
            let open = self.known.overlay.load().with(opened, backend);
            self.known.overlay.store(Arc::new(open));
            tracing::error!(
                pool = attempt.pool,
                shard = attempt.shard,
                %cause,
                "open a gate that data_dir/routes.json still calls prepared"
            );
        }
    }

    /// Makes a shard's route durable, then known to readers and rebuilt workers. On an error nothing has changed.
    async fn write(&self, entry: Entry, leaving: &str) -> Result<(), VerbError> {
        let next = Arc::new(self.known.overlay.load().with(entry, leaving));
        let config = self.known.config.load_full();
        let routes = table::build(&config, &next)
            .map_err(|cause| VerbError::NotWritten(cause.to_string()))?;
        store(Arc::clone(&next), Arc::clone(&self.file)).await?;
        self.known.overlay.store(next);
        self.known.routes.store(Arc::new(routes));
        Ok(())
    }
}

async fn store(overlay: Arc<Overlay>, file: Arc<OverlayFile>) -> Result<(), VerbError> {
    let stored = tokio::task::spawn_blocking(move || file.store(&overlay)).await;
    match stored {
        Ok(Ok(())) => Ok(()),
        Ok(Err(cause)) => Err(VerbError::NotWritten(cause.to_string())),
        Err(cause) => Err(VerbError::NotWritten(cause.to_string())),
    }
}
