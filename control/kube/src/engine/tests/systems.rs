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

fn by_http(lost: &str) -> Scene {
    let auth = r#"{secret: login, header: Authtoken, value: "{{token}}", logout: {url: "https://b/logout"},
        login: {url: "https://b/login", body: {password: "{{secret64.password}}"}, token: $.token, lasts: 6m}}"#;
    let text = r#"{recipe: web, version: 1, title: W, scope: app, consistency: {alone: crash, quiesced: app, why: w},
        trigger: {verb: http, method: POST, url: "https://b/backup", auth: AUTH, lost: LOST},
        observe: {via: httpPoll, url: "https://b/job/{{response:$.jobIds[0]}}", auth: AUTH},
        when: {ready: {path: $.status, eq: Completed}, failed: {path: $.status, in: [Failed, Completed with errors]}},
        handle: {job: "response:$.jobIds[0]"},
        rbac: [{kind: secret, verbs: [get]}, {kind: configmap, verbs: [get, create, patch]}]}"#;
    let text = text.replace("AUTH", auth).replace("LOST", lost);
    let mut recipe = read(&serde_saphyr::from_str(&text).unwrap()).unwrap();
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

const BY_HAND: &str = "{lookFor: \"a job of {{run}} in the console\"}";
const BY_LIST: &str = r#"{lookFor: a job, find: {url: "https://b/jobs", each: "$.jobs[*]",
    that: {path: $.name, eq: "{{run}}"}, response: {jobIds: ["{{found.id}}"]}}}"#;

impl Scene {
    fn answers(&self, answers: &[(u16, Value)]) {
        for (status, body) in answers {
            self.cluster.answer(*status, body.clone());
        }
    }

