//! Values that are on their way while control moves their shard.

use understudy_lab::wire::{Reply, Wire, encode};

use crate::stage::{SOON, Stage, call, config, directory, flat, new, number, old, until};

const MIB: usize = 1 << 20;

/// `SET key value`, cut where a part of the value is still to come.
fn halves(key: &str, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut frame = Vec::new();
    encode(&mut frame, &[b"SET", key.as_bytes(), value]);
    let rest = frame.split_off(frame.len() / 2);
    (frame, rest)
}

fn value() -> Vec<u8> {
    (0..8 * MIB).map(|at| (at / 7 + at / 4096) as u8).collect()
}

async fn hear(wire: &mut Wire) -> Reply {
    tokio::time::timeout(SOON, wire.reply())
        .await
        .expect("a reply in time")
        .unwrap()
}

#[tokio::test]
async fn hazard_28_a_value_that_is_half_sent_keeps_a_hold_waiting_and_moves_with_its_shard() {
    let (source, target, data) = (old().await, new().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&source])).await;
    let (mut slow, mut neighbour) = (stage.client().await, stage.client().await);
    let value = value();
    let (begin, rest) = halves("huge", &value);
    slow.send(&begin).await.unwrap();
    until("the value is on its way", async || {
        number(&stage.ask("PROXY GATE p s1").await, "in_flight") == 1
    })
    .await;
    for round in 1..=20 {
        let counted = call(&mut neighbour, "INCR k").await;
        assert_eq!(counted.as_integer(), Some(round), "nobody waits for it");
    }
    let refused = flat(&stage.ask("PROXY HOLD p s1 0 1 100").await);
    assert!(refused.starts_with("-NOTHELD worker "), "{refused}");
    assert!(
        refused.contains(" in flight 1: a command of client ")
            && refused.contains(" (127.0.0.1:")
            && refused.contains(") is not sent to its end after "),
        "{refused}"
    );
    Stage::expect(&stage.ask("PROXY GATE p s1").await, "gate open");

    // The next hold waits for the rest, which comes meanwhile.
    target.follow(&source).await.unwrap();
    let (held, ()) = tokio::join!(stage.ask("PROXY HOLD p s1 0 2 2000"), async {
        slow.send(&rest).await.unwrap();
    });
    Stage::expect(&held, "gate held epoch 0 term 2 in_flight 0 waited_us ");
    assert_eq!(hear(&mut slow).await, Reply::ok());
    until("the target has caught up", async || {
        let there = source.info("master_repl_offset").await.unwrap();
        there.is_some() && there == target.info("slave_repl_offset").await.unwrap()
    })
    .await;
    Stage::expect(&stage.ask("PROXY PREPARE p s1 0 2").await, "gate prepared");
    // What begins now waits at the gate, and goes to the new server from its first byte.
    let (begin, rest) = halves("later", &value);
    slow.send(&begin[..100 << 10]).await.unwrap();
    target.call(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    let switch = format!("PROXY SWITCH p s1 0 2 1 {}", target.url());
    Stage::expect(&stage.ask(&switch).await, "gate switched epoch 1");
    Stage::expect(
        &stage.ask("PROXY RELEASE p s1 1 2").await,
        "gate open epoch 1",
    );
    slow.send(&begin[100 << 10..]).await.unwrap();
    slow.send(&rest).await.unwrap();
    assert_eq!(hear(&mut slow).await, Reply::ok());
    for key in ["huge", "later"] {
        let found = target.call(&["GET", key]).await.unwrap().into_bytes();
        assert!(found.as_deref() == Some(&value), "{key} at the new server");
        let found = call(&mut slow, &format!("GET {key}")).await.into_bytes();
        assert!(found.as_deref() == Some(&value), "{key} by the proxy");
    }
    assert_eq!(
        source
            .call(&["EXISTS", "later"])
            .await
            .unwrap()
            .as_integer(),
        Some(0)
    );
}

#[tokio::test]
async fn a_server_that_dies_under_a_half_sent_value_ends_that_command_and_not_its_client() {
    let (mut source, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 1, &[&source])).await;
    let mut slow = stage.client().await;
    let value = value();
    let (begin, rest) = halves("huge", &value);
    slow.send(&begin).await.unwrap();
    until("the value is on its way", async || {
        number(&stage.ask("PROXY GATE p s1").await, "in_flight") == 1
    })
    .await;
    source.kill9().unwrap();
    match hear(&mut slow).await {
        Reply::Error(text) => assert!(text.starts_with("ERR not executed"), "{text}"),
        other => panic!("{other:?}"),
    }
    source.restart().await.unwrap();
    slow.send(&rest).await.unwrap();
    assert_eq!(call(&mut slow, "PING").await, Reply::Simple("PONG".into()));
    assert_eq!(
        call(&mut slow, "EXISTS huge").await.as_integer(),
        Some(0),
        "half a command is none"
    );
}
