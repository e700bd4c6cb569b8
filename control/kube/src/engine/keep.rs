//! What becomes of a snapshot that was taken: it is looked at again, and released.

use understudy_control::snapshot::{ProviderError, ProviderErrorKind, SnapshotHandle};

use serde_json::Value;

use super::drive::{Engine, wall_ms};
use super::refuse::{Refusals, call_failed};
use super::run::{Seen, StepRun, Verdict, kept, time_ms};
use super::trigger::{Begun, Target};
use crate::cluster::CallError;
use crate::predicate::{Objects, select};
use crate::recipe::{Step, Vars};

impl Engine<'_> {
    /// Reads afresh that a snapshot is ready, verified, and still what was taken.
    pub async fn check(&self, handle: &SnapshotHandle) -> Result<(), ProviderError> {
        let checked = self.check_now(handle).await;
        self.leave().await;
        checked
    }

    async fn check_now(&self, handle: &SnapshotHandle) -> Result<(), ProviderError> {
        let what = handle.place();
        let failed = |cause: CallError| call_failed(&what, &cause);
        let mut refusals = Refusals::default();
        let apis = self.discover(&mut refusals).await.map_err(failed)?;
        let mut vars = self.context.vars(wall_ms());
        // What was resolved is read again; what is gone meanwhile is missed by `verify` where it matters.
        self.resolve(
            &apis,
            &self.context.recipe.resolve,
            &mut vars,
            &mut refusals,
        )
        .await
        .map_err(failed)?;
        let steps = &self.context.recipe.steps;
        for (index, step) in steps.iter().enumerate() {
            let is_last = index + 1 == steps.len();
            let begun = self
                .begun(&apis, step, &vars, &[])
                .await
                .map_err(|cause| cause.into_error(&what))?;
            let Begun::Ours(mut target, object) = begun else {
                return Err(ProviderError::failed(format!(
                    "{what}: it is gone; the way back by this snapshot is lost: take another one before going on"
                )));
            };
            let mut uid = object["metadata"]["uid"].as_str().map(str::to_owned);
            if let Some(ours) = handle.object.as_ref().filter(|_| is_last) {
                target.name.clone_from(&ours.name);
                uid = (!ours.uid.is_empty()).then(|| ours.uid.clone());
            }
            let look = self.look(&apis, step, &target, &mut vars).await;
            let mut run =
                StepRun::new(step, self.context.recipe.deadlines, 0, i64::MAX).of(uid.as_deref());
            if is_last {
                run = run.keeping(&self.context.recipe.handle);
            }
            match run.look(&look, &vars, 0) {
                Verdict::Ready => {}
                Verdict::Failed(end) => {
                    return Err(ProviderError::failed(format!(
                        "{}: {}; take another snapshot before going on",
                        target.text(),
                        end.text
                    )));
                }
                Verdict::Skipped(text) => {
                    return Err(ProviderError::failed(format!(
                        "{}: it was skipped: {text}",
                        target.text()
                    )));
                }
                Verdict::Wait { what, .. } => {
                    let (kind, next) = match look.object {
                        Seen::Unknown(_) => {
                            (ProviderErrorKind::Unreachable, "look at the API server")
                        }
                        Seen::Is(_) | Seen::Gone => (
                            ProviderErrorKind::NotReady,
                            "it was ready before: look at its events",
                        ),
                    };
                    return Err(ProviderError::new(
                        kind,
                        format!("{}: {what}; {next}", target.text()),
                    ));
                }
            }
            vars.extend(look.named);
            if let Seen::Is(object) = look.object {
                self.still_the_same(step, &target, &object, &vars)?;
                vars.insert(step.name.clone(), object.clone());
                if is_last {
                    let objects = Objects {
                        here: &object,
                        named: &vars,
                    };
                    let now = kept(&self.context.recipe.handle, objects).unwrap_or_default();
                    let other = now.iter().find(|(key, value)| {
                        handle.handle.get(*key).is_some_and(|it| it != *value)
                    });
                    if let Some((key, value)) = other.filter(|(key, _)| *key != "policy") {
                        return Err(ProviderError::failed(format!(
                            "{}: its `{key}` is {value} now, so it is another snapshot; take another one before going on",
                            target.text()
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    fn still_the_same(
        &self,
        step: &Step,
        target: &Target,
        object: &Value,
        vars: &Vars,
    ) -> Result<(), ProviderError> {
        let Some(expires) = &step.expires else {
            return Ok(());
        };
        let found = select(
            expires,
            Objects {
                here: object,
                named: vars,
            },
        );
        match found.first().and_then(|it| time_ms(it)) {
            Some(at) if at <= wall_ms() => Err(ProviderError::failed(format!(
                "{}: it has expired; take another snapshot, with a longer `keep`",
                target.text()
            ))),
            _ => Ok(()),
        }
    }

    /// Takes the protection back; with `delete`, deletes it where the recipe says that this is safe.
    pub async fn release(
        &self,
        handle: &SnapshotHandle,
        delete: bool,
    ) -> Result<(), ProviderError> {
        let failed = |cause: CallError| call_failed(&handle.place(), &cause);
        let apis = self
            .discover(&mut Refusals::default())
            .await
            .map_err(failed)?;
        let vars = self.vars_of(handle);
        if !handle.id.is_empty() {
            let recipe = self.context.recipe;
            for change in recipe.protect.iter().chain(&recipe.prepare) {
                let Some(undo) = &change.undo else { continue };
                self.change(&apis, change, undo, &vars).await?;
            }
        }
        if delete {
            self.delete(&apis, handle, &vars).await?;
        }
        Ok(())
    }
}
