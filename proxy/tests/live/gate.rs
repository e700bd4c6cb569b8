//! The gate over all workers, as control drives it. docs/gate.md is what is tested.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use understudy_lab::{AuditOptions, Server};
use understudy_net::Value;

use crate::stage::{SOON, Stage, call, config, directory, flat, load, new, number, old, until};

/// The target has everything that the source acknowledged.
async fn caught_up(source: &Server, target: &Server) {
    until("the target has caught up", async || {
        let there = source.info("master_repl_offset").await.unwrap();
        there.is_some() && there == target.info("slave_repl_offset").await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn a_shard_moves_under_load_and_no_client_notices() {
    let (source, target, data) = (old().await, new().await, directory());
    let stage = Stage::start(config(data.path(), 3, &[&source])).await;
    let load = load(&stage);
    assert!(load.served(3_000, SOON).await);
    target.follow(&source).await.unwrap();
    assert!(load.served(1_000, SOON).await);
    let began = Instant::now();
    let held = stage.ask("PROXY HOLD p s1 0 1 2000").await;
    Stage::expect(&held, "gate held epoch 0 term 1 in_flight 0 waited_us ");
    caught_up(&source, &target).await;
    let prepared = stage.ask("PROXY PREPARE p s1 0 1").await;
    Stage::expect(&prepared, "gate prepared epoch 0 term 1");
    target.call(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    let switch = format!("PROXY SWITCH p s1 0 1 1 {}", target.url());
    for _again in 0..2 {
        Stage::expect(&stage.ask(&switch).await, "gate switched epoch 1 term 1");
    }
    for _again in 0..2 {
        let released = stage.ask("PROXY RELEASE p s1 1 1").await;
        Stage::expect(&released, "gate open epoch 1 term 1");
    }
    assert!(load.served(3_000, SOON).await);
    println!("longest gap {:?}", load.longest_gap(began, Instant::now()));
    let ledger = load.stop().await;
    let report = ledger
        .audit(&[target.address()], &AuditOptions::default())
        .await
        .unwrap();
    assert!(report.is_clean(), "{report:#?}");
    let gate = flat(&stage.ask("PROXY GATE p s1").await);
    let url = target.url();
    let expected =
        format!("gate open epoch 1 term 1 backend {url} in_flight 0 held_sessions 0 instance ");
    assert!(gate.starts_with(&expected), "{gate}");
}

#[tokio::test]
async fn an_abort_opens_at_the_old_epoch_and_nothing_is_lost() {
    let (source, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 3, &[&source])).await;
    let load = load(&stage);
    assert!(load.served(2_000, SOON).await);
    for term in 1..6 {
        let held = stage.ask(&format!("PROXY HOLD p s1 0 {term} 1000")).await;
        Stage::expect(&held, "gate held");
        if term % 2 == 0 {
            let prepared = stage.ask(&format!("PROXY PREPARE p s1 0 {term}")).await;
            Stage::expect(&prepared, "gate prepared");
        }
        let released = stage.ask(&format!("PROXY RELEASE p s1 0 {term}")).await;
        Stage::expect(&released, "gate open epoch 0");
        assert!(load.served(500, SOON).await);
    }
    let ledger = load.stop().await;
    let report = ledger
        .audit(&[source.address()], &AuditOptions::default())
        .await
        .unwrap();
    assert!(report.is_clean(), "{report:#?}");
}

#[tokio::test]
async fn a_lease_that_ends_opens_the_gate_and_prepare_finds_it_open() {
    let (source, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&source])).await;
    let mut wire = stage.client().await;
    call(&mut wire, "SET k 1").await;
    Stage::expect(&stage.ask("PROXY HOLD p s1 0 1 100").await, "gate held");
    let began = Instant::now();
    assert_eq!(call(&mut wire, "INCR k").await.as_integer(), Some(2));
    assert!(
        began.elapsed() >= Duration::from_millis(50),
        "it was held: {:?}",
        began.elapsed()
    );
    Stage::expect(
        &stage.ask("PROXY GATE p s1").await,
        "gate open epoch 0 term 1",
    );
    Stage::expect(&stage.ask("PROXY PREPARE p s1 0 1").await, "-NOTHELD");
    Stage::expect(&stage.ask("PROXY GATE p s1").await, "gate open");
}

#[tokio::test]
async fn hold_max_shortens_a_longer_lease() {
    let (server, data) = (old().await, directory());
    let mut config = config(data.path(), 1, &[&server]);
    config.limits.hold_max = Duration::from_millis(50);
    let stage = Stage::start(config).await;
    Stage::expect(&stage.ask("PROXY HOLD p s1 0 1 60000").await, "gate held");
    until("the shorter lease is over", async || {
        flat(&stage.ask("PROXY GATE p s1").await).starts_with("gate open")
    })
    .await;
}

#[tokio::test]
async fn a_hold_that_cannot_drain_says_so_and_opens_again() {
    let (source, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&source])).await;
    let mut wire = stage.client().await;
    call(&mut wire, "SET k 1").await;
    source.stop_signal().unwrap();
    let mut frame = Vec::new();
    understudy_lab::wire::encode(&mut frame, &["INCR", "k"]);
    wire.send(&frame).await.unwrap();
    until("the command is in flight", async || {
        number(&stage.ask("PROXY GATE p s1").await, "in_flight") == 1
    })
    .await;
    Stage::expect(
        &stage.ask("PROXY HOLD p s1 0 1 100").await,
        "-NOTHELD worker ",
    );
    Stage::expect(&stage.ask("PROXY GATE p s1").await, "gate open");
    source.cont().unwrap();
    assert_eq!(wire.reply().await.unwrap().as_integer(), Some(2));
}

