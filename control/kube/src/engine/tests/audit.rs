//! Reading a snapshot back on an API server in memory: the test plays the Job's controller, its Pod and the kubelet.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_config::VerifyJob;
use understudy_control::snapshot::{
    Checksum, DataRead, ProviderError, ProviderErrorKind, SnapshotHandle, Verified,
};

use super::scene::{Scene, csi};
use crate::cluster::memory::Fault;
use crate::engine::{LABEL_RUN, scratch_run};
use crate::recipe::{BUILTIN, Kind, Recipe, read};

pub(super) const RUN: &str = "us-p-s1-1-1";
pub(super) const SCRATCH: &str = "us-p-s1-1-1-verify";

fn jobs() -> Kind {
    Kind::own("batch", "v1", "Job", "jobs")
}

fn pods() -> Kind {
    Kind::own("", "v1", "Pod", "pods")
}

pub(super) fn audit() -> VerifyJob {
    VerifyJob {
        image: Some("understudy:1".to_owned()),
        ..VerifyJob::default()
    }
}

pub(super) fn sound(keys: u64) -> DataRead {
    DataRead {
        sound: true,
        keys,
        bytes: 99,
        checksum: Checksum::Right,
        lines: vec!["dump.rdb: 99 bytes".to_owned()],
        ..DataRead::default()
    }
}

pub(super) fn ended(code: i64, message: &str) -> Value {
    json!({"phase": if code == 0 { "Succeeded" } else { "Failed" },
        "containerStatuses": [{"name": "read", "state": {"terminated": {"exitCode": code, "reason": "Error", "message": message}}}]})
}

impl Scene {
    /// A scene with a snapshot, and the request of its scratch.
    async fn with_snapshot() -> (Scene, SnapshotHandle) {
        let mut scene = Scene::new();
        let handle = scene.take().await.unwrap();
        scene.request.run = scratch_run(RUN);
        (scene, handle)
    }

    fn scratch_job(&self) -> Option<Value> {
        self.cluster.peek(&jobs(), "redis", SCRATCH)
    }

    fn scratch_claim(&self) -> Option<Value> {
        self.cluster.peek(&self.kind("pvc"), "redis", SCRATCH)
    }

