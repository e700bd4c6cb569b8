//! Plays, on a real API server, what it has no machines for: scheduler, kubelet, CSI driver and snapshot controller.
//!
//! ```text
//!   StatefulSet ──(the server's own controllers)──> Pod   bound to our node; a real redis-server on an address of its own
//!                                                   PVC   a directory; PersistentVolume with spec.csi; bound by the server
//!   VolumeSnapshot ───────────────────────────────> VolumeSnapshotContent, both ways bound; a copy of that directory
//!   PVC with a VolumeSnapshot as its source ──────> a directory again
//!   Job ──(the server's own controllers)──────────> Pod   a program of this machine, run once on that directory
//! ```
//!
//! Needs the controller manager beside the API server. Everything is in one namespace of its own; what belongs to the whole
//! cluster carries its name. [`Cluster::end`] removes all of it, but for the definitions of snapshots.

mod api;
mod jobs;
mod pods;
mod rights;
mod snapshots;
mod volumes;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use self::api::{Kind, Objects, now, text};
use self::pods::Kubelet;
pub use self::snapshots::Fate;
use self::snapshots::Snapshotter;
use crate::error::LabError;
use crate::server::Server;
use crate::version::{Product, Version};

/// Between two looks at what there is to do.
const LOOK: Duration = Duration::from_millis(50);
/// How often our node says that it lives; it is taken for dead after 40 s.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long the cluster's own controllers may take for anything.
const PATIENCE: Duration = Duration::from_secs(120);
/// What objects of the whole cluster carry.
const LABEL: &str = "understudy-lab";

/// Which API server, and what for.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Its kubeconfig; the user must be allowed everything.
    pub kubeconfig: PathBuf,
    /// A folder with the definitions of VolumeSnapshot and its like, `*.yaml`. They are loaded, and stay.
    pub definitions: PathBuf,
    /// Start of the namespace's name.
    pub name: String,
    /// What runs in the Pods of Jobs, in place of their image.
    pub binary: Option<PathBuf>,
}

/// Where everything of one cluster is.
#[derive(Clone, Debug)]
struct Place {
    /// The namespace, the node, the storage class and the snapshot class.
    name: String,
    /// Volumes and snapshots.
    directory: PathBuf,
    /// What runs in the Pods of Jobs.
    binary: Option<PathBuf>,
}

impl Place {
    fn driver(&self) -> String {
        format!("{}.lab.understudy.io", self.name)
    }
}

/// A namespace on a real API server in which Pods run. Dropped without [`Cluster::end`], it leaves its objects behind.
pub struct Cluster {
    objects: Objects,
    place: Place,
    stage: Arc<Stage>,
    task: JoinHandle<()>,
    kubeconfig: PathBuf,
    /// What `account` made of the whole cluster.
    granted: Mutex<Vec<(Kind, String)>>,
    _directory: TempDir,
}

/// What the task that plays and its owner share.
#[derive(Default)]
struct Stage {
    fate: Mutex<Fate>,
    kubelet: tokio::sync::Mutex<Kubelet>,
    /// What went wrong last; tried again at the next look.
    trouble: Mutex<Option<String>>,
}

