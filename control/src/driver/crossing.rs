//! The nine steps, and their undo.
//!
//! ```text
//!  before  ARM all that registered: who is not known, or silent, is in the way
//!  1 HOLD all      2 pause the loser, winner has O1     3 PREPARE all        4 fence the loser behind the parked guard
//!  5 winner == O2  6 promote the winner                 7 unpark: +CONTINUE  8 commit      9 SWITCH, RELEASE
//! ```
//! Every wait ends at a deadline, and a deadline always undoes. What has been begun is undone in the stated order, the
//! winner first, and the undo is not over before roles and a probe were read back.
//!
//! The largest sync of a disk inside the hold, the loser's CONFIG REWRITE, stays part of step 4. Beside steps 5 and 6 it would be
//! as safe, if the commit waited for it: until then a loser that comes back as a primary means undo. But it is not known to win
//! anything. The loser has one thread, and shakes hands with the guard only when it has synced; step 7 waits for that handshake,
//! which now runs beside steps 5 and 6 and would run behind them (docs/performance.md has how long each takes). Beside the
//! commit's own sync it would win its time, and a loser that restarts in between would take strangers' writes that no undo
//! brings back.

use std::time::{Duration, Instant};

use super::approach::{LAG_MAX, unequal};
use super::hold_clock::HoldClock;
use super::patience::Patience;
use super::{Driver, Failure, UnderWay};
use crate::cutover::{
    CutoverDecision, Identity, Passage, Standing, Step, has_caught_up, is_equal, is_promoted,
    may_begin, may_commit,
};
use crate::effect::Outcome;
use crate::journal::{
    Attempt, CutoverMode, Direction, EffectRecord, FORMAT, GuardPlace, RouteRecord,
};
use crate::metrics::CutoverResult;
use crate::phase::Phase;
use crate::verify::{self, CompareOptions};
use crate::world::{build, sentinels};

/// Attempts of one cutover, when drain or lag ended the ones before.
const ATTEMPTS_MAX: u32 = 3;

/// Between two attempts.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// Between two looks inside a hold.
const LOOK: Duration = Duration::from_millis(1);

/// Longest wait for equality after the fence. Clients are held.
const EQUAL_PATIENCE: Duration = Duration::from_millis(500);

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Crossed {
    /// The journal holds the commit.
    Committed,
    /// Undone; the loser never stopped being a primary, so what was verified still holds.
    Held(Failure),
    /// Undone after the fence; what was verified must be verified again.
    Fenced(Failure),
    /// Not begun: what was verified is not what is there now.
    Void(String),
    /// A rehearsal went as far as it should, and was undone.
    Rehearsed(Vec<String>),
}

/// An attempt under way.
struct Attempting<'a> {
    passage: &'a Passage,
    identity: &'a Identity,
    intended: Vec<EffectRecord>,
    /// The last step that was begun; what it did is unknown until it is confirmed.
    begun: Option<Step>,
    rehearsal: bool,
    clock: HoldClock,
}

impl Driver {
    pub(super) async fn cutover_phase(&mut self) -> Result<(), Failure> {
        let mut attempts = 0;
        let mut patience = Patience::default();
        loop {
            if self.options.cutover == CutoverMode::Manual && !self.told_to_go {
                if !self.wait_for_cutover().await? {
                    return Ok(());
                }
                self.told_to_go = true;
            }
            self.go_on()?;
            let crossed = match self.attempt_forward().await {
                Ok(Crossed::Held(failure)) => Crossed::Held(self.weigh_silence(failure).await),
                Ok(crossed) => crossed,
                // Not begun, since a proxy did not answer.
                Err(failure) => match self.weigh_silence(failure).await {
                    passing @ Failure::Passing(_) => Crossed::Held(passing),
                    // Nor since a server did not: nobody was held, and all of it is looked at afresh.
                    other => {
                        self.endure(&mut patience, other).await?;
                        continue;
                    }
                },
            };
            patience = Patience::default();
            attempts += 1;
            match crossed {
                Crossed::Committed => return Ok(()),
                Crossed::Rehearsed(_) => {}
                Crossed::Held(Failure::Passing(why)) if attempts < ATTEMPTS_MAX => {
                    self.record
                        .note(format!("attempt {attempts} did not get through: {why}"));
                    self.pause(BETWEEN_ATTEMPTS).await?;
                }
                Crossed::Held(failure @ (Failure::Failed(_) | Failure::Passing(_)))
                    if self.options.cutover == CutoverMode::Manual =>
                {
                    self.complain(failure.to_string());
                    self.told_to_go = false;
                    attempts = 0;
                }
                Crossed::Held(failure) => return Err(failure),
                Crossed::Void(what) => {
                    self.record.note(format!("verification void: {what}"));
                    self.fenced_attempts += 1;
                    self.record.identity = None;
                    if self.fenced_attempts < ATTEMPTS_MAX {
                        return self.enter(Phase::Verify).await;
                    }
                    return Err(Failure::Failed(what));
                }
                Crossed::Fenced(Failure::Stopped) => return Err(Failure::Stopped),
                Crossed::Fenced(failure) => {
                    self.told_to_go = false;
                    self.fenced_attempts += 1;
                    self.record.note(format!(
                        "attempt {} was undone after the fence: {failure}",
                        self.fenced_attempts
                    ));
                    self.record.identity = None;
                    if matches!(failure, Failure::Passing(_)) && self.fenced_attempts < ATTEMPTS_MAX
                    {
                        return self.enter(Phase::Verify).await;
                    }
                    return Err(failure);
                }
            }
        }
    }

