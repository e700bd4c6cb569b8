//! restic by a CronJob: a Job that cannot reach the volume, and a repository that is locked.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_control::snapshot::ProviderErrorKind;

use super::scene::Scene;
use crate::recipe::{BUILTIN, read};

const JOB: &str = "us-p-s1-1-1";

fn restic() -> Scene {
    let (_, text) = BUILTIN.iter().find(|(name, _)| *name == "restic").unwrap();
    let mut scene = Scene::with(read(&serde_saphyr::from_str(text).unwrap()).unwrap());
    scene
        .request
        .params
        .insert("cronjob".to_owned(), json!("redis-backup"));
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "restic", "image": "restic/restic"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-0"}}]});
    scene.put(
        "cronjob",
        json!({"metadata": {"name": "redis-backup", "namespace": "redis", "uid": "c-1"},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": {"spec": pod}}}}}),
    );
    scene
}

impl Scene {
    /// Plays the Job's controller: its pod, then its status.
    async fn job(&self, pod: &Value, status: &Value) {
        let kind = self.kind("job");
        while self.cluster.all(&kind).is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.put("pod", json!({"metadata": {"name": "restic-x", "namespace": "redis", "labels": {"job-name": JOB}}, "status": pod}));
        assert!(self.cluster.set_status(&kind, "redis", JOB, status));
    }
}

#[tokio::test(start_paused = true)]
async fn snapshot_17_a_job_whose_pod_cannot_have_the_volume_ends_by_the_deadline_and_is_named() {
    let scene = restic();
    // Bound to another node: the pod waits for ever, and the Job says nothing but that it is active.
    let waiting = json!({"phase": "Pending", "containerStatuses": [{"name": "restic", "state": {"waiting": {"reason": "ContainerCreating"}}}]});
    let error = scene
        .take_while(async || scene.job(&waiting, &json!({"active": 1})).await)
        .await
        .unwrap_err();
    assert!(
        error.kind == ProviderErrorKind::Failed
            && error.text.contains("Job redis/us-p-s1-1-1")
            && error.text.contains("after 35 min"),
        "{error}"
    );
    assert!(!scene.asked().contains(&"hold".to_owned()), "nobody waited");
}

#[tokio::test(start_paused = true)]
async fn snapshot_25_a_stale_lock_is_told_in_restics_words_and_never_removed() {
    let scene = restic();
    let words = "unable to create lock in backend: repository is already locked by PID 7";
    let locked = json!({"phase": "Failed", "containerStatuses": [{"name": "restic", "state": {"terminated": {"exitCode": 11, "message": words}}}]});
    let failed = json!({"failed": 2, "conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}]});
    let error = scene
        .take_while(async || scene.job(&locked, &failed).await)
        .await
        .unwrap_err();
    assert!(
        error.kind == ProviderErrorKind::Failed && error.text.contains(words),
        "{error}"
    );
    assert_eq!(
        scene.cluster.count("create", "jobs"),
        1,
        "no second try, no unlock"
    );
}
