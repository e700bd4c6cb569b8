//! How a shard did in the last seconds: commands, errors, latency, the longest gap. What a soak's budget looks at.
//!
//! Once a second the counters of all workers are added up and kept; a window is the difference between now and the oldest
//! kept sum. So the workers count without clocks or windows.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::orders::Crew;
use crate::route::{PoolIndex, ShardIndex};
use crate::shared::Known;
use crate::worker::{Counters, Histogram};

/// Between two samples.
const SAMPLE: Duration = Duration::from_secs(1);
/// Samples kept, so many seconds of window.
const SAMPLES_MAX: usize = 10;

/// One shard's sums over all workers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) commands: u64,
    pub(crate) errors: u64,
    pub(crate) latency: Histogram,
    pub(crate) longest_gap_us: u64,
}

/// One shard's last seconds.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Window {
    commands: u64,
    errors: u64,
    longest_gap_us: u64,
    latency_p99_us: u64,
    latency_p50_us: u64,
    window_s: f64,
}

type Sums = HashMap<(PoolIndex, ShardIndex), Sum>;

/// The samples of the last seconds, oldest first.
#[derive(Default)]
pub(crate) struct Stats {
    samples: Mutex<VecDeque<(Instant, Sums)>>,
}

impl Stats {
    /// Takes samples until its task is aborted.
    pub(crate) async fn run(&self, crew: &Crew) {
        loop {
            let sums = sum(&crew.counters().await);
            {
                let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
                samples.push_back((Instant::now(), sums));
                while samples.len() > SAMPLES_MAX {
                    samples.pop_front();
                }
            }
            tokio::time::sleep(SAMPLE).await;
        }
    }

    /// The window of one shard that ends now. `None` when there is no such shard.
    pub(crate) async fn window(
        &self,
        known: &Known,
        crew: &Crew,
        pool: &str,
        shard: &str,
    ) -> Option<Window> {
        let place = crate::shared::find(&known.routes.load(), pool, shard)?;
        let now = sum(&crew.counters().await)
            .remove(&place)
            .unwrap_or_default();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let (begun, before) = match samples.front() {
            Some((at, sums)) => (*at, sums.get(&place).cloned().unwrap_or_default()),
            None => (Instant::now(), now.clone()),
        };
        let latency = now.latency.since(&before.latency);
        Some(Window {
            commands: now.commands.saturating_sub(before.commands),
            errors: now.errors.saturating_sub(before.errors),
            longest_gap_us: now.longest_gap_us,
            latency_p99_us: latency.quantile_us(990),
            latency_p50_us: latency.quantile_us(500),
            window_s: begun.elapsed().as_secs_f64(),
        })
    }
}

fn sum(counters: &[(u16, Counters)]) -> Sums {
    let mut sums = Sums::new();
    for shard in counters.iter().flat_map(|(_, counters)| &counters.shards) {
        let sum = sums.entry((shard.pool, shard.shard)).or_default();
        sum.commands += shard.commands;
        sum.errors += shard.errors;
        sum.longest_gap_us = sum.longest_gap_us.max(shard.longest_gap_us);
        for latency in &shard.latency {
            sum.latency.add(latency);
        }
    }
    sums
}
