//! Forgets a scratch: its Job, its claim, what the recipe's way made, and what the system made beside it.
//!
//! - Only what is known as ours is deleted: it has the label of the scratch's run, or the recipe says by which mark of its own
//!   the system tells what it made for us.
//! - A claim that the system made under the name that it had carries no label of ours. It is ours when it was made after the object
//!   by which we asked for it, before which the name was free; then it is given the label. That object goes last, and not while it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use understudy_control::snapshot::{ProviderError, ProviderErrorKind, SnapshotHandle};

use super::{Scratch, api};
use crate::cluster::{Api, CallError, CallKind};
use crate::engine::drive::{Engine, Going, elapsed};
use crate::engine::objects::Found;
use crate::engine::refuse::{Refusals, call_failed};
use crate::engine::run::{Seen, StepRun, Verdict, age, millis, time_ms};
use crate::engine::trigger::{Begun, Target};
use crate::recipe::{Deadlines, Lookup, ScratchInto, Step, Vars};

/// How long what was deleted may take to be gone. Default: 2 min.
const GONE_WITHIN: Duration = Duration::from_secs(120);
/// How often that is looked for. Default: 1 s.
const GONE_LOOK: Duration = Duration::from_secs(1);

/// When a scratch is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// What an earlier one left.
    Before,
    /// What this one made.
    After,
}

/// A step of the way that was begun.
pub(super) struct Made<'w> {
    step: &'w Step,
    target: Target,
    object: Value,
}

/// One object that is to be gone.
struct Doomed {
    target: Target,
    /// Known by the system's own mark: its uid.
    marked: Option<String>,
}

impl Doomed {
    fn labelled(target: Target) -> Self {
        Self {
            target,
            marked: None,
        }
    }
}