#[tokio::test]
async fn a_frozen_worker_is_named_and_the_others_open_again() {
    let (source, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 3, &[&source])).await;
    let mut wires = Vec::new();
    for _ in 0..3 {
        wires.push(stage.client().await);
    }
    let (thaw, frozen) = mpsc::channel::<()>();
    stage
        .proxy
        .run_on_worker(2, Box::new(move || assert!(frozen.recv().is_err())));
    let refused = flat(&stage.ask("PROXY HOLD p s1 0 1 200").await);
    assert!(
        refused.starts_with("-NOTHELD worker 2 in flight unknown"),
        "{refused}"
    );
    // The lease of the others was ended, not waited for: whoever is not on worker 2 is served.
    let served = wires.iter_mut().map(|wire| async {
        tokio::time::timeout(Duration::from_secs(1), wire.call(&["SET", "k", "1"]))
            .await
            .is_ok()
    });
    let mut ok = 0;
    for one in served {
        ok += usize::from(one.await);
    }
    assert_eq!(ok, 2, "two workers serve");
    drop(thaw);
    until("the gate is open in all workers", async || {
        flat(&stage.ask("PROXY GATE p s1").await).starts_with("gate open")
    })
    .await;
}

#[tokio::test]
async fn case_21_orders_of_an_older_attempt_and_for_another_epoch_are_refused() {
    let (source, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&source])).await;
    Stage::expect(
        &stage.ask("PROXY HOLD p s1 0 9 1000").await,
        "gate held epoch 0 term 9",
    );
    for late in [
        "HOLD p s1 0 8 1000",
        "PREPARE p s1 0 8",
        "SWITCH p s1 0 8 1 redis://127.0.0.1:1",
        "RELEASE p s1 0 8",
    ] {
        let refused = stage.ask(&format!("PROXY {late}")).await;
        assert_eq!(
            flat(&refused),
            "-STALETERM shard s1 has seen term 9, this is 8",
            "{late}"
        );
    }
    assert_eq!(
        flat(&stage.ask("PROXY PREPARE p s1 3 9").await),
        "-WRONGEPOCH shard s1 is at epoch 0, not 3"
    );
    Stage::expect(
        &stage.ask("PROXY GATE p s1").await,
        "gate held epoch 0 term 9",
    );
    Stage::expect(
        &stage.ask("PROXY PREPARE p s1 0 9").await,
        "gate prepared epoch 0 term 9",
    );
    assert_eq!(
        flat(&stage.ask("PROXY HOLD p s1 0 10 1000").await),
        "-BUSYGATE shard s1 is prepared for term 9"
    );
    Stage::expect(
        &stage
            .ask("PROXY SWITCH p s1 0 9 1 redis://u:p@127.0.0.1:1")
            .await,
        "-ERR a url in SWITCH carries no password",
    );
    Stage::expect(
        &stage.ask("PROXY RELEASE p s1 0 9").await,
        "gate open epoch 0 term 9",
    );
    assert_eq!(
        flat(&stage.ask("PROXY HOLD x s1 0 10 1000").await),
        "-ERR no pool 'x'"
    );
    assert_eq!(
        flat(&stage.ask("PROXY HOLD p y 0 10 1000").await),
        "-ERR no shard 'y' in pool 'p'"
    );
    Stage::expect(
        &stage
            .ask("PROXY SWITCH p s1 0 10 1 redis://127.0.0.1:1")
            .await,
        "-NOTHELD",
    );
}

