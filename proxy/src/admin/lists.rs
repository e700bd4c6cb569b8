//! Lists: pools, servers, sessions, routes.

use std::fmt::Write as _;

use serde::Serialize;
use understudy_net::Value;

use super::Wrong;
use crate::backends::HealthState;
use crate::gate::VerbError;
use crate::orders::ANSWER_MAX;
use crate::proxy::Inner;
use crate::worker::{Ack, Order};

#[derive(Serialize)]
struct Pools {
    instance: String,
    version: &'static str,
    workers: u16,
    pools: Vec<PoolLine>,
}

#[derive(Serialize)]
struct PoolLine {
    name: String,
    listen: String,
    distribution: String,
    hash: String,
    shards: Vec<ShardLine>,
}

#[derive(Serialize)]
struct ShardLine {
    name: String,
    epoch: u64,
    term: u64,
    /// `unknown` when a worker does not answer.
    gate: &'static str,
    backend: String,
    in_flight: u64,
    held_sessions: u64,
}

/// `PROXY POOLS JSON`.
pub(super) async fn pools_json(inner: &Inner) -> String {
    let pools = pools(inner).await;
    serde_json::to_string(&pools).unwrap_or_else(|cause| format!("{{\"error\":\"{cause}\"}}"))
}

/// `PROXY POOLS`.
pub(super) async fn pools_text(inner: &Inner) -> String {
    let mut out = String::new();
    for pool in pools(inner).await.pools {
        let _ = writeln!(
            out,
            "pool={} listen={} distribution={} hash={} shards={}",
            pool.name,
            pool.listen,
            pool.distribution,
            pool.hash,
            pool.shards.len()
        );
        for shard in pool.shards {
            let _ = writeln!(
                out,
                "pool={} shard={} gate={} epoch={} term={} backend={} in_flight={} held_sessions={}",
                pool.name,
                shard.name,
                shard.gate,
                shard.epoch,
                shard.term,
                shard.backend,
                shard.in_flight,
                shard.held_sessions
            );
        }
    }
    out
}

async fn pools(inner: &Inner) -> Pools {
    let config = inner.known.config.load_full();
    let mut pools = Vec::new();
    for pool in &config.pools {
        let mut shards = Vec::new();
        for shard in &pool.shards {
            shards.push(shard_line(inner, &pool.name, &shard.name).await);
        }
        let listen = inner
            .pool_address(&pool.name)
            .unwrap_or_else(|| pool.listen.clone());
        pools.push(PoolLine {
            name: pool.name.clone(),
            listen: listen.to_string(),
            distribution: pool.distribution.to_string(),
            hash: pool.hash.to_string(),
            shards,
        });
    }
    Pools {
        instance: inner.known.instance.clone(),
        version: env!("CARGO_PKG_VERSION"),
        workers: inner.known.workers,
        pools,
    }
}

async fn shard_line(inner: &Inner, pool: &str, shard: &str) -> ShardLine {
    if let Ok(status) = inner.gates.read(pool, shard).await {
        return ShardLine {
            name: shard.to_owned(),
            epoch: status.epoch,
            term: status.term,
            gate: status.state.name(),
            backend: status.backend,
            in_flight: status.in_flight,
            held_sessions: status.held_sessions,
        };
    }
    let routes = inner.known.routes.load();
    let pool = routes.pools.iter().find(|route| route.name == pool);
    let route = pool.and_then(|pool| pool.shards.iter().find(|route| route.name == shard));
    ShardLine {
        name: shard.to_owned(),
        epoch: route.map_or(0, |route| route.epoch),
        term: 0,
        gate: "unknown",
        backend: route.map_or_else(String::new, |route| route.backend_url.clone()),
        in_flight: 0,
        held_sessions: 0,
    }
}

