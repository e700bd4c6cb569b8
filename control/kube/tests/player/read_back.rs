//! Plays a snapshot that is read back: the system's part of the recipe's way, the Job's Pod, and that nothing is left of it.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_config::VerifyJob;
use understudy_control::snapshot::{Checksum, DataRead, SnapshotHandle};
use understudy_kube::engine::{LABEL_RUN, scratch_run};
use understudy_kube::recipe::{ScratchInto, Vars, Way};

use crate::data::{State, Thing};
use crate::play::{answered, take};
use crate::stage::{CLAIM, Place, Scene, name_of};

const SHORT: Duration = Duration::from_secs(1);

/// What reading back does beside the recipe.
const OWN: &[(&str, &[&str])] = &[
    ("jobs", &["get", "list", "watch", "create", "delete"]),
    ("persistentvolumeclaims", &["watch", "delete", "patch"]),
    ("persistentvolumes", &["get"]),
    ("pods", &["list"]),
    ("events", &["list"]),
];

pub(crate) async fn verified(mut scene: Scene) {
    let handle = take(&scene).await;
    scene.request.run = scratch_run(&scene.request.run);
    read_back(&scene, &handle).await;
    scene.within_rights_and(OWN);
    let recipe = scene.recipe.clone();
    for kind in recipe.kinds.values() {
        for object in scene.all(kind).await {
            let what = format!("{} {}", kind.kind, name_of(&object));
            let is_ours = object["metadata"]["labels"][LABEL_RUN] == *scene.request.run;
            assert!(!is_ours, "{what} is left");
            let there = object["metadata"]["namespace"] == *scene.verify();
            assert!(!there || kind.kind == "Pod", "{what} is left");
        }
    }
    for lookup in recipe.way_back().unwrap().leaves {
        let kind = scene.kind(&lookup.kind).clone();
        let left = scene.all(&kind).await;
        assert!(!kind.cluster || left.is_empty(), "{left:?}");
    }
    let claims = scene.all(scene.kind("pvc")).await;
    assert!(
        claims.iter().any(|it| name_of(it) == CLAIM),
        "the server's own"
    );
    scene.request.run.clone_from(&handle.run);
    scene
        .run(async |engine| engine.check(&handle).await)
        .await
        .unwrap_or_else(|cause| panic!("the snapshot is as it was: {cause}"));
}

/// Reads a snapshot back while the controller does its part. The scene's run is the scratch's.
pub(crate) async fn read_back(scene: &Scene, handle: &SnapshotHandle) {
    let wanted = VerifyJob {
        image: Some("understudy:1".to_owned()),
        namespace: Some(scene.verify()),
        ..VerifyJob::default()
    };
    let way = scene.recipe.way_back().unwrap();
    let states = match scene.recipe.scratch {
        Some(_) => &scene.part.verified,
        None => &scene.part.restored,
    };
    assert_eq!(states.len(), way.steps.len(), "`verified`");
    let read = scene.run(async |engine| engine.audit(handle, &wanted).await);
    let read = answered(read, controller(scene, way, states)).await;
    let read = read.unwrap_or_else(|cause| panic!("{cause}"));
    assert_eq!(read.keys, 7);
    let told = read.lines.join("; ");
    assert!(!told.contains("not all is forgotten"), "{told}");
}

async fn controller(scene: &Scene, way: Way<'_>, states: &[State]) {
    let run = &scene.request.run;
    let elsewhere = way.into == ScratchInto::Namespace;
    for (index, (step, state)) in way.steps.iter().zip(states).enumerate() {
        let object = scene.triggered(step, &[]).await;
        if way.into == ScratchInto::Filled {
            let claim = claim(scene, run).await.expect("an empty claim is there");
            assert!(claim["spec"]["dataSource"].is_null());
        }
        tokio::time::sleep(SHORT).await;
        if elsewhere && index + 1 == states.len() {
            // As it was: with the labels of its own, and none of ours.
            put(
                scene,
                "pvc",
                json!({"metadata": {"name": CLAIM, "namespace": scene.verify(), "labels": {"app": "redis"}},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Bound"}}),
            )
            .await;
        }
        scene.write(step, &name_of(&object), state).await;
    }
    let (name, namespace) = match elsewhere {
        true => (CLAIM, scene.verify()),
        false => (run.as_str(), scene.request.namespace.clone()),
    };
    let jobs = scene.kind("job").clone();
    let job = loop {
        let all = scene.all(&jobs).await;
        if let Some(job) = all.into_iter().find(|it| name_of(it) == *run) {
            break job;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(job["metadata"]["namespace"], *namespace);
    let volume = &job["spec"]["template"]["spec"]["volumes"][0];
    assert_eq!(volume["persistentVolumeClaim"]["claimName"], *name);
    let answer = DataRead {
        sound: true,
        keys: 7,
        bytes: 99,
        checksum: Checksum::Right,
        ..DataRead::default()
    };
    let ended = json!({"exitCode": 0, "reason": "Completed", "message": answer.to_line(4096)});
    let container = json!({"name": "read", "image": "understudy:1", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": ended}});
    let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": run, "uid": job["metadata"]["uid"]});
    if let Place::Live(live) = &scene.place {
        live.account(&namespace).await;
    }
    put(
        scene,
        "pod",
        json!({"metadata": {"name": format!("{run}-x"), "namespace": namespace, "labels": {"job-name": run}, "ownerReferences": [owner]},
            "spec": {"automountServiceAccountToken": false, "containers": [{"name": "read", "image": "understudy:1"}]},
            "status": {"phase": "Succeeded", "containerStatuses": [container]}}),
    )
    .await;
    if let Place::Live(live) = &scene.place {
        // Its controller would count the Pod; the Job is watched.
        let counted = State {
            status: json!({"succeeded": 1}),
            ..State::default()
        };
        scene.write_to("job", run, &counted).await;
        live.release(run, &[scene.request.namespace.clone(), scene.verify()])
            .await;
    }
}

async fn claim(scene: &Scene, name: &str) -> Option<Value> {
    let claims = scene.all(scene.kind("pvc")).await;
    claims.into_iter().find(|it| name_of(it) == name)
}

async fn put(scene: &Scene, kind: &str, object: Value) {
    let kind = kind.to_owned();
    scene.put(&Thing { kind, object }, &Vars::new()).await;
}
