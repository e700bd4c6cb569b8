//! What clients and operators may send: wrong arguments, unknown commands, malformed frames, connections by the hundred.
//! Each gets an answer that says what is wrong, and nobody else notices.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use understudy_lab::wire::{Address, Reply, Wire};
use understudy_lab::{POOL, Scene, SceneOptions, Version};

use crate::stage::{LIMIT, all, assert_clean, assert_quiet, options, served, under_load, verdict};

const ANSWER: Duration = Duration::from_secs(10);

fn one_shard() -> SceneOptions {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    wanted
}

fn admin_port(scene: &Scene) -> u16 {
    let port = scene.control().admin().rsplit(':').next().unwrap();
    port.parse().unwrap()
}

async fn wire(port: u16) -> Wire {
    Wire::connect(&Address::local(port), ANSWER).await.unwrap()
}

async fn answer(wire: &mut Wire, command: &[&str]) -> Reply {
    tokio::time::timeout(ANSWER, wire.call(command))
        .await
        .unwrap_or_else(|_| panic!("{command:?} is not answered"))
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_admin_arguments_are_named_and_the_connection_lives_on() {
    let scene = Scene::start(&one_shard()).await.unwrap();
    let mut wire = wire(admin_port(&scene)).await;
    let source = format!("s1={}", scene.sources[0].url());
    let target = format!("s1={}", scene.targets[0].url());
    let cases: &[(&[&str], &str)] = &[
        (&["UPGRADE", "FROB"], "ERR unknown subcommand"),
        (&["UPGRADE", "START"], "ERR wrong number of arguments"),
        (&["UPGRADE", "START", POOL], "ERR"),
        (&["UPGRADE", "START", POOL, "TO"], "ERR no shard=url"),
        (
            &["UPGRADE", "START", POOL, "ONTO", &target],
            "ERR expected TO",
        ),
        (&["UPGRADE", "START", POOL, "TO", "s1"], "ERR no shard=url"),
        (&["UPGRADE", "START", POOL, "TO", "s1="], "ERR"),
        (&["UPGRADE", "START", POOL, "TO", "s1=http://x"], "ERR"),
        (
            &["UPGRADE", "START", POOL, "TO", &target, &target],
            "ERR shard 's1' is named twice",
        ),
        (
            &["UPGRADE", "START", "nobody", "TO", &target],
            "ERR no pool 'nobody'",
        ),
        (
            &["UPGRADE", "START", POOL, "TO", "s9=redis://127.0.0.1:1"],
            "ERR no shard 's9'",
        ),
        (
            &["UPGRADE", "START", POOL, "TO", "s1=redis://127.0.0.1:1"],
            "BLOCKED unreachable",
        ),
        (
            &["UPGRADE", "START", POOL, "TO", &source],
            "BLOCKED same-server",
        ),
        (
            &["UPGRADE", "START", POOL, "TO", &target, "FASTER"],
            "ERR unknown option 'FASTER'",
        ),
        (
            &["UPGRADE", "START", POOL, "TO", &target, "HOLD-MAX"],
            "ERR HOLD-MAX needs a value",
        ),
        (
            &["UPGRADE", "START", POOL, "TO", &target, "HOLD-MAX", "0"],
            "ERR HOLD-MAX is 1 to",
        ),
        (
            &["UPGRADE", "START", POOL, "TO", &target, "HOLD-MAX", "-1"],
            "ERR HOLD-MAX is a whole number",
        ),
        (
            &["UPGRADE", "START", POOL, "TO", &target, "SOAK", "long"],
            "ERR SOAK is a whole number",
        ),
        (
            &["UPGRADE", "START", POOL, "TO", &target, "CUTOVER", "now"],
            "ERR CUTOVER is auto or manual",
        ),
        (
            &["UPGRADE", "START", POOL, "TO", &target, "SNAPSHOT", "csi"],
            "BLOCKED snapshot-missing",
        ),
        (
            &["UPGRADE", "START", POOL, "TO", &target, "LINK", "relay"],
            "BLOCKED link-missing",
        ),
        (
            &["UPGRADE", "START", POOL, "TO", &target, "LINK", "copy"],
            "BLOCKED link-missing",
        ),
        (
            &["UPGRADE", "START", POOL, "TO", &target, "LINK", "rope"],
            "ERR no link 'rope'",
        ),
        (
            &["UPGRADE", "START", POOL, "TO", &target, "ACCEPT"],
            "ERR ACCEPT needs a value",
        ),
        (&["UPGRADE", "STATUS", "nobody"], "ERR no pool 'nobody'"),
        (&["UPGRADE", "STATUS", POOL], "NOUPGRADE"),
        (&["UPGRADE", "CUTOVER", POOL], "NOUPGRADE"),
        (&["UPGRADE", "REHEARSE", POOL], "NOUPGRADE"),
        (&["UPGRADE", "ABORT", POOL], "NOUPGRADE"),
        (
            &["UPGRADE", "ABORT", POOL, "now"],
            "ERR wrong number of arguments",
        ),
        (&["UPGRADE", "FINALIZE", POOL], "NOUPGRADE"),
        (&["UPGRADE", "ROLLBACK", POOL], "NOUPGRADE"),
        (&["UPGRADE", "ROLLBACK", POOL, "ACCEPT-LOSS"], "ERR"),
        (
            &["UPGRADE", "ROLLBACK", POOL, "s1", "ACCEPT-LOSS", "all"],
            "ERR ACCEPT-LOSS is a whole number",
        ),
        (&["UPGRADE", "REPORT", POOL], "NOUPGRADE"),
        (&["UPGRADE", "WAIT", POOL, "soak", "1"], "NOUPGRADE"),
        (
            &["UPGRADE", "WAIT", POOL, "nirvana", "1"],
            "ERR no phase 'nirvana'",
        ),
        (
            &["UPGRADE", "WAIT", POOL, "soak", "soon"],
            "ERR timeout-ms is a whole number",
        ),
        (&["PROXY", "FROB"], "ERR"),
        (&["PROXY", "HOLD", POOL, "s1", "0"], "ERR"),
        (
            &["PROXY", "HOLD", POOL, "s9", "0", "1", "10"],
            "ERR no shard 's9'",
        ),
        (
            &["PROXY", "HOLD", "nobody", "s1", "0", "1", "10"],
            "ERR no pool 'nobody'",
        ),
        (&["PROXY", "HOLD", POOL, "s1", "zero", "1", "10"], "ERR"),
        (&["PROXY", "HOLD", POOL, "s1", "7", "1", "10"], "WRONGEPOCH"),
        (&["PROXY", "PREPARE", POOL, "s1", "0", "1"], "NOTHELD"),
        (
            &[
                "PROXY",
                "SWITCH",
                POOL,
                "s1",
                "0",
                "1",
                "1",
                "redis://127.0.0.1:1",
            ],
            "NOTHELD",
        ),
        (
            &["PROXY", "SWITCH", POOL, "s1", "0", "1", "1", "http://x"],
            "ERR",
        ),
        (&["PROXY", "EXPLAIN"], "ERR"),
        (&["SET", "a", "1"], "ERR unknown command"),
        (&["AUTH"], "ERR AUTH"),
        (&["HELLO", "9"], "NOPROTO"),
        (&[""], "ERR unknown command"),
    ];
    let mut wrong = Vec::new();
    for (command, expected) in cases {
        match answer(&mut wire, command).await {
            Reply::Error(text) if text.starts_with(expected) && !text.contains(['\r', '\n']) => {}
            other => wrong.push(format!("{command:?} is answered {other:?}, not {expected}")),
        }
        let alive = answer(&mut wire, &["PING"]).await;
        assert_eq!(alive, Reply::Simple("PONG".to_owned()), "{command:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Whatever the gate was told, it is open.
    let mut client = Wire::connect(&scene.clients(0), ANSWER).await.unwrap();
    assert_eq!(answer(&mut client, &["SET", "a", "1"]).await, Reply::ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_sessions_max_and_admin_frame_max_hold_on_the_admin_port() {
    let mut wanted = one_shard();
    wanted.extra_config = "limits: { admin_sessions_max: 2, admin_frame_max: 1KiB }\n".to_owned();
    let scene = Scene::start(&wanted).await.unwrap();
    let port = admin_port(&scene);
    let mut first = wire(port).await;
    let long = "x".repeat(2_000);
    let refused = answer(&mut first, &["PING", &long]).await;
    assert!(
        matches!(&refused, Reply::Error(text) if text.starts_with("ERR Protocol error")),
        "{refused:?}"
    );
    let mut wires = Vec::new();
    let mut refused = Vec::new();
    for _ in 0..3 {
        let mut one = wire(port).await;
        match answer(&mut one, &["PING"]).await {
            Reply::Error(text) => refused.push(text),
            _ => wires.push(one),
        }
    }
    // Whoever has just left may still have a place.
    assert!((1..=2).contains(&wires.len()), "{}", wires.len());
    for text in refused {
        assert_eq!(text, "ERR max number of clients reached");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_target_and_one_with_data_are_refused_and_left_alone() {
    let mut wanted = options(Version::Redis8_2_3, Version::Redis6_2_14);
    wanted.shards = 1;
    let scene = Scene::start(&wanted).await.unwrap();
    scene.targets[0].call(&["SET", "kept", "1"]).await.unwrap();
    let refused = scene.start_upgrade(&["REPLACE"]).await.unwrap_err();
    assert!(refused.to_string().contains("version-pair"), "{refused}");
    let refused = scene
        .start_upgrade(&["ACCEPT", "version-pair", "target-not-empty"])
        .await
        .unwrap_err();
    for code in ["version-pair", "target-not-empty"] {
        assert!(refused.to_string().contains(code), "{refused}");
    }
    let kept = scene.targets[0].call(&["GET", "kept"]).await.unwrap();
    assert_eq!(kept, Reply::bulk("1"));
    assert_eq!(
        scene.targets[0].info("role").await.unwrap().as_deref(),
        Some("master")
    );
}

/// Sends bytes, perhaps closes its half, and gives what comes back until the end, or until nothing more comes.
async fn throw(port: u16, bytes: &[u8], close: bool) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // Refused half way is as good an end as any.
    let _refused = socket.write_all(bytes).await;
    if close {
        let _gone = socket.shutdown().await;
    }
    let mut got = Vec::new();
    let reading = socket.read_to_end(&mut got);
    let patience = if close {
        ANSWER
    } else {
        Duration::from_millis(300)
    };
    let _open_or_reset = tokio::time::timeout(patience, reading).await;
    String::from_utf8_lossy(&got).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_end_their_own_connection_only() {
    let (scene, load) = under_load(&one_shard()).await;
    let clients = scene.all_clients()[0].clone();
    let client_port: u16 = clients
        .to_string()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let mut garbage: Vec<u8> = (0..=255)
        .cycle()
        .take(4096)
        .map(|byte: u16| byte as u8)
        .collect();
    garbage.push(b'\n');
    let cases: &[(&str, &[u8], &str)] = &[
        (
            "huge bulk",
            b"*1\r\n$999999999999\r\n",
            "-ERR Protocol error",
        ),
        ("negative bulk", b"*1\r\n$-5\r\n", "-ERR Protocol error"),
        ("huge array", b"*999999999\r\n", "-ERR Protocol error"),
        ("no number", b"*x\r\n", "-ERR Protocol error"),
        ("no bulk", b"*1\r\n:1\r\n", "-ERR Protocol error"),
        ("half a frame", b"*2\r\n$3\r\nGET\r\n$100\r\nab", ""),
        ("open quotes", b"SET a \"b\r\n", "-ERR Protocol error"),
        // What is not read any more resets the connection, with or without the error.
        ("endless inline", &[b'a'; 70 << 10], ""),
        ("a reply", b"+OK\r\n", "-ERR unknown command"),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "-ERR"),
        ("garbage", &garbage, "-ERR"),
    ];
    for port in [client_port, admin_port(&scene)] {
        for (case, bytes, expected) in cases {
            let got = throw(port, bytes, true).await;
            assert!(
                got.starts_with(expected),
                "{case} on port {port}: {got:?}, not {expected:?}"
            );
        }
        // And without a word at the end.
        assert_eq!(throw(port, b"*2\r\n$3\r\nGET\r\n$1", false).await, "");
    }
    assert_clean(&verdict(load, &all(&scene.sources)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_come_and_go() {
    const WAVES: usize = 10;
    const EACH: usize = 100;
    let (scene, load) = under_load(&one_shard()).await;
    for wave in 0..WAVES {
        let mut open = Vec::new();
        for number in 0..EACH {
            let mut wire = Wire::connect(&scene.clients(0), ANSWER).await.unwrap();
            if number % 3 == 0 {
                // Gone without its reply.
                wire.send(b"*1\r\n$4\r\nPING\r\n").await.unwrap();
            } else if number % 3 == 1 {
                assert_eq!(answer(&mut wire, &["SET", "many", "1"]).await, Reply::ok());
            }
            open.push(wire);
        }
        drop(open);
        assert!(load.served(10, LIMIT).await, "wave {wave}");
    }
    let mut admin = scene.admin().await.unwrap();
    let deadline = tokio::time::Instant::now() + ANSWER;
    loop {
        let sessions = answer(&mut admin, &["PROXY", "SESSIONS"]).await;
        let text = String::from_utf8_lossy(&sessions.into_bytes().unwrap_or_default()).into_owned();
        if text.lines().count() <= 20 {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "sessions are left: {text}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_clean(&verdict(load, &all(&scene.sources)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_nobody_elses_trouble() {
    let mut wanted = one_shard();
    wanted.extra_config = "limits: { bulk_max: 16MiB, session_output_max: 32MiB }\n".to_owned();
    let (scene, load) = under_load(&wanted).await;
    let mut client = Wire::connect(&scene.clients(0), ANSWER).await.unwrap();
    let big = "x".repeat(1 << 20);
    assert_eq!(
        answer(&mut client, &["SET", "big", &big]).await,
        Reply::ok()
    );
    let mut silent = TcpStream::connect(scene.clients(0).to_string())
        .await
        .unwrap();
    let asks = b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n".repeat(500);
    let _as_much_as_it_takes =
        tokio::time::timeout(Duration::from_secs(1), silent.write_all(&asks)).await;
    served(&load).await;
    scene
        .start_upgrade(&["HOLD-MAX", "2000", "ACCEPT", "other-writers"])
        .await
        .unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    let rss = std::fs::read_to_string(format!("/proc/{}/status", scene.proxies[0].pid())).unwrap();
    let peak: u64 = rss
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap();
    // 500 MiB were asked for.
    assert!(peak < 300 << 10, "the process took {peak} kB");
    let mut taken = Vec::new();
    let reading = tokio::time::timeout(ANSWER, silent.read_to_end(&mut taken)).await;
    assert!(reading.is_ok(), "it is not closed at session_output_max");
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_reloads_under_load_are_not_noticed() {
    const RELOADS: usize = 300;
    let (scene, load) = under_load(&one_shard()).await;
    for reload in 0..RELOADS {
        scene.proxies[0].hang_up().unwrap();
        if reload % 10 == 0 {
            assert!(load.served(5, LIMIT).await, "reload {reload}");
        }
    }
    let log = scene.proxies[0].log();
    assert!(log.contains("reloaded"), "{log}");
    assert_quiet(&scene, &[]);
    assert_clean(&verdict(load, &all(&scene.sources)).await);
}
