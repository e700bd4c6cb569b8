//! Values as large as Redis takes them, through the real binary: in pieces, in bounded memory, and in nobody's way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use understudy_lab::{Scene, SceneOptions, Version};

use crate::stage::{LIMIT, all, assert_clean, options, served, under_load, verdict};

const MIB: usize = 1 << 20;
/// Redis' `proto-max-bulk-len`.
const LARGEST: usize = 512 * MIB;
/// What the process may have taken at most; the value is more than twice that.
const MEMORY_MAX_KB: u64 = 200 << 10;

fn one_shard() -> SceneOptions {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    // This machine may be slow, and what is claimed is a bound of memory.
    wanted.extra_config = "limits: { client_stall_max: 2min }\n".to_owned();
    wanted
}

fn peak_kb(scene: &Scene) -> u64 {
    let status = format!("/proc/{}/status", scene.proxies[0].pid());
    let status = std::fs::read_to_string(status).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A mebibyte that is like no other of the same value.
fn piece(number: usize) -> Vec<u8> {
    let mut bytes = vec![b'.'; MIB];
    for (at, place) in bytes.chunks_exact_mut(64).enumerate() {
        let text = format!("{number:08}/{at:08};");
        place[..text.len()].copy_from_slice(text.as_bytes());
    }
    bytes
}

async fn connect(scene: &Scene) -> TcpStream {
    TcpStream::connect(scene.clients(0).to_string())
        .await
        .unwrap()
}

async fn expect(client: &mut TcpStream, text: &[u8]) {
    let mut found = vec![0; text.len()];
    tokio::time::timeout(LIMIT, client.read_exact(&mut found))
        .await
        .expect("an answer in time")
        .unwrap();
    assert!(
        found == text,
        "{:?}",
        String::from_utf8_lossy(&found[..found.len().min(200)])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_value_passes_both_ways_in_bounded_memory_and_neighbours_are_served() {
    let (scene, load) = under_load(&one_shard()).await;
    let mut client = connect(&scene).await;
    let head = format!("*3\r\n$3\r\nSET\r\n$4\r\nhuge\r\n${LARGEST}\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    for number in 0..LARGEST / MIB {
        client.write_all(&piece(number)).await.unwrap();
        if number % 128 == 64 {
            served(&load).await;
        }
    }
    client.write_all(b"\r\n").await.unwrap();
    expect(&mut client, b"+OK\r\n").await;
    let up = peak_kb(&scene);

    client
        .write_all(b"*2\r\n$3\r\nGET\r\n$4\r\nhuge\r\n")
        .await
        .unwrap();
    expect(&mut client, format!("${LARGEST}\r\n").as_bytes()).await;
    let reads = async {
        for number in 0..LARGEST / MIB {
            expect(&mut client, &piece(number)).await;
        }
        expect(&mut client, b"\r\n").await;
    };
    tokio::join!(reads, served(&load));
    let down = peak_kb(&scene);
    println!("peak memory of the process: {up} kB after SET, {down} kB after GET");
    assert!(down < MEMORY_MAX_KB, "the process took {down} kB");
    client
        .write_all(b"*2\r\n$6\r\nSTRLEN\r\n$4\r\nhuge\r\n*2\r\n$3\r\nDEL\r\n$4\r\nhuge\r\n")
        .await
        .unwrap();
    expect(&mut client, format!(":{LARGEST}\r\n:1\r\n").as_bytes()).await;
    assert_clean(&verdict(load, &all(&scene.sources)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_of_many_values_is_streamed_too() {
    const ELEMENTS: usize = 100;
    let (scene, load) = under_load(&one_shard()).await;
    let mut client = connect(&scene).await;
    for number in 0..ELEMENTS {
        let head = format!("*3\r\n$5\r\nRPUSH\r\n$4\r\nlist\r\n${MIB}\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&piece(number)).await.unwrap();
        client.write_all(b"\r\n").await.unwrap();
        expect(&mut client, format!(":{}\r\n", number + 1).as_bytes()).await;
    }
    // The same value three times behind each other.
    let ask = b"*4\r\n$6\r\nLRANGE\r\n$4\r\nlist\r\n$1\r\n0\r\n$2\r\n-1\r\n";
    client.write_all(&ask.repeat(3)).await.unwrap();
    let reads = async {
        for _ in 0..3 {
            expect(&mut client, format!("*{ELEMENTS}\r\n").as_bytes()).await;
            for number in 0..ELEMENTS {
                expect(&mut client, format!("${MIB}\r\n").as_bytes()).await;
                expect(&mut client, &piece(number)).await;
                expect(&mut client, b"\r\n").await;
            }
        }
    };
    tokio::join!(reads, served(&load));
    let peak = peak_kb(&scene);
    println!("peak memory of the process: {peak} kB for 300 MiB");
    assert!(peak < MEMORY_MAX_KB, "the process took {peak} kB");
    assert_clean(&verdict(load, &all(&scene.sources)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_passes_while_a_client_sends_and_reads_huge_values() {
    const VALUE: usize = 8 * MIB;
    let (scene, load) = under_load(&one_shard()).await;
    let address = scene.clients(0).to_string();
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let busy = tokio::spawn(async move {
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut rounds = 0;
        while !told.load(Ordering::Relaxed) || rounds < 2 {
            let head = format!("*3\r\n$3\r\nSET\r\n$4\r\nhuge\r\n${VALUE}\r\n");
            client.write_all(head.as_bytes()).await.unwrap();
            for number in 0..VALUE / MIB {
                client.write_all(&piece(rounds + number)).await.unwrap();
                // A slow link: some milliseconds for each mebibyte.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let ask = b"\r\n*2\r\n$3\r\nGET\r\n$4\r\nhuge\r\n";
            client.write_all(ask).await.unwrap();
            expect(&mut client, format!("+OK\r\n${VALUE}\r\n").as_bytes()).await;
            for number in 0..VALUE / MIB {
                expect(&mut client, &piece(rounds + number)).await;
            }
            expect(&mut client, b"\r\n").await;
            rounds += 1;
        }
        rounds
    });
    scene
        .start_upgrade(&["HOLD-MAX", "2000", "ACCEPT", "other-writers"])
        .await
        .unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let rounds = busy.await.unwrap();
    println!("{rounds} huge values went to and fro");
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

/// An operator has to know whom to ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_28_an_abort_names_the_client_that_has_not_sent_its_value_to_its_end() {
    let (scene, load) = under_load(&one_shard()).await;
    let mut client = connect(&scene).await;
    let address = client.local_addr().unwrap();
    let head = format!("*3\r\n$3\r\nSET\r\n$4\r\nhuge\r\n${}\r\n", 2 * MIB);
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&piece(0)).await.unwrap();
    let until = tokio::time::Instant::now() + LIMIT;
    while !is_uploading(&scene).await {
        assert!(tokio::time::Instant::now() < until, "it is not forwarded");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    scene
        .start_upgrade(&["HOLD-MAX", "200", "ACCEPT", "other-writers"])
        .await
        .unwrap();
    let status = scene.wait_for("aborted", LIMIT).await.unwrap();
    let error = status["error"].as_str().unwrap_or_default();
    assert!(
        error.contains(&format!(" ({address}) is not sent to its end after ")),
        "{status:#}"
    );
    client.write_all(&piece(1)).await.unwrap();
    client.write_all(b"\r\n").await.unwrap();
    expect(&mut client, b"+OK\r\n").await;
    let again = ["HOLD-MAX", "2000", "ACCEPT", "other-writers"];
    scene.start_upgrade(&again).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    served(&load).await;
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

/// Whether a huge command of some client is on its way to the server.
async fn is_uploading(scene: &Scene) -> bool {
    let sessions = scene.call(&["PROXY", "SESSIONS"]).await.unwrap();
    let text = String::from_utf8(sessions.into_bytes().unwrap()).unwrap();
    text.lines().any(|line| line.contains("upload"))
}
