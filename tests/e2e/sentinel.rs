//! A real Sentinel beside an upgrade: before it, from its middle on, and in soak.
//!
//! It may undo what an upgrade did, and it may send the old server to the new one without the guard between them. No upgrade
//! begins and no attempt starts under its eyes; where it comes too late for that, there are never two primaries all the same,
//! and the old server keeps its data.

use understudy_lab::wire::Reply;
use understudy_lab::{Cast, POOL, Scene, SceneOptions, Sentinel, Version};

use crate::crash;
use crate::probe::Probe;
use crate::stage::{LIMIT, all, assert_clean, options, served, under_load, verdict};

fn one_shard() -> SceneOptions {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    wanted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_17_a_sentinel_is_named_and_is_never_accepted() {
    let (scene, load) = under_load(&one_shard()).await;
    let sentinel = Sentinel::over(&scene.sources[0]).await.unwrap();
    for more in [&[] as &[&str], &["ACCEPT", "sentinel", "other-writers"]] {
        let refused = scene.start_upgrade(more).await.unwrap_err().to_string();
        assert!(
            refused.contains("BLOCKED") && refused.contains("sentinel (shard s1)"),
            "{refused}"
        );
    }
    assert_eq!(sentinel.remove().await.unwrap(), Reply::ok());
    scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_17_no_attempt_starts_under_a_sentinel_that_came_after_the_plan() {
    let (scene, load) = under_load(&one_shard()).await;
    let start = ["CUTOVER", "manual", "HOLD-MAX", "2000"];
    scene.start_upgrade(&start).await.unwrap();
    let waits = |status: &serde_json::Value| status["shards"][0]["waiting"] == "UPGRADE CUTOVER";
    scene.wait_until("verified", LIMIT, waits).await.unwrap();
    let sentinel = Sentinel::over(&scene.sources[0]).await.unwrap();
    scene.call(&["UPGRADE", "CUTOVER", POOL]).await.unwrap();
    let named = |status: &serde_json::Value| {
        let error = status["shards"][0]["error"].as_str().unwrap_or_default();
        error.contains("a Sentinel watches") && error.contains("SENTINEL REMOVE")
    };
    scene
        .wait_until("the Sentinel", LIMIT, named)
        .await
        .unwrap();
    scene.wait_until("verified", LIMIT, waits).await.unwrap();
    assert_eq!(sentinel.remove().await.unwrap(), Reply::ok());
    scene.call(&["UPGRADE", "CUTOVER", POOL]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

/// It comes when the attempt has looked for one already, and sees the roles change under its eyes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_17_a_sentinel_that_comes_inside_the_hold_makes_no_two_primaries() {
    for place in ["hold:applied", "promote:applied"] {
        let (scene, load) = under_load(&crash::wanted_with(format!("{place}:stop"))).await;
        let probe = Probe::start(&scene.sources[0], &scene.targets[0]).await;
        assert!(crash::start(&scene, place).await);
        assert!(scene.control().is_frozen_within(LIMIT).await, "{place}");
        let sentinel = Sentinel::over(&scene.sources[0]).await.unwrap();
        if place == "promote:applied" {
            // The server that it was told of says that it is a replica, and there is nobody whom it could promote.
            sentinel.says("+sdown master").await.unwrap();
            sentinel
                .says("-failover-abort-no-good-slave")
                .await
                .unwrap();
        }
        scene.control().thaw().unwrap();
        crash::finish(scene, load, probe, place).await;
        drop(sentinel);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_17_a_sentinel_in_soak_is_named_and_the_old_server_stays_behind_the_guard() {
    let mut wanted = one_shard();
    wanted.cast = Cast::Separate { proxies: 1 };
    let (scene, load) = under_load(&wanted).await;
    scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    let probe = Probe::start(&scene.sources[0], &scene.targets[0]).await;
    let before = follows(&scene).await;
    let over_source = Sentinel::over(&scene.sources[0]).await.unwrap();
    let over_target = Sentinel::over(&scene.targets[0]).await.unwrap();
    let named = |status: &serde_json::Value| {
        let warnings = status["shards"][0]["warnings"].to_string();
        warnings.contains("a Sentinel watches the source") && warnings.contains("the target")
    };
    scene
        .wait_until("the Sentinels", LIMIT, named)
        .await
        .unwrap();
    over_source.says("+sdown master").await.unwrap();
    over_source
        .says("-failover-abort-no-good-slave")
        .await
        .unwrap();
    // What it takes for a replica of the new server is the guard's connection: nobody it could send elsewhere.
    over_target.says("+slave slave").await.unwrap();
    over_target.says("+sdown slave").await.unwrap();
    assert!(
        !over_target.log().contains("+fix-slave-config"),
        "{}",
        over_target.log()
    );
    assert_eq!(before, follows(&scene).await);
    served(&load).await;
    // Nor does a rollback start.
    scene.call(&["UPGRADE", "ROLLBACK", POOL]).await.unwrap();
    let refused = |status: &serde_json::Value| {
        let error = status["shards"][0]["error"].as_str().unwrap_or_default();
        error.contains("rollback") && error.contains("a Sentinel watches")
    };
    scene
        .wait_until("the refusal", LIMIT, refused)
        .await
        .unwrap();
    probe
        .assert_one_primary_at_a_time("a Sentinel in soak")
        .await;
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

/// Whom the old server follows.
async fn follows(scene: &Scene) -> (Option<String>, Option<String>) {
    let source = &scene.sources[0];
    (
        source.info("master_host").await.unwrap(),
        source.info("master_port").await.unwrap(),
    )
}
