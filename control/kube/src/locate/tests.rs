//! Addresses, and the objects that lead from them to a claim.

use serde_json::{Value, json};

use super::{Address, LocateError, locate};
use crate::cluster::memory::{Fault, MemoryCluster};
use crate::recipe::Kind;

fn named(name: &str, rest: &Value) -> Value {
    crate::recipe::merge(
        &json!({"metadata": {"name": name, "namespace": "redis"}}),
        rest,
    )
}

fn endpoint(ip: &str, pod: &str, ready: bool, ends: bool) -> Value {
    json!({"addresses": [ip], "hostname": pod, "targetRef": {"kind": "Pod", "name": pod},
        "conditions": {"ready": ready, "serving": ready, "terminating": ends}})
}

fn scene() -> MemoryCluster {
    let cluster = MemoryCluster::new();
    let service = Kind::own("", "v1", "Service", "services");
    cluster.put(
        &service,
        named("redis", &json!({"spec": {"clusterIP": "10.96.0.9"}})),
    );
    cluster.put(
        &service,
        named("all", &json!({"spec": {"clusterIP": "None"}})),
    );
    let slices = Kind::own("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices");
    let slice = |service: &str, endpoints: Value| {
        let labels = json!({"metadata": {"labels": {"kubernetes.io/service-name": service}}, "endpoints": endpoints});
        cluster.put(&slices, named(&format!("{service}-abc"), &labels));
    };
    slice(
        "redis",
        json!([
            endpoint("10.0.0.1", "redis-0", true, false),
            endpoint("10.0.0.9", "old-0", true, true)
        ]),
    );
    slice(
        "all",
        json!([
            endpoint("10.0.0.1", "redis-0", true, false),
            endpoint("10.0.0.2", "redis-1", true, false)
        ]),
    );
    let pods = Kind::own("", "v1", "Pod", "pods");
    for (number, ip) in [(0, "10.0.0.1"), (1, "10.0.0.2")] {
        cluster.put(&pods, named(&format!("redis-{number}"), &json!({"status": {"podIP": ip}, "spec": {"nodeName": "n1",
            "containers": [{"volumeMounts": [{"name": "data"}, {"name": "conf"}]}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": format!("data-redis-{number}")}}, {"name": "conf", "configMap": {}}]}})));
    }
    cluster
}

#[tokio::test]
async fn an_address_leads_to_one_claim_or_says_why_not() {
    let cluster = scene();
    for (address, expect) in [
        ("redis:6379", "data-redis-0"),
        ("redis://redis.redis:6379", "data-redis-0"),
        ("redis.redis.svc.cluster.local.:6379", "data-redis-0"),
        ("redis-1.all.redis.svc.cluster.local:6379", "data-redis-1"),
        ("redis-1.all:6379", "data-redis-1"),
        ("10.0.0.2:6379", "data-redis-1"),
        ("10.96.0.9:6379", "data-redis-0"),
        (
            "all:6379",
            "2 Pods are behind Service redis/all: redis-0, redis-1; name the claim",
        ),
        ("nobody:6379", "no Service of its name"),
        (
            "10.0.0.77:6379",
            "no Service of its name and no Pod of its address",
        ),
        ("a..b:1", "it is no address"),
    ] {
        let told = match locate(&cluster, address, "redis").await {
            Ok(found) => found.claim,
            Err(cause) => cause.to_string(),
        };
        assert!(told.contains(expect), "{address}: {told}");
    }
}

#[tokio::test]
async fn endpoints_serve_where_there_are_no_slices() {
    let cluster = scene();
    cluster.fail(Fault::new(
        "list",
        "endpointslices",
        u32::MAX,
        404,
        "not served",
    ));
    let endpoints = Kind::own("", "v1", "Endpoints", "endpoints");
    let target = json!({"kind": "Pod", "name": "redis-1"});
    cluster.put(
        &endpoints,
        named(
            "redis",
            &json!({"subsets": [{"addresses": [{"ip": "10.0.0.2", "targetRef": target}]}]}),
        ),
    );
    assert_eq!(
        locate(&cluster, "redis:6379", "redis").await.unwrap().claim,
        "data-redis-1"
    );
    cluster.fail(Fault::new("get", "services", 1, 503, "away"));
    let away = locate(&cluster, "redis:6379", "redis").await;
    assert!(matches!(away, Err(LocateError::Call(_))));
}

#[test]
fn a_pod_with_several_claims_names_those_that_it_writes() {
    let volumes = ["a", "b", "c", "d"].map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": format!("claim-{name}")}}));
    let pod = json!({"spec": {
        "containers": [{"volumeMounts": [{"name": "a"}, {"name": "b", "readOnly": true}]}, {"volumeMounts": [{"name": "c"}]}],
        "volumes": volumes,
    }});
    assert_eq!(super::claims_of(&pod), ["claim-a", "claim-c"]);
    assert!(Address::parse("[::1]:6379", "x").unwrap().ip() == Some("::1"));
}
