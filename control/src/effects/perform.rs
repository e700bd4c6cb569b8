//! Journal, act, journal.
//!
//! Outside a hold every effect waits for both. Inside one, the intentions of a whole attempt are on disk before its first
//! effect, and results are queued: they are on disk before the commit, and clients wait for one fsync instead of twenty.

use std::sync::Arc;

use super::Effects;
use super::failpoint::{Failpoint, Moment};
use crate::effect::{Effect, EffectError, Hope, Outcome};
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
    /// Whether another try may go better.
    pub(crate) fn hope(&self) -> Hope {
        match self {
            PerformError::Effect(error) => error.hope,
            PerformError::Journal(_) => Hope::None,
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
    failpoint: Arc<Failpoint>,
}

impl<E: Effects> Performer<E> {
    pub(crate) fn new(journal: Journal, effects: E, failpoint: Arc<Failpoint>) -> Performer<E> {
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
        let result = self.apply(&begun.shard, &begun.effect).await;
        let settled = self.journal.settle(begun, state(&result)).await;
        let outcome = result.map_err(PerformError::Effect)?;
        settled?;
        Ok(outcome)
    }

    /// Acts even where the journal does not take it, and says so in the log. For an undo, and for what follows a commit: the
    /// attempt is on disk, recovery asks the servers all the same, and a full disk must not keep clients held.
    pub(crate) async fn perform_anyway(
        &self,
        of: &ShardRecord,
        effect: Effect,
    ) -> Result<Outcome, PerformError> {
        let begun = self
            .journal
            .begin(&of.pool, &of.shard, vec![effect.clone()], None)
            .await;
        let begun = match begun.map(|begun| begun.into_iter().next()) {
            Ok(Some(begun)) => begun,
            Ok(None) => return Ok(Outcome::Done),
            Err(error) => {
                tracing::error!(shard = %of.shard, %effect, %error, "act without the journal, which does not take it");
                return self
                    .apply(&of.shard, &effect)
                    .await
                    .map_err(PerformError::Effect);
            }
        };
        let result = self.apply(&begun.shard, &begun.effect).await;
        // Queued: what waits for it does not care, and if it is lost the effect is looked up.
        let _unknown_then = self.journal.settle_later(begun, state(&result)).await;
        result.map_err(PerformError::Effect)
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
        let result = self.apply(&intended.shard, &intended.effect).await;
        self.journal
            .settle_later(intended.clone(), state(&result))
            .await?;
        result.map_err(PerformError::Effect)
    }

    /// Acts on an intention of an attempt that is committed: a journal that takes no result keeps nobody held.
    pub(crate) async fn act_anyway(
        &self,
        intended: &EffectRecord,
    ) -> Result<Outcome, PerformError> {
        let result = self.apply(&intended.shard, &intended.effect).await;
        let _unknown_then = self
            .journal
            .settle_later(intended.clone(), state(&result))
            .await;
        result.map_err(PerformError::Effect)
    }

    async fn apply(&self, shard: &str, effect: &Effect) -> Result<Outcome, EffectError> {
        tracing::debug!(shard, %effect, "perform");
        self.failpoint.at(effect, Moment::Begun)?;
        let outcome = self.effects.apply(effect).await?;
        self.failpoint.at(effect, Moment::Applied)?;
        Ok(outcome)
    }
}

fn state(result: &Result<Outcome, EffectError>) -> EffectState {
    match result {
        Ok(outcome) => EffectState::Confirmed(outcome.clone()),
        Err(error) => EffectState::Failed(error.cause.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::journal::{CutoverMode, FORMAT, Options, SnapshotChoice, UpgradeRecord};

    #[derive(Default)]
    struct Done(Mutex<Vec<&'static str>>);

    impl Effects for Done {
        async fn apply(&self, effect: &Effect) -> Result<Outcome, EffectError> {
            self.0.lock().unwrap().push(effect.name());
            Ok(Outcome::Done)
        }
    }

    fn shard() -> ShardRecord {
        let upgrade = UpgradeRecord {
            v: FORMAT,
            id: 1,
            pool: "p".into(),
            shards: vec!["s1".into()],
            options: Options {
                snapshot: SnapshotChoice::None,
                cutover: CutoverMode::Auto,
                hold_max_ms: 100,
                soak_s: None,
                replace: false,
                accept: Vec::new(),
            },
            started_at_ms: 1,
        };
        ShardRecord::new(
            &upgrade,
            "s1",
            "redis://a:1".into(),
            "redis://b:1".into(),
            0,
        )
    }

    fn performer(journal: Journal) -> Performer<Done> {
        Performer::new(journal, Done::default(), Arc::default())
    }

    fn unfence() -> Effect {
        Effect::Unfence {
            server: "redis://a:1".into(),
        }
    }

    #[tokio::test]
    async fn hazard_10_a_journal_that_takes_nothing_does_not_keep_an_undo_from_happening() {
        let performer = performer(Journal::broken());
        assert!(performer.perform(&shard(), unfence()).await.is_err());
        assert!(performer.effects().0.lock().unwrap().is_empty());
        let undone = performer.perform_anyway(&shard(), unfence()).await;
        assert_eq!(undone.unwrap(), Outcome::Done);
        assert_eq!(*performer.effects().0.lock().unwrap(), ["unfence"]);
    }

    #[tokio::test]
    async fn an_undo_is_journalled_where_the_journal_takes_it() {
        let directory = tempfile::tempdir().unwrap();
        let performer = performer(Journal::open(directory.path()).await.unwrap());
        performer.perform_anyway(&shard(), unfence()).await.unwrap();
        // A later write brings the queued result to the disk.
        performer.journal.next_term(1).await.unwrap();
        let effects = performer.journal.effects().await.unwrap();
        assert_eq!(effects[0].state, EffectState::Confirmed(Outcome::Done));
    }
}
