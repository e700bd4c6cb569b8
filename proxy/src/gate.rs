//! The gate's verbs over all workers of this proxy: order everybody, answer once. docs/gate.md is the contract.
//!
//! ```text
//!  HOLD     post to all; all drained: yes. One is not: RELEASE to all, and NOTHELD names it.
//!  PREPARE  post to all; all prepared: write the overlay; then yes. Otherwise RELEASE to all.
//!  SWITCH   all prepared?  write the overlay; post to all; all switched: yes. Repeat it when one was silent.
//!  RELEASE  write the overlay; post to all; all open: yes. A disk that is full does not keep clients waiting.
//! ```
//!
//! One verb at a time, except that HOLD does not keep the next one (an abort, say) waiting while it drains. Orders of one
//! verb reach every worker before those of the next: posting does not wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use understudy_config::BackendUrl;

use crate::orders::{ANSWER_MAX, Asked, Crew, Silent};
use crate::overlay::{Entry, Overlay, Standing};
use crate::route::{PoolIndex, ShardIndex};
use crate::shared::{Known, find};
use crate::table;
use crate::worker::{Ack, GateError, GatePosition, GateStatus, Order};

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
    /// The highest term seen of each shard, by pool and shard. Locked for the length of a verb.
    terms: Mutex<HashMap<(String, String), u64>>,
}

/// Exclusive use of routes and gates: a verb's, or a reload's.
pub(crate) type Turn<'a> = MutexGuard<'a, HashMap<(String, String), u64>>;

/// Why a verb failed. Its text is the reply, without the dash.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerbError {
    #[error("ERR no pool '{0}'")]
    NoPool(String),
    #[error("ERR no shard '{shard}' in pool '{pool}'")]
    NoShard { pool: String, shard: String },
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error("NOTHELD worker {worker} in flight unknown: it did not answer within {waited_ms} ms")]
    Frozen { worker: u16, waited_ms: u64 },
    #[error("NOTHELD worker {worker} in flight unknown: it was rebuilt, or takes no orders")]
    Lost { worker: u16 },
    #[error("ERR {silent}; what it did is unknown, repeat {verb}")]
    Silent { verb: &'static str, silent: Silent },
    #[error("ERR the route was not written and nothing changed: {0}")]
    NotWritten(String),
    #[error("ERR {0}")]
    BadUrl(String),
    #[error("ERR worker {worker} answered something else than was asked")]
    Odd { worker: u16 },
}

impl Gates {
    pub(crate) fn new(known: Known, crew: Crew) -> Gates {
        let overlay = known.overlay.load();
        let terms = overlay
            .entries()
            .iter()
            .map(|entry| ((entry.pool.clone(), entry.shard.clone()), entry.term));
        let terms = Mutex::new(terms.collect());
        drop(overlay);
        Gates { known, crew, terms }
    }

    /// Waits until no verb is under way and keeps others out.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        self.terms.lock().await
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
            let backend = self
                .known
                .overlay
                .load()
                .entry(&attempt.pool, &attempt.shard)
                .map(|entry| entry.backend.clone());
            let backend = backend.unwrap_or_default();
            let opened = entry(attempt, epoch, &backend, Standing::Open);
            if let Err(cause) = self.write(opened, &backend).await {
                // Only a restart would read it, and would start held: late, never wrong. Clients wait now.
                tracing::error!(pool = attempt.pool, shard = attempt.shard, %cause, "open a gate that data_dir/routes.json still calls prepared");
            }
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

    fn names(&self, pool: &str, shard: &str) -> Result<(PoolIndex, ShardIndex), VerbError> {
        let routes = self.known.routes.load();
        if routes.pool_named(pool).is_none() {
            return Err(VerbError::NoPool(pool.to_owned()));
        }
        let missing = || VerbError::NoShard {
            pool: pool.to_owned(),
            shard: shard.to_owned(),
        };
        find(&routes, pool, shard).ok_or_else(missing)
    }

