//! Clients that block, and clients that watch, over a move to another server.

use std::time::{Duration, Instant};

use understudy_lab::wire::{Reply, Wire, encode};
use understudy_lab::{Server, Version};

use crate::stage::{SOON, Stage, call, config, directory, flat, new, number, old, server, until};

async fn say(wire: &mut Wire, command: &str) {
    let mut frame = Vec::new();
    encode(&mut frame, &command.split(' ').collect::<Vec<_>>());
    wire.send(&frame).await.unwrap();
}

async fn hear(wire: &mut Wire) -> Reply {
    tokio::time::timeout(SOON, wire.reply())
        .await
        .expect("a reply in time")
        .unwrap()
}

/// So many clients are blocked at a server.
async fn blocked(server: &Server, clients: &str) {
    until("clients are blocked", async || {
        server.info("blocked_clients").await.unwrap().as_deref() == Some(clients)
    })
    .await;
}

async fn hold(stage: &Stage) {
    let held = stage.ask("PROXY HOLD p s1 0 1 2000").await;
    Stage::expect(&held, "gate held epoch 0 term 1 in_flight 0 waited_us ");
}

/// The target takes over all that the source has, then serves.
async fn move_to(stage: &Stage, source: &Server, target: &Server) {
    hold(stage).await;
    blocked(source, "0").await;
    until("the target has caught up", async || {
        let there = source.info("master_repl_offset").await.unwrap();
        there.is_some() && there == target.info("slave_repl_offset").await.unwrap()
    })
    .await;
    Stage::expect(&stage.ask("PROXY PREPARE p s1 0 1").await, "gate prepared");
    target.call(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    let switch = format!("PROXY SWITCH p s1 0 1 1 {}", target.url());
    Stage::expect(&stage.ask(&switch).await, "gate switched epoch 1");
    Stage::expect(
        &stage.ask("PROXY RELEASE p s1 1 1").await,
        "gate open epoch 1",
    );
}

fn pair(key: &str, value: &str) -> Reply {
    Reply::Array(vec![Reply::bulk(key), Reply::bulk(value)])
}

#[tokio::test]
async fn case_08_a_blocked_client_gets_what_is_pushed_on_the_new_server_once() {
    let versions = [
        (Version::Redis6_2_14, Version::Redis8_2_3),
        (Version::Redis6_2_14, Version::Valkey9_1_2),
        (Version::Redis8_2_3, Version::Redis8_2_3),
    ];
    for (from, to) in versions {
        let (source, target, data) = (server(from).await, server(to).await, directory());
        let stage = Stage::start(config(data.path(), 2, &[&source])).await;
        let (mut waiter, mut other) = (stage.client().await, stage.client().await);
        let mut stream = stage.client().await;
        call(&mut other, "XADD stream 1-1 f v").await;
        target.follow(&source).await.unwrap();
        say(&mut waiter, "BLPOP list 0").await;
        say(&mut stream, "XREAD BLOCK 0 STREAMS stream $").await;
        blocked(&source, "2").await;
        move_to(&stage, &source, &target).await;
        blocked(&target, "2").await;
        assert_eq!(
            call(&mut other, "RPUSH list one two").await.as_integer(),
            Some(2)
        );
        assert_eq!(
            hear(&mut waiter).await,
            pair("list", "one"),
            "{from:?} {to:?}"
        );
        assert_eq!(
            call(&mut other, "LRANGE list 0 -1").await,
            Reply::Array(vec![Reply::bulk("two")])
        );
        call(&mut other, "XADD stream 1-2 f w").await;
        let fields = Reply::Array(vec![Reply::bulk("f"), Reply::bulk("w")]);
        let entry = Reply::Array(vec![Reply::bulk("1-2"), fields]);
        let of_stream = Reply::Array(vec![Reply::bulk("stream"), Reply::Array(vec![entry])]);
        assert_eq!(hear(&mut stream).await, Reply::Array(vec![of_stream]));
        assert_eq!(call(&mut waiter, "BLPOP list 0").await, pair("list", "two"));
    }
}

#[tokio::test]
async fn a_hundred_blocked_clients_are_served_in_the_order_in_which_they_came() {
    let (source, target, data) = (old().await, new().await, directory());
    let stage = Stage::start(config(data.path(), 1, &[&source])).await;
    let mut waiters = Vec::new();
    for number in 1..=100 {
        let mut waiter = stage.client().await;
        say(&mut waiter, "BLPOP list 0").await;
        blocked(&source, &number.to_string()).await;
        waiters.push(waiter);
    }
    target.follow(&source).await.unwrap();
    move_to(&stage, &source, &target).await;
    blocked(&target, "100").await;
    let mut other = stage.client().await;
    for number in 0..100 {
        call(&mut other, &format!("RPUSH list {number}")).await;
    }
    for (number, waiter) in waiters.iter_mut().enumerate() {
        assert_eq!(hear(waiter).await, pair("list", &number.to_string()));
    }
}

#[tokio::test]
async fn a_timeout_goes_on_while_a_shard_is_held() {
    let (source, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&source])).await;
    let (mut short, mut long) = (stage.client().await, stage.client().await);
    let began = Instant::now();
    say(&mut short, "BLPOP list 0.3").await;
    say(&mut long, "BLPOP list 0.9").await;
    blocked(&source, "2").await;
    hold(&stage).await;
    assert_eq!(hear(&mut short).await, Reply::Null);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(number(&stage.ask("PROXY GATE p s1").await, "held_sessions") == 1);
    Stage::expect(&stage.ask("PROXY RELEASE p s1 0 1").await, "gate open");
    assert_eq!(hear(&mut long).await, Reply::Null);
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(900) && took < Duration::from_millis(1_800),
        "{took:?}"
    );
}

