//! A running proxy: started from a configuration, driven by admin commands, stopped without cutting anybody off.
//!
//! ```text
//!  start:  overlay -> route table -> workers (prepared shards held) -> bind every pool -> accept
//!  stop:   no more clients -> idle sessions close -> busy ones until the limit -> threads end
//! ```

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use understudy_config::{Config, ListenAddress, LoadError, Pool};
use understudy_net::{Acceptor, AdminTable, ListenError, Listener, TlsError};
use understudy_ring::RingError;

use crate::acceptor;
use crate::admin::Commands;
use crate::backends::{Backends, HealthState};
use crate::gate::Gates;
use crate::http;
use crate::metrics::Metrics;
use crate::orders::{ANSWER_MAX, Crew};
use crate::overlay::{Overlay, OverlayError};
use crate::reload::{self, Reloaded};
use crate::shared::{Known, Shared, new_instance};
use crate::stats::Stats;
use crate::table;
use crate::thread::{self, Letter};
use crate::watch;
use crate::worker::Order;

/// Where a reload reads the configuration again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// This file, ours or a nutcracker.yml.
    File(PathBuf),
    /// Nowhere: it was given on the command line.
    Fixed,
}

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory for routes cannot be made.
    #[error("make data_dir {}: {cause}", path.display())]
    DataDir {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The routes of earlier upgrades cannot be read.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// A pool's ring cannot be built.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A pool or the HTTP port cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system gives no thread, or no event queue.
    #[error("start a worker thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// There is no file to read.
    #[error("the configuration was given on the command line: there is no file to read again")]
    Fixed,
    /// The file cannot be read or is not a configuration.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A pool's ring cannot be built.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A new pool cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// A running proxy. Dropped without [`Proxy::stop`], it closes everything at once.
pub struct Proxy {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
    /// Probes, samples and HTTP; aborted on drop.
    _tasks: JoinSet<()>,
    http: Option<ListenAddress>,
}

/// What admin commands and tasks reach.
pub(crate) struct Inner {
    pub(crate) known: Known,
    pub(crate) crew: Crew,
    pub(crate) gates: Gates,
    pub(crate) stats: Stats,
    pub(crate) metrics: Metrics,
    pub(crate) started: Instant,
    source: ConfigSource,
    listeners: Mutex<Listeners>,
}

/// The acceptors, and where they listen by the pool's name.
#[derive(Default)]
struct Listeners {
    tasks: JoinSet<()>,
    addresses: HashMap<String, ListenAddress>,
}

impl Proxy {
    /// Starts workers and listens. Accepting begins when every pool is bound, so that nobody is served by half a proxy.
    ///
    /// Must be called within a tokio runtime, which runs everything but the workers.
    pub async fn start(config: Arc<Config>, source: ConfigSource) -> Result<Proxy, StartError> {
        std::fs::create_dir_all(&config.data_dir).map_err(|cause| StartError::DataDir {
            path: config.data_dir.clone(),
            cause,
        })?;
        let overlay = Overlay::load(&config.data_dir)?;
        warn_of_disagreements(&config, &overlay, &source);
        let instance = new_instance();
        let workers = u16::try_from(config.workers.get()).unwrap_or(u16::MAX);
        let known = Arc::new(Shared {
            workers,
            routes: arc_swap::ArcSwap::from_pointee(table::build(&config, &overlay)?),
            backends: Backends::new(&config, &instance)?,
            instance,
            overlay: arc_swap::ArcSwap::from_pointee(overlay),
            config: arc_swap::ArcSwap::new(Arc::clone(&config)),
            panics: 0.into(),
        });
        let mut bound = Vec::new();
        for pool in &config.pools {
            bound.push((pool.name.clone(), bind(pool).await?));
        }
        let http = match &config.http {
            Some(http) => Some(Listener::bind(&http.listen).await?),
            None => None,
        };
        let (mut addresses, mut threads) = (Vec::new(), Vec::new());
        for number in 0..workers {
            let (address, thread) =
                thread::start(Arc::clone(&known), number).map_err(StartError::Thread)?;
            addresses.push(address);
            threads.push(thread);
        }
        let crew = Crew::new(addresses);
        let inner = Arc::new(Inner {
            gates: Gates::new(Arc::clone(&known), crew.clone()),
            metrics: Metrics::new(Arc::clone(&known)),
            stats: Stats::default(),
            started: Instant::now(),
            listeners: Mutex::default(),
            source,
            known,
            crew,
        });
        for (pool, listener) in bound {
            inner.accept(&pool, listener);
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(watch::run(Arc::clone(&inner.known)));
        let sampled = Arc::clone(&inner);
        tasks.spawn(async move { sampled.stats.run(&sampled.crew).await });
        let http_address = http.as_ref().map(Listener::local_address);
        if let Some(listener) = http {
            tasks.spawn(http::serve(
                listener,
                Arc::clone(&inner) as Arc<dyn http::Pages>,
            ));
        }
        Ok(Proxy {
            inner,
            threads,
            _tasks: tasks,
            http: http_address,
        })
    }

    /// The commands of this proxy, and its section of INFO, for an admin server.
    pub fn admin_table(&self) -> AdminTable {
        let mut table = AdminTable::new();
        let commands = Commands::new(Arc::clone(&self.inner));
        table.add_info("Proxy", commands.info());
        table.add(
            "PROXY",
            "The data plane: pools, gates, sessions",
            Arc::new(commands),
        );
        table
    }

    /// Names this start of the process; another start has another one.
    pub fn instance(&self) -> &str {
        &self.inner.known.instance
    }

    /// Where a pool really listens: the port that was taken for port 0.
    pub fn pool_address(&self, pool: &str) -> Option<ListenAddress> {
        self.inner.pool_address(pool)
    }

    /// Where /metrics, /healthz and /readyz are.
    pub fn http_address(&self) -> Option<&ListenAddress> {
        self.http.as_ref()
    }

    /// Where /metrics gathers from: others of the process may register what they count.
    pub fn registry(&self) -> &prometheus::Registry {
        self.inner.metrics.registry()
    }

    /// Whether every pool listens and every shard's backend answered when last asked.
    pub fn is_ready(&self) -> bool {
        self.inner.not_ready().is_empty()
    }

    /// Reads the configuration again. A file that cannot be used changes nothing.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        self.inner.reload().await
    }

    /// Takes no more clients, closes sessions as they become idle, and all of them after `limit`.
    pub async fn stop(mut self, limit: Duration) {
        self.inner.listeners().tasks.abort_all();
        for address in self.inner.crew.addresses() {
            address.post(Letter::Drain(limit));
        }
        for thread in std::mem::take(&mut self.threads) {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("a worker thread ended by a panic");
            }
        }
    }

    /// Runs this on a worker's thread: how tests freeze a worker or make it panic.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn run_on_worker(&self, worker: usize, errand: Box<dyn FnOnce() + Send>) {
        self.inner.crew.addresses()[worker].post(Letter::Run(errand));
    }
}

