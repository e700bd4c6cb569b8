//! STATUS as INFO-like text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Live, WayBack};
use crate::journal::{Direction, ShardRecord};
use crate::phase::{Phase, pool_phase};

/// Keys that the old server lacks, named in STATUS; all of them are counted.
const WAY_BACK_KEYS_MAX: usize = 100;

pub(super) fn name(phase: Option<Phase>) -> &'static str {
    phase.map_or("none", Phase::name)
}

pub(super) fn phase_of(shards: &[Live]) -> Option<Phase> {
    pool_phase(shards.iter().map(|live| live.record.phase))
}

fn error_of(shards: &[Live]) -> Option<String> {
    shards.iter().find_map(|live| {
        let error = live.record.error.as_ref()?;
        Some(format!("shard {}: {error}", live.record.shard))
    })
}

/// One pool as the contract's JSON document.
pub(crate) fn as_json(pool: &str, shards: &[Live]) -> Value {
    let rows: Vec<Value> = shards.iter().map(shard_json).collect();
    json!({ "pool": pool, "phase": name(phase_of(shards)), "shards": rows, "error": error_of(shards) })
}

fn shard_json(live: &Live) -> Value {
    let record = &live.record;
    let way_back = live.way_back();
    let attempt_term = record.attempt.as_ref().map(|attempt| attempt.term);
    json!({
        "shard": record.shard,
        "phase": record.phase.name(),
        "epoch": epoch(record),
        "term": attempt_term,
        "source": record.source,
        "target": record.target,
        "link": "native",
        "lag_bytes": live.lag_bytes,
        "keys_total": live.keys_total,
        "keys_copied": live.keys_copied,
        "keys_verified": record.keys_verified,
        "differences": record.differences,
        "snapshot": record.snapshot.as_ref().map(|snapshot| snapshot.id.clone()),
        "hold_ms": record.hold_ms,
        "way_back": way_back.as_ref().map(ToString::to_string),
        "way_back_reason": way_back.as_ref().and_then(WayBack::reason),
        "way_back_keys": record.foreign.as_ref().map(|foreign| {
            let named = foreign.keys.iter().take(WAY_BACK_KEYS_MAX);
            named.map(ToString::to_string).collect::<Vec<String>>()
        }),
        "waiting": live.waiting,
        "rolling_back": live.rolling_back,
        "warnings": live.warnings,
        "by_hand": live.by_hand,
        "error": record.error,
    })
}

/// One pool in INFO's form.
pub(crate) fn as_text(pool: &str, shards: &[Live]) -> String {
    let mut out = String::new();
    let mut line = |field: &str, value: &str| {
        let _infallible = write!(out, "{field}:{}\r\n", value.replace(['\r', '\n'], " "));
    };
    line("pool", pool);
    line("phase", name(phase_of(shards)));
    line("error", &error_of(shards).unwrap_or_default());
    line("shards", &shards.len().to_string());
    for live in shards {
        let Value::Object(fields) = shard_json(live) else {
            continue;
        };
        let shard = &live.record.shard;
        for (field, value) in fields {
            if field == "shard" {
                continue;
            }
            let text = match value {
                Value::Null => String::new(),
                Value::String(text) => text,
                Value::Array(items) => items
                    .iter()
                    .map(|item| item.as_str().unwrap_or_default())
                    .collect::<Vec<_>>()
                    .join(" | "),
                other => other.to_string(),
            };
            line(&format!("{shard}.{field}"), &text);
        }
    }
    out
}

/// The number of the shard's route, as the journal has it.
pub(crate) fn epoch(record: &ShardRecord) -> u64 {
    record.epoch + moves(record)
}

/// How often the journal moved the shard's clients: 0, 1 to the target, 2 back to the source.
fn moves(record: &ShardRecord) -> u64 {
    let went_back = record.attempt.as_ref().is_some_and(|attempt| {
        attempt.direction == Direction::Back && attempt.committed_offset.is_some()
    });
    match record.phase {
        Phase::RolledBack => 2,
        Phase::Soak if went_back => 2,
        Phase::Committed | Phase::Soak | Phase::Finalized => 1,
        Phase::Plan
        | Phase::Snapshot
        | Phase::Replicate
        | Phase::Verify
        | Phase::Cutover
        | Phase::Aborted => 0,
    }
}

pub(super) fn serving(live: &Live) -> &str {
    match moves(&live.record) {
        1 => &live.record.target,
        _ => &live.record.source,
    }
}
