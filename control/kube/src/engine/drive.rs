//! Acts on what `run` decides: looks, waits, and keeps the promises around it.
//!
//! Whatever ends a run, a hold is lifted first. What a run triggered is looked for before anything is triggered, so a
//! restart goes on with it, quiets nobody again, and never triggers twice.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::time::Instant;
use understudy_control::snapshot::{Level, ObjectRef, ProviderError, SnapshotHandle};

use super::context::Context;
use super::refuse::{Refusals, call_failed};
use super::run::{Final, Look, Seen, StepRun, Verdict, Why, kept, millis, time_ms};
use super::server::{Facts, Server};
use super::session::Sessions;
use super::trigger::{Begun, StartError, Target};
use crate::cluster::{Api, CallError, CallKind, Cluster};
use crate::predicate::{Objects, select};
use crate::recipe::{Change, Conflict, HoldUntil, QuiesceBy, Reached, Step, Vars, Via, fill};

/// Longest wait for a watch before a look without one. Default: 30 s.
const LOOK_AT_LEAST: Duration = Duration::from_secs(30);
/// Wait before a quota is asked once more. Default: 30 s.
const QUOTA_WAIT: Duration = Duration::from_secs(30);

/// Runs one recipe for one request.
pub struct Engine<'e> {
    /// The API server.
    pub cluster: &'e dyn Cluster,
    /// The server behind the volume.
    pub server: &'e dyn Server,
    /// Whose snapshot, and how.
    pub context: Context<'e>,
    /// Is told what is waited for.
    pub progress: &'e (dyn Fn(String) + Send + Sync),
    pub(super) sessions: Sessions,
}

/// A step that was started or found.
pub(super) struct Going {
    pub(super) target: Target,
    pub(super) object: Value,
    /// When it was triggered, on the run's clock.
    pub(super) triggered: i64,
    /// Since when writes are held.
    pub(super) held: Option<i64>,
    /// It brings a snapshot back, and takes none.
    pub(super) restores: bool,
}

/// What came of one attempt at a step.
pub(super) enum Attempt {
    Ready(Vars, Option<i64>),
    Skipped(String),
}

impl<'e> Engine<'e> {
    /// One run's engine.
    pub fn new(
        cluster: &'e dyn Cluster,
        server: &'e dyn Server,
        context: Context<'e>,
        progress: &'e (dyn Fn(String) + Send + Sync),
    ) -> Self {
        Self {
            cluster,
            server,
            context,
            progress,
            sessions: Sessions::default(),
        }
    }
}

