//! The ends: aborted, finalized, rolled back.

use super::crossing::Crossed;
use super::{Driver, Failure};
use crate::effect::Effect;
use crate::effects::NOWHERE;
use crate::guard::{ForeignKey, ForeignKeys, GuardState};
use crate::journal::Direction;
use crate::phase::Phase;
use crate::snapshot::Release;
use crate::status::WayBack;
use crate::verify::{KeyRef, Outcome};

use super::approach::UNSETTLED_MAX;

/// Keys named in the report that a rollback left behind; all of them are counted.
const LEFT_NAMED_MAX: usize = 100;

/// Attempts of one rollback, when drain or lag ended the ones before.
const ATTEMPTS_MAX: u32 = 3;

/// What a server keeps that stays fenced: it refuses writes, and reads of what it no longer follows.
const FENCING: [&str; 2] = ["replica-read-only", "replica-serve-stale-data"];

impl Driver {
    /// Ends an upgrade before its commit. The shard never left its source; the target is left fenced, so that it can be
    /// used again. What cannot be put back because a server does not answer is named.
    pub(super) async fn abort(&mut self, failure: &Failure) {
        tracing::warn!(pool = %self.record.pool, shard = %self.record.shard, %failure, "abort");
        self.waits_for(None);
        self.record.aborting = Some(failure.to_string());
        if let Err(error) = self.save().await {
            tracing::error!(%error, "the abort goes on, but the journal does not take it");
        }
        let was_armed = !self.record.armed.is_empty();
        let by_hand = match was_armed {
            true => self.abort_lines(),
            // Neither server was touched.
            false => Vec::new(),
        };
        for (side, server) in [
            ("target", self.record.target.clone()),
            ("source", self.record.source.clone()),
        ] {
            if !was_armed {
                break;
            }
            if side == "target"
                && let Err(error) = self
                    .perform(Effect::Retire {
                        server: server.clone(),
                    })
                    .await
            {
                self.record
                    .note(format!("the target was not left fenced: {error}"));
            }
            let stays_fenced = side == "target";
            if let Err(error) = self.disarm(side, server, stays_fenced).await {
                self.record.note(format!(
                    "the settings of the {side} were not put back: {error}"
                ));
            }
        }
        self.world.guards.close(&self.record.source).await;
        self.abandon_snapshots().await;
        if was_armed {
            self.remember_retired().await;
        }
        self.record.error = self.record.aborting.take();
        // Said at once: the journal may have no room for the end of it.
        self.show();
        self.board
            .update(&self.record.pool, &self.record.shard, |live| {
                live.by_hand = by_hand;
                live.warnings.clear();
            });
        while let Err(error) = self.enter(Phase::Aborted).await {
            tracing::error!(%error, "the abort is done, but the journal does not take it");
            if self.pause_after_commit(super::stop::RETRY).await.is_err() {
                return;
            }
        }
    }

    /// What a person would type to be sure of the same: the target refuses writes, then the source takes them.
    fn abort_lines(&self) -> Vec<String> {
        let (source, target) = (&self.record.source, &self.record.target);
        let (host, port) = NOWHERE;
        vec![
            format!("redis-cli -u {target} REPLICAOF {host} {port}"),
            format!("redis-cli -u {source} REPLICAOF NO ONE"),
            format!("redis-cli -u {source} CLIENT UNPAUSE"),
        ]
    }

    /// The target may be used again although it holds data: it is ours.
    async fn remember_retired(&self) {
        let (pool, shard) = (&self.record.pool, &self.record.shard);
        let known = self.world.journal.route(pool, shard).await.ok().flatten();
        let source = self.record.source.clone();
        // An aborted shard is on its source, whatever a commit that was said to have failed has left behind.
        let mut route = crate::journal::RouteRecord {
            v: crate::journal::FORMAT,
            pool: pool.clone(),
            shard: shard.clone(),
            epoch: self.record.epoch,
            retired: known.map(|route| route.retired).unwrap_or_default(),
            url: source.clone(),
        };
        route
            .retired
            .retain(|url| *url != source && *url != self.record.target);
        route.retired.push(self.record.target.clone());
        if let Err(error) = self.world.journal.commit(self.record.clone(), route).await {
            tracing::warn!(%error, "the target will not be known as retired");
        }
    }

    /// Gives a server the settings back that arming changed. The loser of an upgrade stays as it is.
    async fn disarm(
        &mut self,
        side: &str,
        server: String,
        stays_fenced: bool,
    ) -> Result<(), Failure> {
        let Some(mut settings) = self.record.armed.get(side).cloned() else {
            return Ok(());
        };
        settings.retain(|name, _| !(stays_fenced && FENCING.contains(&name.as_str())));
        if settings.is_empty() {
            return Ok(());
        }
        self.perform(Effect::Disarm { server, settings }).await?;
        self.record.armed.remove(side);
        Ok(())
    }

