//! The journal's file: redb tables whose values are JSON, written with an fsync before the call returns.
//!
//! ```text
//!  meta      "format" 1 · "term" last term given out · "upgrade" last upgrade id · "seq" last effect number
//!  upgrades  id           -> UpgradeRecord
//!  shards    pool/shard   -> ShardRecord
//!  routes    pool/shard   -> RouteRecord
//!  proxies   id           -> ProxyRecord           (those that registered, and neither left nor were forgotten)
//!  effects   number       -> EffectRecord          (the oldest beyond EFFECTS_MAX are dropped)
//! ```
//! After an I/O error redb refuses everything until it is opened again, so the store closes the file and opens it at the
//! next call: a disk that has room again is used again.

use std::path::{Path, PathBuf};

use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::JournalError;
use super::records::{
    EffectRecord, EffectState, FORMAT, ProxyRecord, RouteRecord, ShardRecord, UpgradeRecord,
};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const UPGRADES: TableDefinition<'_, u64, &str> = TableDefinition::new("upgrades");
const SHARDS: TableDefinition<'_, &str, &str> = TableDefinition::new("shards");
const ROUTES: TableDefinition<'_, &str, &str> = TableDefinition::new("routes");
const PROXIES: TableDefinition<'_, &str, &str> = TableDefinition::new("proxies");
const EFFECTS: TableDefinition<'_, u64, &str> = TableDefinition::new("effects");

/// Most effects kept; at the limit the oldest are dropped. Default: 10,000.
pub(crate) const EFFECTS_MAX: u64 = 10_000;

/// The open journal.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    database: Option<Database>,
    /// Results that nobody waits for; they are written with whatever is written next.
    pending: Vec<EffectRecord>,
}

/// What one transaction writes. All of it or nothing.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) upgrade: Option<UpgradeRecord>,
    pub(crate) shards: Vec<ShardRecord>,
    pub(crate) routes: Vec<RouteRecord>,
    pub(crate) effects: Vec<EffectRecord>,
}

