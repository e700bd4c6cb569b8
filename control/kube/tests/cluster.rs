//! The CSI recipe on a real API server, where one may be used: `UNDERSTUDY_TEST_CLUSTER=1` and `KUBECONFIG`.
//!
//! The test plays the driver and the snapshot controller: it writes their status. Everything else is the server's own:
//! schema, status subresource, conflicts, watches, access reviews, deletion by uid.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use understudy_control::snapshot::{Level, ProviderErrorKind, SnapshotHandle};
use understudy_kube::cluster::live::LiveCluster;
use understudy_kube::cluster::{Api, CallKind, Cluster, Place};
use understudy_kube::engine::quiet::Quiet;
use understudy_kube::engine::{Context, Engine, Request};
use understudy_kube::locate::locate;
use understudy_kube::recipe::{Book, Kind, Recipe};
use understudy_kube::records::Records;

/// Longest wait for anything. Default: 60 s.
const PATIENCE: Duration = Duration::from_secs(60);

struct Scene {
    cluster: Arc<LiveCluster>,
    recipe: Recipe,
    request: Request,
}

fn core(kind: &str, plural: &str, cluster: bool) -> Api {
    Api {
        group: String::new(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        cluster,
    }
}

async fn scene(test: &str) -> Option<Scene> {
    if std::env::var_os("UNDERSTUDY_TEST_CLUSTER").is_none_or(|it| it != "1") {
        eprintln!("skipped: UNDERSTUDY_TEST_CLUSTER=1 and KUBECONFIG name no cluster to use");
        return None;
    }
    let kubeconfig = std::env::var_os("KUBECONFIG")
        .map(PathBuf::from)
        .expect("KUBECONFIG");
    let cluster = Arc::new(LiveCluster::connect(Some(&kubeconfig)).await.unwrap());
    let recipe = Book::builtin().unwrap().find("csi").unwrap().clone();
    let namespace = format!("us-{test}-{:x}", std::process::id());
    let scene = Scene {
        cluster,
        recipe,
        request: Request {
            run: format!("us-p-s1-{test}"),
            pool: "p".to_owned(),
            shard: "s1".to_owned(),
            server: "redis://10.0.0.1:6379".to_owned(),
            level: Level::App,
            namespace: namespace.clone(),
            claim: "data-0".to_owned(),
            params: serde_json::Map::new(),
        },
    };
    scene.definitions().await;
    scene
        .made(
            &core("Namespace", "namespaces", true),
            None,
            json!({"metadata": {"name": namespace}}),
        )
        .await;
    scene.volume().await;
    Some(scene)
}

impl Scene {
    fn namespace(&self) -> &str {
        &self.request.namespace
    }

    /// Names of the cluster are shared: this test's begin with its namespace.
    fn own(&self, name: &str) -> String {
        format!("{}-{name}", self.namespace())
    }

    async fn made(&self, api: &Api, namespace: Option<&str>, object: Value) -> Value {
        let mut object = object;
        object["apiVersion"] = json!(api.api_version());
        object["kind"] = json!(api.kind);
        self.cluster.create(api, namespace, &object).await.unwrap()
    }

    async fn definitions(&self) {
        let api = Api {
            group: "apiextensions.k8s.io".to_owned(),
            version: "v1".to_owned(),
            kind: "CustomResourceDefinition".to_owned(),
            plural: "customresourcedefinitions".to_owned(),
            cluster: true,
        };
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/crds");
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|it| it != "yaml") {
                continue;
            }
            let definition: Value =
                serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            match self.cluster.create(&api, None, &definition).await {
                Ok(_) => {}
                Err(cause) if cause.kind == CallKind::Conflict => {}
                Err(cause) => panic!("{}: {cause}", path.display()),
            }
        }
        for kind in self.recipe.kinds.values().filter(|kind| kind.detect) {
            self.until(async || self.cluster.served(kind).await.is_ok())
                .await;
        }
    }

    async fn until(&self, holds: impl AsyncFn() -> bool) {
        let waiting = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("it never came to be");
    }

    async fn volume(&self) {
        let pv = self.own("pv");
        let size = json!({"storage": "1Gi"});
        self.made(&core("PersistentVolume", "persistentvolumes", true), None, json!({"metadata": {"name": pv}, "spec": {
            "capacity": size, "accessModes": ["ReadWriteOnce"], "csi": {"driver": self.own("driver"), "volumeHandle": pv},
            "storageClassName": "none", "persistentVolumeReclaimPolicy": "Retain"}})).await;
        let claims = core("PersistentVolumeClaim", "persistentvolumeclaims", false);
        self.made(&claims, Some(self.namespace()), json!({"metadata": {"name": "data-0"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "volumeName": pv, "storageClassName": "none", "resources": {"requests": size}}})).await;
        self.status(
            &claims,
            Some(self.namespace()),
            "data-0",
            &json!({"phase": "Bound"}),
        )
        .await;
        let class = json!({"metadata": {"name": self.own("class"), "annotations": {"snapshot.storage.kubernetes.io/is-default-class": "true"}},
            "driver": self.own("driver"), "deletionPolicy": "Delete"});
        self.made(&self.api("class"), None, class).await;
    }

    fn kind(&self, name: &str) -> &Kind {
        &self.recipe.kinds[name]
    }

    fn api(&self, name: &str) -> Api {
        Api::of(self.kind(name), "v1")
    }

    /// Writes a status by the subresource, as a controller does.
    async fn status(&self, api: &Api, namespace: Option<&str>, name: &str, status: &Value) {
        let resource = kube::api::ApiResource {
            group: api.group.clone(),
            version: api.version.clone(),
            api_version: api.api_version(),
            kind: api.kind.clone(),
            plural: api.plural.clone(),
        };
        let client = self.cluster.client();
        let objects: kube::Api<kube::api::DynamicObject> = match namespace {
            Some(namespace) => kube::Api::namespaced_with(client, namespace, &resource),
            None => kube::Api::all_with(client, &resource),
        };
        let patch = kube::api::Patch::Merge(json!({"status": status}));
        let params = kube::api::PatchParams::default();
        objects.patch_status(name, &params, &patch).await.unwrap();
    }

    async fn snapshot(&self) -> Option<Value> {
        let api = self.api("snapshot");
        let all = self
            .cluster
            .list(&api, Some(self.namespace()), &BTreeMap::new())
            .await
            .unwrap();
        all.into_iter().next()
    }

    async fn driver_answers(&self, ready: bool) {
        self.until(async || self.snapshot().await.is_some()).await;
        let snapshot = self.snapshot().await.unwrap();
        let name = snapshot["metadata"]["name"].as_str().unwrap();
        let content = self.own("content");
        let object = json!({"metadata": {"name": content}, "spec": {"deletionPolicy": "Delete", "driver": self.own("driver"),
            "source": {"volumeHandle": "v"}, "volumeSnapshotClassName": self.own("class"),
            "volumeSnapshotRef": {"name": name, "namespace": self.namespace(), "uid": snapshot["metadata"]["uid"]}}});
        let at = Place {
            api: &self.api("content"),
            namespace: None,
            name: &content,
        };
        if self.cluster.get(at).await.is_err() {
            self.made(&self.api("content"), None, object).await;
        }
        self.status(
            &self.api("content"),
            None,
            &content,
            &json!({"snapshotHandle": "h-1", "readyToUse": ready}),
        )
        .await;
        let status = json!({"boundVolumeSnapshotContentName": content, "readyToUse": ready, "restoreSize": "1Gi",
            "creationTime": snapshot["metadata"]["creationTimestamp"]});
        self.status(&self.api("snapshot"), Some(self.namespace()), name, &status)
            .await;
    }

    async fn run<T>(&self, cluster: &LiveCluster, act: impl AsyncFnOnce(&Engine<'_>) -> T) -> T {
        let context = Context {
            request: &self.request,
            recipe: &self.recipe,
        };
        let server = Quiet::default();
        let engine = Engine::new(cluster, &server, context, &|line| eprintln!("{line}"));
        tokio::time::timeout(PATIENCE, act(&engine))
            .await
            .expect("it took too long")
    }

    async fn take(&self) -> SnapshotHandle {
        let taking = self.run(&self.cluster, async |engine| engine.take().await);
        let (taken, ()) = tokio::join!(taking, self.driver_answers(true));
        taken.unwrap()
    }

    async fn end(&self) {
        let spaces = core("Namespace", "namespaces", true);
        for (api, name) in [
            (self.api("content"), self.own("content")),
            (self.api("class"), self.own("class")),
            (
                core("PersistentVolume", "persistentvolumes", true),
                self.own("pv"),
            ),
            (spaces, self.namespace().to_owned()),
        ] {
            let at = Place {
                api: &api,
                namespace: None,
                name: &name,
            };
            self.cluster.delete(at, None).await.unwrap();
        }
    }
}

