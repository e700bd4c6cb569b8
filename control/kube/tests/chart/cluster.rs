//! A real API server takes what the chart writes, where one may be used: `UNDERSTUDY_TEST_CLUSTER=1` and `KUBECONFIG`.
//!
//! Everything but a namespace and the accounts in it is a dry run. A kind that the server does not serve is named and left out.
//! The namespace admits no Pod but those of Pod Security's level *restricted*, where the server knows that, and the Pods of our
//! workloads are asked for too.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery;
use serde_json::{Value, json};

use crate::helm;
use crate::objects::title;

#[tokio::test]
async fn the_api_server_accepts_every_object_that_it_serves() {
    if std::env::var_os("UNDERSTUDY_TEST_CLUSTER").is_none_or(|it| it != "1") {
        eprintln!("skipped: UNDERSTUDY_TEST_CLUSTER=1 and KUBECONFIG name no cluster to use");
        return;
    }
    let client = kube::Client::try_default().await.expect("KUBECONFIG");
    let server = client.apiserver_version().await.expect("its version");
    let knows_sidecars = minor(&server.minor) >= SIDECARS;
    // What a server does not know it drops before it looks: an older one is asked about what the oldest with sidecars gets.
    let version = format!("1.{}.0", minor(&server.minor).max(SIDECARS));
    let values: Vec<Value> = helm::scenarios()
        .into_iter()
        .map(|it| for_version(it.1, &version))
        .collect();
    let namespace = format!("understudy-chart-{}", std::process::id());
    let Some(rendered) = helm::render_into(&values, "understudy", &namespace) else {
        return;
    };
    let (mut accepted, mut pods, mut unknown) = (0, 0, std::collections::BTreeSet::new());
    let mut problems = Vec::new();
    make(&client, &namespace).await;
    let examples = if knows_sidecars {
        crate::examples::objects()
    } else {
        Vec::new()
    };
    let mut rendered: Vec<Value> = rendered.into_iter().flat_map(Result::unwrap).collect();
    let workloads = rendered.iter().filter_map(pod_of);
    let workloads: Vec<Value> = workloads.collect();
    // A Pod is admitted only when its account is there.
    rendered.sort_by_key(|it| it["kind"] != "ServiceAccount");
    for object in rendered.into_iter().chain(workloads).chain(examples) {
        let mut object = object;
        let gvk = kind(&object);
        let Ok((resource, capabilities)) = discovery::pinned_kind(&client, &gvk).await else {
            unknown.insert(format!("{}/{}", gvk.api_version(), gvk.kind));
            continue;
        };
        if let discovery::Scope::Namespaced = capabilities.scope {
            // All in one place: the namespaces of the values are nobody's here.
            object["metadata"]["namespace"] = json!(namespace);
        }
        pods += usize::from(object["kind"] == "Pod");
        match try_out(&client, &resource, &object).await {
            Ok(()) => accepted += 1,
            Err(why) => problems.push(format!("{}: {why}", title(&object))),
        }
    }
    let all: Api<Namespace> = Api::all(client.clone());
    all.delete(&namespace, &Default::default()).await.ok();
    eprintln!(
        "a server of 1.{} accepted {accepted} objects, {pods} of them Pods; it does not serve {unknown:?}",
        server.minor
    );
    if !knows_sidecars {
        eprintln!("skipped there: the examples, which need sidecar containers");
    }
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(accepted > 50 && pods > 5);
}

/// The Pod that a workload would make.
fn pod_of(workload: &Value) -> Option<Value> {
    let mut pod = workload["spec"].get("template")?.clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = workload["metadata"]["name"].clone();
    // The values name a class that the cluster would have.
    let spec = pod["spec"].as_object_mut()?;
    spec.shift_remove("priorityClassName");
    let claims = workload["spec"]["volumeClaimTemplates"].as_array();
    for claim in claims.into_iter().flatten() {
        let name = &claim["metadata"]["name"];
        let volume = json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
        spec["volumes"].as_array_mut()?.push(volume);
    }
    Some(pod)
}

/// The first minor version with sidecar containers.
const SIDECARS: u32 = 29;

/// `33+` is 33.
fn minor(text: &str) -> u32 {
    text.trim_end_matches('+').parse().unwrap_or_default()
}

/// The values, as an installation into such a cluster would have them.
fn for_version(values: Value, version: &str) -> Value {
    let mut values = match values {
        Value::String(path) => {
            let text = std::fs::read_to_string(path).unwrap();
            serde_saphyr::from_str(&text).unwrap()
        }
        values => values,
    };
    values["kubeVersion"] = json!(version);
    if !values["snapshots"].is_null() {
        values["snapshots"]["admissionPolicy"]["enabled"] = json!("auto");
    }
    values
}

fn kind(object: &Value) -> GroupVersionKind {
    let api = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap_or_default())
}

async fn make(client: &kube::Client, name: &str) {
    let all: Api<Namespace> = Api::all(client.clone());
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    let level = ("pod-security.kubernetes.io/enforce", "restricted");
    let label = [level].map(|(key, value)| (key.to_owned(), value.to_owned()));
    namespace.metadata.labels = Some(label.into());
    all.create(&PostParams::default(), &namespace)
        .await
        .expect("make a namespace");
}

async fn try_out(
    client: &kube::Client,
    resource: &ApiResource,
    object: &Value,
) -> Result<(), String> {
    let typed: DynamicObject =
        serde_json::from_value(object.clone()).map_err(|cause| cause.to_string())?;
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    };
    let account = object["kind"] == "ServiceAccount";
    let params = PostParams {
        dry_run: !account,
        ..PostParams::default()
    };
    match api.create(&params, &typed).await {
        // Another release of these tests has made it.
        Err(kube::Error::Api(status)) if account && status.code == 409 => Ok(()),
        answer => answer.map(drop).map_err(|cause| cause.to_string()),
    }
}
