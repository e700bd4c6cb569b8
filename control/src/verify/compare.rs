//! Looks at every key once, from both sides, and hands what differs to `settle`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use understudy_config::BackendUrl;
use understudy_net::Value;

use super::info;
use super::judge::Verdict;
use super::outcome::{CompareOptions, KeyRef, Outcome, Progress, Stage, VerifyError};
use super::read::Side;
use super::settle::Settling;

/// Compares everything on both servers, while writes may go on.
///
/// Changes nothing on either. Dropping it half way leaves nothing behind.
pub async fn compare(
    source: &BackendUrl,
    target: &BackendUrl,
    options: CompareOptions,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Outcome, VerifyError> {
    let mut run = Comparison::begin(source, target, options, progress).await?;
    run.compare_functions().await?;
    let source_dbs = run.keyspace_of_source().await?;
    for &db in source_dbs.keys() {
        run.scan_source(db).await?;
    }
    let target_dbs = info::keyspace(&run.target.info("keyspace").await?);
    for &db in target_dbs.keys() {
        run.scan_target(db).await?;
    }
    run.settle().await
}

/// Compares these keys only. Inside a hold nothing moves: see [`CompareOptions::inside_hold`].
///
/// Changes nothing on either server. Dropping it half way leaves nothing behind.
pub async fn compare_keys(
    source: &BackendUrl,
    target: &BackendUrl,
    keys: &[KeyRef],
    options: CompareOptions,
) -> Result<Outcome, VerifyError> {
    let mut run = Comparison::begin(source, target, options, &|_| {}).await?;
    run.outcome.keys_compared = keys.len() as u64;
    run.pending.extend(keys.iter().cloned());
    run.settle().await
}

struct Comparison<'a> {
    source: Side,
    target: Side,
    options: CompareOptions,
    tolerance: Duration,
    progress: &'a (dyn Fn(Progress) + Sync),
    keys_total: u64,
    pending: BTreeSet<KeyRef>,
    outcome: Outcome,
    batch: usize,
}

impl<'a> Comparison<'a> {
    async fn begin(
        source: &BackendUrl,
        target: &BackendUrl,
        options: CompareOptions,
        progress: &'a (dyn Fn(Progress) + Sync),
    ) -> Result<Self, VerifyError> {
        let source = Side::connect(source, options.timeout).await?;
        let target = Side::connect(target, options.timeout).await?;
        let relative =
            source.replicates_relative_expiries() || target.replicates_relative_expiries();
        let tolerance = if relative {
            options.ttl_tolerance
        } else {
            Duration::ZERO
        };
        let (batch, outcome) = (
            options.batch.max(1),
            Outcome {
                complete: true,
                expiries_drift: source.replicates_relative_expiries(),
                relative_expiries: relative,
                ..Outcome::default()
            },
        );
        let pending = BTreeSet::new();
        Ok(Self {
            source,
            target,
            options,
            tolerance,
            progress,
            keys_total: 0,
            pending,
            outcome,
            batch,
        })
    }

    async fn keyspace_of_source(&mut self) -> Result<BTreeMap<u32, u64>, VerifyError> {
        let databases = info::keyspace(&self.source.info("keyspace").await?);
        self.keys_total = databases.values().sum();
        Ok(databases)
    }

    async fn scan_source(&mut self, db: u32) -> Result<(), VerifyError> {
        let mut cursor = 0;
        while self.outcome.complete {
            let (next, keys) = self.source.scan(db, cursor, self.options.batch).await?;
            let mut keys = &keys[..];
            while !keys.is_empty() {
                let (now, later) = keys.split_at(self.batch.min(keys.len()));
                self.look(now).await?;
                keys = later;
            }
            self.report(Stage::Source);
            if next == 0 {
                break;
            }
            cursor = next;
        }
        Ok(())
    }

    /// The source first: a target that follows it then has what we saw or something newer, and not the other way round.
    async fn look(&mut self, keys: &[KeyRef]) -> Result<(), VerifyError> {
        let source = self.source.read(keys).await?;
        let target = self.target.read(keys).await?;
        for (index, key) in keys.iter().enumerate() {
            match source.judge_against(&target, index, self.tolerance) {
                Verdict::Equal { ttl_drift } => {
                    self.outcome.ttl_drift_max = self.outcome.ttl_drift_max.max(ttl_drift);
                }
                Verdict::Differs(_) | Verdict::Unverifiable(_) => self.look_again_at(key.clone()),
            }
        }
        self.outcome.keys_compared += keys.len() as u64;
        let bytes = source.bytes.max(target.bytes);
        self.batch = if bytes > self.options.batch_bytes {
            self.batch.div_ceil(2)
        } else {
            (self.batch + 1).min(self.options.batch.max(1))
        };
        Ok(())
    }

    async fn scan_target(&mut self, db: u32) -> Result<(), VerifyError> {
        let mut cursor = 0;
        while self.outcome.complete {
            let (next, keys) = self.target.scan(db, cursor, self.options.batch).await?;
            self.outcome.keys_asked += keys.len() as u64;
            for key in self.source.absent(keys).await? {
                self.look_again_at(key);
            }
            self.report(Stage::Target);
            if next == 0 {
                break;
            }
            cursor = next;
        }
        Ok(())
    }

    fn look_again_at(&mut self, key: KeyRef) {
        self.pending.insert(key);
        if self.pending.len() >= self.options.pending_max {
            self.outcome.complete = false;
        }
    }

    fn report(&self, stage: Stage) {
        (self.progress)(Progress {
            stage,
            keys_total: self.keys_total,
            keys_compared: self.outcome.keys_compared,
            pending: self.pending.len() as u64,
        });
    }

    async fn settle(mut self) -> Result<Outcome, VerifyError> {
        self.report(Stage::Settling);
        let pending = std::mem::take(&mut self.pending).into_iter().collect();
        let settling = Settling {
            source: &mut self.source,
            target: &mut self.target,
            options: &self.options,
            tolerance: self.tolerance,
            outcome: &mut self.outcome,
        };
        settling.run(pending).await?;
        self.report(Stage::Settling);
        Ok(self.outcome)
    }

    /// Libraries are few and small, so they are compared as their text. A server that knows none, or may not say, has none.
    async fn compare_functions(&mut self) -> Result<(), VerifyError> {
        let (Some(source), Some(target)) = (
            libraries(&mut self.source).await?,
            libraries(&mut self.target).await?,
        ) else {
            return Ok(());
        };
        let names: BTreeSet<&String> = source.keys().chain(target.keys()).collect();
        let differing = names
            .into_iter()
            .filter(|&name| source.get(name) != target.get(name));
        self.outcome.functions = differing.cloned().collect();
        Ok(())
    }
}

async fn libraries(side: &mut Side) -> Result<Option<BTreeMap<String, Vec<u8>>>, VerifyError> {
    let answer = side
        .ask("FUNCTION LIST", &["FUNCTION", "LIST", "WITHCODE"])
        .await?;
    let Some(list) = answer.into_vec() else {
        return Ok(None);
    };
    let text = |library: &Value, name: &str| {
        library
            .field(name)
            .and_then(Value::as_bytes)
            .map(<[u8]>::to_vec)
    };
    let named = list.iter().filter_map(|library| {
        let name = String::from_utf8_lossy(&text(library, "library_name")?).into_owned();
        Some((name, text(library, "library_code")?))
    });
    Ok(Some(named.collect()))
}
