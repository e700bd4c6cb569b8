//! Every verb but PLAN and START.

use std::time::Duration;

use tokio::sync::oneshot;
use understudy_config::Pool;
use understudy_net::Value;

use super::No;
use crate::control::Inner;
use crate::driver::Order;
use crate::phase::{Phase, pool_phase};
use crate::status::{self, Live};

/// Longest wait for an abort to have read roles and a probe back.
const ABORT_PATIENCE: Duration = Duration::from_secs(60);

/// STATUS where no pool ever was upgraded: a comment, as INFO has them.
const NOTHING_YET: &str = "# no pool was ever upgraded: UPGRADE START begins one\r\n";

/// Shards or pools named in an error; of more the number is said.
const NAMED_MAX: usize = 8;

/// The longest WAIT. Milliseconds.
const WAIT_MAX_MS: u64 = 24 * 60 * 60 * 1_000;

/// The shards of a pool that has an upgrade.
fn shards(inner: &Inner, pool: &str) -> Result<Vec<Live>, No> {
    let shards = inner.board.shards(Some(pool));
    if !shards.is_empty() {
        return Ok(shards);
    }
    match inner.world.pool(pool) {
        Some(_) => Err(No::no_upgrade(pool)),
        None => Err(No::wrong(no_pool(inner, pool))),
    }
}

/// A name that is not in the config, with those that are.
pub(super) fn no_pool(inner: &Inner, pool: &str) -> String {
    let known = inner.world.config.pools.iter();
    let known = named(known.map(|pool| pool.name.clone()));
    format!("no pool '{pool}': the config has {known}")
}

/// As `no_pool`, of a pool that is there.
pub(super) fn no_shard(pool: &Pool, shard: &str) -> String {
    let known = named(pool.shards.iter().map(|shard| shard.name.clone()));
    format!("no shard '{shard}' in pool '{}': it has {known}", pool.name)
}

/// Where each shard is, with what it waits for, in words.
fn standing(shards: &[Live]) -> String {
    named(shards.iter().map(|live| {
        let (shard, phase) = (&live.record.shard, live.record.phase);
        match (live.rolling_back, &live.waiting) {
            (true, _) => format!("{shard} is rolling back"),
            (false, Some(waiting)) => format!("{shard} is in {phase}, waiting for {waiting}"),
            (false, None) => format!("{shard} is in {phase}"),
        }
    }))
}

