//! After the commit: every proxy is told the new route, then all gates open. Forward only.
//!
//! A proxy that does not answer is told again and again. The others do not wait for it longer than `SWITCH_PATIENCE`: the
//! server that it still routes to is fenced, so its writes are refused there and nowhere else.

use std::time::{Duration, Instant};

use super::hold_clock::ms;
use super::{Driver, Failure, UnderWay};
use crate::cutover::{Passage, Step};
use crate::effect::{Effect, Gate, Outcome};
use crate::effects::SERVES_STALE;
use crate::journal::{Direction, EffectRecord, now_ms};
use crate::phase::Phase;
use crate::proxies::{GateCode, ProxyError};

/// How long all proxies stay held for one that does not answer SWITCH.
const SWITCH_PATIENCE: Duration = Duration::from_secs(2);

/// A lease for a proxy that forgot its hold and is told the whole sequence again. Milliseconds.
const LATE_LEASE_MS: u64 = 1_000;

impl Driver {
    pub(super) async fn publish_phase(&mut self) -> Result<(), Failure> {
        let passage = self.committed_passage(Direction::Forward)?;
        self.publish(&passage).await?;
        self.keep_role(&passage.to).await;
        self.refuse_stale("source", &passage.from).await;
        self.measure_gap().await;
        self.record.soak_since_ms = Some(now_ms());
        self.show_by_hand(None);
        self.enter(Phase::Soak).await
    }

    /// The passage that the journal says was committed.
    pub(super) fn committed_passage(&self, direction: Direction) -> Result<Passage, Failure> {
        let record = &self.record;
        let nothing = || Failure::Failed("the journal's commit names no attempt".to_owned());
        let attempt = record.attempt.as_ref().ok_or_else(nothing)?;
        let guard = attempt.guard.clone().ok_or_else(nothing)?;
        let (from, to) = match direction {
            Direction::Forward => (record.source.clone(), record.target.clone()),
            Direction::Back => (record.target.clone(), record.source.clone()),
        };
        Ok(Passage {
            pool: record.pool.clone(),
            shard: record.shard.clone(),
            epoch: attempt.epoch,
            term: attempt.term,
            direction,
            followed: super::forward_place(&self.world, &from)?,
            from,
            to,
            guard,
            hold_ms: self.options.hold_max_ms,
        })
    }

    /// SWITCH and RELEASE, until every proxy stands open at the new epoch.
    pub(super) async fn publish(&mut self, passage: &Passage) -> Result<(), Failure> {
        let started = Instant::now();
        self.record.hold_ms = None;
        let under_way = self.under_way.take().filter(|it| it.term == passage.term);
        let (intended, mut clock) = match under_way {
            Some(UnderWay {
                intended, clock, ..
            }) => (intended, Some(clock)),
            None => (Vec::new(), None),
        };
        let mut first = intended.get(Step::Switch as usize);
        loop {
            let switched = self.publish_step(passage, Step::Switch, first.take()).await;
            match switched {
                Ok(_) => break,
                Err(error) if self.is_published(passage).await => {
                    tracing::debug!(%error, "the proxies stand at the new epoch already");
                    return Ok(());
                }
                Err(error) => {
                    self.complain(format!("publish the route: {error}"));
                    self.catch_up_laggards(passage).await;
                    if started.elapsed() > SWITCH_PATIENCE {
                        break;
                    }
                }
            }
            self.pause_after_commit(super::stop::RETRY).await?;
        }
        if let Some(clock) = clock.as_mut() {
            clock.lap("switch");
        }
        let mut first = intended.get(Step::Release as usize);
        loop {
            let released = self
                .publish_step(passage, Step::Release, first.take())
                .await;
            if released.is_ok() || self.is_published(passage).await {
                self.record.error = None;
                if let Some(mut clock) = clock {
                    clock.lap("release");
                    self.record.hold_ms = Some(clock.total_ms());
                    tracing::info!(shard = %passage.shard, term = passage.term, "{clock}");
                    self.record
                        .note(format!("attempt {}: {clock}", passage.term));
                }
                return Ok(());
            }
            if let Err(error) = released {
                self.complain(format!("publish the route: {error}"));
            }
            let _each_on_its_own = self.perform_anyway(passage.effect(Step::Switch)).await;
            self.catch_up_laggards(passage).await;
            self.pause_after_commit(super::stop::RETRY).await?;
        }
    }

