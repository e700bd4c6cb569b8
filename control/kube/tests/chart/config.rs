//! The files that the chart writes for proxy, control and sidecar are ones that they accept.

use std::fs;

use serde_json::Value;
use understudy_config::Config;

use crate::helm;
use crate::objects::{of_kind, pods};

fn schema() -> Value {
    serde_json::from_str(&helm::read("config/schema.json")).unwrap()
}

#[test]
fn every_config_is_accepted() {
    let (names, values): (Vec<_>, Vec<_>) = helm::scenarios().into_iter().unzip();
    let Some(rendered) = helm::render(&values) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for file in [
        "token/token",
        "secrets/redis/clients",
        "secrets/redis/servers",
        "tls/ca.crt",
        "tls/tls.crt",
        "tls/tls.key",
        "guard/tls.crt",
        "guard/tls.key",
    ] {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "text").unwrap();
    }
    fs::create_dir_all(folder.path().join("recipes")).unwrap();
    let mut checked = 0;
    for (name, objects) in names.iter().zip(rendered) {
        for map in of_kind(&objects.unwrap(), "ConfigMap") {
            let Some(text) = map["data"]["understudy.yaml"].as_str() else {
                continue;
            };
            let here = folder.path().to_str().unwrap();
            let config = text.replace("/etc/understudy", here);
            if let Err(problems) = Config::parse(&config, folder.path()) {
                panic!("{name}, {}: {problems}\n{text}", map["metadata"]["name"]);
            }
            checked += 1;
        }
    }
    assert!(checked > 10);
}

#[test]
fn proxies_and_sidecars_register_with_control_by_tls() {
    let control = |address: &str| serde_json::json!({ "sidecar": { "enabled": true }, "control": { "enabled": address.is_empty(), "address": address } });
    let here = helm::least_and(&control(""));
    let elsewhere = helm::least_and(&control("rediss://control.other.svc:7380"));
    let Some(rendered) = helm::render(&[here, elsewhere]) else {
        return;
    };
    let address = |index: usize, part: &str| -> Value {
        let objects: &Vec<_> = rendered[index].as_ref().unwrap();
        let map = of_kind(objects, "ConfigMap")
            .into_iter()
            .find(|it| it["metadata"]["name"] == format!("understudy-{part}"))
            .unwrap_or_else(|| panic!("the config of {part}"));
        let text = map["data"]["understudy.yaml"].as_str().unwrap();
        let config: Value = serde_saphyr::from_str(text).unwrap();
        assert_eq!(config["control"]["login"]["name"], "operator");
        assert!(config["admin"]["tls"]["key"].is_string());
        config["control"]["address"].clone()
    };
    for part in ["proxy", "sidecar"] {
        assert_eq!(
            address(0, part),
            "rediss://understudy-control.redis.svc:7380"
        );
        assert_eq!(address(1, part), "rediss://control.other.svc:7380");
    }
    assert!(address(0, "control").is_null());
    let service = of_kind(rendered[0].as_ref().unwrap(), "Service")
        .into_iter()
        .find(|it| it["metadata"]["name"] == "understudy-control")
        .expect("the service that the address names");
    assert_eq!(service["spec"]["ports"][0]["port"], 7380);
}

#[test]
fn the_guards_certificate_is_mounted_in_control_alone_and_named_in_its_config() {
    let tls = serde_json::json!({ "guard": { "tls": { "existingSecret": "replication" } } });
    let with =
        helm::least_and(&serde_json::json!({ "control": tls, "sidecar": { "enabled": true } }));
    let Some(rendered) = helm::render(&[helm::least(), with]) else {
        return;
    };
    let guard = |index: usize| -> Value {
        let objects: &Vec<_> = rendered[index].as_ref().unwrap();
        let maps = of_kind(objects, "ConfigMap");
        let named = |it: &&&Value| it["metadata"]["name"] == "understudy-control";
        let map = maps.iter().find(named).expect("the config of control");
        let text = map["data"]["understudy.yaml"].as_str().unwrap();
        let config: Value = serde_saphyr::from_str(text).unwrap();
        config["control"]["guard"]["tls"].clone()
    };
    assert!(guard(0).is_null());
    for (part, file) in [("certificate", "tls.crt"), ("key", "tls.key")] {
        assert_eq!(guard(1)[part], format!("/etc/understudy/guard/{file}"));
    }
    for (title, pod) in pods(rendered[1].as_ref().unwrap()) {
        let spec = &pod["spec"];
        let volumes = spec["volumes"].as_array().unwrap().iter();
        let secret = volumes
            .map(|it| &it["secret"])
            .find(|it| it["secretName"] == "replication");
        let mounts = spec["containers"][0]["volumeMounts"].as_array().unwrap();
        let mounted = mounts
            .iter()
            .any(|it| it["mountPath"] == "/etc/understudy/guard" && it["readOnly"] == true);
        let is_control = title == "Deployment/understudy-control";
        assert_eq!(
            (secret.is_some(), mounted),
            (is_control, is_control),
            "{title}"
        );
        if let Some(secret) = secret {
            assert_eq!(secret["items"].as_array().unwrap().len(), 2, "{secret}");
        }
    }
}

/// `UNDERSTUDY_BLESS=1` copies them.
#[test]
fn pools_and_limits_have_the_schema_of_the_config() {
    let path = helm::repository().join("helm/understudy/values.schema.json");
    let mut chart: Value =
        serde_json::from_str(&helm::read("helm/understudy/values.schema.json")).unwrap();
    let config = schema();
    for part in ["pools", "limits"] {
        let theirs = &config["properties"][part];
        if &chart["$defs"][part] != theirs && std::env::var_os("UNDERSTUDY_BLESS").is_some() {
            chart["$defs"][part] = theirs.clone();
            let text = serde_json::to_string_pretty(&chart).unwrap() + "\n";
            fs::write(&path, text).unwrap();
        }
        assert_eq!(
            &chart["$defs"][part], theirs,
            "{part}: UNDERSTUDY_BLESS=1 cargo test -p understudy-kube --test chart"
        );
    }
}

#[test]
fn no_object_of_the_schema_takes_unknown_names() {
    let chart: Value =
        serde_json::from_str(&helm::read("helm/understudy/values.schema.json")).unwrap();
    open_objects(&chart["properties"], "");
    assert_eq!(chart["additionalProperties"], false);
}

/// An object either names its properties and no others, or is passed on to Kubernetes or to a recipe as it is.
fn open_objects(value: &Value, path: &str) {
    match value {
        Value::Object(map) => {
            if map.contains_key("properties") && map["type"] == "object" {
                assert_eq!(map["additionalProperties"], false, "{path}");
            }
            for (key, value) in map {
                open_objects(value, &format!("{path}/{key}"));
            }
        }
        Value::Array(list) => list.iter().for_each(|it| open_objects(it, path)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
