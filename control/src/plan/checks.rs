//! Every check of a plan, one function each: facts in, at most a few blockers out.
//!
//! Adding a check is adding a function to `CHECKS`. Codes are what operators type, so they never change.

use super::blocker::{Acceptable, Blocker};
use super::facts::{ClientFacts, ServerFacts, ShardFacts};
use super::versions::{Pair, pair};
use crate::server::MissingRight;

/// More of the target's memory limit than this in use by the source's data blocks: eviction starts at promotion.
const MEMORY_SHARE_MAX: f64 = 0.9;

/// Clocks may differ by so much; TTLs are absolute on the wire. Milliseconds.
const CLOCK_SKEW_MAX_MS: i64 = 1_000;

type Check = fn(&ShardFacts) -> Vec<Blocker>;

const CHECKS: [Check; 18] = [
    same_server,
    version_pair,
    roles,
    not_empty,
    cluster_mode,
    modules,
    memory,
    persistence,
    rights,
    functions,
    big_keys,
    clocks,
    standing_replicas,
    sentinel,
    other_writers,
    fence_and_settings,
    tls_of_the_copy,
    tls_of_the_way_back,
];

/// Everything that stands in the way, in the order of the checks.
pub(crate) fn blockers(facts: &ShardFacts) -> Vec<Blocker> {
    CHECKS.iter().flat_map(|check| check(facts)).collect()
}

fn blocker(
    facts: &ShardFacts,
    code: &str,
    acceptable: Acceptable,
    text: String,
    remedy: &str,
) -> Blocker {
    Blocker {
        code: code.to_owned(),
        shard: facts.shard.clone(),
        text,
        remedy: remedy.to_owned(),
        acceptable,
    }
}

fn must(facts: &ShardFacts, code: &str, text: impl Into<String>, remedy: &str) -> Vec<Blocker> {
    vec![blocker(facts, code, Acceptable::No, text.into(), remedy)]
}

fn may(facts: &ShardFacts, code: &str, text: impl Into<String>, remedy: &str) -> Vec<Blocker> {
    vec![blocker(facts, code, Acceptable::Yes, text.into(), remedy)]
}

fn same_server(facts: &ShardFacts) -> Vec<Blocker> {
    if facts.source.standing.run_id == facts.target.standing.run_id {
        return must(
            facts,
            "same-server",
            "source and target are one server",
            "name another target",
        );
    }
    Vec::new()
}

fn version_pair(facts: &ShardFacts) -> Vec<Blocker> {
    let (source, target) = (facts.source.build, facts.target.build);
    match pair(source, target) {
        Pair::Native => Vec::new(),
        Pair::Likely => may(
            facts,
            "version-unmeasured",
            format!("{target} following {source} natively was never measured"),
            "rehearse with a copy first",
        ),
        Pair::Impossible(why) => must(
            facts,
            "version-pair",
            format!("{target} cannot follow {source} natively: {why}"),
            "choose a target that can, until the relay link exists",
        ),
    }
}

fn roles(facts: &ShardFacts) -> Vec<Blocker> {
    let mut found = Vec::new();
    if facts.source.standing.role.is_replica() {
        found.extend(must(
            facts,
            "source-is-replica",
            "the source is a replica itself",
            "make it a primary first",
        ));
    }
    if facts.target.standing.role.is_replica() && !facts.target_is_retired && !follows(facts) {
        found.extend(must(
            facts,
            "target-is-replica",
            "the target follows another server",
            "run REPLICAOF NO ONE on it if nobody needs that",
        ));
    }
    for (name, server) in [("source", &facts.source), ("target", &facts.target)] {
        if server.standing.loading {
            found.extend(must(
                facts,
                "loading",
                format!("the {name} is loading its data"),
                "wait until it has",
            ));
        }
    }
    found
}

/// True when the target already follows the source, as after an upgrade that was broken off.
fn follows(facts: &ShardFacts) -> bool {
    facts.target.standing.replid == facts.source.standing.replid
}

fn not_empty(facts: &ShardFacts) -> Vec<Blocker> {
    let keys = facts.target.keys_total();
    if keys == 0 || facts.target_is_retired || facts.replace || follows(facts) {
        return Vec::new();
    }
    must(
        facts,
        "target-not-empty",
        format!("the target holds {keys} keys, which the copy would wipe"),
        "empty it, or say REPLACE",
    )
}

fn cluster_mode(facts: &ShardFacts) -> Vec<Blocker> {
    let both = [("source", &facts.source), ("target", &facts.target)];
    both.into_iter()
        .filter(|(_, server)| server.cluster)
        .flat_map(|(name, _)| {
            must(
                facts,
                "cluster-mode",
                format!("the {name} runs in cluster mode"),
                "use standalone servers",
            )
        })
        .collect()
}

