//! Where the Pod of a silent proxy is, as the API server has it now.
//!
//! Gone is what can never serve again: the Pod is not there, its name belongs to another one, it has ended, or its container
//! has and is not started again. A deletion that was asked for is none that was carried out. What keeps an answer away, a
//! missing right or a server that is away, is unknown.
//!
//! Gone is the API server's word, and not the machine's: a Pod that was deleted by force may run on, on a node that is cut
//! off. What keeps such a one from harm is in docs/gate.md.

use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;
use understudy_control::{Fate, PodName, Whereabouts};

use crate::cluster::{Api, CallError, CallKind, Cluster, Place};

/// The Pods of an API server.
pub struct Pods {
    cluster: Arc<dyn Cluster>,
}

impl Pods {
    /// Those of this cluster.
    #[must_use]
    pub fn new(cluster: Arc<dyn Cluster>) -> Self {
        Self { cluster }
    }

    async fn fate(&self, pod: &PodName) -> Fate {
        let api = Api::v1("", "Pod", "pods");
        let at = Place {
            api: &api,
            namespace: Some(&pod.namespace),
            name: &pod.name,
        };
        match self.cluster.get(at).await {
            Ok(found) => match judge(&found, pod) {
                Fate::Ending(text) => Fate::Ending(self.with_node(text, &found).await),
                Fate::Runs(text) => Fate::Runs(self.with_node(text, &found).await),
                other => other,
            },
            Err(error) => unanswered(&error),
        }
    }

    /// Its node, and that this is not ready. Rights to look at nodes are optional: without them only its name is told.
    async fn with_node(&self, text: String, pod: &Value) -> String {
        let Some(node) = pod["spec"]["nodeName"].as_str() else {
            return text;
        };
        let api = Api {
            cluster: true,
            ..Api::v1("", "Node", "nodes")
        };
        let at = Place {
            api: &api,
            namespace: None,
            name: node,
        };
        let state = match self.cluster.get(at).await {
            Ok(found) => not_ready(&found).unwrap_or_default(),
            Err(error) if error.kind == CallKind::NotFound => ", which is not there".to_owned(),
            Err(_) => String::new(),
        };
        format!("{text} on node {node}{state}")
    }
}

impl Whereabouts for Pods {
    fn of<'a>(&'a self, pod: &'a PodName) -> Pin<Box<dyn Future<Output = Fate> + Send + 'a>> {
        Box::pin(self.fate(pod))
    }
}

fn unanswered(error: &CallError) -> Fate {
    let text = one_line(&error.text);
    match error.kind {
        CallKind::NotFound => Fate::Gone("is not there any more".to_owned()),
        CallKind::Denied => Fate::Unknown(format!(
            "may not be asked for (control needs `get` on pods there): {text}"
        )),
        CallKind::Conflict | CallKind::Refused | CallKind::Busy | CallKind::Unreachable => {
            Fate::Unknown(format!("cannot be asked for: {text}"))
        }
    }
}

/// What a Pod's object says.
fn judge(found: &Value, pod: &PodName) -> Fate {
    let uid = found["metadata"]["uid"].as_str().unwrap_or_default();
    if uid.is_empty() {
        return Fate::Unknown("was answered without a uid".to_owned());
    }
    if uid != pod.uid {
        return Fate::Gone(format!(
            "is another one now: its uid is {uid}, and was {}",
            pod.uid
        ));
    }
    let phase = found["status"]["phase"].as_str().unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        let why = found["status"]["reason"].as_str();
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        return Fate::Gone(format!("has ended: its phase is {phase}{why}"));
    }
    let container = container(found, &pod.container);
    if let Some(since) = found["metadata"]["deletionTimestamp"].as_str() {
        let state = container.map(|it| it.state).unwrap_or_default();
        return Fate::Ending(format!("is to be deleted since {since}{state}"));
    }
    match container {
        Some(Container { over: true, state }) => {
            Fate::Gone(format!("is there, its container has ended for good{state}"))
        }
        Some(Container { over: false, state }) => Fate::Runs(format!("is there{state}")),
        None => Fate::Runs("is there".to_owned()),
    }
}

