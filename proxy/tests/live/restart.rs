//! A proxy that was killed comes back where its orders had left it.

use std::time::Duration;

use understudy_lab::wire::Reply;

use crate::stage::{Stage, call, config, directory, flat, new, old, until};

/// Drops the proxy without any farewell; what is left is what SIGKILL would leave.
async fn killed(stage: Stage) {
    drop(stage);
}

#[tokio::test]
async fn a_switched_shard_is_on_its_new_server_after_a_restart() {
    let (source, target, data) = (old().await, new().await, directory());
    let file = config(data.path(), 2, &[&source]);
    let stage = Stage::start(file.clone()).await;
    stage.ask("PROXY HOLD p s1 0 4 1000").await;
    stage.ask("PROXY PREPARE p s1 0 4").await;
    Stage::expect(
        &stage
            .ask(&format!("PROXY SWITCH p s1 0 4 1 {}", target.url()))
            .await,
        "gate switched",
    );
    killed(stage).await;
    let stage = Stage::start(file).await;
    let mut wire = stage.client().await;
    assert_eq!(call(&mut wire, "SET after restart").await, Reply::ok());
    assert_eq!(
        target.call(&["GET", "after"]).await.unwrap(),
        Reply::bulk("restart")
    );
    assert_eq!(source.call(&["DBSIZE"]).await.unwrap(), Reply::Integer(0));
    Stage::expect(&stage.ask("PROXY GATE p s1").await, "gate open epoch 1");
    // Control does not know how far it got: it repeats itself.
    Stage::expect(
        &stage.ask("PROXY RELEASE p s1 1 4").await,
        "gate open epoch 1 term 4",
    );
    Stage::expect(
        &stage.ask("PROXY HOLD p s1 1 3 1000").await,
        "-STALETERM shard s1 has seen term 4, this is 3",
    );
}

#[tokio::test]
async fn a_prepared_shard_is_held_after_a_restart_until_it_is_released() {
    let (source, data) = (old().await, directory());
    let file = config(data.path(), 2, &[&source]);
    let stage = Stage::start(file.clone()).await;
    stage.ask("PROXY HOLD p s1 0 4 1000").await;
    Stage::expect(&stage.ask("PROXY PREPARE p s1 0 4").await, "gate prepared");
    let before = stage.proxy.instance().to_owned();
    killed(stage).await;
    let stage = Stage::start(file).await;
    assert_ne!(stage.proxy.instance(), before);
    Stage::expect(
        &stage.ask("PROXY GATE p s1").await,
        "gate prepared epoch 0 term 4",
    );
    let mut wire = stage.client().await;
    let waiting = tokio::spawn(async move { call(&mut wire, "SET k 1").await });
    until("the command is held", async || {
        flat(&stage.ask("PROXY GATE p s1").await).contains("held_sessions 1")
    })
    .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    Stage::expect(
        &stage.ask("PROXY RELEASE p s1 0 4").await,
        "gate open epoch 0 term 4",
    );
    assert_eq!(waiting.await.unwrap(), Reply::ok());
}

#[tokio::test]
async fn a_shard_that_was_only_held_starts_open() {
    let (source, data) = (old().await, directory());
    let file = config(data.path(), 2, &[&source]);
    let stage = Stage::start(file.clone()).await;
    Stage::expect(&stage.ask("PROXY HOLD p s1 0 4 2000").await, "gate held");
    killed(stage).await;
    let stage = Stage::start(file).await;
    Stage::expect(&stage.ask("PROXY GATE p s1").await, "gate open epoch 0");
    assert_eq!(
        call(&mut stage.client().await, "SET k 1").await,
        Reply::ok()
    );
}

#[tokio::test]
async fn routes_that_cannot_be_read_stop_the_start() {
    let (source, data) = (old().await, directory());
    std::fs::write(data.path().join("routes.json"), "{\"form\":1,\"shards\":").unwrap();
    let file = config(data.path(), 1, &[&source]);
    let refused =
        understudy_proxy::Proxy::start(file.into(), understudy_proxy::ConfigSource::Fixed).await;
    let why = refused.err().unwrap().to_string();
    assert!(why.contains("routes.json cannot be understood"), "{why}");
}
