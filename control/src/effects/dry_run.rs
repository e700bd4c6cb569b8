//! The effects of an upgrade as lines, in the order in which they would happen, without doing any of them.

use std::sync::{Mutex, PoisonError};

use super::Effects;
use crate::effect::{Effect, EffectError, Outcome};

/// Writes down what it is asked to do.
#[derive(Debug)]
pub(crate) struct DryRun {
    shard: String,
    lines: Mutex<Vec<String>>,
}

impl DryRun {
    /// For one shard.
    pub(crate) fn new(shard: &str) -> DryRun {
        DryRun {
            shard: shard.to_owned(),
            lines: Mutex::new(Vec::new()),
        }
    }

    /// The lines, numbered, so that sorting them keeps their order.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Effects for DryRun {
    async fn apply(&self, effect: &Effect) -> Result<Outcome, EffectError> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let number = lines.len() + 1;
        lines.push(format!(
            "{} {number:02} {}: {effect}",
            self.shard,
            effect.name()
        ));
        Ok(Outcome::Done)
    }
}
