//! Calls to the API server, objects as plain JSON. Every answer that is no success is an error that says what was done.

use k8s_openapi::jiff::Timestamp;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use std::path::Path;

use crate::error::LabError;

/// A kind of objects, and where they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    /// In our namespace, and not in the whole cluster.
    namespaced: bool,
}

const fn kind(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
) -> Kind {
    Kind {
        group,
        kind,
        plural,
        namespaced,
    }
}

const SNAPSHOTS: &str = "snapshot.storage.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

impl Kind {
    pub(super) const NAMESPACE: Kind = kind("", "Namespace", "namespaces", false);
    pub(super) const NODE: Kind = kind("", "Node", "nodes", false);
    pub(super) const ACCOUNT: Kind = kind("", "ServiceAccount", "serviceaccounts", true);
    pub(super) const POD: Kind = kind("", "Pod", "pods", true);
    pub(super) const CLAIM: Kind =
        kind("", "PersistentVolumeClaim", "persistentvolumeclaims", true);
    pub(super) const VOLUME: Kind = kind("", "PersistentVolume", "persistentvolumes", false);
    pub(super) const JOB: Kind = kind("batch", "Job", "jobs", true);
    pub(super) const STATEFUL_SET: Kind = kind("apps", "StatefulSet", "statefulsets", true);
    pub(super) const STORAGE_CLASS: Kind =
        kind("storage.k8s.io", "StorageClass", "storageclasses", false);
    pub(super) const DEFINITION: Kind = kind(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        false,
    );
    pub(super) const SNAPSHOT: Kind = kind(SNAPSHOTS, "VolumeSnapshot", "volumesnapshots", true);
    pub(super) const CONTENT: Kind = kind(
        SNAPSHOTS,
        "VolumeSnapshotContent",
        "volumesnapshotcontents",
        false,
    );
    pub(super) const SNAPSHOT_CLASS: Kind = kind(
        SNAPSHOTS,
        "VolumeSnapshotClass",
        "volumesnapshotclasses",
        false,
    );
    pub(super) const ROLE: Kind = kind(RBAC, "Role", "roles", true);
    pub(super) const ROLE_BINDING: Kind = kind(RBAC, "RoleBinding", "rolebindings", true);
    pub(super) const CLUSTER_ROLE: Kind = kind(RBAC, "ClusterRole", "clusterroles", false);
    pub(super) const CLUSTER_ROLE_BINDING: Kind =
        kind(RBAC, "ClusterRoleBinding", "clusterrolebindings", false);
    pub(super) const ADMISSION_POLICY: Kind = kind(
        ADMISSION,
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        false,
    );
    pub(super) const ADMISSION_POLICY_BINDING: Kind = kind(
        ADMISSION,
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        false,
    );

    /// Whether this is the object's kind.
    pub(super) fn is_of(self, object: &Value) -> bool {
        text(object, "/kind") == self.kind && text(object, "/apiVersion") == self.api_version()
    }

    pub(super) fn is_namespaced(self) -> bool {
        self.namespaced
    }

    fn api_version(self) -> String {
        match self.group {
            "" => "v1".to_owned(),
            group => format!("{group}/v1"),
        }
    }
}

/// The API server, seen from one namespace.
#[derive(Clone)]
pub(super) struct Objects {
    client: Client,
    pub(super) namespace: String,
}

fn failed(doing: String, cause: &kube::Error) -> LabError {
    LabError::Answer {
        doing,
        answer: cause.to_string(),
    }
}