#[tokio::test]
async fn csi_takes_checks_restores_releases_and_deletes_on_a_real_server() {
    let Some(scene) = scene("whole").await else {
        return;
    };
    let (refusals, notes) = scene
        .run(&scene.cluster, async |engine| engine.preflight().await)
        .await
        .unwrap();
    assert!(refusals.0.is_empty(), "{refusals:?}");
    assert!(notes[0].contains("app-consistent"), "{notes:?}");
    let handle = scene.take().await;
    assert_eq!(
        (handle.offset, handle.handle["storage"].as_str()),
        (Some(42), "h-1")
    );
    let content = async || {
        let name = scene.own("content");
        let at = Place {
            api: &scene.api("content"),
            namespace: None,
            name: &name,
        };
        scene.cluster.get(at).await.unwrap()["spec"]["deletionPolicy"].clone()
    };
    assert_eq!(content().await, "Retain");
    // A restart finds what it took.
    let again = scene
        .run(&scene.cluster, async |engine| engine.take().await)
        .await
        .unwrap();
    assert_eq!(again.object, handle.object);
    let check = async || {
        scene
            .run(&scene.cluster, async |engine| engine.check(&handle).await)
            .await
    };
    check().await.unwrap();
    scene.driver_answers(false).await;
    assert_eq!(check().await.unwrap_err().kind, ProviderErrorKind::NotReady);
    scene.driver_answers(true).await;

    let records = Records {
        cluster: scene.cluster.as_ref(),
        namespace: scene.namespace(),
    };
    records.keep(&handle).await.unwrap();
    records.keep(&handle).await.unwrap();
    assert_eq!(records.all().await.unwrap(), std::slice::from_ref(&handle));
    assert_eq!(
        records.find(&handle.id).await.unwrap().as_ref(),
        Some(&handle)
    );
    records.forget(&handle.id).await.unwrap();
    assert_eq!(records.find(&handle.id).await.unwrap(), None);

    let namespace = scene.namespace().to_owned();
    let made = scene
        .run(&scene.cluster, async |engine| {
            engine.restore(&handle, &namespace, "restored").await
        })
        .await
        .unwrap();
    assert_eq!(
        made[0].1,
        format!("PersistentVolumeClaim {namespace}/restored")
    );
    let claims = core("PersistentVolumeClaim", "persistentvolumeclaims", false);
    let at = Place {
        api: &claims,
        namespace: Some(&namespace),
        name: "restored",
    };
    let restored = scene.cluster.get(at).await.unwrap();
    assert_eq!(
        restored["spec"]["dataSource"]["name"],
        json!(handle.handle["snapshot"]),
        "{restored}"
    );

    scene
        .run(&scene.cluster, async |engine| {
            engine.release(&handle, false).await
        })
        .await
        .unwrap();
    assert_eq!(content().await, "Delete");
    scene
        .run(&scene.cluster, async |engine| {
            engine.release(&handle, true).await
        })
        .await
        .unwrap();
    assert!(scene.snapshot().await.is_none());
    assert_eq!(check().await.unwrap_err().kind, ProviderErrorKind::Failed);
    scene.end().await;
}

