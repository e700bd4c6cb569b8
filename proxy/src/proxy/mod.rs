//! A running proxy: started from a configuration, driven by admin commands, stopped without cutting anybody off.
//!
//! ```text
//!  start:  overlay -> route table -> workers (prepared shards held) -> bind every pool -> accept
//!  stop:   no more clients -> idle sessions close -> busy ones until the limit -> threads end
//! ```

mod error;
mod inner;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use understudy_config::{Config, ListenAddress};
use understudy_net::{AdminTable, Listener, http};

pub use self::error::{ReloadError, StartError};
pub(crate) use self::inner::Inner;

use self::inner::{bind, warn_of_disagreements};
use crate::admin::Commands;
use crate::backends::Backends;
use crate::gate::Gates;
use crate::membership::{Membership, identity_of};
use crate::metrics::Metrics;
use crate::orders::Crew;
use crate::overlay::OverlayFile;
use crate::reload::Reloaded;
use crate::shared::{Shared, new_instance};
use crate::stats::Stats;
use crate::table;
use crate::thread::{self, Letter};
use crate::watch;

/// Where a reload reads the configuration again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// This file, ours or a nutcracker.yml.
    File(PathBuf),
    /// Nowhere: it was given on the command line.
    Fixed,
}

/// Whether control is in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    BesideControl,
    Alone,
}

/// A running proxy. Dropped without [`Proxy::stop`], it closes everything at once.
pub struct Proxy {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
    /// Registers with control, until the last session has ended.
    registering: Option<tokio::task::JoinHandle<()>>,
    /// Probes, samples and HTTP; aborted on drop.
    _tasks: JoinSet<()>,
    http: Option<ListenAddress>,
}

impl Proxy {
    /// Starts workers and listens. Accepting begins when every pool is bound, so that nobody is served by half a proxy.
    ///
    /// Must be called within a tokio runtime, which runs everything but the workers.
    pub async fn start(config: Arc<Config>, source: ConfigSource) -> Result<Proxy, StartError> {
        Proxy::begin(config, source, Place::BesideControl).await
    }

    /// As [`Proxy::start`], for a process of its own: registers with control where `control.address` says that there is
    /// one, for the first time before a client is accepted.
    pub async fn start_alone(
        config: Arc<Config>,
        source: ConfigSource,
    ) -> Result<Proxy, StartError> {
        Proxy::begin(config, source, Place::Alone).await
    }

    async fn begin(
        config: Arc<Config>,
        source: ConfigSource,
        place: Place,
    ) -> Result<Proxy, StartError> {
        std::fs::create_dir_all(&config.data_dir).map_err(|cause| StartError::DataDir {
            path: config.data_dir.clone(),
            cause,
        })?;
        let (overlay_file, overlay) = OverlayFile::open(&config.data_dir)?;
        warn_of_disagreements(&config, &overlay, &source);
        let instance = new_instance();
        let membership = match place {
            Place::Alone if config.control.address.is_some() => {
                let id = identity_of(&config.data_dir).map_err(StartError::Identity)?;
                Membership::of(&config, id)
            }
            Place::Alone | Place::BesideControl => None,
        };
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
            bound.push((pool.name.clone(), bind::<StartError>(pool).await?));
        }
        let http = match &config.http {
            Some(http) => Some(Listener::bind(&http.listen).await?),
            None => None,
        };
        let (mut addresses, mut threads) = (Vec::new(), Vec::new());
        for number in 0..workers {
            let (address, thread) = thread::start(Arc::clone(&known), number)
                .await
                .map_err(StartError::Thread)?;
            addresses.push(address);
            threads.push(thread);
        }
        let crew = Crew::new(addresses);
        let inner = Arc::new(Inner {
            gates: Gates::new(Arc::clone(&known), crew.clone(), overlay_file),
            metrics: Metrics::new(Arc::clone(&known)),
            stats: Stats::default(),
            started: Instant::now(),
            leaving: AtomicBool::new(false),
            listeners: Mutex::default(),
            source,
            membership,
            known,
            crew,
        });
        if let Some(membership) = &inner.membership {
            membership.begin(&inner).await;
        }
        for (pool, listener) in bound {
            inner.accept(&pool, listener);
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(watch::run(Arc::clone(&inner.known)));
        let sampled = Arc::clone(&inner);
        tasks.spawn(async move { sampled.stats.run(&sampled.crew).await });
        let registering = inner.membership.is_some().then(|| {
            let inner = Arc::clone(&inner);
            tokio::spawn(async move {
                if let Some(membership) = &inner.membership {
                    membership.run(&inner).await;
                }
            })
        });
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
            registering,
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

    /// From now on `/readyz` says that this proxy is about to end. It serves on, new clients too, until [`Proxy::stop`].
    pub fn leave(&self) {
        self.inner.leaving.store(true, Ordering::Relaxed);
    }

    /// How many clients are connected, over all pools and workers.
    pub fn sessions(&self) -> usize {
        let workers = self.inner.crew.addresses().iter();
        workers.map(thread::Address::sessions).sum()
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
        if let (Some(membership), Some(registering)) =
            (&self.inner.membership, self.registering.take())
        {
            membership.end();
            let _ended = registering.await;
            membership.leave(&self.inner).await;
        }
    }

    /// Runs this on a worker's thread: how tests freeze a worker or make it panic.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn run_on_worker(&self, worker: usize, errand: Box<dyn FnOnce() + Send>) {
        self.inner.crew.addresses()[worker].post(Letter::Run(errand));
    }
}

/// Admin sessions may outlive the proxy; its listeners do not.
impl Drop for Proxy {
    fn drop(&mut self) {
        self.inner.listeners().tasks.abort_all();
        if let Some(registering) = &self.registering {
            registering.abort();
        }
    }
}
