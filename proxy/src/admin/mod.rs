//! `PROXY …`: what an operator, and control, may ask and order.
//!
//! docs/gate.md is the contract of the gate's verbs; the rest is for reading, in lines of `name=value` or as JSON.

mod explain;
mod lists;
mod pages;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use understudy_net::admin::InfoSection;
use understudy_net::{AdminHandler, AdminRequest, Value};

use crate::gate::{Attempt, VerbError};
use crate::proxy::Inner;
use crate::worker::{GateError, GateStatus};

/// The verbs: how each is written, and what it does. Also what is called for a wrong number of arguments.
const VERBS: [(&str, &str); 16] = [
    (
        "POOLS [JSON]",
        "Pools, their shards, and where each gate stands",
    ),
    ("BACKENDS", "Servers, and how they are"),
    ("SESSIONS", "Client sessions of all workers"),
    ("ROUTE pool", "Which server each shard of a pool is on"),
    (
        "EXPLAIN command [argument …]",
        "What would become of a command in the first pool; nothing is sent",
    ),
    ("STATS pool shard", "The last seconds of a shard, as JSON"),
    ("SCRIPTS pool", "Script bodies seen in a pool, newest last"),
    ("INSTANCE", "Names this start of the process"),
    (
        "RELOAD",
        "Reads the configuration again; no connection is dropped",
    ),
    ("GATE pool shard", "Where a gate stands"),
    (
        "ARM pool shard epoch term",
        "From now on the shard is served only while control answers",
    ),
    (
        "HOLD pool shard epoch term lease-ms",
        "Stops admission and waits until nothing is in flight",
    ),
    ("PREPARE pool shard epoch term", "Ends the lease of a hold"),
    (
        "SWITCH pool shard epoch term next-epoch url",
        "Routes a shard to its next server, still held",
    ),
    (
        "RELEASE pool shard epoch term",
        "Opens a gate at the epoch it stands at",
    ),
    ("HELP", "This text"),
];

/// Answers `PROXY`.
pub(crate) struct Commands {
    inner: Arc<Inner>,
}

impl Commands {
    pub(crate) fn new(inner: Arc<Inner>) -> Commands {
        Commands { inner }
    }

    /// The section of INFO.
    pub(crate) fn info(&self) -> InfoSection {
        let inner = Arc::clone(&self.inner);
        Arc::new(move || {
            let known = &inner.known;
            let sessions: usize = inner
                .crew
                .addresses()
                .iter()
                .map(crate::thread::Address::sessions)
                .sum();
            let routes = known.routes.load();
            let shards: usize = routes.pools.iter().map(|pool| pool.shards.len()).sum();
            let field = |name: &str, value: String| (name.to_owned(), value);
            vec![
                field("proxy_instance", known.instance.clone()),
                field("proxy_version", env!("CARGO_PKG_VERSION").to_owned()),
                field(
                    "proxy_uptime_in_seconds",
                    inner.started.elapsed().as_secs().to_string(),
                ),
                field("proxy_workers", known.workers.to_string()),
                field(
                    "proxy_worker_panics",
                    known.panics.load(Ordering::Relaxed).to_string(),
                ),
                field("proxy_pools", routes.pools.len().to_string()),
                field("proxy_shards", shards.to_string()),
                field("proxy_sessions", sessions.to_string()),
                field(
                    "proxy_ready",
                    u8::from(inner.not_ready().is_empty()).to_string(),
                ),
            ]
        })
    }

    async fn answer(&self, args: &[Bytes]) -> Result<Value, Wrong> {
        let Some(verb) = args.first() else {
            return Err(Wrong::Unknown(String::new()));
        };
        let verb = String::from_utf8_lossy(verb).to_ascii_uppercase();
        let args = &args[1..];
        let inner = &*self.inner;
        match (verb.as_str(), args) {
            ("POOLS", []) => Ok(Value::text(lists::pools_text(inner).await)),
            ("POOLS", [form]) if form.eq_ignore_ascii_case(b"JSON") => {
                Ok(Value::text(lists::pools_json(inner).await))
            }
            ("BACKENDS", []) => Ok(Value::text(lists::backends(inner))),
            ("SESSIONS", []) => Ok(Value::text(lists::sessions(inner).await)),
            ("ROUTE", [pool]) => lists::route(inner, text(pool)?),
            ("EXPLAIN", [_, ..]) => Ok(explain::explain(inner, args)),
            ("STATS", [pool, shard]) => lists::stats(inner, text(pool)?, text(shard)?).await,
            ("SCRIPTS", [pool]) => lists::scripts(inner, text(pool)?).await,
            ("INSTANCE", []) => Ok(Value::text(inner.known.instance.clone())),
            ("RELOAD", []) => Ok(reload(inner).await),
            ("GATE", [pool, shard]) => self.gate(text(pool)?, text(shard)?).await,
            ("ARM", attempt) if attempt.len() == 4 => {
                let attempt = parse(attempt)?;
                let member = inner.membership.as_ref();
                let member = member.ok_or(VerbError::NotRegistered)?;
                let left = member.believed().ok_or_else(|| GateError::NoLease {
                    shard: attempt.shard.clone(),
                });
                let armed = inner
                    .gates
                    .arm(&attempt, left.map_err(VerbError::from)?)
                    .await?;
                member.mark(&attempt.pool, &attempt.shard);
                Ok(stands(&armed, []))
            }
            ("HOLD", [attempt @ .., lease]) if attempt.len() == 4 => {
                let (attempt, lease) = (parse(attempt)?, number(lease, "lease-ms")?);
                let held = inner
                    .gates
                    .hold(&attempt, Duration::from_millis(lease))
                    .await?;
                let rest = [("in_flight", held.in_flight), ("waited_us", held.waited_us)];
                Ok(stands(&held, rest))
            }
            ("PREPARE", attempt) if attempt.len() == 4 => {
                Ok(stands(&inner.gates.prepare(&parse(attempt)?).await?, []))
            }
            ("SWITCH", [attempt @ .., next, url]) if attempt.len() == 4 => {
                let (attempt, next) = (parse(attempt)?, number(next, "next-epoch")?);
                let switched = inner.gates.switch(&attempt, next, text(url)?).await?;
                if let Some(member) = &inner.membership {
                    member.moved();
                }
                Ok(stands(&switched, []))
            }
            ("RELEASE", attempt) if attempt.len() == 4 => {
                Ok(stands(&inner.gates.release(&parse(attempt)?).await?, []))
            }
            ("HELP", []) => Ok(Value::Array(
                VERBS
                    .map(|(verb, what)| Value::text(format!("PROXY {verb}: {what}")))
                    .to_vec(),
            )),
            _ => Err(wrong(&verb)),
        }
    }

