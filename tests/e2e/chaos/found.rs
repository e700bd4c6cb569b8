//! What schedules of chance have found, each as small as it gets.

use serde_json::Value;
use understudy_lab::wire::Reply;
use understudy_lab::{Cast, POOL, Scene, ServerOptions, Version};

use crate::stage::{LIMIT, all, assert_clean, options, under_load, verdict};

/// Control's connections are kept between verbs. Proxies and servers end them: by a restart, by `timeout`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_ended_while_nobody_used_them_fail_no_verb() {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.cast = Cast::Separate { proxies: 2 };
    wanted.shards = 1;
    let (mut scene, load) = under_load(&wanted).await;
    scene.start_upgrade(&["CUTOVER", "manual"]).await.unwrap();
    let waits = |status: &Value| status["shards"][0]["waiting"] == "UPGRADE CUTOVER";
    scene.wait_until("verified", LIMIT, waits).await.unwrap();
    let abort = ["UPGRADE", "ABORT", POOL];
    assert_eq!(scene.call(&abort).await.unwrap(), Reply::ok());
    assert_clean(&verdict(load, &all(&scene.sources)).await);
    // Nobody else is in these lists now whom it would hurt.
    for server in scene.sources.iter().chain(&scene.targets) {
        let kill = ["CLIENT", "KILL", "TYPE", "normal"];
        server.call(&kill).await.unwrap();
    }
    for proxy in &mut scene.proxies {
        proxy.kill().unwrap();
        proxy.restart(&[]).await.unwrap();
    }
    scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    for proxy in &mut scene.proxies {
        proxy.kill().unwrap();
        proxy.restart(&[]).await.unwrap();
    }
    let rollback = ["UPGRADE", "ROLLBACK", POOL];
    assert_eq!(scene.call(&rollback).await.unwrap(), Reply::ok());
    let back = |status: &Value| {
        let shard = &status["shards"][0];
        shard["phase"] == "rolled_back" || shard["error"].is_string()
    };
    let status = scene.wait_until("an end", LIMIT, back).await.unwrap();
    assert_eq!(status["phase"], "rolled_back", "{status:#}");
}

/// It comes back as a primary with its data, or empty, and follows nobody: there is nothing to compare, it is copied again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_restarted_before_the_cutover_is_copied_again() {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    wanted.server = ServerOptions::new().set("save", "3600 1");
    let (mut scene, load) = under_load(&wanted).await;
    let manual = ["CUTOVER", "manual", "HOLD-MAX", "2000"];
    scene.start_upgrade(&manual).await.unwrap();
    let waits = |status: &Value| status["shards"][0]["waiting"] == "UPGRADE CUTOVER";
    scene.wait_until("verified", LIMIT, waits).await.unwrap();
    scene.targets[0].restart().await.unwrap();
    // A cutover that comes before control has noticed sends it back to the comparison.
    loop {
        let next = |status: &Value| status["phase"] == "soak" || waits(status);
        let status = scene.wait_until("ready", LIMIT, next).await.unwrap();
        if status["phase"] == "soak" {
            break;
        }
        let cutover = ["UPGRADE", "CUTOVER", POOL];
        scene.call(&cutover).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

/// PLAN would otherwise tell an operator to grant rights that the login has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_while_a_server_is_asked_is_no_lack_of_rights() {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    wanted.relays = true;
    wanted.cast = Cast::Separate { proxies: 1 };
    let scene = Scene::start(&wanted).await.unwrap();
    let target = format!("s1={}", scene.relays.targets[0].url());
    let plan = ["UPGRADE", "PLAN", POOL, "TO", &target];
    for bytes in (50..1_500).step_by(75) {
        scene.relays.sources[0].cut_after(bytes);
        let answer = format!("{:?}", scene.call(&plan).await.unwrap());
        assert!(!answer.contains("may not use"), "{bytes}: {answer}");
        scene.relays.sources[0].cut();
    }
}

/// Its target is left behind already when control dies: what was verified is no more, and the operator had said ABORT.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_that_is_interrupted_by_a_crash_is_gone_on_with() {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    wanted.cast = Cast::Separate { proxies: 1 };
    let failpoint = "retire:applied:kill".to_owned();
    let named = "UNDERSTUDY_FAILPOINT".to_owned();
    wanted.environment.push((named, failpoint));
    let (mut scene, load) = under_load(&wanted).await;
    scene.start_upgrade(&["CUTOVER", "manual"]).await.unwrap();
    let waits = |status: &Value| status["shards"][0]["waiting"] == "UPGRADE CUTOVER";
    scene.wait_until("verified", LIMIT, waits).await.unwrap();
    let answer = scene.call(&["UPGRADE", "ABORT", POOL]).await;
    assert!(answer.is_err(), "{answer:?}");
    scene.control_mut().wait_for_end(LIMIT).await.unwrap();
    scene.control_mut().restart(&[]).await.unwrap();
    let ended = |status: &Value| status["phase"] == "aborted";
    let status = scene.wait_until("aborted", LIMIT, ended).await.unwrap();
    assert_eq!(
        status["shards"][0]["error"], "aborted by the operator",
        "{status:#}"
    );
    assert_clean(&verdict(load, &all(&scene.sources)).await);
}

/// The second snapshot is the rollback's: nothing has moved, and the operator was told OK.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_that_is_interrupted_by_a_crash_is_told_and_may_be_asked_for_again() {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    wanted.cast = Cast::Separate { proxies: 1 };
    let failpoint = "take-snapshot:begun:kill:2".to_owned();
    let named = "UNDERSTUDY_FAILPOINT".to_owned();
    wanted.environment.push((named, failpoint));
    let (mut scene, load) = under_load(&wanted).await;
    scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    let rollback = ["UPGRADE", "ROLLBACK", POOL];
    assert_eq!(scene.call(&rollback).await.unwrap(), Reply::ok());
    scene.control_mut().wait_for_end(LIMIT).await.unwrap();
    scene.control_mut().restart(&[]).await.unwrap();
    let told = |status: &Value| {
        let error = status["shards"][0]["error"].as_str().unwrap_or_default();
        status["phase"] == "soak" && error.contains("say UPGRADE ROLLBACK again")
    };
    scene.wait_until("told", LIMIT, told).await.unwrap();
    let exact = |status: &Value| status["shards"][0]["way_back"] == "exact";
    scene.wait_until("exact", LIMIT, exact).await.unwrap();
    assert_eq!(scene.call(&rollback).await.unwrap(), Reply::ok());
    let back = |status: &Value| status["phase"] == "rolled_back";
    scene.wait_until("rolled back", LIMIT, back).await.unwrap();
    assert_clean(&verdict(load, &all(&scene.sources)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_that_fails_leaves_a_shard_that_says_it_waits_for_cutover() {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    let failpoint = "pause:applied:error".to_owned();
    let named = "UNDERSTUDY_FAILPOINT".to_owned();
    wanted.environment.push((named, failpoint));
    let scene = Scene::start(&wanted).await.unwrap();
    scene.start_upgrade(&["CUTOVER", "manual"]).await.unwrap();
    let waits = |status: &Value| status["shards"][0]["waiting"] == "UPGRADE CUTOVER";
    scene.wait_until("verified", LIMIT, waits).await.unwrap();
    let rehearsed = scene.call(&["UPGRADE", "REHEARSE", POOL]).await.unwrap();
    assert!(matches!(rehearsed, Reply::Error(_)), "{rehearsed}");
    scene.wait_until("waiting", LIMIT, waits).await.unwrap();
}
