//! The longest gap that a client saw at a cutover, on loopback, over many cutovers.
//!
//! Each cutover is a whole upgrade of one shard under the lab's load; the gap is what the load's own clock says (the longest
//! wait of any connection for a reply), not what the proxy believes. The journal is synced to the disk between the steps of
//! a cutover, so what a sync costs here and now is printed beside it, and where the time of the holds went, step by step.

use std::collections::HashMap;
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
    let (mut gaps, mut steps) = (Vec::new(), Steps::default());
    for _ in 0..cutovers {
        let (gap, told) = runtime.block_on(one()).map_err(|error| error.to_string())?;
        gaps.push(gap);
        steps.add(&told);
    }
    gaps.sort_unstable();
    let at = |part: usize| gaps.get(part.min(gaps.len() - 1)).copied();
    let at = |part: usize| at(part).unwrap_or_default();
    let (median, worst) = (at(gaps.len() / 2), at(gaps.len() - 1));
    let (low, high) = (at(gaps.len() / 4), at(gaps.len() * 3 / 4));
    let sync = sync().map_err(|error| format!("sync a file: {error}"))?;
    println!(
        "longest gap that a client saw at a cutover, {cutovers} cutovers: median {median:.1?}, quartiles {low:.1?} and {high:.1?}, worst {worst:.1?} (one sync to this disk: {sync:.1?})"
    );
    println!("medians of the hold's steps in ms: {}", steps.medians());
    Ok(())
}

/// How long each step of the holds took, in the order in which they were first told.
#[derive(Default)]
struct Steps {
    names: Vec<String>,
    took_ms: HashMap<String, Vec<f64>>,
}

impl Steps {
    /// Takes control's own words: `hold 12.3 ms: drain 0.4, pause 0.3, …`.
    fn add(&mut self, told: &str) {
        let steps = told.split_once(" ms: ").map_or("", |(_, steps)| steps);
        for step in steps.split(", ") {
            let Some((name, ms)) = step.rsplit_once(' ') else {
                continue;
            };
            let Ok(ms) = ms.parse() else { continue };
            if !self.took_ms.contains_key(name) {
                self.names.push(name.to_owned());
            }
            self.took_ms.entry(name.to_owned()).or_default().push(ms);
        }
    }

    fn medians(&mut self) -> String {
        let mut said = Vec::new();
        for name in &self.names {
            if let Some(took) = self.took_ms.get_mut(name) {
                said.push(format!("{name} {:.1}", super::quantile(took, 0.5)));
            }
        }
        said.join(", ")
    }
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

/// The longest gap of one cutover, and what control says of its hold.
async fn one() -> Result<(Duration, String), understudy_lab::LabError> {
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
    let report = scene
        .call(&["UPGRADE", "REPORT", understudy_lab::POOL, "JSON"])
        .await?;
    let report = report.into_bytes().unwrap_or_default();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap_or_default();
    let notes = report["shards"][0]["notes"].as_array();
    let told = notes
        .into_iter()
        .flatten()
        .filter_map(serde_json::Value::as_str)
        .rfind(|note| note.contains(": hold "))
        .unwrap_or_default();
    Ok((gap, told.to_owned()))
}
