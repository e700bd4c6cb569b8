//! The agent of a sidecar: many stand beside their applications, one of them acts for a pool.
//!
//! ```text
//!  SNAPSHOT TAKE ──► led: is the Lease ours? ──► fence: the run into the Lease ──► recipe ──► fenced: renew, then write
//!                     no: -NOTLEADER holder       not written: nothing is begun     objects are found again by the run
//! ```
//!
//! `lease` decides, `election` asks the API server, `fenced` lets writes through, `led` is the provider behind the verbs.

mod election;
mod failpoint;
mod fenced;
mod lease;
mod led;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;
use understudy_config::{Config, Kubernetes};
use understudy_control::snapshot::Logins;

pub use election::{Election, LeaseSettings};
pub use fenced::FencedCluster;
pub use lease::ANNOTATION_RUN;
pub use led::{Led, LedSnapshots};

use crate::KubeSnapshots;
use crate::cluster::Cluster;
use crate::settings::{Settings, book_of};

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The recipes cannot be read.
    #[error(transparent)]
    Book(#[from] crate::recipe::BookError),
    /// The config does not fit the recipes.
    #[error("{0}")]
    Settings(understudy_config::Problems),
}

/// A sidecar's part in taking snapshots.
pub struct Agent {
    snapshots: Arc<LedSnapshots>,
    elections: Vec<Arc<Election>>,
    running: JoinSet<()>,
}

impl Agent {
    /// Takes part for every pool of the config. `instance` names this start of the process.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(
        cluster: &Arc<dyn Cluster>,
        config: &Arc<Config>,
        kubernetes: &Kubernetes,
        namespace: &str,
        instance: &str,
    ) -> Result<Self, AgentError> {
        let book = book_of(kubernetes)?;
        let settings = Settings::of(kubernetes, &book, namespace).map_err(AgentError::Settings)?;
        let mut leases: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pool in &config.pools {
            let name = kubernetes.lease.name.clone();
            let name = name.unwrap_or_else(|| lease_name(&pool.name));
            leases.entry(name).or_default().push(pool.name.clone());
        }
        let me = format!("{}_{instance}", host_name());
        let notes = config.data_dir.join("snapshots");
        let (mut led, mut elections, mut running) = (Vec::new(), Vec::new(), JoinSet::new());
        for (name, pools) in leases {
            let election = Arc::new(Election::new(
                cluster.clone(),
                LeaseSettings {
                    namespace: settings.namespace.clone(),
                    name,
                    me: me.clone(),
                    duration: kubernetes.lease.duration,
                },
            ));
            let provider = KubeSnapshots::new(
                Arc::new(FencedCluster::new(cluster.clone(), election.clone())),
                book.clone(),
                settings.clone(),
                Logins::new(config.clone()),
                notes.clone(),
            );
            let runs = election.clone();
            running.spawn(async move { runs.run().await });
            elections.push(election.clone());
            led.push(Led {
                pools,
                election,
                provider: Arc::new(provider),
            });
        }
        Ok(Self {
            snapshots: Arc::new(LedSnapshots::new(led)),
            elections,
            running,
        })
    }

    /// What answers `SNAPSHOT …`.
    #[must_use]
    pub fn snapshots(&self) -> Arc<LedSnapshots> {
        self.snapshots.clone()
    }

    /// Takes nothing any more, and gives the Leases up.
    pub async fn stop(mut self) {
        for election in &self.elections {
            election.end().await;
        }
        while self.running.join_next().await.is_some() {}
    }
}

/// `understudy-<pool>` as an object may be called.
fn lease_name(pool: &str) -> String {
    crate::engine::object_name(&format!("understudy-{pool}"), 1)
}

/// The Pod's name, as the kernel knows it.
fn host_name() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = kernel
        .trim()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() || "-.".contains(letter) {
                letter
            } else {
                '-'
            }
        })
        .collect();
    match name.as_str() {
        "" => "sidecar".to_owned(),
        _ => name,
    }
}
