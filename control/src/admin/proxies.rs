//! REGISTER, LEAVE, FORGET, PROXIES: who serves clients, and what each is told. docs/gate.md is the contract.

use std::time::Instant;

use understudy_net::Value;

use super::No;
use crate::control::Inner;
use crate::journal::{FORMAT, ProxyRecord, now_ms};
use crate::proxies::{Refused, Registration};

impl From<Refused> for No {
    fn from(refused: Refused) -> No {
        match &refused {
            Refused::Lives { .. } | Refused::Armed { .. } => No::blocked(refused),
            Refused::Twin { .. } | Refused::Full | Refused::Unknown(_) => No::wrong(refused),
        }
    }
}

/// Remembers who asks, then looks at what holds. In this order: an attempt that begins meanwhile counts on it, and one that
/// ended meanwhile is seen in the routes.
pub(super) async fn register(inner: &Inner, said: Registration) -> Result<Value, No> {
    let record = ProxyRecord {
        v: FORMAT,
        id: said.id.clone(),
        address: said.address.clone(),
        pools: said.shards.keys().map(|(pool, _)| pool.clone()).collect(),
        pod: said.pod.clone(),
        // Asked for as soon as it is known.
        pod_seen: false,
        registered_at_ms: now_ms(),
    };
    let stands = said.shards.clone();
    let (lease, registered) = {
        let mut registry = inner.world.proxies.registry();
        (registry.lease(), registry.register(said, Instant::now()))
    };
    let registered = registered.inspect_err(|refused| {
        if let Refused::Twin { .. } = refused {
            tracing::warn!(%refused, "a proxy does not register");
        }
    })?;
    if registered.changed {
        tracing::info!(
            id = record.id,
            address = record.address,
            "a proxy registered"
        );
        let kept = inner.world.journal.keep_proxy(record).await;
        kept.map_err(No::wrong)?;
        inner.newcomer.notify_one();
    }
    let routes = inner.world.journal.routes().await.map_err(No::wrong)?;
    let mut lines = vec![format!(
        "lease-ms {} term {}",
        lease.as_millis(),
        registered.term
    )];
    for ((pool, shard), word) in registered.told {
        let route = routes
            .iter()
            .find(|route| route.pool == pool && route.shard == shard);
        let epoch = match route {
            Some(route) => Some(route.epoch),
            // Its first upgrade has not been committed.
            None => (inner.board.shard(&pool, &shard)).map(|live| live.record.epoch),
        };
        let stood = stands.get(&(pool.clone(), shard.clone())).copied();
        if epoch > stood {
            inner.lost.notify_one();
        }
        let epoch = epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
        lines.push(format!("{pool} {shard} epoch {epoch} {}", word.name()));
    }
    Ok(Value::Array(lines.into_iter().map(Value::text).collect()))
}

/// A proxy that ends. One that is unknown has nothing to leave.
pub(super) async fn leave(inner: &Inner, id: &str, life: &str) -> Result<Value, No> {
    if inner.world.proxies.registry().leave(id, life) {
        tracing::info!(id, "a proxy left");
        let dropped = inner.world.journal.drop_proxy(id).await;
        dropped.map_err(No::wrong)?;
    }
    Ok(Value::ok())
}

pub(super) async fn forget(inner: &Inner, id: &str) -> Result<Value, No> {
    (inner.world.proxies.registry()).forget(id, Instant::now())?;
    tracing::warn!(id, "a proxy was forgotten by an operator");
    let dropped = inner.world.journal.drop_proxy(id).await;
    dropped.map_err(No::wrong)?;
    Ok(Value::ok())
}

/// One line for each: `id=… address=… instance=… seen_ms=… lease=valid|lapsed|unheard [pod=…] sessions/s1=3 …`
pub(super) fn list(inner: &Inner) -> Value {
    let lines = inner.world.proxies.registry().lines(Instant::now());
    let texts = lines.into_iter().map(|line| {
        let or_dash = |text: String| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text
            }
        };
        let seen = line.seen_ms.map(|ms| ms.to_string()).unwrap_or_default();
        let mut text = format!(
            "id={} address={} instance={} seen_ms={} lease={}",
            line.id,
            line.address,
            or_dash(line.life),
            or_dash(seen),
            line.lease
        );
        if let Some(pod) = line.pod {
            text.push_str(&format!(" pod={pod}"));
        }
        for ((pool, shard), epoch) in line.shards {
            text.push_str(&format!(" {pool}/{shard}={epoch}"));
        }
        Value::text(text)
    });
    Value::Array(texts.collect())
}
