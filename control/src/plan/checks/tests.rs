//! Which facts make which blocker.

use super::super::facts::{Build, Product};
use super::*;
use crate::cutover::{Role, Standing};
use crate::server::MissingRight;

fn server(url: &str, run_id: &str, major: u32, minor: u32) -> ServerFacts {
    ServerFacts {
        url: url.to_owned(),
        build: Build {
            product: Product::Redis,
            major,
            minor,
            patch: 0,
        },
        standing: Standing {
            run_id: run_id.to_owned(),
            replid: format!("history of {run_id}"),
            replid2: String::new(),
            second_offset: -1,
            offset: 0,
            role: Role::Primary,
            sync_full: 0,
            replica_errors: 0,
            loading: false,
            unsaved: false,
        },
        used_memory: 1_000_000,
        maxmemory: 0,
        policy: "noeviction".to_owned(),
        aof: false,
        save: true,
        keys: [].into(),
        cluster: false,
        modules: Vec::new(),
        replicas: Vec::new(),
        config_file: true,
        settings: [
            ("databases".to_owned(), "16".to_owned()),
            ("maxclients".to_owned(), "10000".to_owned()),
        ]
        .into(),
        clients: Vec::new(),
        sentinels: 0,
        functions: 0,
        missing_rights: Vec::new(),
        big_keys: Vec::new(),
        sampled: 0,
        clock_ahead_ms: 0,
    }
}

fn facts() -> ShardFacts {
    let mut source = server("redis://127.0.0.1:6001", "a", 6, 2);
    source.keys = [(0, 10)].into();
    ShardFacts {
        pool: "p".to_owned(),
        shard: "s1".to_owned(),
        source,
        target: server("redis://127.0.0.1:6002", "b", 8, 2),
        target_is_retired: false,
        replace: false,
        guard_tls: false,
        instances: vec!["i1".to_owned()],
        own_names: vec!["understudy-control".to_owned()],
    }
}

#[track_caller]
fn check(change: impl FnOnce(&mut ShardFacts), codes: &[&str]) {
    let mut facts = facts();
    change(&mut facts);
    let found: Vec<String> = blockers(&facts)
        .into_iter()
        .map(|blocker| blocker.code)
        .collect();
    assert_eq!(found, codes);
}

fn client(name: &str, flags: &str) -> ClientFacts {
    ClientFacts {
        address: "10.0.0.9:4711".into(),
        name: name.into(),
        user: "default".into(),
        command: "set".into(),
        flags: flags.into(),
    }
}

#[test]
fn a_plain_pair_has_no_blocker() {
    check(|_| {}, &[]);
}

#[test]
fn each_fact_has_its_blocker() {
    check(
        |facts| facts.target.standing.run_id = "a".into(),
        &["same-server"],
    );
    check(|facts| facts.target.build.major = 5, &["version-pair"]);
    check(
        |facts| facts.target.build.minor = 0,
        &["version-unmeasured"],
    );
    check(
        |facts| facts.target.keys = [(3, 1)].into(),
        &["target-not-empty"],
    );
    check(|facts| facts.source.cluster = true, &["cluster-mode"]);
    check(
        |facts| facts.source.modules = vec!["bf".into()],
        &["modules"],
    );
    check(|facts| facts.target.maxmemory = 1_100_000, &["memory"]);
    check(|facts| facts.source.aof = true, &["persistence"]);
    check(
        |facts| facts.target.missing_rights = vec![MissingRight::Keys("DUMP".into())],
        &["rights"],
    );
    check(
        |facts| facts.source.big_keys = vec![("k".into(), 9_000_000)],
        &["big-keys"],
    );
    check(|facts| facts.source.clock_ahead_ms = 5_000, &["clock-skew"]);
    check(
        |facts| facts.source.replicas = vec!["10.0.0.2:6379".into()],
        &["standing-replicas"],
    );
    check(|facts| facts.source.sentinels = 1, &["sentinel"]);
    check(
        |facts| facts.source.config_file = false,
        &["fence-not-restart-proof"],
    );
    check(
        |facts| drop(facts.target.settings.insert("databases".into(), "4".into())),
        &["databases-smaller"],
    );
    check(
        |facts| {
            drop(
                facts
                    .target
                    .settings
                    .insert("maxclients".into(), "10".into()),
            );
        },
        &["maxclients-smaller"],
    );
    check(|facts| facts.target.standing.loading = true, &["loading"]);
}

