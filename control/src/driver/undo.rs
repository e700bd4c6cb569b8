//! The undo of an attempt: the winner first, then the loser, then the gates. Not over before roles and a probe were read
//! back; a server that does not answer is asked again for as long as control runs. Only a winner that certainly accepts no
//! write, because it was never promoted or is dead, is left behind: its death is none of the clients' business.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Driver, Failure};
use crate::cutover::{Passage, Step};
use crate::effect::{Effect, Gate};
use crate::journal::{FORMAT, RouteRecord};
use crate::proxies::ProxyError;
use crate::world::World;

/// An undo that cannot reach a server opens the gates after this time all the same, and goes on trying.
const UNDO_PATIENCE: Duration = Duration::from_secs(10);

impl Driver {
    /// Undoes what was begun. Over when roles and a probe were read back and the gates are open, and not before.
    pub(super) async fn undo(
        &mut self,
        passage: &Passage,
        begun: Option<Step>,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        if begun >= Some(Step::Fence) {
            let mut released = false;
            loop {
                let undone = match self.perform_anyway(passage.demote()).await {
                    Err(error) if !self.accepts_nobody(passage, begun).await => Err(error),
                    demoted => {
                        if let Err(error) = demoted {
                            self.record.note(format!(
                                "undo attempt {}: {error}; no client was let onto it",
                                passage.term
                            ));
                        }
                        self.perform_anyway(passage.unfence()).await
                    }
                };
                let Err(error) = undone else { break };
                self.complain(format!("undo attempt {}: {error}", passage.term));
                if started.elapsed() > UNDO_PATIENCE && !released {
                    // Nobody is routed to the server that was to take over: what waits is told the truth by the other.
                    released = self.perform_anyway(passage.release_back()).await.is_ok();
                }
                self.pause_after_commit(super::stop::RETRY).await?;
            }
        } else if begun >= Some(Step::Pause)
            && let Ok(mut server) = self.world.servers.hold(&passage.from).await
        {
            // The pause ends by itself; this only spares its clients the rest of it.
            let _expires = server.unpause().await;
        }
        if begun.is_some() {
            self.release_until_open(passage).await?;
        }
        self.world.guards.close(&passage.from).await;
        self.record.attempt = None;
        // Also where the journal takes nothing: whoever asks is told that no upgrade is armed.
        self.show();
        self.show_by_hand(None);
        if begun >= Some(Step::Commit) {
            // The commit was said to have failed, and may have reached the disk all the same: the route is said again.
            let route = self.route_back(passage).await?;
            self.world
                .journal
                .commit(self.record.clone(), route)
                .await?;
            self.show();
            return Ok(());
        }
        self.save().await
    }

    /// The shard's route as it was before the passage. The server that was to take over is ours to use again.
    pub(super) async fn route_back(&self, passage: &Passage) -> Result<RouteRecord, Failure> {
        let known = self
            .world
            .journal
            .route(&passage.pool, &passage.shard)
            .await?;
        let mut retired = known.map(|route| route.retired).unwrap_or_default();
        retired.retain(|url| *url != passage.to && *url != passage.from);
        retired.push(passage.to.clone());
        Ok(RouteRecord {
            v: FORMAT,
            pool: passage.pool.clone(),
            shard: passage.shard.clone(),
            epoch: passage.epoch,
            url: passage.from.clone(),
            retired,
        })
    }

    /// True when the server that was to take over cannot accept a write although it was not demoted: it was never promoted,
    /// or its process is gone. The other one must not wait for it.
    async fn accepts_nobody(&self, passage: &Passage, begun: Option<Step>) -> bool {
        begun < Some(Step::Promote) || self.world.servers.nobody_listens(&passage.to).await
    }

    /// A proxy that does not answer cannot be told; it is told again until it does, or until it lost its memory of the term.
    async fn release_until_open(&mut self, passage: &Passage) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let Err(error) = self.perform_anyway(passage.release_back()).await else {
                return Ok(());
            };
            self.complain(format!("release after attempt {}: {error}", passage.term));
            if started.elapsed() > UNDO_PATIENCE {
                if let Effect::Release { gate } = passage.release_back() {
                    release_when_it_answers(&self.world, gate);
                }
                return Ok(());
            }
            self.pause_after_commit(super::stop::RETRY).await?;
        }
    }
}

/// A proxy that stood still through the undo is prepared for an attempt that is over, and must not open by itself: it is
/// told behind the driver's back, for as long as control runs. A later attempt is a later term, which this one cannot touch.
fn release_when_it_answers(world: &Arc<World>, gate: Gate) {
    let world = Arc::downgrade(world);
    tokio::spawn(async move {
        while let Some(world) = world.upgrade() {
            let answers = world.proxies.release(&gate).await;
            drop(world);
            let settled = |answer: &Result<_, ProxyError>| {
                matches!(answer, Ok(_) | Err(ProxyError::Refused { .. }))
            };
            if answers.iter().all(settled) {
                return;
            }
            tokio::time::sleep(super::stop::RETRY).await;
        }
    });
}
