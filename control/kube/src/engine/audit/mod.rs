//! Reads a snapshot's data back: into a scratch claim, by a Job that mounts it, and away again with both.
//!
//! ```text
//!   forget what an earlier one left ─► restore to a scratch claim ─► Job `understudy snapshots read` ─► its Pod's message
//!                                                                       └─► compared with the record ─► forget
//! ```
//!
//! - Claim and Job have one name, made of the run, so that what was left by a process that ended is found and removed.
//! - Both are removed whatever comes of it. The snapshot itself and the server's own claim are not touched.
//! - The scratch has a run of its own: nothing of it is mistaken for the snapshot, or for what an operator restored.

mod job;
mod judge;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use understudy_config::VerifyJob;
use understudy_control::snapshot::{
    DataRead, ProviderError, ProviderErrorKind, SnapshotHandle, Verified,
};

use self::job::{Owner, job};
use self::judge::{Look, compare, look, warnings};
use super::drive::{Engine, elapsed};
use super::name::object_name;
use super::refuse::{Refusals, call_failed};
use super::run::age;
use super::trigger::{Begun, Target};
use crate::cluster::{Api, CallError, CallKind};
use crate::recipe::{Purpose, Right, Vars, rights};

/// Between two looks at the Job, should nobody tell of a change: the Pod says more than the Job does. Default: 5 s.
const LOOK: Duration = Duration::from_secs(5);
/// How long a container may fail to start before it counts. Default: 3 min.
const STUCK_FOR: Duration = Duration::from_secs(180);
/// How long what was deleted may take to be gone. Default: 2 min.
const GONE_WITHIN: Duration = Duration::from_secs(120);
/// How often that is looked for. Default: 1 s.
const GONE_LOOK: Duration = Duration::from_secs(1);

/// The run of a snapshot's scratch: what its claim and its Job are called, and what their labels say.
#[must_use]
pub fn scratch_run(run: &str) -> String {
    object_name(&format!("{run}-verify"), 1)
}

/// Claim and Job of one scratch.
struct Scratch {
    claim: Target,
    job: Target,
}

