//! What an address can mean, and what objects say about it. Pure.

use std::net::IpAddr;

use serde_json::{Value, json};

/// A server's address, as a cluster may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address of a Pod or a Service.
    Ip {
        /// As text.
        ip: String,
    },
    /// A name.
    Name {
        /// What is between its dots, without the cluster's own domain.
        labels: Vec<String>,
        /// Where a name without a namespace is.
        namespace: String,
    },
}

impl Address {
    /// Reads `host:port`, `host`, or `[ip]:port`.
    pub fn parse(text: &str, namespace: &str) -> Result<Self, String> {
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        let text = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
        let text = text.split('/').next().unwrap_or_default();
        let host = match text.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => text.rsplit_once(':').map_or(text, |(host, _)| host),
        };
        if host.parse::<IpAddr>().is_ok() {
            return Ok(Self::Ip {
                ip: host.to_owned(),
            });
        }
        let labels: Vec<String> = host
            .trim_end_matches('.')
            .split('.')
            .map(str::to_owned)
            .collect();
        if labels.iter().any(String::is_empty) {
            return Err("it is no address".to_owned());
        }
        let of_service = labels.iter().position(|it| it == "svc");
        let labels = match of_service {
            Some(at) => labels.into_iter().take(at).collect(),
            None => labels,
        };
        Ok(Self::Name {
            labels,
            namespace: namespace.to_owned(),
        })
    }

    pub(super) fn ip(&self) -> Option<&str> {
        match self {
            Self::Ip { ip, .. } => Some(ip),
            Self::Name { .. } => None,
        }
    }

    /// What a name can mean: (Service, namespace, Pod).
    #[must_use]
    pub fn services(&self) -> Vec<(String, String, Option<String>)> {
        let Self::Name { labels, namespace } = self else {
            return Vec::new();
        };
        let own = || namespace.clone();
        match labels.as_slice() {
            [service] => vec![(service.clone(), own(), None)],
            [first, second] => vec![
                (first.clone(), second.clone(), None),
                (second.clone(), own(), Some(first.clone())),
            ],
            [pod, service, namespace] => {
                vec![(service.clone(), namespace.clone(), Some(pod.clone()))]
            }
            _ => Vec::new(),
        }
    }
}

/// The names of the pods in these slices, each once: ready ones that do not end, of an address or a host name where one is given.
#[must_use]
pub fn pods_behind(slices: &[Value], ip: Option<&str>, hostname: Option<&str>) -> Vec<String> {
    let mut pods = Vec::new();
    let endpoints = slices
        .iter()
        .flat_map(|it| it["endpoints"].as_array().into_iter().flatten());
    for endpoint in endpoints {
        let conditions = &endpoint["conditions"];
        let ends = conditions["terminating"] == true;
        let unready = conditions["ready"] == false && conditions["serving"] != true;
        let addresses = || endpoint["addresses"].as_array().into_iter().flatten();
        let elsewhere = ip.is_some_and(|ip| !addresses().any(|it| it == ip));
        let target = &endpoint["targetRef"];
        let name = target["name"].as_str().unwrap_or_default();
        let another = hostname.is_some_and(|it| endpoint["hostname"] != it && name != it);
        if ends || unready || elsewhere || another || target["kind"] != "Pod" || name.is_empty() {
            continue;
        }
        if !pods.iter().any(|it| it == name) {
            pods.push(name.to_owned());
        }
    }
    pods
}

/// Endpoints in the form of an EndpointSlice.
pub(super) fn as_slice(endpoints: &Value) -> Value {
    let subsets = endpoints["subsets"].as_array().into_iter().flatten();
    let ready = subsets.flat_map(|it| it["addresses"].as_array().into_iter().flatten());
    let endpoint = |it: &Value| {
        json!({
            "addresses": [it["ip"]],
            "conditions": {"ready": true},
            "hostname": it["hostname"],
            "targetRef": it["targetRef"],
        })
    };
    json!({"endpoints": ready.map(endpoint).collect::<Vec<_>>()})
}

/// The claims that a pod's containers write to, each once.
#[must_use]
pub fn claims_of(pod: &Value) -> Vec<String> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mounts = containers.flat_map(|it| it["volumeMounts"].as_array().into_iter().flatten());
    let written: Vec<&str> = mounts
        .filter(|it| it["readOnly"] != true)
        .filter_map(|it| it["name"].as_str())
        .collect();
    let mut claims = Vec::new();
    for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
        let claim = &volume["persistentVolumeClaim"];
        let is_written = volume["name"]
            .as_str()
            .is_some_and(|name| written.contains(&name));
        if let Some(name) = claim["claimName"].as_str()
            && is_written
            && claim["readOnly"] != true
            && !claims.iter().any(|it| it == name)
        {
            claims.push(name.to_owned());
        }
    }
    claims
}