    /// The longest gap that a proxy saw; one that has served nobody since it opened knows of none yet, so the hold counts.
    pub(super) async fn measure_gap(&mut self) {
        let (pool, shard) = (&self.record.pool, &self.record.shard);
        let stats = self.world.proxies.stats(pool, shard).await;
        let seen_ms = ms(Duration::from_micros(stats.longest_gap_us));
        let held_ms = self.record.hold_ms.unwrap_or_default();
        let gap_ms = seen_ms.max(held_ms);
        self.world.metrics.held(pool, shard, gap_ms);
        self.record.hold_ms = Some(gap_ms);
    }

    /// A step whose intention went to disk before the hold needs no second one: clients wait.
    async fn publish_step(
        &mut self,
        passage: &Passage,
        step: Step,
        intended: Option<&EffectRecord>,
    ) -> Result<Outcome, Failure> {
        match intended {
            Some(intended) => Ok(self.performer.act_anyway(intended).await?),
            None => self.perform_anyway(passage.effect(step)).await,
        }
    }

    /// Clients are on this server now; a restart must not bring back the replica that it was in an earlier attempt.
    pub(super) async fn keep_role(&mut self, server: &str) {
        let effect = Effect::KeepRole {
            server: server.to_owned(),
        };
        if let Err(error) = self.perform_anyway(effect).await {
            self.record.note(format!(
                "the new primary did not write down its role: {error}"
            ));
        }
    }

    /// No client of ours is on this server any more; a proxy that control does not know of may still read there. The old value
    /// is in the journal before the new one is set, with those that arming changed, and is put back with them.
    pub(super) async fn refuse_stale(&mut self, side: &str, server: &str) {
        let told = match self.remember_stale(side, server).await {
            Ok(()) => {
                let server = server.to_owned();
                self.perform_anyway(Effect::RefuseStale { server }).await
            }
            Err(failure) => Err(failure),
        };
        match told {
            Ok(Outcome::Said(lines)) => lines.into_iter().for_each(|line| self.record.note(line)),
            Ok(_) => {}
            Err(failure) => self.record.note(format!(
                "{server} was not told to refuse stale reads: {failure}"
            )),
        }
    }

    async fn remember_stale(&mut self, side: &str, server: &str) -> Result<(), Failure> {
        let kept = self.record.armed.get(side);
        if kept.is_some_and(|kept| kept.contains_key(SERVES_STALE)) {
            return Ok(());
        }
        let old = (self.world.servers.hold(server).await?)
            .setting(SERVES_STALE)
            .await?;
        if let Some(old) = old.filter(|old| old != "no") {
            let kept = self.record.armed.entry(side.to_owned()).or_default();
            kept.insert(SERVES_STALE.to_owned(), old);
            self.save().await?;
        }
        Ok(())
    }

    /// True when every proxy answers that it stands open at the new epoch.
    async fn is_published(&self, passage: &Passage) -> bool {
        let census = self
            .world
            .proxies
            .census(&passage.pool, &passage.shard)
            .await;
        census.is_ok_and(|census| {
            census
                .gates
                .iter()
                .all(|(_, epoch, gate, _)| *epoch == passage.epoch + 1 && gate == "open")
        })
    }

    /// A proxy that was restarted between HOLD and SWITCH has no hold of this term: it is held, prepared and switched on
    /// its own. The others refuse all three, which changes nothing there.
    async fn catch_up_laggards(&mut self, passage: &Passage) {
        let gate = Gate {
            pool: passage.pool.clone(),
            shard: passage.shard.clone(),
            epoch: passage.epoch,
            term: passage.term,
        };
        let answers = self.world.proxies.switch(&gate, &passage.to).await;
        let forgot = |answer: &Result<_, ProxyError>| {
            matches!(
                answer,
                Err(ProxyError::Refused {
                    code: GateCode::NotHeld,
                    ..
                })
            )
        };
        if !answers.iter().any(forgot) {
            return;
        }
        let hold = Effect::Hold {
            gate: gate.clone(),
            lease_ms: LATE_LEASE_MS,
        };
        for effect in [hold, Effect::Prepare { gate }, passage.effect(Step::Switch)] {
            if let Err(error) = self.perform_anyway(effect).await {
                tracing::debug!(%error, "catch up a proxy");
            }
        }
    }
}
