//! What every test here begins and ends with: a cluster, a pool on its Pods under load, and the ledger's verdict.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use understudy_lab::wire::{Address, Reply};
use understudy_lab::{
    AuditOptions, Cast, Cluster, ClusterOptions, Ledger, Load, LoadOptions, Report, Scene,
    SceneOptions, Server, Version,
};

use crate::helm;

/// A whole upgrade of small data takes seconds; a loaded CI machine gets much more.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// Commands served between two acts.
const BETWEEN: u64 = 1_000;
/// Commands a second on each connection: the tests share two cores with servers and API server.
const RATE: u32 = 100;

/// Says what is done, one line a step: `make demo-kube` shows them.
pub(crate) fn step(what: &str) {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let since = BEGUN.get_or_init(Instant::now).elapsed();
    println!("{:6.1} s  {what}", since.as_secs_f64());
}

fn kubeconfig() -> Option<PathBuf> {
    std::env::var_os("UNDERSTUDY_TEST_CLUSTER").filter(|allowed| allowed == "1")?;
    let named = std::env::var_os("KUBECONFIG")?;
    // The processes of a scene run in directories of their own.
    std::fs::canonicalize(named).ok()
}

/// Runs a test on a namespace of its own, which is removed whatever comes of it.
pub(crate) async fn on_cluster<F>(name: &str, test: impl FnOnce(Arc<Cluster>, PathBuf) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let Some(kubeconfig) = kubeconfig() else {
        eprintln!("skipped: UNDERSTUDY_TEST_CLUSTER=1 and KUBECONFIG name no cluster to use");
        return;
    };
    let options = ClusterOptions {
        kubeconfig: kubeconfig.clone(),
        definitions: Path::new(env!("CARGO_MANIFEST_DIR")).join("control/kube/tests/crds"),
        name: format!("us-{name}"),
        binary: Some(env!("CARGO_BIN_EXE_understudy").into()),
    };
    let cluster = Arc::new(Cluster::start(&options).await.unwrap());
    step(&format!("namespace {} is there", cluster.namespace()));
    // A task of its own, so that a test that panics is cleaned up after.
    let local = tokio::task::LocalSet::new();
    let task = local.spawn_local(test(Arc::clone(&cluster), kubeconfig));
    let ended = local.run_until(task).await;
    let removed = cluster.end().await;
    if let Err(failed) = ended {
        std::panic::resume_unwind(failed.into_panic());
    }
    removed.unwrap();
    step("the namespace and what belonged to it are removed");
}

/// Who takes the snapshots.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Control itself; the proxies know nothing of the cluster.
    Control,
    /// The proxies, which are sidecars: whichever holds the Lease.
    Sidecars,
}

/// A kubeconfig of the account to which the chart gives the rights to take snapshots, in this namespace: theirs, and held to the
/// chart's admission policy where the server has such. Without Helm's library, which is said, it is the admin's.
pub(crate) async fn account(cluster: &Cluster, admin: &Path, by: By) -> PathBuf {
    let (by, account) = match by {
        By::Control => ("here", "understudy-control"),
        By::Sidecars => ("agents", "understudy-sidecar"),
    };
    // The chart refuses sidecars where a kubelet knows none. Here the lab is the kubelet.
    let minor = cluster.minor_version().await.unwrap().max(29);
    let values = helm::least_and(&json!({
        "kubeVersion": format!("1.{minor}.0"), "sidecar": {"enabled": by == "agents"},
        "snapshots": {"recipes": ["csi"], "by": by, "verify": {"image": "understudy:lab"}},
    }));
    let Some(rendered) = helm::render_into(&[values], "understudy", cluster.namespace()) else {
        return admin.to_owned();
    };
    let release: Vec<Value> = rendered.into_iter().flat_map(Result::unwrap).collect();
    let kubeconfig = cluster.account(&release, account).await.unwrap();
    let policies = release
        .iter()
        .filter(|it| it["kind"] == "ValidatingAdmissionPolicy")
        .count();
    step(&format!(
        "ServiceAccount {account} has the chart's rights{}",
        if policies > 0 {
            " and admission policy"
        } else {
            "; this server has no admission policies"
        }
    ));
    kubeconfig
}

/// A pool on the Pods of two StatefulSets, behind two proxies, under load.
pub(crate) struct Stage {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) scene: Scene,
}

