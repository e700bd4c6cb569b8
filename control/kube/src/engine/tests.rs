//! Whole runs of the CSI recipe on an API server in memory, with paused time.

mod audit;
mod jobs;
mod scene;
mod systems;
mod ways;

use std::time::Duration;

use serde_json::json;
use understudy_control::snapshot::ProviderErrorKind;

use super::LABEL_RUN;
use crate::cluster::memory::Fault;
use scene::{Scene, csi};

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_taken_verified_protected_checked_and_released() {
    let scene = Scene::new();
    let handle = scene.take().await.unwrap();
    assert_eq!((handle.offset, handle.keys), (Some(42), Some(7)));
    assert_eq!(handle.level_reached, "app");
    assert_eq!(handle.handle["storage"], "h-1");
    let snapshot = scene.snapshot().unwrap();
    assert_eq!(snapshot["metadata"]["labels"][LABEL_RUN], "us-p-s1-1-1");
    assert_eq!(
        snapshot["metadata"]["annotations"]["understudy.io/run-id"],
        "abc"
    );
    assert_eq!(snapshot["spec"]["volumeSnapshotClassName"], "fast");
    let content = || {
        scene
            .cluster
            .peek(&scene.kind("content"), "", "content-1")
            .unwrap()
    };
    assert_eq!(content()["spec"]["deletionPolicy"], "Retain");
    scene
        .run(async |engine| engine.check(&handle).await)
        .await
        .unwrap();
    scene
        .run(async |engine| engine.release(&handle, false).await)
        .await
        .unwrap();
    assert_eq!(content()["spec"]["deletionPolicy"], "Delete");
    assert!(scene.snapshot().is_some());
    scene
        .run(async |engine| engine.release(&handle, true).await)
        .await
        .unwrap();
    assert!(scene.snapshot().is_none());
    assert_eq!(scene.asked(), ["quiesce app"], "nobody was held");
}

#[tokio::test(start_paused = true)]
async fn snapshot_01_what_no_controller_took_up_is_deleted_and_named() {
    let scene = Scene::new();
    let says = "VolumeSnapshot redis/us-p-s1-1-1: no controller has answered after 60 s";
    scene.fails_while(async || {}, &[says]).await;
    assert!(scene.snapshot().is_none());
}