fn modules(facts: &ShardFacts) -> Vec<Blocker> {
    let missing: Vec<&str> = facts
        .source
        .modules
        .iter()
        .filter(|module| !facts.target.modules.contains(module))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    may(
        facts,
        "modules",
        format!(
            "the target lacks modules of the source: {}",
            missing.join(", ")
        ),
        "load them on the target",
    )
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share of memory needs no exact bytes"
)]
fn memory(facts: &ShardFacts) -> Vec<Blocker> {
    let limit = facts.target.maxmemory;
    let mut found = Vec::new();
    if limit > 0 && facts.source.used_memory as f64 > MEMORY_SHARE_MAX * limit as f64 {
        found.extend(may(
            facts,
            "memory",
            format!(
                "the source uses {} bytes, more than 90 % of the target's maxmemory {limit}: it would evict at promotion ({})",
                facts.source.used_memory, facts.target.policy
            ),
            "raise maxmemory of the target",
        ));
    }
    found
}

fn persistence(facts: &ShardFacts) -> Vec<Blocker> {
    let rank = |server: &ServerFacts| u8::from(server.aof) * 2 + u8::from(server.save);
    if rank(&facts.target) >= rank(&facts.source) {
        return Vec::new();
    }
    let shows = |server: &ServerFacts| match (server.aof, server.save) {
        (true, true) => "AOF and RDB",
        (true, false) => "AOF",
        (false, true) => "RDB",
        (false, false) => "nothing",
    };
    may(
        facts,
        "persistence",
        format!(
            "the target persists less ({}) than the source ({}): a restart of it would lose more",
            shows(&facts.target),
            shows(&facts.source)
        ),
        "give it the same appendonly and save settings",
    )
}

fn rights(facts: &ShardFacts) -> Vec<Blocker> {
    let both = [("source", &facts.source), ("target", &facts.target)];
    both.into_iter()
        .filter(|(_, server)| !server.missing_rights.is_empty())
        .flat_map(|(name, server)| {
            let missing: Vec<String> = (server.missing_rights.iter())
                .map(MissingRight::to_string)
                .collect();
            let mut rules: Vec<String> = (server.missing_rights.iter())
                .filter_map(|right| right.rule())
                .collect();
            rules.sort();
            rules.dedup();
            let remedy = match rules.as_slice() {
                [] => "give the server its commands by their own names".to_owned(),
                rules => format!("grant them: ACL SETUSER … {}", rules.join(" ")),
            };
            must(
                facts,
                "rights",
                format!(
                    "our login at the {name} may not use: {}",
                    missing.join(", ")
                ),
                &remedy,
            )
        })
        .collect()
}

fn functions(facts: &ShardFacts) -> Vec<Blocker> {
    let target_knows = facts.target.build.major >= 7;
    if facts.source.functions == 0 || target_knows {
        return Vec::new();
    }
    must(
        facts,
        "functions",
        format!(
            "the source has {} function libraries, which the target cannot hold",
            facts.source.functions
        ),
        "choose a target of 7.0 or later",
    )
}

fn big_keys(facts: &ShardFacts) -> Vec<Blocker> {
    let big = &facts.source.big_keys;
    let Some((_, largest)) = big.iter().max_by_key(|(_, bytes)| *bytes) else {
        return Vec::new();
    };
    may(
        facts,
        "big-keys",
        format!(
            "a sample of {} keys found {} larger than 8 MiB, the largest {largest} bytes: comparing them stalls the source",
            facts.source.sampled,
            big.len()
        ),
        "split or delete them",
    )
}

fn clocks(facts: &ShardFacts) -> Vec<Blocker> {
    let skew = (facts.source.clock_ahead_ms - facts.target.clock_ahead_ms).abs();
    if skew <= CLOCK_SKEW_MAX_MS {
        return Vec::new();
    }
    may(
        facts,
        "clock-skew",
        format!("the servers' clocks differ by {skew} ms: keys would expire at another time"),
        "synchronise the clocks",
    )
}

fn standing_replicas(facts: &ShardFacts) -> Vec<Blocker> {
    // A replica address carries the port that the replica listens on, which is how the target is told from others.
    let own = facts.target.url.rsplit("//").next().unwrap_or_default();
    let own = own
        .rsplit('@')
        .next()
        .unwrap_or_default()
        .split('/')
        .next()
        .unwrap_or_default();
    let port = own.rsplit(':').next().unwrap_or_default();
    let others: Vec<&str> = facts
        .source
        .replicas
        .iter()
        .filter(|replica| !(follows(facts) && replica.rsplit(':').next() == Some(port)))
        .map(String::as_str)
        .collect();
    if others.is_empty() {
        return Vec::new();
    }
    may(
        facts,
        "standing-replicas",
        format!(
            "the source has replicas of its own ({}), which stay behind with it",
            others.join(", ")
        ),
        "give the target replicas and retire these",
    )
}

