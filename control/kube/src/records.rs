//! What is kept of every snapshot: one ConfigMap each, beside us, so that any of us finds it again.
//!
//! The journal of control holds the same handle. This one is for whoever has no journal: `snapshots list`, a sidecar that
//! has just begun to lead, a restore after everything else is gone.
//!
//! A run that failed for good has a record too (`latch.rs`), until the shard's next run.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use understudy_control::snapshot::SnapshotHandle;

use crate::cluster::{Api, CallError, CallKind, Cluster, Place};
use crate::engine::{LABEL_POOL, LABEL_RUN, LABEL_SHARD, label, object_name};
use crate::recipe::{Purpose, Right};

/// The label of every record.
pub(crate) const LABEL_RECORD: &str = "understudy.io/record";

/// The records of one namespace.
#[derive(Clone, Copy)]
pub struct Records<'r> {
    /// The API server.
    pub cluster: &'r dyn Cluster,
    /// Where the records are.
    pub namespace: &'r str,
}

pub(crate) fn api() -> Api {
    Api::v1("", "ConfigMap", "configmaps")
}

fn name(id: &str) -> String {
    object_name(&format!("{id}-record"), 1)
}

impl Records<'_> {
    /// Keeps a handle; the same one again changes nothing.
    pub async fn keep(&self, handle: &SnapshotHandle) -> Result<(), CallError> {
        let name = name(&handle.id);
        let api = api();
        let data = json!({"handle": json!(handle).to_string()});
        let record = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": name, "namespace": self.namespace, "labels": {
                LABEL_RECORD: "snapshot", LABEL_RUN: label(&handle.run),
                LABEL_POOL: label(&handle.pool), LABEL_SHARD: label(&handle.shard),
            }},
        });
        match self
            .cluster
            .create(&api, Some(self.namespace), &record)
            .await
        {
            Err(cause) if cause.kind == CallKind::Conflict => {
                let at = Place {
                    api: &api,
                    namespace: Some(self.namespace),
                    name: &name,
                };
                self.cluster.patch(at, &json!({"data": data})).await?;
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    /// Every handle, oldest first. A record that cannot be read is told in the log and left out.
    pub async fn all(&self) -> Result<Vec<SnapshotHandle>, CallError> {
        let labels = BTreeMap::from([(LABEL_RECORD.to_owned(), "snapshot".to_owned())]);
        let found = self
            .cluster
            .list(&api(), Some(self.namespace), &labels)
            .await?;
        let mut handles: Vec<SnapshotHandle> = found.iter().filter_map(handle_of).collect();
        handles.sort_by(|a, b| (a.taken_at_ms, &a.id).cmp(&(b.taken_at_ms, &b.id)));
        Ok(handles)
    }

    /// One handle.
    pub async fn find(&self, id: &str) -> Result<Option<SnapshotHandle>, CallError> {
        let api = api();
        let name = name(id);
        let at = Place {
            api: &api,
            namespace: Some(self.namespace),
            name: &name,
        };
        match self.cluster.get(at).await {
            Ok(found) => Ok(handle_of(&found)),
            Err(cause) if cause.kind == CallKind::NotFound => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// Forgets one.
    pub async fn forget(&self, id: &str) -> Result<(), CallError> {
        let api = api();
        let name = name(id);
        let at = Place {
            api: &api,
            namespace: Some(self.namespace),
            name: &name,
        };
        self.cluster.delete(at, None).await
    }

    /// The rights that records need.
    #[must_use]
    pub fn rights(&self) -> Vec<Right> {
        let right = |verb: &str| Right {
            group: String::new(),
            resource: "configmaps".to_owned(),
            verb: verb.to_owned(),
            namespace: Some(self.namespace.to_owned()),
            purpose: Purpose::Take,
        };
        ["get", "list", "create", "patch", "delete"]
            .map(right)
            .into()
    }
}

fn handle_of(record: &Value) -> Option<SnapshotHandle> {
    let text = record["data"]["handle"].as_str()?;
    match serde_json::from_str(text) {
        Ok(handle) => Some(handle),
        Err(cause) => {
            let name = record["metadata"]["name"].as_str().unwrap_or_default();
            tracing::warn!("the record {name} cannot be read: {cause}");
            None
        }
    }
}
