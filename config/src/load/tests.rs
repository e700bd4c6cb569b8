//! Good files, and every kind of bad one with exactly what is said about it.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use understudy_ring::{Distribution, Hash};

use crate::address::ListenAddress;
use crate::limits::{self, Limits};
use crate::model::Config;
use crate::problem::{LoadError, Problems};
use crate::settings::{self, Absent, SectionSpec};
use crate::sources::Sources;

/// A pool that is as it should be, to put bad things beside or into.
const POOL: &str =
    "pools: [{ name: p, listen: 127.0.0.1:1, shards: [{ name: s1, primary: 'redis://h:1' }] }]";

fn parse_in(base: &Path, yaml: &str) -> Result<Config, Problems> {
    let environment = |name: &str| (name == "PASSWORD").then(|| "from the environment".to_owned());
    Config::parse_with(
        yaml,
        Sources {
            base,
            environment: &environment,
        },
    )
}

fn parse(yaml: &str) -> Result<Config, Problems> {
    parse_in(Path::new("/nowhere"), yaml)
}

/// What is wrong with a file, one problem a line.
#[track_caller]
fn check(yaml: &str, expect: &[&str]) {
    let problems = parse(yaml).expect_err("this file is wrong").to_string();
    assert_eq!(problems.lines().collect::<Vec<_>>(), expect);
}

/// What is wrong with the settings of one shard, pool or limit, in an otherwise good file.
#[track_caller]
fn check_pool(settings: &str, expect: &str) {
    check(
        &format!(
            "pools:\n- {{ name: p, listen: 127.0.0.1:1, {settings}, shards: [{{ name: s1, primary: 'redis://h:1' }}] }}"
        ),
        &[&format!("pools[0].{expect}")],
    );
}

#[track_caller]
fn check_shards(shards: &str, expect: &[&str]) {
    check(
        &format!("pools:\n- {{ name: p, listen: 127.0.0.1:1, shards: [{shards}] }}"),
        expect,
    );
}

#[test]
fn the_least_file_has_all_the_defaults() {
    let config = parse(include_str!("../../examples/minimal.yaml")).unwrap();
    let pool = &config.pools[0];
    assert_eq!(config.data_dir, Path::new("./understudy-data"));
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:7380");
    assert_eq!(config.http.unwrap().listen.to_string(), "127.0.0.1:7381");
    assert_eq!(config.limits, Limits::default());
    assert_eq!(
        (
            config.control.proxies.len(),
            config.control.guard.announced_host()
        ),
        (0, "127.0.0.1")
    );
    assert_eq!(
        (pool.name.as_str(), pool.listen.to_string().as_str()),
        ("sessions", "127.0.0.1:7379")
    );
    assert_eq!(
        (pool.distribution, pool.hash, pool.hash_tag),
        (Distribution::Ketama, Hash::Fnv1a_64, None)
    );
    assert_eq!((pool.timeout, pool.sessions_max), (None, None));
    assert_eq!(
        (
            pool.shards[0].name.as_str(),
            pool.shards[0].ring_name.as_str(),
            pool.shards[0].weight
        ),
        ("s1", "s1", 1)
    );
    assert_eq!(pool.shards[0].primary.to_string(), "redis://127.0.0.1:6001");
    assert!(config.warnings.is_empty());
}