    /// One attempt, from the snapshot to the commit or the undo.
    async fn attempt_forward(&mut self) -> Result<Crossed, Failure> {
        let key = (self.record.pool.clone(), self.record.shard.clone());
        self.waits_for(Some("the proxies".to_owned()));
        let ready = self.world.ready_soon(&key).await;
        self.waits_for(None);
        if let Err(in_the_way) = ready {
            return Ok(Crossed::Held(in_the_way.into()));
        }
        let source = self.record.source.clone();
        if let Err(failure) = self.ensure_snapshot(&source).await {
            return Ok(Crossed::Held(failure));
        }
        let target = self.record.target.clone();
        self.carry_scripts(target).await?;
        let passage = self.passage(Direction::Forward).await?;
        self.cross(&passage, false).await
    }

    /// The way that the next attempt takes: a new term, an open guard, an epoch that all proxies agree on.
    pub(super) async fn passage(&mut self, direction: Direction) -> Result<Passage, Failure> {
        let (pool, shard) = (self.record.pool.clone(), self.record.shard.clone());
        let census = self
            .world
            .proxies
            .census(&pool, &shard)
            .await
            .map_err(|error| Failure::Failed(error.to_string()))?;
        let expected = match direction {
            Direction::Forward => self.record.epoch,
            Direction::Back => self.record.epoch + 1,
        };
        if census.epoch() != Some(expected) {
            return Err(Failure::Failed(format!(
                "the proxies do not all stand at epoch {expected} of shard {shard}"
            )));
        }
        let term = self.world.journal.next_term(census.term() + 1).await?;
        let (from, to) = match direction {
            Direction::Forward => (self.record.source.clone(), self.record.target.clone()),
            Direction::Back => (self.record.target.clone(), self.record.source.clone()),
        };
        let followed = match (direction, &self.record.guard) {
            (Direction::Forward, _) => forward_place(&self.world, &from)?,
            (Direction::Back, Some(guard)) => guard.clone(),
            (Direction::Back, None) => return Err(Failure::Failed("there is no guard".to_owned())),
        };
        let from_build = build(&self.world.servers.observe(&from).await?);
        let to_login = self.world.servers.login(&to)?;
        let guard = self
            .world
            .guards
            .open(&from, from_build, &to_login, None)
            .await
            .map_err(Failure::Failed)?;
        let hold_ms = self.options.hold_max_ms;
        Ok(Passage {
            pool,
            shard,
            epoch: expected,
            term,
            direction,
            from,
            to,
            followed,
            guard,
            hold_ms,
        })
    }