fn code(cause: &kube::Error) -> u16 {
    match cause {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

/// Now, as objects write it.
pub(super) fn now() -> String {
    let now = Timestamp::now();
    // Whole seconds: what metav1.Time has.
    Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

impl Objects {
    pub(super) async fn connect(kubeconfig: &Path, namespace: &str) -> Result<Objects, LabError> {
        let wrong = |cause: &dyn std::fmt::Display| LabError::Answer {
            doing: format!("connect to the cluster of {}", kubeconfig.display()),
            answer: cause.to_string(),
        };
        let file = Kubeconfig::read_from(kubeconfig).map_err(|cause| wrong(&cause))?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .map_err(|cause| wrong(&cause))?;
        Ok(Objects {
            client: Client::try_from(config).map_err(|cause| wrong(&cause))?,
            namespace: namespace.to_owned(),
        })
    }

    fn of(&self, kind: Kind) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: kind.group.to_owned(),
            version: "v1".to_owned(),
            api_version: kind.api_version(),
            kind: kind.kind.to_owned(),
            plural: kind.plural.to_owned(),
        };
        match kind.namespaced {
            true => Api::namespaced_with(self.client.clone(), &self.namespace, &resource),
            false => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Makes an object; one of its name that is there already stays as it is.
    pub(super) async fn create(&self, kind: Kind, mut object: Value) -> Result<(), LabError> {
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.kind);
        let name = text(&object, "/metadata/name").to_owned();
        let doing = || format!("create {} {name}", kind.kind);
        let object: DynamicObject =
            serde_json::from_value(object).map_err(|cause| LabError::Answer {
                doing: doing(),
                answer: cause.to_string(),
            })?;
        match self.of(kind).create(&PostParams::default(), &object).await {
            Err(cause) if code(&cause) != 409 => Err(failed(doing(), &cause)),
            _ => Ok(()),
        }
    }

    /// All of a kind with this label, as `key=value`; without one, all.
    pub(super) async fn list(&self, kind: Kind, label: &str) -> Result<Vec<Value>, LabError> {
        let wanted = match label {
            "" => ListParams::default(),
            label => ListParams::default().labels(label),
        };
        let found = self.of(kind).list(&wanted).await;
        let found = found.map_err(|cause| failed(format!("list {}", kind.plural), &cause))?;
        Ok(found.items.iter().map(plain).collect())
    }

    pub(super) async fn get(&self, kind: Kind, name: &str) -> Result<Option<Value>, LabError> {
        let found = self.of(kind).get_opt(name).await;
        let found = found.map_err(|cause| failed(format!("get {} {name}", kind.kind), &cause))?;
        Ok(found.as_ref().map(plain))
    }

    /// Writes a status by the subresource, as controllers do. An object that is gone meanwhile is no error.
    pub(super) async fn status(
        &self,
        kind: Kind,
        name: &str,
        status: &Value,
    ) -> Result<(), LabError> {
        let patch = Patch::Merge(json!({"status": status}));
        let params = PatchParams::default();
        match self.of(kind).patch_status(name, &params, &patch).await {
            Err(cause) if code(&cause) != 404 => Err(failed(
                format!("write the status of {} {name}", kind.kind),
                &cause,
            )),
            _ => Ok(()),
        }
    }

    /// A TokenRequest for an account of our namespace, answered.
    pub(super) async fn token(&self, account: &str) -> Result<Value, LabError> {
        let request =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let answer: Result<Value, kube::Error> = self
            .of(Kind::ACCOUNT)
            .create_subresource("token", account, &PostParams::default(), &request)
            .await;
        answer.map_err(|cause| failed(format!("ask for a token of {account}"), &cause))
    }

    /// The API server's minor version: 36 of 1.36.
    pub(super) async fn minor_version(&self) -> Result<u32, LabError> {
        let doing = || "ask for the server's version".to_owned();
        let told = self.client.apiserver_version().await;
        let told = told.map_err(|cause| failed(doing(), &cause))?;
        // Some write `36+`.
        let minor = told.minor.trim_end_matches('+').parse();
        minor.map_err(|_| LabError::Answer {
            doing: doing(),
            answer: format!("minor version {}", told.minor),
        })
    }

    /// What a scheduler does.
    pub(super) async fn bind(&self, pod: &str, node: &str) -> Result<(), LabError> {
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
        let answer: Result<Value, kube::Error> = self
            .of(Kind::POD)
            .create_subresource("binding", pod, &PostParams::default(), &binding)
            .await;
        answer
            .map(drop)
            .map_err(|cause| failed(format!("bind Pod {pod}"), &cause))
    }

    /// Deletes an object now, finalizers aside. One that is gone is no error.
    pub(super) async fn delete(&self, kind: Kind, name: &str) -> Result<(), LabError> {
        let now = DeleteParams::default().grace_period(0);
        match self.of(kind).delete(name, &now).await {
            Err(cause) if code(&cause) != 404 => {
                Err(failed(format!("delete {} {name}", kind.kind), &cause))
            }
            _ => Ok(()),
        }
    }
}

fn plain(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// The text at a JSON pointer; empty where there is none.
pub(super) fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The object's name.
pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}
