//! Velero, and a system with an API of its own.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_control::snapshot::{ProviderErrorKind, SnapshotHandle};

use super::scene::{Scene, csi};
use crate::cluster::memory::Fault;
use crate::recipe::{BUILTIN, Kind, read};

fn velero() -> Scene {
    let text = BUILTIN
        .iter()
        .find(|(name, _)| *name == "velero")
        .unwrap()
        .1;
    let scene = Scene::with(read(&serde_saphyr::from_str(text).unwrap()).unwrap());
    scene.location("Available");
    scene
}

impl Scene {
    fn location(&self, phase: &str) {
        self.put("location", json!({"metadata": {"name": "default", "namespace": "velero"}, "status": {"phase": phase}}));
    }

    /// Plays Velero: these statuses, one after the other.
    async fn backup(&self, statuses: &[Value]) {
        let kind = self.kind("backup");
        while self.cluster.all(&kind).is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for status in statuses {
            self.cluster
                .set_status(&kind, "velero", "us-p-s1-1-1", status);
            tokio::time::sleep(Duration::from_secs(6)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn snapshot_13_partial_success_is_failure() {
    let scene = velero();
    let partial = json!({"phase": "PartiallyFailed", "csiVolumeSnapshotsCompleted": 1, "validationErrors": ["one item"]});
    let error = scene
        .take_while(async || scene.backup(&[partial]).await)
        .await
        .unwrap_err();
    assert!(
        error.kind == ProviderErrorKind::Failed && error.text.contains("one item"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn snapshot_12_a_completed_backup_without_a_volume_is_failure() {
    let scene = velero();
    let error = scene
        .take_while(async || scene.backup(&[json!({"phase": "Completed"})]).await)
        .await
        .unwrap_err();
    assert!(
        error.text.contains("completed with no volume in it"),
        "{error}"
    );
    let scene = velero();
    let statuses = [
        json!({"phase": "Queued", "queuePosition": 1}),
        json!({"phase": "InProgress"}),
        json!({"phase": "Completed", "csiVolumeSnapshotsCompleted": 1}),
    ];
    scene
        .take_while(async || scene.backup(&statuses).await)
        .await
        .unwrap();
    let claim = scene
        .cluster
        .peek(&scene.kind("pvc"), "redis", "data-0")
        .unwrap();
    assert_eq!(
        claim["metadata"]["labels"]["understudy.io/claim"], "data-0",
        "Velero chooses by label"
    );
}

#[tokio::test(start_paused = true)]
async fn snapshot_27_a_store_whose_credentials_ended_is_refused_before_anything_is_touched() {
    let scene = velero();
    scene.location("Unavailable");
    let error = scene.take_while(async || {}).await.unwrap_err();
    assert!(
        error.kind == ProviderErrorKind::Misconfigured && error.text.contains("not Available"),
        "{error}"
    );
    assert_eq!(scene.cluster.count("patch", "persistentvolumeclaims"), 0);
}

#[tokio::test(start_paused = true)]
async fn snapshot_24_a_restore_asks_for_the_snapshots_size_and_refuses_a_claim_that_would_be_skipped()
 {
    let scene = Scene::new();
    let handle = scene.take().await.unwrap();
    let restore = async |scene: &Scene, handle: &SnapshotHandle, name: &str| {
        scene
            .run(async |engine| engine.restore(handle, "redis", name).await)
            .await
    };
    let (made, ()) = tokio::join!(restore(&scene, &handle, "restored"), async {
        let claim = || scene.cluster.peek(&scene.kind("pvc"), "redis", "restored");
        while claim().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        scene.cluster.set_status(
            &scene.kind("pvc"),
            "redis",
            "restored",
            &json!({"phase": "Pending"}),
        );
    });
    made.unwrap();
    let claim = scene
        .cluster
        .peek(&scene.kind("pvc"), "redis", "restored")
        .unwrap();
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1Gi");
    assert_eq!(claim["spec"]["dataSource"]["name"], "us-p-s1-1-1");
    let scene = velero();
    let completed = [json!({"phase": "Completed", "csiVolumeSnapshotsCompleted": 1})];
    let handle = scene
        .take_while(async || scene.backup(&completed).await)
        .await
        .unwrap();
    let error = restore(&scene, &handle, "data-0").await.unwrap_err();
    assert!(
        error.text.contains("the claim redis/data-0 exists"),
        "{error}"
    );
}

fn by_http() -> Scene {
    let text = r#"{recipe: web, version: 1, title: W, scope: app, consistency: {alone: crash, quiesced: app, why: w},
        trigger: {verb: http, method: POST, url: "https://b/backup", auth: {secret: login, header: Authtoken, value: "{{token}}",
            login: {url: "https://b/login", body: {password: "{{secret64.password}}"}, token: $.token}}},
        observe: {via: httpPoll, url: "https://b/job/{{response:$.jobIds[0]}}"},
        when: {ready: {path: $.status, eq: Completed}, failed: {path: $.status, in: [Failed, Completed with errors]}},
        handle: {job: "response:$.jobIds[0]"},
        rbac: [{kind: secret, verbs: [get]}, {kind: configmap, verbs: [get, create, patch]}]}"#;
    let mut recipe = read(&serde_saphyr::from_str(text).unwrap()).unwrap();
    let others = csi(&json!({})).kinds;
    recipe.kinds.extend(others.into_iter().map(|(name, kind)| {
        (
            name,
            Kind {
                detect: false,
                discover: false,
                ..kind
            },
        )
    }));
    let scene = Scene::with(recipe);
    scene.put("secret", json!({"metadata": {"name": "login", "namespace": "redis"}, "data": {"password": "c2VjcmV0"}}));
    scene
}

#[tokio::test(start_paused = true)]
async fn snapshot_27_a_login_is_made_once_more_after_a_401_and_the_secret_stays_where_it_is() {
    let scene = by_http();
    let token = || scene.cluster.answer(200, json!({"token": "t"}));
    token();
    scene.cluster.answer(401, Value::Null);
    token();
    scene.cluster.answer(200, json!({"jobIds": [7]}));
    token();
    scene.cluster.answer(200, json!({"status": "Running"}));
    token();
    scene.cluster.answer(200, json!({"status": "Completed"}));
    let handle = scene.take_while(async || {}).await.unwrap();
    assert_eq!(handle.handle["job"], "7");
    let sent: Vec<_> = scene
        .cluster
        .calls()
        .into_iter()
        .filter(|call| call.verb == "http")
        .collect();
    assert_eq!(sent[0].body["body"]["password"], "c2VjcmV0");
    assert_eq!(sent[3].body["headers"]["Authtoken"], "t");
    let kept = scene.cluster.all(&scene.kind("configmap"));
    assert!(!format!("{kept:?}{:?}", scene.told.lock().unwrap()).contains("c2VjcmV0"));
}

#[tokio::test(start_paused = true)]
async fn snapshot_20_a_request_whose_answer_is_unknown_is_never_sent_again() {
    let scene = by_http();
    scene.cluster.answer(200, json!({"token": "t"}));
    let url = "https://b/backup";
    scene
        .cluster
        .fail(Fault::new("http", url, 1, 0, "connection reset").after_it_is_done());
    let error = scene.take_while(async || {}).await.unwrap_err();
    assert!(
        error.text.contains("whether it arrived is unknown"),
        "{error}"
    );
    let error = scene.take_while(async || {}).await.unwrap_err();
    assert!(
        error.text.contains("whether it arrived is unknown"),
        "{error}"
    );
    assert_eq!(scene.cluster.count("http", url), 1);
}
