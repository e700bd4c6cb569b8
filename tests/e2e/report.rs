//! What an operator keeps of an upgrade: `UPGRADE REPORT`, and STATUS after the end.

use serde_json::{Value, json};
use understudy_lab::{POOL, Scene, Version};

use crate::stage::{LIMIT, all, assert_clean, options, served, under_load, verdict};

async fn page(scene: &Scene) -> String {
    let answer = scene.call(&["UPGRADE", "REPORT", POOL]).await.unwrap();
    String::from_utf8(answer.into_bytes().unwrap()).unwrap()
}

async fn report(scene: &Scene) -> Value {
    let answer = scene
        .call(&["UPGRADE", "REPORT", POOL, "JSON"])
        .await
        .unwrap();
    serde_json::from_slice(&answer.into_bytes().unwrap()).unwrap()
}

async fn ends(scene: &Scene, verb: &str, phase: &str) -> Value {
    let answer = scene.call(&["UPGRADE", verb, POOL]).await.unwrap();
    assert_eq!(answer, understudy_lab::wire::Reply::ok(), "{verb}");
    let status = scene
        .wait_until(phase, LIMIT, |status| status["phase"] == phase)
        .await
        .unwrap();
    status["shards"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_says_what_was_done_and_which_line_to_change() {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    let (scene, load) = under_load(&wanted).await;
    scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    served(&load).await;

    let shard = ends(&scene, "ROLLBACK", "rolled_back").await;
    assert_eq!(shard["way_back"], "gone", "{shard:#}");
    let reason = shard["way_back_reason"].as_str().unwrap();
    assert!(reason.contains("it was taken"), "{reason}");
    let (source, target) = (scene.sources[0].url(), scene.targets[0].url());
    let rolled_back = report(&scene).await;
    let line = format!("set the primary of shard s1 to {source}");
    assert_eq!(rolled_back["shards"][0]["config"], line.as_str());

    scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    served(&load).await;
    let shard = ends(&scene, "FINALIZE", "finalized").await;
    assert_eq!(shard["way_back"], "gone", "{shard:#}");
    let reason = shard["way_back_reason"].as_str().unwrap();
    assert!(reason.contains("FINALIZE closed it"), "{reason}");

    let report = report(&scene).await;
    assert_eq!(report["pool"], POOL);
    assert_eq!(report["phase"], "finalized");
    let upgrades = report["upgrades"].as_array().unwrap();
    assert_eq!(upgrades.len(), 2, "{report:#}");
    for upgrade in upgrades {
        assert_eq!(upgrade["options"]["hold_max_ms"], 2000, "{upgrade:#}");
    }
    let shard = &report["shards"][0];
    for (field, value) in [
        ("shard", json!("s1")),
        ("phase", json!("finalized")),
        ("source", json!(source)),
        ("target", json!(target)),
        ("differences", json!(0)),
        ("way_back", json!("gone")),
        ("error", Value::Null),
        ("by_hand", json!([])),
        (
            "config",
            json!(format!("set the primary of shard s1 to {target}")),
        ),
    ] {
        assert_eq!(shard[field], value, "{field}: {shard:#}");
    }
    assert!(shard["keys_verified"].as_u64().unwrap() > 0, "{shard:#}");
    assert!(shard["hold_ms"].as_f64().unwrap() > 0.0, "{shard:#}");
    assert_eq!(shard["snapshot"]["server"], source.as_str(), "{shard:#}");
    let committed = shard["attempt"]["committed_offset"].as_u64();
    assert!(committed.is_some_and(|offset| offset > 0), "{shard:#}");
    let notes = shard["notes"].to_string();
    assert!(
        notes.contains(": hold ") && notes.contains("drain"),
        "{notes}"
    );
    let page = page(&scene).await;
    let snapshot = shard["snapshot"]["id"].as_str().unwrap();
    for line in [
        format!("pool {POOL}: finalized"),
        "upgrade 2 of s1".to_owned(),
        "  cutover      auto, hold at most 2000 ms".to_owned(),
        "shard s1: finalized".to_owned(),
        format!("  target       {target}"),
        format!("  config       set the primary of shard s1 to {target}"),
    ] {
        assert!(
            page.lines().any(|it| it == line),
            "no line '{line}' in\n{page}"
        );
    }
    for part in [
        snapshot,
        " differences",
        "longest gap",
        "FINALIZE closed it",
    ] {
        assert!(page.contains(part), "no '{part}' in\n{page}");
    }
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}
