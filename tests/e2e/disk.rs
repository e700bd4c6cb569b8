//! A disk that takes nothing more: the journal's, the routes', the snapshot's, the log's. Each says so, whatever was begun is
//! undone, no client notices, and it goes on when there is room.

use serde_json::Value;
use understudy_lab::wire::Reply;
use understudy_lab::{Cast, Load, POOL, Scene, SceneOptions, Version};

use crate::stage::{LIMIT, all, assert_clean, options, served, under_load, verdict};

/// No file may grow beyond this: less than a journal, a snapshot or a log already has.
const FULL: Option<u64> = Some(64);

fn one_shard() -> SceneOptions {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    wanted.cast = Cast::Separate { proxies: 1 };
    wanted
}

async fn waits_for_cutover(scene: &Scene) {
    scene
        .wait_until("verified", LIMIT, |status| {
            status["shards"][0]["waiting"] == "UPGRADE CUTOVER"
        })
        .await
        .unwrap();
}

/// Room again: the upgrade is brought to its soak, from wherever it stands, and nothing was noticed.
async fn goes_through(scene: &Scene, load: Load) {
    served(&load).await;
    let status = scene
        .wait_until("a state to go on from", LIMIT, |status| {
            status["phase"] == "aborted" || status["shards"][0]["waiting"] == "UPGRADE CUTOVER"
        })
        .await
        .unwrap();
    if status["phase"] == "aborted" {
        scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    } else {
        scene.call(&["UPGRADE", "CUTOVER", POOL]).await.unwrap();
    }
    scene.wait_for("soak", LIMIT).await.unwrap();
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

/// What STATUS says is wrong.
async fn error(scene: &Scene) -> Value {
    scene
        .wait_until("an error", LIMIT, |status| status["error"].is_string())
        .await
        .unwrap()["error"]
        .clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_journal_refuses_start_and_stops_a_cutover_before_the_hold() {
    let (scene, load) = under_load(&one_shard()).await;
    scene.control().limit_files(FULL).unwrap();
    let refused = scene.start_upgrade(&[]).await.unwrap_err().to_string();
    assert!(refused.contains("disk is full"), "{refused}");
    scene.control().limit_files(None).unwrap();
    scene
        .start_upgrade(&["CUTOVER", "manual", "HOLD-MAX", "2000"])
        .await
        .unwrap();
    waits_for_cutover(&scene).await;
    scene.control().limit_files(FULL).unwrap();
    let told = scene.call(&["UPGRADE", "CUTOVER", POOL]).await.unwrap();
    assert_eq!(told, Reply::ok());
    let said = error(&scene).await;
    assert!(said.to_string().contains("disk is full"), "{said}");
    scene.control().limit_files(None).unwrap();
    goes_through(&scene, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_is_full_at_the_commit_is_undone() {
    let mut wanted = one_shard();
    let failpoint = "unpark:applied:stop".to_owned();
    wanted
        .environment
        .push(("UNDERSTUDY_FAILPOINT".to_owned(), failpoint));
    let (scene, load) = under_load(&wanted).await;
    scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    assert!(scene.control().is_frozen_within(LIMIT).await);
    scene.control().limit_files(FULL).unwrap();
    scene.control().thaw().unwrap();
    let said = error(&scene).await;
    assert!(said.to_string().contains("disk is full"), "{said}");
    // With the disk still full.
    served(&load).await;
    let role = scene.sources[0].info("role").await.unwrap();
    assert_eq!(role.as_deref(), Some("master"));
    scene.control().limit_files(None).unwrap();
    goes_through(&scene, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_whose_disk_is_full_ends_the_attempt() {
    let (scene, load) = under_load(&one_shard()).await;
    scene
        .start_upgrade(&["CUTOVER", "manual", "HOLD-MAX", "2000"])
        .await
        .unwrap();
    waits_for_cutover(&scene).await;
    scene.proxies[0].limit_files(FULL).unwrap();
    scene.call(&["UPGRADE", "CUTOVER", POOL]).await.unwrap();
    let said = error(&scene).await;
    assert!(said.to_string().contains("route was not written"), "{said}");
    served(&load).await;
    scene.proxies[0].limit_files(None).unwrap();
    goes_through(&scene, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_finds_no_room_ends_the_attempt() {
    /// More than the journal needs, less than the snapshot does.
    const ROOM: u64 = 6 << 20;
    let (scene, load) = under_load(&one_shard()).await;
    let fill = "for i = 1, 200 do redis.call('SET', 'big:'..i, string.rep(tostring(math.random()), 6000)) end";
    scene.sources[0].call(&["EVAL", fill, "0"]).await.unwrap();
    let as_it_is = ["CONFIG", "SET", "rdbcompression", "no"];
    scene.sources[0].call(&as_it_is).await.unwrap();
    scene.control().limit_files(Some(ROOM)).unwrap();
    let started = scene.start_upgrade(&["HOLD-MAX", "2000"]).await;
    assert!(started.is_ok(), "{started:?}");
    let status = scene
        .wait_until("aborted", LIMIT, |status| status["phase"] == "aborted")
        .await
        .unwrap();
    let said = status["error"].to_string();
    assert!(said.contains("snapshot"), "{said}");
    scene.control().limit_files(None).unwrap();
    goes_through(&scene, load).await;
}
