//! Attempts that end before their commit: a source that stalls, one START and ABORT after the other, and what they leave.

use std::time::Duration;

use understudy_lab::wire::Reply;
use understudy_lab::{Cast, POOL, SceneOptions, Version};

use crate::stage::{LIMIT, all, assert_clean, options, served, under_load, verdict};

/// Longer than every wait for a server in an attempt, shorter than what clients wait.
const STALL_SECONDS: &str = "5";
const CYCLES: usize = 5;

fn one_shard() -> SceneOptions {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    wanted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_stalls_inside_the_hold_is_undone_and_may_go_again() {
    for place in ["hold:applied", "prepare:applied"] {
        let mut wanted = one_shard();
        wanted.cast = Cast::Separate { proxies: 1 };
        let failpoint = format!("{place}:stop");
        wanted
            .environment
            .push(("UNDERSTUDY_FAILPOINT".to_owned(), failpoint));
        let (scene, load) = under_load(&wanted).await;
        scene.start_upgrade(&["HOLD-MAX", "1000"]).await.unwrap();
        assert!(
            scene.control().is_frozen_within(LIMIT).await,
            "{place} was not reached: {:#?}",
            scene.status().await
        );
        // Its clients are held: nothing else is in the source's way.
        let mut wire = scene.sources[0].wire().await.unwrap();
        let mut frame = Vec::new();
        understudy_lab::wire::encode(&mut frame, &["DEBUG", "SLEEP", STALL_SECONDS]);
        wire.send(&frame).await.unwrap();
        scene.control().thaw().unwrap();
        assert_eq!(wire.reply().await.unwrap(), Reply::ok());
        let status = scene
            .wait_until("an end of the attempt", LIMIT, |status| {
                let phase = status["phase"].as_str().unwrap_or_default();
                matches!(phase, "soak" | "aborted")
            })
            .await
            .unwrap();
        served(&load).await;
        if status["phase"] == "aborted" {
            assert!(status["error"].is_string(), "{status:#}");
            // The one that sent DEBUG SLEEP may still be in the source's list.
            drop(wire);
            let retry = ["HOLD-MAX", "2000", "ACCEPT", "other-writers"];
            scene.start_upgrade(&retry).await.unwrap();
            scene.wait_for("soak", LIMIT).await.unwrap();
        }
        assert_clean(&verdict(load, &all(&scene.targets)).await);
    }
}

/// The target is ours after an abort: it needs no REPLACE, and keeps no role of a former attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_and_abort_again_and_again_leave_nothing_behind() {
    let (mut scene, load) = under_load(&one_shard()).await;
    let settings = settings_of(&scene.sources[0]).await;
    for _ in 0..CYCLES {
        scene.start_upgrade(&["CUTOVER", "manual"]).await.unwrap();
        scene
            .wait_until("verified", LIMIT, |status| {
                status["shards"][0]["waiting"] == "UPGRADE CUTOVER"
            })
            .await
            .unwrap();
        let answer = scene.call(&["UPGRADE", "ABORT", POOL]).await.unwrap();
        assert_eq!(answer, Reply::ok());
        assert_eq!(settings, settings_of(&scene.sources[0]).await);
    }
    scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    let report = verdict(load, &all(&scene.targets)).await;
    assert_clean(&report);
    // `control.snapshots_kept` of the ends before, and the one that guards this upgrade.
    let snapshots = std::fs::read_dir(scene.directory().join("serve-0/snapshots")).unwrap();
    let is_rdb = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|it| it == "rdb");
    let kept = snapshots.flatten().filter(is_rdb).count();
    assert!((1..=3 + 1).contains(&kept), "{kept} snapshots are left");
    // What CONFIG REWRITE kept of the former attempts must not come back.
    scene.targets[0].restart().await.unwrap();
    let role = scene.targets[0].info("role").await.unwrap();
    assert_eq!(role.as_deref(), Some("master"));
}

/// The settings that an upgrade touches on a source.
async fn settings_of(source: &understudy_lab::Server) -> Vec<Reply> {
    let mut found = Vec::new();
    for name in [
        "replica-read-only",
        "replica-priority",
        "repl-backlog-size",
        "repl-backlog-ttl",
        "min-replicas-to-write",
    ] {
        found.push(source.call(&["CONFIG", "GET", name]).await.unwrap());
    }
    found
}

/// A standing replica of the source is named, and may be accepted; the source's own demand for replicas is no obstacle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standing_replica_is_named_and_may_be_accepted() {
    let mut wanted = one_shard();
    wanted.server = wanted.server.set("repl-ping-replica-period", "1");
    let (scene, load) = under_load(&wanted).await;
    let replica = understudy_lab::Server::bare(Version::Redis6_2_14)
        .await
        .unwrap();
    replica.follow(&scene.sources[0]).await.unwrap();
    // The source counts it only once it has heard from it: a demand before that would refuse clients.
    let counted = tokio::time::Instant::now() + Duration::from_secs(10);
    let heard = || async {
        let info = scene.sources[0].call(&["INFO", "replication"]).await;
        let info = info.unwrap().into_bytes().unwrap();
        String::from_utf8_lossy(&info).contains("state=online")
    };
    while !heard().await {
        assert!(tokio::time::Instant::now() < counted);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let demand = ["CONFIG", "SET", "min-replicas-to-write", "1"];
    scene.sources[0].call(&demand).await.unwrap();
    let refused = scene.start_upgrade(&[]).await.unwrap_err().to_string();
    assert!(
        refused.contains("BLOCKED") && refused.contains("standing-replicas"),
        "{refused}"
    );
    scene
        .start_upgrade(&["HOLD-MAX", "2000", "ACCEPT", "standing-replicas"])
        .await
        .unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let follows = || async { scene.status().await.unwrap()["shards"][0]["way_back"].clone() };
    while follows().await != "exact" {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}
