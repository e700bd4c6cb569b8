//! Deletes what a snapshot left, in the order that its recipe says.

use std::collections::BTreeMap;

use understudy_control::snapshot::{ProviderError, SnapshotHandle};

use super::drive::Engine;
use super::refuse::call_failed;
use super::trigger::{Begun, StartError, Target};
use crate::cluster::{Api, CallKind};
use crate::recipe::{DeleteBy, Trigger, Vars, fill, fill_text};

impl Engine<'_> {
    /// Deletes a snapshot, or what a run without one triggered. What is not there is deleted.
    pub(super) async fn delete(
        &self,
        apis: &BTreeMap<String, Api>,
        handle: &SnapshotHandle,
        vars: &Vars,
    ) -> Result<(), ProviderError> {
        if handle.id.is_empty() {
            return self.delete_triggered(apis).await;
        }
        let what = handle.place();
        let filled = |cause| StartError::Fill(cause).into_error(&what);
        match self.context.recipe.delete.as_ref().map(|it| &it.by) {
            Some(DeleteBy::Objects(objects)) => {
                for lookup in objects {
                    let api = self
                        .api(apis, &lookup.kind)
                        .map_err(|cause| call_failed(&what, &cause))?;
                    let namespace = self
                        .namespace(api, lookup.namespace.as_ref(), vars)
                        .map_err(filled)?;
                    let Some(name) = &lookup.name else { continue };
                    let target = Target {
                        name: fill_text(name, vars).map_err(filled)?,
                        namespace,
                        api: api.clone(),
                    };
                    self.cluster
                        .delete(target.place(), None)
                        .await
                        .map_err(|cause| call_failed(&target.text(), &cause))?;
                }
                Ok(())
            }
            Some(DeleteBy::Create(object)) => {
                let api = self
                    .api(apis, &object.kind)
                    .map_err(|cause| call_failed(&what, &cause))?;
                let namespace = self
                    .namespace(api, object.namespace.as_ref(), vars)
                    .map_err(filled)?;
                let name = match &object.name {
                    Some(name) => fill_text(name, vars).map_err(filled)?,
                    None => self.context.request.run.clone(),
                };
                let target = Target {
                    name: super::name::object_name(&name, 1),
                    namespace,
                    api: api.clone(),
                };
                let whole = self.made(object, &target, vars).map_err(filled)?;
                match self
                    .cluster
                    .create(api, target.namespace.as_deref(), &whole)
                    .await
                {
                    Ok(_) => Ok(()),
                    Err(cause) if cause.kind == CallKind::Conflict => Ok(()), // It was asked for before.
                    Err(cause) => Err(call_failed(&target.text(), &cause)),
                }
            }
            Some(DeleteBy::Patch(change)) => {
                let target = self
                    .changed_object(apis, change, vars)
                    .map_err(|cause| cause.into_error(&what))?;
                let patch = fill(&change.patch, vars).map_err(filled)?;
                match self.cluster.patch(target.place(), &patch).await {
                    Ok(_) => Ok(()),
                    Err(cause) if cause.kind == CallKind::NotFound => Ok(()),
                    Err(cause) => Err(call_failed(&target.text(), &cause)),
                }
            }
            Some(DeleteBy::Nothing(because)) => Err(ProviderError::misconfigured(format!(
                "{what}: it is not deleted by us: {because}"
            ))),
            None => Err(ProviderError::misconfigured(format!(
                "{what}: the recipe {} does not say how to delete it; do it by hand",
                self.context.recipe.name
            ))),
        }
    }

    /// What a run triggered that gave no snapshot.
    async fn delete_triggered(&self, apis: &BTreeMap<String, Api>) -> Result<(), ProviderError> {
        let mut vars = self.context.vars(super::drive::wall_ms());
        let mut unread = super::refuse::Refusals::default();
        let what = self.context.request.run.clone();
        self.resolve(apis, &self.context.recipe.resolve, &mut vars, &mut unread)
            .await
            .map_err(|cause| call_failed(&what, &cause))?;
        for step in &self.context.recipe.steps {
            if matches!(step.trigger, Trigger::Patch(_) | Trigger::Http(_)) {
                continue; // The object is not ours alone.
            }
            // A step whose names hang on an earlier one that gave nothing was not begun.
            let Ok(Begun::Ours(target, object)) = self.begun(apis, step, &vars, &[]).await else {
                continue;
            };
            self.cluster
                .delete(target.place(), object["metadata"]["uid"].as_str())
                .await
                .map_err(|cause| call_failed(&target.text(), &cause))?;
        }
        Ok(())
    }
}
