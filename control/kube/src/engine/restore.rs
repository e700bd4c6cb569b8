//! Brings a snapshot back, by the recipe's own way.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::time::Instant;
use understudy_control::snapshot::{ProviderError, SnapshotHandle};

use super::drive::{Attempt, Engine, Going, elapsed};
use super::refuse::{Refusals, call_failed};
use super::run::millis;
use super::trigger::{Begun, Target};
use crate::cluster::{Api, CallError, CallKind, Place};
use crate::recipe::{Need, Restore, RestoreMode, Step, Vars};

impl Engine<'_> {
    /// Restores to a name; answers with what was made, as fields. May be repeated: what it made before is found again.
    pub async fn restore(
        &self,
        handle: &SnapshotHandle,
        namespace: &str,
        name: &str,
    ) -> Result<Vec<(String, String)>, ProviderError> {
        let restored = self.restore_now(handle, namespace, name).await;
        self.leave().await;
        restored
    }

    async fn restore_now(
        &self,
        handle: &SnapshotHandle,
        namespace: &str,
        name: &str,
    ) -> Result<Vec<(String, String)>, ProviderError> {
        let place = handle.place();
        let failed = |cause: CallError| call_failed(&place, &cause);
        let recipe = self.context.recipe;
        let Some(restore) = &recipe.restore else {
            return Err(ProviderError::misconfigured(format!(
                "the recipe {} does not say how to restore",
                recipe.name
            )));
        };
        if restore.mode == RestoreMode::Manual {
            return Err(ProviderError::misconfigured(format!(
                "{place}: it is restored by hand: {}",
                restore.by_hand
            )));
        }
        let mut refusals = Refusals::default();
        let apis = self.discover(&mut refusals).await.map_err(failed)?;
        let mut vars = self.vars_of(handle);
        vars.insert(
            "target".to_owned(),
            self.target(handle, namespace, name).await.map_err(failed)?,
        );
        self.resolve(&apis, &restore.resolve, &mut vars, &mut refusals)
            .await
            .map_err(failed)?;
        self.needs(restore, namespace, name, &mut refusals)
            .await
            .map_err(failed)?;
        // Some systems keep the size with the snapshot, as `size` in the handle.
        let unsized_claim = vars["target"]["size"].is_null() && !handle.handle.contains_key("size");
        if restore.needs.contains(&Need::SameSize) && unsized_claim {
            let text =
                format!("{place}: nobody says how large it is, and the claim must be as large");
            let remedy =
                "make the claim by hand, with the size that the system shows for the snapshot";
            refusals.add("snapshot-restore", text, remedy);
        }
        if let Some(refused) = refusals.into_error() {
            return Err(refused);
        }
        let made = self.follow(handle, &apis, &restore.steps, vars).await?;
        let mut made: Vec<(String, String)> = made
            .iter()
            .map(|it| (it.api.kind.to_ascii_lowercase(), it.text()))
            .collect();
        if restore.needs.contains(&Need::SameNode) {
            let text = "its driver keeps data on one node: the server that reads it must run where the old one's volume is";
            made.push(("node".to_owned(), text.to_owned()));
        }
        if !restore.by_hand.is_empty() {
            made.push(("next".to_owned(), restore.by_hand.clone()));
        }
        Ok(made)
    }

    /// Triggers steps that bring a snapshot back, each when the one before is ready; answers with what was made.
    pub(super) async fn follow(
        &self,
        handle: &SnapshotHandle,
        apis: &BTreeMap<String, Api>,
        steps: &[Step],
        mut vars: Vars,
    ) -> Result<Vec<Target>, ProviderError> {
        let place = handle.place();
        let started = Instant::now();
        let ends = millis(self.context.recipe.deadlines.whole());
        let mut made = Vec::new();
        for step in steps {
            let (target, object) = match self.begun(apis, step, &vars, &[]).await {
                Ok(Begun::Ours(target, object)) => (target, object),
                Ok(Begun::Free(target)) => {
                    let notes = self
                        .context
                        .annotations(&super::Facts::default(), &handle.level_reached);
                    let object = self
                        .start(step, &target, &vars, &notes)
                        .await
                        .map_err(|cause| cause.into_error(&target.text()))?;
                    let name = object["metadata"]["name"]
                        .as_str()
                        .unwrap_or(&target.name)
                        .to_owned();
                    (Target { name, ..target }, object)
                }
                Err(cause) => return Err(cause.into_error(&place)),
            };
            made.push(target.clone());
            let going = Going {
                triggered: elapsed(started),
                held: None,
                restores: true,
                target,
                object,
            };
            match self
                .watch(apis, step, going, &vars, false, started, ends)
                .await?
            {
                Attempt::Ready(ready, _) => vars = ready,
                Attempt::Skipped(text) => {
                    return Err(ProviderError::failed(format!(
                        "{place}: the restore was skipped: {text}"
                    )));
                }
            }
        }
        Ok(made)
    }

    /// What templates may name of the place: as the old claim was, where it is still there.
    pub(super) async fn target(
        &self,
        handle: &SnapshotHandle,
        namespace: &str,
        name: &str,
    ) -> Result<Value, CallError> {
        let part = |key: &str| handle.handle.get(key).cloned().unwrap_or_default();
        let old = self
            .claim(&part("claimNamespace"), &part("claim"))
            .await?
            .unwrap_or_default();
        let spec = &old["spec"];
        let asked = spec["resources"]["requests"]["storage"].clone();
        let size = match part("restoreSize") {
            size if size.is_empty() => asked,
            // The old claim may have been given more than the snapshot needs; a driver refuses less.
            size => json!(size),
        };
        let modes = match &spec["accessModes"] {
            Value::Array(modes) if !modes.is_empty() => json!(modes),
            _ => json!(["ReadWriteOnce"]),
        };
        Ok(json!({
            "name": name, "namespace": namespace, "size": size, "accessModes": modes, "labels": self.context.labels(),
            "storageClass": spec["storageClassName"], "volumeMode": spec["volumeMode"],
            "namespaces": if namespace == part("claimNamespace") { Value::Null } else { json!({part("claimNamespace"): namespace}) },
        }))
    }

    async fn needs(
        &self,
        restore: &Restore,
        namespace: &str,
        name: &str,
        refusals: &mut Refusals,
    ) -> Result<(), CallError> {
        for need in &restore.needs {
            match need {
                Need::PvcAbsent => {
                    if self.claim(namespace, name).await?.is_some() {
                        let text = format!(
                            "the claim {namespace}/{name} exists, and the system would skip it"
                        );
                        refusals.add(
                            "snapshot-restore",
                            text,
                            "delete it first, or name another namespace",
                        );
                    }
                }
                Need::Detached => {
                    let users = self.users(namespace, name).await?;
                    if !users.is_empty() {
                        let text = format!(
                            "the claim {namespace}/{name} is in use by {}",
                            users.join(", ")
                        );
                        refusals.add("snapshot-restore", text, "scale them to 0 first");
                    }
                }
                // A size is taken from the snapshot, and a node is chosen by the volume's own topology: told with the answer.
                Need::SameNode | Need::SameSize => {}
            }
        }
        Ok(())
    }

    pub(super) async fn claim(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, CallError> {
        let api = Api::v1("", "PersistentVolumeClaim", "persistentvolumeclaims");
        let at = Place {
            api: &api,
            namespace: Some(namespace),
            name,
        };
        match self.cluster.get(at).await {
            Ok(found) => Ok(Some(found)),
            Err(cause) if cause.kind == CallKind::NotFound => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    async fn users(&self, namespace: &str, claim: &str) -> Result<Vec<String>, CallError> {
        let pods = self
            .cluster
            .list(
                &Api::v1("", "Pod", "pods"),
                Some(namespace),
                &BTreeMap::new(),
            )
            .await?;
        let uses = |pod: &&Value| {
            let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
            let ended = ["Succeeded", "Failed"]
                .iter()
                .any(|it| pod["status"]["phase"] == *it);
            !ended
                && volumes
                    .into_iter()
                    .any(|it| it["persistentVolumeClaim"]["claimName"] == claim)
        };
        let name = |pod: &Value| {
            format!(
                "Pod {}",
                pod["metadata"]["name"].as_str().unwrap_or_default()
            )
        };
        Ok(pods.iter().filter(uses).map(name).collect())
    }
}