#[test]
fn the_full_example_reads_every_setting() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("secrets")).unwrap();
    fs::write(folder.path().join("secrets/clients"), "for clients\n").unwrap();
    fs::write(
        folder.path().join("secrets/servers"),
        "for servers\nsecond line\n",
    )
    .unwrap();
    let example =
        include_str!("../../examples/full.yaml").replace("UNDERSTUDY_ADMIN_PASSWORD", "PASSWORD");
    let config = parse_in(folder.path(), &example).unwrap();

    assert_eq!(config.workers, NonZeroUsize::MIN);
    assert_eq!(config.limits, Limits::default());
    let proxy = &config.control.proxies[0];
    assert_eq!(proxy.to_string(), "redis://operator@127.0.0.1:7380");
    assert_eq!(
        proxy.password.as_ref().unwrap().expose(),
        "from the environment"
    );
    assert_eq!(
        config.control.address.as_ref().unwrap().username.as_deref(),
        Some("operator")
    );
    let pool = config.pool("sessions").unwrap();
    assert_eq!(pool.timeout, Some(Duration::from_secs(5)));
    assert_eq!(pool.users[0].name, "default");
    assert!(pool.users[1].password.matches(b"for clients"));
    assert_eq!(
        pool.shard("s1")
            .unwrap()
            .primary
            .password
            .as_ref()
            .unwrap()
            .expose(),
        "for servers"
    );
    assert_eq!(pool.shard("s2").unwrap().primary.db, 1);
    assert_eq!(pool.shard("s3").unwrap().ring_name, "127.0.0.1:6003");
    assert_eq!(pool.shard("s3").unwrap().primary.password, None);
    assert_eq!(
        pool.tls.as_ref().unwrap().certificate,
        folder.path().join("tls/pool.crt")
    );
    assert_eq!(
        pool.backend_tls.as_ref().unwrap().server_name.as_deref(),
        Some("redis.internal")
    );
    assert!(pool.ring().is_ok());

    let shown = format!("{config:?}");
    for secret in ["for clients", "for servers", "from the environment"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn the_full_example_leaves_no_setting_out() {
    let example = include_str!("../../examples/full.yaml");
    let of_a_user = ["password"]; // The example prefers the other two.
    let sections = [
        &settings::ROOT,
        &settings::ADMIN,
        &settings::HTTP,
        &settings::CONTROL,
        &settings::GUARD,
        &settings::POOL,
    ];
    let sections = sections.into_iter().chain([
        &settings::SHARD,
        &settings::USER,
        &settings::TLS,
        &settings::BACKEND_TLS,
        &limits::SPEC,
    ]);
    for setting in sections.flat_map(|section: &SectionSpec| section.settings) {
        assert!(
            of_a_user.contains(&setting.name)
                || example.contains(&format!("{}: ", setting.name))
                || example.contains(&format!("{}:\n", setting.name))
                || example.contains(&format!("{}:  ", setting.name)),
            "{}",
            setting.name
        );
    }
}

#[test]
fn documented_defaults_are_the_real_ones() {
    let written = |section: &SectionSpec| {
        let settings: Vec<String> = section
            .settings
            .iter()
            .filter_map(|setting| match &setting.default {
                Absent::Is(value) => Some(format!("{}: \"{value}\"", setting.name)),
                Absent::Limit(value) => Some(format!("{}: \"{}\"", setting.name, value())),
                Absent::Refused | Absent::Means(_) => None,
            })
            .collect();
        settings.join(", ")
    };
    let (pool, shard) = (written(&settings::POOL), written(&settings::SHARD));
    let guard = written(&settings::GUARD);
    let yaml = format!(
        "{{ {}, admin: {{ {} }}, http: {{ {} }}, control: {{ {}, guard: {{ {guard} }} }}, limits: {{ {} }},
            pools: [{{ name: p, listen: 127.0.0.1:1, {pool}, shards: [{{ name: s1, primary: 'redis://h:1', {shard} }}] }}] }}",
        written(&settings::ROOT),
        written(&settings::ADMIN),
        written(&settings::HTTP),
        written(&settings::CONTROL),
        written(&limits::SPEC),
    );
    assert_eq!(parse(&yaml).unwrap(), parse(POOL).unwrap());
}

