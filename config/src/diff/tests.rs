//! What a reload would change: one row a setting.

use std::path::Path;

use crate::model::Config;

const OLD: &str = "\
data_dir: ./d
workers: 1
admin: { listen: h:1, users: [{ password: a }] }
http: { listen: h:2 }
limits: { hold_max: 2s }
pools:
  - name: p
    listen: h:3
    backend_users: [{ password: x }]
    shards: [{ name: s1, primary: 'redis://h:4' }, { name: s2, primary: 'redis://h:5' }]
  - name: q
    listen: h:6
    shards: [{ name: s1, primary: 'redis://h:7' }]
";

fn parse(yaml: &str) -> Config {
    Config::parse(yaml, Path::new("/nowhere")).unwrap()
}

/// Replaces one text by another and names the differences.
#[track_caller]
fn check(from: &str, to: &str, expect: &[&str]) {
    assert!(OLD.contains(from));
    let changes = parse(OLD).diff(&parse(&OLD.replacen(from, to, 1)));
    let changes: Vec<String> = changes
        .into_iter()
        .map(|change| format!("{}: {} ({:?})", change.path, change.what, change.needs))
        .collect();
    assert_eq!(changes, expect);
}

#[test]
fn nothing_changed_is_nothing() {
    check("./d", "./d", &[]);
    check("hold_max: 2s", "hold_max: 2000ms", &[]);
}

#[test]
fn what_the_process_was_started_with_takes_a_restart() {
    check("./d", "./e", &["data_dir: ./d becomes ./e (Restart)"]);
    check(
        "workers: 1",
        "workers: 2",
        &["workers: 1 becomes 2 (Restart)"],
    );
    check("h:1", "h:9", &["admin.listen: h:1 becomes h:9 (Restart)"]);
    check(
        "http: { listen: h:2 }",
        "http: off",
        &["http.listen: h:2 becomes off (Restart)"],
    );
    check(
        "h:3",
        "h:9",
        &["pools[p].listen: h:3 becomes h:9 (Restart)"],
    );
    check(
        "hold_max: 2s",
        "hold_max: 1s",
        &["limits.hold_max: 2s becomes 1s (Restart)"],
    );
    check(
        "name: q",
        "name: r",
        &["pools[q]: taken away (Restart)", "pools[r]: added (Reload)"],
    );
    check(
        "limits:",
        "control: { proxy_lease: 3s }\nlimits:",
        &["control: changed (Restart)"],
    );
    check(
        "password: a",
        "password: b",
        &["admin.users: changed (Restart)"],
    );
    check(
        "redis://h:4",
        "redis://h:9",
        &["pools[p].shards[s1].primary: redis://h:4 becomes redis://h:9 (Restart)"],
    );
}

#[test]
fn what_only_new_commands_see_is_live() {
    check(
        "h:3\n",
        "h:3\n    timeout: 2s\n",
        &["pools[p].timeout: nothing becomes 2s (Reload)"],
    );
    check(
        "h:3\n",
        "h:3\n    sessions_max: 7\n",
        &["pools[p].sessions_max: nothing becomes 7 (Reload)"],
    );
    check(
        "password: x",
        "password: y",
        &[
            "pools[p].backend_users: changed (Reload)",
            "pools[p].shards[s1].primary: changed (Reload)",
            "pools[p].shards[s2].primary: changed (Reload)",
        ],
    );
}

#[test]
fn what_places_keys_elsewhere_says_so() {
    check(
        "h:3\n",
        "h:3\n    hash: md5\n",
        &["pools[p].hash: fnv1a_64 becomes md5 (MovedKeys)"],
    );
    check(
        "h:3\n",
        "h:3\n    hash_tag: '{}'\n",
        &["pools[p].hash_tag: nothing becomes {} (MovedKeys)"],
    );
    check(
        "name: s2",
        "name: s3",
        &[
            "pools[p].shards[s2]: taken away (MovedKeys)",
            "pools[p].shards[s3]: added (MovedKeys)",
        ],
    );
    check(
        "name: s2,",
        "name: s2, weight: 2,",
        &["pools[p].shards[s2].weight: 1 becomes 2 (MovedKeys)"],
    );
    check(
        "name: s2,",
        "name: s2, ring_name: x,",
        &["pools[p].shards[s2].ring_name: s2 becomes x (MovedKeys)"],
    );
}

#[test]
fn one_shard_has_every_key_however_it_is_hashed() {
    check(
        "h:6\n",
        "h:6\n    hash: md5\n",
        &["pools[q].hash: fnv1a_64 becomes md5 (Restart)"],
    );
}

#[test]
fn the_order_of_shards_is_no_change() {
    check(
        "{ name: s1, primary: 'redis://h:4' }, { name: s2, primary: 'redis://h:5' }",
        "{ name: s2, primary: 'redis://h:5' }, { name: s1, primary: 'redis://h:4' }",
        &[],
    );
}