impl Engine<'_> {
    /// Reads a snapshot back and compares it with its record. The engine's request must have the run of [`scratch_run`].
    pub async fn audit(
        &self,
        handle: &SnapshotHandle,
        wanted: &VerifyJob,
    ) -> Result<Verified, ProviderError> {
        let image = self.may_audit(handle, wanted).await?;
        let namespace = self.context.request.namespace.clone();
        let target = |api: Api| Target {
            name: self.context.request.run.clone(),
            namespace: Some(namespace.clone()),
            api,
        };
        let scratch = Scratch {
            claim: target(api("", "PersistentVolumeClaim", "persistentvolumeclaims")),
            job: target(api("batch", "Job", "jobs")),
        };
        self.forget(handle, &scratch).await?;
        let read = self.read_back(handle, wanted, image, &scratch).await;
        // Whatever came of it. What it came to is worth more than a claim that stays.
        let left = self.forget(handle, &scratch).await.err();
        let place = handle.place();
        let compared = read.and_then(|read| {
            compare(handle, read).map_err(|what| {
                ProviderError::failed(format!(
                    "{place}: {what}; take another snapshot, and keep the server that still has the data"
                ))
            })
        });
        match (compared, left) {
            (Ok(mut verified), Some(left)) => {
                verified.lines.push(format!("not all is forgotten: {left}"));
                Ok(verified)
            }
            (Err(cause), Some(left)) => {
                let text = format!("{}; and {left}", cause.text);
                Err(ProviderError::new(cause.kind, text))
            }
            (compared, None) => compared,
        }
    }

    /// Whether it can be done at all; answers with the image.
    async fn may_audit<'a>(
        &self,
        handle: &SnapshotHandle,
        wanted: &'a VerifyJob,
    ) -> Result<&'a str, ProviderError> {
        let place = handle.place();
        let recipe = self.context.recipe;
        if let Some(why) = recipe.no_scratch_claim() {
            let by_hand = recipe.restore.as_ref().map(|it| it.by_hand.as_str());
            let by_hand = by_hand.filter(|it| !it.is_empty());
            let how = by_hand.unwrap_or("Restore it to a place of its own.");
            return Err(ProviderError::misconfigured(format!(
                "{place}: a snapshot of recipe {} is not read back by us: {why}; by hand: {how} Then run `understudy snapshots read DIR` in a Pod that mounts what was restored",
                recipe.name
            )));
        }
        let Some(image) = &wanted.image else {
            return Err(ProviderError::misconfigured(format!(
                "{place}: a Job would read it back, and no image is named for it; set kubernetes.verify.image to the image of understudy"
            )));
        };
        let mut refusals = Refusals::default();
        self.refuse_by_audit_rights(&mut refusals)
            .await
            .map_err(|cause| call_failed(&place, &cause))?;
        match refusals.into_error() {
            Some(refused) => Err(refused),
            None => Ok(image),
        }
    }

    /// Every right that is missing, at once.
    async fn refuse_by_audit_rights(&self, refusals: &mut Refusals) -> Result<(), CallError> {
        let namespace = &self.context.request.namespace;
        let right = |group: &str, resource: &str, verb: &str| Right {
            group: group.to_owned(),
            resource: resource.to_owned(),
            verb: verb.to_owned(),
            namespace: Some(namespace.clone()),
            purpose: Purpose::Restore,
        };
        let mut wanted = vec![
            right("batch", "jobs", "get"),
            right("batch", "jobs", "create"),
            right("batch", "jobs", "delete"),
            right("", "pods", "list"),
            right("", "persistentvolumeclaims", "get"),
            right("", "persistentvolumeclaims", "delete"),
        ];
        let vars = self.context.vars(super::drive::wall_ms());
        // A parameter that is wrong was told before the snapshot was taken.
        let of_recipe = rights(self.context.recipe, &vars).unwrap_or_default();
        let restoring = |it: &Right| it.purpose == Purpose::Restore;
        wanted.extend(of_recipe.into_iter().filter(restoring));
        wanted.sort();
        wanted.dedup();
        for right in &wanted {
            let answer = self.cluster.can_i(right).await?;
            if !answer.yes {
                let place = right.namespace.as_ref().map_or_else(
                    || "in the cluster".to_owned(),
                    |it| format!("in namespace {it}"),
                );
                let group = match right.group.as_str() {
                    "" => String::new(),
                    group => format!(".{group}"),
                };
                let text = format!(
                    "no right to {} {}{group} {place} {}",
                    right.verb, right.resource, answer.reason
                );
                refusals.add(
                    "snapshot-rights",
                    text.trim_end().to_owned(),
                    "add it to the role of our service account",
                );
            }
        }
        Ok(())
    }

    async fn read_back(
        &self,
        handle: &SnapshotHandle,
        wanted: &VerifyJob,
        image: &str,
        scratch: &Scratch,
    ) -> Result<DataRead, ProviderError> {
        let request = self.context.request;
        (self.progress)(format!("{} is restored", scratch.claim.text()));
        self.restore(handle, &request.namespace, &request.run)
            .await?;
        let pods = api("", "Pod", "pods");
        let all = self
            .cluster
            .list(&pods, Some(&request.namespace), &BTreeMap::new())
            .await
            .map_err(|cause| call_failed(&scratch.job.text(), &cause))?;
        let owner = Owner::of(&all, &request.claim);
        let made = job(
            (&request.namespace, &request.run),
            &self.context.labels(),
            wanted,
            image,
            &owner,
        );
        let created = self
            .cluster
            .create(&scratch.job.api, Some(&request.namespace), &made)
            .await;
        match created {
            // Ours, whose answer was lost; the one of an earlier process was removed.
            Ok(_) => {}
            Err(cause) if cause.kind == CallKind::Conflict => {}
            Err(cause) if cause.is_passing() => {
                (self.progress)(format!("{}: {}", scratch.job.text(), cause.text));
            }
            Err(cause) => return Err(call_failed(&scratch.job.text(), &cause)),
        }
        self.jobs_answer(wanted, scratch, &pods, &made).await
    }

    /// Waits for the Job's answer.
    async fn jobs_answer(
        &self,
        wanted: &VerifyJob,
        scratch: &Scratch,
        pods: &Api,
        made: &Value,
    ) -> Result<DataRead, ProviderError> {
        let what = scratch.job.text();
        let namespace = scratch.job.namespace.as_deref();
        let labels = BTreeMap::from([("job-name".to_owned(), scratch.job.name.clone())]);
        let begun = Instant::now();
        let (mut told, mut stuck) = (String::new(), None);
        let mut seen = false;
        loop {
            let looked = async {
                let job = match self.cluster.get(scratch.job.place()).await {
                    Err(cause) if cause.kind == CallKind::NotFound => None,
                    other => Some(other?),
                };
                let pods = self.cluster.list(pods, namespace, &labels).await?;
                Ok::<_, CallError>((job, pods))
            };
            let mut version = String::new();
            let now = match looked.await {
                Ok((Some(job), pods)) => {
                    seen = true;
                    let known = job["metadata"]["resourceVersion"].as_str();
                    version = known.unwrap_or_default().to_owned();
                    look(&job, &pods)
                }
                Ok((None, _)) if seen => {
                    return Err(ProviderError::new(
                        ProviderErrorKind::NotReady,
                        format!(
                            "{what}: somebody deleted it after {}; perhaps another verify of the same snapshot: run this one again when that has ended",
                            age(elapsed(begun))
                        ),
                    ));
                }
                // Whether it was made is not known: it is made now.
                Ok((None, _)) => {
                    let again = self.cluster.create(&scratch.job.api, namespace, made).await;
                    match again {
                        Err(cause) if !cause.is_passing() && cause.kind != CallKind::Conflict => {
                            return Err(call_failed(&what, &cause));
                        }
                        _ => Look::Runs("it is being made".to_owned()),
                    }
                }
                Err(cause) if cause.is_passing() => {
                    Look::Runs(format!("the API server: {}", cause.text))
                }
                Err(cause) => return Err(call_failed(&what, &cause)),
            };
            let (waits, is_stuck) = match now {
                Look::Answered(read) => return Ok(*read),
                Look::Broken(text) => {
                    return Err(ProviderError::new(
                        ProviderErrorKind::NotReady,
                        format!(
                            "{what}: {text}{}, after {}; it says nothing about the snapshot: put right what it names, then run verify again",
                            self.also(scratch).await,
                            age(elapsed(begun))
                        ),
                    ));
                }
                Look::Runs(text) => (text, false),
                Look::Stuck(text) => (text, true),
            };
            stuck = if is_stuck {
                stuck.or_else(|| Some(Instant::now()))
            } else {
                None
            };
            if stuck.is_some_and(|since| since.elapsed() >= STUCK_FOR) {
                return Err(ProviderError::misconfigured(format!(
                    "{what}: {waits}{}, for {}; look at kubernetes.verify (image, pull_secrets), then run verify again",
                    self.also(scratch).await,
                    age(elapsed(begun))
                )));
            }
            let left = wanted.deadline.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(ProviderError::new(
                    ProviderErrorKind::NotReady,
                    format!(
                        "{what}: no answer after {}: {waits}{}; it says nothing about the snapshot: put right what it waits for or give it more time (kubernetes.verify.deadline), then run verify again",
                        age(elapsed(begun)),
                        self.also(scratch).await
                    ),
                ));
            }
            if waits != told {
                (self.progress)(format!("{what}: {waits}"));
                told = waits;
            }
            let most = LOOK.min(left);
            if version.is_empty() {
                tokio::time::sleep(most).await;
            } else {
                self.cluster
                    .changed(scratch.job.place(), &version, most, most)
                    .await;
            }
        }
    }

    /// What events say of it, where we may read them.
    async fn also(&self, scratch: &Scratch) -> String {
        let events = api("", "Event", "events");
        let namespace = scratch.job.namespace.as_deref();
        let any = BTreeMap::new();
        let all = self.cluster.list(&events, namespace, &any).await;
        let told = warnings(&all.unwrap_or_default(), &scratch.job.name);
        told.iter().map(|it| format!("; {it}")).collect()
    }

    /// Removes the Job, what the restore made, and the claim; waits until they are gone.
    async fn forget(
        &self,
        handle: &SnapshotHandle,
        scratch: &Scratch,
    ) -> Result<(), ProviderError> {
        let mut targets = vec![scratch.job.clone()];
        targets.extend(self.restored(handle).await?);
        targets.push(scratch.claim.clone());
        let mut first = None;
        for target in &targets {
            if let Err(cause) = self.delete_ours(target).await {
                first = first.or(Some(cause));
            }
        }
        if let Some(cause) = first {
            return Err(cause);
        }
        let begun = Instant::now();
        for target in &targets {
            loop {
                match self.cluster.get(target.place()).await {
                    Err(cause) if cause.kind == CallKind::NotFound => break,
                    Err(cause) if !cause.is_passing() => {
                        return Err(call_failed(&target.text(), &cause));
                    }
                    // Somebody else's object of that name stays, and was told before.
                    Ok(found) if !self.is_ours(&found) => break,
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
        Ok(())
    }

    /// What the recipe's restore made of the scratch, the claim aside.
    async fn restored(&self, handle: &SnapshotHandle) -> Result<Vec<Target>, ProviderError> {
        let place = handle.place();
        let failed = |cause: CallError| call_failed(&place, &cause);
        let Some(restore) = &self.context.recipe.restore else {
            return Ok(Vec::new());
        };
        let mut unread = Refusals::default();
        let apis = self.discover(&mut unread).await.map_err(failed)?;
        let request = self.context.request;
        let mut vars: Vars = self.vars_of(handle);
        let target = self.target(handle, &request.namespace, &request.run);
        vars.insert("target".to_owned(), target.await.map_err(failed)?);
        self.resolve(&apis, &restore.resolve, &mut vars, &mut unread)
            .await
            .map_err(failed)?;
        let mut made = Vec::new();
        for step in &restore.steps {
            // A step whose names hang on one that is not there was not begun.
            if let Ok(Begun::Ours(target, _)) = self.begun(&apis, step, &vars, &[]).await {
                made.push(target);
            }
        }
        Ok(made)
    }

    async fn delete_ours(&self, target: &Target) -> Result<(), ProviderError> {
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
        if !self.is_ours(&found) {
            return Err(ProviderError::misconfigured(format!(
                "{}: it is there, and it is not ours; rename or remove it",
                target.text()
            )));
        }
        let uid = found["metadata"]["uid"].as_str();
        match self.cluster.delete(target.place(), uid).await {
            Ok(()) => Ok(()),
            // Another one of that name by now: it was gone.
            Err(cause) if cause.kind == CallKind::Conflict => Ok(()),
            Err(cause) => Err(failed(cause)),
        }
    }
}

/// A kind that every API server has.
fn api(group: &str, kind: &str, plural: &str) -> Api {
    Api {
        group: group.to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        cluster: false,
    }
}