#[tokio::test]
async fn case_06_exec_is_null_when_the_shard_moved_since_watch() {
    let (source, target, data) = (old().await, new().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&source])).await;
    let (mut wire, mut other) = (stage.client().await, stage.client().await);
    call(&mut wire, "SET k 1").await;
    target.follow(&source).await.unwrap();
    assert_eq!(call(&mut wire, "WATCH k").await, Reply::ok());
    assert_eq!(call(&mut wire, "GET k").await, Reply::bulk("1"));
    move_to(&stage, &source, &target).await;
    for (touched, expect) in [(false, None), (false, Some(1)), (true, None)] {
        if touched || expect.is_some() {
            call(&mut wire, "WATCH k").await;
        }
        if touched {
            call(&mut other, "SET k other").await;
        }
        call(&mut wire, "MULTI").await;
        call(&mut wire, "INCR hits").await;
        let expect = expect.map_or(Reply::Null, |hits| Reply::Array(vec![Reply::Integer(hits)]));
        assert_eq!(call(&mut wire, "EXEC").await, expect);
    }
    assert_eq!(call(&mut other, "GET hits").await, Reply::bulk("1"));
}

#[tokio::test]
async fn a_client_that_leaves_while_blocked_pops_nothing() {
    let (source, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&source])).await;
    let (mut gone, mut other) = (stage.client().await, stage.client().await);
    say(&mut gone, "BLPOP list 0").await;
    blocked(&source, "1").await;
    drop(gone);
    blocked(&source, "0").await;
    call(&mut other, "RPUSH list v").await;
    assert_eq!(call(&mut other, "LLEN list").await.as_integer(), Some(1));
}

#[tokio::test]
async fn a_hold_of_a_paused_server_does_not_kill_it() {
    for version in [Version::Redis6_2_14, Version::Redis8_2_3] {
        let (source, data) = (server(version).await, directory());
        let stage = Stage::start(config(data.path(), 1, &[&source])).await;
        let (mut wire, mut warm) = (stage.client().await, stage.client().await);
        call(&mut warm, "GET k").await;
        source
            .call(&["CLIENT", "PAUSE", "1500", "WRITE"])
            .await
            .unwrap();
        say(&mut wire, "BLPOP list 0").await;
        until("it is in flight", async || {
            number(&stage.ask("PROXY GATE p s1").await, "in_flight") == 1
        })
        .await;
        // An UNBLOCK of its own would abort 6.2 and 7.0: the pause ends first.
        let held = flat(&stage.ask("PROXY HOLD p s1 0 1 5000").await);
        println!("{version:?}: {held}");
        let alive = source.call(&["PING"]).await.unwrap();
        assert_eq!(alive, Reply::Simple("PONG".to_owned()));
        until("the gate is open again or held", async || {
            number(&stage.ask("PROXY GATE p s1").await, "in_flight") < 2
        })
        .await;
        stage.ask("PROXY RELEASE p s1 0 1").await;
        call(&mut warm, "RPUSH list v").await;
        assert_eq!(hear(&mut wire).await, pair("list", "v"));
    }
}
