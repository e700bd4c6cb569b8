//! Before anything is held: the snapshot, the replication, the comparison. A connection that breaks is taken in stride
//! (`patience.rs`), but where a server was restarted meanwhile the copying begins again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::patience::{Patience, SILENCE_MAX};
use super::{Driver, Failure};
use crate::cutover::{Identity, Role};
use crate::effect::Effect;
use crate::effects::{arming_changes, source_settings, target_settings};
use crate::phase::Phase;
use crate::server::is_silence;
use crate::verify::{self, CompareOptions, KeyRef, Progress};

/// Between two looks at a replication.
const LOOK: Duration = Duration::from_millis(100);

/// The copy is done, and the rest fits into a hold, at this lag. Bytes.
pub(super) const LAG_MAX: u64 = 1 << 20;

/// A target whose link is down for so long, without any sync going on, aborts the approach.
const LINK_DOWN_MAX: Duration = Duration::from_secs(60);

/// Comparisons in a row that a silent server may cut short, each within the patience for it; the next one aborts.
const CUT_SHORT_MAX: u32 = 3;

/// Differences named in an error.
const NAMED_MAX: usize = 10;

/// Rounds in which expiries that drifted on the way are made absolute. Clients go on setting some; so many rounds end it.
const REPAIR_ROUNDS_MAX: u32 = 20;
/// Wait before the second round; it grows by as much each time, so that a stream that lags for seconds is outlasted.
const REPAIR_PAUSE: Duration = Duration::from_millis(20);

/// Most keys that may be left for the hold; more are compared again.
pub(super) const UNSETTLED_MAX: usize = 1_000;

impl Driver {
    pub(super) async fn snapshot_phase(&mut self) -> Result<(), Failure> {
        let source = self.record.source.clone();
        self.ensure_snapshot(&source).await?;
        self.enter(Phase::Replicate).await
    }

    pub(super) async fn replicate_phase(&mut self) -> Result<(), Failure> {
        let before = self.both_stand().await?;
        self.arm().await?;
        self.go_on()?;
        let (source, target) = (self.record.source.clone(), self.record.target.clone());
        // The server itself takes a repeat for what it is: it follows that address already.
        self.perform_patiently(Effect::Attach {
            target: target.clone(),
            source: source.clone(),
        })
        .await?;
        self.until_close().await?;
        self.perform_patiently(Effect::CarrySettings {
            source: source.clone(),
            target: target.clone(),
        })
        .await?;
        self.perform_patiently(Effect::CarryUsers {
            source: source.clone(),
            target: target.clone(),
        })
        .await?;
        self.carry_scripts(target).await?;
        // What broke a connection may have broken the copy.
        self.until_close().await?;
        self.waits_for(None);
        let (from, to) = self.both_stand().await?;
        for (side, before, now) in [("source", &before.0, &from), ("target", &before.1, &to)] {
            if before.run_id != now.run_id {
                // What was set on it is gone.
                self.record.note(format!(
                    "the {side} was restarted while it was copied; copying again"
                ));
                return Ok(());
            }
        }
        self.record.identity = Some(Identity::of(&from, &to));
        self.enter(Phase::Verify).await
    }

    /// Loads what clients have run so far, so that EVALSHA finds it; again right before each hold.
    pub(super) async fn carry_scripts(&mut self, server: String) -> Result<(), Failure> {
        let pool = self.record.pool.clone();
        self.perform_patiently(Effect::CarryScripts {
            pool,
            target: server,
        })
        .await
        .map(drop)
    }

    /// Both servers may change roles from here on. Old values are kept once, and on disk before anything is changed, so
    /// that neither a repeat nor a crash forgets them.
    async fn arm(&mut self) -> Result<(), Failure> {
        let sides = [
            ("source", self.record.source.clone(), source_settings()),
            ("target", self.record.target.clone(), target_settings()),
        ];
        for (side, server, settings) in sides {
            let before = self.arming_changes(&server, &settings).await?;
            let settings = (settings.into_iter())
                .filter(|(name, _)| before.contains_key(name))
                .collect();
            let kept = self.record.armed.entry(side.to_owned()).or_default();
            for (name, value) in before {
                kept.entry(name).or_insert(value);
            }
            self.save().await?;
            self.perform_patiently(Effect::Arm { server, settings })
                .await?;
        }
        Ok(())
    }

    /// What arming would change on a server that answers, with what it is now.
    async fn arming_changes(
        &mut self,
        server: &str,
        settings: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let mut patience = Patience::default();
        loop {
            let found = match self.world.servers.hold(server).await {
                Ok(mut held) => arming_changes(&mut held, settings).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(found) => return Ok(found),
                Err(error) => self.endure(&mut patience, error.into()).await?,
            }
        }
    }