/// The first few of many.
fn named(mut texts: impl Iterator<Item = String>) -> String {
    let first: Vec<String> = texts.by_ref().take(NAMED_MAX).collect();
    match texts.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

fn pools(inner: &Inner) -> Vec<String> {
    let mut pools: Vec<String> = inner
        .board
        .shards(None)
        .into_iter()
        .map(|live| live.record.pool)
        .collect();
    pools.dedup();
    pools
}

fn json(document: &serde_json::Value) -> Value {
    Value::text(document.to_string())
}

pub(super) fn status(inner: &Inner, pool: Option<&str>, as_json: bool) -> Result<Value, No> {
    match (pool, as_json) {
        (Some(pool), true) => Ok(json(&status::as_json(pool, &shards(inner, pool)?))),
        (Some(pool), false) => Ok(Value::text(status::as_text(pool, &shards(inner, pool)?))),
        (None, true) => {
            let documents = pools(inner)
                .iter()
                .map(|pool| status::as_json(pool, &inner.board.shards(Some(pool))))
                .collect();
            Ok(json(&serde_json::Value::Array(documents)))
        }
        (None, false) => {
            let texts: Vec<String> = pools(inner)
                .iter()
                .map(|pool| status::as_text(pool, &inner.board.shards(Some(pool))))
                .collect();
            Ok(Value::text(match texts.is_empty() {
                true => NOTHING_YET.to_owned(),
                false => texts.join("\r\n"),
            }))
        }
    }
}

pub(super) fn list(inner: &Inner) -> Value {
    let line = |pool: &String| {
        let phase = inner.board.phase(pool).map_or("none", Phase::name);
        Value::text(format!("{pool} {phase}"))
    };
    Value::Array(pools(inner).iter().map(line).collect())
}

pub(super) async fn report(inner: &Inner, pool: &str, as_json: bool) -> Result<Value, No> {
    let upgrades = inner.world.journal.upgrades().await.map_err(No::wrong)?;
    let shards = shards(inner, pool)?;
    Ok(match as_json {
        true => json(&status::report::as_json(pool, &shards, &upgrades)),
        false => Value::text(status::report::as_text(pool, &shards, &upgrades)),
    })
}

/// The one shard that waits for the operator.
fn waiting(inner: &Inner, pool: &str) -> Result<Live, No> {
    let all = shards(inner, pool)?;
    let found = all.iter().find(|live| {
        live.record.phase == Phase::Cutover && live.waiting.as_deref() == Some("UPGRADE CUTOVER")
    });
    found.cloned().ok_or_else(|| {
        let next = match all.iter().any(|live| live.record.phase.is_underway()) {
            true => "; one does when UPGRADE STATUS says waiting:UPGRADE CUTOVER",
            false => "",
        };
        No::wrong(format!(
            "no shard of pool '{pool}' waits for CUTOVER: {}{next}",
            standing(&all)
        ))
    })
}

pub(super) fn cutover(inner: &Inner, pool: &str) -> Result<Value, No> {
    let live = waiting(inner, pool)?;
    inner
        .tell(pool, &live.record.shard, Order::Cutover)
        .map_err(No::wrong)?;
    Ok(Value::ok())
}

pub(super) async fn rehearse(inner: &Inner, pool: &str) -> Result<Value, No> {
    let live = waiting(inner, pool)?;
    let (answer, lines) = oneshot::channel();
    inner
        .tell(pool, &live.record.shard, Order::Rehearse(answer))
        .map_err(No::wrong)?;
    match lines.await {
        Ok(Ok(mut lines)) => {
            lines.push(format!(
                "shard {} is copied and compared again now; CUTOVER when UPGRADE STATUS says waiting:UPGRADE CUTOVER",
                live.record.shard
            ));
            Ok(Value::Array(lines.into_iter().map(Value::text).collect()))
        }
        Ok(Err(why)) => Err(No::blocked(format!("rehearsal: {why}"))),
        Err(_ended) => Err(No::wrong("the upgrade ended")),
    }
}

pub(super) async fn abort(inner: &Inner, pool: &str) -> Result<Value, No> {
    let underway: Vec<Live> = shards(inner, pool)?
        .into_iter()
        .filter(|live| live.record.phase.is_underway() && live.record.phase != Phase::Committed)
        .collect();
    if underway.is_empty() {
        let phase = inner.board.phase(pool).map_or("none", Phase::name);
        return Err(No::wrong(format!(
            "nothing of pool '{pool}' can be aborted in phase {phase}; ROLLBACK goes back from soak"
        )));
    }
    for live in &underway {
        inner.wish_abort(pool, &live.record.shard);
    }
    let names: Vec<String> = underway.into_iter().map(|live| live.record.shard).collect();
    let ended = inner.board.wait(pool, |shards| {
        let mut wanted = shards
            .iter()
            .filter(|live| names.contains(&live.record.shard));
        wanted
            .all(|live| !live.record.phase.is_underway())
            .then_some(())
    });
    match tokio::time::timeout(ABORT_PATIENCE, ended).await {
        Ok(_) => {
            let gone = shards(inner, pool)?.into_iter().find(|live| {
                names.contains(&live.record.shard) && live.record.phase != Phase::Aborted
            });
            match gone {
                None => Ok(Value::ok()),
                Some(live) => Err(No::wrong(format!(
                    "shard {} had been committed already and is in {}: ROLLBACK goes back",
                    live.record.shard, live.record.phase
                ))),
            }
        }
        Err(_late) => Err(No::wrong(format!(
            "the abort is still going on: see UPGRADE STATUS {pool}"
        ))),
    }
}

/// The shards of a pool that soak, or the one that is named.
fn soaking(inner: &Inner, pool: &str, shard: Option<&str>) -> Result<Vec<String>, No> {
    let all = shards(inner, pool)?;
    if let Some(shard) = shard
        && !all.iter().any(|live| live.record.shard == shard)
    {
        return Err(No::wrong(format!(
            "no upgrade of shard '{shard}' in pool '{pool}': {}",
            standing(&all)
        )));
    }
    let wanted = all
        .iter()
        .filter(|live| shard.is_none_or(|shard| live.record.shard == shard));
    let soaking: Vec<String> = wanted
        .filter(|live| live.record.phase == Phase::Soak)
        .map(|live| live.record.shard.clone())
        .collect();
    if soaking.is_empty() {
        return Err(No::wrong(match shard {
            Some(shard) => format!("shard '{shard}' is not in soak: {}", standing(&all)),
            None => format!("no shard of pool '{pool}' is in soak: {}", standing(&all)),
        }));
    }
    let busy = |live: &&Live| live.rolling_back && soaking.contains(&live.record.shard);
    if let Some(live) = all.iter().find(busy) {
        return Err(No::wrong(format!(
            "shard {} is being rolled back: wait for its end, see UPGRADE STATUS {pool}",
            live.record.shard
        )));
    }
    Ok(soaking)
}

/// An order that nobody took, since its driver has ended.
fn ended(pool: &str, shard: &str) -> No {
    No::wrong(format!(
        "shard {shard} has come to its end meanwhile: see UPGRADE STATUS {pool}"
    ))
}

pub(super) async fn finalize(inner: &Inner, pool: &str) -> Result<Value, No> {
    if let Some(live) = shards(inner, pool)?
        .into_iter()
        .find(|live| live.record.phase.is_underway())
    {
        return Err(No::wrong(format!(
            "shard {} is in {}: wait for its soak, or ABORT it",
            live.record.shard, live.record.phase
        )));
    }
    for shard in soaking(inner, pool, None)? {
        let (answer, done) = oneshot::channel();
        inner
            .tell(pool, &shard, Order::Finalize(answer))
            .map_err(No::wrong)?;
        match done.await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(No::wrong(format!("finalize shard {shard}: {why}"))),
            Err(_ended) => return Err(ended(pool, &shard)),
        }
    }
    Ok(Value::ok())
}