fn lock<T>(it: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    /// Makes the namespace, the node and the classes, and begins to play.
    pub async fn start(options: &ClusterOptions) -> Result<Cluster, LabError> {
        let directory = TempDir::with_prefix("understudy-cluster-")
            .map_err(LabError::io("make a directory"))?;
        let name = format!("{}-{:x}", options.name, std::process::id());
        let objects = Objects::connect(&options.kubeconfig, &name).await?;
        let place = Place {
            name,
            directory: directory.path().to_owned(),
            binary: options.binary.clone(),
        };
        let stage = Arc::new(Stage::default());
        define(&objects, &options.definitions).await?;
        furnish(&objects, &place).await?;
        let task = tokio::spawn(play(objects.clone(), place.clone(), Arc::clone(&stage)));
        let cluster = Cluster {
            objects,
            place,
            stage,
            task,
            kubeconfig: options.kubeconfig.clone(),
            granted: Mutex::default(),
            _directory: directory,
        };
        let account = "a default ServiceAccount: is the controller manager there?";
        cluster
            .until(account, async || {
                cluster.objects.get(Kind::ACCOUNT, "default").await
            })
            .await?;
        Ok(cluster)
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.place.name
    }

    /// The API server's minor version: 36 of 1.36.
    pub async fn minor_version(&self) -> Result<u32, LabError> {
        self.objects.minor_version().await
    }

    /// A kubeconfig of a service account of a release, as the release's own objects give it rights: accounts, roles, bindings and
    /// admission policies. They are made here, in our namespace; nothing else of the release is.
    pub async fn account(&self, release: &[Value], account: &str) -> Result<PathBuf, LabError> {
        rights::grant(&self.objects, &self.place, release, &self.granted).await?;
        rights::kubeconfig(&self.objects, &self.place, &self.kubeconfig, account).await
    }

    /// What becomes of snapshots from now on.
    pub fn snapshots(&self, fate: Fate) {
        *lock(&self.stage.fate) = fate;
    }

    /// Makes a StatefulSet of so many Redis of this version, and waits until each is ready. The servers are handed over: they
    /// end when they are dropped, and their Pods do not notice.
    pub async fn stateful_set(
        &self,
        set: &str,
        version: Version,
        replicas: usize,
    ) -> Result<Vec<Server>, LabError> {
        let (major, minor, patch) = version.number();
        let repository = match version.product() {
            Product::Redis => "redis",
            Product::Valkey => "valkey/valkey",
        };
        let image = format!("{repository}:{major}.{minor}.{patch}");
        let labels = json!({"app": set});
        let container = json!({"name": "redis", "image": image, "ports": [{"containerPort": 6379}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}]});
        let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "storageClassName": self.place.name, "resources": {"requests": {"storage": "1Gi"}}}});
        let spec = json!({"serviceName": set, "replicas": replicas, "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels}, "volumeClaimTemplates": [claim],
            "template": {"metadata": {"labels": labels}, "spec": {
                "automountServiceAccountToken": false, "containers": [container]}}});
        let object = json!({"metadata": {"name": set}, "spec": spec});
        self.objects.create(Kind::STATEFUL_SET, object).await?;
        let what = format!("{replicas} ready Pods of StatefulSet {set}");
        self.until(&what, async || {
            let found = self.objects.get(Kind::STATEFUL_SET, set).await?;
            Ok(found.filter(|it| it["status"]["readyReplicas"] == replicas))
        })
        .await?;
        let mut servers = Vec::new();
        let mut kubelet = self.stage.kubelet.lock().await;
        for ordinal in 0..replicas {
            let pod = format!("{set}-{ordinal}");
            servers.push(kubelet.hand_over(&pod).ok_or_else(|| LabError::Answer {
                doing: format!("take over the server of Pod {pod}"),
                answer: "it has none".to_owned(),
            })?);
        }
        Ok(servers)
    }

    /// Every VolumeSnapshot of the namespace, oldest first.
    pub async fn volume_snapshots(&self) -> Result<Vec<Value>, LabError> {
        let mut all = self.objects.list(Kind::SNAPSHOT, "").await?;
        all.sort_by_key(|it| text(it, "/metadata/creationTimestamp").to_owned());
        Ok(all)
    }

    /// Waits until there are so many VolumeSnapshots.
    pub async fn until_snapshots(&self, count: usize) -> Result<Vec<Value>, LabError> {
        self.until(&format!("{count} VolumeSnapshots"), async || {
            let all = self.volume_snapshots().await?;
            Ok((all.len() >= count).then_some(all))
        })
        .await
    }

    /// Waits until exactly so many VolumeSnapshots are ready.
    pub async fn until_ready(&self, count: usize) -> Result<(), LabError> {
        self.until(&format!("{count} ready VolumeSnapshots"), async || {
            let all = self.volume_snapshots().await?;
            let ready = all.iter().filter(|it| it["status"]["readyToUse"] == true);
            Ok((ready.count() == count).then_some(()))
        })
        .await
    }

    /// A claim's directory, once it is bound.
    pub async fn directory_of(&self, claim: &str) -> Result<PathBuf, LabError> {
        let what = format!("claim {claim} to be bound");
        let directory = self.until(&what, async || {
            volumes::directory_of(&self.objects, claim).await
        });
        Ok(PathBuf::from(directory.await?))
    }

    /// The names of all Jobs and claims of the namespace.
    pub async fn jobs_and_claims(&self) -> Result<Vec<String>, LabError> {
        let mut names = Vec::new();
        for kind in [Kind::JOB, Kind::CLAIM] {
            let all = self.objects.list(kind, "").await?;
            names.extend(all.iter().map(|it| api::name(it).to_owned()));
        }
        Ok(names)
    }

    /// Where the copy of a VolumeSnapshot is.
    pub async fn copy_of(&self, snapshot: &str) -> Result<PathBuf, LabError> {
        let found = self.objects.get(Kind::SNAPSHOT, snapshot).await?;
        let found = found.unwrap_or_default();
        let content = text(&found, "/status/boundVolumeSnapshotContentName");
        let content = self.objects.get(Kind::CONTENT, content).await?;
        let content = content.unwrap_or_default();
        Ok(PathBuf::from(text(&content, "/status/snapshotHandle")))
    }

    /// Removes every object that was made here.
    pub async fn end(&self) -> Result<(), LabError> {
        let name = &self.place.name;
        let label = format!("{LABEL}={name}");
        // One after the other: a namespace that is deleted whole is looked at again ever more seldom. We are still the kubelet.
        let kinds = [
            Kind::STATEFUL_SET,
            Kind::JOB,
            Kind::POD,
            Kind::SNAPSHOT,
            Kind::CLAIM,
        ];
        for kind in kinds {
            self.until("what is in the namespace to be gone", async || {
                let there = self.objects.list(kind, "").await?;
                for object in &there {
                    self.objects.delete(kind, api::name(object)).await?;
                }
                Ok(there.is_empty().then_some(()))
            })
            .await?;
        }
        self.objects.delete(Kind::NAMESPACE, name).await?;
        self.until("the namespace to be gone", async || {
            let there = self.objects.get(Kind::NAMESPACE, name).await?;
            Ok(there.is_none().then_some(()))
        })
        .await?;
        self.task.abort();
        for kind in [Kind::CONTENT, Kind::VOLUME] {
            for object in self.objects.list(kind, &label).await? {
                self.objects.delete(kind, api::name(&object)).await?;
            }
        }
        for kind in [Kind::SNAPSHOT_CLASS, Kind::STORAGE_CLASS, Kind::NODE] {
            self.objects.delete(kind, name).await?;
        }
        let granted = std::mem::take(&mut *lock(&self.granted));
        for (kind, name) in granted {
            self.objects.delete(kind, &name).await?;
        }
        Ok(())
    }

    async fn until<T>(
        &self,
        what: &str,
        look: impl AsyncFn() -> Result<Option<T>, LabError>,
    ) -> Result<T, LabError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            if Instant::now() > deadline {
                let trouble = lock(&self.stage.trouble).clone();
                return Err(LabError::Answer {
                    doing: format!("wait for {what}"),
                    answer: format!(
                        "not so after {PATIENCE:?}; last trouble: {}",
                        trouble.unwrap_or_else(|| "none".to_owned())
                    ),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Loads the definitions, and waits until the server serves them.
async fn define(objects: &Objects, folder: &Path) -> Result<(), LabError> {
    let unreadable = |cause: &dyn std::fmt::Display| LabError::Answer {
        doing: format!("read the definitions in {}", folder.display()),
        answer: cause.to_string(),
    };
    for entry in std::fs::read_dir(folder).map_err(|cause| unreadable(&cause))? {
        let path = entry.map_err(|cause| unreadable(&cause))?.path();
        if path.extension().is_none_or(|it| it != "yaml") {
            continue;
        }
        let yaml = std::fs::read_to_string(&path).map_err(|cause| unreadable(&cause))?;
        let definition: Value =
            serde_saphyr::from_str(&yaml).map_err(|cause| unreadable(&cause))?;
        objects.create(Kind::DEFINITION, definition).await?;
    }
    let deadline = Instant::now() + PATIENCE;
    for kind in [Kind::SNAPSHOT, Kind::CONTENT, Kind::SNAPSHOT_CLASS] {
        while let Err(cause) = objects.list(kind, "").await {
            if Instant::now() > deadline {
                return Err(cause);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

/// The namespace, a node, and the classes of volumes and of snapshots: the default one of our driver.
async fn furnish(objects: &Objects, place: &Place) -> Result<(), LabError> {
    let metadata = json!({"name": place.name, "labels": {LABEL: place.name}});
    let plain = json!({"metadata": metadata});
    objects.create(Kind::NAMESPACE, plain.clone()).await?;
    objects.create(Kind::NODE, plain).await?;
    let class = json!({"metadata": metadata, "provisioner": place.driver(), "volumeBindingMode": "Immediate"});
    objects.create(Kind::STORAGE_CLASS, class).await?;
    let mut class =
        json!({"metadata": metadata, "driver": place.driver(), "deletionPolicy": "Delete"});
    class["metadata"]["annotations"] =
        json!({"snapshot.storage.kubernetes.io/is-default-class": "true"});
    objects.create(Kind::SNAPSHOT_CLASS, class).await
}

async fn play(objects: Objects, place: Place, stage: Arc<Stage>) {
    let mut snapshotter = Snapshotter::default();
    let mut heartbeat: Option<Instant> = None;
    loop {
        let fate = lock(&stage.fate).clone();
        let act = async {
            if heartbeat.is_none_or(|last| last.elapsed() > HEARTBEAT) {
                objects.status(Kind::NODE, &place.name, &alive()).await?;
                heartbeat = Some(Instant::now());
            }
            volumes::pass(&objects, &place).await?;
            let mut kubelet = stage.kubelet.lock().await;
            kubelet.pass(&objects, &place).await?;
            drop(kubelet);
            snapshotter.pass(&objects, &place, &fate).await
        };
        if let Err(cause) = act.await {
            let cause = with_source(&cause);
            tracing::debug!("{}: {cause}", place.name);
            *lock(&stage.trouble) = Some(cause);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn with_source(cause: &LabError) -> String {
    match std::error::Error::source(cause) {
        Some(source) => format!("{cause}: {source}"),
        None => cause.to_string(),
    }
}

fn alive() -> Value {
    let now = now();
    let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "played by understudy's lab",
        "lastHeartbeatTime": now, "lastTransitionTime": now});
    let room = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
    json!({"conditions": [ready], "capacity": room, "allocatable": room})
}