    /// Waits until the target follows and is close behind.
    async fn until_close(&mut self) -> Result<(), Failure> {
        let mut answered = Instant::now();
        let mut moving = Instant::now();
        loop {
            let source = self.world.servers.observe(&self.record.source).await;
            let target = self.world.servers.observe(&self.record.target).await;
            match (source, target) {
                (Ok(source), Ok(target)) => {
                    answered = Instant::now();
                    let (from, to) = (
                        crate::world::standing(&source),
                        crate::world::standing(&target),
                    );
                    let lag = from.offset.saturating_sub(to.offset);
                    self.board
                        .update(&self.record.pool, &self.record.shard, |live| {
                            live.lag_bytes = Some(lag);
                            live.keys_total = source.keys_total();
                            live.keys_copied = target.keys_total();
                        });
                    match to.role {
                        Role::Primary => {
                            return Err(Failure::Failed(
                                "the target stopped being a replica".to_owned(),
                            ));
                        }
                        Role::Replica { link_up: true, .. }
                            if to.replid == from.replid && lag <= LAG_MAX && !to.unsaved =>
                        {
                            return Ok(());
                        }
                        Role::Replica { link_up: true, .. } => moving = Instant::now(),
                        Role::Replica { link_up: false, .. } if is_syncing(&target) => {
                            moving = Instant::now();
                        }
                        Role::Replica { link_up: false, .. } => {}
                    }
                    if moving.elapsed() > LINK_DOWN_MAX {
                        let seconds = LINK_DOWN_MAX.as_secs();
                        return Err(Failure::Failed(format!(
                            "the target's link to the source is down for {seconds} s"
                        )));
                    }
                    self.waits_for(Some(format!("the copy; {lag} bytes behind")));
                }
                (Err(error), _) | (_, Err(error)) => {
                    if answered.elapsed() > SILENCE_MAX {
                        return Err(error.into());
                    }
                    self.waits_for(Some(error.to_string()));
                }
            }
            self.pause(LOOK).await?;
        }
    }

    pub(super) async fn verify_phase(&mut self) -> Result<(), Failure> {
        for _ in 0..CUT_SHORT_MAX {
            match self.verify().await {
                Err(failure @ Failure::Silent(_)) => {
                    let mut patience = Patience::default();
                    self.endure(&mut patience, failure).await?;
                    // How long a comparison takes is no matter of patience; then it begins anew.
                    self.both_stand().await?;
                }
                verified => return verified,
            }
        }
        self.verify().await
    }

    /// One comparison, and where it leads.
    async fn verify(&mut self) -> Result<(), Failure> {
        let Some(identity) = self.record.identity.clone() else {
            return self.enter(Phase::Replicate).await;
        };
        self.waits_for(Some("the comparison".to_owned()));
        let (source, target) = (self.record.source.clone(), self.record.target.clone());
        let compared = match self.is_void().await {
            None => self.compare_and_repair(&source, &target).await,
            Some(what) => return self.replicate_again(&what).await,
        };
        self.waits_for(None);
        if let Err(failure @ (Failure::Stopped | Failure::Aborted)) = compared {
            return Err(failure);
        }
        let differs = !compared.as_ref().is_ok_and(|(found, _)| found.is_equal());
        // Two servers of which one was restarted or follows no more have nothing to compare.
        if differs && let Some(what) = self.is_void().await {
            return self.replicate_again(&what).await;
        }
        let (outcome, drifting) = compared?;
        self.record.keys_verified = outcome.keys_compared;
        self.record.differences = outcome.differences.len() as u64;
        self.save().await?;
        if !outcome.is_equal() {
            // Such as what a rollback left behind on it: a partial resync brings no such key along.
            return Err(Failure::Failed(format!(
                "{}; if nobody needs what only the target has, empty it and START again, then all is copied anew: \
                 redis-cli -u {target} REPLICAOF NO ONE, then FLUSHALL",
                unequal(&outcome)
            )));
        }
        let from = self.world.servers.standing(&source).await?;
        let to = self.world.servers.standing(&target).await?;
        if let Some(what) = identity.broken_by(&from, &to) {
            return self.replicate_again(&what).await;
        }
        if let Some(first) = drifting.first() {
            // Not a difference of the servers: clients set them anew meanwhile, and the stream lags.
            self.record.note(format!(
                "{} expiries drifted anew whenever they were made absolute, such as {first}; comparing again",
                drifting.len()
            ));
            return Ok(());
        }
        if outcome.unsettled.len() > UNSETTLED_MAX {
            self.record.note(format!(
                "{} keys did not stand still; comparing again",
                outcome.unsettled.len()
            ));
            return Ok(());
        }
        self.unsettled = outcome.unsettled;
        self.enter(Phase::Cutover).await
    }

    async fn replicate_again(&mut self, what: &str) -> Result<(), Failure> {
        self.waits_for(None);
        self.record.note(format!("verification void: {what}"));
        self.enter(Phase::Replicate).await
    }

