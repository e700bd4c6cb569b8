//! What all threads of one proxy know: the configuration, the routes, who they are.
//!
//! A worker never looks here for where a command goes: its gates know that, and only orders move them. This is what
//! readers (health, EXPLAIN, lists) and a rebuilt worker start from.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use understudy_config::Config;
use understudy_resp::scan::ScanLimits;

use crate::backends::Backends;
use crate::overlay::{Overlay, Standing};
use crate::route::{PoolIndex, RouteTable, ShardIndex};
use crate::worker::WorkerSettings;

/// One proxy's common knowledge.
pub(crate) struct Shared {
    /// Names this start of the process; another start has another one.
    pub(crate) instance: String,
    /// How many workers there are; fixed at start.
    pub(crate) workers: u16,
    /// As it was read last.
    pub(crate) config: ArcSwap<Config>,
    /// Configuration and overlay, put together.
    pub(crate) routes: ArcSwap<RouteTable>,
    /// As it is on the disk.
    pub(crate) overlay: ArcSwap<Overlay>,
    /// How to log in to the servers, and how they are.
    pub(crate) backends: Backends,
    /// Workers that were rebuilt.
    pub(crate) panics: AtomicU64,
}

impl Shared {
    /// What a new core is told. Limits of the whole process are divided by the workers, rounded up.
    pub(crate) fn worker_settings(&self, worker: u16) -> WorkerSettings {
        let config = self.config.load();
        let limits = &config.limits;
        let share = |whole: usize| whole.div_ceil(usize::from(self.workers)).max(1);
        let defaults = WorkerSettings::default();
        WorkerSettings {
            worker,
            workers: self.workers,
            instance: self.instance.clone(),
            seed: random_u64(),
            scan: ScanLimits {
                args_max: limits.args_max,
                bulk_max: limits.bulk_max.get(),
                inline_max: u32::try_from(limits.inline_max.get()).unwrap_or(u32::MAX),
                frame_max: limits.frame_max.get(),
                depth_max: limits.reply_depth_max,
            },
            bulk_threshold: limits.bulk_threshold.as_usize(),
            client_stall_max: limits.client_stall_max,
            sessions_max: share(limits.sessions_max),
            session_commands_max: limits.session_commands_max,
            session_output_max: limits.session_output_max.as_usize(),
            session_output_pause: limits.session_output_pause.as_usize(),
            transaction_bytes_max: limits.transaction_bytes_max.as_usize(),
            lane_queue_max: limits.lane_output_max.as_usize(),
            lane_retain_max: limits.lane_retain_max.as_usize(),
            lane_idle_max: limits.lane_idle_max,
            retry_max: limits.retry_max,
            retry_wait: limits.retry_wait,
            held_sessions_max: share(limits.held_commands_max),
            held_bytes_max: share(limits.held_bytes_max.as_usize()),
            prepared_max: limits.prepared_max,
            scripts_max: limits.scripts_max,
            script_bytes_max: limits.scripts_bytes_max.as_usize(),
            databases: limits.databases,
            ..defaults
        }
    }

    /// Shards that wait for control: pool, shard, epoch, term.
    pub(crate) fn prepared(&self) -> Vec<(PoolIndex, ShardIndex, u64, u64)> {
        let (overlay, routes) = (self.overlay.load(), self.routes.load());
        let waiting = overlay
            .entries()
            .iter()
            .filter(|entry| entry.standing == Standing::Prepared);
        let found = waiting.filter_map(|entry| {
            let (pool, shard) = find(&routes, &entry.pool, &entry.shard)?;
            Some((pool, shard, entry.epoch, entry.term))
        });
        found.collect()
    }
}

/// Places of a pool and a shard by their names.
pub(crate) fn find(
    routes: &RouteTable,
    pool: &str,
    shard: &str,
) -> Option<(PoolIndex, ShardIndex)> {
    let pool = routes.pool_named(pool)?;
    let shard = routes.pool(pool)?.shard_named(shard)?;
    Some((pool, shard))
}

/// A name that no other start of any proxy has, for all practical purposes.
pub(crate) fn new_instance() -> String {
    format!("{:016x}", random_u64())
}

/// The standard library's hash seeds come from the system's random source; that is all the randomness we need.
pub(crate) fn random_u64() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Shared knowledge, as threads hold it.
pub(crate) type Known = Arc<Shared>;
