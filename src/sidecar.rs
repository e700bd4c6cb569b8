//! `understudy sidecar`: the proxy of one Pod, and its part in taking snapshots for all.
//!
//! ```text
//!  start:   proxy (registers with control) ─► agent, where the config has `kubernetes` ─► admin ─► ready
//!  SIGTERM: not ready, Lease given up ─► serves until the application has gone ─► sessions end ─► control is told ─► 0
//! ```
//!
//! - A native sidecar is told to end when the application has ended: nobody is connected, and it ends at once. In a plain
//!   container both are told at the same time, so clients are served, new ones too, until they have gone or `LINGER_MAX`.
//! - The file is read again when its content changes: a mounted ConfigMap is swapped under its name, with no signal.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};
use understudy_config::Config;
use understudy_control::snapshot::SnapshotVerbs;
use understudy_kube::agent::Agent;
use understudy_kube::cluster::Cluster;
use understudy_kube::cluster::live::LiveCluster;
use understudy_net::AdminTable;
use understudy_proxy::{ConfigSource, Proxy};

use crate::cli::ConfigFile;
use crate::serve::{AdminPort, DRAIN_MAX, Told, begin, load, reload};

/// An application that still has connections is served for so long after SIGTERM. With `DRAIN_MAX` behind it, it fits
/// into the 30 s that Kubernetes gives by default. Default: 15 s.
const LINGER_MAX: Duration = Duration::from_secs(15);
/// The application has gone when it has had no connection for so long: it may just be connecting anew. Default: 1 s.
const GONE_AFTER: Duration = Duration::from_secs(1);
/// Between two looks at who is connected. Default: 100 ms.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks at the config file; the kubelet itself takes up to a minute. Default: 2 s.
const FOLLOW: Duration = Duration::from_secs(2);

pub(crate) async fn run(args: &ConfigFile) -> anyhow::Result<ExitCode> {
    begin()?;
    let mut content = read(&args.config).await;
    let config = Arc::new(load(&args.config)?);
    let source = ConfigSource::File(args.config.clone());
    let proxy = Proxy::start_alone(Arc::clone(&config), source)
        .await
        .context("start the proxy")?;
    let mut table = proxy.admin_table();
    let agent = agent(&config, &proxy, &mut table).await?;
    let mut admin = AdminPort::open(&config, table).await?;
    loop {
        tokio::select! {
            told = admin.told() => match told {
                Told::Reload => reload(Some(&proxy)).await,
                Told::End => break,
            },
            () = sleep(FOLLOW) => follow(&args.config, &mut content, &proxy).await,
        }
    }
    tracing::info!("told to end: the application is served until it has gone");
    proxy.leave();
    let given_up = async {
        if let Some(agent) = agent {
            agent.stop().await;
        }
    };
    let gone = async {
        tokio::select! {
            () = gone(&proxy) => {}
            // Told once more: at once.
            () = told_to_end(&mut admin) => {}
        }
    };
    tokio::join!(given_up, gone);
    admin.close().await;
    proxy.stop(DRAIN_MAX).await;
    Ok(ExitCode::SUCCESS)
}

async fn told_to_end(admin: &mut AdminPort) {
    while let Told::Reload = admin.told().await {}
}

/// Until nobody is connected any more, or `LINGER_MAX`.
async fn gone(proxy: &Proxy) {
    let ends = Instant::now() + LINGER_MAX;
    let mut seen = Instant::now();
    while Instant::now() < ends && seen.elapsed() < GONE_AFTER {
        sleep(LOOK).await;
        if proxy.sessions() > 0 {
            seen = Instant::now();
        }
    }
    let sessions = proxy.sessions();
    if sessions > 0 {
        tracing::warn!(
            sessions,
            "clients are still connected; their sessions end now"
        );
    }
}

/// What is in the file; nothing while it cannot be read, as between two states of a mounted volume.
async fn read(path: &Path) -> Option<Vec<u8>> {
    tokio::fs::read(path).await.ok()
}

/// Reads the config again when the file's content is another. Said once for each content.
async fn follow(path: &Path, content: &mut Option<Vec<u8>>, proxy: &Proxy) {
    let now = read(path).await;
    if now.is_some() && now != *content {
        tracing::info!(file = %path.display(), "the config file has changed");
        reload(Some(proxy)).await;
        *content = now;
    }
}

/// The agent, behind `SNAPSHOT …` of the admin port; none where the config names no cluster.
async fn agent(
    config: &Arc<Config>,
    proxy: &Proxy,
    table: &mut AdminTable,
) -> anyhow::Result<Option<Agent>> {
    let Some(section) = &config.kubernetes else {
        tracing::info!("no `kubernetes` in the config: this sidecar takes no snapshots");
        return Ok(None);
    };
    let cluster = LiveCluster::connect(section.kubeconfig.as_deref()).await;
    let cluster = cluster.context("kubernetes")?;
    let namespace = cluster.namespace().to_owned();
    let cluster: Arc<dyn Cluster> = Arc::new(cluster);
    let agent = Agent::start(&cluster, config, section, &namespace, proxy.instance())
        .context("kubernetes")?;
    let verbs = SnapshotVerbs::new(agent.snapshots());
    table.add(
        "SNAPSHOT",
        "Snapshots of the volumes behind the pools",
        Arc::new(verbs),
    );
    Ok(Some(agent))
}
