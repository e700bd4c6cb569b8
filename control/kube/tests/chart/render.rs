//! What the chart writes is what Kubernetes knows, in every scenario and for every version.

use serde_json::json;

use crate::helm;
use crate::objects::{of_kind, pods, strict, title};

#[test]
fn the_linter_finds_nothing_but_a_missing_picture() {
    let mut values: Vec<_> = helm::scenarios().into_iter().map(|it| it.1).collect();
    values.push(json!({}));
    let Some(findings) = helm::lint(&values) else {
        return;
    };
    for found in findings {
        assert_eq!(found, ["Chart.yaml: icon is recommended"]);
    }
}

#[test]
fn every_object_is_one_that_kubernetes_knows() {
    let (names, values): (Vec<_>, Vec<_>) = helm::scenarios().into_iter().unzip();
    let Some(rendered) = helm::render(&values) else {
        return;
    };
    for (name, objects) in names.iter().zip(rendered) {
        let objects = objects.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        let mut titles = Vec::new();
        for object in &objects {
            strict(object).unwrap_or_else(|why| panic!("{name}: {}: {why}", title(object)));
            titles.push(format!(
                "{} {}",
                title(object),
                object["metadata"]["namespace"]
            ));
        }
        let all = titles.len();
        titles.sort();
        titles.dedup();
        assert_eq!(titles.len(), all, "{name}: an object is written twice");
    }
}

#[test]
fn names_stay_within_their_length_whatever_the_release_is_called() {
    let release = "a-release-name-as-long-as-helm-permits-which-is-53-ch";
    assert_eq!(release.len(), 53);
    let namespace = "n".repeat(63);
    let everything = helm::scenarios().remove(5).1;
    let Some(rendered) = helm::render_into(&[everything], release, &namespace) else {
        return;
    };
    for object in rendered[0].as_ref().unwrap() {
        let name = object["metadata"]["name"].as_str().unwrap();
        assert!(
            name.len() <= 63 && !name.ends_with('-'),
            "{}",
            title(object)
        );
        strict(object).unwrap();
    }
}

#[test]
fn an_older_cluster_gets_what_it_knows() {
    let values = |version: &str| {
        helm::least_and(&json!({ "kubeVersion": version, "snapshots": { "recipes": ["csi"] } }))
    };
    let Some(rendered) =
        helm::render(&[values("1.29.4"), values("1.30.0"), values("v1.33.1-eks-1")])
    else {
        return;
    };
    let knows = |index: usize| {
        let objects: &Vec<_> = rendered[index].as_ref().unwrap();
        let waits = pods(objects)
            .iter()
            .any(|(_, pod)| !pod["spec"]["containers"][0]["lifecycle"].is_null());
        (
            waits,
            of_kind(objects, "ValidatingAdmissionPolicy").len() == 1,
        )
    };
    assert_eq!(knows(0), (false, false));
    assert_eq!(knows(1), (true, true));
    assert_eq!(knows(2), (true, true));
}

#[test]
fn control_is_one_and_keeps_its_journal() {
    let Some(rendered) = helm::render(&[helm::least()]) else {
        return;
    };
    let objects = rendered[0].as_ref().unwrap();
    let control = of_kind(objects, "Deployment")
        .into_iter()
        .find(|it| it["metadata"]["name"] == "understudy-control")
        .expect("control");
    assert_eq!(control["spec"]["replicas"], 1);
    assert_eq!(control["spec"]["strategy"]["type"], "Recreate");
    let claims = of_kind(objects, "PersistentVolumeClaim");
    let [claim] = claims[..] else {
        panic!("one claim: {claims:?}")
    };
    assert_eq!(
        claim["metadata"]["annotations"]["helm.sh/resource-policy"],
        "keep"
    );
    let volumes = &control["spec"]["template"]["spec"]["volumes"];
    assert!(
        volumes
            .as_array()
            .unwrap()
            .iter()
            .any(|it| { it["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"] })
    );
}

#[test]
fn a_corrected_address_restarts_no_pod_and_another_setting_does() {
    let mut moved = helm::least();
    moved["pools"][0]["shards"][0]["primary"] = json!("redis://elsewhere:6379");
    let mut timed = helm::least();
    timed["pools"][0]["timeout"] = json!("3s");
    let Some(rendered) = helm::render(&[helm::least(), moved, timed]) else {
        return;
    };
    let sums = |index: usize| -> Vec<String> {
        pods(rendered[index].as_ref().unwrap())
            .iter()
            .map(|(_, pod)| pod["metadata"]["annotations"]["understudy.io/config"].to_string())
            .collect()
    };
    assert_eq!(sums(0).len(), 2);
    assert_eq!(sums(0), sums(1));
    assert!(sums(0).iter().zip(sums(2)).all(|(a, b)| *a != b));
}

#[test]
fn the_notes_name_the_next_command() {
    let Some(notes) = helm::notes(&helm::scenarios()[1].1) else {
        return;
    };
    for needed in [
        "understudy.redis.svc:6379",
        "port-forward service/understudy-control 7380",
        "UPGRADE PLAN sessions TO s1=redis://NEW-SERVER:6379 s2=redis://NEW-SERVER:6379 SNAPSHOT csi",
    ] {
        assert!(notes.contains(needed), "{needed:?} is not in\n{notes}");
    }
}
