//! A cluster in memory with a claim, a class, and a server that remembers what it was asked.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Map, Value, json};
use understudy_control::snapshot::{Level, ProviderError, SnapshotHandle};

use crate::cluster::memory::MemoryCluster;
use crate::engine::quiet::Quiet;
use crate::engine::{Context, Engine, Request, drive, run};
use crate::recipe::{BUILTIN, Kind, Recipe, merge, read};

pub(super) struct Scene {
    pub(super) cluster: Arc<MemoryCluster>,
    pub(super) server: Quiet,
    pub(super) recipe: Recipe,
    pub(super) request: Request,
    pub(super) told: Mutex<Vec<String>>,
}

pub(super) fn csi(more: &Value) -> Recipe {
    let text = BUILTIN.iter().find(|(name, _)| *name == "csi").unwrap().1;
    let tree: Value = serde_saphyr::from_str(text).unwrap();
    read(&merge(&tree, more)).unwrap()
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::with(csi(&json!({})))
    }

    pub(super) fn with(recipe: Recipe) -> Self {
        let cluster = Arc::new(MemoryCluster::new());
        // The wall clock: creationTimestamps are compared with it.
        let behind = drive::wall_ms() - cluster.now_ms();
        cluster.set_clock(cluster.now_ms() + behind);
        for kind in recipe.kinds.values().filter(|kind| kind.detect) {
            cluster.serve(kind, kind.kind != "VolumeSnapshotClass");
        }
        let scene = Self {
            cluster,
            server: Quiet::default(),
            request: Request {
                run: "us-p-s1-1-1".to_owned(),
                pool: "p".to_owned(),
                shard: "s1".to_owned(),
                server: "redis://10.0.0.1:6379".to_owned(),
                level: Level::App,
                namespace: "redis".to_owned(),
                claim: "data-0".to_owned(),
                params: Map::new(),
            },
            recipe,
            told: Mutex::default(),
        };
        scene.put("pvc", json!({"metadata": {"name": "data-0", "namespace": "redis"}, "spec": {"volumeName": "pv-1"}, "status": {"phase": "Bound"}}));
        scene.put(
            "pv",
            json!({"metadata": {"name": "pv-1"}, "spec": {"csi": {"driver": "d"}}}),
        );
        if scene.recipe.kinds.contains_key("class") {
            scene.class("fast", "d", true);
        }
        scene
    }

    pub(super) fn kind(&self, name: &str) -> Kind {
        self.recipe.kinds[name].clone()
    }

    pub(super) fn put(&self, kind: &str, object: Value) {
        self.cluster.put(&self.kind(kind), object);
    }

    pub(super) fn class(&self, name: &str, driver: &str, standard: bool) {
        self.put("class", json!({"metadata": {"name": name, "annotations": {"snapshot.storage.kubernetes.io/is-default-class": standard.to_string()}}, "driver": driver, "deletionPolicy": "Delete"}));
    }

    /// What a driver does: the content, bound both ways, and then the snapshot's status.
    pub(super) fn driver_answers(&self, ready: bool) {
        let snapshot = self.snapshot().expect("it was triggered");
        let name = snapshot["metadata"]["name"].as_str().unwrap();
        let reference =
            json!({"name": name, "namespace": "redis", "uid": snapshot["metadata"]["uid"]});
        self.put("content", json!({"metadata": {"name": "content-1"}, "spec": {"driver": "d", "deletionPolicy": "Delete", "volumeSnapshotRef": reference},
            "status": {"snapshotHandle": "h-1", "readyToUse": ready}}));
        let cut = run::rfc3339_ms(drive::wall_ms());
        self.status(&json!({"boundVolumeSnapshotContentName": "content-1", "creationTime": cut, "readyToUse": ready, "restoreSize": "1Gi"}));
    }

    pub(super) fn snapshot(&self) -> Option<Value> {
        self.cluster.all(&self.kind("snapshot")).into_iter().next()
    }

    pub(super) fn status(&self, status: &Value) {
        let snapshot = self.snapshot().expect("it was triggered");
        let name = snapshot["metadata"]["name"].as_str().unwrap();
        assert!(
            self.cluster
                .set_status(&self.kind("snapshot"), "redis", name, status)
        );
    }

    pub(super) async fn run<T>(&self, act: impl AsyncFnOnce(&Engine<'_>) -> T) -> T {
        let progress = |line: String| self.told.lock().unwrap().push(line);
        let engine = Engine::new(
            self.cluster.as_ref(),
            &self.server,
            Context {
                request: &self.request,
                recipe: &self.recipe,
            },
            &progress,
        );
        act(&engine).await
    }

    /// Takes the snapshot while something else goes on.
    pub(super) async fn take_while(
        &self,
        meanwhile: impl AsyncFnOnce(),
    ) -> Result<SnapshotHandle, ProviderError> {
        let (taken, ()) = tokio::join!(self.run(async |engine| engine.take().await), meanwhile());
        taken
    }

    /// A run that fails while something else goes on, and says so.
    pub(super) async fn fails_while(&self, meanwhile: impl AsyncFnOnce(), says: &[&str]) {
        let error = self.take_while(meanwhile).await.unwrap_err();
        for part in says {
            assert!(error.text.contains(part), "{part}: {error}");
        }
    }

    pub(super) async fn take(&self) -> Result<SnapshotHandle, ProviderError> {
        self.take_while(async || {
            self.triggered().await;
            self.driver_answers(true);
        })
        .await
    }

    /// Waits until the run has made its object.
    pub(super) async fn triggered(&self) {
        while self.snapshot().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.server.asked()
    }
}
