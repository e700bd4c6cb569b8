//! Wrong values are refused before anything is installed, with the value's name and what to write instead.

use serde_json::{Value, json};

use crate::helm;

/// Values that are wrong in one way, and words of the answer.
fn table() -> Vec<(Value, &'static [&'static str])> {
    let with = |more: Value| helm::least_and(&more);
    let pool = |listen: &str| json!({ "pools": [{ "name": "a", "listen": listen, "shards": [{ "name": "s", "primary": "redis://x:1" }] }] });
    vec![
        (json!({}), &["pools", "name at least one"]),
        (with(json!({ "proxi": {} })), &["'proxi' not allowed"]),
        (
            with(json!({ "proxy": { "replica": 3 } })),
            &["/proxy", "'replica' not allowed"],
        ),
        (
            with(json!({ "proxy": { "replicas": 0 } })),
            &["/proxy/replicas", "want 1"],
        ),
        (
            with(json!({ "proxy": { "kind": "DaemonSet" } })),
            &["/proxy/kind", "StatefulSet"],
        ),
        (
            with(json!({ "admin": { "port": "7380" } })),
            &["/admin/port", "want integer"],
        ),
        (
            with(json!({ "control": { "proxies": ["redis://proxy:7380"] } })),
            &["/control/proxies/0", "rediss://"],
        ),
        (
            with(json!({ "control": { "settings": { "login": {} } } })),
            &["control.settings: login is written by the chart"],
        ),
        (
            with(json!({ "image": { "digest": "sha256:12" } })),
            &["/image/digest"],
        ),
        (
            with(
                json!({ "snapshots": { "ownRules": [{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"], "scope": "namespace" }] } }),
            ),
            &["/snapshots/ownRules/0/verbs/0"],
        ),
        (
            json!({ "pools": [{ "name": "a", "lisen": "x", "shards": [] }] }),
            &["/pools/0", "'lisen' not allowed"],
        ),
        (
            pool("127.0.0.1:6379"),
            &["nobody outside the Pod reaches", "0.0.0.0:6379"],
        ),
        (pool("/run/redis.sock"), &["has no port"]),
        (pool("0.0.0.0:7381"), &["the port of admin or http"]),
        (
            with(json!({ "proxy": { "enabled": false } })),
            &["nothing would serve"],
        ),
        (
            with(json!({ "proxy": { "autoscaling": { "enabled": true, "minReplicas": 9 } } })),
            &["minReplicas is larger"],
        ),
        (
            with(json!({ "control": { "address": "redis://control:7380", "enabled": false } })),
            &["/control/address", "rediss://"],
        ),
        (
            with(json!({ "control": { "address": "rediss://control:7380" } })),
            &["control.address", "control.enabled=false"],
        ),
        (
            with(json!({ "proxy": { "drain": { "waitSeconds": 25 } } })),
            &["proxy.drain.maxSeconds", "waitSeconds + 10"],
        ),
        (
            with(json!({ "snapshots": { "recipes": ["csi"], "by": "agents" } })),
            &["sidecar.enabled=true"],
        ),
        (
            with(json!({ "snapshots": { "recipes": ["csy"] } })),
            &["no recipe \"csy\" here", "csi", "snapshots.ownRecipes"],
        ),
        (
            with(json!({ "snapshots": { "recipes": ["csi"] }, "control": { "enabled": false } })),
            &["nobody would take them"],
        ),
        (
            with(json!({ "sidecar": { "enabled": true }, "kubeVersion": "1.28.9" })),
            &["Kubernetes 1.28.9", "1.29 or later"],
        ),
        (
            with(
                json!({ "snapshots": { "recipes": ["csi"], "admissionPolicy": { "enabled": "true" } }, "kubeVersion": "1.29.0" }),
            ),
            &["ValidatingAdmissionPolicy needs 1.30"],
        ),
    ]
}

#[test]
fn wrong_values_are_refused_with_the_reason() {
    let (values, words): (Vec<_>, Vec<_>) = table().into_iter().unzip();
    let Some(rendered) = helm::render(&values) else {
        return;
    };
    for ((values, words), answer) in values.iter().zip(words).zip(rendered) {
        let Err(said) = answer else {
            panic!("accepted: {values}")
        };
        for word in words {
            assert!(
                said.contains(word),
                "{word:?} is not in\n{said}\nfor {values}"
            );
        }
    }
}

#[test]
fn every_problem_is_said_at_once() {
    let values = helm::least_and(&json!({
        "proxy": { "drain": { "maxSeconds": 3 } },
        "control": { "address": "rediss://elsewhere:7380" },
        "snapshots": { "recipes": ["nope"], "by": "agents" },
    }));
    let Some(rendered) = helm::render(&[values]) else {
        return;
    };
    let said = rendered[0].as_ref().unwrap_err();
    for word in [
        "control.address",
        "proxy.drain",
        "snapshots.by",
        "snapshots.recipes",
    ] {
        assert!(said.contains(word), "{word} is not in\n{said}");
    }
}