impl Inner {
    fn listeners(&self) -> std::sync::MutexGuard<'_, Listeners> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a pool really listens.
    pub(crate) fn pool_address(&self, pool: &str) -> Option<ListenAddress> {
        self.listeners().addresses.get(pool).cloned()
    }

    /// Starts to accept for a pool.
    fn accept(&self, pool: &str, listener: Listener) {
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
            bound.push((pool.name.clone(), bind(pool).await?));
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

async fn bind(pool: &Pool) -> Result<Listener, StartOrReload> {
    let listener = Listener::bind(&pool.listen).await?;
    match &pool.tls {
        Some(files) => Ok(listener.with_tls(Acceptor::from_files(files)?)),
        None => Ok(listener),
    }
}

/// What both a start and a reload may meet.
enum StartOrReload {
    Listen(ListenError),
    Tls(TlsError),
}

impl From<ListenError> for StartOrReload {
    fn from(error: ListenError) -> StartOrReload {
        StartOrReload::Listen(error)
    }
}

impl From<TlsError> for StartOrReload {
    fn from(error: TlsError) -> StartOrReload {
        StartOrReload::Tls(error)
    }
}

impl From<StartOrReload> for StartError {
    fn from(error: StartOrReload) -> StartError {
        match error {
            StartOrReload::Listen(error) => StartError::Listen(error),
            StartOrReload::Tls(error) => StartError::Tls(error),
        }
    }
}

impl From<StartOrReload> for ReloadError {
    fn from(error: StartOrReload) -> ReloadError {
        match error {
            StartOrReload::Listen(error) => ReloadError::Listen(error),
            StartOrReload::Tls(error) => ReloadError::Tls(error),
        }
    }
}

fn warn_of_disagreements(config: &Config, overlay: &Overlay, source: &ConfigSource) {
    let text = match source {
        ConfigSource::File(path) => std::fs::read_to_string(path).ok(),
        ConfigSource::Fixed => None,
    };
    for sentence in table::disagreements(config, overlay, text.as_deref()) {
        tracing::warn!("{sentence}");
    }
}
