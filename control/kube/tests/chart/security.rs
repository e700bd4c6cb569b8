//! No Pod of the chart or of its examples may do more than it must.

use serde_json::{Value, json};

use crate::helm;
use crate::objects::{containers, of_kind, pods, title};

/// What Kubernetes calls the restricted profile, and a root file system that cannot be written.
fn restricted(title: &str, pod: &Value) {
    let spec = &pod["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false, "{title}");
    assert!(spec["serviceAccountName"].is_string(), "{title}");
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(spec[host].is_null(), "{title}: {host}");
    }
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{title}");
    assert_eq!(
        spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
        "{title}"
    );
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        assert!(volume["hostPath"].is_null(), "{title}: {volume}");
    }
}

/// A container of ours, or one of an example that stands beside it.
fn confined(title: &str, container: &Value) {
    let title = format!("{title}, container {}", container["name"]);
    let context = &container["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], false, "{title}");
    assert_eq!(context["readOnlyRootFilesystem"], true, "{title}");
    assert_eq!(
        context["capabilities"],
        json!({ "drop": ["ALL"] }),
        "{title}"
    );
    assert!(context["privileged"].is_null(), "{title}");
}

/// Which containers of a pod mount a token for the API server.
fn token_holders(pod: &Value) -> Vec<&str> {
    let spec = &pod["spec"];
    let tokens: Vec<&Value> = spec["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|volume| volume.to_string().contains("serviceAccountToken"))
        .map(|volume| &volume["name"])
        .collect();
    containers(spec)
        .into_iter()
        .filter(|container| {
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            mounts.into_iter().any(|it| tokens.contains(&&it["name"]))
        })
        .filter_map(|container| container["name"].as_str())
        .collect()
}

#[test]
fn every_pod_is_restricted() {
    let values: Vec<_> = helm::scenarios().into_iter().map(|it| it.1).collect();
    let Some(rendered) = helm::render(&values) else {
        return;
    };
    let mut seen = 0;
    for objects in rendered {
        let objects = objects.unwrap();
        for (title, pod) in pods(&objects) {
            restricted(&title, pod);
            for container in containers(&pod["spec"]) {
                confined(&title, container);
                seen += 1;
            }
        }
    }
    assert!(seen > 8);
}

#[test]
fn the_examples_are_restricted_too() {
    for (title, pod) in pods(&crate::examples::objects()) {
        restricted(&title, pod);
        let beside = |it: &&Value| it["name"] != "shop"; // The application's container is the application's matter.
        for container in containers(&pod["spec"]).into_iter().filter(beside) {
            confined(&title, container);
        }
        assert_eq!(token_holders(pod), ["understudy"], "{title}");
    }
}

#[test]
fn only_who_asks_the_api_server_has_a_token() {
    let holders = |objects: &[Value]| -> Vec<(String, Vec<String>)> {
        let own = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        pods(objects)
            .into_iter()
            .map(|(title, pod)| (title, own(token_holders(pod))))
            .filter(|(_, names): &(_, Vec<String>)| !names.is_empty())
            .collect()
    };
    let blind = json!({ "enabled": false });
    let none = helm::least_and(&json!({ "control": { "pods": blind } }));
    let with = helm::least_and(
        &json!({ "control": { "pods": blind }, "snapshots": { "recipes": ["csi"] } }),
    );
    let Some(rendered) = helm::render(&[none, with, helm::least()]) else {
        return;
    };
    assert_eq!(holders(rendered[0].as_ref().unwrap()), []);
    for objects in &rendered[1..] {
        assert_eq!(
            holders(objects.as_ref().unwrap()),
            [(
                "Deployment/understudy-control".to_owned(),
                vec!["control".to_owned()]
            )]
        );
    }
}

/// A proxy that is killed is asked for by its Pod, and one that hangs is restarted by the kubelet.
#[test]
fn every_proxy_says_which_pod_it_is_and_is_restarted_when_it_hangs() {
    let values: Vec<_> = helm::scenarios().into_iter().map(|it| it.1).collect();
    let Some(rendered) = helm::render(&values) else {
        return;
    };
    let rendered = rendered.into_iter().flat_map(Result::unwrap);
    let objects: Vec<Value> = rendered.chain(crate::examples::objects()).collect();
    let mut seen = 0;
    for (title, pod) in pods(&objects) {
        for container in containers(&pod["spec"]) {
            let first = container["args"][0].as_str().unwrap_or_default();
            if !matches!(first, "proxy" | "sidecar") {
                continue;
            }
            let probe = &container["livenessProbe"];
            assert_eq!(probe["httpGet"]["path"], "/healthz", "{title}");
            let variable = |name: &str| {
                let all = container["env"].as_array().unwrap().iter();
                all.into_iter()
                    .find(|it| it["name"] == name)
                    .cloned()
                    .unwrap_or_default()
            };
            for (name, field) in [("NAMESPACE", "namespace"), ("NAME", "name"), ("UID", "uid")] {
                let found = variable(&format!("UNDERSTUDY_POD_{name}"));
                let path = &found["valueFrom"]["fieldRef"]["fieldPath"];
                assert_eq!(path, &json!(format!("metadata.{field}")), "{title}");
            }
            assert_eq!(
                variable("UNDERSTUDY_CONTAINER")["value"],
                container["name"],
                "{title}"
            );
            seen += 1;
        }
    }
    assert!(seen > 4, "{seen}");
}

#[test]
fn a_token_and_a_certificate_are_made_unless_they_are_given() {
    let given = helm::least_and(&json!({ "admin": {
        "existingSecret": "ours", "tls": { "existingSecret": "ours-tls" } } }));
    let Some(rendered) = helm::render(&[helm::least(), given]) else {
        return;
    };
    let made = rendered[0].as_ref().unwrap();
    let secrets = of_kind(made, "Secret");
    let titles: Vec<_> = secrets.iter().map(|it| title(it)).collect();
    assert_eq!(
        titles,
        ["Secret/understudy-admin", "Secret/understudy-admin-tls"]
    );
    assert_eq!(secrets[0]["data"]["token"].as_str().unwrap().len(), 64); // 48 characters as base64.
    for part in ["ca.crt", "tls.crt", "tls.key"] {
        assert!(
            secrets[1]["data"][part].as_str().unwrap().len() > 200,
            "{part}"
        );
    }

    let given = rendered[1].as_ref().unwrap();
    assert!(of_kind(given, "Secret").is_empty());
    for (title, pod) in pods(given) {
        let volumes = pod["spec"]["volumes"].to_string();
        assert!(
            volumes.contains("\"ours\"") && volumes.contains("\"ours-tls\""),
            "{title}: {volumes}"
        );
    }
}
