//! Verified, and waiting for the operator: CUTOVER, REHEARSE, and whether what was verified is still so.

use std::time::Duration;

use super::crossing::Crossed;
use super::{Driver, Failure, Order};
use crate::journal::Direction;
use crate::phase::Phase;

/// Between two looks while the operator has not said CUTOVER.
const IDLE_LOOK: Duration = Duration::from_secs(1);

impl Driver {
    /// Waits for CUTOVER; false when the shard has to be verified again first.
    pub(super) async fn wait_for_cutover(&mut self) -> Result<bool, Failure> {
        loop {
            self.go_on()?;
            // Said again behind a rehearsal that failed.
            self.waits_for(Some("UPGRADE CUTOVER".to_owned()));
            let mut wish = self.wish.clone();
            let order = tokio::select! {
                order = self.orders.recv() => order,
                () = tokio::time::sleep(IDLE_LOOK) => None,
                _ = wish.wait_for(|wish| *wish != super::Wish::Go) => None,
            };
            match order {
                Some(Order::Cutover) => {
                    self.waits_for(None);
                    return Ok(true);
                }
                Some(Order::Rehearse(answer)) => {
                    let rehearsed = self.rehearse().await;
                    let _unheard = answer.send(rehearsed.map_err(|error| error.to_string()));
                    if self.record.identity.is_none() {
                        self.waits_for(None);
                        self.enter(Phase::Verify).await?;
                        return Ok(false);
                    }
                }
                Some(Order::Finalize(answer) | Order::Rollback(_, answer)) => {
                    let _unheard = answer.send(Err("the shard is not in soak".to_owned()));
                }
                None => {
                    if let Some(what) = self.is_void().await {
                        self.record.note(format!("verification void: {what}"));
                        self.waits_for(None);
                        self.enter(Phase::Verify).await?;
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// What makes the verification void, as far as both servers answer. One that does not is in `warnings`.
    pub(super) async fn is_void(&self) -> Option<String> {
        let from = self.world.servers.standing(&self.record.source).await;
        let to = self.world.servers.standing(&self.record.target).await;
        let mut warnings = Vec::new();
        for (part, standing) in [("source", &from), ("target", &to)] {
            if let Err(error) = standing {
                warnings.push(format!("the {part} does not answer: {error}"));
            }
        }
        self.board
            .update(&self.record.pool, &self.record.shard, |live| {
                live.warnings = warnings;
            });
        let (from, to) = (from.ok()?, to.ok()?);
        self.board
            .update(&self.record.pool, &self.record.shard, |live| {
                live.lag_bytes = Some(from.offset.saturating_sub(to.offset));
            });
        self.record
            .identity
            .as_ref()
            .and_then(|identity| identity.broken_by(&from, &to))
    }

    /// Steps 1 to 5, and the undo: fence and unfence are seen to work. Behind a fence, however it ended, nothing counts as verified.
    async fn rehearse(&mut self) -> Result<Vec<String>, Failure> {
        let fsync = self.world.journal.probe().await?;
        let passage = self.passage(Direction::Forward).await?;
        match self.cross(&passage, true).await? {
            Crossed::Rehearsed(mut lines) => {
                lines.push(format!(
                    "journal fsync: {:.1} ms",
                    fsync.as_secs_f64() * 1_000.0
                ));
                // Its own histories changed hands twice; a new identity, and a new comparison.
                self.record.identity = None;
                Ok(lines)
            }
            Crossed::Held(failure) => Err(failure),
            Crossed::Fenced(failure) => {
                self.record.identity = None;
                Err(failure)
            }
            Crossed::Void(what) => Err(Failure::Failed(what)),
            Crossed::Committed => Err(Failure::Failed("a rehearsal was committed".to_owned())),
        }
    }
}