    /// Waits for the Job, and gives it a Pod with this status.
    async fn scratch_pod(&self, status: &Value) {
        let job = loop {
            if let Some(job) = self.scratch_job() {
                break job;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let owner = json!([{"kind": "Job", "name": SCRATCH, "uid": job["metadata"]["uid"]}]);
        let metadata = json!({"name": format!("{SCRATCH}-x"), "namespace": "redis",
            "labels": {"job-name": SCRATCH}, "ownerReferences": owner});
        let pod = json!({"metadata": metadata, "status": status});
        self.cluster.put(&pods(), pod);
    }

    async fn verify_while(
        &self,
        handle: &SnapshotHandle,
        audit: &VerifyJob,
        meanwhile: impl AsyncFnOnce(),
    ) -> Result<Verified, ProviderError> {
        let verify = self.run(async |engine| engine.audit(handle, audit).await);
        // As the API server does with every claim that is made.
        let pending = async {
            loop {
                let claim = self.scratch_claim().unwrap_or_default();
                if claim["status"]["phase"].is_null() {
                    let kind = self.kind("pvc");
                    let status = json!({"phase": "Pending"});
                    self.cluster.set_status(&kind, "redis", SCRATCH, &status);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let meanwhile = async { tokio::join!(meanwhile(), pending).1 };
        tokio::select! {
            verified = verify => verified,
            never = meanwhile => never,
        }
    }

    fn all_is_forgotten(&self) {
        assert_eq!(self.scratch_job(), None);
        assert_eq!(self.scratch_claim(), None);
        assert!(self.snapshot().is_some(), "the snapshot stays");
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_restored_read_by_a_job_compared_and_forgotten() {
    let (scene, handle) = Scene::with_snapshot().await;
    let verified = scene
        .verify_while(&handle, &audit(), async || {
            scene.scratch_pod(&json!({"phase": "Pending"})).await;
            let claim = scene.scratch_claim().unwrap();
            assert_eq!(claim["metadata"]["labels"][LABEL_RUN], SCRATCH);
            assert_eq!(claim["spec"]["dataSource"]["name"], RUN);
            let job = scene.scratch_job().unwrap();
            assert_eq!(job["metadata"]["labels"][LABEL_RUN], SCRATCH);
            let volume = &job["spec"]["template"]["spec"]["volumes"][0];
            assert_eq!(volume["persistentVolumeClaim"]["claimName"], SCRATCH);
            tokio::time::sleep(Duration::from_secs(20)).await;
            scene.scratch_pod(&ended(0, &sound(7).to_line(4096))).await;
        })
        .await
        .unwrap();
    assert_eq!((verified.keys, verified.bytes), (7, 99));
    let told = verified.lines.join("\n");
    assert!(told.contains("as many as the record counted"), "{told}");
    scene.all_is_forgotten();
}

#[tokio::test(start_paused = true)]
async fn damaged_or_empty_data_is_a_failure_and_forgotten_too() {
    let damaged = DataRead {
        damage: Some("dump.rdb: checksum differs".to_owned()),
        ..DataRead::default()
    };
    for (read, what) in [(damaged, "checksum differs"), (sound(0), "holds no key")] {
        let (scene, handle) = Scene::with_snapshot().await;
        let error = scene
            .verify_while(&handle, &audit(), async || {
                scene.scratch_pod(&ended(1, &read.to_line(4096))).await;
            })
            .await
            .unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::Failed, "{error}");
        let told = error.text.contains(what) && error.text.contains("VolumeSnapshot redis/");
        assert!(told, "{error}");
        scene.all_is_forgotten();
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_never_scheduled_ends_by_the_deadline_in_the_systems_words() {
    let (scene, handle) = Scene::with_snapshot().await;
    let words = "0/3 nodes are available: 3 node(s) had volume node affinity conflict.";
    let event = json!({"metadata": {"name": "e", "namespace": "redis"}, "type": "Warning", "reason": "ProvisioningFailed",
        "message": "no space in pool p", "lastTimestamp": "2026-01-01T00:00:00Z",
        "involvedObject": {"kind": "PersistentVolumeClaim", "name": SCRATCH}});
    scene
        .cluster
        .put(&Kind::own("", "v1", "Event", "events"), event);
    let error = scene
        .verify_while(&handle, &audit(), async || {
            scene
                .scratch_pod(&json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                    "reason": "Unschedulable", "message": words}]}))
                .await;
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::NotReady, "{error}");
    for part in [
        "Job redis/us-p-s1-1-1-verify: no answer after 30 min",
        words,
        "ProvisioningFailed: no space in pool p",
        "kubernetes.verify.deadline",
    ] {
        assert!(error.text.contains(part), "{part}: {error}");
    }
    scene.all_is_forgotten();
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_pulled_is_not_waited_for_until_the_deadline() {
    let (scene, handle) = Scene::with_snapshot().await;
    let status = |reason: &str| {
        json!({"phase": "Pending", "containerStatuses": [{"name": "read", "state": {"waiting":
            {"reason": reason, "message": "Back-off pulling image \"understudy:1\""}}}]})
    };
    let error = scene
        .verify_while(&handle, &audit(), async || {
            scene.scratch_pod(&status("ErrImagePull")).await;
            tokio::time::sleep(Duration::from_secs(30)).await;
            scene.scratch_pod(&status("ImagePullBackOff")).await;
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Misconfigured, "{error}");
    let told = error.text.contains("Back-off pulling image") && error.text.contains(", for 18");
    assert!(told, "{error}");
    scene.all_is_forgotten();
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_left_is_ended_first_and_what_is_not_ours_is_left() {
    let (scene, handle) = Scene::with_snapshot().await;
    let left = json!({LABEL_RUN: SCRATCH});
    let metadata = json!({"name": SCRATCH, "namespace": "redis", "labels": left, "uid": "old"});
    scene.cluster.put(
        &jobs(),
        json!({"metadata": metadata, "status": {"succeeded": 1}}),
    );
    scene.put(
        "pvc",
        json!({"metadata": metadata, "spec": {}, "status": {"phase": "Bound"}}),
    );
    // Its Pod goes away a little later, and only then the claim.
    let finalizers = json!({"metadata": {"finalizers": ["kubernetes.io/pvc-protection"]}});
    let free = |finalizers: &Value| {
        let patch = json!({"metadata": {"finalizers": finalizers}});
        scene
            .cluster
            .write(&scene.kind("pvc"), "redis", SCRATCH, &patch, false)
    };
    assert!(free(&finalizers["metadata"]["finalizers"]));
    let verified = scene
        .verify_while(&handle, &audit(), async || {
            tokio::time::sleep(Duration::from_secs(30)).await;
            assert!(
                scene.scratch_job().is_none(),
                "no new Job while the old claim is there"
            );
            scene.cluster.remove(&scene.kind("pvc"), "redis", SCRATCH);
            scene.scratch_pod(&ended(0, &sound(7).to_line(4096))).await;
        })
        .await;
    assert_eq!(verified.unwrap().keys, 7);
    scene.all_is_forgotten();

    let theirs = json!({"metadata": {"name": SCRATCH, "namespace": "redis"}, "spec": {}});
    scene.put("pvc", theirs);
    let error = scene.verify_while(&handle, &audit(), async || {}).await;
    let error = error.unwrap_err();
    assert!(error.text.contains("it is not ours"), "{error}");
    assert!(scene.scratch_claim().is_some());
    assert_eq!(scene.cluster.count("create", "jobs"), 1);
}

#[tokio::test(start_paused = true)]
async fn missing_rights_and_a_missing_image_are_named_before_anything_is_made() {
    let (scene, handle) = Scene::with_snapshot().await;
    scene.cluster.deny("create", "jobs");
    scene.cluster.deny("delete", "persistentvolumeclaims");
    let error = scene.verify_while(&handle, &audit(), async || {}).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Denied, "{error}");
    for part in [
        "no right to create jobs.batch in namespace redis",
        "no right to delete persistentvolumeclaims in namespace redis",
    ] {
        assert!(error.text.contains(part), "{error}");
    }
    let error = scene
        .verify_while(&handle, &VerifyJob::default(), async || {})
        .await;
    let error = error.unwrap_err();
    assert!(error.text.contains("kubernetes.verify.image"), "{error}");
    assert_eq!(scene.cluster.count("create", "persistentvolumeclaims"), 0);
    assert_eq!(scene.cluster.count("create", "jobs"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_refuses_the_job_is_told_and_the_claim_goes() {
    let (scene, handle) = Scene::with_snapshot().await;
    let words = "pods is forbidden: violates PodSecurity \"restricted:latest\"";
    let fault = Fault::new("create", "jobs", u32::MAX, 422, words);
    scene.cluster.fail(fault);
    let error = scene.verify_while(&handle, &audit(), async || {}).await;
    let error = error.unwrap_err();
    assert!(error.text.contains(words), "{error}");
    scene.all_is_forgotten();
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_is_waited_out_and_a_lost_answer_makes_no_second_job() {
    let (scene, handle) = Scene::with_snapshot().await;
    let lost = Fault::new("create", "jobs", 1, 0, "connection reset").after_it_is_done();
    scene.cluster.fail(lost);
    let verified = scene
        .verify_while(&handle, &audit(), async || {
            scene.scratch_pod(&json!({"phase": "Running"})).await;
            let away = Fault::new("*", "jobs", u32::MAX, 503, "etcd is away");
            scene.cluster.fail(away);
            tokio::time::sleep(Duration::from_secs(60)).await;
            scene.cluster.heal();
            scene.scratch_pod(&ended(0, &sound(7).to_line(4096))).await;
        })
        .await;
    assert_eq!(verified.unwrap().keys, 7);
    assert_eq!(scene.cluster.count("create", "jobs"), 1);
    scene.all_is_forgotten();
}

#[tokio::test(start_paused = true)]
async fn an_end_without_an_answer_is_told_with_what_the_container_said() {
    let (scene, handle) = Scene::with_snapshot().await;
    let error = scene
        .verify_while(&handle, &audit(), async || {
            scene
                .scratch_pod(&ended(128, "exec /understudy: exec format error"))
                .await;
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::NotReady, "{error}");
    assert!(error.text.contains("exec format error"), "{error}");
    scene.all_is_forgotten();
}

#[tokio::test(start_paused = true)]
async fn a_recipe_that_gives_no_scratch_claim_is_refused_by_name_with_what_to_do() {
    for (name, what) in [
        (
            "commvault",
            "no small call that restores; by hand: Restore the job",
        ),
        ("kanister", "the blueprint decides where"),
        ("kubemove", "the plugin decides where"),
    ] {
        let (_, text) = BUILTIN.iter().find(|it| it.0 == name).unwrap();
        let recipe: Recipe = read(&serde_saphyr::from_str(text).unwrap()).unwrap();
        let scene = Scene::with(recipe);
        let handle = SnapshotHandle::default();
        let error = scene.verify_while(&handle, &audit(), async || {}).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::Misconfigured, "{error}");
        let told = [name, what, "understudy snapshots read DIR"];
        assert!(told.iter().all(|it| error.text.contains(it)), "{error}");
    }
    assert!(csi(&json!({})).way_back().is_ok());
}
