//! The real API server, by kube-rs.
//!
//! Every call has a timeout of its own and is made once: kube's own repeats are off, since a POST that is repeated could
//! make a second object where the server chooses the name.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams, Preconditions, PropagationPolicy,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config, discovery};
use serde_json::Value;

use super::web::Web;
use super::{Allowed, Api, CallError, CallKind, Cluster, HttpAnswer, HttpRequest, Place, Reply};
use crate::recipe::{Kind, Right};

/// Longest wait for one answer of the API server. Default: 10 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Who we are to server-side apply.
const FIELD_MANAGER: &str = "understudy";
/// How many objects one page of a list holds. Default: 500.
const PAGE: u32 = 500;

/// A connection to an API server.
#[derive(Clone)]
pub struct LiveCluster {
    client: Client,
    namespace: String,
    web: Arc<Web>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("find an API server: {0}")]
pub struct ConnectError(String);

impl LiveCluster {
    /// The API server of a kubeconfig file; without one, of the pod we run in, or of `KUBECONFIG`.
    pub async fn connect(kubeconfig: Option<&std::path::Path>) -> Result<Self, ConnectError> {
        let failed = |cause: &dyn std::fmt::Display| ConnectError(cause.to_string());
        let config = match kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|cause| failed(&cause))?;
                let options = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(file, &options).await;
                config.map_err(|cause| failed(&cause))?
            }
            None => Config::infer().await.map_err(|cause| failed(&cause))?,
        };
        Self::of(config)
    }

    /// With a configuration that is there already.
    pub fn of(mut config: Config) -> Result<Self, ConnectError> {
        config.default_retry = false;
        config.connect_timeout = Some(CALL_TIMEOUT);
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|cause| ConnectError(cause.to_string()))?;
        Ok(Self {
            client,
            namespace,
            web: Arc::new(Web),
        })
    }

    /// The namespace we live in.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The client, for what is not about snapshots.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    fn api(&self, api: &Api, namespace: Option<&str>) -> kube::Api<DynamicObject> {
        let resource = ApiResource {
            group: api.group.clone(),
            version: api.version.clone(),
            api_version: api.api_version(),
            kind: api.kind.clone(),
            plural: api.plural.clone(),
        };
        match namespace {
            Some(namespace) => {
                kube::Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
            None => kube::Api::all_with(self.client.clone(), &resource),
        }
    }
}

impl std::fmt::Debug for LiveCluster {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "LiveCluster({})", self.namespace)
    }
}

async fn timely<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|cause| call_error(&cause)),
        Err(_) => Err(CallError::new(
            CallKind::Unreachable,
            format!("no answer within {} s", CALL_TIMEOUT.as_secs()),
        )),
    }
}

fn call_error(cause: &kube::Error) -> CallError {
    match cause {
        kube::Error::Api(status) => CallError::of_status(status.code, status.message.clone()),
        kube::Error::SerdeError(cause) => CallError::new(CallKind::Refused, cause.to_string()),
        // A proxy's or an aggregated API's page instead of an answer, or no connection.
        other => CallError::new(CallKind::Unreachable, with_causes(other)),
    }
}

pub(super) fn with_causes(cause: &dyn std::error::Error) -> String {
    let mut text = cause.to_string();
    let mut below = cause.source();
    while let Some(cause) = below {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        below = cause.source();
    }
    text
}

fn plain(object: &DynamicObject) -> Result<Value, CallError> {
    serde_json::to_value(object)
        .map_err(|cause| CallError::new(CallKind::Refused, cause.to_string()))
}

fn dynamic(object: &Value) -> Result<DynamicObject, CallError> {
    serde_json::from_value(object.clone())
        .map_err(|cause| CallError::new(CallKind::Refused, format!("it is no object: {cause}")))
}

impl Cluster for LiveCluster {
    fn served<'a>(&'a self, kind: &'a Kind) -> Reply<'a, Api> {
        Box::pin(async move {
            let first = kind.versions.first().map_or("v1", String::as_str);
            if !kind.discover {
                return Ok(Api::of(kind, first));
            }
            let mut last = None;
            for version in &kind.versions {
                let wanted = GroupVersionKind::gvk(&kind.group, version, &kind.kind);
                match timely(discovery::pinned_kind(&self.client, &wanted)).await {
                    Ok((found, _)) if found.plural == kind.plural => {
                        return Ok(Api::of(kind, version));
                    }
                    Ok((found, _)) => {
                        let text = format!("{} is called {} here", kind.kind, found.plural);
                        last = Some(CallError::new(CallKind::NotFound, text));
                    }
                    // A kind that is not in the answer is an error of kube's own, not the server's.
                    Err(cause)
                        if cause.text.contains("missing") || cause.kind == CallKind::NotFound =>
                    {
                        last = Some(CallError::new(CallKind::NotFound, cause.text));
                    }
                    Err(cause) => return Err(cause),
                }
            }
            Err(last.unwrap_or_else(|| CallError::new(CallKind::NotFound, "no version is known")))
        })
    }

