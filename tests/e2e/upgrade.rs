//! A pool is upgraded, rolled back, aborted and finalized under load.

use understudy_lab::wire::Reply;
use understudy_lab::{POOL, Version};

use crate::stage::{LIMIT, all, assert_clean, assert_quiet, options, served, under_load, verdict};

async fn upgrades_cleanly(from: Version, to: Version) {
    let (scene, load) = under_load(&options(from, to)).await;
    scene.start_upgrade(&[]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    served(&load).await;
    scene.call(&["UPGRADE", "FINALIZE", POOL]).await.unwrap();
    scene.wait_for("finalized", LIMIT).await.unwrap();
    assert_clean(&verdict(load, &all(&scene.targets)).await);
    // A machine that is busy beside the test makes the latency of soak worth a warning.
    assert_quiet(&scene, &["p99 is"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_shards_go_from_6_2_to_8_2_under_load() {
    upgrades_cleanly(Version::Redis6_2_14, Version::Redis8_2_3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_shards_go_from_6_2_to_valkey_9_1_under_load() {
    upgrades_cleanly(Version::Redis6_2_14, Version::Valkey9_1_2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_shards_go_from_7_0_to_valkey_8_1_under_load() {
    upgrades_cleanly(Version::Redis7_0_15, Version::Valkey8_1_8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_rolls_back_and_goes_forward_again_without_a_loss() {
    let (scene, load) = under_load(&options(Version::Redis6_2_14, Version::Redis8_2_3)).await;
    scene.start_upgrade(&[]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    served(&load).await;
    let answer = scene.call(&["UPGRADE", "ROLLBACK", POOL]).await.unwrap();
    assert!(!matches!(answer, Reply::Error(_)), "{answer:?}");
    scene
        .wait_until("rolled back", LIMIT, |status| {
            status["phase"] == "rolled_back"
        })
        .await
        .unwrap();
    served(&load).await;
    scene.start_upgrade(&[]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_20_after_finalize_the_old_server_refuses_writes() {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    let (scene, load) = under_load(&wanted).await;
    scene.start_upgrade(&[]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    scene.call(&["UPGRADE", "FINALIZE", POOL]).await.unwrap();
    scene.wait_for("finalized", LIMIT).await.unwrap();
    let answer = scene.sources[0].call(&["SET", "stray", "1"]).await.unwrap();
    assert!(
        matches!(&answer, Reply::Error(text) if text.starts_with("READONLY")),
        "{answer:?}"
    );
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_before_the_cutover_leaves_everything_as_it_was() {
    let (scene, load) = under_load(&options(Version::Redis6_2_14, Version::Redis8_2_3)).await;
    scene.start_upgrade(&["CUTOVER", "manual"]).await.unwrap();
    scene
        .wait_until("verified", LIMIT, |status| {
            status["shards"][0]["phase"] == "cutover"
        })
        .await
        .unwrap();
    scene.call(&["UPGRADE", "ABORT", POOL]).await.unwrap();
    scene
        .wait_until("aborted", LIMIT, |status| status["phase"] == "aborted")
        .await
        .unwrap();
    assert_clean(&verdict(load, &all(&scene.sources)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_holds_data_is_refused_by_name() {
    let (scene, load) = under_load(&options(Version::Redis6_2_14, Version::Redis8_2_3)).await;
    scene.targets[1]
        .call(&["SET", "somebody's", "data"])
        .await
        .unwrap();
    let error = scene.start_upgrade(&[]).await.unwrap_err().to_string();
    assert!(
        error.contains("BLOCKED") && error.contains("not-empty"),
        "{error}"
    );
    let kept = scene.targets[1].call(&["GET", "somebody's"]).await.unwrap();
    assert_eq!(kept, Reply::bulk("data"));
    assert_clean(&verdict(load, &all(&scene.sources)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_another_shard_claims_is_never_accepted() {
    let wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    let (scene, load) = under_load(&wanted).await;
    let (target, neighbour) = (scene.targets[0].url(), scene.sources[1].url());
    let twice = [format!("s1={target}"), format!("s2={target}")];
    let serving = [format!("s1={neighbour}"), "REPLACE".to_owned()];
    for words in [&twice, &serving] {
        let mut command = vec!["UPGRADE", "START", POOL, "TO"];
        command.extend(words.iter().map(String::as_str));
        let answer = scene.call(&command).await.unwrap();
        let refused = matches!(&answer, Reply::Error(text) if text.starts_with("BLOCKED") && text.contains("target-claimed"));
        assert!(refused, "{words:?}: {answer:?}");
    }
    assert_clean(&verdict(load, &all(&scene.sources)).await);
}
