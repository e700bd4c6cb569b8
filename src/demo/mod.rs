//! `understudy demo`: two real shards are upgraded under load on this machine, one goes back and forth, and a ledger of
//! every acknowledged write is compared with the servers themselves.
//!
//! ```text
//!   fill ─> load begins ─> upgrade s1, s2 ─> soak ─> roll back s1 ─> upgrade s1 again ─> finalize ─> load ends ─> audit
//! ```
//!
//! The proxy is this very binary, started as `understudy serve` would be; nothing is told to it that an operator
//! could not tell. The lab that judges shares no code with it.

mod act;
mod progress;
mod report;
mod sabotage;

use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use understudy_lab::wire::Address;
use understudy_lab::{AuditOptions, Fill, Load, LoadOptions, Scene, SceneOptions, Server, Version};

use crate::cli;
use act::{Acts, Upgraded};
use progress::Progress;
use report::DemoReport;
use sabotage::Saboteur;

/// Commands a second on each connection: enough to keep every shard busy, little enough for two cores that also
/// run four servers and the proxy.
const RATE: u32 = 250;
/// Commands served between two acts, so that each is seen to work before the next.
const BETWEEN_ACTS: u64 = 5_000;
/// How long that may take.
const BETWEEN_ACTS_MAX: Duration = Duration::from_secs(60);

/// Exit 0 when every zero is zero, 1 otherwise.
pub(crate) async fn run(args: cli::Demo) -> anyhow::Result<ExitCode> {
    let from: Version = args.from.parse()?;
    let to: Version = args.to.parse()?;
    if !to.can_follow(from) {
        bail!(
            "{to} cannot follow {from} by its own replication, and the other links are not built yet"
        );
    }
    let report = perform(&args, from, to).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn perform(args: &cli::Demo, from: Version, to: Version) -> anyhow::Result<DemoReport> {
    let progress = Progress::new();
    let phase = progress.phase("start servers and proxy");
    let mut options = SceneOptions::new(std::env::current_exe()?, from, to);
    options.workers = 2;
    let scene = Scene::start(&options).await.context("start the scene")?;
    let versions_before = act::versions(&scene.sources).await?;
    phase.done(&format!("2 shards of {from}, 2 empty servers of {to}"));

    let phase = progress.phase("fill the shards");
    let fill = Fill {
        keys: args.keys,
        ..Fill::default()
    };
    fill.write(&scene.clients(0), |done| phase.at(done, args.keys, "keys"))
        .await?;
    phase.done(&format!("{} keys", args.keys));

    let phase = progress.phase("start the load");
    let mut saboteur = Saboteur::new(args.sabotage, &scene).await?;
    let load_options = LoadOptions {
        connections: args.connections as usize,
        rate: NonZeroU32::new(RATE),
        ..LoadOptions::default()
    };
    let load = Load::start(&saboteur.addresses(&scene), &load_options);
    served(&load).await?;
    // What this machine does to clients by itself: the measure for the gaps below.
    let quiet_from = Instant::now();
    served(&load).await?;
    let quiet_gap = load.longest_gap(quiet_from, Instant::now());
    phase.done(&format!(
        "{} connections, every write in a ledger",
        args.connections
    ));

    let acts = Acts {
        scene: &scene,
        load: &load,
        progress: &progress,
    };
    let upgraded = if saboteur.replaces_the_upgrade() {
        saboteur.upgrade_without_evidence(&acts).await?
    } else {
        whole_upgrade(&acts, &mut saboteur).await?
    };

    let phase = progress.phase("end the load");
    served(&load).await?;
    let ledger = load.stop().await;
    phase.done(&format!(
        "{} writes acknowledged",
        ledger.progress().acknowledged_writes
    ));

    let phase = progress.phase("compare ledger and servers");
    let primaries: Vec<Address> = scene.targets.iter().map(Server::address).collect();
    let audit = ledger.audit(&primaries, &AuditOptions::default()).await?;
    let filled = fill.audit(&primaries).await?;
    let beside = saboteur.audit(&scene).await?;
    phase.done(&format!(
        "{} keys read on the servers",
        audit.keys_checked + filled.keys
    ));

    Ok(DemoReport {
        from: from.to_string(),
        to: to.to_string(),
        versions_before,
        versions_after: act::versions(&scene.targets).await?,
        cutovers: upgraded.cutovers,
        quiet_gap_ms: quiet_gap.map_or(0.0, |gap| gap.waited.as_secs_f64() * 1e3),
        snapshots: upgraded.snapshots,
        load: audit,
        filled,
        beside_the_proxy: beside,
    })
}

/// The demo as promised: upgrade, soak, back and forth with one shard, finalize.
async fn whole_upgrade(acts: &Acts<'_>, saboteur: &mut Saboteur) -> anyhow::Result<Upgraded> {
    let mut upgraded = Upgraded::default();
    acts.upgrade(&[1, 2], saboteur.accepted_blockers(), &mut upgraded)
        .await?;
    saboteur.after_the_switch(acts.scene, acts.load).await?;
    let phase = acts.progress.phase("soak");
    served(acts.load).await?;
    phase.done(&acts.way_back().await?);
    if saboteur.is_idle() {
        acts.roll_back(1, &mut upgraded).await?;
        served(acts.load).await?;
        acts.upgrade(&[1], "", &mut upgraded).await?;
        served(acts.load).await?;
    }
    acts.finalize().await?;
    Ok(upgraded)
}

async fn served(load: &Load) -> anyhow::Result<()> {
    if !load.served(BETWEEN_ACTS, BETWEEN_ACTS_MAX).await {
        bail!(
            "clients were not served {BETWEEN_ACTS} commands within {BETWEEN_ACTS_MAX:?}: {:?}",
            load.findings().first()
        );
    }
    Ok(())
}