#[test]
fn embedded_is_one_pool_with_the_defaults() {
    let listen = ListenAddress::Tcp("127.0.0.1".to_owned(), 1);
    let embedded = Config::embedded(listen, "redis://h:1".parse().unwrap());
    let mut expect = parse(POOL).unwrap();
    expect.pools[0].name = "default".to_owned();
    assert_eq!(embedded, expect);
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_lines() {
    check(
        "\
data_dir: []
workers: 0
admn: {}
limits: { frame_max: 1024 }
pools:
  - name: a b
    listne: 127.0.0.1:1
    distribution: ketma
    shards:
      - { name: s1, primary: http://h:1, wieght: 2 }
      - { name: s1 }
",
        &[
            "data_dir (line 1): a list stands where one value belongs; write the value behind the colon",
            "workers (line 2): 0 is too small; write a value from 1 to 1024",
            "admn (line 3): unknown setting; did you mean 'admin'?",
            "limits.frame_max (line 4): '1024' is not a size with its unit; write a size with its unit, such as 64KiB, 16MiB or 1GiB",
            "pools[0].name (line 6): 'a b' is not a name; write 1 to 128 letters without spaces and '='",
            "pools[0].listen (line 6): missing; write it: where clients connect, as host:port or /path.sock with a file mode behind it if need be",
            "pools[0].listne (line 7): unknown setting; did you mean 'listen'?",
            "pools[0].distribution (line 8): 'ketma' is not a distribution; did you mean 'ketama'?",
            "pools[0].shards[0].wieght (line 10): unknown setting; did you mean 'weight'?",
            "pools[0].shards[0].primary (line 10): 'http' is not a way to reach a server; write redis://[user[:password]@]host:port[/db], rediss://… for TLS, or unix:///path[?db=N]",
            "pools[0].shards[1].primary (line 11): missing; write it: the server that takes its writes, as redis://host:port",
        ],
    );
}

#[test]
fn files_of_the_wrong_shape_are_refused() {
    let missing = "missing; write it: the pools that clients connect to";
    check("", &[&format!("pools: {missing}")]);
    check("pools:\n", &[&format!("pools (line 1): {missing}")]);
    check("pools: []\n", &[&format!("pools (line 1): {missing}")]);
    check(
        "just a text",
        &[
            "line 1: one value stands here; write a section with data_dir, workers, admin, http, control, kubernetes, limits, pools",
        ],
    );
    check(
        "pools: 3",
        &[
            "pools (line 1): one value stands where a list belongs; write each item on a line of its own, behind '- '",
        ],
    );
    check(
        "pools: [3]",
        &[
            "pools[0] (line 1): one value stands here; write a section with name, listen, distribution, hash, hash_tag, shards, users, backend_users, tls, backend_tls, timeout, connect_timeout, sessions_max",
        ],
    );
    check(
        "a: 'b",
        &[
            "line 1: this is not YAML: unclosed quote; check quotes, colons and indentation around this line",
        ],
    );
    check(
        &format!("{POOL}\nworkers: 1\nworkers: 2"),
        &["workers (line 3): written twice, first in line 2; keep one of them"],
    );
    check(
        &format!("{POOL}\ncolour: blue"),
        &[
            "colour (line 2): unknown setting; known here: data_dir, workers, admin, http, control, kubernetes, limits, pools",
        ],
    );
}

#[test]
fn pools_and_their_addresses_must_differ() {
    let pool = |name: &str, listen: &str| {
        format!(
            "- {{ name: {name}, listen: '{listen}', shards: [{{ name: s1, primary: 'redis://h:1' }}] }}\n"
        )
    };
    check(
        &format!("pools:\n{}{}", pool("a", "h:1"), pool("a", "h:2")),
        &[
            "pools[1].name (line 3): a second pool 'a', the first is in line 2; give each a name of its own",
        ],
    );
    check(
        &format!("pools:\n{}{}", pool("a", "h:1"), pool("b", "h:1")),
        &["pools[1].listen (line 3): h:1 is already where 'a' listens; give each its own address"],
    );
    check(
        &format!(
            "pools:\n{}{}",
            pool("a", "/run/a.sock"),
            pool("b", "/run/a.sock 0600")
        ),
        &[
            "pools[1].listen (line 3): /run/a.sock 0600 is already where 'a' listens; give each its own address",
        ],
    );
    check(
        &format!(
            "admin: {{ listen: h:1 }}\nhttp: {{ listen: h:1 }}\npools:\n{}",
            pool("a", "127.0.0.1:7380")
        ),
        &["http.listen (line 2): h:1 is already where 'admin' listens; give each its own address"],
    );
    check(
        &format!("pools:\n{}", pool("a", "127.0.0.1:7381")),
        &[
            "pools[0].listen (line 2): 127.0.0.1:7381 is already where 'http' listens; give each its own address",
        ],
    );
    assert!(
        parse(&format!(
            "http: off\npools:\n{}",
            pool("a", "127.0.0.1:7381")
        ))
        .unwrap()
        .http
        .is_none()
    );
    assert!(parse(&format!("pools:\n{}{}", pool("a", "h:0"), pool("b", "h:0"))).is_ok());
}

#[test]
fn settings_of_a_pool_are_checked() {
    check_pool(
        "hash: fnv1a64",
        "hash (line 2): 'fnv1a64' is not a hash function; write one of one_at_a_time, md5, crc16, crc32, crc32a, fnv1_64, fnv1a_64, fnv1_32, fnv1a_32, hsieh, murmur, jenkins",
    );
    check_pool(
        "distribution: cluster",
        "distribution (line 2): 'cluster' is not a distribution; write one of ketama, modula, random, slots",
    );
    check_pool(
        "hash_tag: '{'",
        "hash_tag (line 2): '{' has not two characters; write the opening and the closing one, such as \"{}\"",
    );
    check_pool(
        "timeout: 400",
        "timeout (line 2): '400' is not a time with its unit; write a time with its unit, such as 100ms, 2s, 5min or 1h",
    );
    check_pool(
        "timeout: 10us",
        "timeout (line 2): 10us is too small; write a value from 1ms to 24h",
    );
    check_pool(
        "connect_timeout: 1h",
        "connect_timeout (line 2): 1h is too large; write a value from 1ms to 10min",
    );
    check_pool(
        "sessions_max: -1",
        "sessions_max (line 2): '-1' is not a whole number; write a whole number",
    );
    check_pool(
        "sessions_max: 0",
        "sessions_max (line 2): 0 is too small; write a value from 1 to 1000000",
    );
    check_pool(
        "tls: { certificate: a }",
        "tls.key (line 2): missing; write it: PEM private key; relative to this file",
    );
    check_pool(
        "backend_tls: { ca: a, key: b }",
        "backend_tls.key (line 2): key without certificate; write both, or none",
    );
}

#[test]
fn shards_are_checked() {
    check(
        "pools:\n- { name: p, listen: h:1 }",
        &["pools[0].shards (line 2): missing; write it: the pool's shards"],
    );
    check_shards(
        "{ name: s1, primary: 'redis://h:1' }, { name: s1, primary: 'redis://h:2' }",
        &[
            "pools[0].shards[1].name (line 2): a second shard 's1', the first is in line 2; give each a name of its own",
        ],
    );
    check_shards(
        "{ name: s1, primary: 'redis://h:1' }, { name: s2, ring_name: s1, primary: 'redis://h:2' }",
        &[
            "pools[0].shards[1].ring_name (line 2): a second place on the ring 's1', the first is in line 2; give each a name of its own",
        ],
    );
    check_shards(
        "{ name: s1, primary: 'redis://h:1' }, { name: s2, primary: 'redis://u:p@h:1' }",
        &[
            "pools[0].shards[1].primary (line 2): redis://u@h:1 is already the primary of shard 's1'; give each shard a server of its own",
        ],
    );
    check_shards(
        "{ name: s1, primary: 'redis://h:1', weight: 0 }",
        &["pools[0].shards[0].weight (line 2): 0 is too small; write a value from 1 to 1000000"],
    );
    check_shards(
        "{ name: s1, primary: 'rediss://h:1' }",
        &[
            "pools[0].shards[0].primary (line 2): rediss:// without backend_tls in this pool; write backend_tls: { ca: FILE } beside shards",
        ],
    );
}

#[test]
fn users_need_exactly_one_password() {
    let check_user = |user: &str, expect: &str| {
        check(&format!("admin: {{ users: [{user}] }}\n{POOL}"), &[expect]);
    };
    check_user(
        "{ name: a }",
        "admin.users[0] (line 1): the user has no password; write password_file, password_env or password",
    );
    check_user(
        "{ password: a, password_env: PASSWORD }",
        "admin.users[0] (line 1): the user has 2 passwords; keep one of password, password_env",
    );
    check_user(
        "{ password: '' }",
        "admin.users[0].password (line 1): empty; write a value, or leave the setting out",
    );
    check_user(
        "{ password_env: NOT_SET }",
        "admin.users[0].password_env (line 1): the environment has no 'NOT_SET'; set it before the process starts",
    );
    check_user(
        "{ password_file: not/there }",
        "admin.users[0].password_file (line 1): /nowhere/not/there can not be read: No such file or directory (os error 2); name a file that this process may read",
    );
    check_user(
        "{ password: a }, { name: default, password: b }",
        "admin.users[1] (line 1): a second user 'default', the first is in line 1; give each a name of its own",
    );
    let config = parse(&format!(
        "admin: {{ users: [{{ name: ops, password_env: PASSWORD }}] }}\n{POOL}"
    ))
    .unwrap();
    assert!(
        config.admin.users[0]
            .password
            .matches(b"from the environment")
    );
}

#[test]
fn limits_are_bounded_and_agree() {
    let check_limit =
        |limits: &str, expect: &[&str]| check(&format!("limits: {{ {limits} }}\n{POOL}"), expect);
    check_limit(
        "hold_max: 11min",
        &["limits.hold_max (line 1): 11min is too large; write a value from 1ms to 10min"],
    );
    check_limit(
        "frame_max: 4GiB",
        &["limits.frame_max (line 1): 4GiB is too large; write a value from 1KiB to 4294967295B"],
    );
    check_limit(
        "args_max: many",
        &["limits.args_max (line 1): 'many' is not a whole number; write a whole number"],
    );
    check_limit(
        "held_byte_max: 1MiB",
        &["limits.held_byte_max (line 1): unknown setting; did you mean 'held_bytes_max'?"],
    );
    check_limit(
        "frame_max: 1MiB, bulk_threshold: 2MiB",
        &[
            "limits.frame_max (line 1): 1MiB is less than bulk_threshold, 2MiB; what is not streamed must fit",
        ],
    );
    check_limit(
        "session_output_max: 1MiB",
        &[
            "limits.session_output_max (line 1): 1MiB is less than bulk_max, 512MiB; a client must be able to read the longest value",
        ],
    );
}

#[test]
fn control_and_http_are_checked() {
    check(
        &format!(
            "control: {{ proxies: [7380], guard: {{ listen: guard }}, proxy_lease: 0s }}\n{POOL}"
        ),
        &[
            "control.proxies[0] (line 1): '7380' is not a server's address; write redis://[user[:password]@]host:port[/db], rediss://… for TLS, or unix:///path[?db=N]",
            "control.guard.listen (line 1): 'guard' has no port; write host:port, such as 127.0.0.1:7379 or [::1]:7379",
            "control.proxy_lease (line 1): 0s is too small; write a value from 1s to 24h",
        ],
    );
    check(
        &format!("http: on\n{POOL}"),
        &["http (line 1): one value stands here; write a section with listen, or off"],
    );
}

#[test]
fn a_server_of_a_shard_is_reached_as_the_file_says_or_as_its_primary() {
    #[track_caller]
    fn check(primary: &str, users: &str, server: &str, user: &str, password: Option<&str>) {
        let yaml = format!(
            "pools: [{{ name: p, listen: h:1, backend_users: [{users}], shards: [{{ name: s1, primary: 'redis://{primary}' }}] }}]"
        );
        let pool = &parse(&yaml).unwrap().pools[0];
        let found = pool.login_at(
            &pool.shards[0],
            format!("redis://{server}").parse().unwrap(),
        );
        let found_password = found.password.as_ref().map(crate::Secret::expose);
        assert_eq!(
            (found.user(), found_password),
            (user, password),
            "{primary} {server}"
        );
    }
    let (none, bob) = ("", "{ name: bob, password: of-bob }");
    check("h:1", bob, "h:2", "default", None);
    check(":secret@h:1", bob, "h:2", "default", Some("secret"));
    check(":secret@h:1", bob, "default@h:2", "default", Some("secret"));
    check("al:secret@h:1", bob, "h:2", "al", Some("secret"));
    check("al:secret@h:1", bob, "al@h:2", "al", Some("secret"));
    check("al:secret@h:1", bob, "bob@h:2", "bob", Some("of-bob"));
    check("al:secret@h:1", bob, "eve@h:2", "eve", None);
    check("bob@h:1", bob, "h:2", "bob", Some("of-bob"));
    check("al:secret@h:1", bob, "bob:own@h:2", "bob", Some("own"));
    // The new servers have another password for the same user: each is reached by its own.
    let new = "{ password: new }";
    check(":old@h:1", new, "h:1", "default", Some("old"));
    check(":old@h:1", new, "h:2", "default", Some("new"));
    check(
        "al:old@h:1",
        "{ name: al, password: new }",
        "al@h:1",
        "al",
        Some("old"),
    );
    check(
        "al:old@h:1",
        "{ name: al, password: new }",
        "h:2",
        "al",
        Some("new"),
    );
    // Who names no user is the user of the primary, whatever the pool knows of `default`.
    check("al:old@h:1", new, "h:2", "al", Some("old"));
    check("al:old@h:1", none, "default@h:1", "default", None);
}

#[test]
fn a_file_that_can_not_be_read_says_which() {
    let error = Config::load(Path::new("/nowhere/understudy.yaml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "read /nowhere/understudy.yaml: No such file or directory (os error 2)"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.yaml");
    fs::write(&path, " ".repeat((4 << 20) + 1)).unwrap();
    assert_eq!(
        Config::load(&path).unwrap_err().to_string(),
        format!("read {}: longer than 4 MiB", path.display())
    );
    fs::write(&path, "pools: []\nworkers: x").unwrap();
    let LoadError::Invalid { problems, .. } = Config::load(&path).unwrap_err() else {
        panic!("this file can be read")
    };
    assert_eq!(problems.0.len(), 2);
}

/// Cuts, doubles and replaces pieces of good files: whatever comes out is read or refused, never a panic.
#[test]
fn no_damage_to_a_file_is_a_panic() {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ":",
        "- ",
        "\n",
        "  ",
        "'",
        "\"",
        "&a ",
        "*a",
        "|",
        "0",
        "99999999999999999999",
        "\u{e9}",
        "#",
        "? ",
        "!!x ",
        "%",
    ];
    let files = [
        include_str!("../../examples/full.yaml"),
        include_str!("../../examples/nutcracker.yml"),
        include_str!("../../examples/minimal.yaml"),
    ];
    let mut state = 7_u64;
    let mut draw = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..3_000 {
        let mut text: Vec<char> = files[round % files.len()].chars().collect();
        for _ in 0..=draw(4) {
            let at = draw(text.len());
            match draw(3) {
                0 => drop(text.drain(at..(at + draw(30)).min(text.len()))),
                1 => drop(
                    text.splice(at..at, pieces[draw(pieces.len())].chars())
                        .count(),
                ),
                _ => drop(
                    text.splice(
                        at..(at + 1).min(text.len()),
                        pieces[draw(pieces.len())].chars(),
                    )
                    .count(),
                ),
            }
            text.push(' ');
        }
        let text: String = text.into_iter().collect();
        if let Err(problems) = parse(&text) {
            assert!(
                !problems.0.is_empty()
                    && problems.0.iter().all(|problem| !problem.remedy.is_empty()),
                "{text}"
            );
        }
    }
}

#[test]
fn a_proxy_registers_with_control_by_the_authority_of_its_own_and_never_in_clear_text() {
    let refused = "control.address (line 1): control.redis.svc:7380 would be told of this proxy in clear text; write rediss:// and, for an authority of your own, control.proxy_tls: { ca: FILE }; control needs admin.tls";
    let text = |control: &str| format!("control: {{ {control} }}\n{POOL}");
    let tls = "proxy_tls: { ca: ca.crt, server_name: understudy }";
    for wrong in [
        "address: 'redis://control.redis.svc:7380'".to_owned(),
        format!("address: 'redis://control.redis.svc:7380', {tls}"),
    ] {
        check(&text(&wrong), &[refused]);
    }
    let config = parse(&text(&format!(
        "address: 'rediss://control.redis.svc:7380', {tls}"
    )))
    .unwrap();
    let address = config.control.address.unwrap();
    assert_eq!(address.tls.as_deref(), config.control.proxy_tls.as_ref());
    assert!(address.tls.is_some());
    assert!(parse(&text("address: '127.0.0.1:7380'")).is_ok());
}

#[test]
fn a_proxy_on_another_machine_is_never_driven_in_clear_text() {
    let refused = "control.proxies (line 1): 10.0.0.5:7380 would be driven in clear text; write rediss:// and, for an authority of your own, control.proxy_tls: { ca: FILE }; the proxy needs admin.tls";
    let clear = format!("control: {{ proxies: ['127.0.0.1:1', '10.0.0.5:7380'] }}\n{POOL}");
    check(&clear, &[refused]);
    for kept in [
        "proxies: ['rediss://10.0.0.5:7380']",
        "proxies: ['10.0.0.5:7380'], proxy_tls: { ca: /x }",
        "proxies: ['redis://[::1]:7380', 'localhost:1', 'unix:///a.sock']",
    ] {
        parse(&format!("control: {{ {kept} }}\n{POOL}")).unwrap();
    }
}

#[test]
fn a_cluster_is_described_with_names_of_the_operators_choice() {
    let yaml = format!(
        "kubernetes: {{ namespace: redis, level: crash, params: {{ csi: {{ class: fast }} }}, volumes: {{ s1: {{ claim: data-0 }} }}, lease: {{ duration: 20s }}, verify: {{ image: 'r/understudy:1', namespace: read-back, pull_secrets: [hub], run_as_user: 1001, deadline: 5min, resources: {{ limits: {{ memory: 1Gi }} }} }} }}\ncontrol: {{ snapshots: agents }}\n{POOL}"
    );
    let config = parse(&yaml).unwrap();
    assert_eq!(config.control.snapshots, crate::SnapshotsBy::Agents);
    let cluster = config.kubernetes.unwrap();
    assert_eq!(cluster.level, crate::SnapshotLevel::Crash);
    assert_eq!(cluster.params["csi"]["class"], "fast");
    assert_eq!(cluster.volumes["s1"].claim, "data-0");
    assert_eq!(cluster.lease.duration.as_secs(), 20);
    assert_eq!(cluster.verify.image.as_deref(), Some("r/understudy:1"));
    assert_eq!(cluster.verify.namespace.as_deref(), Some("read-back"));
    assert_eq!(cluster.verify.pull_secrets, ["hub"]);
    assert_eq!(cluster.verify.run_as_user, 1001);
    assert_eq!(cluster.verify.deadline.as_secs(), 300);
    assert_eq!(cluster.verify.resources["limits"]["memory"], "1Gi");
    assert_eq!(parse(POOL).unwrap().kubernetes, None);
}

#[test]
fn what_is_wrong_with_a_cluster_is_told_at_once() {
    check(
        &format!(
            "kubernetes: {{ namespace: Redis, level: none, params: [], volumes: {{ s1: {{ }}, s2: x }}, lease: {{ duration: 1s }}, verify: {{ namespace: a/b, run_as_user: 0, pull_secrets: [A], resources: {{ most: {{ }} }} }} }}\n{POOL}"
        ),
        &[
            "kubernetes.namespace (line 1): 'Redis' is no name of an object; write a-z, 0-9, '-' and '.', a letter or digit at both ends",
            "kubernetes.level (line 1): there is no level 'none'; write app or crash",
            "kubernetes.params (line 1): a list stands here; write names with their values",
            "kubernetes.volumes.s1.claim (line 1): missing; write it: name of the PersistentVolumeClaim that the shard's server writes to",
            "kubernetes.volumes.s2 (line 1): one value stands here; write a section with claim, namespace",
            "kubernetes.lease.duration (line 1): 1s is too small; write a value from 3s to 10min",
            "kubernetes.verify.namespace (line 1): 'a/b' is no name of an object; write a-z, 0-9, '-' and '.', a letter or digit at both ends",
            "kubernetes.verify.pull_secrets[0] (line 1): 'A' is no name of an object; write a-z, 0-9, '-' and '.', a letter or digit at both ends",
            "kubernetes.verify.run_as_user (line 1): 0 is too small; write a value from 1 to 2147483647",
            "kubernetes.verify.resources.most (line 1): is neither requests nor limits; write those, as in a container",
        ],
    );
}
