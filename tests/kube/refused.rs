//! Without a snapshot that is ready and verified no client is moved, and none of them notices.

use std::path::PathBuf;
use std::sync::Arc;

use understudy_lab::{Cluster, Fate, POOL};

use crate::stage::{By, LIMIT, Stage, assert_clean, on_cluster, served, step, stopped};

/// As the snapshot controller says it; the recipe knows that it stays so.
const REFUSED: &str = "Failed to create snapshot content with error cannot find CSI PersistentVolumeSource for volume pvc-1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_fails_or_flips_back_lets_nothing_cut_over_and_clients_see_nothing() {
    on_cluster("refused", refused).await;
}

async fn refused(cluster: Arc<Cluster>, kubeconfig: PathBuf) {
    let stage = Stage::start(&cluster, &kubeconfig, 1, By::Control, None).await;
    let load = stage.load("refused:").await;
    cluster.snapshots(Fate::Fails(REFUSED.to_owned()));
    let start = ["SNAPSHOT", "csi", "CUTOVER", "manual"];
    stage.scene.start_upgrade(&start).await.unwrap();
    let status = stage
        .scene
        .wait_until("aborted", LIMIT, |status| status["phase"] == "aborted")
        .await
        .unwrap();
    let error = status["shards"][0]["error"].as_str().unwrap_or_default();
    let told = error.contains("VolumeSnapshot") && error.contains(REFUSED);
    assert!(told, "{status:#}");
    assert_eq!(stage.records_of(&stage.scene.sources[0]).len(), 0);
    served(&load).await;
    step(&format!(
        "a snapshot that fails aborts the upgrade: {error}"
    ));

    cluster.snapshots(Fate::Ready);
    stage.scene.start_upgrade(&start).await.unwrap();
    stage
        .shard_until(0, "verified", |row| row["waiting"] == "UPGRADE CUTOVER")
        .await;
    cluster.snapshots(Fate::Slow);
    cluster.until_ready(0).await.unwrap();
    stage.say(&["UPGRADE", "CUTOVER", POOL]).await;
    let row = stage
        .shard_until(0, "a wait for another snapshot", |row| {
            let waiting = row["waiting"].as_str().unwrap_or_default();
            waiting.contains("VolumeSnapshot") && waiting.contains("until it is ready")
        })
        .await;
    assert_eq!(row["epoch"], 0, "{row:#}");
    served(&load).await;
    step(&format!(
        "one that flips back guards no cutover, and another one is taken: {}",
        row["waiting"]
    ));
    stage.say(&["UPGRADE", "ABORT", POOL]).await;
    stage
        .scene
        .wait_until("aborted", LIMIT, |status| status["phase"] == "aborted")
        .await
        .unwrap();
    let ledger = stopped(load).await;
    let report = assert_clean(&ledger, &[&stage.scene.sources[0]]).await;
    step(&format!(
        "nothing was cut over: {} acknowledged writes, 0 client errors, 0 lost",
        report.acknowledged_writes
    ));
}