pub(super) async fn roll_back(
    inner: &Inner,
    pool: &str,
    shard: Option<&str>,
    accept_loss: Option<u64>,
) -> Result<Value, No> {
    for shard in soaking(inner, pool, shard)? {
        let (answer, may) = oneshot::channel();
        inner
            .tell(pool, &shard, Order::Rollback(accept_loss, answer))
            .map_err(No::wrong)?;
        match may.await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(No::blocked(format!("shard {shard}: {why}"))),
            Err(_ended) => return Err(ended(pool, &shard)),
        }
    }
    Ok(Value::ok())
}

/// What WAIT would answer now; `None` to wait on.
fn waited(shards: &[Live], wanted: Phase) -> Option<Result<(), String>> {
    let now = pool_phase(shards.iter().map(|live| live.record.phase))?;
    if now.has_reached(wanted) {
        return Some(Ok(()));
    }
    if shards.iter().all(|live| live.record.phase.is_end())
        && !shards
            .iter()
            .any(|live| live.record.phase == Phase::Aborted)
    {
        return Some(Err(standing(shards)));
    }
    let failed = shards.iter().find(|live| {
        let lost = live.record.phase == Phase::Aborted && wanted != Phase::Aborted;
        let stuck = wanted == Phase::RolledBack
            && live.record.error.is_some()
            && live.record.phase == Phase::Soak;
        (lost || stuck) && !live.rolling_back
    })?;
    if shards
        .iter()
        .any(|live| live.record.phase.is_underway() || live.rolling_back)
    {
        return None;
    }
    let why = failed.record.error.as_deref().unwrap_or("it ended");
    Some(Err(format!(
        "shard {} is in {}: {why}",
        failed.record.shard, failed.record.phase
    )))
}

pub(super) async fn wait(
    inner: &Inner,
    pool: &str,
    phase: Phase,
    timeout_ms: u64,
) -> Result<Value, No> {
    let _there = shards(inner, pool)?;
    let waiting = inner.board.wait(pool, |shards| waited(shards, phase));
    let patience = Duration::from_millis(timeout_ms.min(WAIT_MAX_MS));
    match tokio::time::timeout(patience, waiting).await {
        Ok(Some(Ok(()))) => Ok(Value::ok()),
        Ok(Some(Err(why))) => Err(No::wrong(format!(
            "pool '{pool}' will not reach {phase}: {why}"
        ))),
        Ok(None) => Err(No::wrong("control was stopped")),
        Err(_late) => {
            let now = inner.board.phase(pool).map_or("none", Phase::name);
            Err(No::wrong(format!(
                "pool '{pool}' is in {now}, not in {phase}, after {timeout_ms} ms: {}",
                standing(&shards(inner, pool)?)
            )))
        }
    }
}