impl Store {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Store, JournalError> {
        let mut store = Store {
            path: path.to_owned(),
            database: None,
            pending: Vec::new(),
        };
        store.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let format = meta.get("format")?.map(|value| value.value());
            match format {
                None => {
                    meta.insert("format", u64::from(FORMAT))?;
                }
                Some(format) if format == u64::from(FORMAT) => {}
                Some(format) => return Err(JournalError::Format { format }),
            }
            drop(meta);
            transaction.open_table(UPGRADES)?;
            transaction.open_table(SHARDS)?;
            transaction.open_table(ROUTES)?;
            transaction.open_table(PROXIES)?;
            transaction.open_table(EFFECTS)?;
            Ok(())
        })?;
        Ok(store)
    }

    fn database(&mut self) -> Result<&Database, JournalError> {
        if self.database.is_none() {
            let opened = Database::create(&self.path)
                .map_err(|error| JournalError::opening(&self.path, error))?;
            self.database = Some(opened);
        }
        self.database.as_ref().ok_or(JournalError::Closed)
    }

    /// One transaction, on disk when this returns.
    fn write<T>(
        &mut self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let pending = std::mem::take(&mut self.pending);
        let result = (|| {
            let mut transaction = self.database()?.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            if !pending.is_empty() {
                let mut table = transaction.open_table(EFFECTS)?;
                for effect in &pending {
                    table.insert(effect.seq, json(effect)?.as_str())?;
                }
            }
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        if result.is_err() {
            // What was not written is *unknown*, which is what begun and not confirmed means.
            tracing::warn!(
                results = pending.len(),
                "results were not journalled; they will be looked up"
            );
        }
        if let Err(JournalError::Storage { .. } | JournalError::Full { .. }) = &result {
            self.database = None;
        }
        result
    }

    /// Gives out the next number under `name`, which is never given out again; at least `at_least`.
    pub(crate) fn next(&mut self, name: &'static str, at_least: u64) -> Result<u64, JournalError> {
        self.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let last = meta.get(name)?.map_or(0, |value| value.value());
            let next = last.saturating_add(1).max(at_least);
            meta.insert(name, next)?;
            Ok(next)
        })
    }

    /// Writes everything in `changes` in one transaction.
    pub(crate) fn apply(&mut self, changes: &Changes) -> Result<(), JournalError> {
        self.write(|transaction| {
            if let Some(upgrade) = &changes.upgrade {
                transaction
                    .open_table(UPGRADES)?
                    .insert(upgrade.id, json(upgrade)?.as_str())?;
            }
            for shard in &changes.shards {
                let mut table = transaction.open_table(SHARDS)?;
                table.insert(
                    key(&shard.pool, &shard.shard).as_str(),
                    json(shard)?.as_str(),
                )?;
            }
            for route in &changes.routes {
                let mut table = transaction.open_table(ROUTES)?;
                table.insert(
                    key(&route.pool, &route.shard).as_str(),
                    json(route)?.as_str(),
                )?;
            }
            for effect in &changes.effects {
                transaction
                    .open_table(EFFECTS)?
                    .insert(effect.seq, json(effect)?.as_str())?;
            }
            Ok(())
        })
    }

    /// Records intentions, gives them their numbers, and drops the oldest effects beyond the limit.
    pub(crate) fn begin(
        &mut self,
        mut effects: Vec<EffectRecord>,
        shard: Option<&ShardRecord>,
    ) -> Result<Vec<EffectRecord>, JournalError> {
        self.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let mut table = transaction.open_table(EFFECTS)?;
            let mut last = meta.get("seq")?.map_or(0, |value| value.value());
            for effect in &mut effects {
                last += 1;
                effect.seq = last;
                table.insert(last, json(effect)?.as_str())?;
            }
            meta.insert("seq", last)?;
            if let Some(beyond) = last.checked_sub(EFFECTS_MAX) {
                table.retain_in(..=beyond, |_, _| false)?;
            }
            if let Some(shard) = shard {
                let mut shards = transaction.open_table(SHARDS)?;
                shards.insert(
                    key(&shard.pool, &shard.shard).as_str(),
                    json(shard)?.as_str(),
                )?;
            }
            Ok(effects)
        })
    }

    /// Records the result of an effect.
    pub(crate) fn settle(
        &mut self,
        mut effect: EffectRecord,
        state: EffectState,
    ) -> Result<(), JournalError> {
        effect.state = state;
        self.apply(&Changes {
            effects: vec![effect],
            ..Changes::default()
        })
    }

    /// Keeps a result for the next write, or for `flush`.
    pub(crate) fn settle_later(&mut self, mut effect: EffectRecord, state: EffectState) {
        effect.state = state;
        self.pending.push(effect);
    }

    /// Writes the results that are kept, if there are any. Called at the end.
    pub(crate) fn flush(&mut self) -> Result<(), JournalError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.write(|_| Ok(()))
    }

    /// Every shard's record.
    pub(crate) fn shards(&mut self) -> Result<Vec<ShardRecord>, JournalError> {
        let transaction = self.database()?.begin_read()?;
        let table = transaction.open_table(SHARDS)?;
        table.iter()?.map(|row| parse(row?.1.value())).collect()
    }

    /// Every route.
    pub(crate) fn routes(&mut self) -> Result<Vec<RouteRecord>, JournalError> {
        let transaction = self.database()?.begin_read()?;
        let table = transaction.open_table(ROUTES)?;
        table.iter()?.map(|row| parse(row?.1.value())).collect()
    }

    /// Keeps a proxy that registered.
    pub(crate) fn keep_proxy(&mut self, proxy: &ProxyRecord) -> Result<(), JournalError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(PROXIES)?;
            table.insert(proxy.id.as_str(), json(proxy)?.as_str())?;
            Ok(())
        })
    }

    /// Drops a proxy that left or was forgotten.
    pub(crate) fn drop_proxy(&mut self, id: &str) -> Result<(), JournalError> {
        self.write(|transaction| {
            transaction.open_table(PROXIES)?.remove(id)?;
            Ok(())
        })
    }

    /// Every proxy that registered.
    pub(crate) fn proxies(&mut self) -> Result<Vec<ProxyRecord>, JournalError> {
        let transaction = self.database()?.begin_read()?;
        let table = transaction.open_table(PROXIES)?;
        table.iter()?.map(|row| parse(row?.1.value())).collect()
    }

    /// Every upgrade.
    pub(crate) fn upgrades(&mut self) -> Result<Vec<UpgradeRecord>, JournalError> {
        let transaction = self.database()?.begin_read()?;
        let table = transaction.open_table(UPGRADES)?;
        table.iter()?.map(|row| parse(row?.1.value())).collect()
    }

    /// Every effect that is kept, oldest first.
    pub(crate) fn effects(&mut self) -> Result<Vec<EffectRecord>, JournalError> {
        let transaction = self.database()?.begin_read()?;
        let table = transaction.open_table(EFFECTS)?;
        table.iter()?.map(|row| parse(row?.1.value())).collect()
    }

    /// The last number given out under `name`.
    pub(crate) fn last(&mut self, name: &'static str) -> Result<u64, JournalError> {
        let transaction = self.database()?.begin_read()?;
        let table = transaction.open_table(META)?;
        Ok(table.get(name)?.map_or(0, |value| value.value()))
    }
}

fn key(pool: &str, shard: &str) -> String {
    format!("{pool}/{shard}")
}

fn json(record: &impl Serialize) -> Result<String, JournalError> {
    serde_json::to_string(record).map_err(|error| JournalError::Record {
        cause: error.to_string(),
    })
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, JournalError> {
    serde_json::from_str(text).map_err(|error| JournalError::Record {
        cause: error.to_string(),
    })
}
