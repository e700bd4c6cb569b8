//! Deletes what a snapshot left, in the order that its recipe says.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use understudy_control::snapshot::{ProviderError, ProviderErrorKind, SnapshotHandle};

use super::drive::Engine;
use super::name::object_name;
use super::refuse::{Refusals, call_failed};
use super::run::{ask as answer, joined, kept};
use super::trigger::{Begun, NAMES_MAX, StartError, Target};
use crate::cluster::{Api, CallKind};
use crate::predicate::{Objects, Predicate, select};
use crate::recipe::{AskToDelete, DeleteBy, Lookup, Trigger, Vars, fill, fill_text};

/// How often a deletion that was asked for is looked at. Default: 5 s.
const EVERY: Duration = Duration::from_secs(5);

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
                    let Some(target) = self.named(apis, lookup, vars, &what)? else {
                        continue;
                    };
                    self.cluster
                        .delete(target.place(), None)
                        .await
                        .map_err(|cause| call_failed(&target.text(), &cause))?;
                }
                Ok(())
            }
            Some(DeleteBy::Ask(ask)) => match self.ask_to_delete(apis, ask, vars, &what).await? {
                Some(request) => self.wait_until_gone(apis, ask, vars, &what, &request).await,
                None => Ok(()),
            },
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

    /// Makes the object that asks the system to delete. One of ours that failed is left, and another is made.
    async fn ask_to_delete(
        &self,
        apis: &BTreeMap<String, Api>,
        ask: &AskToDelete,
        vars: &Vars,
        what: &str,
    ) -> Result<Option<Target>, ProviderError> {
        if !ask.gone.is_empty() && self.left(apis, ask, vars, what).await?.is_none() {
            return Ok(None); // It is gone; some systems fail a request for what is not there.
        }
        let mut vars = vars.clone();
        let mut refusals = Refusals::default();
        self.resolve(apis, &ask.resolve, &mut vars, &mut refusals)
            .await
            .map_err(|cause| call_failed(what, &cause))?;
        if let Some(refused) = refusals.into_error() {
            return Err(refused);
        }
        let vars = &vars;
        let filled = |cause| StartError::Fill(cause).into_error(what);
        let api = self
            .api(apis, &ask.object.kind)
            .map_err(|cause| call_failed(what, &cause))?;
        let namespace = self
            .namespace(api, ask.object.namespace.as_ref(), vars)
            .map_err(filled)?;
        let name = match &ask.object.name {
            Some(name) => fill_text(name, vars).map_err(filled)?,
            None => self.context.request.run.clone(),
        };
        for attempt in 1..=NAMES_MAX {
            let target = Target {
                name: object_name(&name, attempt),
                namespace: namespace.clone(),
                api: api.clone(),
            };
            let whole = self.made(&ask.object, &target, vars).map_err(filled)?;
            let made = self.cluster.create(api, namespace.as_deref(), &whole);
            match made.await {
                Ok(_) => return Ok(Some(target)),
                Err(cause) if cause.kind == CallKind::Conflict => {}
                Err(cause) => return Err(call_failed(&target.text(), &cause)),
            }
            match self.cluster.get(target.place()).await {
                Ok(old) if self.is_ours(&old) && Self::why_not(ask, &old, vars).is_none() => {
                    return Ok(Some(target)); // It was asked for before.
                }
                Ok(_) => {}
                Err(cause) if cause.kind == CallKind::NotFound => {}
                Err(cause) => return Err(call_failed(&target.text(), &cause)),
            }
        }
        Err(StartError::NoName.into_error(what))
    }

    /// Why a request failed, if it did.
    fn why_not(ask: &AskToDelete, request: &Value, vars: &Vars) -> Option<String> {
        let objects = Objects {
            here: request,
            named: vars,
        };
        answers(ask.failed.as_ref(), objects).then(|| {
            let said = ask.message.iter().flat_map(|at| select(at, objects));
            joined(said)
        })
    }

    /// The first object that is still there.
    async fn left(
        &self,
        apis: &BTreeMap<String, Api>,
        ask: &AskToDelete,
        vars: &Vars,
        what: &str,
    ) -> Result<Option<Target>, ProviderError> {
        for lookup in &ask.gone {
            let Some(target) = self.named(apis, lookup, vars, what)? else {
                continue;
            };
            match self.cluster.get(target.place()).await {
                Err(cause) if cause.kind == CallKind::NotFound => {}
                Ok(_) => return Ok(Some(target)),
                // Nobody can say: it counts as there.
                Err(cause) if cause.is_passing() => return Ok(Some(target)),
                Err(cause) => return Err(call_failed(&target.text(), &cause)),
            }
        }
        Ok(None)
    }

    fn named(
        &self,
        apis: &BTreeMap<String, Api>,
        lookup: &Lookup,
        vars: &Vars,
        what: &str,
    ) -> Result<Option<Target>, ProviderError> {
        let filled = |cause| StartError::Fill(cause).into_error(what);
        let api = self
            .api(apis, &lookup.kind)
            .map_err(|cause| call_failed(what, &cause))?;
        let namespace = self
            .namespace(api, lookup.namespace.as_ref(), vars)
            .map_err(filled)?;
        let Some(name) = &lookup.name else {
            return Ok(None);
        };
        Ok(Some(Target {
            name: fill_text(name, vars).map_err(filled)?,
            namespace,
            api: api.clone(),
        }))
    }

    async fn wait_until_gone(
        &self,
        apis: &BTreeMap<String, Api>,
        ask: &AskToDelete,
        vars: &Vars,
        what: &str,
        request: &Target,
    ) -> Result<(), ProviderError> {
        if ask.gone.is_empty() && ask.done.is_none() {
            return Ok(());
        }
        let since = Instant::now();
        loop {
            let left = self.left(apis, ask, vars, what).await?;
            if !ask.gone.is_empty() && left.is_none() {
                return Ok(());
            }
            // A request that is done is deleted by some systems; then only what is gone counts.
            if let Ok(here) = &self.cluster.get(request.place()).await {
                if let Some(said) = Self::why_not(ask, here, vars) {
                    return Err(ProviderError::failed(format!(
                        "{}: {said}; put right what it names, then delete again",
                        request.text()
                    )));
                }
                if answers(ask.done.as_ref(), Objects { here, named: vars }) {
                    return Ok(());
                }
            }
            let waits_for = match &left {
                Some(left) => format!("{} is still there", left.text()),
                None => "it is not done".to_owned(),
            };
            if since.elapsed() >= ask.wait {
                return Err(ProviderError::new(
                    ProviderErrorKind::NotReady,
                    format!(
                        "{}: {waits_for} after {} s; see whether the system's controller runs, then delete again",
                        request.text(),
                        ask.wait.as_secs()
                    ),
                ));
            }
            (self.progress)(format!("{}: {waits_for}", request.text()));
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Deletes what a run that ended triggered, by the system's own way, without waiting for it; says what was done.
    pub(super) async fn delete_left(
        &self,
        apis: &BTreeMap<String, Api>,
        target: &Target,
        object: &Value,
        vars: &Vars,
    ) -> Result<String, ProviderError> {
        let by = self.context.recipe.delete.as_ref().map(|it| &it.by);
        let Some(DeleteBy::Ask(ask)) = by else {
            self.cluster
                .delete(target.place(), object["metadata"]["uid"].as_str())
                .await
                .map_err(|cause| call_failed(&target.text(), &cause))?;
            return Ok("it is being deleted".to_owned());
        };
        let vars = self.vars_of_part(object, vars);
        let asked = self.ask_to_delete(apis, ask, &vars, &target.text()).await?;
        Ok(asked.map_or_else(
            || "it is gone".to_owned(),
            |it| format!("{} asks the system to delete it", it.text()),
        ))
    }

    /// What a handle would be made of, as far as a run without a snapshot has it.
    fn vars_of_part(&self, object: &Value, vars: &Vars) -> Vars {
        let objects = Objects {
            here: object,
            named: vars,
        };
        let mut known = BTreeMap::new();
        for (key, part) in &self.context.recipe.handle {
            let one = BTreeMap::from([(key.clone(), part.clone())]);
            known.extend(kept(&one, objects).unwrap_or_default());
        }
        let mut vars = vars.clone();
        vars.insert("handle".to_owned(), json!(known));
        vars
    }

    /// What a run triggered that gave no snapshot.
    async fn delete_triggered(&self, apis: &BTreeMap<String, Api>) -> Result<(), ProviderError> {
        let mut vars = self.context.vars(super::drive::wall_ms());
        let mut unread = Refusals::default();
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
            self.delete_left(apis, &target, &object, &vars).await?;
        }
        Ok(())
    }
}

fn answers(question: Option<&Predicate>, objects: Objects<'_>) -> bool {
    question.is_some_and(|it| answer(it, objects).is_yes())
}
