//! The gauges of each shard, as the board has them now.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};

use crate::guard::GuardState;
use crate::journal::now_ms;
use crate::phase::Phase;
use crate::status::{Board, Live, WayBack, epoch};
use crate::world::World;

/// A shard of the config or of the journal, and what the board says of it.
pub(super) struct Shard {
    pub(super) pool: String,
    pub(super) shard: String,
    live: Option<Live>,
}

/// All shards: those of the config, and those of the journal that the config no longer has.
pub(super) fn shards(world: &World, board: &Board) -> Vec<Shard> {
    let mut shards: Vec<Shard> = Vec::new();
    for pool in &world.config.pools {
        shards.extend(pool.shards.iter().map(|shard| Shard {
            pool: pool.name.clone(),
            shard: shard.name.clone(),
            live: board.shard(&pool.name, &shard.name),
        }));
    }
    for live in board.shards(None) {
        let (pool, shard) = (live.record.pool.clone(), live.record.shard.clone());
        if !shards.iter().any(|it| it.pool == pool && it.shard == shard) {
            let live = Some(live);
            shards.push(Shard { pool, shard, live });
        }
    }
    shards
}

type Read = fn(&Live) -> f64;

/// A number of each shard: its name, its meaning, how it is read, and what it is before the shard's first upgrade.
const NUMBERS: [(&str, &str, Read, f64); 10] = [
    (
        "understudy_upgrade_lag_bytes",
        "How far the follower is behind. NaN while nobody follows.",
        |live| number(live.lag_bytes),
        f64::NAN,
    ),
    (
        "understudy_upgrade_keys",
        "Keys of the shard when last counted.",
        |live| live.keys_total as f64,
        0.0,
    ),
    (
        "understudy_upgrade_keys_copied",
        "Keys of the target when last counted.",
        |live| live.keys_copied as f64,
        0.0,
    ),
    (
        "understudy_upgrade_keys_verified",
        "Keys that the last comparison looked at.",
        |live| live.record.keys_verified as f64,
        0.0,
    ),
    (
        "understudy_upgrade_differences",
        "Differences that the last comparison found.",
        |live| live.record.differences as f64,
        0.0,
    ),
    (
        "understudy_upgrade_epoch",
        "Number of the shard's route in the journal.",
        |live| epoch(&live.record) as f64,
        0.0,
    ),
    (
        "understudy_upgrade_term",
        "Number of the last attempt.",
        |live| {
            live.record
                .attempt
                .as_ref()
                .map_or(0.0, |it| it.term as f64)
        },
        0.0,
    ),
    (
        "understudy_upgrade_snapshot_age_seconds",
        "Age of the snapshot that guards the shard. NaN when there is none.",
        |live| {
            let snapshot = live.record.snapshot.as_ref();
            snapshot.map_or(f64::NAN, |it| {
                now_ms().saturating_sub(it.taken_at_ms) as f64 / 1e3
            })
        },
        f64::NAN,
    ),
    (
        "understudy_upgrade_warnings",
        "Warnings that STATUS shows now.",
        |live| live.warnings.len() as f64,
        0.0,
    ),
    (
        "understudy_upgrade_failed",
        "1 while STATUS shows an error.",
        |live| f64::from(u8::from(live.record.error.is_some())),
        0.0,
    ),
];

/// All gauges.
pub(super) fn gauges(
    world: &World,
    shards: &[Shard],
) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let mut families = Vec::new();
    for (name, help, read, none) in NUMBERS {
        let vec = GaugeVec::new(Opts::new(name, help), &["pool", "shard"])?;
        for it in shards {
            let value = it.live.as_ref().map_or(none, read);
            vec.with_label_values(&[&it.pool, &it.shard]).set(value);
        }
        families.extend(vec.collect());
    }
    let phase = |live: &Live| live.record.phase.name();
    families.extend(one_hot(
        "understudy_upgrade_phase",
        "1 for the phase of the shard's upgrade.",
        "phase",
        &Phase::ALL.map(Phase::name),
        shards,
        |it| it.live.as_ref().map(phase),
    )?);
    families.extend(one_hot(
        "understudy_upgrade_way_back",
        "1 for how the shard could be rolled back now.",
        "way_back",
        &WayBack::NAMES,
        shards,
        |it| {
            let live = it
                .live
                .as_ref()
                .filter(|live| !live.record.phase.is_end())?;
            Some(live.way_back()?.name())
        },
    )?);
    families.extend(one_hot(
        "understudy_upgrade_guard",
        "1 for the state of the guard that the shard's old server follows.",
        "state",
        &GuardState::NAMES,
        shards,
        |it| {
            let record = &it.live.as_ref()?.record;
            let state = world.guards.state(&record.source);
            Some(state.or_else(|| world.guards.state(&record.target))?.name())
        },
    )?);
    let proxies = GaugeVec::new(
        Opts::new(
            "understudy_upgrade_proxies",
            "Proxies that control drives, by whether they answered when last asked.",
        ),
        &["presence"],
    )?;
    for (presence, count) in world.proxies.presence() {
        let labels = [presence.name()];
        proxies.with_label_values(&labels).set(count as f64);
    }
    families.extend(proxies.collect());
    Ok(families)
}

/// One series for each word, 1 for the one that is true.
fn one_hot(
    name: &str,
    help: &str,
    label: &str,
    words: &[&str],
    shards: &[Shard],
    read: impl Fn(&Shard) -> Option<&'static str>,
) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let vec = GaugeVec::new(Opts::new(name, help), &["pool", "shard", label])?;
    for it in shards {
        let now = read(it);
        for word in words {
            let is = f64::from(u8::from(now == Some(*word)));
            vec.with_label_values(&[&it.pool, &it.shard, *word]).set(is);
        }
    }
    Ok(vec.collect())
}

fn number(value: Option<u64>) -> f64 {
    value.map_or(f64::NAN, |value| value as f64)
}
