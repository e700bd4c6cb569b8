//! What control means to do, what it did, and where every shard's clients belong.
//!
//! An intention is on disk before its effect, the result after it. What was begun and not confirmed is *unknown*: recovery
//! asks the servers, the journal only says which way. One thread owns the file and takes calls in order, so a result that
//! was queued is on disk before a commit that was queued behind it.

mod error;
mod records;
mod store;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

pub use error::JournalError;
pub(crate) use records::{
    Attempt, CutoverMode, Direction, EffectRecord, EffectState, FORMAT, GuardPlace, Options,
    ProxyRecord, RouteRecord, ShardRecord, SnapshotChoice, SnapshotNote, UpgradeRecord,
};

use crate::effect::Effect;
use store::{Changes, Store};

/// The journal's file under `data_dir`.
pub const FILE_NAME: &str = "journal.redb";

/// Calls that may wait for the journal's thread. At the limit the caller waits.
const CALLS_MAX: usize = 256;

type Job = Box<dyn FnOnce(&mut Store) + Send>;

/// A handle to the journal; clones share the file.
#[derive(Clone, Debug)]
pub struct Journal {
    jobs: mpsc::Sender<Job>,
}

impl Journal {
    /// Opens `data_dir`'s journal, or makes it. A file that another process holds, or that is damaged, is a clear error.
    pub async fn open(data_dir: &Path) -> Result<Journal, JournalError> {
        let directory = data_dir.to_owned();
        let path = directory.join(FILE_NAME);
        let (jobs, mut waiting) = mpsc::channel::<Job>(CALLS_MAX);
        let (opened, result) = oneshot::channel();
        let spawned = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                let made =
                    std::fs::create_dir_all(&directory).map_err(|cause| JournalError::Directory {
                        path: directory.clone(),
                        cause,
                    });
                let mut store = match made.and_then(|()| Store::open(&path)) {
                    Ok(store) => store,
                    Err(error) => {
                        let _unheard = opened.send(Err(error));
                        return;
                    }
                };
                if opened.send(Ok(())).is_err() {
                    return;
                }
                while let Some(job) = waiting.blocking_recv() {
                    job(&mut store);
                }
                if let Err(error) = store.flush() {
                    tracing::warn!(%error, "write the results of effects");
                }
            });
        spawned.map_err(|cause| JournalError::Directory {
            path: data_dir.to_owned(),
            cause,
        })?;
        result.await.map_err(|_closed| JournalError::Closed)??;
        Ok(Journal { jobs })
    }

    /// A journal that takes nothing, as one on a full disk.
    #[cfg(test)]
    pub(crate) fn broken() -> Journal {
        let (jobs, _gone) = mpsc::channel::<Job>(1);
        Journal { jobs }
    }

    async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Store) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            let _unheard = done.send(call(store));
        });
        self.jobs
            .send(job)
            .await
            .map_err(|_closed| JournalError::Closed)?;
        result.await.map_err(|_closed| JournalError::Closed)?
    }

    /// The number of a new attempt: larger than any given out before, and at least `at_least`.
    pub async fn next_term(&self, at_least: u64) -> Result<u64, JournalError> {
        self.run(move |store| store.next("term", at_least)).await
    }

    /// The number of a new upgrade.
    pub async fn next_upgrade(&self) -> Result<u64, JournalError> {
        self.run(|store| store.next("upgrade", 1)).await
    }

    /// Records a START and its shards.
    pub async fn start(
        &self,
        upgrade: UpgradeRecord,
        shards: Vec<ShardRecord>,
    ) -> Result<(), JournalError> {
        self.run(move |store| {
            store.apply(&Changes {
                upgrade: Some(upgrade),
                shards,
                ..Changes::default()
            })
        })
        .await
    }

    /// Records a shard as it is now.
    pub async fn save(&self, shard: ShardRecord) -> Result<(), JournalError> {
        self.run(move |store| {
            store.apply(&Changes {
                shards: vec![shard],
                ..Changes::default()
            })
        })
        .await
    }

    /// Records a shard and where its clients belong, in one transaction: step 8 of the cutover.
    pub async fn commit(&self, shard: ShardRecord, route: RouteRecord) -> Result<(), JournalError> {
        self.run(move |store| {
            store.apply(&Changes {
                shards: vec![shard],
                routes: vec![route],
                ..Changes::default()
            })
        })
        .await
    }

    /// Records intentions, before any of them is acted on. With `shard`, in the same transaction as its record.
    pub async fn begin(
        &self,
        pool: &str,
        shard: &str,
        effects: Vec<Effect>,
        record: Option<ShardRecord>,
    ) -> Result<Vec<EffectRecord>, JournalError> {
        let begun_at_ms = now_ms();
        let records = effects
            .into_iter()
            .map(|effect| EffectRecord {
                v: FORMAT,
                seq: 0,
                pool: pool.to_owned(),
                shard: shard.to_owned(),
                effect,
                state: EffectState::Begun,
                begun_at_ms,
            })
            .collect();
        self.run(move |store| store.begin(records, record.as_ref()))
            .await
    }

    /// Records a result, and waits until it is on disk.
    pub async fn settle(
        &self,
        effect: EffectRecord,
        state: EffectState,
    ) -> Result<(), JournalError> {
        self.run(move |store| store.settle(effect, state)).await
    }

    /// Queues a result: it is on disk with whatever is recorded next. Clients are held meanwhile, so nobody waits for it, nor
    /// for a disk that is busy with it; if it is lost, the effect is *unknown* and looked up.
    pub async fn settle_later(
        &self,
        effect: EffectRecord,
        state: EffectState,
    ) -> Result<(), JournalError> {
        let job: Job = Box::new(move |store| {
            store.settle_later(effect, state);
        });
        self.jobs
            .send(job)
            .await
            .map_err(|_closed| JournalError::Closed)
    }

    /// Writes and syncs a number nobody needs: proves that there is room, and says how long an fsync takes.
    pub async fn probe(&self) -> Result<std::time::Duration, JournalError> {
        let begun = std::time::Instant::now();
        self.run(|store| store.next("probe", 1)).await?;
        Ok(begun.elapsed())
    }

    /// Every shard that was ever upgraded.
    pub async fn shards(&self) -> Result<Vec<ShardRecord>, JournalError> {
        self.run(Store::shards).await
    }

    /// Every route that an upgrade moved.
    pub async fn routes(&self) -> Result<Vec<RouteRecord>, JournalError> {
        self.run(Store::routes).await
    }

    /// The route of one shard, if an upgrade ever moved it.
    pub async fn route(
        &self,
        pool: &str,
        shard: &str,
    ) -> Result<Option<RouteRecord>, JournalError> {
        let (pool, shard) = (pool.to_owned(), shard.to_owned());
        let routes = self.routes().await?;
        Ok(routes
            .into_iter()
            .find(|route| route.pool == pool && route.shard == shard))
    }

    /// The number of the last attempt.
    pub async fn last_term(&self) -> Result<u64, JournalError> {
        self.run(|store| store.last("term")).await
    }

    /// Every proxy that registered, and neither left nor was forgotten.
    pub async fn proxies(&self) -> Result<Vec<ProxyRecord>, JournalError> {
        self.run(Store::proxies).await
    }

    /// Keeps a proxy that registered.
    pub async fn keep_proxy(&self, proxy: ProxyRecord) -> Result<(), JournalError> {
        self.run(move |store| store.keep_proxy(&proxy)).await
    }

    /// Drops a proxy that left or was forgotten.
    pub async fn drop_proxy(&self, id: &str) -> Result<(), JournalError> {
        let id = id.to_owned();
        self.run(move |store| store.drop_proxy(&id)).await
    }

    /// Every START.
    pub async fn upgrades(&self) -> Result<Vec<UpgradeRecord>, JournalError> {
        self.run(Store::upgrades).await
    }

    /// Every effect that is kept, oldest first.
    pub async fn effects(&self) -> Result<Vec<EffectRecord>, JournalError> {
        self.run(Store::effects).await
    }

    /// The whole journal as one readable JSON document, for `understudy journal show`.
    pub async fn dump(&self) -> Result<String, JournalError> {
        let document = self
            .run(|store| {
                Ok(serde_json::json!({
                    "format": FORMAT,
                    "term": store.last("term")?,
                    "upgrades": store.upgrades()?,
                    "shards": store.shards()?,
                    "routes": store.routes()?,
                    "proxies": store.proxies()?,
                    "effects": store.effects()?,
                }))
            })
            .await?;
        serde_json::to_string_pretty(&document).map_err(|error| JournalError::Record {
            cause: error.to_string(),
        })
    }
}

/// Milliseconds since 1970, for a person who reads the journal. Nothing is decided by it but a snapshot's age.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
