//! Replies keep the order of their commands, whichever shard was quicker, and splits are joined in it.

use understudy_lab::AuditOptions;
use understudy_lab::wire::{Reply, encode};

use crate::stage::{SOON, Stage, call, config, directory, load, new, old};

/// Keys that differ early: fnv1a_64 leaves those that differ at the end close together on the ring.
fn key(number: u32) -> String {
    format!("{number}:key")
}

#[tokio::test]
async fn replies_of_two_shards_keep_their_order() {
    let (one, two, data) = (old().await, new().await, directory());
    let stage = Stage::start(config(data.path(), 1, &[&one, &two])).await;
    let mut wire = stage.client().await;
    // The first shard is slow from here on: what the second answers must wait for it.
    one.call(&["CLIENT", "PAUSE", "300", "ALL"]).await.unwrap();
    let mut frames = Vec::new();
    for number in 0..200 {
        encode(
            &mut frames,
            &["SET", &key(number), &format!("value{number}")],
        );
        encode(&mut frames, &["GET", &key(number)]);
    }
    wire.send(&frames).await.unwrap();
    for number in 0..200 {
        for expected in [Reply::ok(), Reply::bulk(format!("value{number}"))] {
            let reply = tokio::time::timeout(SOON, wire.reply())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(reply, expected, "at {number}");
        }
    }
    for server in [&one, &two] {
        let keys = server
            .call(&["DBSIZE"])
            .await
            .unwrap()
            .as_integer()
            .unwrap();
        assert!(keys > 20, "both shards hold keys, this one {keys}");
    }
    assert_eq!(call(&mut wire, "DBSIZE").await, Reply::Integer(200));
    let keys: Vec<String> = (0..200).rev().map(key).collect();
    let mut mget = vec!["MGET".to_owned()];
    mget.extend(keys);
    let values = wire.call(&mget).await.unwrap();
    let expected = (0..200)
        .rev()
        .map(|number| Reply::bulk(format!("value{number}")));
    assert_eq!(values, Reply::Array(expected.collect()));
    mget[0] = "DEL".into();
    assert_eq!(wire.call(&mget).await.unwrap(), Reply::Integer(200));
}

#[tokio::test]
async fn a_ledger_of_mixed_load_on_two_shards_is_clean() {
    let (one, two, data) = (old().await, old().await, directory());
    let stage = Stage::start(config(data.path(), 3, &[&one, &two])).await;
    let load = load(&stage);
    assert!(load.served(20_000, SOON).await);
    let report = load
        .stop()
        .await
        .audit(&[one.address(), two.address()], &AuditOptions::default())
        .await
        .unwrap();
    assert!(report.is_clean(), "{report:#?}");
    let written = stage.ask("PROXY STATS p s1").await.as_str_lossy().unwrap();
    assert!(written.contains("\"commands\":"), "{written}");
}
