//! `PROXY EXPLAIN command…`: what would become of a command, without sending it.
//!
//! Answers for every pool that has a shard for it: class, keys, shard, epoch, and the lane of a RESP2 session in db 0.

use bytes::Bytes;
use understudy_net::Value;
use understudy_resp::command::{Class, Transaction, keys, resolve};

use crate::proxy::Inner;
use crate::route::PoolRoute;

/// The answer, one line for the command and one for each pool.
pub(super) fn explain(inner: &Inner, args: &[Bytes]) -> Value {
    let args = args.to_vec();
    let spec = match resolve(&args) {
        Ok(spec) => spec,
        Err(wrong) => return Value::error(wrong.error_text(&args)),
    };
    let mut places = Vec::new();
    if let Err(wrong) = keys(spec, &args, &mut places) {
        return Value::error(format!("ERR {wrong:?}"));
    }
    let mut lines = vec![Value::text(format!(
        "command={} class={} keys={}",
        spec.name,
        class(&spec.class),
        places.len()
    ))];
    let routes = inner.known.routes.load();
    for pool in &routes.pools {
        lines.push(Value::text(format!(
            "pool={} {}",
            pool.name,
            destinations(pool, &spec.class, &args, &places)
        )));
    }
    Value::Array(lines)
}

/// Where it would go in one pool.
fn destinations(pool: &PoolRoute, class: &Class, args: &[Bytes], places: &[usize]) -> String {
    let everywhere = || (0..pool.shards.len()).collect::<Vec<_>>();
    let mut shards: Vec<usize> = match class {
        Class::Local(_)
        | Class::Transaction(Transaction::Multi | Transaction::Exec | Transaction::Discard) => {
            return "answered by the proxy".to_owned();
        }
        Class::Refuse(_) => return "refused by name".to_owned(),
        Class::Broadcast(_) => everywhere(),
        Class::FirstShard => vec![0],
        Class::Keyless if places.is_empty() => vec![0],
        Class::Forward
        | Class::Split(_)
        | Class::Keyless
        | Class::Block
        | Class::Transaction(Transaction::Watch) => {
            // The random distribution draws anew for each command; 0 stands for any draw.
            places
                .iter()
                .map(|place| pool.ring.locate(&args[*place], 0))
                .collect()
        }
    };
    shards.sort_unstable();
    shards.dedup();
    let own = matches!(class, Class::Block | Class::Transaction(Transaction::Watch));
    let refused = (own || matches!(class, Class::Forward | Class::Keyless)) && shards.len() > 1;
    let shards = shards.into_iter().filter_map(|at| pool.shards.get(at));
    let shards = shards.map(|shard| {
        format!(
            "shard={} epoch={} lane={}/resp2/db0{}",
            shard.name,
            shard.epoch,
            shard.backend_url,
            if own { " of the session's own" } else { "" }
        )
    });
    let shards = shards.collect::<Vec<_>>().join(" ");
    if refused {
        format!("refused: its keys are on several shards: {shards}")
    } else {
        shards
    }
}

fn class(class: &Class) -> &'static str {
    match class {
        Class::Forward => "forward",
        Class::Block => "block",
        Class::Local(_) => "local",
        Class::Split(_) => "split",
        Class::Broadcast(_) => "broadcast",
        Class::Transaction(_) => "transaction",
        Class::Keyless => "keyless",
        Class::FirstShard => "first_shard",
        Class::Refuse(_) => "refuse",
    }
}