impl Engine<'_> {
    /// Takes the snapshot of the run, or goes on with it; ends when it is ready, verified and protected.
    pub async fn take(&self) -> Result<SnapshotHandle, ProviderError> {
        let taken = self.take_held().await;
        if self.context.recipe.quiesce.hold == HoldUntil::Cut {
            // Lifting twice is harmless; a hold that is left behind is not.
            let _ = self.server.lift().await;
        }
        self.leave().await;
        taken
    }

    async fn take_held(&self) -> Result<SnapshotHandle, ProviderError> {
        let started = Instant::now();
        let recipe = self.context.recipe;
        let what = self.what();
        let mut refusals = Refusals::default();
        let total = recipe.deadlines.whole();
        let mut ends = millis(total);
        let apis = self.patiently(started, ends, || async {
            let mut found = Refusals::default();
            let apis = self.discover(&mut found).await?;
            Ok((apis, found))
        });
        let (apis, found) = apis.await.map_err(|cause| call_failed(&what, &cause))?;
        refusals.0.extend(found.0);
        let base = self.context.vars(wall_ms());
        let resolved = self.patiently(started, ends, || async {
            let (mut vars, mut found) = (base.clone(), Refusals::default());
            self.resolve(&apis, &recipe.resolve, &mut vars, &mut found)
                .await?;
            Ok((vars, found))
        });
        let (mut vars, found) = resolved.await.map_err(|cause| call_failed(&what, &cause))?;
        refusals.0.extend(found.0);

        let mut facts = None;
        let mut last: Option<(Target, String, Value, Option<i64>)> = None;
        // What the first step triggered carries our annotations; what is watched may be an answer of another API.
        let mut noted: Option<Value> = None;
        for (index, step) in recipe.steps.iter().enumerate() {
            let is_last = index + 1 == recipe.steps.len();
            let mut skipped = Vec::new();
            let (target, uid, ready, cut) = loop {
                let going = self
                    .go(
                        &apis,
                        step,
                        &mut vars,
                        &mut facts,
                        &skipped,
                        &mut refusals,
                        started,
                        ends,
                    )
                    .await?;
                // A run that was found counts from when it began, not from our restart.
                ends = ends.min(going.triggered + millis(total));
                let target = going.target.clone();
                noted.get_or_insert_with(|| going.object.clone());
                // A run that was found has quieted the server: its later steps do not do it again.
                facts.get_or_insert_with(|| self.context.facts_of(&going.object));
                let uid = going.object["metadata"]["uid"].as_str();
                let uid = uid.unwrap_or_default().to_owned();
                match self
                    .watch(&apis, step, going, &vars, is_last, started, ends)
                    .await?
                {
                    Attempt::Ready(ready, cut) => break (target, uid, ready, cut),
                    Attempt::Skipped(text) if skipped.len() < recipe.again.times as usize => {
                        (self.progress)(format!(
                            "{} was skipped ({text}); it is triggered anew",
                            target.text()
                        ));
                        skipped.push(target.name);
                        tokio::time::sleep(recipe.again.after).await;
                    }
                    Attempt::Skipped(text) => {
                        let text = format!(
                            "{} was skipped: {text}; see what else runs there, then begin a new run",
                            target.text()
                        );
                        return Err(ProviderError::failed(text));
                    }
                }
            };
            let object = ready.get(&step.name).cloned().unwrap_or_default();
            vars = ready;
            last = Some((target, uid, object, cut));
        }
        let Some((target, uid, object, cut)) = last else {
            return Err(ProviderError::misconfigured("the recipe has no step"));
        };
        let noted = noted.unwrap_or_else(|| object.clone());
        let mut handle = self.finish(&target, &object, &noted, cut, &vars, started)?;
        if let Some(object) = &mut handle.object {
            object.uid = uid;
        }
        self.protect(&apis, &handle).await?;
        Ok(handle)
    }

    /// What an annotation-carrying object says, as a handle.
    fn finish(
        &self,
        target: &Target,
        object: &Value,
        noted: &Value,
        cut: Option<i64>,
        vars: &Vars,
        started: Instant,
    ) -> Result<SnapshotHandle, ProviderError> {
        let objects = Objects {
            here: object,
            named: vars,
        };
        let parts = kept(&self.context.recipe.handle, objects).map_err(|empty| {
            ProviderError::failed(format!(
                "{}: the handle's `{empty}` is empty; look at the recipe",
                target.text()
            ))
        })?;
        let mut cut_time = self.context.recipe.steps.iter().filter_map(|step| {
            let here = vars.get(&step.name)?;
            let found = select(step.cut_time.as_ref()?, Objects { here, named: vars });
            found.first().and_then(|it| time_ms(it))
        });
        let seen = cut.map(|at| wall_ms() - (elapsed(started) - at).max(0));
        let taken_at = cut_time.next_back().or(seen).unwrap_or_else(wall_ms);
        let mut handle = self.context.handle_of(noted);
        handle.taken_at_ms = u64::try_from(taken_at).unwrap_or_default();
        handle.object = Some(ObjectRef {
            api_version: target.api.api_version(),
            kind: target.api.kind.clone(),
            namespace: target.namespace.clone().unwrap_or_default(),
            name: target.name.clone(),
            uid: String::new(),
        });
        handle.handle = parts;
        handle
            .handle
            .insert("claim".to_owned(), self.context.request.claim.clone());
        handle.handle.insert(
            "claimNamespace".to_owned(),
            self.context.request.namespace.clone(),
        );
        Ok(handle)
    }

    /// Finds what the step began, or begins it.
    #[expect(clippy::too_many_arguments, reason = "one run's state, read top down")]
    async fn go(
        &self,
        apis: &BTreeMap<String, Api>,
        step: &Step,
        vars: &mut Vars,
        facts: &mut Option<Facts>,
        skipped: &[String],
        refusals: &mut Refusals,
        started: Instant,
        ends: i64,
    ) -> Result<Going, ProviderError> {
        let mut quota = 0;
        let mut held = None;
        let mut prepared = false;
        loop {
            let what = self.what();
            let begun = match self.begun(apis, step, vars, skipped).await {
                Ok(begun) => begun,
                Err(StartError::Call(cause)) if cause.is_passing() && elapsed(started) < ends => {
                    self.wait_out(step, &cause).await;
                    continue;
                }
                Err(StartError::Unsure(text)) if elapsed(started) < ends => {
                    (self.progress)(text);
                    tokio::time::sleep(step.observe.every).await;
                    continue;
                }
                Err(_) if !refusals.0.is_empty() => return Err(self.refused(refusals)),
                Err(cause) => return Err(cause.into_error(&what)),
            };
            let target = match begun {
                Begun::Ours(target, object) => {
                    let asked = time_ms(&object["metadata"]["creationTimestamp"]);
                    let age = asked.map_or(0, |at| (wall_ms() - at).max(0));
                    // What we have just triggered ourselves is as old as we know it to be.
                    let age = if prepared { 0 } else { age };
                    return Ok(Going {
                        target,
                        object,
                        triggered: elapsed(started) - age,
                        held,
                        restores: false,
                    });
                }
                Begun::Free(target) => target,
            };
            if !prepared {
                if !refusals.0.is_empty() {
                    return Err(self.refused(refusals));
                }
                if facts.is_none() {
                    *facts = Some(self.before_trigger(apis, vars, started, ends).await?);
                }
                prepared = true;
                held = self.hold(started).await?;
            }
            let known = facts.clone().unwrap_or_default();
            let notes = self.context.annotations(&known, self.reached().as_str());
            match self.start(step, &target, vars, &notes).await {
                Ok(object) => {
                    return Ok(Going {
                        target: Target {
                            name: object["metadata"]["name"]
                                .as_str()
                                .unwrap_or(&target.name)
                                .to_owned(),
                            ..target
                        },
                        object,
                        triggered: elapsed(started),
                        held,
                        restores: false,
                    });
                }
                Err(StartError::Unsure(text)) => {
                    if held.take().is_some() {
                        let _ = self.server.lift().await;
                    }
                    (self.progress)(text); // It is looked for, and never sent again.
                }
                Err(StartError::Call(cause)) => {
                    if held.take().is_some() {
                        let _ = self.server.lift().await;
                        prepared = false; // It is held anew right before the next try.
                    }
                    let over_quota = cause.text.contains("exceeded quota") && quota == 0;
                    let again =
                        cause.is_passing() || cause.kind == CallKind::Conflict || over_quota;
                    if !again || elapsed(started) >= ends {
                        return Err(call_failed(&target.text(), &cause));
                    }
                    if over_quota {
                        quota += 1;
                        (self.progress)(format!(
                            "{}: {}; it is tried once more",
                            target.text(),
                            cause.text
                        ));
                        tokio::time::sleep(QUOTA_WAIT).await;
                    } else {
                        // Whether it was made is looked up by its name first.
                        self.wait_out(step, &cause).await;
                    }
                }
                Err(cause) => return Err(cause.into_error(&target.text())),
            }
        }
    }

    async fn wait_out(&self, step: &Step, cause: &CallError) {
        (self.progress)(format!("the API server: {}; it is asked again", cause.text));
        tokio::time::sleep(step.observe.every).await;
    }

    /// Rights, other runs, patches, and the server's data on its disk.
    async fn before_trigger(
        &self,
        apis: &BTreeMap<String, Api>,
        vars: &mut Vars,
        started: Instant,
        ends: i64,
    ) -> Result<Facts, ProviderError> {
        let what = self.what();
        let mut refusals = Refusals::default();
        self.refuse_by_itself(&mut refusals);
        self.patiently(started, ends, || async {
            let mut found = Refusals::default();
            self.refuse_by_rights(vars, &mut found).await?;
            Ok(found)
        })
        .await
        .map(|found| refusals.0.extend(found.0))
        .map_err(|cause| call_failed(&what, &cause))?;
        if !refusals.0.is_empty() {
            return Err(self.refused(&mut refusals));
        }
        if let Some(conflict) = &self.context.recipe.conflict {
            self.idle(apis, conflict, vars).await?;
        }
        for change in &self.context.recipe.prepare {
            self.change(apis, change, &change.patch, vars).await?;
        }
        let by_us = self.context.recipe.quiesce.by == QuiesceBy::Engine;
        let level = if by_us {
            self.context.request.level
        } else {
            Level::Crash
        };
        (self.progress)(format!(
            "makes {} put its data on the disk ({level})",
            self.context.request.server
        ));
        match self.server.quiesce(level).await {
            Ok(facts) => Ok(facts),
            // Crash asks for nothing of the server: what it does not tell is left out.
            Err(_) if level == Level::Crash => Ok(Facts::default()),
            Err(cause) => Err(ProviderError::failed(format!(
                "{}: {cause}; nothing was triggered",
                self.context.request.server
            ))),
        }
    }

    async fn idle(
        &self,
        apis: &BTreeMap<String, Api>,
        conflict: &Conflict,
        vars: &mut Vars,
    ) -> Result<(), ProviderError> {
        let since = Instant::now();
        loop {
            let here = Value::Null;
            if super::run::ask(
                &conflict.idle,
                Objects {
                    here: &here,
                    named: vars,
                },
            )
            .is_yes()
            {
                return Ok(());
            }
            if since.elapsed() >= conflict.wait {
                let text = format!(
                    "{}: something else has been running for {} s; wait for it, then begin a new run",
                    self.what(),
                    conflict.wait.as_secs()
                );
                return Err(ProviderError::failed(text));
            }
            (self.progress)("waits until nothing else runs there".to_owned());
            tokio::time::sleep(conflict.every).await;
            let mut unread = Refusals::default();
            // What cannot be read now leaves the old variables, which are not idle.
            let _ = self
                .resolve(apis, &self.context.recipe.resolve, vars, &mut unread)
                .await;
        }
    }

    async fn hold(&self, started: Instant) -> Result<Option<i64>, ProviderError> {
        let quiesce = self.context.recipe.quiesce;
        if quiesce.hold == HoldUntil::Never {
            return Ok(None);
        }
        let since = elapsed(started);
        match self.server.hold(quiesce.max).await {
            Ok(()) => Ok(Some(since)),
            Err(cause) => Err(ProviderError::failed(format!(
                "{}: {cause}; nothing was triggered",
                self.context.request.server
            ))),
        }
    }

    /// Looks until it is ready, skipped or failed.
    #[expect(clippy::too_many_arguments, reason = "one run's state, read top down")]
    pub(super) async fn watch(
        &self,
        apis: &BTreeMap<String, Api>,
        step: &Step,
        going: Going,
        vars: &Vars,
        is_last: bool,
        started: Instant,
        ends: i64,
    ) -> Result<Attempt, ProviderError> {
        let target = &going.target;
        let uid = going.object["metadata"]["uid"].as_str();
        let mut deadlines = self.context.recipe.deadlines;
        if going.restores {
            deadlines.cut = None; // The point in time was fixed long ago.
        }
        let mut run = StepRun::new(step, deadlines, going.triggered, ends).of(uid);
        if let Some(since) = going.held {
            run = run.held(self.context.recipe.quiesce, since);
        }
        if is_last {
            run = run.keeping(&self.context.recipe.handle);
        }
        let mut held = going.held.is_some();
        let mut told = String::new();
        let mut vars = vars.clone();
        loop {
            let look = self.look(apis, step, target, &mut vars).await;
            let now = elapsed(started);
            let verdict = run.look(&look, &vars, now);
            if held && (run.cut_at().is_some() || !matches!(verdict, Verdict::Wait { .. })) {
                held = false;
                let _ = self.server.lift().await;
            }
            match verdict {
                Verdict::Ready => {
                    vars.extend(look.named);
                    if let Seen::Is(object) = look.object {
                        vars.insert(step.name.clone(), object);
                    }
                    return Ok(Attempt::Ready(vars, run.cut_at()));
                }
                Verdict::Skipped(text) => return Ok(Attempt::Skipped(text)),
                Verdict::Failed(end) => {
                    let object = match look.object {
                        Seen::Is(object) => object,
                        Seen::Gone | Seen::Unknown(_) => going.object.clone(),
                    };
                    if going.restores {
                        return Err(not_restored(target, &end));
                    }
                    return Err(self.ended(apis, target, &object, &vars, &end).await);
                }
                Verdict::Wait { until, what } => {
                    let line = format!("{}: {what}", target.text());
                    if line != told {
                        (self.progress)(line.clone());
                        told = line;
                    }
                    let left = u64::try_from((until - now).max(1)).unwrap_or(1);
                    self.rest(step, target, &look, Duration::from_millis(left))
                        .await;
                }
            }
        }
    }

    async fn rest(&self, step: &Step, target: &Target, look: &Look, left: Duration) {
        let every = step.observe.every;
        let version = match &look.object {
            Seen::Is(object) => object["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or_default(),
            Seen::Gone | Seen::Unknown(_) => "",
        };
        if step.observe.via != Via::Watch || version.is_empty() {
            tokio::time::sleep(every.min(left)).await;
            return;
        }
        // What is read beside the object changes without it.
        let most = if step.also.is_empty() {
            LOOK_AT_LEAST.max(every)
        } else {
            every
        };
        self.cluster
            .changed(target.place(), version, every, most.min(left))
            .await;
    }

    /// One fresh look at a step's objects.
    pub(super) async fn look(
        &self,
        apis: &BTreeMap<String, Api>,
        step: &Step,
        target: &Target,
        vars: &mut Vars,
    ) -> Look {
        let object = match self.cluster.get(target.place()).await {
            Ok(object) => self.through_http(step, object, vars).await,
            Err(cause) if cause.kind == CallKind::NotFound => Seen::Gone,
            Err(cause) => Seen::Unknown(cause.text),
        };
        let mut named = BTreeMap::new();
        if let Seen::Is(object) = &object {
            let mut scope = vars.clone();
            scope.insert(step.name.clone(), object.clone());
            for also in &step.also {
                let mut unread = Refusals::default();
                let one = std::slice::from_ref(also);
                // What cannot be read is not there, and so unknown.
                let _ = self.resolve(apis, one, &mut scope, &mut unread).await;
                if let Some(value) = scope.get(&also.name) {
                    named.insert(also.name.clone(), value.clone());
                }
            }
        }
        Look { object, named }
    }

    /// A step by HTTP is watched at the system's own API; its ConfigMap only says what was answered.
    async fn through_http(&self, step: &Step, object: Value, vars: &mut Vars) -> Seen {
        if !matches!(step.trigger, crate::recipe::Trigger::Http(_)) {
            return Seen::Is(object);
        }
        let answer = Self::answer_of(&object);
        vars.insert("response".to_owned(), answer.clone());
        let Via::Http(http) = &step.observe.via else {
            return Seen::Is(answer);
        };
        match self.ask_http(http, vars).await {
            Ok(answer) if (200..300).contains(&answer.status) => Seen::Is(answer.body),
            Ok(answer) if answer.status == 404 => Seen::Gone,
            Ok(answer) => Seen::Unknown(format!("it answered {}", answer.status)),
            Err(cause) => Seen::Unknown(cause.into_error("poll").text),
        }
    }

    /// The error of a run that ended; what it triggered and holds nothing is deleted, without waiting for it.
    async fn ended(
        &self,
        apis: &BTreeMap<String, Api>,
        target: &Target,
        object: &Value,
        vars: &Vars,
        end: &Final,
    ) -> ProviderError {
        let may = self
            .context
            .recipe
            .delete
            .as_ref()
            .is_some_and(|it| it.abandoned);
        let left = if end.why.leaves_nothing() && may {
            match self.delete_left(apis, target, object, vars).await {
                Ok(done) => format!("; {done}"),
                Err(cause) => {
                    tracing::debug!("what a run left was not deleted: {cause}");
                    "; it could not be deleted: delete it by hand".to_owned()
                }
            }
        } else {
            "; it is left as it is".to_owned()
        };
        let next = match end.why {
            Why::NoController => "see whether its controller runs, then begin a new run",
            Why::NotCut => "see whether the driver's snapshot sidecar runs, then begin a new run",
            Why::NotReady | Why::TooLong => {
                "give it more time (deadlines), or see what holds it up; then begin a new run"
            }
            Why::SaidSo | Why::ErrorStayed | Why::NotVerified => {
                "put right what it names, then begin a new run"
            }
            Why::HoldEnded | Why::Gone | Why::Older => "begin a new run",
        };
        ProviderError::failed(format!("{}: {}{left}; {next}", target.text(), end.text))
    }

    /// Keeps a good snapshot until it is released.
    async fn protect(
        &self,
        apis: &BTreeMap<String, Api>,
        handle: &SnapshotHandle,
    ) -> Result<(), ProviderError> {
        let vars = self.vars_of(handle);
        for change in &self.context.recipe.protect {
            self.change(apis, change, &change.patch, &vars).await?;
        }
        Ok(())
    }

    /// What templates may name when only a handle is left.
    pub(super) fn vars_of(&self, handle: &SnapshotHandle) -> Vars {
        let mut vars = self.context.vars(wall_ms());
        vars.insert("handle".to_owned(), json!(handle.handle));
        vars
    }

    /// Patches an object that must be there.
    pub(super) async fn change(
        &self,
        apis: &BTreeMap<String, Api>,
        change: &Change,
        patch: &Value,
        vars: &Vars,
    ) -> Result<(), ProviderError> {
        let target = self
            .changed_object(apis, change, vars)
            .map_err(|cause| cause.into_error(&change.kind))?;
        let patch = fill(patch, vars)
            .map_err(|cause| StartError::Fill(cause).into_error(&target.text()))?;
        match self.cluster.patch(target.place(), &patch).await {
            Ok(_) => Ok(()),
            Err(cause) if cause.kind == CallKind::NotFound => Err(ProviderError::failed(format!(
                "{}: it is gone; begin a new run",
                target.text()
            ))),
            Err(cause) => Err(call_failed(&target.text(), &cause)),
        }
    }

    /// What level the recipe reaches for this request.
    pub(super) fn reached(&self) -> Reached {
        let consistency = &self.context.recipe.consistency;
        match (self.context.request.level, self.context.recipe.quiesce.by) {
            (Level::App, QuiesceBy::Engine | QuiesceBy::System) => consistency.quiesced,
            (Level::Crash, _) | (Level::App, QuiesceBy::Nobody) => consistency.alone,
        }
    }

    fn refused(&self, refusals: &mut Refusals) -> ProviderError {
        let error = std::mem::take(refusals).into_error();
        error.unwrap_or_else(|| ProviderError::misconfigured("nothing stands in the way"))
    }

    pub(super) fn what(&self) -> String {
        let request = self.context.request;
        format!(
            "{} of {}/{}",
            self.context.recipe.name, request.namespace, request.claim
        )
    }

    /// Asks again while the API server is away, until the run's end.
    async fn patiently<T, F: Future<Output = Result<T, CallError>>>(
        &self,
        started: Instant,
        ends: i64,
        ask: impl Fn() -> F,
    ) -> Result<T, CallError> {
        loop {
            match ask().await {
                Err(cause) if cause.is_passing() && elapsed(started) < ends => {
                    (self.progress)(format!("the API server: {}; it is asked again", cause.text));
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                other => return other,
            }
        }
    }
}

pub(super) fn elapsed(since: Instant) -> i64 {
    millis(since.elapsed())
}

pub(crate) fn wall_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, millis)
}

/// The end of a step that brings a snapshot back. What it made is left to whoever asked for it.
fn not_restored(target: &Target, end: &Final) -> ProviderError {
    let next = match end.why {
        Why::NoController => "see whether its controller runs, then try again",
        _ => "put right what holds it up, then try again",
    };
    ProviderError::failed(format!("{}: {}; {next}", target.text(), end.text))
}