impl Engine<'_> {
    /// Removes everything of a scratch, one after the other, and waits until it is gone.
    pub(super) async fn forget(
        &self,
        handle: &SnapshotHandle,
        scratch: &Scratch<'_>,
        moment: Moment,
    ) -> Result<(), ProviderError> {
        let failed = |cause: CallError| call_failed(&handle.place(), &cause);
        let mut unread = Refusals::default();
        let (apis, vars) = self
            .ways_vars(handle, scratch, &mut unread)
            .await
            .map_err(failed)?;
        let (mut begun, vars) = self.steps_begun(&apis, scratch, vars).await?;
        let mut doomed = vec![Doomed::labelled(scratch.job.clone())];
        let claim = Doomed::labelled(scratch.claim.clone());
        if scratch.way.into == ScratchInto::Namespace {
            if let Err(runs) = self.settled(&apis, &vars, &begun, moment).await {
                self.remove(&doomed, scratch).await?;
                return Err(runs);
            }
            self.take_over(scratch, &begun).await?;
            doomed.push(claim);
            doomed.extend(self.beside(&apis, scratch, &vars).await.map_err(failed)?);
            begun.reverse();
            doomed.extend(begun.into_iter().map(|it| Doomed::labelled(it.target)));
        } else {
            begun.reverse();
            doomed.extend(begun.into_iter().map(|it| Doomed::labelled(it.target)));
            doomed.extend(self.beside(&apis, scratch, &vars).await.map_err(failed)?);
            doomed.push(claim);
        }
        self.remove(&doomed, scratch).await
    }

    /// What the steps of the way made, and the variables with it.
    pub(super) async fn steps_begun<'w>(
        &self,
        apis: &BTreeMap<String, Api>,
        scratch: &Scratch<'w>,
        mut vars: Vars,
    ) -> Result<(Vec<Made<'w>>, Vars), ProviderError> {
        let mut begun = Vec::new();
        for step in scratch.way.steps {
            match self.begun(apis, step, &vars, &[]).await {
                Ok(Begun::Ours(target, object)) => {
                    vars.insert(step.name.clone(), object.clone());
                    begun.push(Made {
                        step,
                        target,
                        object,
                    });
                }
                // A step whose names hang on one that is not there was not begun.
                Ok(Begun::Free(_)) | Err(_) => {}
            }
        }
        Ok((begun, vars))
    }

    /// Waits until what an earlier one began has ended. What this one began and runs on is not waited for.
    async fn settled(
        &self,
        apis: &BTreeMap<String, Api>,
        vars: &Vars,
        begun: &[Made<'_>],
        moment: Moment,
    ) -> Result<(), ProviderError> {
        for made in begun {
            if !self.runs(apis, vars, made).await {
                continue;
            }
            let what = made.target.text();
            if moment == Moment::Before {
                (self.progress)(format!("{what}: an earlier verify began it, and it runs"));
                let started = Instant::now();
                let going = Going {
                    target: made.target.clone(),
                    object: made.object.clone(),
                    triggered: elapsed(started),
                    held: None,
                    restores: true,
                };
                let ends = millis(self.context.recipe.deadlines.whole());
                // How it ends does not matter, only that.
                let _ = self
                    .watch(apis, made.step, going, vars, false, started, ends)
                    .await;
                if !self.runs(apis, vars, made).await {
                    continue;
                }
            }
            return Err(ProviderError::new(
                ProviderErrorKind::NotReady,
                format!(
                    "{what}: it still runs, and cannot be called back; what it makes is removed by the next verify: run it when this has ended"
                ),
            ));
        }
        Ok(())
    }

    /// Whether its controller took it up and has not ended it.
    async fn runs(&self, apis: &BTreeMap<String, Api>, vars: &Vars, made: &Made<'_>) -> bool {
        let mut vars = vars.clone();
        let look = self.look(apis, made.step, &made.target, &mut vars).await;
        let none = Deadlines::default();
        let mut run = StepRun::new(made.step, none, 0, i64::MAX);
        let waits = matches!(run.look(&look, &vars, 0), Verdict::Wait { .. });
        match &look.object {
            Seen::Is(object) => {
                let status = &object["status"];
                let empty = status.as_object().is_some_and(serde_json::Map::is_empty);
                waits && !status.is_null() && !empty
            }
            Seen::Gone => false,
            Seen::Unknown(_) => true,
        }
    }

    /// Gives the claim that the system made for us our label.
    pub(super) async fn take_over(
        &self,
        scratch: &Scratch<'_>,
        begun: &[Made<'_>],
    ) -> Result<(), ProviderError> {
        let what = scratch.claim.text();
        let claim = match self.cluster.get(scratch.claim.place()).await {
            Ok(claim) => claim,
            Err(cause) if cause.kind == CallKind::NotFound => return Ok(()),
            Err(cause) => return Err(call_failed(&what, &cause)),
        };
        let made_at = |object: &Value| time_ms(&object["metadata"]["creationTimestamp"]);
        let asked = begun.first().and_then(|it| made_at(&it.object));
        let after = asked.is_some_and(|asked| made_at(&claim).is_some_and(|it| it >= asked));
        if self.is_ours(&claim) || !after {
            return Ok(()); // What is not ours is told where it stands in the way.
        }
        let patch =
            json!({"metadata": {"labels": self.context.labels(), "uid": claim["metadata"]["uid"]}});
        match self.cluster.patch(scratch.claim.place(), &patch).await {
            Ok(_) => Ok(()),
            Err(cause) if cause.kind == CallKind::NotFound => Ok(()),
            Err(cause) => Err(call_failed(&what, &cause)),
        }
    }

    /// What the system made beside the claim, by the marks that the recipe names.
    async fn beside(
        &self,
        apis: &BTreeMap<String, Api>,
        scratch: &Scratch<'_>,
        vars: &Vars,
    ) -> Result<Vec<Doomed>, CallError> {
        let mut doomed = Vec::new();
        for lookup in scratch.way.leaves {
            let Lookup { kind, name, .. } = lookup;
            let found = match self.find(apis, lookup, name.is_none(), vars).await? {
                Found::Is(Value::Array(list)) => list,
                Found::Is(one) => vec![one],
                Found::Not(_) | Found::Unnamed(_) => continue,
            };
            let Ok(api) = self.api(apis, kind) else {
                continue;
            };
            let text = |object: &Value, key: &str| {
                let text = object["metadata"][key].as_str();
                text.map(str::to_owned)
            };
            doomed.extend(found.iter().filter_map(|object| {
                Some(Doomed {
                    target: Target {
                        api: api.clone(),
                        namespace: text(object, "namespace"),
                        name: text(object, "name")?,
                    },
                    marked: text(object, "uid"),
                })
            }));
        }
        Ok(doomed)
    }

    /// Deletes in order, each when the one before is gone. What does not go keeps nothing else here.
    async fn remove(&self, doomed: &[Doomed], scratch: &Scratch<'_>) -> Result<(), ProviderError> {
        let mut first = None;
        for one in doomed {
            let gone = match self.delete_ours(one, scratch).await {
                Ok(()) if first.is_none() => self.gone(one).await,
                other => other,
            };
            if let Err(cause) = gone {
                first = first.or(Some(cause));
            }
        }
        first.map_or(Ok(()), Err)
    }

    async fn gone(&self, one: &Doomed) -> Result<(), ProviderError> {
        let target = &one.target;
        let begun = Instant::now();
        loop {
            match self.cluster.get(target.place()).await {
                Err(cause) if cause.kind == CallKind::NotFound => return Ok(()),
                Err(cause) if !cause.is_passing() => {
                    return Err(call_failed(&target.text(), &cause));
                }
                // Another one of that name by now.
                Ok(found) if !self.is_known(one, &found) => return Ok(()),
                _ => {}
            }
            if begun.elapsed() >= GONE_WITHIN {
                return Err(ProviderError::new(
                    ProviderErrorKind::NotReady,
                    format!(
                        "{}: it was deleted {} ago and is still there; see what uses it or which finalizer it has, then run verify again",
                        target.text(),
                        age(elapsed(begun))
                    ),
                ));
            }
            tokio::time::sleep(GONE_LOOK).await;
        }
    }

    fn is_known(&self, one: &Doomed, found: &Value) -> bool {
        match &one.marked {
            Some(uid) => found["metadata"]["uid"] == **uid,
            None => self.is_ours(found),
        }
    }

    async fn delete_ours(&self, one: &Doomed, scratch: &Scratch<'_>) -> Result<(), ProviderError> {
        let target = &one.target;
        let failed = |cause: CallError| {
            let cause = call_failed(&target.text(), &cause);
            let text = format!("{}: delete it by hand", cause.text);
            ProviderError::new(cause.kind, text)
        };
        let found = match self.cluster.get(target.place()).await {
            Ok(found) => found,
            Err(cause) if cause.kind == CallKind::NotFound => return Ok(()),
            Err(cause) => return Err(failed(cause)),
        };
        if !self.is_known(one, &found) {
            return match one.marked {
                Some(_) => Ok(()),
                None => Err(self.foreign(target, scratch)),
            };
        }
        let uid = found["metadata"]["uid"].as_str();
        match self.cluster.delete(target.place(), uid).await {
            Ok(()) => Ok(()),
            Err(cause) if cause.kind == CallKind::NotFound => Ok(()),
            // Another one of that name by now: it was gone.
            Err(cause) if cause.kind == CallKind::Conflict => Ok(()),
            Err(cause) => Err(failed(cause)),
        }
    }

    /// Somebody else's object where one of ours should be.
    pub(super) fn foreign(&self, target: &Target, scratch: &Scratch<'_>) -> ProviderError {
        let next = match scratch.way.into {
            ScratchInto::Namespace if target.name == scratch.claim.name => {
                "remove it, or name another namespace in kubernetes.verify.namespace"
            }
            _ => "rename or remove it",
        };
        ProviderError::misconfigured(format!(
            "{}: it is there, and it is not ours; {next}",
            target.text()
        ))
    }

    /// The scratch's volume, where its class keeps volumes whose claim is gone: it cannot be forgotten by us.
    pub(super) async fn what_stays(&self, scratch: &Scratch<'_>) -> Option<String> {
        let claim = self.cluster.get(scratch.claim.place()).await.ok()?;
        let volumes = Api {
            cluster: true,
            ..api("", "PersistentVolume", "persistentvolumes")
        };
        let target = Target {
            api: volumes,
            namespace: None,
            name: claim["spec"]["volumeName"].as_str()?.to_owned(),
        };
        let volume = self.cluster.get(target.place()).await.ok()?;
        let kept = volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain";
        (self.is_ours(&claim) && kept && !self.is_ours(&volume)).then(|| {
            format!(
                "{}: its class keeps volumes whose claim is gone (Retain); delete it by hand, and what it holds",
                target.text()
            )
        })
    }
}
