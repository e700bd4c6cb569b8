//! Finds the claim behind a server's address: Service → EndpointSlice (or Endpoints) → Pod → PersistentVolumeClaim.
//!
//! One claim or none: among several it never guesses, and says which there are and where to name one.

mod choose;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::{Api, CallError, CallKind, Cluster, Place};
pub use choose::{Address, claims_of, pods_behind};

/// A claim, and the pod that uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The claim's namespace.
    pub namespace: String,
    /// The claim.
    pub claim: String,
    /// The pod; empty when the claim was named.
    pub pod: String,
    /// Its node.
    pub node: String,
}

/// Why no claim was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocateError {
    /// The API server did not say.
    #[error("{0}")]
    Call(CallError),
    /// There is none, or more than one.
    #[error("{0}; name the claim in kubernetes.volumes of the config")]
    Unclear(String),
}

impl From<CallError> for LocateError {
    fn from(cause: CallError) -> Self {
        Self::Call(cause)
    }
}

/// Finds the claim behind `host:port`. Names without a namespace are looked for in `namespace`.
pub async fn locate(
    cluster: &dyn Cluster,
    address: &str,
    namespace: &str,
) -> Result<Located, LocateError> {
    let unclear = |text: String| LocateError::Unclear(format!("{address}: {text}"));
    let wanted = Address::parse(address, namespace).map_err(unclear)?;
    let mut last = "no Service of its name and no Pod of its address is there".to_owned();
    for (service, namespace, pod) in wanted.services() {
        if pod.is_none() && !exists(cluster, &service, &namespace).await? {
            continue;
        }
        let pods = behind(cluster, &service, &namespace, &wanted, pod.as_deref()).await?;
        match pods.as_slice() {
            [] => last = format!("no ready Pod is behind Service {namespace}/{service}"),
            [one] => {
                return claim(cluster, one, &namespace)
                    .await
                    .map_err(|it| with(address, it));
            }
            many => {
                return Err(unclear(format!(
                    "{} Pods are behind Service {namespace}/{service}: {}",
                    many.len(),
                    many.join(", ")
                )));
            }
        }
    }
    if let Address::Ip { ip, .. } = &wanted {
        let pods = by_ip(cluster, ip, namespace).await?;
        match pods.as_slice() {
            [] => {}
            [one] => {
                return claim(cluster, one, namespace)
                    .await
                    .map_err(|it| with(address, it));
            }
            many => {
                return Err(unclear(format!(
                    "several Pods have its address: {}",
                    many.join(", ")
                )));
            }
        }
    }
    Err(unclear(last))
}

fn with(address: &str, cause: LocateError) -> LocateError {
    match cause {
        LocateError::Unclear(text) => LocateError::Unclear(format!("{address}: {text}")),
        call @ LocateError::Call(_) => call,
    }
}

async fn exists(cluster: &dyn Cluster, service: &str, namespace: &str) -> Result<bool, CallError> {
    let services = Api::v1("", "Service", "services");
    let at = Place {
        api: &services,
        namespace: Some(namespace),
        name: service,
    };
    match cluster.get(at).await {
        Ok(_) => Ok(true),
        Err(cause) if cause.kind == CallKind::NotFound => Ok(false),
        Err(cause) => Err(cause),
    }
}

/// The pods behind a Service, by EndpointSlices, or by Endpoints where there are none.
async fn behind(
    cluster: &dyn Cluster,
    service: &str,
    namespace: &str,
    wanted: &Address,
    pod: Option<&str>,
) -> Result<Vec<String>, CallError> {
    let slices = Api::v1("discovery.k8s.io", "EndpointSlice", "endpointslices");
    let labels = BTreeMap::from([("kubernetes.io/service-name".to_owned(), service.to_owned())]);
    let found = match cluster.list(&slices, Some(namespace), &labels).await {
        Ok(found) => found,
        // A server that is older than EndpointSlices v1.
        Err(cause) if cause.kind == CallKind::NotFound => Vec::new(),
        Err(cause) => return Err(cause),
    };
    let mut pods = pods_behind(&found, wanted.ip(), pod);
    if found.is_empty() {
        let endpoints = Api::v1("", "Endpoints", "endpoints");
        let at = Place {
            api: &endpoints,
            namespace: Some(namespace),
            name: service,
        };
        match cluster.get(at).await {
            Ok(endpoints) => pods = pods_behind(&[choose::as_slice(&endpoints)], wanted.ip(), pod),
            Err(cause) if cause.kind == CallKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(pods)
}

/// A pod's own address, or a Service's cluster address.
async fn by_ip(cluster: &dyn Cluster, ip: &str, namespace: &str) -> Result<Vec<String>, CallError> {
    let none = BTreeMap::new();
    let name = |it: &Value| {
        it["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let services = cluster
        .list(&Api::v1("", "Service", "services"), Some(namespace), &none)
        .await?;
    if let Some(service) = services.iter().find(|it| it["spec"]["clusterIP"] == ip) {
        let any = Address::Name {
            labels: Vec::new(),
            namespace: namespace.to_owned(),
        };
        return behind(cluster, &name(service), namespace, &any, None).await;
    }
    let pods = cluster
        .list(&Api::v1("", "Pod", "pods"), Some(namespace), &none)
        .await?;
    let lives =
        |it: &&Value| it["status"]["podIP"] == ip && it["metadata"]["deletionTimestamp"].is_null();
    Ok(pods.iter().filter(lives).map(name).collect())
}

async fn claim(cluster: &dyn Cluster, pod: &str, namespace: &str) -> Result<Located, LocateError> {
    let pods = Api::v1("", "Pod", "pods");
    let at = Place {
        api: &pods,
        namespace: Some(namespace),
        name: pod,
    };
    let found = cluster.get(at).await?;
    let claims = claims_of(&found);
    match claims.as_slice() {
        [claim] => Ok(Located {
            namespace: namespace.to_owned(),
            claim: claim.clone(),
            pod: pod.to_owned(),
            node: found["spec"]["nodeName"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        }),
        [] => Err(LocateError::Unclear(format!(
            "Pod {namespace}/{pod} has no PersistentVolumeClaim"
        ))),
        many => Err(LocateError::Unclear(format!(
            "Pod {namespace}/{pod} has several claims: {}",
            many.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests;
