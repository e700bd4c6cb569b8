//! Journal, act, journal.
//!
//! Outside a hold every effect waits for both. Inside one, the intentions of a whole attempt are on disk before its first
//! effect, and results are queued: they are on disk before the commit, and clients wait for one fsync instead of twenty.

use super::Effects;
use super::failpoint::{Failpoint, Moment};
use crate::effect::{Effect, EffectError, Outcome};
use crate::journal::{EffectRecord, EffectState, Journal, JournalError, ShardRecord};

/// Why an effect is not known to have happened.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PerformError {
    /// The effect failed.
    #[error("{0}")]
    Effect(EffectError),
    /// The journal failed, before or after it.
    #[error("{0}")]
    Journal(String),
}

impl PerformError {
    /// True when another attempt may go better.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            PerformError::Effect(error) => error.passing,
            PerformError::Journal(_) => false,
        }
    }
}

impl From<JournalError> for PerformError {
    fn from(error: JournalError) -> PerformError {
        PerformError::Journal(error.to_string())
    }
}

/// Performs the effects of one shard.
pub(crate) struct Performer<E> {
    journal: Journal,
    effects: E,
    failpoint: Failpoint,
}

impl<E: Effects> Performer<E> {
    pub(crate) fn new(journal: Journal, effects: E, failpoint: Failpoint) -> Performer<E> {
        Performer {
            journal,
            effects,
            failpoint,
        }
    }

    /// Who acts.
    pub(crate) fn effects(&self) -> &E {
        &self.effects
    }

    /// Intends, acts, and records the result, each on disk before the next.
    pub(crate) async fn perform(
        &self,
        of: &ShardRecord,
        effect: Effect,
    ) -> Result<Outcome, PerformError> {
        let begun = self
            .journal
            .begin(&of.pool, &of.shard, vec![effect], None)
            .await?;
        let Some(begun) = begun.into_iter().next() else {
            return Ok(Outcome::Done);
        };
        let result = self.apply(&begun).await;
        let settled = self.journal.settle(begun, state(&result)).await;
        let outcome = result.map_err(PerformError::Effect)?;
        settled?;
        Ok(outcome)
    }

    /// Puts the intentions of a whole attempt on disk, with the shard's record that names the attempt.
    pub(crate) async fn intend(
        &self,
        of: &ShardRecord,
        effects: Vec<Effect>,
    ) -> Result<Vec<EffectRecord>, PerformError> {
        Ok(self
            .journal
            .begin(&of.pool, &of.shard, effects, Some(of.clone()))
            .await?)
    }

    /// Acts on an intention; its result is queued for the disk.
    pub(crate) async fn act(&self, intended: &EffectRecord) -> Result<Outcome, PerformError> {
        let result = self.apply(intended).await;
        self.journal
            .settle_later(intended.clone(), state(&result))
            .await?;
        result.map_err(PerformError::Effect)
    }

    async fn apply(&self, begun: &EffectRecord) -> Result<Outcome, EffectError> {
        tracing::debug!(shard = %begun.shard, effect = %begun.effect, "perform");
        self.failpoint.at(&begun.effect, Moment::Begun)?;
        let outcome = self.effects.apply(&begun.effect).await?;
        self.failpoint.at(&begun.effect, Moment::Applied)?;
        Ok(outcome)
    }
}

fn state(result: &Result<Outcome, EffectError>) -> EffectState {
    match result {
        Ok(outcome) => EffectState::Confirmed(outcome.clone()),
        Err(error) => EffectState::Failed(error.cause.clone()),
    }
}