    /// Refuses unknown names and older attempts, and remembers the term.
    fn admit(
        &self,
        turn: &mut Turn<'_>,
        attempt: &Attempt,
    ) -> Result<(PoolIndex, ShardIndex), VerbError> {
        let places = self.names(&attempt.pool, &attempt.shard)?;
        let seen = turn
            .entry((attempt.pool.clone(), attempt.shard.clone()))
            .or_default();
        if attempt.term < *seen {
            let (shard, seen, given) = (attempt.shard.clone(), *seen, attempt.term);
            return Err(GateError::StaleTerm { shard, seen, given }.into());
        }
        // A newer attempt that finds the gate busy must not lock the older one out of ending it.
        if !self.is_prepared_for_another(attempt) {
            *seen = attempt.term;
        }
        Ok(places)
    }

    fn is_prepared(&self, attempt: &Attempt) -> bool {
        let overlay = self.known.overlay.load();
        let entry = overlay.entry(&attempt.pool, &attempt.shard);
        entry.is_some_and(|entry| {
            entry.standing == Standing::Prepared
                && entry.term == attempt.term
                && entry.epoch == attempt.epoch
        })
    }

    fn is_prepared_for_another(&self, attempt: &Attempt) -> bool {
        let overlay = self.known.overlay.load();
        let entry = overlay.entry(&attempt.pool, &attempt.shard);
        entry
            .is_some_and(|entry| entry.standing == Standing::Prepared && entry.term != attempt.term)
    }

    fn is_switched(&self, attempt: &Attempt, next_epoch: u64, url: &str) -> bool {
        let overlay = self.known.overlay.load();
        let entry = overlay.entry(&attempt.pool, &attempt.shard);
        entry.is_some_and(|entry| {
            entry.epoch == next_epoch && entry.term == attempt.term && entry.backend == url
        })
    }

