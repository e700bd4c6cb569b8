//! What we write beside what recipes do: reading a snapshot back, records, and the Lease of sidecars.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use understudy_config::{Config, VerifyJob};
use understudy_control::snapshot::{
    Checksum, DataRead, Level, Logins, ProviderErrorKind, SnapshotProvider, SnapshotWish,
};
use understudy_kube::agent::{Election, LeaseSettings};
use understudy_kube::cluster::Cluster;
use understudy_kube::cluster::memory::{Gate, MemoryCluster};
use understudy_kube::engine::scratch_run;
use understudy_kube::recipe::{Book, Kind};
use understudy_kube::records::Records;
use understudy_kube::{KubeSnapshots, Settings};

use crate::data::part;
use crate::play::{usual, whole};
use crate::stage::{CLAIM, Place, Scene};

/// Runs a future where hours pass at once.
fn paused(act: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(act);
}

/// A CSI snapshot is taken, recorded, read back by a Job, finalized, and its record forgotten.
pub(super) fn of_control(gate: &Gate, image: &str) {
    let wanted = VerifyJob {
        image: Some(image.to_owned()),
        ..VerifyJob::default()
    };
    paused(async {
        let book = Book::builtin().unwrap();
        let mut part = part("csi");
        part.gate = Some(gate.clone());
        let mut scene = Scene::new(book.find("csi").unwrap(), &part).await;
        let taken = scene
            .take_while(async || drop(usual(&scene, &[]).await))
            .await;
        let handle = whole(&scene, taken);
        let records = Records {
            cluster: scene.memory(),
            namespace: "redis",
        };
        for _ in 0..2 {
            records.keep(&handle).await.unwrap();
        }
        let run = handle.run.clone();
        scene.request.run = scratch_run(&run);
        let read = scene.run(async |engine| engine.audit(&handle, &wanted).await);
        let verified = tokio::select! {
            verified = read => verified,
            never = kubelet(&scene) => never,
        };
        assert_eq!(verified.unwrap_or_else(|cause| panic!("{cause}")).keys, 7);
        scene.request.run = run;
        scene
            .run(async |engine| engine.release(&handle, false).await)
            .await
            .unwrap();
        let records = Records {
            cluster: scene.memory(),
            namespace: "redis",
        };
        records.forget(&handle.id).await.unwrap();
    });
}

/// A run fails for good, which is kept, and the next one forgets that.
pub(super) fn of_a_failure(gate: &Gate, folder: &Path) {
    let yaml = "pools: [{ name: p, listen: 127.0.0.1:6379, shards: [{ name: s1, primary: \"redis://127.0.0.1:1\" }] }]";
    let config = Arc::new(Config::parse(yaml, folder).unwrap());
    let wish = |run: &str| SnapshotWish {
        run: run.to_owned(),
        pool: "p".to_owned(),
        shard: "s1".to_owned(),
        server: "redis://127.0.0.1:1".to_owned(),
        recipe: "csi".to_owned(),
        level: Level::App,
    };
    paused(async {
        let book = Book::builtin().unwrap();
        let mut part = part("csi");
        part.gate = Some(gate.clone());
        let scene = Scene::new(book.find("csi").unwrap(), &part).await;
        let Place::Memory(memory) = scene.place else {
            panic!("in memory")
        };
        let claim = ("redis".to_owned(), CLAIM.to_owned());
        let settings = Settings {
            namespace: "redis".to_owned(),
            volumes: [("s1".to_owned(), claim)].into(),
            ..Settings::default()
        };
        let cluster: Arc<dyn Cluster> = Arc::new(memory);
        let logins = Logins::new(config);
        let provider = KubeSnapshots::new(cluster, book, settings, logins, folder.to_owned());
        // Nobody listens there, so neither gets as far as a snapshot.
        for run in ["us-p-s1-1-1", "us-p-s1-1-2"] {
            let error = provider.take(&wish(run), &|_| {}).await.unwrap_err();
            assert_eq!(error.kind, ProviderErrorKind::Failed, "{error}");
        }
    });
}

/// Binds what is claimed, and runs the Job that reads.
async fn kubelet<T>(scene: &Scene) -> T {
    let scratch = scene.request.run.clone();
    let memory = scene.memory();
    let claims = scene.kind("pvc").clone();
    let beside = |group: &str, kind: &str, plural: &str| Kind {
        group: group.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        ..claims.clone()
    };
    let jobs = beside("batch", "Job", "jobs");
    let pods = beside("", "Pod", "pods");
    let sound = DataRead {
        sound: true,
        keys: 7,
        bytes: 99,
        checksum: Checksum::Right,
        lines: vec!["dump.rdb: 99 bytes".to_owned()],
        ..DataRead::default()
    };
    loop {
        let claim = memory.peek(&claims, "redis", &scratch).unwrap_or_default();
        if claim["status"]["phase"].is_null() {
            memory.set_status(&claims, "redis", &scratch, &json!({"phase": "Pending"}));
        }
        if let Some(job) = memory.peek(&jobs, "redis", &scratch) {
            let owner = json!([{"kind": "Job", "name": scratch, "uid": job["metadata"]["uid"]}]);
            let ended = json!({"exitCode": 0, "message": sound.to_line(4096)});
            let container = json!({"name": "read", "state": {"terminated": ended}});
            let pod = json!({
                "metadata": {"name": format!("{scratch}-x"), "namespace": "redis",
                    "labels": {"job-name": scratch}, "ownerReferences": owner},
                "status": {"phase": "Succeeded", "containerStatuses": [container]},
            });
            memory.put(&pods, pod);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A sidecar takes the Lease, renews it, writes a run into it, and gives it up.
pub(super) fn of_a_sidecar(gate: &Gate) {
    paused(async {
        let memory = MemoryCluster::new();
        memory.guard(gate.clone());
        let settings = LeaseSettings {
            namespace: "redis".to_owned(),
            name: "understudy-sessions".to_owned(),
            me: "shop-0_1".to_owned(),
            duration: Duration::from_secs(15),
        };
        let election = Election::new(Arc::new(memory), settings);
        let act = async {
            while election.leads().is_err() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
            election.fence("us-sessions-s1-1-1").await.unwrap();
            election.end().await;
        };
        let acted = tokio::time::timeout(Duration::from_secs(300), async {
            tokio::join!(election.run(), act);
        });
        acted.await.expect("it leads");
    });
}
