//! What an operator sees: every shard as it is now, on a board that the drivers write and STATUS, WAIT and REPORT read.

mod render;
pub(crate) mod report;
mod way_back;

use std::collections::BTreeMap;

use tokio::sync::watch;

use crate::journal::ShardRecord;
use crate::phase::{Phase, pool_phase};

pub(crate) use render::{as_json, as_text, epoch};
pub(crate) use way_back::WayBack;

/// What a shard waits for while control finds out how it stands.
const RECOVERY: &str = "recovery";

/// One shard, live: its record and what is not worth a journal entry.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) record: ShardRecord,
    pub(crate) lag_bytes: Option<u64>,
    pub(crate) keys_total: u64,
    pub(crate) keys_copied: u64,
    /// What the driver waits for, if it does.
    pub(crate) waiting: Option<String>,
    /// What the driver found when it looked last; see `way_back()`.
    pub(crate) way_back: Option<WayBack>,
    /// Budget warnings and the like, as they are true now.
    pub(crate) warnings: Vec<String>,
    /// The redis-cli lines that would undo by hand what is under way.
    pub(crate) by_hand: Vec<String>,
    /// True while a rollback is under way.
    pub(crate) rolling_back: bool,
}

impl Live {
    pub(crate) fn new(record: ShardRecord) -> Live {
        Live {
            record,
            lag_bytes: None,
            keys_total: 0,
            keys_copied: 0,
            waiting: None,
            way_back: None,
            warnings: Vec::new(),
            by_hand: Vec::new(),
            rolling_back: false,
        }
    }
}

impl Live {
    /// The way back as it is true now: the driver looks at it while the shard soaks, and an end closes it.
    pub(crate) fn way_back(&self) -> Option<WayBack> {
        match self.record.phase {
            Phase::Finalized => Some(WayBack::Gone(
                "FINALIZE closed it: the source is retired".to_owned(),
            )),
            Phase::RolledBack => Some(WayBack::Gone(
                "it was taken: clients are on the source again".to_owned(),
            )),
            Phase::Committed | Phase::Soak => self.way_back.clone(),
            // Clients have not left the source, or never did.
            Phase::Plan
            | Phase::Snapshot
            | Phase::Replicate
            | Phase::Verify
            | Phase::Cutover
            | Phase::Aborted => None,
        }
    }
}

/// Pool and shard.
pub(crate) type Key = (String, String);

/// All shards.
pub(crate) struct Board {
    shards: watch::Sender<BTreeMap<Key, Live>>,
}

impl Board {
    pub(crate) fn new(records: Vec<ShardRecord>) -> Board {
        let shards = records
            .into_iter()
            .map(|record| {
                (
                    (record.pool.clone(), record.shard.clone()),
                    Live::new(record),
                )
            })
            .collect();
        Board {
            shards: watch::Sender::new(shards),
        }
    }

    /// Says of every shard that is not at an end that control is finding out how it stands.
    pub(crate) fn recovering(&self) {
        self.shards.send_modify(|shards| {
            for live in shards
                .values_mut()
                .filter(|live| !live.record.phase.is_end())
            {
                live.waiting = Some(RECOVERY.to_owned());
            }
        });
    }

    /// The shards of which control is still finding out how they stand, one line each.
    pub(crate) fn not_recovered(&self) -> Vec<String> {
        let recovers = |live: &Live| live.waiting.as_deref() == Some(RECOVERY);
        self.shards(None)
            .into_iter()
            .filter(recovers)
            .map(|live| {
                format!(
                    "shard {} of pool {}: recovery",
                    live.record.shard, live.record.pool
                )
            })
            .collect()
    }

    /// Puts a shard on the board, in place of what was there.
    pub(crate) fn put(&self, live: Live) {
        let key = (live.record.pool.clone(), live.record.shard.clone());
        self.shards.send_modify(|shards| {
            shards.insert(key, live);
        });
    }

    /// Changes what is said of a shard.
    pub(crate) fn update(&self, pool: &str, shard: &str, change: impl FnOnce(&mut Live)) {
        let key = (pool.to_owned(), shard.to_owned());
        self.shards.send_modify(|shards| {
            if let Some(live) = shards.get_mut(&key) {
                change(live);
            }
        });
    }

    /// The shards of a pool, or of all.
    pub(crate) fn shards(&self, pool: Option<&str>) -> Vec<Live> {
        let shards = self.shards.borrow();
        let wanted = shards
            .iter()
            .filter(|((name, _), _)| pool.is_none_or(|pool| pool == name));
        wanted.map(|(_, live)| live.clone()).collect()
    }

    /// One shard.
    pub(crate) fn shard(&self, pool: &str, shard: &str) -> Option<Live> {
        self.shards
            .borrow()
            .get(&(pool.to_owned(), shard.to_owned()))
            .cloned()
    }

    /// Where a pool is.
    pub(crate) fn phase(&self, pool: &str) -> Option<Phase> {
        pool_phase(self.shards(Some(pool)).iter().map(|live| live.record.phase))
    }

    /// Waits until `done` says so of a pool's shards, and gives what it said. Cancel safe.
    pub(crate) async fn wait<T>(
        &self,
        pool: &str,
        mut done: impl FnMut(&[Live]) -> Option<T>,
    ) -> Option<T> {
        let mut changes = self.shards.subscribe();
        loop {
            let _seen = changes.borrow_and_update().len();
            if let Some(value) = done(&self.shards(Some(pool))) {
                return Some(value);
            }
            changes.changed().await.ok()?;
        }
    }
}
