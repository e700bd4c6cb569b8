//! Finds out what a plan needs to know about a shard. Reads only: nothing is changed on any server.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use understudy_net::Value;
use understudy_resp::command;

use super::{Held, ServerFailure, World, standing};
use crate::plan::{Build, ClientFacts, Product, ServerFacts, ShardFacts};
use crate::server::{self, Observed};

/// The name of our own connections in CLIENT LIST.
const OWN_NAMES: [&str; 3] = [
    server::CONNECTION_NAME,
    "understudy-verify",
    "understudy-snapshot",
];

/// Keys that the big-key sample looks at.
const SAMPLE: usize = 200;

/// Larger keys are named, in bytes.
const BIG: u64 = 8 << 20;

/// What was asked for at START.
pub(crate) struct Asked<'a> {
    pub(crate) pool: &'a str,
    pub(crate) shard: &'a str,
    pub(crate) source: &'a str,
    pub(crate) target: &'a str,
    pub(crate) replace: bool,
}

/// The facts of one shard.
pub(crate) async fn gather(world: &World, asked: &Asked<'_>) -> Result<ShardFacts, String> {
    let retired = world
        .journal
        .route(asked.pool, asked.shard)
        .await
        .map_err(|error| error.to_string())?;
    let census = world
        .proxies
        .census(asked.pool, asked.shard)
        .await
        .map_err(|error| error.to_string())?;
    let source = server_facts(world, asked.source)
        .await
        .map_err(|error| format!("source {error}"))?;
    let target = server_facts(world, asked.target)
        .await
        .map_err(|error| format!("target {error}"))?;
    // One that somebody set free has been given other work since: what it holds is not ours to overwrite.
    let target_is_retired = target.standing.role.is_replica()
        && retired.is_some_and(|route| route.retired.iter().any(|url| url == asked.target));
    Ok(ShardFacts {
        pool: asked.pool.to_owned(),
        shard: asked.shard.to_owned(),
        source,
        target,
        target_is_retired,
        replace: asked.replace,
        guard_tls: world.config.control.guard.tls.is_some(),
        instances: census.instances.into_iter().collect(),
        own_names: OWN_NAMES.map(str::to_owned).to_vec(),
    })
}

async fn server_facts(world: &World, url: &str) -> Result<ServerFacts, ServerFailure> {
    let mut server = world.servers.hold(url).await?;
    let seen = server.observe().await?;
    let before = now_micros();
    let theirs = server.time().await.unwrap_or(before);
    // Half of the way there and back; a clock that answers late is not a clock that is wrong.
    let ours = u64::midpoint(before, now_micros());
    let clock_ahead_ms = (i128::from(theirs) - i128::from(ours)) / 1_000;
    let mut settings = BTreeMap::new();
    for name in [
        "databases",
        "maxclients",
        "replica-priority",
        "replica-read-only",
        "tls-replication",
    ] {
        if let Ok(Some(value)) = server.setting(name).await {
            settings.insert(name.to_owned(), value);
        }
    }
    let clients = server
        .clients()
        .await
        .unwrap_or_default()
        .into_iter()
        .map(client)
        .collect();
    let build = build(&seen);
    let (big_keys, sampled) = big_keys(&mut server).await;
    let facts = ServerFacts {
        url: url.to_owned(),
        build,
        standing: standing(&seen),
        used_memory: seen.used_memory,
        maxmemory: seen.maxmemory,
        policy: seen.maxmemory_policy.clone(),
        aof: seen.aof_enabled,
        save: saves(&mut server).await,
        keys: seen.keys.clone(),
        cluster: seen.cluster_enabled,
        modules: seen.modules.clone(),
        replicas: replicas(&seen),
        config_file: !seen.config_file.is_empty(),
        settings,
        clients,
        sentinels: sentinels(&mut server).await,
        functions: functions(&mut server, build).await,
        missing_rights: world.servers.rights_missing(url, build.major).await?,
        big_keys,
        sampled,
        clock_ahead_ms: i64::try_from(clock_ahead_ms).unwrap_or(i64::MAX),
    };
    // What a server is not allowed to say counts as absent; what it could not say any more does not.
    match server.is_usable() {
        true => Ok(facts),
        false => Err(ServerFailure {
            server: url.to_owned(),
            cause: "the connection was lost while it was asked what it is; try again".to_owned(),
            silent: true,
        }),
    }
}

fn now_micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Product and version of what was seen.
pub(crate) fn build(seen: &Observed) -> Build {
    let product = match seen.product {
        command::Product::Redis => Product::Redis,
        command::Product::Valkey => Product::Valkey,
    };
    Build {
        product,
        major: seen.version.major,
        minor: seen.version.minor,
        patch: seen.version.patch,
    }
}

fn client(line: server::ClientLine) -> ClientFacts {
    ClientFacts {
        address: line.addr,
        name: line.name,
        user: line.user,
        command: line.cmd,
        flags: line.flags,
    }
}

fn replicas(seen: &Observed) -> Vec<String> {
    match &seen.role {
        server::Role::Primary { replicas } => replicas
            .iter()
            .map(|replica| format!("{}:{}", replica.host, replica.port))
            .collect(),
        server::Role::Replica { .. } => Vec::new(),
    }
}

async fn saves(server: &mut Held) -> bool {
    server
        .setting("save")
        .await
        .ok()
        .flatten()
        .is_some_and(|points| !points.is_empty())
}

/// How many Sentinels listen on a server; one that it does not say is none.
pub(crate) async fn sentinels(server: &mut Held) -> u64 {
    let Ok(answer) = server
        .raw(&[b"PUBSUB", b"NUMSUB", b"__sentinel__:hello"])
        .await
    else {
        return 0;
    };
    let count = answer
        .as_slice()
        .and_then(|items| items.get(1))
        .and_then(Value::as_i64)
        .unwrap_or(0);
    u64::try_from(count).unwrap_or(0)
}

async fn functions(server: &mut Held, build: Build) -> u64 {
    if build.major < 7 {
        return 0;
    }
    match server.raw(&[b"FUNCTION", b"LIST"]).await {
        Ok(answer) => answer.as_slice().map_or(0, <[Value]>::len) as u64,
        Err(_) => 0,
    }
}

async fn big_keys(server: &mut Held) -> (Vec<(String, u64)>, u64) {
    let count = SAMPLE.to_string();
    let Ok(answer) = server
        .raw(&[b"SCAN", b"0", b"COUNT", count.as_bytes()])
        .await
    else {
        return (Vec::new(), 0);
    };
    let keys = answer
        .into_vec()
        .and_then(|mut parts| parts.pop())
        .and_then(Value::into_vec)
        .unwrap_or_default();
    let mut big = Vec::new();
    let mut sampled = 0;
    for key in keys.iter().filter_map(Value::as_bytes).take(SAMPLE) {
        let Ok(size) = server.raw(&[b"MEMORY", b"USAGE", key]).await else {
            break;
        };
        sampled += 1;
        let bytes = size
            .as_i64()
            .and_then(|bytes| u64::try_from(bytes).ok())
            .unwrap_or(0);
        if bytes > BIG {
            big.push((key.escape_ascii().to_string(), bytes));
        }
    }
    (big, sampled)
}