impl Stage {
    /// `failpoint` is control's, where one is wanted.
    pub(crate) async fn start(
        cluster: &Arc<Cluster>,
        kubeconfig: &Path,
        shards: usize,
        by: By,
        failpoint: Option<&str>,
    ) -> Stage {
        let (from, to) = (Version::Redis6_2_14, Version::Redis8_2_3);
        let (old, new) = tokio::join!(
            cluster.stateful_set("old", from, shards),
            cluster.stateful_set("new", to, shards)
        );
        let (old, new) = (old.unwrap(), new.unwrap());
        step(&format!(
            "StatefulSets old ({from}) and new ({to}) are ready, {shards} Pods each, each with a volume"
        ));
        let kubeconfig = account(cluster, kubeconfig, by).await;
        let mut options = SceneOptions::new(env!("CARGO_BIN_EXE_understudy"), from, to);
        options.shards = shards;
        options.workers = 2;
        options.sidecars = by == By::Sidecars;
        options.cast = Cast::Separate { proxies: 2 };
        options.extra_config = format!(
            "kubernetes: {{ namespace: {}, kubeconfig: \"{}\", lease: {{ duration: 3s }}, verify: {{ image: \"understudy:lab\", deadline: 2min }} }}\n",
            cluster.namespace(),
            kubeconfig.display()
        );
        let failpoint = failpoint.map(|it| ("UNDERSTUDY_FAILPOINT".to_owned(), it.to_owned()));
        options.environment.extend(failpoint);
        let scene = Scene::start_on(&options, old, new).await.unwrap();
        step(match by {
            By::Control => "control and two proxies serve the pool",
            By::Sidecars => "control and two sidecars serve the pool; one of them holds the Lease",
        });
        Stage {
            cluster: Arc::clone(cluster),
            scene,
        }
    }

    /// A load on both proxies, of keys that begin so.
    pub(crate) async fn load(&self, prefix: &str) -> Load {
        let options = LoadOptions {
            rate: NonZeroU32::new(RATE),
            prefix: prefix.to_owned(),
            ..LoadOptions::default()
        };
        let load = Load::start(&self.scene.all_clients(), &options);
        served(&load).await;
        load
    }

    /// One admin command that may not fail.
    pub(crate) async fn say(&self, words: &[&str]) {
        let answer = self.scene.call(words).await.unwrap();
        assert!(!matches!(answer, Reply::Error(_)), "{words:?}: {answer:?}");
    }

    /// Waits until a shard's row in STATUS is as wanted.
    pub(crate) async fn shard_until(
        &self,
        shard: usize,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let status = self
            .scene
            .wait_until(what, LIMIT, |status| wanted(&status["shards"][shard]))
            .await;
        status.unwrap()["shards"][shard].clone()
    }

    /// `understudy snapshots …` with control's config; what it printed.
    pub(crate) fn snapshots(&self, words: &[&str]) -> String {
        let config = self.scene.directory().join("control-2.yaml");
        let (verb, rest) = words.split_first().unwrap();
        let told = Command::new(env!("CARGO_BIN_EXE_understudy"))
            .args(["snapshots", verb, "--config"])
            .arg(config)
            .args(rest)
            .output()
            .unwrap();
        assert!(told.status.success(), "{words:?}: {told:?}");
        String::from_utf8(told.stdout).unwrap()
    }

    /// `understudy snapshots verify`: what it printed, or what it said instead.
    pub(crate) fn verified(&self, id: &str) -> Result<String, String> {
        let told = Command::new(env!("CARGO_BIN_EXE_understudy"))
            .args(["snapshots", "verify", "--config"])
            .arg(self.scene.directory().join("control-2.yaml"))
            .arg(id)
            .output()
            .unwrap();
        match told.status.success() {
            true => Ok(String::from_utf8(told.stdout).unwrap()),
            false => Err(String::from_utf8(told.stderr).unwrap()),
        }
    }

    /// The records of all snapshots of this server, oldest first.
    pub(crate) fn records_of(&self, server: &Server) -> Vec<Value> {
        let all: Vec<Value> = serde_json::from_str(&self.snapshots(&["list", "--json"])).unwrap();
        let of_it = all.into_iter();
        of_it.filter(|it| it["server"] == server.url()).collect()
    }
}

/// Clients are served on.
pub(crate) async fn served(load: &Load) {
    assert!(
        load.served(BETWEEN, LIMIT).await,
        "clients are no longer served: {:?}",
        load.findings().first()
    );
}

/// Ends the load; its ledger may be compared with servers more than once.
pub(crate) async fn stopped(load: Load) -> Ledger {
    served(&load).await;
    load.stop().await
}

/// Every entry of the ledger is on these servers, once and in order, and no client noticed anything.
pub(crate) async fn assert_clean(ledger: &Ledger, servers: &[&Server]) -> Report {
    let addresses: Vec<Address> = servers.iter().map(|server| server.address()).collect();
    let report = ledger.audit(&addresses, &AuditOptions::default()).await;
    let report = report.unwrap();
    let text = serde_json::to_string_pretty(&report).unwrap();
    assert!(report.is_clean(), "{text}");
    report
}