    /// The URLs that were asked, in order.
    fn urls(&self) -> Vec<String> {
        let calls = self.cluster.calls().into_iter();
        let http = calls.filter(|call| call.verb == "http");
        http.map(|call| call.plural.replace("https://b/", ""))
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_logs_in_once_and_again_only_after_a_401_a_403_or_when_the_token_has_ended() {
    let scene = by_http(BY_HAND);
    let token = (200, json!({"token": "t"}));
    let running = (200, json!({"status": "Running"}));
    scene.answers(&[
        token.clone(),
        (401, Value::Null),
        (200, json!({"token": "u"})),
    ]);
    scene.answers(&[
        (200, json!({"jobIds": [7]})),
        running.clone(),
        running.clone(),
    ]);
    scene.answers(&[(403, Value::Null), token, running]);
    scene.answers(&[(200, json!({"status": "Completed"}))]);
    let handle = scene.take_while(async || {}).await.unwrap();
    assert_eq!(handle.handle["job"], "7");
    let asked = [
        "login", "backup", "login", "backup", "job/7", "job/7", "job/7", "login", "job/7", "job/7",
        "logout",
    ];
    assert_eq!(scene.urls(), asked);
    let calls = scene.cluster.calls().into_iter();
    let sent: Vec<_> = calls.filter(|call| call.verb == "http").collect();
    assert_eq!(sent[0].body["body"]["password"], "c2VjcmV0");
    let tokens: Vec<_> = sent
        .iter()
        .map(|it| it.body["headers"]["Authtoken"].as_str())
        .collect();
    let (t, u) = (Some("t"), Some("u"));
    assert_eq!(tokens, [None, t, None, u, u, u, u, None, t, t, t]);
    assert_eq!(
        scene.cluster.count("get", "secrets"),
        3,
        "once for each login"
    );
    let kept = scene.cluster.all(&scene.kind("configmap"));
    assert!(!format!("{kept:?}{:?}", scene.told.lock().unwrap()).contains("c2VjcmV0"));

    let scene = by_http(BY_HAND);
    scene.answers(&[(
        200,
        json!({"token": "t", "jobIds": [7], "status": "Running"}),
    )]);
    scene
        .take_while(async || tokio::time::sleep(Duration::from_secs(1000)).await)
        .await
        .unwrap_err();
    let logins = scene.urls().iter().filter(|it| *it == "login").count();
    assert_eq!(logins, 3, "every 6 minutes of the 15 until its deadline");
}

#[tokio::test(start_paused = true)]
async fn a_login_that_fails_sends_nothing_and_is_tried_again() {
    let scene = by_http(BY_HAND);
    scene.answers(&[(503, Value::Null), (429, Value::Null)]);
    scene.answers(&[(200, json!({"token": "t"})), (429, Value::Null)]);
    scene.answers(&[
        (200, json!({"jobIds": [7]})),
        (200, json!({"status": "Completed"})),
    ]);
    scene.take_while(async || {}).await.unwrap();
    let asked = [
        "login", "login", "login", "backup", "backup", "job/7", "logout",
    ];
    assert_eq!(scene.urls(), asked, "429 says that nothing was done");
}

#[tokio::test(start_paused = true)]
async fn snapshot_20_a_request_whose_answer_is_unknown_is_never_sent_again() {
    for answer in [None, Some(500), Some(504), Some(408)] {
        let scene = by_http(BY_HAND);
        scene.answers(&[(200, json!({"token": "t"}))]);
        match answer {
            Some(status) => scene.answers(&[(status, json!({"error": "gateway"}))]),
            None => {
                let lost = Fault::new("http", "https://b/backup", 1, 0, "connection reset");
                scene.cluster.fail(lost.after_it_is_done());
            }
        }
        let came = answer.map_or("connection reset".to_owned(), |it| {
            format!("it answered {it}")
        });
        for _ in 0..2 {
            let error = scene.take_while(async || {}).await.unwrap_err();
            assert_eq!(error.kind, ProviderErrorKind::Failed, "{error}");
            for part in [
                "ConfigMap redis/us-p-s1-1-1-http",
                came.as_str(),
                "whether it arrived is unknown",
                "look for a job of us-p-s1-1-1 in the console",
            ] {
                assert!(error.text.contains(part), "{part}: {error}");
            }
        }
        assert_eq!(scene.cluster.count("http", "https://b/backup"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_request_began_is_found_in_the_systems_list_by_the_runs_name() {
    let scene = by_http(BY_LIST);
    let others = json!({"jobs": [{"name": "nightly", "id": 6}]});
    let ours = json!({"jobs": [{"name": "nightly", "id": 6}, {"name": "us-p-s1-1-1", "id": 7}]});
    scene.answers(&[
        (200, json!({"token": "t"})),
        (502, Value::Null),
        (200, others.clone()),
    ]);
    scene.answers(&[
        (500, Value::Null),
        (200, ours),
        (200, json!({"status": "Completed"})),
    ]);
    let handle = scene.take_while(async || {}).await.unwrap();
    assert_eq!(handle.handle["job"], "7");
    let asked = ["login", "backup", "jobs", "jobs", "jobs", "job/7", "logout"];
    assert_eq!(scene.urls(), asked);

    // It is not there: the run ends by its deadline for the first word.
    let scene = by_http(BY_LIST);
    scene.answers(&[
        (200, json!({"token": "t"})),
        (502, Value::Null),
        (200, others),
    ]);
    let before = tokio::time::Instant::now();
    let error = scene.take_while(async || {}).await.unwrap_err();
    assert!(
        error
            .text
            .contains("its API lists nothing of this run; look for a job"),
        "{error}"
    );
    let took = before.elapsed().as_secs();
    assert!((60..90).contains(&took), "{took}");
    assert_eq!(scene.cluster.count("http", "https://b/backup"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_what_is_waited_for_ends_the_run_with_its_words() {
    let scene = by_http(BY_HAND);
    scene.answers(&[(
        200,
        json!({"token": "t", "errorMessage": "the application is not there"}),
    )]);
    let error = scene.take_while(async || {}).await.unwrap_err();
    assert!(
        error.kind == ProviderErrorKind::Failed
            && error.text.contains("the application is not there"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_run_left_is_deleted_by_the_system_and_a_request_that_failed_is_made_anew() {
    let scene = velero();
    let partial = json!({"phase": "PartiallyFailed", "failureReason": "one item"});
    let taken = scene
        .take_while(async || scene.backup(&[partial]).await)
        .await;
    assert!(taken.unwrap_err().text.contains("it is left as it is"));
    let requests = || scene.cluster.all(&scene.kind("deleteRequest"));
    let (nothing, failed) = (
        SnapshotHandle::default(),
        json!({"phase": "Processed", "errors": ["backup is still in progress"]}),
    );
    let answer = async |name: &str, status: &Value| {
        let kind = scene.kind("deleteRequest");
        while !scene.cluster.set_status(&kind, "velero", name, status) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let release = || scene.run(async |engine| engine.release(&nothing, true).await);
    release().await.unwrap();
    assert_eq!(requests()[0]["spec"]["backupName"], "us-p-s1-1-1");
    answer("us-p-s1-1-1-delete", &failed).await;
    release().await.unwrap();
    assert_eq!(requests().len(), 2, "the first one failed");
    release().await.unwrap();
    assert_eq!(requests().len(), 2, "it was asked for before");
    assert_eq!(scene.cluster.count("delete", "backups"), 0);
}
