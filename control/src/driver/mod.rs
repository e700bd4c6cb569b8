//! Drives one shard from its source to its target, and back if the operator says so.
//!
//! ```text
//!  approach  snapshot -> replicate -> verify          nothing is held; may be aborted at any time
//!  crossing  the nine steps, or their undo            clients are held; ends with roles and a probe read back
//!  publish   SWITCH and RELEASE until everybody knows  forward only
//!  soak      follow the way back, watch the budget; finalize or roll back
//! ```
//! A phase is journalled before it is acted on. A driver that is made from a journal's record goes on where that stands.

mod approach;
mod crossing;
mod finish;
mod hold_clock;
mod lost;
mod patience;
mod publish;
mod resume;
mod rollback_point;
mod silence;
mod snapshots;
mod soak;
mod stop;
mod undo;
mod waiting;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::cutover::Passage;
use crate::effect::{Effect, Hope, Outcome};
use crate::effects::{PerformError, Performer, Real};
use crate::journal::{EffectRecord, Options, ShardRecord};
use crate::phase::Phase;
use crate::status::Board;
use crate::verify::KeyRef;
use crate::world::World;

pub(crate) use crossing::forward_place;
use hold_clock::HoldClock;
pub(crate) use lost::bring_lost_proxies_home;
pub(crate) use resume::bring_proxies_home;
pub(crate) use snapshots::level;
pub(crate) use stop::{Failure, Wish};

/// What an operator tells a shard's driver.
#[derive(Debug)]
pub(crate) enum Order {
    /// Start the nine steps.
    Cutover,
    /// Hold, fence, unfence; the answer is what was seen, in lines.
    Rehearse(tokio::sync::oneshot::Sender<Result<Vec<String>, String>>),
    /// Close the way back.
    Finalize(tokio::sync::oneshot::Sender<Result<(), String>>),
    /// Go back, accepting the loss of so many keys. The answer says whether it may begin.
    Rollback(
        Option<u64>,
        tokio::sync::oneshot::Sender<Result<(), String>>,
    ),
}

/// Drives one shard.
pub(crate) struct Driver {
    world: Arc<World>,
    performer: Performer<Real>,
    board: Arc<Board>,
    record: ShardRecord,
    options: Options,
    orders: mpsc::Receiver<Order>,
    wish: watch::Receiver<Wish>,
    /// Keys that never stood still while they were compared; looked at again inside the hold.
    unsettled: Vec<KeyRef>,
    /// The operator said CUTOVER, and no attempt has come to its end since: a verification that is void is no end.
    told_to_go: bool,
    /// Attempts that were undone after the fence.
    fenced_attempts: u32,
    /// The attempt that was committed and is not yet published.
    under_way: Option<UnderWay>,
}

/// What is left of an attempt after its commit. A restart of control loses it, and asks the proxies and servers instead.
struct UnderWay {
    term: u64,
    /// Its steps, whose intentions are on disk.
    intended: Vec<EffectRecord>,
    clock: HoldClock,
}

/// What a driver needs to begin.
pub(crate) struct Start {
    pub(crate) world: Arc<World>,
    pub(crate) board: Arc<Board>,
    pub(crate) record: ShardRecord,
    pub(crate) options: Options,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) wish: watch::Receiver<Wish>,
}

impl Driver {
    pub(crate) fn new(start: Start) -> Driver {
        let real = Real::new(start.world.clone(), start.board.clone());
        let performer = Performer::new(
            start.world.journal.clone(),
            real,
            start.world.failpoint.clone(),
        );
        Driver {
            world: start.world,
            performer,
            board: start.board,
            record: start.record,
            options: start.options,
            orders: start.orders,
            wish: start.wish,
            unsettled: Vec::new(),
            told_to_go: false,
            fenced_attempts: 0,
            under_way: None,
        }
    }

    /// Where the shard is.
    pub(crate) fn phase(&self) -> Phase {
        self.record.phase
    }

    /// Whose driver this is.
    pub(crate) fn shard(&self) -> &str {
        &self.record.shard
    }

    /// Ends an upgrade that has not begun, because a shard before it was aborted.
    pub(crate) async fn call_off(&mut self, before: &str) {
        self.abort(&Failure::Failed(format!(
            "not begun: shard {before} before it was aborted"
        )))
        .await;
    }

