//! REPORT: everything worth keeping about a pool's upgrades, as a page for a person and as JSON.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Live;
use super::render::{name, phase_of, serving};
use crate::journal::{CutoverMode, SnapshotNote, UpgradeRecord};

/// Width of the page's first column.
const LABEL: usize = 13;

/// As JSON.
pub(crate) fn as_json(pool: &str, shards: &[Live], upgrades: &[UpgradeRecord]) -> Value {
    let rows: Vec<Value> = shards
        .iter()
        .map(|live| {
            let record = &live.record;
            json!({
                "shard": record.shard,
                "phase": record.phase.name(),
                "upgrade": record.upgrade,
                "source": record.source,
                "target": record.target,
                "snapshot": record.snapshot,
                "keys_verified": record.keys_verified,
                "differences": record.differences,
                "hold_ms": record.hold_ms,
                "way_back": live.way_back().as_ref().map(ToString::to_string),
                "attempt": record.attempt,
                "notes": record.notes,
                "error": record.error,
                "by_hand": live.by_hand,
                "config": config_line(live),
            })
        })
        .collect();
    let upgrades: Vec<&UpgradeRecord> = of_pool(pool, upgrades).collect();
    json!({ "pool": pool, "phase": name(phase_of(shards)), "upgrades": upgrades, "shards": rows })
}

/// As a page: a paragraph for each upgrade, then one for each shard.
pub(crate) fn as_text(pool: &str, shards: &[Live], upgrades: &[UpgradeRecord]) -> String {
    let mut page = Page(String::new());
    page.line(&format!("pool {pool}: {}", name(phase_of(shards))));
    for upgrade in of_pool(pool, upgrades) {
        page.line("");
        page.line(&format!(
            "upgrade {} of {}",
            upgrade.id,
            upgrade.shards.join(", ")
        ));
        let options = &upgrade.options;
        page.field("begun", &time(upgrade.started_at_ms));
        page.field("snapshot", &String::from(options.snapshot.clone()));
        let cutover = match options.cutover {
            CutoverMode::Auto => "auto",
            CutoverMode::Manual => "manual",
        };
        let hold = options.hold_max_ms;
        page.field("cutover", &format!("{cutover}, hold at most {hold} ms"));
        let soak = match options.soak_s {
            Some(seconds) => format!("{seconds} s, then finalized"),
            None => "until FINALIZE".to_owned(),
        };
        page.field("soak", &soak);
        page.fields("accepted", &options.accept);
    }
    for live in shards {
        page.line("");
        page.shard(live);
    }
    page.0
}

fn of_pool<'u>(
    pool: &str,
    upgrades: &'u [UpgradeRecord],
) -> impl Iterator<Item = &'u UpgradeRecord> {
    upgrades.iter().filter(move |upgrade| upgrade.pool == pool)
}

/// What to write into the config file.
fn config_line(live: &Live) -> String {
    let shard = &live.record.shard;
    format!("set the primary of shard {shard} to {}", serving(live))
}

/// In UTC, to the second.
fn time(at_ms: u64) -> String {
    let at = i64::try_from(at_ms / 1_000).unwrap_or(i64::MAX);
    Timestamp::from_second(at).map_or_else(|_| format!("{at_ms} ms"), |at| at.to_string())
}

fn taken(snapshot: &SnapshotNote) -> String {
    let mut text = format!("{} of {}", snapshot.id, snapshot.server);
    if let Some(keys) = snapshot.keys {
        let _infallible = write!(text, ", {keys} keys");
    }
    if let Some(bytes) = snapshot.bytes {
        let _infallible = write!(text, ", {bytes} bytes");
    }
    let at = time(snapshot.taken_at_ms);
    let _infallible = write!(text, ", {at} ({})", snapshot.how);
    text
}

struct Page(String);

impl Page {
    fn line(&mut self, line: &str) {
        self.0.push_str(&line.replace(['\r', '\n'], " "));
        self.0.push_str("\r\n");
    }

    fn field(&mut self, label: &str, value: &str) {
        self.line(&format!("  {label:<LABEL$}{value}"));
    }

    /// Each on a line of its own, the label before the first.
    fn fields(&mut self, label: &str, values: &[String]) {
        for (index, value) in values.iter().enumerate() {
            self.field(if index == 0 { label } else { "" }, value);
        }
    }

    fn shard(&mut self, live: &Live) {
        let record = &live.record;
        self.line(&format!("shard {}: {}", record.shard, record.phase.name()));
        self.field("source", &record.source);
        self.field("target", &record.target);
        for snapshot in record.snapshots() {
            self.field("snapshot", &taken(snapshot));
            self.field("", &snapshot.place);
        }
        let (keys, differences) = (record.keys_verified, record.differences);
        let verified = format!("{keys} keys, {differences} differences");
        self.field("verified", &verified);
        if let Some(attempt) = &record.attempt
            && let Some(offset) = attempt.committed_offset
        {
            let committed = format!("attempt {} at offset {offset}", attempt.term);
            self.field("committed", &committed);
        }
        if let Some(gap) = record.hold_ms {
            self.field("longest gap", &format!("{gap:.1} ms"));
        }
        if let Some(way_back) = live.way_back() {
            let why = way_back.reason().map(|why| format!(": {why}"));
            let text = format!("{way_back}{}", why.unwrap_or_default());
            self.field("way back", &text);
        }
        self.fields("notes", &record.notes);
        if let Some(error) = &record.error {
            self.field("error", error);
        }
        self.fields("by hand", &live.by_hand);
        self.field("config", &config_line(live));
    }
}