    /// Answers with the expiries, too, that drifted anew whenever they were made absolute.
    async fn compare_and_repair(
        &mut self,
        source: &str,
        target: &str,
    ) -> Result<(verify::Outcome, Vec<verify::Difference>), Failure> {
        let mut outcome = self.compare(source, target).await?;
        let drifting = self.make_drifted_expiries_absolute(&mut outcome).await?;
        Ok((outcome, drifting))
    }

    /// 6.2 replicates a time to live, not a time; said again as a time, it is the same on both. Only those keys are compared
    /// again, round after round: meanwhile clients give others, or the same ones, a time to live of their own. Answers with
    /// those that had still drifted after the last round.
    async fn make_drifted_expiries_absolute(
        &mut self,
        outcome: &mut verify::Outcome,
    ) -> Result<Vec<verify::Difference>, Failure> {
        if !outcome.expiries_drift {
            return Ok(Vec::new());
        }
        let source = self.world.servers.login(&self.record.source)?;
        let target = self.world.servers.login(&self.record.target)?;
        let mut repaired = 0;
        let mut drifted = take_drifted(outcome);
        for round in 0..REPAIR_ROUNDS_MAX {
            if drifted.is_empty() {
                break;
            }
            self.unless_stopped(tokio::time::sleep(REPAIR_PAUSE * round))
                .await?;
            let options = CompareOptions::default();
            repaired += verify::repair_ttls(&source, &drifted, options.timeout)
                .await
                .map_err(|error| not_compared(&error))?;
            let keys: Vec<KeyRef> = drifted.into_iter().map(|found| found.key).collect();
            let comparing = verify::compare_keys(&source, &target, &keys, options);
            let mut again = self
                .unless_stopped(comparing)
                .await?
                .map_err(|error| not_compared(&error))?;
            drifted = take_drifted(&mut again);
            outcome.differences.extend(again.differences);
            outcome.unsettled.extend(again.unsettled);
            outcome.unverifiable.extend(again.unverifiable);
        }
        if repaired > 0 {
            self.record.note(format!(
                "{repaired} expiries had drifted and were made absolute on the source"
            ));
        }
        Ok(drifted)
    }

    /// Compares every key of both servers while writes go on.
    pub(super) async fn compare(
        &self,
        source: &str,
        target: &str,
    ) -> Result<verify::Outcome, Failure> {
        let (source, target) = (
            self.world.servers.login(source)?,
            self.world.servers.login(target)?,
        );
        let (pool, shard) = (self.record.pool.clone(), self.record.shard.clone());
        let board = self.board.clone();
        let progress = move |progress: Progress| {
            board.update(&pool, &shard, |live| {
                live.keys_total = progress.keys_total;
                live.record.keys_verified = progress.keys_compared;
            });
        };
        let comparing = verify::compare(&source, &target, CompareOptions::default(), &progress);
        let outcome = self.unless_stopped(comparing).await?;
        outcome.map_err(|error| not_compared(&error))
    }
}

fn not_compared(error: &verify::VerifyError) -> Failure {
    let text = crate::world::one_line(error);
    match error {
        verify::VerifyError::Ask { cause, .. } if is_silence(cause) => Failure::Silent(text),
        verify::VerifyError::Ask { .. }
        | verify::VerifyError::Refused { .. }
        | verify::VerifyError::Nonsense { .. }
        | verify::VerifyError::Behind { .. } => Failure::Failed(text),
    }
}

fn is_syncing(seen: &crate::server::Observed) -> bool {
    match seen.role {
        crate::server::Role::Replica {
            sync_in_progress, ..
        } => sync_in_progress || seen.loading,
        crate::server::Role::Primary { .. } => false,
    }
}

fn take_drifted(outcome: &mut verify::Outcome) -> Vec<verify::Difference> {
    let (drifted, others) = std::mem::take(&mut outcome.differences)
        .into_iter()
        .partition(verify::Difference::may_have_drifted);
    outcome.differences = others;
    drifted
}

/// Why two servers are not equal, with the first few keys by name.
pub(super) fn unequal(outcome: &verify::Outcome) -> String {
    let mut named: Vec<String> = outcome
        .differences
        .iter()
        .take(NAMED_MAX)
        .map(ToString::to_string)
        .collect();
    named.extend(
        outcome
            .unverifiable
            .iter()
            .take(NAMED_MAX)
            .map(|found| format!("{}: {}", found.key, found.why)),
    );
    named.extend(
        outcome
            .functions
            .iter()
            .take(NAMED_MAX)
            .map(|name| format!("function library {name}")),
    );
    let count = outcome.differences.len() + outcome.unverifiable.len() + outcome.functions.len();
    format!(
        "source and target differ in {count} places: {}",
        named.join("; ")
    )
}
