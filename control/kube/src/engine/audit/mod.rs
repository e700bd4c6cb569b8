//! Reads a snapshot's data back: into a scratch claim, by a Job that mounts it, and away again with both.
//!
//! ```text
//!   forget what an earlier one left ─► the recipe's way into a scratch claim ─► Job `understudy snapshots read` ─► its Pod's message
//!                                                                                  └─► compared with the record ─► forget
//! ```
//!
//! - The Job has the name of the scratch's run, and so has the claim, unless the system makes it under the name that it had, in
//!   a namespace for that alone: so what was left by a process that ended is found and removed.
//! - All is removed whatever comes of it. The snapshot itself and the server's own claim are not touched.
//! - The scratch has a run of its own: nothing of it is mistaken for the snapshot, or for what an operator restored.

mod forget;
mod job;
mod judge;
mod wait;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use understudy_config::VerifyJob;
use understudy_control::snapshot::{DataRead, ProviderError, SnapshotHandle, Verified};

use self::forget::Moment;
use self::job::{Owner, job};
use self::judge::compare;
use super::drive::Engine;
use super::name::object_name;
use super::refuse::{Refusals, call_failed};
use super::trigger::{StartError, Target};
use crate::cluster::{Api, CallError, CallKind};
use crate::recipe::{Purpose, Right, ScratchInto, Vars, Way, fill, rights};

/// The run of a snapshot's scratch: what its claim and its Job are called, and what their labels say.
#[must_use]
pub fn scratch_run(run: &str) -> String {
    object_name(&format!("{run}-verify"), 1)
}

/// Claim and Job of one scratch, and the way to it.
struct Scratch<'w> {
    way: Way<'w>,
    image: &'w str,
    claim: Target,
    job: Target,
}

impl Scratch<'_> {
    fn namespace(&self) -> &str {
        self.job.namespace.as_deref().unwrap_or_default()
    }
}