#[tokio::test]
async fn snapshot_06_and_18_are_refused_by_what_a_real_server_says() {
    let Some(mut scene) = scene("refused").await else {
        return;
    };
    scene
        .request
        .params
        .insert("className".to_owned(), json!("nobody"));
    let error = scene
        .run(&scene.cluster, async |engine| engine.take().await)
        .await
        .unwrap_err();
    assert!(
        error.text.contains("class nobody: it is not there"),
        "{error}"
    );
    scene.request.params.clear();
    let kind = scene.recipe.kinds.get_mut("snapshot").unwrap();
    kind.versions = vec!["v9".to_owned()];
    let error = scene
        .run(&scene.cluster, async |engine| engine.take().await)
        .await
        .unwrap_err();
    assert!(error.text.contains("v9 is not served"), "{error}");
    kind_of(&mut scene, "v1");
    assert!(scene.snapshot().await.is_none());
    scene.end().await;
}

fn kind_of(scene: &mut Scene, version: &str) {
    let kind = scene.recipe.kinds.get_mut("snapshot").unwrap();
    kind.versions = vec![version.to_owned()];
}

#[tokio::test]
async fn snapshot_07_a_user_without_rights_is_told_each_of_them() {
    let Some(scene) = scene("rights").await else {
        return;
    };
    let Some(path) = std::env::var_os("UNDERSTUDY_TEST_NOBODY") else {
        eprintln!("skipped: UNDERSTUDY_TEST_NOBODY names no kubeconfig of a user without rights");
        return scene.end().await;
    };
    let nobody = LiveCluster::connect(Some(&PathBuf::from(path)))
        .await
        .unwrap();
    let (refusals, _) = scene
        .run(&nobody, async |engine| engine.preflight().await)
        .await
        .unwrap();
    let told: Vec<&str> = refusals.0.iter().map(|it| it.text.as_str()).collect();
    assert!(
        told.iter()
            .any(|it| it.starts_with("no right to create volumesnapshots.")),
        "{told:?}"
    );
    assert!(
        told.iter().all(|it| it.starts_with("no right to")),
        "{told:?}"
    );
    scene.end().await;
}

