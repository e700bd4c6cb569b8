//! Kubernetes objects, read strictly: by the API's own types, and nothing may be lost on the way.
//!
//! The types ignore fields that they do not know. So what was read is written again, and must hold all that was given.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// `Kind/name`, for messages.
pub(crate) fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!(
        "{}/{}",
        text(&object["kind"]),
        text(&object["metadata"]["name"])
    )
}

/// All objects of a kind.
pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|it| it["kind"] == kind).collect()
}

/// The pod specs of workloads, by the workload's title.
pub(crate) fn pods(objects: &[Value]) -> Vec<(String, &Value)> {
    objects
        .iter()
        .filter(|it| !it["spec"]["template"]["spec"].is_null())
        .map(|it| (title(it), &it["spec"]["template"]))
        .collect()
}

/// Every container of a pod spec, those that start first included.
pub(crate) fn containers(pod: &Value) -> Vec<&Value> {
    ["initContainers", "containers"]
        .iter()
        .filter_map(|list| pod[*list].as_array())
        .flatten()
        .collect()
}

/// Reads an object as its kind, and says what the kind does not know.
pub(crate) fn strict(object: &Value) -> Result<(), String> {
    let api = object["apiVersion"].as_str().unwrap_or_default();
    let kind = object["kind"].as_str().unwrap_or_default();
    match (api, kind) {
        ("v1", "ConfigMap") => through::<ConfigMap>(object),
        ("v1", "Secret") => through::<Secret>(object),
        ("v1", "Service") => through::<Service>(object),
        ("v1", "ServiceAccount") => through::<ServiceAccount>(object),
        ("v1", "PersistentVolumeClaim") => through::<PersistentVolumeClaim>(object),
        ("apps/v1", "Deployment") => through::<Deployment>(object),
        ("apps/v1", "StatefulSet") => through::<StatefulSet>(object),
        ("autoscaling/v2", "HorizontalPodAutoscaler") => through::<HorizontalPodAutoscaler>(object),
        ("policy/v1", "PodDisruptionBudget") => through::<PodDisruptionBudget>(object),
        ("networking.k8s.io/v1", "NetworkPolicy") => through::<NetworkPolicy>(object),
        ("rbac.authorization.k8s.io/v1", "Role") => through::<Role>(object),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => through::<RoleBinding>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => through::<ClusterRole>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => {
            through::<ClusterRoleBinding>(object)
        }
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy") => {
            through::<ValidatingAdmissionPolicy>(object)
        }
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding") => {
            through::<ValidatingAdmissionPolicyBinding>(object)
        }
        ("monitoring.coreos.com/v1", "ServiceMonitor" | "PrometheusRule") => {
            crate::monitoring::strict(object)
        }
        _ => Err(format!(
            "{api} {kind} is not a kind that the chart should write"
        )),
    }
}

fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Result<(), String> {
    let typed: T = serde_json::from_value(object.clone()).map_err(|cause| cause.to_string())?;
    let back = serde_json::to_value(typed).map_err(|cause| cause.to_string())?;
    let mut lost = Vec::new();
    compare(object, &back, "$", &mut lost);
    if lost.is_empty() {
        Ok(())
    } else {
        Err(format!("not known there: {}", lost.join(", ")))
    }
}

fn compare(given: &Value, back: &Value, path: &str, lost: &mut Vec<String>) {
    match (given, back) {
        (Value::Object(given), Value::Object(back)) => {
            for (key, value) in given {
                let path = format!("{path}.{key}");
                match back.get(key) {
                    Some(other) => compare(value, other, &path, lost),
                    None if is_empty(value) => {}
                    None => lost.push(path),
                }
            }
        }
        (Value::Array(given), Value::Array(back)) if given.len() == back.len() => {
            for (index, (value, other)) in given.iter().zip(back).enumerate() {
                compare(value, other, &format!("{path}[{index}]"), lost);
            }
        }
        _ if given == back => {}
        _ => lost.push(format!("{path} ({given} became {back})")),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[test]
fn a_field_that_kubernetes_does_not_know_is_found() {
    let good = serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}]}});
    assert_eq!(strict(&good), Ok(()));
    let mut bad = good.clone();
    bad["spec"]["ports"][0]["prot"] = 2.into();
    assert_eq!(
        strict(&bad),
        Err("not known there: $.spec.ports[0].prot".to_owned())
    );
    let mut bad = good;
    bad["spec"]["ports"][0]["port"] = "six".into();
    assert!(strict(&bad).is_err());
}
