//! nutcracker.yml files: what is taken over, what is warned about, what is refused.

use std::path::Path;
use std::time::Duration;

use understudy_ring::{Distribution, Hash};

use crate::model::Config;

/// Through the ordinary door, so that the shape has to be recognised.
fn parse(yaml: &str) -> Result<Config, crate::problem::Problems> {
    Config::parse(yaml, Path::new("/nowhere"))
}

#[track_caller]
fn check(yaml: &str, expect: &[&str]) {
    let problems = parse(yaml).expect_err("this file is wrong").to_string();
    assert_eq!(problems.lines().collect::<Vec<_>>(), expect);
}

/// What is warned about a pool with these settings.
#[track_caller]
fn check_warnings(settings: &str, expect: &[&str]) {
    let yaml = format!("a: {{ listen: h:1, redis: true, {settings}, servers: ['h:2:1'] }}");
    let warnings: Vec<String> = parse(&yaml)
        .unwrap()
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(warnings, expect);
}

#[track_caller]
fn check_problem(settings: &str, expect: &str) {
    check(
        &format!("a: {{ listen: h:1, redis: true, {settings}, servers: ['h:2:1'] }}"),
        &[expect],
    );
}

#[test]
fn twemproxys_own_example_is_served() {
    // conf/nutcracker.yml of twemproxy 0.5.0.
    let config = parse(
        "\
alpha:
  listen: 127.0.0.1:22121
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: true
  redis: true
  server_retry_timeout: 2000
  server_failure_limit: 1
  servers:
   - 127.0.0.1:6379:1

beta:
  listen: 127.0.0.1:22122
  hash: fnv1a_64
  hash_tag: \"{}\"
  distribution: ketama
  auto_eject_hosts: false
  timeout: 400
  redis: true
  servers:
   - 127.0.0.1:6380:1 server1
   - 127.0.0.1:6381:1 server2
   - 127.0.0.1:6382:1 server3
   - 127.0.0.1:6383:1 server4

gamma:
  listen: 127.0.0.1:22123
  hash: fnv1a_64
  distribution: ketama
  timeout: 400
  backlog: 1024
  preconnect: true
  auto_eject_hosts: true
  server_retry_timeout: 2000
  server_failure_limit: 3
  servers:
   - 127.0.0.1:11212:1
   - 127.0.0.1:11213:1
",
    )
    .unwrap();
    let names: Vec<&str> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["alpha", "beta"]);
    let beta = &config.pools[1];
    assert_eq!(beta.listen.to_string(), "127.0.0.1:22122");
    assert_eq!(
        (beta.distribution, beta.hash),
        (Distribution::Ketama, Hash::Fnv1a_64)
    );
    assert_eq!(
        beta.hash_tag.map(|tag| tag.to_string()).as_deref(),
        Some("{}")
    );
    assert_eq!(beta.timeout, Some(Duration::from_millis(400)));
    let shard = beta.shard("server2").unwrap();
    assert_eq!(
        (shard.ring_name.as_str(), shard.primary.to_string().as_str()),
        ("server2", "redis://127.0.0.1:6381")
    );
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "alpha.auto_eject_hosts (line 5): no server is ever ejected here; its keys would be written to other servers and be stale there later; commands for a dead server get an error instead",
            "alpha.server_retry_timeout (line 7): not used: no server is ever ejected here; a server is dialed again after 50ms to 2s",
            "alpha.server_failure_limit (line 8): not used: no server is ever ejected here; a server is dialed again after 50ms to 2s",
            "gamma (line 26): a memcached pool is not served; give it redis: true if its servers are Redis",
        ]
    );
    assert_eq!(config.data_dir, Path::new("./understudy-data"));
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:7380");
}

#[test]
fn the_example_file_is_recognised_by_its_shape() {
    let config = parse(include_str!("../../examples/nutcracker.yml")).unwrap();
    assert_eq!(config.pools[0].shards.len(), 2);
    assert!(config.warnings.is_empty());
}

#[test]
fn servers_without_a_name_are_named_by_their_address() {
    let config = parse(
        "a: { listen: h:1, redis: true, servers: ['10.0.0.1:6379:1', '10.0.0.2:11211:3', '/run/r.sock:1', '10.0.0.4:6379:1 a=b'] }",
    )
    .unwrap();
    let shards: Vec<(&str, &str, u32)> = config.pools[0]
        .shards
        .iter()
        .map(|shard| (shard.name.as_str(), shard.ring_name.as_str(), shard.weight))
        .collect();
    assert_eq!(
        shards,
        [
            ("10.0.0.1:6379", "10.0.0.1:6379", 1),
            ("10.0.0.2", "10.0.0.2", 3),
            ("/run/r.sock", "/run/r.sock:", 1),
            ("a_b", "a=b", 1)
        ]
    );
    assert!(config.pools[0].ring().is_ok());
}

