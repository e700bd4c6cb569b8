//! Every provider that control knows, and which of them a recipe belongs to.

use std::sync::Arc;

use super::provider::{ProviderError, SnapshotProvider};

/// Most providers whose words are put into one error.
const NAMED_MAX: usize = 3;

/// The providers, the one that is always there first.
pub(crate) struct Providers {
    all: Vec<Arc<dyn SnapshotProvider>>,
}

impl Providers {
    pub(crate) fn new(all: Vec<Arc<dyn SnapshotProvider>>) -> Providers {
        Providers { all }
    }

    /// Who takes snapshots by this recipe. One line names those that are known.
    pub(crate) async fn of(
        &self,
        recipe: &str,
    ) -> Result<Arc<dyn SnapshotProvider>, ProviderError> {
        let mut known = Vec::new();
        let mut silent = Vec::new();
        for provider in &self.all {
            match provider.recipes().await {
                Ok(recipes) if recipes.iter().any(|known| known == recipe) => {
                    return Ok(provider.clone());
                }
                Ok(recipes) => known.extend(recipes),
                Err(error) => silent.push(error),
            }
        }
        let texts: Vec<String> = silent
            .iter()
            .take(NAMED_MAX)
            .map(ToString::to_string)
            .collect();
        match silent.into_iter().next() {
            // Who would know it does not answer: that is not to say that there is no such recipe.
            Some(error) => Err(ProviderError::new(
                error.kind,
                format!(
                    "no snapshot recipe '{recipe}' among {}, and who may know others does not answer: {}",
                    known.join(" "),
                    texts.join("; ")
                ),
            )),
            None => Err(ProviderError::misconfigured(format!(
                "no snapshot recipe '{recipe}'; known are: {} none",
                known.join(" ")
            ))),
        }
    }
}