    /// One attempt. Whatever ends it before the commit is undone before this returns.
    pub(super) async fn cross(
        &mut self,
        passage: &Passage,
        rehearsal: bool,
    ) -> Result<Crossed, Failure> {
        let identity = match passage.direction {
            Direction::Forward => self.record.identity.clone(),
            Direction::Back => None,
        };
        if let Err(failure) = self.check_snapshot(&passage.from).await {
            return Ok(Crossed::Held(failure));
        }
        if let Some(watched) = self.watched_by_sentinel(&passage.from, &passage.to).await {
            return Ok(Crossed::Held(Failure::Failed(format!(
                "the attempt did not start: {watched}"
            ))));
        }
        let from = self.world.servers.standing(&passage.from).await?;
        let to = self.world.servers.standing(&passage.to).await?;
        let identity = identity.unwrap_or_else(|| Identity::of(&from, &to));
        match may_begin(&identity, &from, &to, LAG_MAX) {
            CutoverDecision::Go { .. } => {}
            CutoverDecision::NoGo(waiting) => {
                return Ok(Crossed::Held(Failure::Passing(waiting.to_string())));
            }
            CutoverDecision::Abort(reason) => return Ok(Crossed::Void(reason.to_string())),
        }
        self.record.attempt = Some(Attempt {
            term: passage.term,
            direction: passage.direction,
            epoch: passage.epoch,
            guard: Some(passage.guard.clone()),
            rehearsal,
            committed_offset: None,
        });
        let stats = self
            .world
            .proxies
            .stats(&passage.pool, &passage.shard)
            .await;
        self.record.p99_before_us = Some(stats.latency_p99_us);
        let instances = self
            .world
            .proxies
            .census(&passage.pool, &passage.shard)
            .await;
        let instances = instances
            .map_err(|error| Failure::Failed(error.to_string()))?
            .instances;
        let retired = self.retired_with(passage).await?;
        let intended = self
            .performer
            .intend(&self.record, passage.effects())
            .await?;
        let key = (passage.pool.clone(), passage.shard.clone());
        let armed = (self.world.proxies.registry()).arm(&key, passage.term, Instant::now());
        if let Err(in_the_way) = armed {
            self.undo(passage, None).await?;
            return Ok(Crossed::Held(in_the_way.into()));
        }
        self.show_by_hand(Some(passage));
        let mut attempting = Attempting {
            passage,
            identity: &identity,
            intended,
            begun: None,
            rehearsal,
            clock: HoldClock::start(),
        };
        let failure = match self.steps(&mut attempting, &instances, &retired).await {
            Ok(None) => {
                self.under_way = Some(UnderWay {
                    term: passage.term,
                    intended: attempting.intended,
                    clock: attempting.clock,
                });
                return Ok(Crossed::Committed);
            }
            Ok(Some(lines)) => {
                self.undo(passage, attempting.begun).await?;
                return Ok(Crossed::Rehearsed(lines));
            }
            Err(failure) => failure.without_patience(),
        };
        tracing::warn!(shard = %passage.shard, term = passage.term, %failure, "undo the attempt");
        self.undo(passage, attempting.begun).await?;
        if !rehearsal {
            self.count(CutoverResult::Aborted);
        }
        Ok(if attempting.begun >= Some(Step::Fence) {
            Crossed::Fenced(failure)
        } else {
            Crossed::Held(failure)
        })
    }

    /// Who would take roles into its own hands, if anybody listens where Sentinels listen. Known to PLAN, and may have come since.
    pub(super) async fn watched_by_sentinel(&self, from: &str, to: &str) -> Option<String> {
        let mut watched = Vec::new();
        for url in [from, to] {
            let part = match url == self.record.source {
                true => "source",
                false => "target",
            };
            if let Ok(mut server) = self.world.servers.hold(url).await
                && sentinels(&mut server).await > 0
            {
                watched.push(format!("the {part}"));
            }
        }
        if watched.is_empty() {
            return None;
        }
        Some(format!(
            "a Sentinel watches {}: SENTINEL REMOVE on every Sentinel until the upgrade has ended",
            watched.join(" and ")
        ))
    }