#[test]
fn the_password_is_for_clients_and_servers() {
    let config = parse(
        "a: { listen: h:1, redis: true, redis_auth: open sesame, redis_db: 3, servers: ['h:2:1'] }",
    )
    .unwrap();
    let pool = &config.pools[0];
    assert_eq!(pool.users[0].name, "default");
    assert!(pool.users[0].password.matches(b"open sesame"));
    let primary = &pool.shards[0].primary;
    assert_eq!(
        (
            primary.db,
            primary.password.as_ref().map(|secret| secret.expose())
        ),
        (3, Some("open sesame"))
    );
    assert_eq!(primary.username, None);
    let target = pool.login_at(&pool.shards[0], "redis://new:1/3".parse().unwrap());
    assert_eq!(
        target.password.as_ref().map(|secret| secret.expose()),
        Some("open sesame")
    );
    assert!(!format!("{config:?}").contains("sesame"));
}

#[test]
fn waiting_for_ever_is_zero_or_nothing() {
    let timeout = |settings: &str| {
        parse(&format!(
            "a: {{ listen: h:1, redis: true, {settings}, servers: ['h:2:1'] }}"
        ))
        .unwrap()
        .pools[0]
            .timeout
    };
    assert_eq!(timeout("timeout: 0"), None);
    assert_eq!(timeout("hash: md5"), None);
    assert_eq!(timeout("timeout: 1"), Some(Duration::from_millis(1)));
}

#[test]
fn what_has_no_counterpart_is_warned_about() {
    check_warnings("auto_eject_hosts: false", &[]);
    check_warnings("server_connections: 1", &[]);
    check_warnings(
        "tcpkeepalive: false, reuseport: false, preconnect: false",
        &[],
    );
    check_warnings(
        "server_connections: 4",
        &[
            "a.server_connections (line 1): not used: each worker has one connection to a server for commands of a kind; set workers in a file of our own for more; the order of a client's commands is kept either way",
        ],
    );
    check_warnings(
        "client_connections: 100",
        &[
            "a.client_connections (line 1): enforced here, while twemproxy reads this setting and never uses it; raise it if more clients than that have been connected",
        ],
    );
    check_warnings("client_connections: 0", &[]);
    check_warnings(
        "backlog: 512",
        &[
            "a.backlog (line 1): not used; the listen queue is as long as the system allows (net.core.somaxconn)",
        ],
    );
    check_warnings(
        "tcpkeepalive: true, reuseport: true, preconnect: true",
        &[
            "a.tcpkeepalive (line 1): not used; the system's defaults hold for client connections",
            "a.reuseport (line 1): not used; one process serves the port, with as many workers as it is given",
            "a.preconnect (line 1): not used; servers are connected when the first command needs them",
        ],
    );
}

#[test]
fn two_names_of_one_server_are_taken_over_with_a_warning() {
    let config = parse("a: { listen: h:1, redis: true, servers: ['h:2:1 x', 'h:2:1 y'] }").unwrap();
    assert_eq!(config.pools[0].shards.len(), 2);
    assert_eq!(
        config.warnings[0].to_string(),
        "a.servers[1] (line 1): redis://h:2 is already the server of 'x'; an upgrade moves the two only together: name both in it"
    );
}

#[test]
fn what_twemproxy_refuses_is_refused() {
    check_problem(
        "hash: sha1",
        "a.hash (line 1): 'sha1' is not a hash function; write one of one_at_a_time, md5, crc16, crc32, crc32a, fnv1_64, fnv1a_64, fnv1_32, fnv1a_32, hsieh, murmur, jenkins",
    );
    check_problem(
        "distribution: slots",
        "a.distribution (line 1): 'slots' is not a distribution; write one of ketama, modula, random",
    );
    check_problem(
        "hash_tag: '{'",
        "a.hash_tag (line 1): '{' has not two characters; write the opening and the closing one, such as \"{}\"",
    );
    check_problem(
        "timeout: 400ms",
        "a.timeout (line 1): '400ms' is not a whole number; write a whole number",
    );
    check_problem(
        "preconnect: yes",
        "a.preconnect (line 1): 'yes' is not true or false; write true or false",
    );
    check_problem(
        "server_connections: 0",
        "a.server_connections (line 1): 0 connections to a server; write 1, or leave the setting out",
    );
    check_problem(
        "redis_auht: x",
        "a.redis_auht (line 1): unknown setting; did you mean 'redis_auth'?",
    );
    check(
        "a: { redis: true, servers: ['h:2:1'] }",
        &["a.listen (line 1): missing; write it: where clients connect"],
    );
    check(
        "a: { listen: h:1, redis: true, servers: [] }",
        &[
            "a.servers (line 1): missing; write it: the servers, as host:port:weight or /path.sock:weight, with a name behind a space",
        ],
    );
    check(
        "a: { listen: h:1, redis: true, servers: ['h:2:1', 'h:2:1', 'h:3'] }",
        &[
            "a.servers[1] (line 1): a second server 'h:2', the first is in line 1; give each a name of its own",
            "a.servers[2] (line 1): 'h:3' has no port or no weight; write host:port:weight or /path.sock:weight, and a name behind a space if it has one",
        ],
    );
    check(
        "a: { listen: h:1, redis: true, servers: ['h:2:1'] }\nb: { listen: h:1, redis: true, servers: ['h:2:1'] }",
        &["b.listen (line 2): h:1 is already where 'a' listens; give each its own address"],
    );
    check(
        "a: { listen: h:1, servers: ['h:2:1'] }",
        &["line 1: no pool of this file is for Redis; give a pool redis: true"],
    );
}