#[test]
fn our_own_proxies_and_links_are_no_strangers() {
    check(
        |facts| facts.source.clients = vec![client("understudy:i1", "N")],
        &[],
    );
    check(
        |facts| facts.source.clients = vec![client("understudy-control", "N")],
        &[],
    );
    check(|facts| facts.source.clients = vec![client("", "S")], &[]);
    check(
        |facts| facts.source.clients = vec![client("", "N")],
        &["other-writers"],
    );
    check(
        |facts| facts.source.clients = vec![client("understudy:i2", "N")],
        &["other-writers"],
    );
    let just_dialled = ClientFacts {
        command: "NULL".into(),
        ..client("", "N")
    };
    check(|facts| facts.source.clients = vec![just_dialled], &[]);
}

#[test]
fn both_servers_and_the_guard_speak_tls_or_none_does() {
    let tls = |facts: &mut ShardFacts, source: &str, target: &str, guard: bool| {
        let yes = |server: &mut ServerFacts, value: &str| {
            let setting = ("tls-replication".to_owned(), value.to_owned());
            server.settings.extend([setting]);
        };
        yes(&mut facts.source, source);
        yes(&mut facts.target, target);
        facts.guard_tls = guard;
    };
    let by_tls = |facts: &mut ShardFacts| facts.source.url = "rediss://127.0.0.1:6001".to_owned();
    check(|facts| tls(facts, "no", "no", false), &[]);
    check(
        |facts| {
            by_tls(facts);
            tls(facts, "yes", "yes", true);
        },
        &[],
    );
    check(
        |facts| {
            by_tls(facts);
            tls(facts, "yes", "yes", false);
        },
        &["guard-tls", "guard-tls"],
    );
    check(
        |facts| {
            by_tls(facts);
            tls(facts, "yes", "no", true);
        },
        &["tls-replication", "guard-tls"],
    );
    check(
        |facts| tls(facts, "no", "yes", false),
        &["tls-replication", "guard-tls"],
    );
    check(|facts| tls(facts, "yes", "no", false), &["guard-tls"]);
    check(|facts| facts.guard_tls = true, &["guard-tls", "guard-tls"]);
}

#[test]
fn a_retired_server_or_replace_may_hold_data() {
    let full = |facts: &mut ShardFacts| facts.target.keys = [(0, 5)].into();
    check(
        |facts| {
            full(facts);
            facts.target_is_retired = true;
        },
        &[],
    );
    check(
        |facts| {
            full(facts);
            facts.replace = true;
        },
        &[],
    );
}

#[test]
fn what_would_lose_writes_cannot_be_accepted() {
    let mut facts = facts();
    facts.source.sentinels = 1;
    facts.source.clock_ahead_ms = 5_000;
    let found = blockers(&facts);
    let accept = ["sentinel".to_owned(), "clock-skew".to_owned()];
    let left: Vec<&str> = super::super::refused(&found, &accept)
        .iter()
        .map(|blocker| blocker.code.as_str())
        .collect();
    assert_eq!(left, ["sentinel"]);
}

#[test]
fn a_blocker_says_what_to_do_in_one_line() {
    let mut facts = facts();
    facts.source.clock_ahead_ms = -2_500;
    assert_eq!(
        blockers(&facts)[0].to_string(),
        "clock-skew (shard s1): the servers' clocks differ by 2500 ms: keys would expire at another time; synchronise \
         the clocks, or ACCEPT clock-skew"
    );
}
