//! Two sidecars of a pool: the one that leads is killed at every step of a snapshot, the other goes on, and the run has one
//! VolumeSnapshot. One that ends gives its Lease up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use understudy_control::snapshot::{
    AgentSnapshots, SnapshotHandle, SnapshotProvider, SnapshotWish,
};
use understudy_kube::cluster::live::LiveCluster;
use understudy_kube::cluster::{Api, Cluster as _, Place};
use understudy_lab::{Cluster, POOL, Process, ProcessOptions, Server, Version, free_port};

use crate::stage::{By, LIMIT, account, on_cluster, step};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Where the leader dies, in order.
const POINTS: [&str; 6] = [
    "fence:begun",
    "fence:applied",
    "trigger:begun",
    "trigger:applied",
    "record:begun",
    "record:applied",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_taken_once_wherever_the_leading_sidecar_is_killed() {
    on_cluster("sidecars", killed_everywhere).await;
}

async fn killed_everywhere(cluster: Arc<Cluster>, kubeconfig: PathBuf) {
    let servers = cluster.stateful_set("old", Version::Redis8_2_3, 1).await;
    let server = servers.unwrap().remove(0);
    let api = LiveCluster::connect(Some(&kubeconfig)).await.unwrap();
    let cast = Sidecars {
        home: TempDir::new().unwrap(),
        namespace: cluster.namespace().to_owned(),
        kubeconfig: account(&cluster, &kubeconfig, By::Sidecars).await,
        server: server.url(),
        api,
    };
    for (number, point) in POINTS.iter().enumerate() {
        let failpoint = format!("{point}:kill");
        let mut leader = cast.start(2 * number, Some(&failpoint)).await;
        cast.until_holder(&leader, LIMIT).await;
        let mut other = cast.start(2 * number + 1, None).await;
        let run = format!("us-sidecars-s1-1-{number}");
        let handle = cast.take(&server, &run, &[&leader, &other]).await;
        let died = leader.wait_for_end(LIMIT).await.unwrap();
        assert!(died.is_some(), "{point} was not reached: {}", leader.log());
        assert_eq!(handle.run, run);
        let all = cluster.volume_snapshots().await.unwrap();
        let ours = all
            .iter()
            .filter(|it| it["metadata"]["labels"]["understudy.io/run"] == run);
        assert_eq!(ours.count(), 1, "{point}: {all:#?}");
        let lease = cast.lease().await;
        let runs = &lease["metadata"]["annotations"]["understudy.io/run"];
        assert!(runs.as_str().unwrap().starts_with(&run), "{lease:#}");
        let status = other.terminate(LIMIT).await.unwrap();
        assert!(status.success(), "{}", other.log());
        let holder = cast.lease().await["spec"]["holderIdentity"].clone();
        assert_eq!(holder, Value::Null, "the Lease is not given up");
        step(&format!(
            "the leading sidecar is killed at {point}: one VolumeSnapshot, taken by the other"
        ));
    }
}

struct Sidecars {
    home: TempDir,
    namespace: String,
    kubeconfig: PathBuf,
    server: String,
    api: LiveCluster,
}

impl Sidecars {
    async fn start(&self, number: usize, failpoint: Option<&str>) -> Process {
        let home: &Path = self.home.path();
        let (clients, admin, http) = (
            free_port().unwrap(),
            free_port().unwrap(),
            free_port().unwrap(),
        );
        let config = home.join(format!("sidecar-{number}.yaml"));
        let text = json!({
            "data_dir": home.join(format!("data-{number}")),
            "admin": {"listen": format!("127.0.0.1:{admin}")},
            "http": {"listen": format!("127.0.0.1:{http}")},
            "kubernetes": {
                "namespace": self.namespace, "kubeconfig": self.kubeconfig, "level": "crash",
                "lease": {"duration": "3s"},
            },
            "pools": [{
                "name": POOL, "listen": format!("127.0.0.1:{clients}"),
                "shards": [{"name": "s1", "primary": self.server}],
            }],
        });
        // JSON is YAML.
        std::fs::write(&config, text.to_string()).unwrap();
        let failpoint = failpoint.map(|point| ("UNDERSTUDY_FAILPOINT".into(), point.into()));
        Process::start(ProcessOptions {
            binary: env!("CARGO_BIN_EXE_understudy").into(),
            subcommand: "sidecar".to_owned(),
            config,
            admin: format!("127.0.0.1:{admin}"),
            log: home.join(format!("sidecar-{number}.log")),
            environment: failpoint.into_iter().collect(),
            directory: None,
        })
        .await
        .unwrap()
    }

    async fn lease(&self) -> Value {
        let api = Api {
            group: "coordination.k8s.io".to_owned(),
            version: "v1".to_owned(),
            kind: "Lease".to_owned(),
            plural: "leases".to_owned(),
            cluster: false,
        };
        let name = format!("understudy-{POOL}");
        let at = Place {
            api: &api,
            namespace: Some(&self.namespace),
            name: &name,
        };
        self.api.get(at).await.unwrap_or_default()
    }

    /// Waits until this one says that it holds the Lease.
    async fn until_holder(&self, sidecar: &Process, limit: Duration) {
        let deadline = Instant::now() + limit;
        while !sidecar.log().contains("holds the Lease") {
            let lease = self.lease().await;
            assert!(Instant::now() < deadline, "{lease:#}\n{}", sidecar.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// As control does where `control.snapshots` is `agents`.
    async fn take(&self, server: &Server, run: &str, sidecars: &[&Process]) -> SnapshotHandle {
        let ports: Vec<_> = sidecars
            .iter()
            .map(|sidecar| format!("redis://{}", sidecar.admin()).parse().unwrap())
            .collect();
        let agents = AgentSnapshots::new(Arc::new(move || ports.clone()));
        let wish: SnapshotWish = serde_json::from_value(json!({
            "run": run, "pool": POOL, "shard": "s1", "server": server.url(),
            "recipe": "csi", "level": "crash",
        }))
        .unwrap();
        let agents = agents.with_patience(LIMIT, LOOK);
        let handle = agents.take(&wish, &|_| {}).await.unwrap();
        agents.check(&handle).await.unwrap();
        handle
    }
}