#[tokio::test]
async fn snapshot_21_a_foreign_object_and_a_wrong_uid_are_left_alone() {
    let Some(scene) = scene("foreign").await else {
        return;
    };
    let api = scene.api("snapshot");
    let foreign = json!({"metadata": {"name": scene.request.run}, "spec": {"source": {"persistentVolumeClaimName": "other"}}});
    let foreign = scene.made(&api, Some(scene.namespace()), foreign).await;
    let at = Place {
        api: &api,
        namespace: Some(scene.namespace()),
        name: &scene.request.run,
    };
    let refused = scene
        .cluster
        .delete(at, Some("00000000-0000-0000-0000-000000000000"))
        .await
        .unwrap_err();
    assert_eq!(refused.kind, CallKind::Conflict);
    let ours = format!("{}-2", scene.request.run);
    let at_ours = Place { name: &ours, ..at };
    let run = tokio::time::timeout(
        Duration::from_secs(5),
        scene.run(&scene.cluster, async |engine| engine.take().await),
    );
    let made = scene.until(async || scene.cluster.get(at_ours).await.is_ok());
    let (timed_out, ()) = tokio::join!(run, made);
    assert!(timed_out.is_err(), "nobody answered, so it waits");
    assert_eq!(
        scene.cluster.get(at).await.unwrap()["metadata"]["uid"],
        foreign["metadata"]["uid"]
    );
    scene.end().await;
}

