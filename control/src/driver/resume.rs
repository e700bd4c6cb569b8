//! After a restart of control: what the servers and proxies say is so, and the journal says which way.

use std::time::Duration;

use super::{Driver, Failure};
use crate::cutover::{Passage, Step};
use crate::effect::Effect;
use crate::journal::{Attempt, Direction, GuardPlace, RouteRecord};
use crate::phase::Phase;
use crate::recovery::{Found, Way, decide};
use crate::status::WayBack;
use crate::world::{World, build};

/// Between two looks at servers that do not answer, or that a person has to mend.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Driver {
    /// Brings the shard to a state from which its phase can go on.
    pub(crate) async fn resume(&mut self) {
        loop {
            match self.try_resume().await {
                Ok(()) => {
                    self.waits_for(None);
                    return self.tell_of_lost_rollback();
                }
                Err(Failure::Stopped) => return,
                Err(failure) => self.complain(format!("recovery: {failure}")),
            }
            if self.pause_after_commit(ASK_AGAIN).await.is_err() {
                return;
            }
        }
    }

    /// Nobody knows whether the operator still wants it: it is asked for anew, not gone on with.
    fn tell_of_lost_rollback(&mut self) {
        if std::mem::take(&mut self.record.rollback_accepted) && self.record.phase == Phase::Soak {
            self.complain(
                "control ended in the middle of the rollback, and clients are on the target; say UPGRADE ROLLBACK again"
                    .to_owned(),
            );
        }
    }

    async fn try_resume(&mut self) -> Result<(), Failure> {
        match (self.record.phase, self.record.attempt.clone()) {
            (Phase::Cutover | Phase::Committed, Some(attempt)) => {
                self.resume_attempt(&attempt).await
            }
            (Phase::Soak, Some(attempt)) if attempt.direction == Direction::Back => {
                if attempt.committed_offset.is_none() {
                    self.try_guard().await;
                    return self.resume_attempt(&attempt).await;
                }
                self.resume_attempt(&attempt).await?;
                match self.record.attempt {
                    Some(_) => self.finish_rollback().await,
                    None => Ok(()),
                }
            }
            (Phase::Soak, _) => {
                self.try_guard().await;
                let (pool, shard) = (self.record.pool.clone(), self.record.shard.clone());
                if let Some(route) = self.world.journal.route(&pool, &shard).await? {
                    bring_proxies_home(&self.world, &route).await;
                }
                Ok(())
            }
            // No attempt is open: what an earlier one left held, because a proxy did not answer its undo, is released.
            (Phase::Verify | Phase::Cutover, None) => {
                let route = RouteRecord {
                    v: crate::journal::FORMAT,
                    pool: self.record.pool.clone(),
                    shard: self.record.shard.clone(),
                    epoch: self.record.epoch,
                    url: self.record.source.clone(),
                    retired: Vec::new(),
                };
                bring_proxies_home(&self.world, &route).await;
                match self.record.phase {
                    // Which keys were left for the hold is not on disk: all are compared again.
                    Phase::Cutover => self.enter(Phase::Verify).await,
                    _ => Ok(()),
                }
            }
            (
                Phase::Plan
                | Phase::Snapshot
                | Phase::Replicate
                | Phase::Verify
                | Phase::Committed
                | Phase::Finalized
                | Phase::RolledBack
                | Phase::Aborted,
                _,
            ) => Ok(()),
        }
    }

    async fn resume_attempt(&mut self, attempt: &Attempt) -> Result<(), Failure> {
        let passage = self.interrupted(attempt)?;
        let undoable = attempt.committed_offset.is_none();
        self.show_by_hand(undoable.then_some(&passage));
        let (gates, silent) = self
            .world
            .proxies
            .gates(&passage.pool, &passage.shard)
            .await;
        if gates.is_empty() {
            return Err(Failure::Failed("no proxy answers".to_owned()));
        }
        let from = self.world.servers.standing(&passage.from).await.ok();
        let to = self.world.servers.standing(&passage.to).await.ok();
        let mut found = Found {
            from: from.as_ref(),
            to: to.as_ref(),
            committed: attempt.committed_offset.is_some(),
            any_switched: gates.iter().any(|(_, epoch, _, _)| *epoch > passage.epoch),
        };
        let way = decide(&found);
        if let (true, Some(error)) = (found.committed, silent) {
            // One that does not answer may have been switched. Where that would change the way, it is waited for.
            found.any_switched = true;
            if decide(&found) != way {
                return Err(Failure::Failed(error.to_string()));
            }
        }
        tracing::info!(shard = %passage.shard, term = passage.term, ?way, "recover an attempt");
        // Where a proxy may have moved already, the lines of an undo would take back what clients wrote.
        self.show_by_hand(matches!(way, Way::Undo).then_some(&passage));
        match way {
            Way::Undo => self.undo_interrupted(&passage, found.committed).await,
            Way::Forward if passage.direction == Direction::Back => Ok(()),
            Way::Forward => {
                self.try_guard().await;
                Ok(())
            }
            Way::FenceAndForward if passage.direction == Direction::Back => self
                .perform(Effect::Retire {
                    server: passage.from,
                })
                .await
                .map(drop),
            Way::PromoteAndForward if passage.direction == Direction::Back => self
                .perform(Effect::Promote { server: passage.to })
                .await
                .map(drop),
            Way::FenceAndForward => {
                self.reopen_guard().await?;
                let guard = self.record.guard.clone().unwrap_or(passage.guard);
                self.record
                    .note("the source had come back as a primary and was fenced again");
                self.perform(Effect::Fence {
                    server: passage.from,
                    guard,
                })
                .await
                .map(drop)
            }
            Way::PromoteAndForward => {
                self.perform(Effect::Promote { server: passage.to }).await?;
                self.try_guard().await;
                Ok(())
            }
            Way::AskAgain => Err(Failure::Failed("the servers do not answer".to_owned())),
            Way::Person(why) => Err(Failure::Failed(format!(
                "{why} Nothing was changed; `understudy recover --from-servers` says how they stand"
            ))),
        }
    }

    /// Everything is taken as begun: the undo is idempotent.
    async fn undo_interrupted(
        &mut self,
        passage: &Passage,
        committed: bool,
    ) -> Result<(), Failure> {
        if passage.direction == Direction::Forward {
            self.record.identity = None;
        }
        self.undo(passage, Some(Step::Unpark)).await?;
        self.record.note(format!(
            "attempt {} was interrupted and undone",
            passage.term
        ));
        if committed {
            // The commit was reported as failed and undone, and had reached the disk: the servers are right.
            let route = self.route_back(passage).await?;
            let mut record = self.record.clone();
            if passage.direction == Direction::Forward {
                record.phase = Phase::Verify;
            }
            self.world.journal.commit(record.clone(), route).await?;
            self.record = record;
            self.show();
            return Ok(());
        }
        match passage.direction {
            Direction::Forward => self.enter(Phase::Verify).await,
            // The attempt's guard was closed with its undo; the way back goes on through its own.
            Direction::Back => {
                self.try_guard().await;
                Ok(())
            }
        }
    }

    /// The passage of an attempt that another process began.
    fn interrupted(&self, attempt: &Attempt) -> Result<Passage, Failure> {
        let record = &self.record;
        let (from, to) = match attempt.direction {
            Direction::Forward => (record.source.clone(), record.target.clone()),
            Direction::Back => (record.target.clone(), record.source.clone()),
        };
        let followed = match attempt.direction {
            Direction::Forward => super::forward_place(&self.world, &from)?,
            Direction::Back => record
                .guard
                .clone()
                .ok_or_else(|| Failure::Failed("the journal names no guard".to_owned()))?,
        };
        let guard = attempt.guard.clone().unwrap_or_else(|| followed.clone());
        Ok(Passage {
            pool: record.pool.clone(),
            shard: record.shard.clone(),
            epoch: attempt.epoch,
            term: attempt.term,
            direction: attempt.direction,
            from,
            to,
            followed,
            guard,
            hold_ms: self.options.hold_max_ms,
        })
    }

    /// An old server that is away keeps nobody from going on, and the target not from soaking; there the guard is tried again.
    async fn try_guard(&mut self) {
        if let Err(failure) = self.reopen_guard().await {
            self.record
                .note(format!("the guard was not reopened at once: {failure}"));
        }
    }

    /// The guard of the way back listens again, where the source looks for it if that is possible.
    pub(super) async fn reopen_guard(&mut self) -> Result<(), Failure> {
        let (source, target) = (self.record.source.clone(), self.record.target.clone());
        let wanted = self.record.guard.clone();
        let source_build = match self.world.servers.observe(&source).await {
            Ok(seen) => build(&seen),
            Err(error) => {
                let way = WayBack::Unknown(error.to_string());
                self.board
                    .update(&self.record.pool, &self.record.shard, |live| {
                        live.way_back = Some(way);
                    });
                return Err(error.into());
            }
        };
        let login = self.world.servers.login(&target)?;
        let place: GuardPlace = self
            .world
            .guards
            .open(&source, source_build, &login, wanted.as_ref())
            .await
            .map_err(Failure::Failed)?;
        if let Some(earlier) = self.record.foreign.clone() {
            self.world.guards.remember(&source, earlier).await;
        }
        if wanted.as_ref() != Some(&place) {
            // The old port is taken: the source is told where the guard is now. It is a replica before and after.
            self.perform(Effect::Demote {
                server: source.clone(),
                primary: place.clone(),
            })
            .await?;
            self.record.guard = Some(place);
            self.save().await?;
        }
        self.world.guards.unpark(&source).await;
        Ok(())
    }
}

