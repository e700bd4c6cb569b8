//! Control as a whole: the journal, the drivers of all shards, and the desk at which an operator reaches each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use understudy_config::{Config, SnapshotsBy};
use understudy_net::http::Pages;
use understudy_net::{Acceptor, AdminHandler, AdminServer, TlsError};

use crate::admin::Upgrades;
use crate::driver::{self, Driver, Order, Wish};
use crate::effects::Failpoint;
use crate::journal::{Journal, JournalError, Options, RouteRecord, ShardRecord, UpgradeRecord};
use crate::metrics::{ControlCollector, ControlPages, CutoverMetrics};
use crate::phase::Phase;
use crate::proxies::{Home, Proxies};
use crate::snapshot::{
    AgentSnapshots, LocalSnapshots, Logins, Providers, SnapshotError, SnapshotProvider,
};
use crate::status::{Board, Key, Live};
use crate::whereabouts::Whereabouts;
use crate::world::{Guards, Servers, World};

/// Orders that may wait for a shard's driver. At the limit the operator is told that it is busy.
const ORDERS_MAX: usize = 8;

/// Between two looks for proxies that do not know where a shard is that no driver looks after.
const WARDEN_LOOK: Duration = Duration::from_secs(2);

/// Between two looks at the Pods of silent proxies: a third of the lease, and never less or more than these.
const TENANTS_LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Longest wait for the drivers when control is stopped.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Why control did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The snapshots' directory.
    #[error("open the local snapshots")]
    Snapshots(#[from] SnapshotError),
    /// The guard's certificate or key.
    #[error("read control.guard.tls")]
    GuardTls(#[from] TlsError),
    /// A metric whose name or labels cannot be.
    #[error("make the metrics")]
    Metrics(#[from] prometheus::Error),
}

/// What drives upgrades.
pub struct Control {
    inner: Arc<Inner>,
}

/// How a shard's driver is reached.
struct Desk {
    orders: mpsc::Sender<Order>,
    wish: watch::Sender<Wish>,
}

pub(crate) struct Inner {
    pub(crate) world: Arc<World>,
    pub(crate) board: Arc<Board>,
    desks: Mutex<BTreeMap<Key, Desk>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Looks after shards that are at an end.
    warden: Mutex<Option<JoinHandle<()>>>,
    /// One START at a time, so that two cannot find the same shard free.
    pub(crate) starting: tokio::sync::Mutex<()>,
    /// A proxy registered that is behind.
    pub(crate) lost: tokio::sync::Notify,
    /// A proxy registered that was not known, or moved.
    pub(crate) newcomer: tokio::sync::Notify,
    /// Looks after the Pods of proxies.
    tenants: Mutex<Option<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    /// As [`Control::start_with`], where `local` is the only recipe.
    pub async fn start(
        config: Arc<Config>,
        local_proxy: Option<Arc<AdminServer>>,
    ) -> Result<Control, StartError> {
        Self::start_with(config, local_proxy, Vec::new()).await
    }

    /// Opens the journal, looks at what was left unfinished, and goes on with it.
    ///
    /// `local_proxy` is the admin server of the proxy in this process; it is driven when the config names no others.
    /// `providers` take the snapshots of the recipes that are not `local`.
    pub async fn start_with(
        config: Arc<Config>,
        local_proxy: Option<Arc<AdminServer>>,
        providers: Vec<Arc<dyn SnapshotProvider>>,
    ) -> Result<Control, StartError> {
        Self::start_asking(config, local_proxy, providers, None).await
    }

    /// As [`Control::start_with`], with somebody who knows where the Pods of silent proxies are.
    pub async fn start_asking(
        config: Arc<Config>,
        local_proxy: Option<Arc<AdminServer>>,
        providers: Vec<Arc<dyn SnapshotProvider>>,
        whereabouts: Option<Arc<dyn Whereabouts>>,
    ) -> Result<Control, StartError> {
        if let Some(files) = &config.control.guard.tls {
            // Said now, and not when the first shard is about to be fenced.
            let _read_again_by_each_guard = Acceptor::from_files(files)?;
        }
        let journal = Journal::open(&config.data_dir).await?;
        let records = journal.shards().await?;
        let upgrades = journal.upgrades().await?;
        let routes = journal.routes().await?;
        let logins = Logins::new(config.clone());
        let snapshots = LocalSnapshots::open(config.data_dir.join("snapshots"))?;
        let snapshots = snapshots.with_logins(logins.clone());
        let local: Arc<dyn SnapshotProvider> = Arc::new(snapshots.clone());
        let mut providers: Vec<_> = std::iter::once(local).chain(providers).collect();
        let proxies = Arc::new(Proxies::new(&config.control, local_proxy));
        if config.control.snapshots == SnapshotsBy::Agents {
            let asked = proxies.clone();
            let agents = AgentSnapshots::new(Arc::new(move || asked.admin_ports()));
            providers.push(Arc::new(agents));
        }
        for known in journal.proxies().await? {
            let pools = known.pools.into_iter().collect();
            let seen = known.pod_seen;
            let home = known.pod.map(|pod| Home { pod, seen });
            proxies
                .registry()
                .remember(&known.id, &known.address, home, pools);
        }
        let last_term = journal.last_term().await?;
        proxies.registry().seen(last_term);
        for record in &records {
            if let Some(attempt) = record.open_attempt() {
                let key = (record.pool.clone(), record.shard.clone());
                proxies.registry().resume(key, attempt.term);
            }
        }
        let world = Arc::new(World {
            proxies,
            servers: Servers::default(),
            guards: Guards::new(config.control.guard.clone()),
            logins,
            local_snapshots: snapshots,
            providers: Providers::new(providers),
            whereabouts,
            metrics: CutoverMetrics::new()?,
            journal,
            failpoint: Arc::new(Failpoint::from_environment()),
            config,
        });
        let inner = Arc::new(Inner {
            world,
            board: Arc::new(Board::new(records.clone())),
            desks: Mutex::default(),
            tasks: Mutex::default(),
            warden: Mutex::default(),
            starting: tokio::sync::Mutex::new(()),
            lost: tokio::sync::Notify::new(),
            newcomer: tokio::sync::Notify::new(),
            tenants: Mutex::default(),
        });
        inner.board.recovering();
        inner.recover(&records, &upgrades, routes);
        inner.watch_over_ends();
        inner.watch_over_tenants();
        Ok(Control { inner })
    }

    /// Answers `UPGRADE …`.
    pub fn admin_handler(&self) -> Arc<dyn AdminHandler> {
        Arc::new(Upgrades::new(self.inner.clone()))
    }

    fn metrics(&self) -> ControlCollector {
        ControlCollector {
            world: self.inner.world.clone(),
            board: self.inner.board.clone(),
        }
    }

    /// What control counts and shows, for the registry of a process that has one.
    pub fn collector(&self) -> Box<dyn prometheus::core::Collector> {
        Box::new(self.metrics())
    }

    /// /metrics, /healthz and /readyz of a control that has a process of its own.
    pub fn pages(&self) -> Result<Arc<dyn Pages>, StartError> {
        Ok(Arc::new(ControlPages::new(self.metrics())?))
    }

    /// Ends every driver where it stands; a later start goes on from there. Attempts under way are undone first.
    pub async fn stop(self) {
        let warden = self.inner.warden().take();
        let tenants = lock(&self.inner.tenants).take();
        for watching in [warden, tenants].into_iter().flatten() {
            watching.abort();
        }
        for desk in self.inner.desks().values() {
            desk.wish.send_replace(Wish::Stop);
        }
        let tasks = std::mem::take(
            &mut *self
                .inner
                .tasks
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let all = async {
            for task in tasks {
                let _ended = task.await;
            }
        };
        if tokio::time::timeout(STOP_PATIENCE, all).await.is_err() {
            tracing::warn!(
                "a driver did not end in time; what it left is looked up at the next start"
            );
        }
        self.inner.world.guards.close_all().await;
    }

    /// The whole journal as JSON, for `understudy journal show`.
    pub async fn journal_dump(&self) -> Result<String, JournalError> {
        self.inner.world.journal.dump().await
    }
}

impl Inner {
    fn desks(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Desk>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warden(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.warden.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A proxy may come with an old route long after an upgrade. No START can begin while such a one is told.
    fn watch_over_ends(self: &Arc<Self>) {
        let inner = self.clone();
        let watching = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(WARDEN_LOOK) => {}
                    () = inner.lost.notified() => {}
                }
                let _no_start = inner.starting.lock().await;
                let routes = inner.world.journal.routes().await.unwrap_or_default();
                if routes.is_empty() {
                    // Nothing to tell them; but metrics say whether they answer.
                    let _seen = inner.world.proxies.pools(None).await;
                }
                for route in routes {
                    let live = inner.board.shard(&route.pool, &route.shard);
                    if live.is_none_or(|live| live.record.phase.is_end()) {
                        driver::bring_lost_proxies_home(&inner.world, &route).await;
                    }
                }
            }
        });
        *self.warden() = Some(watching);
    }

    /// The Pods of proxies that went silent are asked for, and once those of all that came: one that this API server never
    /// showed is not missed when it is not there.
    fn watch_over_tenants(self: &Arc<Self>) {
        if self.world.whereabouts.is_none() {
            return;
        }
        let inner = self.clone();
        let between =
            (inner.world.proxies.registry().lease() / 3).clamp(TENANTS_LOOK.0, TENANTS_LOOK.1);
        let watching = tokio::spawn(async move {
            let mut last = String::new();
            loop {
                tokio::select! {
                    () = tokio::time::sleep(between) => {}
                    () = inner.newcomer.notified() => {}
                }
                inner.world.look_after_tenants(&mut last).await;
            }
        });
        *lock(&self.tenants) = Some(watching);
    }

    fn keep(&self, task: JoinHandle<()>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// Goes on with what is not at an end, one task for each pool's shards, and brings stray proxies home.
    fn recover(
        self: &Arc<Self>,
        records: &[ShardRecord],
        upgrades: &[UpgradeRecord],
        routes: Vec<RouteRecord>,
    ) {
        let mut by_pool: BTreeMap<&str, Vec<Driver>> = BTreeMap::new();
        let mut open: BTreeSet<(String, String)> = BTreeSet::new();
        for record in records {
            for url in [&record.source, &record.target] {
                if let Err(error) = self.world.know(&record.pool, &record.shard, url) {
                    tracing::warn!(%error, "a shard of the journal is not in the config");
                }
            }
            if record.phase.is_end() {
                continue;
            }
            let Some(upgrade) = upgrades.iter().find(|upgrade| upgrade.id == record.upgrade) else {
                continue;
            };
            open.insert((record.pool.clone(), record.shard.clone()));
            by_pool
                .entry(&record.pool)
                .or_default()
                .push(self.driver(record.clone(), upgrade.options.clone()));
        }
        for drivers in by_pool.into_values() {
            self.run(drivers, true);
        }
        let world = self.world.clone();
        self.keep(tokio::spawn(async move {
            for route in routes {
                if !open.contains(&(route.pool.clone(), route.shard.clone())) {
                    driver::bring_proxies_home(&world, &route).await;
                }
            }
        }));
    }

    /// A driver for a shard, with a desk.
    fn driver(&self, record: ShardRecord, options: Options) -> Driver {
        let (orders, orders_in) = mpsc::channel(ORDERS_MAX);
        let (wish, wish_in) = watch::channel(Wish::Go);
        let key = (record.pool.clone(), record.shard.clone());
        self.desks().insert(key, Desk { orders, wish });
        Driver::new(driver::Start {
            world: self.world.clone(),
            board: self.board.clone(),
            record,
            options,
            orders: orders_in,
            wish: wish_in,
        })
    }

    /// Journals a START, shows it, and sets its drivers going.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        upgrade: UpgradeRecord,
        records: Vec<ShardRecord>,
    ) -> Result<(), JournalError> {
        self.world
            .journal
            .start(upgrade.clone(), records.clone())
            .await?;
        let mut drivers = Vec::new();
        for record in records {
            self.board.put(Live::new(record.clone()));
            drivers.push(self.driver(record, upgrade.options.clone()));
        }
        self.run(drivers, false);
        Ok(())
    }

    /// Drives shards one after another to their soak, where each goes on by itself.
    fn run(self: &Arc<Self>, drivers: Vec<Driver>, resumed: bool) {
        let inner = self.clone();
        self.keep(tokio::spawn(async move {
            let mut drivers = drivers;
            if resumed {
                // Those that soak have clients on the new server: they first.
                drivers.sort_by_key(|driver| driver.phase() != Phase::Soak);
            }
            let mut failed: Option<String> = None;
            for mut driver in drivers {
                if let Some(before) = &failed
                    && driver.phase() == Phase::Plan
                {
                    driver.call_off(before).await;
                    continue;
                }
                if resumed {
                    driver.resume().await;
                }
                if driver.approach().await == Phase::Aborted {
                    failed = Some(driver.shard().to_owned());
                    driver.tidy_snapshots().await;
                }
                if driver.phase() == Phase::Soak {
                    inner.keep(tokio::spawn(async move {
                        if driver.soak().await.is_end() {
                            driver.tidy_snapshots().await;
                        }
                    }));
                }
            }
        }));
    }

    /// Tells a shard's driver something.
    pub(crate) fn tell(&self, pool: &str, shard: &str, order: Order) -> Result<(), String> {
        let desks = self.desks();
        let desk = desks.get(&(pool.to_owned(), shard.to_owned()));
        let desk = desk.ok_or_else(|| format!("shard '{shard}' has no upgrade under way"))?;
        desk.orders
            .try_send(order)
            .map_err(|_full_or_ended| format!("shard '{shard}' is busy"))
    }

    /// Wishes that a shard's upgrade is aborted.
    pub(crate) fn wish_abort(&self, pool: &str, shard: &str) {
        if let Some(desk) = self.desks().get(&(pool.to_owned(), shard.to_owned())) {
            desk.wish.send_replace(Wish::Abort);
        }
    }
}