    /// Closes the way back: the source stays fenced, and the target gets its own settings.
    pub(super) async fn finalize(&mut self) -> Result<(), Failure> {
        let (source, target) = (self.record.source.clone(), self.record.target.clone());
        if let Err(error) = self
            .perform(Effect::Retire {
                server: source.clone(),
            })
            .await
        {
            // A source that is gone serves nobody; one that comes back follows a guard that is closed.
            self.record.note(format!(
                "the source was not told that it is retired: {error}"
            ));
        }
        self.world.guards.close(&source).await;
        self.disarm("target", target, false).await?;
        self.release_snapshots(Release::Finalized).await;
        self.enter(Phase::Finalized).await
    }

    /// Whether a rollback may begin now.
    pub(super) async fn may_roll_back(&self, accept_loss: Option<u64>) -> Result<(), String> {
        let way = self.way_back().await;
        way.allows(accept_loss)
    }

    /// The nine steps the other way, after a snapshot of the target and a comparison.
    pub(super) async fn roll_back(&mut self, accept_loss: Option<u64>) -> Result<(), Failure> {
        let target = self.record.target.clone();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let key = (self.record.pool.clone(), self.record.shard.clone());
            self.world.ready_soon(&key).await?;
            self.ensure_snapshot(&target).await?;
            self.compare_for_rollback(accept_loss).await?;
            self.may_roll_back(accept_loss)
                .await
                .map_err(Failure::Failed)?;
            let mut before = self.record.attempt.clone();
            let source = self.record.source.clone();
            self.carry_scripts(source).await?;
            let passage = self.passage(Direction::Back).await?;
            let crossed = self.cross(&passage, false).await?;
            match crossed {
                Crossed::Committed => {
                    return self.finish_rollback().await;
                }
                Crossed::Held(failure) | Crossed::Fenced(failure) => {
                    // The undo forgets its attempt; the one that was committed forward is still the truth.
                    self.record.attempt = before.take();
                    self.save().await?;
                    match failure {
                        Failure::Passing(why) if attempts < ATTEMPTS_MAX => {
                            self.record.note(format!(
                                "rollback attempt {} did not get through: {why}",
                                passage.term
                            ));
                            self.pause_after_commit(super::stop::RETRY).await?;
                        }
                        other => return Err(other),
                    }
                }
                Crossed::Void(what) => {
                    self.record.attempt = before.take();
                    return Err(Failure::Failed(what));
                }
                Crossed::Rehearsed(_) => {
                    return Err(Failure::Failed("a rollback is not rehearsed".to_owned()));
                }
            }
        }
    }

    /// The journal holds the commit of the way back: tell everybody, tidy up, and say so.
    pub(super) async fn finish_rollback(&mut self) -> Result<(), Failure> {
        let passage = self.committed_passage(Direction::Back)?;
        self.publish(&passage).await?;
        self.settle_rollback().await;
        self.show_by_hand(None);
        self.record.rollback_accepted = false;
        while let Err(failure) = self.enter(Phase::RolledBack).await {
            // Forward only: the clients are on the source already.
            self.complain(failure.to_string());
            self.pause_after_commit(super::stop::RETRY).await?;
        }
        Ok(())
    }

    /// The target stays fenced and follows nobody; the source gets its settings back.
    async fn settle_rollback(&mut self) {
        let (source, target) = (self.record.source.clone(), self.record.target.clone());
        self.keep_role(&source).await;
        self.refuse_stale("target", &target).await;
        if let Err(error) = self
            .perform(Effect::Retire {
                server: target.clone(),
            })
            .await
        {
            self.record.note(format!(
                "the target was not told that it is retired: {error}"
            ));
        }
        self.world.guards.close(&target).await;
        self.world.guards.close(&source).await;
        self.release_snapshots(Release::Finalized).await;
        // Both: the next upgrade would take what this one has set on the target for its own settings.
        for (side, server, stays_fenced) in [("source", source, false), ("target", target, true)] {
            if let Err(error) = self.disarm(side, server, stays_fenced).await {
                self.record.note(format!(
                    "the settings of the {side} were not put back: {error}"
                ));
            }
        }
        self.measure_gap().await;
    }

    /// Differences are allowed only on the keys whose loss was accepted, or where only an expiry drifted on 6.2.
    async fn compare_for_rollback(&mut self, accept_loss: Option<u64>) -> Result<(), Failure> {
        let (from, to) = (self.record.target.clone(), self.record.source.clone());
        let mut outcome = self.compare(&from, &to).await?;
        if let Some(accepted) = accept_loss {
            let seen = self.world.guards.seen(&self.record.source).await;
            let foreign = seen.map(|seen| seen.foreign).unwrap_or_default();
            let left = leave_out(&mut outcome, &foreign, accepted).map_err(Failure::Failed)?;
            if !left.is_empty() {
                self.record.note(format!(
                    "rolled back without {} keys, or without what the target wrote to them: {}",
                    left.len(),
                    left.iter()
                        .take(LEFT_NAMED_MAX)
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(" ")
                ));
            }
        }
        let expiries = outcome.forget_drifted();
        if expiries > 0 {
            self.record.note(format!(
                "{expiries} expiries differ on the source by more than the tolerance"
            ));
        }
        self.record.keys_verified = outcome.keys_compared;
        self.record.differences = outcome.differences.len() as u64;
        if !outcome.is_equal() {
            return Err(Failure::Failed(super::approach::unequal(&outcome)));
        }
        // Looked at again inside the hold, as on the way forward.
        self.unsettled = outcome.unsettled;
        if let Some(beyond) = self.unsettled.len().checked_sub(UNSETTLED_MAX + 1) {
            self.record.note(format!(
                "{} keys did not stand still on the way back and were not compared",
                beyond + 1
            ));
            self.unsettled.truncate(UNSETTLED_MAX);
        }
        Ok(())
    }

    /// The way back as it is true now.
    pub(super) async fn way_back(&self) -> WayBack {
        let Some(seen) = self.world.guards.seen(&self.record.source).await else {
            return WayBack::Unknown("the guard is not running".to_owned());
        };
        match seen.state {
            GuardState::Following { .. } if seen.foreign.is_exact() => WayBack::Exact,
            // Where not all could be named, commands are counted: the loss is never said to be smaller than it is.
            GuardState::Following { .. } => {
                let named = seen.foreign.keys.len() as u64;
                WayBack::ExceptKeys(if seen.foreign.whole {
                    named
                } else {
                    named.max(seen.foreign.count)
                })
            }
            GuardState::Refused {
                why,
                passing: false,
            } => WayBack::Gone(why),
            GuardState::Refused { why, passing: true } | GuardState::Lost { why } => {
                WayBack::Unknown(why)
            }
            GuardState::Idle | GuardState::Parked { .. } | GuardState::Asking => {
                WayBack::Unknown("the source is connecting".to_owned())
            }
        }
    }
}

