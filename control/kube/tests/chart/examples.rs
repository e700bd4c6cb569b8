//! The manifests in `helm/understudy/examples` fit the release that they were made for.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::helm;
use crate::objects::{containers, of_kind, pods, strict, title};

/// Each manifest, with its values and its namespace.
const EXAMPLES: [(&str, &str, &str); 2] = [
    ("application.yaml", "values-sidecar.yaml", "shop"),
    ("beside-redis.yaml", "values-beside-redis.yaml", "redis"),
];

/// All objects of the examples.
pub(crate) fn objects() -> Vec<Value> {
    EXAMPLES
        .iter()
        .flat_map(|(manifest, _, _)| manifest_objects(manifest))
        .collect()
}

fn manifest_objects(manifest: &str) -> Vec<Value> {
    let path = format!("helm/understudy/examples/{manifest}");
    helm::documents(&path, &helm::read(&path))
}

#[test]
fn every_example_is_what_kubernetes_knows() {
    for object in objects() {
        strict(&object).unwrap_or_else(|why| panic!("{}: {why}", title(&object)));
    }
}

#[test]
fn what_an_example_names_is_there() {
    for (manifest, values, namespace) in EXAMPLES {
        let values = helm::repository()
            .join("helm/understudy/examples")
            .join(values);
        let values = serde_json::json!(values);
        let Some(mut rendered) = helm::render_into(&[values], "understudy", namespace) else {
            return;
        };
        let release = rendered.remove(0).unwrap();
        let names = |kind: &str| -> BTreeSet<&str> {
            of_kind(&release, kind)
                .iter()
                .filter_map(|it| it["metadata"]["name"].as_str())
                .collect()
        };
        let objects = manifest_objects(manifest);
        for object in &objects {
            assert_eq!(object["metadata"]["namespace"], namespace, "{manifest}");
        }
        let pods = pods(&objects);
        assert!(!pods.is_empty());
        for (title, pod) in pods {
            let spec = &pod["spec"];
            let account = spec["serviceAccountName"].as_str().unwrap();
            assert!(
                names("ServiceAccount").contains(account),
                "{title}: {account}"
            );
            for volume in spec["volumes"].as_array().unwrap() {
                if let Some(name) = volume["configMap"]["name"].as_str() {
                    assert!(names("ConfigMap").contains(name), "{title}: {name}");
                }
                if let Some(name) = volume["secret"]["secretName"].as_str() {
                    assert!(names("Secret").contains(name), "{title}: {name}");
                }
            }
            let selector = &of_kind(&release, "Service")
                .into_iter()
                .find(|it| it["metadata"]["name"] == "understudy-sidecars")
                .expect("a Service of sidecars")["spec"]["selector"];
            for (label, value) in selector.as_object().unwrap() {
                assert_eq!(&pod["metadata"]["labels"][label], value, "{title}");
            }
            sidecar(&title, &release, spec);
        }
    }
}

/// The container starts before and ends after the others, and its mounts and ports are those of the release's config.
fn sidecar(title: &str, release: &[Value], spec: &Value) {
    let container = containers(spec)
        .into_iter()
        .find(|it| it["name"] == "understudy")
        .expect("a sidecar");
    assert_eq!(container["restartPolicy"], "Always", "{title}");
    assert_eq!(container["args"][0], "sidecar", "{title}");
    let config = of_kind(release, "ConfigMap")
        .into_iter()
        .find(|it| it["metadata"]["name"] == "understudy-sidecar")
        .expect("the sidecar's config")["data"]["understudy.yaml"]
        .as_str()
        .unwrap();
    for mount in container["volumeMounts"].as_array().unwrap() {
        let path = mount["mountPath"].as_str().unwrap();
        let used = path.starts_with("/var/run/secrets/")
            || path == "/etc/understudy/config"
            || config.contains(path);
        assert!(used, "{title}: nothing of the config is in {path}");
    }
    for port in container["ports"].as_array().unwrap() {
        let port = &port["containerPort"];
        assert!(config.contains(&format!(":{port}")), "{title}: {port}");
    }
}
