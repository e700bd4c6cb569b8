//! From 6.2 to 8.2 behind CSI snapshots, one shard back and forth, and a snapshot read back: it is the ledger's state.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use understudy_lab::{AuditOptions, Cluster, POOL, Server, ServerOptions, Version};

use crate::stage::{By, LIMIT, Stage, assert_clean, on_cluster, served, step, stopped};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_shards_go_up_behind_csi_snapshots_one_goes_back_and_a_snapshot_holds_what_the_ledger_says()
 {
    on_cluster("whole", whole).await;
}

async fn whole(cluster: Arc<Cluster>, kubeconfig: PathBuf) {
    let stage = Stage::start(&cluster, &kubeconfig, 2, By::Sidecars, None).await;
    let (sources, targets) = (&stage.scene.sources, &stage.scene.targets);
    let load = stage.load("first:").await;
    step("clients write and read through both sidecars; every acknowledged write is in the ledger");

    stage
        .scene
        .start_upgrade(&["SNAPSHOT", "csi"])
        .await
        .unwrap();
    stage.scene.wait_for("soak", LIMIT).await.unwrap();
    served(&load).await;
    for source in sources {
        let records = stage.records_of(source);
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!(records[0]["level_reached"], "app", "{records:?}");
    }
    step(
        "both shards soak on 8.2.3, each behind a VolumeSnapshot of its old server that was ready and verified",
    );

    stage.say(&["UPGRADE", "ROLLBACK", POOL, "s1"]).await;
    stage
        .shard_until(0, "s1 to be rolled back", |row| {
            row["phase"] == "rolled_back"
        })
        .await;
    let first = stopped(load).await;
    let report = assert_clean(&first, &[&sources[0], &targets[1]]).await;
    step(&format!(
        "s1 is rolled back to 6.2.14: {} acknowledged writes, 0 client errors, 0 lost",
        report.acknowledged_writes
    ));

    // Nobody writes while this snapshot is taken: it is the ledger's state exactly.
    let written: u64 = offset_of(&sources[0]).await;
    let before = stage.records_of(&sources[0]).len();
    let again = format!("s1={}", targets[0].url());
    let start = ["UPGRADE", "START", POOL, "TO", &again, "SNAPSHOT", "csi"];
    stage.say(&start).await;
    stage
        .shard_until(0, "the snapshot of s1", |row| {
            row["snapshot"].is_string() && row["phase"] != "snapshot"
        })
        .await;
    let load = stage.load("second:").await;
    stage
        .shard_until(0, "s1 in soak", |row| row["phase"] == "soak")
        .await;
    let record = stage.records_of(&sources[0]).split_off(before).remove(0);
    let offset = record["offset"].as_u64().unwrap();
    assert!(offset >= written, "{record}: written {written}");
    step(&format!(
        "s1 goes up again; its snapshot {} is from offset {offset}",
        record["id"]
    ));

    stage.say(&["UPGRADE", "FINALIZE", POOL]).await;
    stage.scene.wait_for("finalized", LIMIT).await.unwrap();
    let second = stopped(load).await;
    let both = [&targets[0], &targets[1]];
    let report = assert_clean(&second, &both).await;
    assert_clean(&first, &both).await;
    step(&format!(
        "finalized: {} more acknowledged writes, 0 client errors, 0 lost",
        report.acknowledged_writes
    ));

    let restored = brought_back(&stage, &record, "restored").await;
    let report = assert_clean(&first, &[&restored, &targets[1]]).await;
    let keys = restored.call(&["DBSIZE"]).await.unwrap().as_integer();
    assert_eq!(keys, record["keys"].as_i64(), "{record}");
    step(&format!(
        "the snapshot is restored to a new claim and a server started on it: {} keys on it, and {} of the ledger are as they were at offset {offset}",
        keys.unwrap(),
        report.keys_checked
    ));

    let before = stage.cluster.jobs_and_claims().await.unwrap();
    let id = record["id"].as_str().unwrap();
    let told = stage.verified(id).unwrap();
    let keys = format!(
        "its {} keys are as many as the record counted",
        keys.unwrap()
    );
    assert!(told.contains(&keys) && told.contains("checksum"), "{told}");
    let after = stage.cluster.jobs_and_claims().await.unwrap();
    assert_eq!(after, before, "claim and Job are forgotten");
    step(&format!("snapshots verify reads it back by a Job: {keys}"));

    // One byte of the stored copy is another: the Job's container finds it, and nothing is left behind.
    let stored = stage.cluster.copy_of(id).await.unwrap().join("dump.rdb");
    let sound = std::fs::read(&stored).unwrap();
    let mut damaged = sound.clone();
    damaged[sound.len() / 2] ^= 0x40;
    std::fs::write(&stored, damaged).unwrap();
    let told = stage.verified(id).unwrap_err();
    assert!(
        told.contains("damaged") && told.contains("dump.rdb"),
        "{told}"
    );
    let after = stage.cluster.jobs_and_claims().await.unwrap();
    assert_eq!(after, before, "claim and Job are forgotten");
    std::fs::write(&stored, sound).unwrap();
    step("with one byte of the stored copy changed it is refused");

    // The comparison can tell: a snapshot from the middle of the load lacks what came after it.
    let earlier = stage.records_of(&sources[0]).remove(0);
    let earlier = brought_back(&stage, &earlier, "earlier").await;
    let servers = [earlier.address(), targets[1].address()];
    let report = first.audit(&servers, &AuditOptions::default()).await;
    assert!(report.unwrap().lost > 0);
}

/// A server on what `understudy snapshots restore` brought back to a new claim.
async fn brought_back(stage: &Stage, record: &Value, claim: &str) -> Server {
    let id = record["id"].as_str().unwrap();
    stage.snapshots(&["restore", id, &format!("object:{claim}")]);
    let directory = stage.cluster.directory_of(claim).await.unwrap();
    let options = ServerOptions::new().directory(&directory);
    Server::start(Version::Redis6_2_14, options).await.unwrap()
}

async fn offset_of(server: &Server) -> u64 {
    let offset = server.info("master_repl_offset").await.unwrap().unwrap();
    offset.parse().unwrap()
}