    /// Steps 1 to 8. `None` when committed; lines when a rehearsal has come to its end.
    async fn steps(
        &mut self,
        attempt: &mut Attempting<'_>,
        instances: &crate::proxies::Instances,
        retired: &[String],
    ) -> Result<Option<Vec<String>>, Failure> {
        let passage = attempt.passage;
        self.step(attempt, Step::Arm).await?;
        attempt.clock = HoldClock::start();
        let drained = self.step(attempt, Step::Hold).await?;
        attempt.clock.lap("drain");
        let lease = attempt.clock.begun() + Duration::from_millis(passage.hold_ms);
        let Outcome::Stands(paused) = self.step(attempt, Step::Pause).await? else {
            return Err(no_standing());
        };
        attempt.clock.lap("pause");
        self.until(&passage.to, lease, |to| {
            has_caught_up(attempt.identity, &paused, to)
        })
        .await?;
        attempt.clock.lap("catch up");
        let caught_up = attempt.clock.begun().elapsed();
        self.compare_unsettled(passage).await?;
        attempt.clock.lap("compare");
        let seen = self
            .world
            .proxies
            .census(&passage.pool, &passage.shard)
            .await;
        if seen
            .map_err(|error| Failure::Failed(error.to_string()))?
            .instances
            != *instances
        {
            return Err(Failure::Failed(
                "a proxy came, went or was restarted during the hold".to_owned(),
            ));
        }
        let key = (passage.pool.clone(), passage.shard.clone());
        self.world.proxies.registry().check(&key, Instant::now())?;
        attempt.clock.lap("look at the proxies");
        self.step(attempt, Step::Prepare).await?;
        attempt.clock.lap("prepare");
        self.go_on()?;
        let Outcome::Stands(fenced) = self.step(attempt, Step::Fence).await? else {
            return Err(no_standing());
        };
        attempt.clock.lap("fence");
        let equal_by = Instant::now() + EQUAL_PATIENCE;
        let offset = self
            .until(&passage.to, equal_by, |to| {
                is_equal(attempt.identity, &fenced, to)
            })
            .await?;
        attempt.clock.lap("equal");
        if attempt.rehearsal {
            return Ok(Some(rehearsal_lines(
                &drained,
                caught_up,
                attempt.clock.begun().elapsed(),
                offset,
            )));
        }
        self.go_on()?;
        let Outcome::Stands(promoted) = self.step(attempt, Step::Promote).await? else {
            return Err(no_standing());
        };
        match is_promoted(attempt.identity, &fenced, &promoted) {
            CutoverDecision::Go { .. } => {}
            CutoverDecision::NoGo(waiting) => return Err(Failure::Passing(waiting.to_string())),
            CutoverDecision::Abort(reason) => return Err(Failure::Failed(reason.to_string())),
        }
        attempt.clock.lap("promote");
        self.step(attempt, Step::Unpark).await?;
        attempt.clock.lap("continue");
        self.look_before_commit(attempt, &fenced).await?;
        attempt.clock.lap("look again");
        self.stage_commit(passage, offset, retired);
        self.step(attempt, Step::Commit).await?;
        attempt.clock.lap("commit");
        self.committed(passage, offset);
        Ok(None)
    }

    /// However long control stood still since it promoted: both servers are still what they were then.
    async fn look_before_commit(
        &self,
        attempt: &Attempting<'_>,
        fenced: &Standing,
    ) -> Result<(), Failure> {
        let servers = &self.world.servers;
        let (from, to) = tokio::join!(
            servers.standing(&attempt.passage.from),
            servers.standing(&attempt.passage.to)
        );
        match may_commit(attempt.identity, fenced, &from?, &to?) {
            CutoverDecision::Go { .. } => Ok(()),
            CutoverDecision::NoGo(waiting) => Err(Failure::Passing(waiting.to_string())),
            CutoverDecision::Abort(reason) => Err(Failure::Failed(reason.to_string())),
        }
    }

    async fn step(&mut self, attempt: &mut Attempting<'_>, step: Step) -> Result<Outcome, Failure> {
        attempt.begun = Some(step);
        let Some(intended) = attempt.intended.get(step as usize) else {
            return Err(no_standing());
        };
        Ok(self.performer.act(intended).await?)
    }

