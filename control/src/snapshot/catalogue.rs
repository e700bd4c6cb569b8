//! Every snapshot of every provider of a config, for `understudy snapshots`: nothing is taken, and no server is touched.

use std::sync::Arc;

use understudy_config::{Config, SnapshotsBy};

use super::agents::AgentSnapshots;
use super::local::LocalSnapshots;
use super::provider::{ProviderError, SnapshotHandle, SnapshotProvider};
use crate::proxies::admin_ports;

/// The providers of a config, each with its own snapshots.
pub struct Catalogue {
    providers: Vec<Arc<dyn SnapshotProvider>>,
}

impl std::fmt::Debug for Catalogue {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Catalogue")
            .field("providers", &self.providers.len())
            .finish()
    }
}

impl Catalogue {
    /// The local snapshots, those of the sidecars where they take them, and whatever else this build has.
    pub fn new(config: &Config, others: Vec<Arc<dyn SnapshotProvider>>) -> Catalogue {
        let local = LocalSnapshots::beside(config.data_dir.join("snapshots"));
        let mut providers: Vec<Arc<dyn SnapshotProvider>> = vec![Arc::new(local)];
        providers.extend(others);
        if config.control.snapshots == SnapshotsBy::Agents {
            let ports = admin_ports(&config.control);
            providers.push(Arc::new(AgentSnapshots::new(Arc::new(move || {
                ports.clone()
            }))));
        }
        Catalogue { providers }
    }

    /// All of them, oldest first, and who did not answer.
    pub async fn list(&self) -> (Vec<SnapshotHandle>, Vec<ProviderError>) {
        let (mut found, mut silent) = (Vec::new(), Vec::new());
        for provider in &self.providers {
            match provider.list().await {
                Ok(snapshots) => found.extend(snapshots),
                Err(error) => silent.push(error),
            }
        }
        found.sort_by_key(|snapshot| snapshot.taken_at_ms);
        (found, silent)
    }

    /// Whose snapshot this is; its run names it too. Gives the provider and the snapshot's own id.
    pub async fn find(
        &self,
        name: &str,
    ) -> Result<(Arc<dyn SnapshotProvider>, String), ProviderError> {
        let mut silent = Vec::new();
        for provider in &self.providers {
            match provider.list().await {
                Ok(snapshots) => {
                    let mut named = snapshots
                        .into_iter()
                        .filter(|snapshot| snapshot.id == name || snapshot.run == name);
                    if let Some(snapshot) = named.next() {
                        return Ok((provider.clone(), snapshot.id));
                    }
                }
                Err(error) => silent.push(error),
            }
        }
        match silent.into_iter().next() {
            Some(error) => Err(ProviderError::new(
                error.kind.clone(),
                format!("no snapshot '{name}' was found, and not everybody answers: {error}"),
            )),
            None => Err(ProviderError::misconfigured(format!(
                "there is no snapshot '{name}'; `understudy snapshots list` names them"
            ))),
        }
    }
}