fn sentinel(facts: &ShardFacts) -> Vec<Blocker> {
    let watched = facts.source.sentinels > 0 || facts.target.sentinels > 0;
    let named = |client: &ClientFacts| client.name.starts_with("sentinel-");
    if !watched
        && !facts
            .source
            .clients
            .iter()
            .chain(&facts.target.clients)
            .any(named)
    {
        return Vec::new();
    }
    must(
        facts,
        "sentinel",
        "a Sentinel watches the servers and would undo the cutover",
        "run SENTINEL REMOVE on every Sentinel for the time of the upgrade",
    )
}

fn other_writers(facts: &ShardFacts) -> Vec<Blocker> {
    let ours = |client: &ClientFacts| {
        let instance = client.name.strip_prefix("understudy:");
        instance.is_some_and(|name| {
            facts
                .instances
                .iter()
                .any(|known| name == known || name.starts_with(&format!("{known}:")))
        }) || facts.own_names.contains(&client.name)
    };
    // S: a replica's link. M: a primary's. O: MONITOR. None of them writes.
    let link = |client: &ClientFacts| {
        client
            .flags
            .chars()
            .any(|flag| matches!(flag, 'S' | 'M' | 'O'))
    };
    // A connection that has sent nothing has written nothing; it may be a proxy's that was dialled this instant and has not
    // said its name yet.
    let silent = |client: &ClientFacts| client.command.eq_ignore_ascii_case("null");
    let strangers: Vec<String> = facts
        .source
        .clients
        .iter()
        .filter(|client| !ours(client) && !link(client) && !silent(client))
        .take(5)
        .map(|client| {
            format!(
                "{} (user {}, last command {})",
                client.address, client.user, client.command
            )
        })
        .collect();
    if strangers.is_empty() {
        return Vec::new();
    }
    may(
        facts,
        "other-writers",
        format!(
            "clients reach the source past the proxies: {}",
            strangers.join("; ")
        ),
        "move them behind a proxy; what they write after the cutover is refused",
    )
}

fn fence_and_settings(facts: &ShardFacts) -> Vec<Blocker> {
    let mut found = Vec::new();
    if !facts.source.config_file {
        found.extend(may(
            facts,
            "fence-not-restart-proof",
            "the source runs without a config file, so its fence does not survive a restart of it",
            "start it with a config file that it may rewrite",
        ));
    }
    for name in ["databases", "maxclients"] {
        let (Some(source), Some(target)) = (facts.source.number(name), facts.target.number(name))
        else {
            continue;
        };
        if target < source {
            found.extend(may(
                facts,
                &format!("{name}-smaller"),
                format!("{name} is {target} on the target, {source} on the source"),
                "raise it on the target",
            ));
        }
    }
    found
}

/// The target dials the address of the source's URL, by TLS or in the clear as its own setting says.
fn tls_of_the_copy(facts: &ShardFacts) -> Vec<Blocker> {
    let dials = facts.target.replicates_by_tls();
    match (facts.source.listens_with_tls(), dials) {
        (true, true) | (false, false) => Vec::new(),
        (true, false) => must(
            facts,
            "tls-replication",
            "the source's port speaks TLS (rediss://), and the target would dial it in the clear (tls-replication no)",
            "CONFIG SET tls-replication yes on the target, with tls-ca-cert-file, or name a plain port of the source in the config",
        ),
        (false, true) => must(
            facts,
            "tls-replication",
            "the target would dial the source by TLS (tls-replication yes), and the source's port is a plain one (redis://)",
            "CONFIG SET tls-replication no on the target, or name the source's TLS port (rediss://) in the config",
        ),
    }
}

/// Source and target both dial the guard: the source after the cutover, the target after a rollback.
fn tls_of_the_way_back(facts: &ShardFacts) -> Vec<Blocker> {
    let both = [("source", &facts.source), ("target", &facts.target)];
    let guard = facts.guard_tls;
    both.into_iter()
        .filter(|(_, server)| server.replicates_by_tls() != guard)
        .flat_map(|(name, _)| match guard {
            false => must(
                facts,
                "guard-tls",
                format!("the {name} dials whom it follows by TLS (tls-replication yes), and the guard has none: there would be no way back"),
                "write control.guard.tls: { certificate: FILE, key: FILE } and restart control",
            ),
            true => must(
                facts,
                "guard-tls",
                format!("the {name} dials whom it follows in the clear (tls-replication no), and the guard takes only TLS: there would be no way back"),
                "CONFIG SET tls-replication yes there, with tls-ca-cert-file, or leave out control.guard.tls where no server has it",
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests;