    async fn gate(&self, pool: &str, shard: &str) -> Result<Value, Wrong> {
        let status = self.inner.gates.read(pool, shard).await?;
        let rest = [
            ("in_flight", status.in_flight),
            ("held_sessions", status.held_sessions),
        ];
        let mut fields = match stands(&status, []) {
            Value::Array(fields) => fields,
            other => return Ok(other),
        };
        fields.extend([Value::text("backend"), Value::text(status.backend)]);
        for (name, value) in rest {
            fields.extend([Value::text(name), integer(value)]);
        }
        fields.extend([
            Value::text("instance"),
            Value::text(self.inner.known.instance.clone()),
        ]);
        Ok(Value::Array(fields))
    }
}

impl AdminHandler for Commands {
    fn call<'a>(
        &'a self,
        request: AdminRequest,
    ) -> Pin<Box<dyn Future<Output = Value> + Send + 'a>> {
        Box::pin(async move {
            self.answer(&request.args)
                .await
                .unwrap_or_else(|wrong| Value::error(wrong.to_string()))
        })
    }

    fn help(&self) -> Vec<(&'static str, &'static str)> {
        VERBS.to_vec()
    }
}

/// Why a command is answered with an error. Its text is the reply.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error("ERR unknown subcommand '{0}'. Try PROXY HELP.")]
    Unknown(String),
    #[error("ERR wrong number of arguments: PROXY {0}")]
    Count(&'static str),
    #[error("ERR {name} is not a whole number: '{given}'")]
    Number { name: &'static str, given: String },
    #[error("ERR an argument is not UTF-8")]
    NotText,
    #[error(transparent)]
    Verb(#[from] VerbError),
}

fn wrong(verb: &str) -> Wrong {
    let known = VERBS
        .iter()
        .find(|(written, _)| written.split(' ').next() == Some(verb));
    known.map_or_else(
        || Wrong::Unknown(verb.to_ascii_lowercase()),
        |(written, _)| Wrong::Count(written),
    )
}

fn text(arg: &Bytes) -> Result<&str, Wrong> {
    std::str::from_utf8(arg).map_err(|_| Wrong::NotText)
}

fn number(arg: &Bytes, name: &'static str) -> Result<u64, Wrong> {
    let parsed = std::str::from_utf8(arg)
        .ok()
        .and_then(|digits| digits.parse().ok());
    parsed.ok_or_else(|| Wrong::Number {
        name,
        given: String::from_utf8_lossy(arg).into_owned(),
    })
}

/// `pool shard epoch term`.
fn parse(args: &[Bytes]) -> Result<Attempt, Wrong> {
    Ok(Attempt {
        pool: text(&args[0])?.to_owned(),
        shard: text(&args[1])?.to_owned(),
        epoch: number(&args[2], "epoch")?,
        term: number(&args[3], "term")?,
    })
}

/// `gate G epoch E term T …`
fn stands<const N: usize>(status: &GateStatus, rest: [(&'static str, u64); N]) -> Value {
    let mut fields = vec![("gate", Value::text(status.state.name()))];
    fields.extend([
        ("epoch", integer(status.epoch)),
        ("term", integer(status.term)),
    ]);
    fields.extend(rest.map(|(name, value)| (name, integer(value))));
    Value::fields(fields)
}

fn integer(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

async fn reload(inner: &Inner) -> Value {
    match inner.reload().await {
        Ok(said) => {
            let changed = said
                .changed
                .into_iter()
                .map(|what| format!("changed {what}"));
            let restart = said
                .restart
                .into_iter()
                .map(|what| format!("needs a restart: {what}"));
            Value::Array(changed.chain(restart).map(Value::text).collect())
        }
        // One line: an error reply cannot have more.
        Err(cause) => Value::error(format!(
            "ERR nothing changed: {}",
            cause.to_string().replace(['\r', '\n'], " ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_number_of_arguments_shows_how_it_is_written() {
        assert_eq!(
            wrong("HOLD").to_string(),
            "ERR wrong number of arguments: PROXY HOLD pool shard epoch term lease-ms"
        );
        assert_eq!(
            wrong("DANCE").to_string(),
            "ERR unknown subcommand 'dance'. Try PROXY HELP."
        );
    }
}