/// The container of a proxy.
struct Container {
    /// It ended, and nobody starts it again.
    over: bool,
    /// `, container proxy running, restarts 3`.
    state: String,
}

fn container(found: &Value, name: &str) -> Option<Container> {
    let named = |list: &'static str, of: &'static str| {
        let items = found[of][list].as_array()?;
        items.iter().find(|it| it["name"] == name)
    };
    let status = (named("containerStatuses", "status"))
        .or_else(|| named("initContainerStatuses", "status"))?;
    let restarts = status["restartCount"].as_u64().unwrap_or_default();
    let state = status["state"].as_object()?;
    let (kind, detail) = state.iter().next()?;
    let reason = detail["reason"].as_str();
    let reason = reason.map(|it| format!(" ({it})")).unwrap_or_default();
    // A sidecar has a policy of its own.
    let own = named("initContainers", "spec").or_else(|| named("containers", "spec"));
    let policy = own
        .and_then(|it| it["restartPolicy"].as_str())
        .or_else(|| found["spec"]["restartPolicy"].as_str())
        .unwrap_or("Always");
    let well = detail["exitCode"].as_i64() == Some(0);
    let again = match policy {
        "Never" => false,
        "OnFailure" => !well,
        _ => true,
    };
    Some(Container {
        over: kind == "terminated" && !again,
        state: format!(", container {name} {kind}{reason}, restarts {restarts}"),
    })
}

