//! Workers that panic, proxies that stop, clients that vanish.

use std::time::{Duration, Instant};

use understudy_lab::wire::{Reply, encode};

use crate::stage::{SOON, Stage, call, config, directory, flat, number, old, until};

#[tokio::test]
async fn a_worker_that_panics_ends_its_sessions_and_serves_new_ones() {
    let (server, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&server])).await;
    let (mut one, mut two) = (stage.client().await, stage.client().await);
    call(&mut one, "SET k 1").await;
    call(&mut two, "GET k").await;
    stage
        .proxy
        .run_on_worker(0, Box::new(|| panic!("on purpose")));
    until("one session ended, the other lives", async || {
        one.call(&["PING"]).await.is_ok() != two.call(&["PING"]).await.is_ok()
    })
    .await;
    for _ in 0..4 {
        assert_eq!(
            call(&mut stage.client().await, "GET k").await,
            Reply::bulk("1")
        );
    }
    let info = stage.ask("INFO").await.as_str_lossy().unwrap();
    assert!(info.contains("proxy_worker_panics:1"), "{info}");
}

#[tokio::test]
async fn a_worker_that_panics_while_prepared_comes_back_held() {
    let (server, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&server])).await;
    stage.ask("PROXY HOLD p s1 0 1 1000").await;
    Stage::expect(&stage.ask("PROXY PREPARE p s1 0 1").await, "gate prepared");
    stage
        .proxy
        .run_on_worker(1, Box::new(|| panic!("on purpose")));
    until("the worker is back", async || {
        flat(&stage.ask("PROXY GATE p s1").await).starts_with("gate prepared epoch 0 term 1")
    })
    .await;
    Stage::expect(
        &stage.ask("PROXY RELEASE p s1 0 1").await,
        "gate open epoch 0 term 1",
    );
    for _ in 0..4 {
        assert_eq!(
            call(&mut stage.client().await, "SET k 1").await,
            Reply::ok()
        );
    }
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_closes_the_rest() {
    let (server, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&server])).await;
    let (mut idle, mut busy) = (stage.client().await, stage.client().await);
    call(&mut idle, "SET k 1").await;
    call(&mut busy, "GET k").await;
    server
        .call(&["CLIENT", "PAUSE", "300", "ALL"])
        .await
        .unwrap();
    let mut frame = Vec::new();
    encode(&mut frame, &["INCR", "k"]);
    busy.send(&frame).await.unwrap();
    until("it is in flight", async || {
        number(&stage.ask("PROXY GATE p s1").await, "in_flight") == 1
    })
    .await;
    let address = stage.address();
    let Stage { proxy, .. } = stage;
    let began = Instant::now();
    proxy.stop(SOON).await;
    assert_eq!(busy.reply().await.unwrap(), Reply::Integer(2));
    assert!(idle.reply().await.is_err(), "closed");
    assert!(began.elapsed() < SOON / 2, "{:?}", began.elapsed());
    let refused = understudy_lab::wire::Wire::connect(&address, Duration::from_secs(1)).await;
    assert!(refused.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_client_that_closes_while_held_takes_its_commands_with_it() {
    let (server, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 1, &[&server])).await;
    let mut wire = stage.client().await;
    call(&mut wire, "SET k 1").await;
    stage.ask("PROXY HOLD p s1 0 1 2000").await;
    let mut frame = Vec::new();
    encode(&mut frame, &["INCR", "k"]);
    wire.send(&frame).await.unwrap();
    until("it is held", async || {
        number(&stage.ask("PROXY GATE p s1").await, "held_sessions") == 1
    })
    .await;
    drop(wire);
    until("it is gone", async || {
        number(&stage.ask("PROXY GATE p s1").await, "held_sessions") == 0
    })
    .await;
    stage.ask("PROXY RELEASE p s1 0 1").await;
    assert_eq!(
        call(&mut stage.client().await, "GET k").await,
        Reply::bulk("1")
    );
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_reads_why() {
    let (server, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 1, &[&server])).await;
    let mut wire = stage.client().await;
    wire.send(b"*1\r\n$4\r\nPING\r\n*1\r\nnonsense\r\n")
        .await
        .unwrap();
    assert_eq!(wire.reply().await.unwrap(), Reply::Simple("PONG".into()));
    let Reply::Error(why) = wire.reply().await.unwrap() else {
        panic!("an error")
    };
    assert!(
        why.starts_with("ERR Protocol error: expected '$', got 'n'"),
        "{why}"
    );
    assert!(wire.reply().await.is_err(), "closed");
}

#[tokio::test]
async fn a_client_that_ends_its_side_still_gets_its_replies() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (server, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 1, &[&server])).await;
    let mut stream = tokio::net::TcpStream::connect(stage.address().to_string())
        .await
        .unwrap();
    stream
        .write_all(b"SET k 1\r\nINCR k\r\nPING\r\n")
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut all))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(all, "+OK\r\n:2\r\n+PONG\r\n");
}