#[tokio::test]
async fn snapshot_23_a_watch_sees_a_change_at_once_and_ends_by_itself() {
    let Some(scene) = scene("watch").await else {
        return;
    };
    let maps = core("ConfigMap", "configmaps", false);
    let map = scene
        .made(
            &maps,
            Some(scene.namespace()),
            json!({"metadata": {"name": "m"}}),
        )
        .await;
    let at = Place {
        api: &maps,
        namespace: Some(scene.namespace()),
        name: "m",
    };
    let version = map["metadata"]["resourceVersion"].as_str().unwrap();
    let minute = Duration::from_secs(60);
    let writing = async {
        scene
            .cluster
            .patch(at, &json!({"data": {"a": "b"}}))
            .await
            .unwrap()
    };
    let both = async { tokio::join!(scene.cluster.changed(at, version, minute, minute), writing) };
    let ((), now) = tokio::time::timeout(Duration::from_secs(30), both)
        .await
        .expect("the watch saw nothing");
    let version = now["metadata"]["resourceVersion"].as_str().unwrap();
    let unchanged = scene
        .cluster
        .changed(at, version, minute, Duration::from_millis(200));
    tokio::time::timeout(Duration::from_secs(30), unchanged)
        .await
        .expect("it ends by itself");
    scene.end().await;
}

/// A Service without selector, and a Pod with a claim; `behind` says how one leads to the other.
async fn leads_to_its_claim(scene: &Scene, behind: (Api, Value)) {
    let namespace = Some(scene.namespace());
    scene.made(&core("Service", "services", false), namespace, json!({"metadata": {"name": "redis"}, "spec": {"clusterIP": "None", "ports": [{"port": 6379}]}})).await;
    let pod = json!({"metadata": {"name": "redis-0"}, "spec": {"automountServiceAccountToken": false,
        "containers": [{"name": "redis", "image": "redis", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-0"}}]}});
    // Without its controllers the server admits no pod before there is a service account.
    let account = json!({"metadata": {"name": "default"}});
    let accounts = core("ServiceAccount", "serviceaccounts", false);
    let mut account = account;
    account["apiVersion"] = json!("v1");
    account["kind"] = json!("ServiceAccount");
    let _ = scene.cluster.create(&accounts, namespace, &account).await; // A controller may have made it.
    scene
        .made(&core("Pod", "pods", false), namespace, pod)
        .await;
    let (api, object) = behind;
    scene.made(&api, namespace, object).await;
    let found = locate(scene.cluster.as_ref(), "redis:6379", scene.namespace())
        .await
        .unwrap();
    assert_eq!(
        (found.claim.as_str(), found.pod.as_str()),
        ("data-0", "redis-0")
    );
}

/// The Pod as endpoints name it.
fn target(scene: &Scene) -> Value {
    json!({"kind": "Pod", "name": "redis-0", "namespace": scene.namespace()})
}

#[tokio::test]
async fn an_address_leads_to_its_claim_on_a_real_server() {
    let Some(scene) = scene("locate").await else {
        return;
    };
    let endpoints = json!({"metadata": {"name": "redis"}, "subsets": [{"ports": [{"port": 6379}],
        "addresses": [{"ip": "10.1.2.3", "targetRef": target(&scene)}]}]});
    let api = core("Endpoints", "endpoints", false);
    leads_to_its_claim(&scene, (api, endpoints)).await;
    scene.end().await;
}

#[tokio::test]
async fn an_address_leads_to_its_claim_by_an_endpoint_slice_where_the_server_has_them() {
    let Some(scene) = scene("slices").await else {
        return;
    };
    let kind = Kind {
        group: "discovery.k8s.io".to_owned(),
        versions: vec!["v1".to_owned()],
        kind: "EndpointSlice".to_owned(),
        plural: "endpointslices".to_owned(),
        cluster: false,
        detect: true,
        discover: true,
    };
    match scene.cluster.served(&kind).await {
        Ok(api) => {
            let slice = json!({"metadata": {"name": "redis-a", "labels": {"kubernetes.io/service-name": "redis"}},
                "addressType": "IPv4", "ports": [{"port": 6379}],
                "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": true}, "targetRef": target(&scene)}]});
            leads_to_its_claim(&scene, (api, slice)).await;
        }
        Err(cause) => eprintln!("skipped: the server does not serve them: {cause}"),
    }
    scene.end().await;
}