    fn expect_prepared(&self, attempt: &Attempt, found: &GateStatus) -> Result<(), GateError> {
        let shard = attempt.shard.clone();
        if found.epoch != attempt.epoch {
            return Err(GateError::WrongEpoch {
                shard,
                is: found.epoch,
                given: attempt.epoch,
            });
        }
        let state = found.state.name();
        if found.state == GatePosition::Prepared && found.term != attempt.term {
            return Err(GateError::Busy {
                shard,
                state,
                term: found.term,
            });
        }
        if found.state != GatePosition::Prepared {
            let why = "SWITCH needs a gate that is prepared";
            return Err(GateError::NotHeld {
                worker: 0,
                shard,
                state,
                term: found.term,
                why,
            });
        }
        Ok(())
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

    /// Makes a shard's route durable, then known to readers and rebuilt workers. On an error nothing has changed.
    async fn write(&self, entry: Entry, leaving: &str) -> Result<(), VerbError> {
        let next = Arc::new(self.known.overlay.load().with(entry, leaving));
        let config = self.known.config.load_full();
        let routes = table::build(&config, &next)
            .map_err(|cause| VerbError::NotWritten(cause.to_string()))?;
        store(Arc::clone(&next), config.data_dir.clone()).await?;
        self.known.overlay.store(next);
        self.known.routes.store(Arc::new(routes));
        Ok(())
    }
}

async fn store(overlay: Arc<Overlay>, data_dir: std::path::PathBuf) -> Result<(), VerbError> {
    let stored = tokio::task::spawn_blocking(move || overlay.store(&data_dir)).await;
    match stored {
        Ok(Ok(())) => Ok(()),
        Ok(Err(cause)) => Err(VerbError::NotWritten(cause.to_string())),
        Err(cause) => Err(VerbError::NotWritten(cause.to_string())),
    }
}

fn entry(attempt: &Attempt, epoch: u64, backend: &str, standing: Standing) -> Entry {
    Entry {
        pool: attempt.pool.clone(),
        shard: attempt.shard.clone(),
        epoch,
        term: attempt.term,
        backend: backend.to_owned(),
        standing,
        retired: Vec::new(),
    }
}

fn switched(epoch: u64, term: u64, url: &str) -> GateStatus {
    GateStatus {
        state: GatePosition::Switched,
        epoch,
        term,
        backend: url.to_owned(),
        in_flight: 0,
        held_sessions: 0,
        waited_us: 0,
        longest_gap_us: 0,
    }
}

/// One answer out of all: the least advanced gate, sums of what is counted. The first worker that is not as wanted fails it.
fn unanimous(
    acks: Vec<(u16, Result<Ack, Silent>)>,
    wanted: impl Fn(&GateStatus) -> bool,
) -> Result<GateStatus, VerbError> {
    let mut whole: Option<GateStatus> = None;
    let mut silent = None;
    for (worker, ack) in acks {
        match ack {
            Ok(Ack::Gate(status)) if wanted(&status) => whole = Some(merge(whole, status)),
            Ok(Ack::Gate(status)) if status.in_flight > 0 => {
                return Err(GateError::NotDrained {
                    worker,
                    in_flight: status.in_flight,
                }
                .into());
            }
            Ok(Ack::Refused(refused)) => return Err(refused.into()),
            Ok(_) => return Err(VerbError::Odd { worker }),
            // What another worker refuses says more than that one is silent.
            Err(Silent::Late { worker, waited_ms }) => {
                silent.get_or_insert(VerbError::Frozen { worker, waited_ms });
            }
            Err(Silent::Gone { worker }) => {
                silent.get_or_insert(VerbError::Lost { worker });
            }
        }
    }
    match (silent, whole) {
        (Some(silent), _) => Err(silent),
        (None, Some(whole)) => Ok(whole),
        (None, None) => Err(VerbError::Lost { worker: 0 }),
    }
}

fn merge(whole: Option<GateStatus>, one: GateStatus) -> GateStatus {
    let Some(whole) = whole else { return one };
    let (first, in_flight, held) = (
        rank(one.state) < rank(whole.state),
        whole.in_flight + one.in_flight,
        whole.held_sessions + one.held_sessions,
    );
    let waited_us = whole.waited_us.max(one.waited_us);
    let longest_gap_us = whole.longest_gap_us.max(one.longest_gap_us);
    let least = if first { one } else { whole };
    GateStatus {
        in_flight,
        held_sessions: held,
        waited_us,
        longest_gap_us,
        ..least
    }
}

fn rank(state: GatePosition) -> u8 {
    match state {
        GatePosition::Open => 0,
        GatePosition::Held => 1,
        GatePosition::Prepared => 2,
        GatePosition::Switched => 3,
    }
}

/// The address as routes carry it. A password in it is refused, since it would be written to the disk and shown.
fn address_only(url: &str) -> Result<String, VerbError> {
    let parsed: BackendUrl = url.parse().map_err(|_| {
        VerbError::BadUrl("the url is no redis://, rediss:// or unix:// address".into())
    })?;
    if parsed.password.is_some() {
        return Err(VerbError::BadUrl("a url in SWITCH carries no password; name the user, its password comes from the configuration".into()));
    }
    Ok(parsed.to_string())
}

impl VerbError {
    /// Whether the attempt was refused as such: nothing of it is held, or it is not ours to open.
    fn is_refusal(&self) -> bool {
        match self {
            VerbError::Gate(GateError::NotDrained { .. } | GateError::NotHeld { .. })
            | VerbError::Frozen { .. }
            | VerbError::Lost { .. }
            | VerbError::NotWritten(_)
            | VerbError::Odd { .. } => false,
            VerbError::Gate(
                GateError::StaleTerm { .. }
                | GateError::WrongEpoch { .. }
                | GateError::Busy { .. }
                | GateError::NoShard,
            )
            | VerbError::NoPool(_)
            | VerbError::NoShard { .. }
            | VerbError::Silent { .. }
            | VerbError::BadUrl(_) => true,
        }
    }

    /// For verbs that hold nothing and may be repeated, a silent worker is just that.
    fn for_repeating(self, verb: &'static str) -> VerbError {
        match self {
            VerbError::Frozen { worker, waited_ms } => VerbError::Silent {
                verb,
                silent: Silent::Late { worker, waited_ms },
            },
            VerbError::Lost { worker } => VerbError::Silent {
                verb,
                silent: Silent::Gone { worker },
            },
            other => other,
        }
    }
}