/// Leaves out what differs because the source could not execute it, and only as much of it as was accepted. Where the guard
/// could not name all keys, any key may be one of them: then their number is what protects the others.
fn leave_out(
    outcome: &mut Outcome,
    foreign: &ForeignKeys,
    accepted: u64,
) -> Result<Vec<String>, String> {
    let named = |key: &KeyRef, db| {
        foreign.keys.contains(&ForeignKey {
            db,
            key: key.key.clone(),
        })
    };
    let lost = |key: &KeyRef| !foreign.whole || named(key, Some(key.db)) || named(key, None);
    let mut left = Vec::new();
    let mut stays = |key: &KeyRef| {
        let lost = lost(key);
        if lost {
            left.push(key.to_string());
        }
        !lost
    };
    outcome.differences.retain(|found| stays(&found.key));
    outcome.unverifiable.retain(|found| stays(&found.key));
    outcome
        .unsettled
        .retain(|key| !named(key, Some(key.db)) && !named(key, None));
    outcome.functions.clear();
    let loss = left.len() as u64;
    if loss > accepted {
        return Err(format!(
            "{loss} keys would be lost, {accepted} were accepted: ROLLBACK … ACCEPT-LOSS {loss} goes back without them"
        ));
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Difference, Kind};

    fn key(name: &str) -> KeyRef {
        KeyRef {
            db: 0,
            key: name.into(),
        }
    }

    fn differing(names: &[&str]) -> Outcome {
        let difference = |name: &&str| Difference {
            key: key(name),
            kind: Kind::Value,
            source_digest: None,
            target_digest: None,
            source_expiry_ms: None,
            target_expiry_ms: None,
        };
        Outcome {
            differences: names.iter().map(difference).collect(),
            complete: true,
            ..Outcome::default()
        }
    }

    #[test]
    fn no_more_is_lost_than_was_accepted() {
        // The guard counted three commands and could not name their keys; four keys differ.
        let foreign = ForeignKeys {
            count: 3,
            whole: false,
            ..ForeignKeys::default()
        };
        let mut outcome = differing(&["a", "b", "c", "d"]);
        let refused = leave_out(&mut outcome, &foreign, 3).unwrap_err();
        assert!(refused.contains("ACCEPT-LOSS 4"), "{refused}");
        assert!(leave_out(&mut differing(&["a", "b", "c", "d"]), &foreign, 4).is_ok());
    }

    #[test]
    fn a_key_that_the_guard_did_not_name_is_never_left_out() {
        let mut foreign = ForeignKeys {
            count: 1,
            ..ForeignKeys::default()
        };
        foreign.keys.insert(ForeignKey {
            db: Some(0),
            key: b"a".to_vec(),
        });
        let mut outcome = differing(&["a", "b"]);
        leave_out(&mut outcome, &foreign, 9).unwrap();
        assert_eq!(outcome.differences.len(), 1);
        assert_eq!(outcome.differences[0].key, key("b"));
    }
}