/// What is wrong with a node, if anything.
fn not_ready(node: &Value) -> Option<String> {
    let conditions = node["status"]["conditions"].as_array()?;
    let ready = conditions.iter().find(|it| it["type"] == "Ready")?;
    let word = ready["status"].as_str().unwrap_or("Unknown");
    if word == "True" {
        return None;
    }
    let since = ready["lastTransitionTime"].as_str().unwrap_or("?");
    Some(format!(
        ", which is NotReady since {since} (Ready is {word})"
    ))
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::memory::{Fault, MemoryCluster};
    use crate::recipe::Kind;

    fn name() -> PodName {
        PodName::parse("shop/web-1/u-1/proxy").unwrap()
    }

    /// A Pod that runs, with something laid over it.
    fn pod(over: Value) -> Value {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "namespace": "shop", "name": "web-1", "uid": "u-1" },
            "spec": { "nodeName": "n1", "restartPolicy": "Always", "containers": [{ "name": "app" }, { "name": "proxy" }] },
            "status": { "phase": "Running", "containerStatuses": [
                { "name": "app", "restartCount": 0, "state": { "terminated": { "exitCode": 0 } } },
                { "name": "proxy", "restartCount": 2, "state": { "running": {} } },
            ] },
        });
        lay(&mut pod, over);
        pod
    }

    fn lay(under: &mut Value, over: Value) {
        match (under, over) {
            (Value::Object(under), Value::Object(over)) => {
                for (key, value) in over {
                    lay(under.entry(key).or_insert(Value::Null), value);
                }
            }
            (under, over) => *under = over,
        }
    }

    fn ended(policy: &str, code: i64) -> Value {
        let state = json!({ "terminated": { "exitCode": code, "reason": "OOMKilled" } });
        json!({
            "spec": { "restartPolicy": policy },
            "status": { "containerStatuses": [{ "name": "proxy", "restartCount": 0, "state": state }] },
        })
    }

    async fn fate(object: Option<Value>, node: Option<Value>) -> Fate {
        let cluster = MemoryCluster::new();
        if let Some(object) = object {
            cluster.put(&Kind::own("", "v1", "Pod", "pods"), object);
        }
        if let Some(node) = node {
            let nodes = Kind {
                cluster: true,
                ..Kind::own("", "v1", "Node", "nodes")
            };
            cluster.put(&nodes, node);
        }
        Pods::new(Arc::new(cluster)).of(&name()).await
    }

    #[tokio::test]
    async fn gone_is_only_what_never_serves_again() {
        for (over, text) in [
            (json!({ "metadata": { "uid": "u-2" } }), "another one now"),
            (
                json!({ "status": { "phase": "Failed", "reason": "Evicted" } }),
                "Failed (Evicted)",
            ),
            (json!({ "status": { "phase": "Succeeded" } }), "Succeeded"),
            (
                ended("Never", 137),
                "for good, container proxy terminated (OOMKilled)",
            ),
            (ended("OnFailure", 0), "for good"),
        ] {
            let fate = fate(Some(pod(over.clone())), None).await;
            assert!(
                matches!(&fate, Fate::Gone(said) if said.contains(text)),
                "{over} {fate:?}"
            );
        }
        assert_eq!(
            fate(None, None).await,
            Fate::Gone("is not there any more".to_owned())
        );
    }

    #[tokio::test]
    async fn a_container_that_is_started_again_is_not_gone() {
        for over in [
            json!({}),
            ended("Always", 137),
            ended("OnFailure", 137),
            // A sidecar is started again whatever its Pod's policy is.
            json!({
                "spec": { "restartPolicy": "Never", "containers": [{ "name": "app" }],
                          "initContainers": [{ "name": "proxy", "restartPolicy": "Always" }] },
                "status": { "containerStatuses": [],
                            "initContainerStatuses": [{ "name": "proxy", "restartCount": 1, "state": { "terminated": { "exitCode": 137 } } }] },
            }),
            // Nothing is known of its containers yet.
            json!({ "status": { "phase": "Pending", "containerStatuses": null } }),
        ] {
            let fate = fate(Some(pod(over.clone())), None).await;
            assert!(matches!(&fate, Fate::Runs(_)), "{over} {fate:?}");
        }
        let lost = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" },
            "status": { "conditions": [{ "type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-11-22T16:00:00Z" }] },
        });
        let fate = fate(Some(pod(json!({}))), Some(lost)).await;
        let said = "is there, container proxy running, restarts 2 on node n1, which is NotReady since 2026-11-22T16:00:00Z (Ready is Unknown)";
        assert_eq!(fate, Fate::Runs(said.to_owned()));
    }

    #[tokio::test]
    async fn a_deletion_that_was_asked_for_is_told_and_is_none_yet() {
        let over = json!({ "metadata": { "deletionTimestamp": "2026-11-22T16:00:00Z" } });
        let fate = fate(Some(pod(over)), None).await;
        let said = "is to be deleted since 2026-11-22T16:00:00Z, container proxy running, restarts 2 on node n1, which is not there";
        assert_eq!(fate, Fate::Ending(said.to_owned()));
    }

    #[tokio::test]
    async fn an_answer_that_is_kept_from_us_proves_nothing() {
        for (status, text) in [
            (403, "control needs `get` on pods"),
            (401, "control needs `get` on pods"),
            (500, "cannot be asked for: sorry"),
            (429, "cannot be asked for"),
            (0, "cannot be asked for"),
        ] {
            let cluster = MemoryCluster::new();
            cluster.fail(Fault::new("get", "pods", 1, status, "sorry"));
            let fate = Pods::new(Arc::new(cluster)).of(&name()).await;
            assert!(
                matches!(&fate, Fate::Unknown(said) if said.contains(text)),
                "{status} {fate:?}"
            );
        }
        // Who may look at Pods and not at nodes is told the node's name.
        let cluster = MemoryCluster::new();
        cluster.put(&Kind::own("", "v1", "Pod", "pods"), pod(json!({})));
        cluster.fail(Fault::new("get", "nodes", 1, 403, "no"));
        let fate = Pods::new(Arc::new(cluster)).of(&name()).await;
        assert!(
            matches!(&fate, Fate::Runs(said) if said.ends_with("on node n1")),
            "{fate:?}"
        );
    }
}