    fn get<'a>(&'a self, at: Place<'a>) -> Reply<'a, Value> {
        Box::pin(async move {
            let api = self.api(at.api, at.namespace);
            plain(&timely(api.get(at.name)).await?)
        })
    }

    fn list<'a>(
        &'a self,
        api: &'a Api,
        namespace: Option<&'a str>,
        labels: &'a BTreeMap<String, String>,
    ) -> Reply<'a, Vec<Value>> {
        Box::pin(async move {
            let client = self.api(api, namespace);
            let labels: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let mut params = ListParams::default().labels(&labels.join(",")).limit(PAGE);
            let mut found = Vec::new();
            loop {
                let page = timely(client.list(&params)).await?;
                for object in &page.items {
                    found.push(plain(object)?);
                }
                match page.metadata.continue_ {
                    Some(next) if !next.is_empty() => params = params.continue_token(&next),
                    _ => return Ok(found),
                }
            }
        })
    }

    fn create<'a>(
        &'a self,
        api: &'a Api,
        namespace: Option<&'a str>,
        object: &'a Value,
    ) -> Reply<'a, Value> {
        Box::pin(async move {
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            let object = dynamic(object)?;
            plain(&timely(self.api(api, namespace).create(&params, &object)).await?)
        })
    }

    fn apply<'a>(&'a self, at: Place<'a>, object: &'a Value) -> Reply<'a, Value> {
        Box::pin(async move {
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let api = self.api(at.api, at.namespace);
            plain(&timely(api.patch(at.name, &params, &Patch::Apply(object))).await?)
        })
    }

    fn patch<'a>(&'a self, at: Place<'a>, patch: &'a Value) -> Reply<'a, Value> {
        Box::pin(async move {
            let params = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            let api = self.api(at.api, at.namespace);
            plain(&timely(api.patch(at.name, &params, &Patch::Merge(patch))).await?)
        })
    }

    fn delete<'a>(&'a self, at: Place<'a>, uid: Option<&'a str>) -> Reply<'a, ()> {
        Box::pin(async move {
            let params = DeleteParams {
                propagation_policy: Some(PropagationPolicy::Background),
                preconditions: uid.map(|uid| Preconditions {
                    uid: Some(uid.to_owned()),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            let api = self.api(at.api, at.namespace);
            match timely(api.delete(at.name, &params)).await {
                Ok(_) => Ok(()),
                Err(cause) if cause.kind == CallKind::NotFound => Ok(()),
                Err(cause) => Err(cause),
            }
        })
    }

    fn changed<'a>(
        &'a self,
        at: Place<'a>,
        version: &'a str,
        poll: Duration,
        most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let api = self.api(at.api, at.namespace);
            let until = tokio::time::Instant::now() + most;
            let mut events = watcher::watch_object(api, at.name)
                .default_backoff()
                .boxed();
            let watching = async {
                loop {
                    match events.try_next().await {
                        Ok(Some(Some(object)))
                            if object.metadata.resource_version.as_deref() == Some(version) => {}
                        Ok(_) => return true,
                        // Denied, broken or away: a look now and then does as well.
                        Err(_) => return false,
                    }
                }
            };
            if let Ok(false) = tokio::time::timeout_at(until, watching).await {
                let poll = tokio::time::Instant::now() + poll;
                tokio::time::sleep_until(poll.min(until)).await;
            }
        })
    }

    fn can_i<'a>(&'a self, right: &'a Right) -> Reply<'a, Allowed> {
        Box::pin(async move {
            let (resource, subresource) = match right.resource.split_once('/') {
                Some((resource, part)) => (resource, Some(part.to_owned())),
                None => (right.resource.as_str(), None),
            };
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(ResourceAttributes {
                        group: Some(right.group.clone()),
                        resource: Some(resource.to_owned()),
                        subresource,
                        verb: Some(right.verb.clone()),
                        namespace: right.namespace.clone(),
                        ..ResourceAttributes::default()
                    }),
                    ..SelfSubjectAccessReviewSpec::default()
                },
                ..SelfSubjectAccessReview::default()
            };
            let api: kube::Api<SelfSubjectAccessReview> = kube::Api::all(self.client.clone());
            let answer = timely(api.create(&PostParams::default(), &review)).await?;
            let status = answer.status.unwrap_or_default();
            Ok(Allowed {
                yes: status.allowed,
                reason: status.reason.unwrap_or_default(),
            })
        })
    }

    fn http<'a>(&'a self, request: &'a HttpRequest) -> Reply<'a, HttpAnswer> {
        Box::pin(async move { self.web.ask(request).await })
    }
}