    /// Goes on until the shard soaks, or has come to an end. What stops it before the commit aborts the shard.
    pub(crate) async fn approach(&mut self) -> Phase {
        if let Some(why) = self.record.aborting.clone()
            && self.record.phase.may_become(Phase::Aborted)
        {
            self.abort(&Failure::Failed(why)).await;
        }
        loop {
            let went = match self.record.phase {
                Phase::Plan => self.enter(Phase::Snapshot).await,
                Phase::Snapshot => self.snapshot_phase().await,
                Phase::Replicate => self.replicate_phase().await,
                Phase::Verify => self.verify_phase().await,
                Phase::Cutover => self.cutover_phase().await,
                Phase::Committed => self.publish_phase().await,
                Phase::Soak | Phase::Finalized | Phase::RolledBack | Phase::Aborted => {
                    return self.record.phase;
                }
            };
            match went {
                Ok(()) => {}
                Err(Failure::Stopped) => return self.record.phase,
                Err(failure) if self.record.phase == Phase::Committed => {
                    // Forward only: say what is wrong, and try again.
                    self.complain(failure.to_string());
                    if self.pause(stop::RETRY).await.is_err() {
                        return self.record.phase;
                    }
                }
                Err(failure) => self.abort(&failure).await,
            }
        }
    }

    /// Moves to the next phase: in the journal first, then on the board.
    async fn enter(&mut self, next: Phase) -> Result<(), Failure> {
        debug_assert!(
            self.record.phase.may_become(next),
            "{} may not become {next}",
            self.record.phase
        );
        let mut record = self.record.clone();
        record.phase = next;
        if !matches!(next, Phase::Aborted) {
            record.error = None;
        }
        self.world.journal.save(record.clone()).await?;
        tracing::info!(pool = %record.pool, shard = %record.shard, from = %self.record.phase, to = %next, "phase");
        self.record = record;
        self.show();
        Ok(())
    }

    /// Journals the record as it is.
    async fn save(&mut self) -> Result<(), Failure> {
        self.world.journal.save(self.record.clone()).await?;
        self.show();
        Ok(())
    }

    /// Puts the record on the board.
    fn show(&self) {
        let key = (self.record.pool.clone(), self.record.shard.clone());
        match self.record.open_attempt() {
            None => self.world.proxies.registry().disarm(&key),
            Some(attempt) if attempt.committed_offset.is_some() => {
                self.world.proxies.registry().committed(&key);
            }
            Some(_) => {}
        }
        let record = self.record.clone();
        self.board
            .update(&self.record.pool, &self.record.shard, |live| {
                live.record = record;
            });
    }

    /// Says what the driver waits for.
    fn waits_for(&self, what: Option<String>) {
        self.board
            .update(&self.record.pool, &self.record.shard, |live| {
                live.waiting = what;
            });
    }

    /// Says on the board and in the log what is wrong now.
    fn complain(&mut self, error: String) {
        if self.record.error.as_ref() != Some(&error) {
            tracing::warn!(pool = %self.record.pool, shard = %self.record.shard, %error, "upgrade");
            self.record.error = Some(error);
            self.show();
        }
    }

    async fn perform(&mut self, effect: Effect) -> Result<Outcome, Failure> {
        let outcome = self.performer.perform(&self.record, effect).await?;
        if let Outcome::Said(lines) = &outcome {
            for line in lines {
                self.record.note(line.clone());
            }
        }
        Ok(outcome)
    }

    /// As `perform`, also where the journal does not take it: for an undo, and after a commit.
    async fn perform_anyway(&mut self, effect: Effect) -> Result<Outcome, Failure> {
        Ok(self.performer.perform_anyway(&self.record, effect).await?)
    }

    /// Shows the lines that undo by hand what is about to happen.
    fn show_by_hand(&self, passage: Option<&Passage>) {
        let lines = passage.map(Passage::by_hand).unwrap_or_default();
        self.board
            .update(&self.record.pool, &self.record.shard, |live| {
                live.by_hand = lines;
            });
    }
}

impl From<PerformError> for Failure {
    fn from(error: PerformError) -> Failure {
        match error.hope() {
            Hope::Passing => Failure::Passing(error.to_string()),
            Hope::Silent => Failure::Silent(error.to_string()),
            Hope::None => Failure::Failed(error.to_string()),
        }
    }
}