/// Proxies that an attempt left held, of shards where no attempt is open: they are switched or released to where the
/// journal says that the shard is.
pub(crate) async fn bring_proxies_home(world: &World, route: &RouteRecord) {
    let (gates, _others_are_not_there) = world.proxies.gates(&route.pool, &route.shard).await;
    for (instance, epoch, state, term) in &gates {
        let gate = |epoch: u64| crate::effect::Gate {
            pool: route.pool.clone(),
            shard: route.shard.clone(),
            epoch,
            term: *term,
        };
        match state.as_str() {
            "prepared" if epoch + 1 == route.epoch => {
                tracing::info!(%instance, shard = %route.shard, "switch a proxy that missed it");
                let _each_answers_for_itself =
                    world.proxies.switch(&gate(*epoch), &route.url).await;
                let _each_answers_for_itself = world.proxies.release(&gate(route.epoch)).await;
            }
            "prepared" | "switched" | "held" if *epoch == route.epoch => {
                tracing::info!(%instance, shard = %route.shard, "release a proxy");
                let _each_answers_for_itself = world.proxies.release(&gate(*epoch)).await;
            }
            "lapsed" if *epoch < route.epoch => {
                tracing::info!(%instance, shard = %route.shard, "switch a proxy that was cut off");
                let (before, url) = (gate(*epoch), &route.url);
                let _each_answers_for_itself =
                    world.proxies.switch_to(&before, route.epoch, url).await;
                let _each_answers_for_itself = world.proxies.release(&gate(route.epoch)).await;
            }
            // A lapsed one opens when it has asked.
            "open" | "lapsed" if *epoch == route.epoch => {}
            _ => {
                tracing::warn!(%instance, shard = %route.shard, epoch, state, "a proxy stands where the journal does not");
            }
        }
    }
}