    /// Looks at a server until the evidence says go, or that it never will, or the deadline says no.
    async fn until(
        &self,
        server: &str,
        deadline: Instant,
        decide: impl Fn(&Standing) -> CutoverDecision,
    ) -> Result<u64, Failure> {
        loop {
            let standing = self.world.servers.standing(server).await?;
            match decide(&standing) {
                CutoverDecision::Go { offset } => return Ok(offset),
                CutoverDecision::Abort(reason) => return Err(Failure::Failed(reason.to_string())),
                CutoverDecision::NoGo(waiting) if Instant::now() >= deadline => {
                    return Err(Failure::Passing(format!("not in time: {waiting}")));
                }
                CutoverDecision::NoGo(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Keys that never stood still stand still now.
    async fn compare_unsettled(&self, passage: &Passage) -> Result<(), Failure> {
        if self.unsettled.is_empty() {
            return Ok(());
        }
        let (from, to) = (
            self.world.servers.login(&passage.from)?,
            self.world.servers.login(&passage.to)?,
        );
        let options = CompareOptions::default().inside_hold();
        let outcome = verify::compare_keys(&from, &to, &self.unsettled, options).await;
        let mut outcome =
            outcome.map_err(|error| Failure::Failed(crate::world::one_line(&error)))?;
        if passage.direction == Direction::Back {
            // As in the comparison before.
            outcome.forget_drifted();
        }
        if !outcome.is_equal() {
            return Err(Failure::Failed(unequal(&outcome)));
        }
        if !outcome.unsettled.is_empty() {
            return Err(Failure::Passing(format!(
                "{} keys change inside the hold",
                outcome.unsettled.len()
            )));
        }
        Ok(())
    }

    /// Servers that are fenced once this passage is committed. Read before the hold: nothing else writes this shard's route.
    async fn retired_with(&self, passage: &Passage) -> Result<Vec<String>, Failure> {
        let known = self
            .world
            .journal
            .route(&passage.pool, &passage.shard)
            .await?;
        let mut retired = known.map(|route| route.retired).unwrap_or_default();
        retired.retain(|url| *url != passage.to && *url != passage.from);
        retired.push(passage.from.clone());
        Ok(retired)
    }

    /// What the journal holds once step 8 is done.
    fn stage_commit(&self, passage: &Passage, offset: u64, retired: &[String]) {
        let route = RouteRecord {
            v: FORMAT,
            pool: passage.pool.clone(),
            shard: passage.shard.clone(),
            epoch: passage.epoch + 1,
            url: passage.to.clone(),
            retired: retired.to_vec(),
        };
        let mut record = self.record.clone();
        commit_into(&mut record, passage, offset);
        self.performer.effects().stage(record, route);
    }

    fn committed(&mut self, passage: &Passage, offset: u64) {
        tracing::info!(shard = %passage.shard, term = passage.term, offset, to = %passage.to, "committed");
        commit_into(&mut self.record, passage, offset);
        // Forward only: what would undo it is no longer right.
        self.show_by_hand(None);
        self.count(match passage.direction {
            Direction::Forward => CutoverResult::Committed,
            Direction::Back => CutoverResult::RolledBack,
        });
        self.show();
    }

    fn count(&self, result: CutoverResult) {
        let (pool, shard) = (&self.record.pool, &self.record.shard);
        self.world.metrics.ended(pool, shard, result);
    }
}

/// What a commit changes in a shard's record.
fn commit_into(record: &mut crate::journal::ShardRecord, passage: &Passage, offset: u64) {
    // A way back that is committed and not yet published is still a soak: `rolled_back` is said when the gates are open.
    if passage.direction == Direction::Forward {
        record.phase = Phase::Committed;
        record.guard = Some(passage.guard.clone());
    }
    record.error = None;
    if let Some(attempt) = record.attempt.as_mut() {
        attempt.committed_offset = Some(offset);
    }
}

/// Where a target dials its source.
pub(crate) fn forward_place(
    world: &crate::world::World,
    source: &str,
) -> Result<GuardPlace, Failure> {
    let login = world.servers.login(source)?;
    Ok(GuardPlace {
        host: login.host,
        port: login.port,
    })
}

/// What a rehearsal saw, for a person.
fn rehearsal_lines(
    drained: &Outcome,
    caught_up: Duration,
    whole: Duration,
    offset: u64,
) -> Vec<String> {
    let waited_us = match drained {
        Outcome::Proxies { waited_us, .. } => *waited_us,
        _ => 0,
    };
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    vec![
        format!(
            "drained in {:.1} ms",
            Duration::from_micros(waited_us).as_secs_f64() * 1_000.0
        ),
        format!("caught up after {:.1} ms", ms(caught_up)),
        format!(
            "fenced, equal at offset {offset}, after {:.1} ms",
            ms(whole)
        ),
        format!("predicted gap: {:.0} ms", ms(whole) * 1.5),
    ]
}

fn no_standing() -> Failure {
    Failure::Failed("an effect did not say what it saw".to_owned())
}
