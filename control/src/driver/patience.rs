//! The approach takes a silent server, and a connection that breaks in the middle of a change, in its stride.
//!
//! What broke is done again on a new connection, behind the former's end (`server/link.rs`), and begins by reading what is there
//! now: settings, users and scripts are set to what they are already, and a server that follows is told once more whom. Nobody is
//! held meanwhile. Inside a hold nothing of this applies.

use std::time::{Duration, Instant};

use super::stop::RETRY;
use super::{Driver, Failure};
use crate::cutover::Standing;
use crate::effect::{Effect, Outcome};

/// A server that does not answer for so long during the approach aborts it.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long a server has been silent, from the first thing that it did not answer.
#[derive(Debug, Default)]
pub(super) struct Patience {
    since: Option<Instant>,
}

impl Driver {
    /// Waits a little, then it may be tried again. Any other failure than silence stands, and so does one that has lasted.
    pub(super) async fn endure(
        &mut self,
        patience: &mut Patience,
        failure: Failure,
    ) -> Result<(), Failure> {
        let Failure::Silent(why) = &failure else {
            return Err(failure);
        };
        match patience.since {
            None => {
                tracing::info!(pool = %self.record.pool, shard = %self.record.shard, %why, "try again");
                self.record.note(format!("tried again: {why}"));
                patience.since = Some(Instant::now());
            }
            Some(since) if since.elapsed() > SILENCE_MAX => {
                let seconds = SILENCE_MAX.as_secs();
                return Err(Failure::Failed(format!("{why}; tried for {seconds} s")));
            }
            Some(_) => {}
        }
        self.waits_for(Some(why.clone()));
        self.pause(RETRY).await
    }

    /// Only for effects that may be repeated at any time, and only while nobody is held.
    pub(super) async fn perform_patiently(&mut self, effect: Effect) -> Result<Outcome, Failure> {
        let mut patience = Patience::default();
        loop {
            match self.perform(effect.clone()).await {
                Ok(outcome) => {
                    self.waits_for(None);
                    return Ok(outcome);
                }
                Err(failure) => self.endure(&mut patience, failure).await?,
            }
        }
    }

    /// How source and target stand, once both answer.
    pub(super) async fn both_stand(&mut self) -> Result<(Standing, Standing), Failure> {
        let mut patience = Patience::default();
        loop {
            let source = self.world.servers.standing(&self.record.source).await;
            let target = self.world.servers.standing(&self.record.target).await;
            match (source, target) {
                (Ok(source), Ok(target)) => return Ok((source, target)),
                (Err(error), _) | (_, Err(error)) => {
                    self.endure(&mut patience, error.into()).await?;
                }
            }
        }
    }
}
