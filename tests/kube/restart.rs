//! Control dies while a snapshot is taken: the run is taken up again, and there is one VolumeSnapshot for it.

use std::path::PathBuf;
use std::sync::Arc;

use understudy_lab::{Cluster, Fate};

use crate::stage::{By, LIMIT, Stage, assert_clean, on_cluster, served, step, stopped};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_killed_in_the_middle_of_a_snapshot_takes_no_second_one() {
    on_cluster(
        "middle",
        async |cluster: Arc<Cluster>, kubeconfig: PathBuf| {
            cluster.snapshots(Fate::Slow);
            let mut stage = Stage::start(&cluster, &kubeconfig, 1, By::Control, None).await;
            let load = stage.load("middle:").await;
            stage
                .scene
                .start_upgrade(&["SNAPSHOT", "csi"])
                .await
                .unwrap();
            cluster.until_snapshots(1).await.unwrap();
            stage.scene.control_mut().kill().unwrap();
            step("control is killed while its VolumeSnapshot is cut and not ready");
            served(&load).await;
            cluster.snapshots(Fate::Ready);
            taken_up(stage, load).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_killed_on_either_side_of_a_snapshot_takes_no_second_one() {
    for moment in ["begun", "applied"] {
        let failpoint = format!("take-snapshot:{moment}:kill");
        on_cluster(
            moment,
            async move |cluster: Arc<Cluster>, kubeconfig: PathBuf| {
                let mut stage =
                    Stage::start(&cluster, &kubeconfig, 1, By::Control, Some(&failpoint)).await;
                let load = stage.load("killed:").await;
                // It may die before it answers.
                stage.scene.start_upgrade(&["SNAPSHOT", "csi"]).await.ok();
                let ended = stage.scene.control_mut().wait_for_end(LIMIT).await.unwrap();
                assert!(ended.is_some(), "the failpoint was not reached");
                step(&format!("control is killed at {failpoint}"));
                taken_up(stage, load).await;
            },
        )
        .await;
    }
}

async fn taken_up(mut stage: Stage, load: understudy_lab::Load) {
    stage.scene.control_mut().restart(&[]).await.unwrap();
    stage.scene.wait_for("soak", LIMIT).await.unwrap();
    let all = stage.cluster.volume_snapshots().await.unwrap();
    assert_eq!(all.len(), 1, "{all:#?}");
    let records = stage.records_of(&stage.scene.sources[0]);
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(
        records[0]["object"]["uid"], all[0]["metadata"]["uid"],
        "{records:#?}"
    );
    let ledger = stopped(load).await;
    let report = assert_clean(&ledger, &[&stage.scene.targets[0]]).await;
    step(&format!(
        "control goes on with the same run: one VolumeSnapshot, cut over; {} acknowledged writes, 0 client errors, 0 lost",
        report.acknowledged_writes
    ));
}