/// `PROXY BACKENDS`.
pub(super) fn backends(inner: &Inner) -> String {
    let mut out = String::new();
    for pool in &inner.known.routes.load().pools {
        for shard in &pool.shards {
            let _ = write!(
                out,
                "pool={} shard={} epoch={} backend={} ",
                pool.name, shard.name, shard.epoch, shard.backend_url
            );
            let _ = match inner.known.backends.health(&shard.backend_url) {
                None => writeln!(out, "state=unknown"),
                Some(health) => {
                    let since_s = health.since.elapsed().as_secs();
                    match health.state {
                        HealthState::Up => writeln!(out, "state=up since_s={since_s}"),
                        HealthState::Down(why) => writeln!(
                            out,
                            "state=down since_s={since_s} error={}",
                            why.replace(' ', "_")
                        ),
                    }
                }
            };
        }
    }
    out
}

/// `PROXY SESSIONS`.
pub(super) async fn sessions(inner: &Inner) -> String {
    let routes = inner.known.routes.load_full();
    let mut out = String::new();
    for (worker, ack) in inner.crew.post(&Order::Sessions).gather(ANSWER_MAX).await {
        let lines = match ack {
            Ok(Ack::Sessions(lines)) => lines,
            Ok(_) => continue,
            Err(silent) => {
                let _ = writeln!(
                    out,
                    "worker={worker} error={}",
                    silent.to_string().replace(' ', "_")
                );
                continue;
            }
        };
        for line in lines {
            let pool = routes
                .pool(line.pool)
                .map_or("-", |pool| pool.name.as_str());
            let _ = writeln!(
                out,
                "id={} worker={worker} pool={pool} addr={} name={} user={} resp={} db={} age={} idle={} cmds={} waiting={} \
                 qbuf={} obl={} stopped={}",
                line.client_id,
                line.peer,
                line.name,
                line.user,
                match line.protocol {
                    understudy_resp::Protocol::Resp2 => 2,
                    understudy_resp::Protocol::Resp3 => 3,
                },
                line.db,
                line.age_us / 1_000_000,
                line.idle_us / 1_000_000,
                line.commands,
                line.waiting,
                line.input_bytes,
                line.output_bytes,
                line.stopped_by
            );
        }
    }
    out
}

/// `PROXY ROUTE pool`.
pub(super) fn route(inner: &Inner, pool: &str) -> Result<Value, Wrong> {
    let routes = inner.known.routes.load();
    let found = routes.pools.iter().find(|route| route.name == pool);
    let found = found.ok_or_else(|| VerbError::NoPool(pool.to_owned()))?;
    let lines = found.shards.iter().map(|shard| {
        Value::text(format!(
            "shard={} epoch={} backend={}",
            shard.name, shard.epoch, shard.backend_url
        ))
    });
    Ok(Value::Array(lines.collect()))
}

/// `PROXY STATS pool shard`.
pub(super) async fn stats(inner: &Inner, pool: &str, shard: &str) -> Result<Value, Wrong> {
    let window = inner
        .stats
        .window(&inner.known, &inner.crew, pool, shard)
        .await;
    let missing = || VerbError::NoShard {
        pool: pool.to_owned(),
        shard: shard.to_owned(),
    };
    let window = window.ok_or_else(missing)?;
    Ok(Value::text(
        serde_json::to_string(&window).unwrap_or_default(),
    ))
}

/// `PROXY SCRIPTS pool`: of all workers, each body once, in the order in which it was found.
pub(super) async fn scripts(inner: &Inner, pool: &str) -> Result<Value, Wrong> {
    let index = inner.known.routes.load().pool_named(pool);
    let index = index.ok_or_else(|| VerbError::NoPool(pool.to_owned()))?;
    let mut seen = std::collections::HashSet::new();
    let mut bodies = Vec::new();
    for (worker, ack) in inner
        .crew
        .post(&Order::Scripts { pool: index })
        .gather(ANSWER_MAX)
        .await
    {
        match ack {
            Ok(Ack::Scripts(scripts)) => {
                bodies.extend(scripts.into_iter().filter(|body| seen.insert(body.clone())));
            }
            // An answer that lacks a worker's scripts would be taken for all of them.
            Ok(_) => return Err(VerbError::Odd { worker }.into()),
            Err(silent) => {
                return Err(VerbError::Silent {
                    verb: "SCRIPTS",
                    silent,
                }
                .into());
            }
        }
    }
    Ok(Value::Array(bodies.into_iter().map(Value::bulk).collect()))
}
