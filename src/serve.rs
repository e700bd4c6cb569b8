//! `serve`, `proxy` and `control`: the long-running processes.
//!
//! Order at start: config, proxy (its overlay decides routes before a client is accepted), control (recovers what a
//! crash left, before an operator can ask for more), admin endpoint. Order at the end: admin, control, proxy; a
//! client is the last to notice.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use understudy_config::Config;
use understudy_control::Control;
use understudy_net::{Acceptor, AdminLimits, AdminServer, AdminTable, Listener, http};
use understudy_proxy::{ConfigSource, Proxy};

use crate::cli::{ConfigFile, Serve};
use crate::{kube, logging};

/// SIGXFSZ on Linux. Its default is to kill; with a handler, a write past RLIMIT_FSIZE fails with EFBIG instead, and is
/// handled as every full disk is.
const SIGXFSZ: i32 = 25;
/// How long clients are given to finish when the process is told to end.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Proxy and control in one process. Control reaches the proxy over an in-memory pipe, by the same commands as over a port.
pub(crate) async fn both(args: Serve) -> anyhow::Result<ExitCode> {
    begin()?;
    let (config, source) = match (&args.config, &args.listen, &args.backend) {
        (Some(path), _, _) => (load(path)?, ConfigSource::File(path.clone())),
        (None, Some(listen), Some(backend)) => (
            Config::embedded(listen.parse()?, backend.parse()?),
            ConfigSource::Fixed,
        ),
        _ => anyhow::bail!("give either --config FILE, or --listen ADDR with --backend URL"),
    };
    let config = Arc::new(config);
    let proxy = Proxy::start(Arc::clone(&config), source)
        .await
        .context("start the proxy")?;
    let proxy_admin = admin_server(&config, proxy.admin_table());
    let snapshots = kube::providers(&config).await?;
    let whereabouts = kube::whereabouts(&config).await?;
    let proxy_admin = Some(proxy_admin);
    let control = Control::start_asking(Arc::clone(&config), proxy_admin, snapshots, whereabouts)
        .await
        .context("start control")?;
    // One /metrics shows both.
    (proxy.registry().register(control.collector())).context("register control's metrics")?;
    let mut table = proxy.admin_table();
    add_control(&mut table, &control);
    run_until_told(&config, table, Some(&proxy)).await?;
    control.stop().await;
    proxy.stop(DRAIN_MAX).await;
    Ok(ExitCode::SUCCESS)
}

/// The data plane alone.
pub(crate) async fn proxy(args: &ConfigFile) -> anyhow::Result<ExitCode> {
    begin()?;
    let config = Arc::new(load(&args.config)?);
    let source = ConfigSource::File(args.config.clone());
    let proxy = Proxy::start_alone(Arc::clone(&config), source)
        .await
        .context("start the proxy")?;
    run_until_told(&config, proxy.admin_table(), Some(&proxy)).await?;
    proxy.stop(DRAIN_MAX).await;
    Ok(ExitCode::SUCCESS)
}

/// Control alone; its proxies are the ones that the config names.
pub(crate) async fn control(args: &ConfigFile) -> anyhow::Result<ExitCode> {
    begin()?;
    let config = Arc::new(load(&args.config)?);
    let snapshots = kube::providers(&config).await?;
    let whereabouts = kube::whereabouts(&config).await?;
    let control = Control::start_asking(Arc::clone(&config), None, snapshots, whereabouts)
        .await
        .context("start control")?;
    let pages = serve_pages(&config, &control).await?;
    let mut table = AdminTable::new();
    add_control(&mut table, &control);
    run_until_told(&config, table, None).await?;
    control.stop().await;
    drop(pages);
    Ok(ExitCode::SUCCESS)
}

/// What every long-running process does first.
pub(crate) fn begin() -> anyhow::Result<()> {
    logging::start();
    // The handler stays installed when its receiver is dropped.
    drop(signal(SignalKind::from_raw(SIGXFSZ)).context("handle SIGXFSZ")?);
    Ok(())
}

fn add_control(table: &mut AdminTable, control: &Control) {
    table.add(
        "UPGRADE",
        "Upgrades of the servers behind a pool",
        control.admin_handler(),
    );
}

/// /metrics, /healthz and /readyz of control alone, for as long as the set is kept.
async fn serve_pages(config: &Config, control: &Control) -> anyhow::Result<JoinSet<()>> {
    let mut serving = JoinSet::new();
    if let Some(settings) = &config.http {
        let listener = (Listener::bind(&settings.listen).await)
            .with_context(|| format!("listen for HTTP on {}", settings.listen))?;
        serving.spawn(http::serve(listener, control.pages()?));
    }
    Ok(serving)
}

pub(crate) fn load(path: &Path) -> anyhow::Result<Config> {
    let config = Config::load(path).map_err(|error| anyhow::anyhow!("{error}"))?;
    for warning in &config.warnings {
        tracing::warn!("{}: {warning}", path.display());
    }
    Ok(config)
}

fn admin_server(config: &Config, table: AdminTable) -> Arc<AdminServer> {
    let limits = AdminLimits {
        sessions_max: config.limits.admin_sessions_max,
        frame_max: config.limits.admin_frame_max.as_usize(),
        ..AdminLimits::default()
    };
    Arc::new(AdminServer::new(table, config.admin.users.clone(), limits))
}

/// Serves the admin endpoint until SIGTERM or SIGINT; SIGHUP reloads the proxy's config.
async fn run_until_told(
    config: &Config,
    table: AdminTable,
    proxy: Option<&Proxy>,
) -> anyhow::Result<()> {
    let mut admin = AdminPort::open(config, table).await?;
    while let Told::Reload = admin.told().await {
        reload(proxy).await;
    }
    tracing::info!("stopping");
    admin.close().await;
    Ok(())
}

/// What a signal asks for.
pub(crate) enum Told {
    Reload,
    End,
}

/// The admin endpoint while it serves, and the signals of this process.
pub(crate) struct AdminPort {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl AdminPort {
    /// Listens, and from then on takes signals.
    pub(crate) async fn open(config: &Config, table: AdminTable) -> anyhow::Result<AdminPort> {
        let (terminate, interrupt, hang_up) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        );
        let mut listener = Listener::bind(&config.admin.listen)
            .await
            .with_context(|| format!("listen for admin commands on {}", config.admin.listen))?;
        if let Some(files) = &config.admin.tls {
            let acceptor = Acceptor::from_files(files).context("read admin.tls")?;
            listener = listener.with_tls(acceptor);
        }
        let (stop, mut stopped) = watch::channel(false);
        let server = admin_server(config, table);
        let serving = tokio::spawn(server.serve(listener, async move {
            stopped.wait_for(|stop| *stop).await.ok();
        }));
        tracing::info!(admin = %config.admin.listen, "ready");
        Ok(AdminPort {
            terminate,
            interrupt,
            hang_up,
            stop,
            serving,
        })
    }

    /// The next signal. Cancel safe.
    pub(crate) async fn told(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            _ = self.hang_up.recv() => Told::Reload,
        }
    }

    /// Answers nobody any more.
    pub(crate) async fn close(self) {
        self.stop.send(true).ok();
        self.serving.await.ok();
    }
}

pub(crate) async fn reload(proxy: Option<&Proxy>) {
    let Some(proxy) = proxy else {
        tracing::warn!("control has nothing to reload; restart it to read a changed config");
        return;
    };
    match proxy.reload().await {
        Ok(changes) => tracing::info!(?changes, "reloaded"),
        Err(error) => tracing::error!(%error, "not reloaded; the old config stays in force"),
    }
}
