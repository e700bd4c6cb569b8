//! The chart's admission policy, evaluated: what we really write passes, and nothing else does.
//!
//! Whatever recipes, the search for a snapshot's data, records and Leases write is played against the policy that a chart with that
//! recipe renders. `forbidden` has what must not pass, each row made from a write of ours by one change.
//!
//! Needs Helm's library, as the tests of the chart do.

mod admission;
mod enforced;
mod forbidden;
mod writes;

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use understudy_kube::cluster::memory::{Gate, Review};
use understudy_kube::recipe::{BUILTIN, Book, merge};

use self::admission::{Decision, Policy, Request};
use crate::data::part;
use crate::helm;
use crate::play::play_of;
use crate::scenario::{ALL, Scenario};

/// Who takes snapshots in the release of these tests.
const CONTROL: &str = "system:serviceaccount:redis:understudy-control";
const SIDECAR: &str = "system:serviceaccount:redis:understudy-sidecar";

/// What the chart renders for these values of `snapshots`.
fn rendered(all: &[Value]) -> Option<Vec<Vec<Value>>> {
    let values = |snapshots: &Value| {
        helm::least_and(&json!({
            "kubeVersion": "1.30.0", "sidecar": {"enabled": true}, "snapshots": snapshots }))
    };
    let values: Vec<Value> = all.iter().map(values).collect();
    let objects = helm::render(&values)?.into_iter();
    Some(objects.map(Result::unwrap).collect())
}

fn policy_of(objects: &[Value]) -> &Value {
    let mut policies = objects.iter();
    policies
        .find(|it| it["kind"] == "ValidatingAdmissionPolicy")
        .expect("a policy")
}

/// The image that the config of control has a snapshot read back by.
fn image_of(objects: &[Value]) -> String {
    let named =
        |it: &&Value| it["kind"] == "ConfigMap" && it["metadata"]["name"] == "understudy-control";
    let config = objects.iter().find(named).expect("the config of control");
    let text = config["data"]["understudy.yaml"].as_str().expect("text");
    let config: Value = serde_saphyr::from_str(text).unwrap();
    let image = &config["kubernetes"]["verify"]["image"];
    image.as_str().expect("an image").to_owned()
}

/// A gate of this policy for this user, which keeps what passed it.
fn gate(policy: Policy, user: &'static str) -> (Gate, Arc<Mutex<Vec<Review>>>) {
    let passed = Arc::new(Mutex::new(Vec::new()));
    let keep = passed.clone();
    let gate = Gate::new(move |review| {
        let review = review.clone();
        let request = Request {
            user: user.to_owned(),
            review,
        };
        match policy.decide(&request) {
            Decision::Allowed => {
                keep.lock().unwrap().push(request.review);
                Ok(())
            }
            Decision::Denied(why) => Err(why.join("; ")),
            Decision::Untouched => Err("no rule of the policy is about it".to_owned()),
        }
    });
    (gate, passed)
}

/// What a recipe writes in these scenarios, each write allowed by the policy.
fn played(
    book: &Book,
    recipe: &str,
    policy: &Value,
    scenarios: impl IntoIterator<Item = Scenario>,
) -> Vec<Review> {
    let (gate, passed) = gate(Policy::of(policy), CONTROL);
    let mut part = part(recipe);
    part.gate = Some(gate);
    for scenario in scenarios {
        play_of(book.find(recipe).unwrap(), &part, scenario);
    }
    let passed = passed.lock().unwrap();
    passed.clone()
}

#[test]
fn whatever_a_recipe_does_passes_the_policy_of_a_chart_with_that_recipe() {
    let needed = helm::needed();
    let told = |name: &str| {
        let part = part(name);
        let params = merge(
            needed.get(name).unwrap_or(&json!({})),
            &Value::Object(part.params),
        );
        // As the scene that reads a snapshot back has it.
        let verify = json!({"namespace": "redis-verify", "image": "understudy:1"});
        json!({"recipes": [name], "params": {name: params}, "verify": verify})
    };
    let values: Vec<Value> = BUILTIN.iter().map(|(name, _)| told(name)).collect();
    let Some(rendered) = rendered(&values) else {
        return;
    };
    let book = Book::builtin().unwrap();
    for ((name, _), objects) in BUILTIN.iter().zip(rendered) {
        let all = played(&book, name, policy_of(&objects), ALL.map(|it| it.0));
        assert!(!all.is_empty(), "{name} writes nothing");
    }
}

#[test]
fn a_snapshot_that_is_read_back_passes_and_so_do_its_records() {
    let Some(rendered) = rendered(&[json!({"recipes": ["csi"]})]) else {
        return;
    };
    let (gate, passed) = gate(Policy::of(policy_of(&rendered[0])), CONTROL);
    let passed = {
        writes::of_control(&gate, &image_of(&rendered[0]));
        passed.lock().unwrap()
    };
    let lines: Vec<String> = passed
        .iter()
        .map(|it| format!("{} {}", it.operation, it.api.plural))
        .collect();
    for wanted in [
        "CREATE volumesnapshots",
        "CREATE persistentvolumeclaims",
        "CREATE jobs",
        "DELETE jobs",
        "DELETE persistentvolumeclaims",
        "UPDATE volumesnapshotcontents",
        "CREATE configmaps",
        "UPDATE configmaps",
        "DELETE configmaps",
    ] {
        assert!(
            lines.iter().any(|it| it == wanted),
            "{wanted} is not in {lines:?}"
        );
    }
}

#[test]
fn sidecars_that_agree_pass() {
    let Some(rendered) = rendered(&[json!({"recipes": ["csi"], "by": "agents"})]) else {
        return;
    };
    let (gate, passed) = gate(Policy::of(policy_of(&rendered[0])), SIDECAR);
    writes::of_a_sidecar(&gate);
    let operations: Vec<_> = passed
        .lock()
        .unwrap()
        .iter()
        .map(|it| it.operation)
        .collect();
    assert!(
        operations.contains(&"CREATE") && operations.contains(&"UPDATE"),
        "{operations:?}"
    );
}

#[test]
fn the_record_of_a_failure_passes_and_may_be_forgotten() {
    let Some(rendered) = rendered(&[json!({"recipes": ["csi"]})]) else {
        return;
    };
    let (gate, passed) = gate(Policy::of(policy_of(&rendered[0])), CONTROL);
    let folder = tempfile::tempdir().unwrap();
    writes::of_a_failure(&gate, folder.path());
    let passed = passed.lock().unwrap();
    let operations: Vec<_> = passed
        .iter()
        .map(|it| (it.operation, it.api.plural.as_str()))
        .collect();
    let [create, delete] = ["CREATE", "DELETE"].map(|it| (it, "configmaps"));
    assert_eq!(operations, [create, delete, create]);
}
