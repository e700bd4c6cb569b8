//! The longest gap that a client saw at a cutover, on loopback, over many cutovers.
//!
//! Each cutover is a whole upgrade of one shard under the lab's load; the gap is what the load's own clock says (the longest
//! wait of any connection for a reply), not what the proxy believes. The journal is synced to the disk between the steps of
//! a cutover, so what a sync costs here and now is printed beside it.

use std::io::Write;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use understudy_lab::{Load, LoadOptions, Scene, SceneOptions, Version};

/// A whole upgrade of a small shard takes well under this.
const LIMIT: Duration = Duration::from_secs(60);

/// Commands a second on each of the load's connections.
const RATE: u32 = 200;
/// Syncs that are timed.
const SYNCS: usize = 21;
/// Commands served before and after the cutover.
const BEFORE: u64 = 500;

/// Runs `cutovers` upgrades and prints the median and the worst gap.
pub(crate) fn measure(cutovers: u64) -> Result<(), String> {
    if cutovers == 0 {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let mut gaps = Vec::new();
    for _ in 0..cutovers {
        gaps.push(runtime.block_on(one()).map_err(|error| error.to_string())?);
    }
    gaps.sort_unstable();
    let median = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
    let worst = gaps.last().copied().unwrap_or_default();
    let sync = sync().map_err(|error| format!("sync a file: {error}"))?;
    println!(
        "longest gap that a client saw at a cutover, {cutovers} cutovers: median {median:.1?}, worst {worst:.1?} (one sync to this disk: {sync:.1?})"
    );
    Ok(())
}

/// How long the disk below the journals takes to make a small write durable; the median of some.
fn sync() -> std::io::Result<Duration> {
    let mut file = tempfile::tempfile()?;
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        file.write_all(&[0; 4096])?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

async fn one() -> Result<Duration, understudy_lab::LabError> {
    let mut options = SceneOptions::new(
        env!("CARGO_BIN_EXE_understudy"),
        Version::Redis6_2_14,
        Version::Redis8_2_3,
    );
    options.shards = 1;
    options.workers = 1;
    let scene = Scene::start(&options).await?;
    let load = Load::start(
        &scene.all_clients(),
        &LoadOptions {
            rate: NonZeroU32::new(RATE),
            ..LoadOptions::default()
        },
    );
    // The proxy's own connections are greeted and named by then; before that, the plan could take one for a foreign writer.
    load.served(BEFORE, LIMIT).await;
    scene.start_upgrade(&["CUTOVER", "manual"]).await?;
    scene
        .wait_until("a finished verification", LIMIT, |status| {
            status["shards"][0]["phase"] == "cutover"
        })
        .await?;
    load.served(BEFORE, LIMIT).await;
    let from = Instant::now();
    scene
        .call(&["UPGRADE", "CUTOVER", understudy_lab::POOL])
        .await?;
    scene.wait_for("soak", LIMIT).await?;
    load.served(BEFORE, LIMIT).await;
    let gap = load
        .longest_gap(from, Instant::now())
        .map_or(Duration::ZERO, |gap| gap.waited);
    load.stop().await;
    Ok(gap)
}