#[tokio::test(start_paused = true)]
async fn snapshot_02_a_driver_that_never_cuts_is_not_waited_for_and_its_deletion_neither() {
    let scene = Scene::new();
    let error = scene
        .take_while(async || {
            scene.triggered().await;
            let finalizers = json!({"metadata": {"finalizers": ["bound-protection"]}});
            scene.cluster.write(
                &scene.kind("snapshot"),
                "redis",
                "us-p-s1-1-1",
                &finalizers,
                false,
            );
            scene.status(
                &json!({"boundVolumeSnapshotContentName": "content-1", "readyToUse": false}),
            );
        })
        .await
        .unwrap_err();
    assert!(
        error.text.contains("no point in time was fixed")
            && error.text.contains("it is being deleted"),
        "{error}"
    );
    assert!(!scene.snapshot().unwrap()["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test(start_paused = true)]
async fn snapshot_04_an_error_that_goes_away_is_no_failure() {
    let scene = Scene::new();
    let taken = scene
        .take_while(async || {
            scene.triggered().await;
            scene.status(&json!({"boundVolumeSnapshotContentName": "content-1", "error": {"message": "ResourceExhausted"}}));
            tokio::time::sleep(Duration::from_secs(20)).await;
            scene.driver_answers(true);
        })
        .await;
    taken.unwrap();
    let told = scene.told.lock().unwrap().clone();
    assert_eq!(
        told.iter()
            .filter(|line| line.contains("ResourceExhausted"))
            .count(),
        1,
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn snapshot_06_a_class_that_is_wrong_missing_or_doubtful_is_refused_before_anything_is_touched()
 {
    let refused = async |scene: &Scene| {
        let (refusals, _) = scene
            .run(async |engine| engine.preflight().await)
            .await
            .unwrap();
        let error = scene.take_while(async || {}).await.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::Misconfigured);
        assert!(scene.asked().is_empty(), "the server was touched");
        assert_eq!(scene.cluster.count("create", "volumesnapshots"), 0);
        refusals
            .0
            .iter()
            .map(|it| format!("{}; {}", it.text, it.remedy))
            .collect::<String>()
    };
    let scene = Scene::new();
    scene.class("slow", "d", true);
    let text = refused(&scene).await;
    assert!(
        text.contains("there are 2, and none is chosen for you: fast, slow"),
        "{text}"
    );
    let scene = Scene::new();
    scene.class("fast", "other", true);
    assert!(
        refused(&scene)
            .await
            .contains("there is none, and no name is set")
    );
    let mut scene = Scene::new();
    scene.class("other", "e", false);
    scene
        .request
        .params
        .insert("className".to_owned(), json!("other"));
    assert!(refused(&scene).await.contains("of another driver"));
    scene
        .request
        .params
        .insert("clasName".to_owned(), json!("x"));
    assert!(
        refused(&scene)
            .await
            .contains("params.csi.clasName is not known; known: className")
    );
}

#[tokio::test(start_paused = true)]
async fn snapshot_07_missing_rights_are_named_at_preflight_and_a_denied_watch_becomes_a_poll() {
    let scene = Scene::new();
    scene.cluster.deny("create", "volumesnapshots");
    let (refusals, _) = scene
        .run(async |engine| engine.preflight().await)
        .await
        .unwrap();
    let told: Vec<&str> = refusals.0.iter().map(|it| it.text.as_str()).collect();
    assert_eq!(
        told,
        ["no right to create volumesnapshots.snapshot.storage.k8s.io in namespace redis"]
    );
    let error = scene.take_while(async || {}).await.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Denied);
    let scene = Scene::new();
    scene.cluster.fail(Fault::new(
        "watch",
        "volumesnapshots",
        u32::MAX,
        403,
        "forbidden",
    ));
    scene.take().await.unwrap();
    // A right that goes while it runs says nothing about the snapshot.
    let scene = Scene::new();
    let taken = scene
        .take_while(async || {
            scene.triggered().await;
            scene
                .cluster
                .fail(Fault::new("get", "volumesnapshots", 3, 403, "forbidden"));
            scene.driver_answers(true);
        })
        .await;
    taken.unwrap();
}

#[tokio::test(start_paused = true)]
async fn snapshot_08_a_denial_is_final_and_a_quota_is_asked_once_more() {
    let scene = Scene::new();
    let text = "admission webhook \"guard\" denied the request: not on Fridays";
    scene
        .cluster
        .fail(Fault::new("create", "volumesnapshots", u32::MAX, 403, text));
    let error = scene.take_while(async || {}).await.unwrap_err();
    assert!(
        error.kind == ProviderErrorKind::Failed && error.text.contains("not on Fridays"),
        "{error}"
    );
    assert_eq!(scene.cluster.count("create", "volumesnapshots"), 1);
    for (times, ok) in [(1, true), (2, false)] {
        let scene = Scene::new();
        scene.cluster.fail(Fault::new(
            "create",
            "volumesnapshots",
            times,
            403,
            "exceeded quota: snaps",
        ));
        let taken = if ok {
            scene.take().await
        } else {
            scene.take_while(async || {}).await
        };
        assert_eq!(taken.is_ok(), ok, "{taken:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn snapshot_09_too_many_requests_are_waited_out() {
    let scene = Scene::new();
    scene.cluster.fail(Fault::new(
        "create",
        "volumesnapshots",
        3,
        429,
        "too many requests",
    ));
    scene.take().await.unwrap();
    assert_eq!(scene.cluster.all(&scene.kind("snapshot")).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn snapshot_10_a_check_reads_afresh_and_finds_what_was_lost() {
    let scene = Scene::new();
    let handle = scene.take().await.unwrap();
    let check = async || scene.run(async |engine| engine.check(&handle).await).await;
    scene.driver_answers(false);
    assert_eq!(check().await.unwrap_err().kind, ProviderErrorKind::NotReady);
    scene.driver_answers(true);
    check().await.unwrap();
    scene.cluster.fail(Fault::new(
        "*",
        "volumesnapshots",
        u32::MAX,
        503,
        "etcd is away",
    ));
    assert_eq!(
        check().await.unwrap_err().kind,
        ProviderErrorKind::Unreachable
    );
    scene.cluster.heal();
    scene
        .cluster
        .remove(&scene.kind("snapshot"), "redis", "us-p-s1-1-1");
    let error = check().await.unwrap_err();
    assert!(
        error.kind == ProviderErrorKind::Failed && error.text.contains("it is gone"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn snapshot_11_a_good_snapshot_is_retained_until_it_is_released() {
    let scene = Scene::new();
    let handle = scene.take().await.unwrap();
    let patches = scene.cluster.count("patch", "volumesnapshotcontents");
    assert_eq!(patches, 1);
    assert!(
        scene.snapshot().unwrap()["metadata"]["ownerReferences"].is_null(),
        "nobody's deletion takes it along"
    );
    assert_eq!(handle.handle["policy"], "Delete");
}

#[tokio::test(start_paused = true)]
async fn snapshot_16_a_claim_that_cannot_be_snapshotted_is_refused_with_the_reason() {
    let scene = Scene::new();
    for (pvc, pv, expect) in [
        (
            json!({"phase": "Pending"}),
            json!({"csi": {"driver": "d"}}),
            "not Bound",
        ),
        (
            json!({"phase": "Lost"}),
            json!({"csi": {"driver": "d"}}),
            "not Bound",
        ),
        (
            json!({"phase": "Bound"}),
            json!({"hostPath": {"path": "/x"}}),
            "not a CSI volume",
        ),
    ] {
        scene.put("pvc", json!({"metadata": {"name": "data-0", "namespace": "redis"}, "spec": {"volumeName": "pv-1"}, "status": pvc}));
        scene.put("pv", json!({"metadata": {"name": "pv-1"}, "spec": pv}));
        let error = scene.take_while(async || {}).await.unwrap_err();
        assert!(error.text.contains(expect), "{error}");
    }
    assert!(scene.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn snapshot_18_a_version_that_is_not_served_is_refused_each_run_afresh() {
    let scene = Scene::new();
    scene.cluster.stop_serving(&scene.kind("snapshot"));
    let error = scene.take_while(async || {}).await.unwrap_err();
    assert!(
        error
            .text
            .contains("volumesnapshots.snapshot.storage.k8s.io v1 is not served"),
        "{error}"
    );
    scene.cluster.serve(&scene.kind("snapshot"), true);
    scene.take().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn snapshot_19_a_hold_ends_at_the_cut_and_before_any_error_is_told() {
    let held = csi(&json!({"quiesce": {"hold": "cut", "max": "2s"}}));
    let scene = Scene::with(held.clone());
    scene.take().await.unwrap();
    assert_eq!(scene.asked()[..3], ["quiesce app", "hold", "lift"]);
    let scene = Scene::with(held);
    scene.cluster.fail(Fault::new(
        "create",
        "volumesnapshots",
        u32::MAX,
        422,
        "denied",
    ));
    scene.take_while(async || {}).await.unwrap_err();
    assert_eq!(scene.asked()[..3], ["quiesce app", "hold", "lift"]);
}

#[tokio::test(start_paused = true)]
async fn snapshot_20_a_restart_goes_on_with_its_run_and_quiets_nobody_again() {
    let scene = Scene::new();
    let aborted =
        tokio::time::timeout(Duration::from_secs(10), scene.take_while(async || {})).await;
    assert!(aborted.is_err());
    let handle = scene
        .take_while(async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            scene.driver_answers(true);
        })
        .await
        .unwrap();
    assert_eq!(handle.offset, Some(42), "read back from the annotations");
    assert_eq!(scene.asked(), ["quiesce app"]);
    assert_eq!(scene.cluster.count("create", "volumesnapshots"), 1);
    // And once more when it is finished.
    let again = scene.take_while(async || {}).await.unwrap();
    assert_eq!(again.object, handle.object);
}

#[tokio::test(start_paused = true)]
async fn snapshot_20_an_answer_that_was_lost_makes_no_second_snapshot() {
    let scene = Scene::new();
    scene
        .cluster
        .fail(Fault::new("create", "volumesnapshots", 1, 0, "connection reset").after_it_is_done());
    scene.take().await.unwrap();
    assert_eq!(scene.cluster.count("create", "volumesnapshots"), 1);
    assert_eq!(scene.asked(), ["quiesce app"]);
}

#[tokio::test(start_paused = true)]
async fn snapshot_21_a_foreign_object_of_the_same_name_is_never_adopted() {
    let scene = Scene::new();
    scene.put("snapshot", json!({"metadata": {"name": "us-p-s1-1-1", "namespace": "redis"}, "status": {"readyToUse": true}}));
    let ours = || {
        scene
            .cluster
            .peek(&scene.kind("snapshot"), "redis", "us-p-s1-1-1-2")
    };
    let taken = scene
        .take_while(async || {
            while ours().is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            scene
                .cluster
                .remove(&scene.kind("snapshot"), "redis", "us-p-s1-1-1");
            scene.driver_answers(true);
        })
        .await
        .unwrap();
    assert_eq!(taken.object.unwrap().name, "us-p-s1-1-1-2");
    assert!(
        scene
            .told
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.contains("somebody else's"))
    );
}

#[tokio::test(start_paused = true)]
async fn snapshot_22_a_zombie_that_stays_in_progress_ends_by_the_deadline_and_is_left() {
    let scene = Scene::new();
    let unready = async || {
        scene.triggered().await;
        scene.driver_answers(false);
    };
    let says = ["it is not ready after 15 min", "left as it is"];
    scene.fails_while(unready, &says).await;
    assert!(scene.snapshot().is_some());
}

#[tokio::test(start_paused = true)]
async fn snapshot_23_an_api_server_that_goes_away_in_the_middle_is_waited_for() {
    let scene = Scene::new();
    let taken = scene
        .take_while(async || {
            scene.triggered().await;
            scene
                .cluster
                .fail(Fault::new("*", "*", u32::MAX, 0, "connection refused"));
            tokio::time::sleep(Duration::from_secs(300)).await;
            scene.driver_answers(true);
            scene.cluster.heal();
        })
        .await;
    taken.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_level_that_the_recipe_does_not_reach_is_refused() {
    let files = csi(
        &json!({"consistency": {"alone": "none", "quiesced": "crash", "why": "files at different times"}}),
    );
    let scene = Scene::with(files);
    let says = "reaches only `crash`: files at different times";
    scene.fails_while(async || {}, &[says]).await;
}
