//! What admin commands, tasks and the proxy itself share: listeners, readiness, reload.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::task::JoinSet;
use understudy_config::{Config, ListenAddress, Pool};
use understudy_net::{Acceptor, ListenError, Listener, TlsError};

use super::{ConfigSource, ReloadError};
use crate::acceptor;
use crate::backends::HealthState;
use crate::gate::Gates;
use crate::membership::Membership;
use crate::metrics::Metrics;
use crate::orders::{ANSWER_MAX, Crew};
use crate::overlay::Overlay;
use crate::reload::{self, Reloaded};
use crate::shared::Known;
use crate::stats::Stats;
use crate::table;
use crate::worker::Order;

/// What admin commands and tasks reach.
pub(crate) struct Inner {
    pub(crate) known: Known,
    pub(crate) crew: Crew,
    pub(crate) gates: Gates,
    pub(crate) stats: Stats,
    pub(crate) metrics: Metrics,
    pub(crate) started: Instant,
    /// Where `control.address` is set, and this proxy is a process of its own.
    pub(crate) membership: Option<Membership>,
    /// This proxy is about to end, and still serves.
    pub(super) leaving: AtomicBool,
    pub(super) source: ConfigSource,
    pub(super) listeners: Mutex<Listeners>,
}

/// The acceptors, and where they listen by the pool's name.
#[derive(Default)]
pub(super) struct Listeners {
    pub(super) tasks: JoinSet<()>,
    pub(super) addresses: HashMap<String, ListenAddress>,
}

impl Inner {
    pub(super) fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a pool really listens.
    pub(crate) fn pool_address(&self, pool: &str) -> Option<ListenAddress> {
        self.listeners().addresses.get(pool).cloned()
    }

    /// Starts to accept for a pool.
    pub(super) fn accept(&self, pool: &str, listener: Listener) {
        let address = listener.local_address();
        tracing::info!(pool, listen = %address, "listen for clients");
        let (known, name) = (Arc::clone(&self.known), pool.to_owned());
        let sessions_max = move || {
            let config = known.config.load();
            config
                .pool(&name)
                .and_then(|pool| pool.sessions_max)
                .map_or(usize::MAX, std::num::NonZero::get)
        };
        let mut listeners = self.listeners();
        listeners.addresses.insert(pool.to_owned(), address);
        listeners.tasks.spawn(acceptor::run(
            listener,
            pool.into(),
            self.crew.clone(),
            sessions_max,
        ));
    }

    /// What is missing before clients should come, one line each.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.leaving.load(Ordering::Relaxed) {
            missing.push("this proxy is about to end".to_owned());
        }
        let routes = self.known.routes.load();
        let listeners = self.listeners();
        for pool in &routes.pools {
            if !listeners.addresses.contains_key(&pool.name) {
                missing.push(format!("pool {} does not listen", pool.name));
            }
            for shard in &pool.shards {
                let url = &shard.backend_url;
                match self.known.backends.health(url).map(|health| health.state) {
                    Some(HealthState::Up) => {}
                    Some(HealthState::Down(why)) => {
                        missing.push(format!(
                            "shard {} of pool {}: {url} does not answer: {why}",
                            shard.name, pool.name
                        ));
                    }
                    None => missing.push(format!(
                        "shard {} of pool {}: {url} was not asked yet",
                        shard.name, pool.name
                    )),
                }
            }
        }
        missing
    }

    /// Reads the configuration again, under the same lock as the gate's verbs: routes have one writer at a time.
    pub(crate) async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let ConfigSource::File(path) = &self.source else {
            return Err(ReloadError::Fixed);
        };
        let read = Config::load(path)?;
        let turn = self.gates.turn().await;
        let (merged, said) = reload::merge(&self.known.config.load(), &read);
        let overlay = self.known.overlay.load();
        let routes = Arc::new(table::build(&merged, &overlay)?);
        let mut bound = Vec::new();
        for pool in merged
            .pools
            .iter()
            .filter(|pool| self.known.config.load().pool(&pool.name).is_none())
        {
            bound.push((pool.name.clone(), bind::<ReloadError>(pool).await?));
        }
        self.known.backends.reload(&merged)?;
        warn_of_disagreements(&merged, &overlay, &self.source);
        self.known.config.store(Arc::new(merged));
        self.known.routes.store(Arc::clone(&routes));
        let asked = self.crew.post(&Order::Routes(routes));
        for (pool, listener) in bound {
            self.accept(&pool, listener);
        }
        for (_, ack) in asked.gather(ANSWER_MAX).await {
            if let Err(silent) = ack {
                tracing::warn!(%silent, "take over a reloaded configuration; it does so when it reads its orders");
            }
        }
        drop(turn);
        for line in &said.changed {
            tracing::info!(setting = line, "reloaded");
        }
        for line in &said.restart {
            tracing::warn!(setting = line, "a changed setting waits for a restart");
        }
        Ok(said)
    }
}

/// Binds a pool's address; accepting is `accept`'s.
pub(super) async fn bind<E: From<ListenError> + From<TlsError>>(
    pool: &Pool,
) -> Result<Listener, E> {
    let listener = Listener::bind(&pool.listen).await?;
    match &pool.tls {
        Some(files) => Ok(listener.with_tls(Acceptor::from_files(files)?)),
        None => Ok(listener),
    }
}

/// Says where the file and the upgrades of the past disagree.
pub(super) fn warn_of_disagreements(config: &Config, overlay: &Overlay, source: &ConfigSource) {
    let text = match source {
        ConfigSource::File(path) => std::fs::read_to_string(path).ok(),
        ConfigSource::Fixed => None,
    };
    for sentence in table::disagreements(config, overlay, text.as_deref()) {
        tracing::warn!("{sentence}");
    }
}