impl Engine<'_> {
    /// Reads a snapshot back and compares it with its record. The engine's request must have the run of [`scratch_run`].
    pub async fn audit(
        &self,
        handle: &SnapshotHandle,
        wanted: &VerifyJob,
    ) -> Result<Verified, ProviderError> {
        let scratch = self.may_audit(handle, wanted).await?;
        self.forget(handle, &scratch, Moment::Before).await?;
        let read = self.read_back(handle, wanted, &scratch).await;
        let stays = self.what_stays(&scratch).await;
        // Whatever came of it. What it came to is worth more than a claim that stays.
        let left = self.forget(handle, &scratch, Moment::After).await.err();
        let place = handle.place();
        let compared = read.and_then(|read| {
            compare(handle, read).map_err(|what| {
                ProviderError::failed(format!(
                    "{place}: {what}; take another snapshot, and keep the server that still has the data"
                ))
            })
        });
        match (compared, left) {
            (Ok(mut verified), left) => {
                let left = left.map(|it| it.to_string()).into_iter().chain(stays);
                let told = left.map(|it| format!("not all is forgotten: {it}"));
                verified.lines.extend(told);
                Ok(verified)
            }
            (Err(cause), Some(left)) => {
                let text = format!("{}; and {left}", cause.text);
                Err(ProviderError::new(cause.kind, text))
            }
            (Err(cause), None) => Err(cause),
        }
    }

    /// Whether it can be done at all; answers with where.
    async fn may_audit<'a>(
        &'a self,
        handle: &SnapshotHandle,
        wanted: &'a VerifyJob,
    ) -> Result<Scratch<'a>, ProviderError> {
        let place = handle.place();
        let recipe = self.context.recipe;
        let way = recipe.way_back().map_err(|why| {
            let by_hand = recipe.restore.as_ref().map(|it| it.by_hand.as_str());
            let by_hand = by_hand.filter(|it| !it.is_empty());
            let how = by_hand.unwrap_or("Restore it to a place of its own.");
            ProviderError::misconfigured(format!(
                "{place}: a snapshot of recipe {} is not read back by us: {}; by hand: {how} Then run `understudy snapshots read DIR` in a Pod that mounts what was restored",
                recipe.name,
                why.trim_end_matches('.')
            ))
        })?;
        let Some(image) = &wanted.image else {
            return Err(ProviderError::misconfigured(format!(
                "{place}: a Job would read it back, and no image is named for it; set kubernetes.verify.image to the image of understudy"
            )));
        };
        let request = self.context.request;
        let own = &request.namespace;
        let elsewhere = way.into == ScratchInto::Namespace;
        let (namespace, claim) = match &wanted.namespace {
            _ if !elsewhere => (own, &request.run),
            Some(namespace) if namespace != own => (namespace, &request.claim),
            Some(namespace) => {
                return Err(ProviderError::misconfigured(format!(
                    "{place}: a snapshot of recipe {} is restored under the names that the claims had, and in {namespace} is the server itself; set kubernetes.verify.namespace to one that is there for this alone",
                    recipe.name
                )));
            }
            None => {
                return Err(ProviderError::misconfigured(format!(
                    "{place}: a snapshot of recipe {} is restored under the names that the claims had, so it needs another namespace; make one for this alone, and set kubernetes.verify.namespace to it",
                    recipe.name
                )));
            }
        };
        let target = |api: Api, name: &str| Target {
            name: name.to_owned(),
            namespace: Some(namespace.clone()),
            api,
        };
        let scratch = Scratch {
            way,
            image,
            claim: target(
                api("", "PersistentVolumeClaim", "persistentvolumeclaims"),
                claim,
            ),
            job: target(api("batch", "Job", "jobs"), &request.run),
        };
        let mut refusals = Refusals::default();
        self.refuse_by_audit_rights(&scratch, &mut refusals)
            .await
            .map_err(|cause| call_failed(&place, &cause))?;
        match refusals.into_error() {
            Some(refused) => Err(refused),
            None => Ok(scratch),
        }
    }

    /// Every right that is missing, at once.
    async fn refuse_by_audit_rights(
        &self,
        scratch: &Scratch<'_>,
        refusals: &mut Refusals,
    ) -> Result<(), CallError> {
        let own = self.context.request.namespace.as_str();
        let right = |namespace: &str, group: &str, resource: &str, verb: &str| Right {
            group: group.to_owned(),
            resource: resource.to_owned(),
            verb: verb.to_owned(),
            namespace: Some(namespace.to_owned()),
            purpose: Purpose::Restore,
        };
        let here = scratch.namespace();
        let mut wanted = vec![
            right(here, "batch", "jobs", "get"),
            right(here, "batch", "jobs", "create"),
            right(here, "batch", "jobs", "delete"),
            right(here, "", "pods", "list"),
            right(own, "", "pods", "list"),
            right(here, "", "persistentvolumeclaims", "get"),
            right(own, "", "persistentvolumeclaims", "get"),
            right(here, "", "persistentvolumeclaims", "delete"),
        ];
        if scratch.way.into == ScratchInto::Namespace {
            wanted.push(right(here, "", "persistentvolumeclaims", "patch"));
        }
        let mut vars = self.context.vars(super::drive::wall_ms());
        vars.insert("verify".to_owned(), json!({"namespace": here}));
        // A parameter that is wrong was told before the snapshot was taken.
        let of_recipe = rights(self.context.recipe, &vars).unwrap_or_default();
        let kinds = self.kinds_of(&scratch.way);
        let restoring = |it: &Right| {
            it.purpose == Purpose::Restore
                && kinds.contains(&(it.group.as_str(), it.resource.as_str()))
        };
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

    /// Group and plural of everything that a way reads and makes.
    fn kinds_of(&self, way: &Way<'_>) -> BTreeSet<(&str, &str)> {
        let made = way.steps.iter().filter_map(|it| it.makes());
        let beside = way.steps.iter().flat_map(|it| &it.also);
        let read = way.resolve.iter().chain(beside);
        let read = read.map(|it| it.lookup.kind.as_str());
        let left = way.leaves.iter().map(|it| it.kind.as_str());
        let filled = (way.into == ScratchInto::Filled).then_some("pvc");
        let names = made.chain(read).chain(left).chain(filled);
        let kinds = &self.context.recipe.kinds;
        names
            .filter_map(|it| kinds.get(it))
            .map(|it| (it.group.as_str(), it.plural.as_str()))
            .collect()
    }

    async fn read_back(
        &self,
        handle: &SnapshotHandle,
        wanted: &VerifyJob,
        scratch: &Scratch<'_>,
    ) -> Result<DataRead, ProviderError> {
        let request = self.context.request;
        (self.progress)(format!("{} is restored", scratch.claim.text()));
        self.bring_back(handle, scratch).await?;
        let pods = api("", "Pod", "pods");
        let all = self
            .cluster
            .list(&pods, Some(&request.namespace), &BTreeMap::new())
            .await
            .map_err(|cause| call_failed(&scratch.job.text(), &cause))?;
        let owner = Owner::of(&all, &request.claim);
        let made = job(
            (scratch.namespace(), &scratch.job.name, &scratch.claim.name),
            &self.context.labels(),
            wanted,
            scratch.image,
            &owner,
        );
        let created = self
            .cluster
            .create(&scratch.job.api, Some(scratch.namespace()), &made)
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

    /// The kinds that are served, and what templates of the way may name.
    async fn ways_vars(
        &self,
        handle: &SnapshotHandle,
        scratch: &Scratch<'_>,
        refusals: &mut Refusals,
    ) -> Result<(BTreeMap<String, Api>, Vars), CallError> {
        let apis = self.discover(refusals).await?;
        let mut vars: Vars = self.vars_of(handle);
        let target = self.target(handle, scratch.namespace(), &scratch.claim.name);
        vars.insert("target".to_owned(), target.await?);
        self.resolve(&apis, scratch.way.resolve, &mut vars, refusals)
            .await?;
        Ok((apis, vars))
    }

    /// Goes the recipe's way into the scratch claim; afterwards that is known as ours.
    async fn bring_back(
        &self,
        handle: &SnapshotHandle,
        scratch: &Scratch<'_>,
    ) -> Result<(), ProviderError> {
        let place = handle.place();
        let mut refusals = Refusals::default();
        let (apis, vars) = self
            .ways_vars(handle, scratch, &mut refusals)
            .await
            .map_err(|cause| call_failed(&place, &cause))?;
        let into = scratch.way.into;
        // Some systems keep the size with the snapshot, as `size` in the handle.
        let has_size = !vars["target"]["size"].is_null()
            || (into == ScratchInto::Made && handle.handle.contains_key("size"));
        if into != ScratchInto::Namespace && !has_size {
            let text =
                format!("{place}: nobody says how large it is: the claim that it was of is gone");
            refusals.add(
                "snapshot-restore",
                text,
                "restore it by hand, with the size that the system shows for it",
            );
        }
        if let Some(refused) = refusals.into_error() {
            return Err(refused);
        }
        if into == ScratchInto::Filled {
            self.empty_claim(scratch, &vars).await?;
        }
        self.follow(handle, &apis, scratch.way.steps, vars.clone())
            .await?;
        if into == ScratchInto::Namespace {
            let begun = self.steps_begun(&apis, scratch, vars).await?.0;
            self.take_over(scratch, &begun).await?;
            match self.cluster.get(scratch.claim.place()).await {
                Ok(claim) if self.is_ours(&claim) => {}
                Ok(_) => return Err(self.foreign(&scratch.claim, scratch)),
                Err(cause) if cause.kind == CallKind::NotFound => {
                    return Err(ProviderError::failed(format!(
                        "{}: the restore says that it is done, and the claim is not there; see what it left out, then take another snapshot",
                        scratch.claim.text()
                    )));
                }
                Err(cause) => return Err(call_failed(&scratch.claim.text(), &cause)),
            }
        }
        Ok(())
    }

    /// Makes the claim that the system fills: as the server's own is, and empty.
    async fn empty_claim(&self, scratch: &Scratch<'_>, vars: &Vars) -> Result<(), ProviderError> {
        let what = scratch.claim.text();
        let template = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "{{target.name}}", "namespace": "{{target.namespace}}", "labels": "{{target.labels}}"},
            "spec": {
                "storageClassName": "{{target.storageClass?}}",
                "accessModes": "{{target.accessModes}}",
                "volumeMode": "{{target.volumeMode?}}",
                "resources": {"requests": {"storage": "{{target.size}}"}},
            },
        });
        let whole =
            fill(&template, vars).map_err(|cause| StartError::Fill(cause).into_error(&what))?;
        let made = self
            .cluster
            .create(&scratch.claim.api, Some(scratch.namespace()), &whole)
            .await;
        match made {
            Ok(_) => Ok(()),
            // Ours, whose answer was lost; or somebody's who was faster.
            Err(cause) if cause.kind == CallKind::Conflict || cause.is_passing() => {
                match self.cluster.get(scratch.claim.place()).await {
                    Ok(found) if self.is_ours(&found) => Ok(()),
                    Ok(_) => Err(self.foreign(&scratch.claim, scratch)),
                    Err(_) => Err(call_failed(&what, &cause)),
                }
            }
            Err(cause) => Err(call_failed(&what, &cause)),
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