/// There is no file to overwrite any more, and none can be made.
fn refuse_routes(data_dir: &std::path::Path) {
    std::fs::remove_file(data_dir.join("routes.json")).unwrap();
    std::fs::create_dir(data_dir.join("routes.json.new")).unwrap();
}

#[tokio::test]
async fn a_route_that_cannot_be_written_changes_nothing() {
    let (source, target, data) = (old().await, old().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&source])).await;
    refuse_routes(data.path());
    Stage::expect(&stage.ask("PROXY HOLD p s1 0 1 1000").await, "gate held");
    Stage::expect(
        &stage.ask("PROXY PREPARE p s1 0 1").await,
        "-ERR the route was not written and nothing changed",
    );
    until("the gate is open again", async || {
        flat(&stage.ask("PROXY GATE p s1").await).starts_with("gate open epoch 0")
    })
    .await;
    std::fs::remove_dir(data.path().join("routes.json.new")).unwrap();
    Stage::expect(&stage.ask("PROXY HOLD p s1 0 2 1000").await, "gate held");
    Stage::expect(&stage.ask("PROXY PREPARE p s1 0 2").await, "gate prepared");
    refuse_routes(data.path());
    let switch = format!("PROXY SWITCH p s1 0 2 1 {}", target.url());
    Stage::expect(
        &stage.ask(&switch).await,
        "-ERR the route was not written and nothing changed",
    );
    Stage::expect(
        &stage.ask("PROXY GATE p s1").await,
        "gate prepared epoch 0 term 2",
    );
    // An abort must open whatever the disk says, and leave the next attempt free to begin.
    Stage::expect(
        &stage.ask("PROXY RELEASE p s1 0 2").await,
        "gate open epoch 0 term 2",
    );
    std::fs::remove_dir(data.path().join("routes.json.new")).unwrap();
    Stage::expect(
        &stage.ask("PROXY HOLD p s1 0 3 1000").await,
        "gate held epoch 0 term 3",
    );
    Stage::expect(
        &stage.ask("PROXY PREPARE p s1 0 3").await,
        "gate prepared epoch 0 term 3",
    );
    Stage::expect(
        &stage.ask(&switch.replace(" 0 2 1 ", " 0 3 1 ")).await,
        "gate switched epoch 1 term 3",
    );
}

#[tokio::test]
async fn one_shard_that_is_held_does_not_hold_the_other() {
    let (one, two, data) = (old().await, old().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&one, &two])).await;
    let shard_of = async |key: &str| {
        let lines = flat(&stage.ask(&format!("PROXY EXPLAIN GET {key}")).await);
        if lines.contains("shard=s1") { 1 } else { 2 }
    };
    let mut keys = [None, None];
    for number in 0.. {
        let key = format!("k{number}");
        let shard = shard_of(&key).await;
        keys[shard - 1].get_or_insert(key);
        if keys.iter().all(Option::is_some) {
            break;
        }
    }
    let [held, free] = keys.map(Option::unwrap);
    Stage::expect(&stage.ask("PROXY HOLD p s1 0 1 2000").await, "gate held");
    let (mut first, mut second) = (stage.client().await, stage.client().await);
    let began = Instant::now();
    assert!(matches!(
        call(&mut second, &format!("SET {free} 1")).await,
        understudy_lab::wire::Reply::Simple(_)
    ));
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    let held = tokio::spawn(async move { call(&mut first, &format!("SET {held} 1")).await });
    until("a session is held", async || {
        number(&stage.ask("PROXY GATE p s1").await, "held_sessions") == 1
    })
    .await;
    assert!(!held.is_finished());
    let released: Value = stage.ask("PROXY RELEASE p s1 0 1").await;
    Stage::expect(&released, "gate open");
    assert_eq!(held.await.unwrap(), understudy_lab::wire::Reply::ok());
}
