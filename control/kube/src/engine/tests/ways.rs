//! The ways into a scratch claim, one of each shape, on an API server in memory: the test plays the system.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_config::VerifyJob;
use understudy_control::snapshot::{ProviderError, ProviderErrorKind, SnapshotHandle, Verified};

use super::audit::{RUN, SCRATCH, audit, ended, sound};
use super::scene::Scene;
use crate::cluster::memory::Fault;
use crate::engine::{LABEL_RUN, scratch_run};
use crate::recipe::{BUILTIN, Kind, read};

/// Where claims are restored under their own names.
const ELSEWHERE: &str = "read-back";

fn scene_of(name: &str) -> Scene {
    let (_, text) = BUILTIN.iter().find(|it| it.0 == name).unwrap();
    let mut scene = Scene::with(read(&serde_saphyr::from_str(text).unwrap()).unwrap());
    let claim = json!({"metadata": {"name": "data-0", "namespace": "redis"}, "status": {"phase": "Bound"},
        "spec": {"volumeName": "pv-1", "storageClassName": "fast", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
    scene.put("pvc", claim);
    scene.request.run = scratch_run(RUN);
    scene
}

fn handle_of(recipe: &str, parts: &[(&str, &str)]) -> SnapshotHandle {
    let own = [("claim", "data-0"), ("claimNamespace", "redis")];
    let parts = parts.iter().chain(&own);
    SnapshotHandle {
        id: RUN.to_owned(),
        run: RUN.to_owned(),
        recipe: recipe.to_owned(),
        keys: Some(7),
        handle: parts
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..SnapshotHandle::default()
    }
}

fn k8up() -> (Scene, SnapshotHandle) {
    let mut scene = scene_of("k8up");
    scene
        .request
        .params
        .insert("schedule".to_owned(), json!("nightly"));
    scene.put("schedule", json!({"metadata": {"name": "nightly", "namespace": "redis"}, "spec": {"backend": {"s3": {"bucket": "b"}}}}));
    let parts = [("namespace", "redis"), ("snapshot", "40dc1520")];
    (scene, handle_of("k8up", &parts))
}

fn velero() -> (Scene, SnapshotHandle) {
    let scene = scene_of("velero");
    for kind in ["csiSnapshot", "csiContent", "podVolume"] {
        scene.cluster.serve(&scene.kind(kind), false);
    }
    let parts = [("namespace", "velero"), ("backup", RUN)];
    (scene, handle_of("velero", &parts))
}

fn longhorn() -> (Scene, SnapshotHandle) {
    let scene = scene_of("longhorn");
    let parts = [
        ("namespace", "longhorn-system"),
        ("url", "s3://b/?backup=b-1"),
        ("size", "1073741824"),
    ];
    (scene, handle_of("longhorn", &parts))
}

fn elsewhere() -> VerifyJob {
    VerifyJob {
        namespace: Some(ELSEWHERE.to_owned()),
        ..audit()
    }
}

fn velero_claim() -> Value {
    json!({"metadata": {"name": "data-0", "namespace": ELSEWHERE, "labels": {"app": "redis"}}, "spec": {}, "status": {"phase": "Bound"}})
}

impl Scene {
    async fn reads(
        &self,
        handle: &SnapshotHandle,
        wanted: &VerifyJob,
        meanwhile: impl AsyncFnOnce(),
    ) -> Result<Verified, ProviderError> {
        let verify = self.run(async |engine| engine.audit(handle, wanted).await);
        let meanwhile = async {
            meanwhile().await;
            std::future::pending().await
        };
        tokio::select! {
            biased;
            verified = verify => verified,
            never = meanwhile => never,
        }
    }

    /// The first of a kind with the scratch's label.
    fn ours(&self, kind: &str) -> Option<Value> {
        let all = self.cluster.all(&self.kind(kind));
        all.into_iter()
            .find(|it| it["metadata"]["labels"][LABEL_RUN] == SCRATCH)
    }

    async fn made(&self, kind: &str) -> Value {
        loop {
            if let Some(made) = self.ours(kind) {
                return made;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn says(&self, kind: &str, object: &Value, status: &Value) {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
        assert!(
            self.cluster
                .set_status(&self.kind(kind), text("namespace"), text("name"), status)
        );
    }

    /// The Job's Pod answers.
    async fn job_answers(&self) {
        let job = self.made("job").await;
        let namespace = job["metadata"]["namespace"].clone();
        let owner = json!([{"kind": "Job", "name": SCRATCH, "uid": job["metadata"]["uid"]}]);
        let metadata = json!({"name": "x", "namespace": namespace, "labels": {"job-name": SCRATCH}, "ownerReferences": owner});
        let pod = json!({"metadata": metadata, "status": ended(0, &sound(7).to_line(4096))});
        self.put("pod", pod);
    }

    fn nothing_is_left(&self) {
        for name in self.recipe.kinds.keys().filter(|it| *it != "pod") {
            assert_eq!(self.ours(name), None, "{name}");
        }
        let own = self.cluster.peek(&self.kind("pvc"), "redis", "data-0");
        assert!(own.is_some(), "the server's own claim");
    }

    fn there(&self) -> Option<Value> {
        self.cluster.peek(&self.kind("pvc"), ELSEWHERE, "data-0")
    }
}

const DONE: &str = "the job succeeded";

fn completed(reason: &str, message: &str) -> Value {
    json!({"started": true, "conditions": [{"type": "Completed", "status": "True", "reason": reason, "message": message}]})
}

#[tokio::test(start_paused = true)]
async fn an_empty_claim_is_made_as_the_servers_is_and_the_system_fills_it() {
    let (scene, handle) = k8up();
    let verified = scene
        .reads(&handle, &audit(), async || {
            let restore = scene.made("restore").await;
            let claim = scene.ours("pvc").expect("before the restore");
            assert_eq!(claim["spec"]["storageClassName"], "fast");
            assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1Gi");
            let folder = &restore["spec"]["restoreMethod"]["folder"];
            assert_eq!(folder["claimName"], claim["metadata"]["name"]);
            scene.says("restore", &restore, &completed("Succeeded", DONE));
            scene.job_answers().await;
        })
        .await
        .unwrap();
    assert_eq!(verified.keys, 7);
    scene.nothing_is_left();
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_fails_is_told_in_the_systems_words_and_all_is_forgotten() {
    let (scene, handle) = k8up();
    let error = scene
        .reads(&handle, &audit(), async || {
            let restore = scene.made("restore").await;
            let failed = completed("Failed", "the repository is locked");
            scene.says("restore", &restore, &failed);
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Failed, "{error}");
    assert!(error.text.contains("the repository is locked"), "{error}");
    assert_eq!(scene.cluster.count("create", "jobs"), 0, "no Job reads it");
    scene.nothing_is_left();

    let (scene, handle) = velero();
    let error = scene
        .reads(&handle, &elsewhere(), async || {
            let restore = scene.made("restore").await;
            let failed =
                json!({"phase": "FailedValidation", "validationErrors": ["backup not found"]});
            scene.says("restore", &restore, &failed);
        })
        .await
        .unwrap_err();
    assert!(error.text.contains("backup not found"), "{error}");
    scene.nothing_is_left();
    let asked = scene.cluster.count("create", "deletebackuprequests");
    assert_eq!(asked, 0, "a restore that failed deletes no backup");
}

#[tokio::test(start_paused = true)]
async fn a_system_that_does_not_answer_ends_by_its_deadline_and_leaves_no_claim() {
    let (scene, handle) = k8up();
    let error = scene
        .reads(&handle, &audit(), async || {})
        .await
        .unwrap_err();
    assert!(error.text.contains("no controller has answered"), "{error}");
    scene.nothing_is_left();
}

#[tokio::test(start_paused = true)]
async fn volume_persistent_volume_and_claim_are_made_in_order_and_go_in_the_other() {
    let (scene, handle) = longhorn();
    let verified = scene
        .reads(&handle, &audit(), async || {
            let volume = scene.made("volume").await;
            assert_eq!(volume["spec"]["fromBackup"], "s3://b/?backup=b-1");
            assert_eq!(scene.ours("pv"), None, "not before the volume is there");
            let done =
                json!({"restoreInitiated": true, "restoreRequired": false, "state": "detached"});
            scene.says("volume", &volume, &done);
            let persistent = scene.made("pv").await;
            let handle = &persistent["spec"]["csi"]["volumeHandle"];
            assert_eq!(*handle, volume["metadata"]["name"]);
            scene.says("pv", &persistent, &json!({"phase": "Available"}));
            let claim = scene.made("pvc").await;
            assert_eq!(claim["spec"]["volumeName"], persistent["metadata"]["name"]);
            scene.says("pvc", &claim, &json!({"phase": "Bound"}));
            scene.job_answers().await;
        })
        .await
        .unwrap();
    assert_eq!(verified.keys, 7);
    scene.nothing_is_left();
    let calls = scene.cluster.calls();
    let deleted = calls.iter().filter(|it| it.verb == "delete");
    let deleted: Vec<&str> = deleted.map(|it| it.plural.as_str()).collect();
    let order = [
        "jobs",
        "persistentvolumeclaims",
        "persistentvolumes",
        "volumes",
    ];
    assert_eq!(deleted, order);
}

#[tokio::test(start_paused = true)]
async fn a_claim_under_its_own_name_is_read_in_the_namespace_for_this_and_forgotten_with_what_came_beside()
 {
    let (scene, handle) = velero();
    let verified = scene
        .reads(&handle, &elsewhere(), async || {
            let restore = scene.made("restore").await;
            assert_eq!(restore["spec"]["namespaceMapping"]["redis"], ELSEWHERE);
            let name = restore["metadata"]["name"].clone();
            let marks = json!({"velero.io/restore-name": name});
            for (policy, name) in [("Retain", "kept"), ("Delete", "theirs")] {
                scene.put("csiContent", json!({"metadata": {"name": name, "labels": marks}, "spec": {"deletionPolicy": policy}}));
            }
            scene.put("csiSnapshot", json!({"metadata": {"name": "v", "namespace": ELSEWHERE, "labels": marks}}));
            scene.put("csiSnapshot", json!({"metadata": {"name": "other", "namespace": ELSEWHERE}}));
            scene.put("pvc", velero_claim());
            scene.says("restore", &restore, &json!({"phase": "Completed"}));
            let job = scene.made("job").await;
            assert_eq!(job["metadata"]["namespace"], ELSEWHERE);
            let volume = &job["spec"]["template"]["spec"]["volumes"][0];
            assert_eq!(volume["persistentVolumeClaim"]["claimName"], "data-0");
            scene.job_answers().await;
        })
        .await
        .unwrap();
    assert_eq!(verified.keys, 7);
    scene.nothing_is_left();
    assert_eq!(scene.there(), None);
    let names = |kind: &str| -> Vec<String> {
        let all = scene.cluster.all(&scene.kind(kind));
        let name = |it: &Value| it["metadata"]["name"].as_str().unwrap().to_owned();
        all.iter().map(name).collect()
    };
    assert_eq!(names("csiSnapshot"), ["other"]);
    let kept = "whose deletion would take a snapshot along";
    assert_eq!(names("csiContent"), ["theirs"], "{kept}");
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_that_name_that_was_there_before_is_refused_and_never_touched() {
    let (scene, handle) = velero();
    scene.put("pvc", velero_claim());
    let error = scene.reads(&handle, &elsewhere(), async || {}).await;
    let error = error.unwrap_err();
    for part in [
        "PersistentVolumeClaim read-back/data-0: it is there, and it is not ours",
        "kubernetes.verify.namespace",
    ] {
        assert!(error.text.contains(part), "{error}");
    }
    assert_eq!(
        scene.there().unwrap()["metadata"]["labels"],
        velero_claim()["metadata"]["labels"]
    );
    assert_eq!(scene.cluster.count("create", "restores"), 0);
    assert_eq!(scene.cluster.count("delete", "persistentvolumeclaims"), 0);

    let (scene, handle) = k8up();
    scene.put(
        "pvc",
        json!({"metadata": {"name": SCRATCH, "namespace": "redis"}, "spec": {}}),
    );
    let error = scene.reads(&handle, &audit(), async || {}).await;
    let error = error.unwrap_err();
    assert!(error.text.contains("it is not ours"), "{error}");
    assert_eq!(scene.cluster.count("create", "restores"), 0);
    assert!(
        scene
            .cluster
            .peek(&scene.kind("pvc"), "redis", SCRATCH)
            .is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_one_left_under_the_claims_own_name_is_known_by_what_asked_for_it() {
    let (scene, handle) = velero();
    let first = scene.run(async |engine| engine.audit(&handle, &elsewhere()).await);
    let dies = async {
        let restore = scene.made("restore").await;
        scene.says("restore", &restore, &json!({"phase": "InProgress"}));
        tokio::time::sleep(Duration::from_secs(5)).await;
        scene.put("pvc", velero_claim());
    };
    tokio::select! {
        biased;
        () = dies => {}
        read = first => panic!("it ended by itself: {read:?}"),
    }
    assert!(scene.there().unwrap()["metadata"]["labels"][LABEL_RUN].is_null());
    let old = scene.ours("restore").unwrap();
    let verified = scene
        .reads(&handle, &elsewhere(), async || {
            // It runs: it is waited for, since what it makes later would be nobody's.
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(scene.there().is_some(), "while it runs nothing is removed");
            scene.says("restore", &old, &json!({"phase": "Completed"}));
            let new = loop {
                let restore = scene.made("restore").await;
                if restore["metadata"]["uid"] != old["metadata"]["uid"] {
                    break restore;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            };
            assert_eq!(scene.there(), None, "the earlier one's claim is gone first");
            scene.put("pvc", velero_claim());
            scene.says("restore", &new, &json!({"phase": "Completed"}));
            scene.job_answers().await;
        })
        .await;
    assert_eq!(verified.unwrap().keys, 7);
    scene.nothing_is_left();
    assert_eq!(scene.there(), None);
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_runs_past_its_deadline_is_left_with_its_claim_for_the_next_one() {
    let (scene, handle) = velero();
    let error = scene
        .reads(&handle, &elsewhere(), async || {
            let restore = scene.made("restore").await;
            scene.put("pvc", velero_claim());
            scene.says("restore", &restore, &json!({"phase": "InProgress"}));
        })
        .await
        .unwrap_err();
    assert!(
        error
            .text
            .contains("it still runs, and cannot be called back"),
        "{error}"
    );
    assert!(scene.ours("restore").is_some() && scene.there().is_some());
    assert_eq!(scene.cluster.count("delete", "persistentvolumeclaims"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_leaves_no_claim_fails() {
    let (scene, handle) = velero();
    let error = scene
        .reads(&handle, &elsewhere(), async || {
            let restore = scene.made("restore").await;
            scene.says("restore", &restore, &json!({"phase": "Completed"}));
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Failed, "{error}");
    assert!(error.text.contains("the claim is not there"), "{error}");
    scene.nothing_is_left();
}

#[tokio::test(start_paused = true)]
async fn no_namespace_the_servers_own_and_files_that_need_a_pod_are_refused_before_anything_is_made()
 {
    let (scene, handle) = velero();
    let own = VerifyJob {
        namespace: Some("redis".to_owned()),
        ..audit()
    };
    for (wanted, part) in [
        (audit(), "set kubernetes.verify.namespace"),
        (own, "in redis is the server itself"),
    ] {
        let error = scene.reads(&handle, &wanted, async || {}).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::Misconfigured, "{error}");
        assert!(error.text.contains(part), "{error}");
    }
    scene.put("podVolume", json!({"metadata": {"name": "f", "namespace": "velero", "labels": {"velero.io/backup-name": RUN}}}));
    let error = scene.reads(&handle, &elsewhere(), async || {}).await;
    let error = error.unwrap_err();
    assert!(error.text.contains("the backup is of files"), "{error}");
    assert_eq!(scene.cluster.count("create", "restores"), 0);
}

#[tokio::test(start_paused = true)]
async fn rights_of_the_way_that_are_missing_are_all_named_before_anything_is_made() {
    let (scene, handle) = velero();
    scene.cluster.deny("patch", "persistentvolumeclaims");
    scene.cluster.deny("delete", "restores");
    scene.cluster.deny("delete", "volumesnapshotcontents");
    let error = scene.reads(&handle, &elsewhere(), async || {}).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Denied, "{error}");
    for part in [
        "no right to patch persistentvolumeclaims in namespace read-back",
        "no right to delete restores.velero.io in namespace velero",
        "no right to delete volumesnapshotcontents.snapshot.storage.k8s.io in the cluster",
    ] {
        assert!(error.text.contains(part), "{part}: {error}");
    }
    assert_eq!(scene.cluster.count("create", "restores"), 0);

    // What only a restore onto the server's own claim needs is not asked for.
    let scene = scene_of("stork");
    scene.cluster.deny("create", "volumesnapshotrestores");
    scene.cluster.deny("create", "jobs");
    let handle = handle_of("stork", &[("namespace", "redis"), ("snapshot", RUN)]);
    let error = scene.reads(&handle, &audit(), async || {}).await;
    let error = error.unwrap_err();
    assert!(error.text.contains("create jobs.batch"), "{error}");
    assert!(!error.text.contains("volumesnapshotrestores"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_admission_that_refuses_the_restore_is_told_and_the_empty_claim_goes() {
    let (scene, handle) = k8up();
    let words = "admission webhook \"guard\" denied the request: not on Fridays";
    let fault = Fault::new("create", "restores", u32::MAX, 403, words);
    scene.cluster.fail(fault);
    let error = scene.reads(&handle, &audit(), async || {}).await;
    assert!(error.unwrap_err().text.contains(words));
    scene.nothing_is_left();
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_its_class_keeps_is_told() {
    let (scene, handle) = k8up();
    let volumes = Kind {
        cluster: true,
        ..Kind::own("", "v1", "PersistentVolume", "persistentvolumes")
    };
    scene.cluster.put(
        &volumes,
        json!({"metadata": {"name": "pv-9"}, "spec": {"persistentVolumeReclaimPolicy": "Retain"}}),
    );
    let verified = scene
        .reads(&handle, &audit(), async || {
            let restore = scene.made("restore").await;
            let bound = json!({"spec": {"volumeName": "pv-9"}});
            let pvc = scene.kind("pvc");
            assert!(scene.cluster.write(&pvc, "redis", SCRATCH, &bound, false));
            scene.says("restore", &restore, &completed("Succeeded", DONE));
            scene.job_answers().await;
        })
        .await
        .unwrap();
    let told = verified.lines.join("\n");
    assert!(
        told.contains("not all is forgotten: PersistentVolume pv-9"),
        "{told}"
    );
    scene.nothing_is_left();
}

#[tokio::test(start_paused = true)]
async fn a_second_restore_to_another_name_is_one_of_its_own() {
    for name in ["stash", "kubestash"] {
        let mut scene = scene_of(name);
        scene.request.run = RUN.to_owned();
        let parts = [
            ("namespace", "redis"),
            ("snapshot", "s-1"),
            ("repository", "r"),
        ];
        let handle = handle_of(name, &parts);
        for (target, sessions) in [("a", 1), ("b", 2), ("a", 2)] {
            let restore = scene.run(async |engine| engine.restore(&handle, "redis", target).await);
            let controller = async {
                loop {
                    for session in scene.cluster.all(&scene.kind("restore")) {
                        scene.says("restore", &session, &json!({"phase": "Succeeded"}));
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            tokio::select! {
                made = restore => made.map(drop).unwrap(),
                () = controller => {}
            }
            let made = scene.cluster.count("create", "restoresessions");
            assert_eq!(made, sessions, "{name} to {target}");
        }
    }
}
