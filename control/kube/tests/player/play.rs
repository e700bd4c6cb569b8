//! Plays one scenario of one recipe. Time is paused: deadlines of hours pass at once.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_control::snapshot::{ProviderError, ProviderErrorKind, SnapshotHandle};
use understudy_kube::cluster::memory::Fault;
use understudy_kube::engine::run::{Look, Seen, StepRun, Verdict};
use understudy_kube::engine::{LABEL_RUN, object_name};
use understudy_kube::recipe::{
    AskToDelete, Book, Deadlines, DeleteBy, Purpose, Recipe, RestoreMode, Step, Trigger, fill_text,
};

use crate::data::{Part, State, Thing, part};
use crate::scenario::Scenario;
use crate::stage::{Scene, name_of};

/// What came of it. Whatever went wrong panics.
#[derive(Debug, PartialEq)]
pub(crate) enum Played {
    /// It went as it must.
    Passed,
    /// The system cannot show it, for this reason.
    Cannot(String),
}

type Taken = Result<SnapshotHandle, ProviderError>;

const SHORT: Duration = Duration::from_secs(1);

/// One scenario of a shipped recipe.
pub(crate) fn play(recipe: &str, scenario: Scenario) -> Played {
    let book = Book::builtin().unwrap();
    play_of(book.find(recipe).unwrap(), &part(recipe), scenario)
}

/// One scenario of any recipe.
pub(crate) fn play_of(recipe: &Recipe, part: &Part, scenario: Scenario) -> Played {
    let cannot = part.cannot.get(scenario.name());
    let can = shows(recipe, part, scenario);
    match (can, cannot) {
        (true, Some(why)) => {
            panic!("it can be shown, and the data file says that it cannot: {why}")
        }
        (false, Some(why)) => return Played::Cannot(why.clone()),
        (false, None) => panic!("the data file has nothing for it, and does not say why"),
        (true, None) => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(act(recipe, part, scenario));
    Played::Passed
}

/// Whether the data file or the recipe has what a scenario needs.
pub(crate) fn shows(recipe: &Recipe, part: &Part, scenario: Scenario) -> bool {
    let when = |of: fn(&Step) -> bool| recipe.steps.iter().any(of);
    let of_last = recipe.steps.last().unwrap();
    match scenario {
        Scenario::Transient => part.retryable.is_some() || of_last.when.retryable.is_some(),
        Scenario::Failure => part.failed.is_some(),
        Scenario::Resurrection => of_last.when.failed.is_some(),
        Scenario::Nothing => part.nothing.is_some(),
        Scenario::Skipped => {
            part.skipped.is_some()
                || part.queued.is_some()
                || recipe.conflict.is_some()
                || when(|it| it.when.skipped.is_some())
        }
        Scenario::Flip => part.flipped.is_some(),
        Scenario::Foreign => !when(|it| matches!(it.trigger, Trigger::Patch(_))),
        Scenario::Restored => recipe
            .restore
            .as_ref()
            .is_some_and(|it| it.mode != RestoreMode::Manual),
        Scenario::Verified => recipe.way_back().is_ok(),
        Scenario::Deleted => recipe
            .delete
            .as_ref()
            .is_some_and(|it| !matches!(it.by, DeleteBy::Nothing(_))),
        _ => true,
    }
}

async fn act(recipe: &Recipe, part: &Part, scenario: Scenario) {
    let scene = Scene::new(recipe, part).await;
    match scenario {
        Scenario::Success => success(&scene).await,
        Scenario::Slow => slow(&scene).await,
        Scenario::Transient => transient(&scene).await,
        Scenario::Failure => failure(&scene).await,
        Scenario::Nothing => nothing(&scene).await,
        Scenario::Silence => silence(&scene).await,
        Scenario::Skipped => skipped(recipe, part).await,
        Scenario::Flip => flip(&scene).await,
        Scenario::Resurrection => resurrection(scene).await,
        Scenario::Foreign => foreign(&scene).await,
        Scenario::Rights => return rights(recipe, part).await,
        Scenario::Denied => return denied(recipe, part).await,
        Scenario::Away => away(&scene).await,
        Scenario::Restart => restart(recipe, part).await,
        Scenario::Restored => restored(&scene).await,
        Scenario::Verified => crate::read_back::verified(scene).await,
        Scenario::Deleted => deleted(&scene).await,
    }
}

/// The step that makes the snapshot.
pub(crate) fn last(scene: &Scene) -> &Step {
    scene.recipe.steps.last().unwrap()
}

/// Makes the steps before the last one ready, and waits for the last one's trigger.
pub(crate) async fn lead_up(scene: &Scene, not: &[String]) -> String {
    let steps = &scene.recipe.steps;
    for (step, state) in steps.iter().zip(&scene.part.earlier) {
        let name = name_of(&scene.triggered(step, not).await);
        scene.write(step, &name, state).await;
    }
    assert_eq!(steps.len(), scene.part.earlier.len() + 1, "`earlier`");
    name_of(&scene.triggered(last(scene), not).await)
}

async fn then(scene: &Scene, name: &str, state: Option<&State>) {
    if let Some(state) = state {
        tokio::time::sleep(SHORT).await;
        scene.write(last(scene), name, state).await;
    }
}

/// The controller's usual way: taken up, cut, ready.
pub(crate) async fn usual(scene: &Scene, not: &[String]) -> String {
    let name = lead_up(scene, not).await;
    let part = &scene.part;
    for state in [&part.accepted, &part.cut] {
        then(scene, &name, state.as_ref()).await;
    }
    then(scene, &name, Some(&part.ready)).await;
    name
}

pub(crate) async fn take(scene: &Scene) -> SnapshotHandle {
    let taken = scene
        .take_while(async || drop(usual(scene, &[]).await))
        .await;
    whole(scene, taken)
}

/// A handle that has everything.
pub(crate) fn whole(scene: &Scene, taken: Taken) -> SnapshotHandle {
    let handle = taken.unwrap_or_else(|cause| panic!("{cause}"));
    for key in scene.recipe.handle.keys() {
        let kept = handle.handle.get(key).map(String::as_str);
        assert!(kept.is_some_and(|it| !it.is_empty()), "`{key}` is empty");
    }
    assert!(handle.object.as_ref().is_some_and(|it| !it.uid.is_empty()));
    assert_eq!((handle.offset, handle.keys), (Some(42), Some(7)));
    assert!(!handle.level_reached.is_empty());
    handle
}

/// One that failed for good, with the system's own text.
pub(crate) fn final_error(taken: &Taken, says: &str) {
    let error = taken.as_ref().expect_err("it must fail");
    assert_eq!(error.kind, ProviderErrorKind::Failed, "{error}");
    assert!(error.text.contains(says), "not told: {says}: {error}");
}

fn once(scene: &Scene) {
    for step in &scene.recipe.steps {
        assert_eq!(scene.triggers(step), 1, "triggers of {}", step.name);
    }
    let quiets = scene
        .asked()
        .iter()
        .filter(|it| it.starts_with("qui"))
        .count();
    assert_eq!(quiets, 1, "it is quieted once");
}

async fn success(scene: &Scene) {
    let (problems, _) = scene
        .run(async |engine| engine.preflight().await)
        .await
        .unwrap();
    assert!(problems.0.is_empty(), "{problems:?}");
    let handle = take(scene).await;
    once(scene);
    scene
        .run(async |engine| engine.check(&handle).await)
        .await
        .unwrap();
    let again = scene.take_while(async || {}).await.unwrap();
    assert_eq!(again.object, handle.object);
    scene
        .run(async |engine| engine.release(&handle, false).await)
        .await
        .unwrap();
    once(scene);
    assert!(!scene.triggered_all(last(scene)).await.is_empty());
    scene.within_rights();
}

fn limits(scene: &Scene) -> (Duration, Option<Duration>, Duration) {
    let (own, run) = (last(scene).deadlines, scene.recipe.deadlines);
    (
        own.accept.or(run.accept).unwrap_or(Deadlines::ACCEPT),
        own.cut.or(run.cut),
        own.ready.or(run.ready).unwrap_or(Deadlines::READY),
    )
}

async fn slow(scene: &Scene) {
    let (accept, cut, ready) = limits(scene);
    let taken = scene
        .take_while(async || {
            let name = lead_up(scene, &[]).await;
            let begun = tokio::time::Instant::now();
            let late = |limit: Duration| tokio::time::sleep_until(begun + limit.mul_f64(0.9));
            let part = &scene.part;
            late(accept).await;
            then(scene, &name, part.accepted.as_ref()).await;
            if let Some(cut) = cut {
                late(cut).await;
            }
            then(scene, &name, part.cut.as_ref()).await;
            late(ready).await;
            then(scene, &name, Some(&part.ready)).await;
        })
        .await;
    whole(scene, taken);
    once(scene);
}

async fn transient(scene: &Scene) {
    let part = &scene.part;
    let state = part.retryable.as_ref().expect("`retryable`");
    let taken = scene
        .take_while(async || {
            let name = lead_up(scene, &[]).await;
            then(scene, &name, part.accepted.as_ref()).await;
            then(scene, &name, Some(state)).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            then(scene, &name, part.cut.as_ref()).await;
            then(scene, &name, Some(&part.ready)).await;
        })
        .await;
    whole(scene, taken);
    once(scene);
    assert_eq!(scene.told(&state.says), 1, "{:?}", scene.told);
}

async fn fails_with(scene: &Scene, state: &State) -> Taken {
    scene
        .take_while(async || {
            let name = lead_up(scene, &[]).await;
            then(scene, &name, scene.part.accepted.as_ref()).await;
            then(scene, &name, Some(state)).await;
        })
        .await
}

async fn failure(scene: &Scene) {
    let state = scene.part.failed.as_ref().expect("`failed`");
    let taken = fails_with(scene, state).await;
    final_error(&taken, &state.says);
    once(scene);
    assert!(
        !scene.triggered_all(last(scene)).await.is_empty(),
        "it is left"
    );
    scene.within_rights();
}

async fn nothing(scene: &Scene) {
    let state = scene.part.nothing.as_ref().expect("`nothing`");
    let taken = fails_with(scene, state).await;
    final_error(&taken, &state.says);
    once(scene);
}

async fn silence(scene: &Scene) {
    let taken = scene
        .take_while(async || drop(lead_up(scene, &[]).await))
        .await;
    final_error(&taken, "no controller has answered");
    once(scene);
    let delete = scene.recipe.delete.as_ref().filter(|it| it.abandoned);
    match delete.map(|it| &it.by) {
        Some(DeleteBy::Ask(ask)) => {
            assert_eq!(
                requests(scene, ask).await.len(),
                1,
                "the system is asked to"
            );
            let error = taken.unwrap_err();
            assert!(
                error.text.contains("asks the system to delete it"),
                "{error}"
            );
        }
        by => assert_eq!(
            scene.triggered_all(last(scene)).await.is_empty(),
            by.is_some(),
            "what nobody took up is deleted where the recipe says so"
        ),
    }
    scene.within_rights();
}

async fn skipped(recipe: &Recipe, part: &Part) {
    if let Some(state) = &part.skipped {
        let scene = &Scene::new(recipe, part).await;
        let again = recipe.again.times > 0;
        let taken = scene
            .take_while(async || {
                let first = lead_up(scene, &[]).await;
                then(scene, &first, Some(state)).await;
                if again {
                    usual(scene, &[first]).await;
                }
            })
            .await;
        if again {
            whole(scene, taken);
            assert_eq!(scene.triggers(last(scene)), 2);
        } else {
            final_error(&taken, &state.says);
        }
    }
    if let Some(state) = &part.queued {
        let scene = &Scene::new(recipe, part).await;
        let (accept, ..) = limits(scene);
        let taken = scene
            .take_while(async || {
                let name = lead_up(scene, &[]).await;
                then(scene, &name, Some(state)).await;
                tokio::time::sleep(accept.mul_f64(0.8)).await;
                usual(scene, &[]).await;
            })
            .await;
        whole(scene, taken);
        once(scene);
    }
    if recipe.conflict.is_some() {
        let scene = &Scene::new(recipe, part).await;
        assert!(!part.busy.is_empty(), "`busy`");
        for thing in &part.busy {
            scene.put(thing, &scene.vars()).await;
        }
        let taken = scene
            .take_while(async || {
                tokio::time::sleep(Duration::from_secs(90)).await;
                for step in &recipe.steps {
                    assert_eq!(
                        scene.triggers(step),
                        0,
                        "it waits until nothing is in the way"
                    );
                }
                for thing in &part.idle {
                    scene.put(thing, &scene.vars()).await;
                }
                usual(scene, &[]).await;
            })
            .await;
        whole(scene, taken);
        once(scene);
    }
    let any = part.skipped.is_some() || part.queued.is_some() || recipe.conflict.is_some();
    assert!(any, "`skipped` or `queued`");
}

async fn flip(scene: &Scene) {
    let handle = take(scene).await;
    let state = scene.part.flipped.as_ref().expect("`flipped`");
    let name = handle.object.as_ref().unwrap().name.clone();
    scene.write(last(scene), &name, state).await;
    let error = scene
        .run(async |engine| engine.check(&handle).await)
        .await
        .expect_err("a check must find it");
    assert!(error.text.contains(&state.says), "{error}");
    once(scene);
    scene.within_rights();
}

async fn resurrection(mut scene: Scene) {
    let failed = scene.part.failed.clone().expect("`failed`");
    let taken = fails_with(&scene, &failed).await;
    final_error(&taken, &failed.says);
    // Who has seen the failure does not believe what comes later.
    let step = last(&scene).clone();
    let name = name_of(&scene.triggered(&step, &[]).await);
    let mut run = StepRun::new(&step, scene.recipe.deadlines, 0, i64::MAX);
    let look = |object: &Value| Look {
        object: Seen::Is(object.clone()),
        named: Default::default(),
    };
    let is_http = matches!(step.trigger, Trigger::Http(_));
    let vars = scene.vars();
    let object = if is_http {
        failed.answer.clone()
    } else {
        scene.triggered(&step, &[]).await
    };
    assert!(matches!(
        run.look(&look(&object), &vars, 1),
        Verdict::Failed(_)
    ));
    scene.write(&step, &name, &scene.part.ready).await;
    let object = if is_http {
        scene.part.ready.answer.clone()
    } else {
        scene.triggered(&step, &[]).await
    };
    assert!(matches!(
        run.look(&look(&object), &vars, 2),
        Verdict::Failed(_)
    ));
    // The next attempt is a run of its own, with a snapshot of its own.
    scene.request.run = "us-p-s1-1-2".to_owned();
    let before: Vec<usize> = triggers(&scene);
    let handle = take(&scene).await;
    for (before, after) in before.into_iter().zip(triggers(&scene)) {
        assert_eq!(after, before + 1, "a snapshot of its own");
    }
    assert_eq!(handle.run, "us-p-s1-1-2");
}

fn triggers(scene: &Scene) -> Vec<usize> {
    scene
        .recipe
        .steps
        .iter()
        .map(|it| scene.triggers(it))
        .collect()
}

async fn foreign(scene: &Scene) {
    let step = scene.recipe.steps.first().unwrap();
    let vars = scene.vars();
    let text = |template: &Option<Value>, or: &str| {
        template
            .as_ref()
            .map_or_else(|| or.to_owned(), |it| fill_text(it, &vars).unwrap())
    };
    let run = scene.request.run.clone();
    let (name, namespace) = match &step.trigger {
        Trigger::Create(object)
        | Trigger::Apply(object)
        | Trigger::JobFromCronJob { job: object, .. } => {
            let name = match object.generate_name {
                true => format!("{run}-00001"),
                false => object_name(&text(&object.name, &run), 1),
            };
            (name, text(&object.namespace, &scene.request.namespace))
        }
        Trigger::Http(_) => (
            object_name(&format!("{run}-http"), 1),
            scene.request.namespace.clone(),
        ),
        Trigger::Patch(_) => unreachable!("shows"),
    };
    let kind = scene.watched_kind(step).to_owned();
    let object = json!({"metadata": {"name": name, "namespace": namespace}, "data": {"answer": scene.part.answers.to_string()}});
    scene
        .put(
            &Thing {
                kind: kind.clone(),
                object,
            },
            &vars,
        )
        .await;
    let ready = scene.part.earlier.first().unwrap_or(&scene.part.ready);
    let ready = State {
        beside: Vec::new(),
        answer: Value::Null,
        ..ready.clone()
    };
    scene.write(step, &name, &ready).await;
    let of = scene.kind(&kind);
    let before = scene.memory().peek(of, &namespace, &name);
    let handle = take(scene).await;
    assert_eq!(scene.memory().peek(of, &namespace, &name), before);
    assert!(before.is_some() && handle.object.is_some());
    let created = scene.triggered_all(step).await;
    let names: Vec<String> = created.iter().map(name_of).collect();
    assert!(names.len() == 1 && names[0] != name, "{names:?}");
}

async fn rights(recipe: &Recipe, part: &Part) {
    let asked = Scene::new(recipe, part).await;
    let all = understudy_kube::recipe::rights(recipe, &asked.vars()).unwrap();
    for right in all.iter().filter(|it| it.purpose == Purpose::Take) {
        let scene = Scene::new(recipe, part).await;
        scene.memory().deny(&right.verb, &right.resource);
        let (refusals, _) = scene
            .run(async |engine| engine.preflight().await)
            .await
            .unwrap();
        let wanted = format!("no right to {} {}", right.verb, right.resource);
        let told = refusals.0.iter().any(|it| it.text.starts_with(&wanted));
        assert!(told, "{wanted}: {refusals:?}");
        let error = scene.take_while(async || {}).await.expect_err(&wanted);
        assert_eq!(error.kind, ProviderErrorKind::Denied, "{wanted}: {error}");
        for step in &recipe.steps {
            let made = scene.triggered_all(step).await;
            assert!(made.is_empty(), "{wanted}: it was triggered");
        }
        assert!(scene.asked().is_empty(), "the server was touched");
    }
}

/// The call that triggers a step: its verb and the plural it is on.
fn call(scene: &Scene, step: &Step) -> (&'static str, String) {
    let verb = match &step.trigger {
        Trigger::Patch(_) => "patch",
        Trigger::Apply(_) => "apply",
        Trigger::Create(_) | Trigger::JobFromCronJob { .. } | Trigger::Http(_) => "create",
    };
    (verb, scene.kind(scene.watched_kind(step)).plural.clone())
}

async fn denied(recipe: &Recipe, part: &Part) {
    let denial = "admission webhook \"guard\" denied the request: not on Fridays";
    let scene = Scene::new(recipe, part).await;
    let (verb, plural) = call(&scene, recipe.steps.first().unwrap());
    scene
        .memory()
        .fail(Fault::new(verb, &plural, u32::MAX, 403, denial));
    let taken = scene.take_while(async || {}).await;
    final_error(&taken, "not on Fridays");
    assert_eq!(scene.memory().count(verb, &plural), 1, "it is not repeated");
    for (times, goes) in [(1, true), (2, false)] {
        let scene = Scene::new(recipe, part).await;
        let quota = "exceeded quota: snapshots, used: 3, limited: 3";
        scene
            .memory()
            .fail(Fault::new(verb, &plural, times, 403, quota));
        if goes {
            take(&scene).await;
        } else {
            final_error(&scene.take_while(async || {}).await, quota);
        }
    }
}

async fn away(scene: &Scene) {
    let memory = scene.memory();
    let gone = || Fault::new("*", "*", u32::MAX, 0, "connection refused");
    let taken = scene
        .take_while(async || {
            let name = lead_up(scene, &[]).await;
            then(scene, &name, scene.part.accepted.as_ref()).await;
            tokio::time::sleep(SHORT).await;
            memory.fail(gone());
            tokio::time::sleep(Duration::from_secs(120)).await;
            then(scene, &name, scene.part.cut.as_ref()).await;
            then(scene, &name, Some(&scene.part.ready)).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            memory.heal();
        })
        .await;
    whole(scene, taken);
    once(scene);
}

async fn restart(recipe: &Recipe, part: &Part) {
    // Ended right after a trigger, after it was taken up, and once for each step.
    for (index, step) in recipe.steps.iter().enumerate() {
        for taken_up in [false, true] {
            let scene = &Scene::new(recipe, part).await;
            let ends = async || {
                for (earlier, state) in recipe.steps.iter().zip(&part.earlier).take(index) {
                    let name = name_of(&scene.triggered(earlier, &[]).await);
                    scene.write(earlier, &name, state).await;
                }
                let name = name_of(&scene.triggered(step, &[]).await);
                if taken_up && index + 1 == recipe.steps.len() {
                    then(scene, &name, part.accepted.as_ref()).await;
                    tokio::time::sleep(SHORT).await;
                }
            };
            let first = scene.run(async |engine| engine.take().await);
            tokio::select! {
                biased;
                () = ends() => {}
                taken = first => panic!("it ended by itself: {taken:?}"),
            }
            let taken = scene
                .take_while(async || drop(usual(scene, &[]).await))
                .await;
            whole(scene, taken);
            once(scene);
        }
    }
    // The trigger arrived, and its answer was lost.
    let scene = &Scene::new(recipe, part).await;
    let step = recipe.steps.first().unwrap();
    let (verb, plural) = call(scene, step);
    let lost = Fault::new(verb, &plural, 1, 0, "connection reset").after_it_is_done();
    scene.memory().fail(lost);
    if matches!(step.trigger, Trigger::Http(_)) {
        // Whether a request was sent cannot be found out afterwards: it is told, and never sent again.
        let taken = scene.take_while(async || {}).await;
        final_error(&taken, "whether it arrived is unknown");
        assert_eq!(scene.triggers(step), 0);
        return;
    }
    let taken = scene
        .take_while(async || drop(usual(scene, &[]).await))
        .await;
    whole(scene, taken);
    once(scene);
}

async fn restored(scene: &Scene) {
    let handle = take(scene).await;
    restore(scene, &handle).await;
    scene.within_rights();
}

/// Brings a snapshot back while the controller does its part.
pub(crate) async fn restore(scene: &Scene, handle: &SnapshotHandle) {
    let restore = scene.recipe.restore.as_ref().unwrap();
    let taken: Vec<String> = scene
        .triggered_all(last(scene))
        .await
        .iter()
        .map(name_of)
        .collect();
    let namespace = scene.request.namespace.clone();
    let name = match restore.mode {
        RestoreMode::InPlace => scene.request.claim.clone(),
        _ => "restored-0".to_owned(),
    };
    let controller = async {
        for (step, state) in restore.steps.iter().zip(&scene.part.restored) {
            let object = scene.triggered(step, &taken).await;
            tokio::time::sleep(SHORT).await;
            scene.write(step, &name_of(&object), state).await;
        }
    };
    let made = scene.run(async |engine| engine.restore(handle, &namespace, &name).await);
    let made = answered(made, controller).await;
    assert_eq!(scene.part.restored.len(), restore.steps.len(), "`restored`");
    assert!(!made.unwrap_or_else(|cause| panic!("{cause}")).is_empty());
}

async fn deleted(scene: &Scene) {
    let handle = take(scene).await;
    delete(scene, &handle).await;
    let calls = scene.memory().calls();
    let deletes = calls.iter().any(|it| it.verb == "delete");
    // Where the watched object is only the way to it, that stays. Where the system is asked to delete, we do not.
    let by = &scene.recipe.delete.as_ref().unwrap().by;
    assert_eq!(deletes, matches!(by, DeleteBy::Objects(_)));
    scene.within_rights();
}

/// Deletes a snapshot while the controller does its part.
pub(crate) async fn delete(scene: &Scene, handle: &SnapshotHandle) {
    let release = || scene.run(async |engine| engine.release(handle, true).await);
    if let DeleteBy::Ask(ask) = &scene.recipe.delete.as_ref().unwrap().by {
        let known = requests(scene, ask).await;
        if let Some(state) = &scene.part.undeleted {
            let refused = answered(release(), asked_to_delete(scene, ask, state, &known)).await;
            let error = refused.expect_err("it failed");
            assert!(error.text.contains(&state.says), "{error}");
        }
        let state = scene.part.deleted.as_ref().expect("`deleted`");
        let known = requests(scene, ask).await;
        let done = answered(release(), asked_to_delete(scene, ask, state, &known)).await;
        done.unwrap_or_else(|cause| panic!("{cause}"));
        release().await.expect("what is gone is deleted");
        return;
    }
    release().await.unwrap_or_else(|cause| panic!("{cause}"));
}

/// The names of our run's requests to delete that are there.
async fn requests(scene: &Scene, ask: &AskToDelete) -> Vec<String> {
    ours(scene, &ask.object.kind)
        .await
        .iter()
        .map(name_of)
        .collect()
}

async fn ours(scene: &Scene, kind: &str) -> Vec<Value> {
    let mut all = scene.all(scene.kind(kind)).await;
    all.retain(|it| it["metadata"]["labels"][LABEL_RUN] == *scene.request.run);
    all
}

/// The controller's part of a deletion: it answers a new request, and what was to go is gone unless that failed.
async fn asked_to_delete(scene: &Scene, ask: &AskToDelete, state: &State, known: &[String]) {
    loop {
        let new = ours(scene, &ask.object.kind).await.into_iter();
        let mut new = new.filter(|it| !known.contains(&name_of(it)));
        if let Some(request) = new.next() {
            tokio::time::sleep(SHORT).await;
            scene
                .write_to(&ask.object.kind, &name_of(&request), state)
                .await;
            for gone in ask.gone.iter().filter(|_| state.says.is_empty()) {
                for object in ours(scene, &gone.kind).await {
                    scene.remove(scene.kind(&gone.kind), &object).await;
                }
            }
            return;
        }
        tokio::time::sleep(SHORT).await;
    }
}

/// What comes of something while the controller answers it.
pub(crate) async fn answered<T>(
    asked: impl Future<Output = T>,
    controller: impl Future<Output = ()>,
) -> T {
    tokio::pin!(asked);
    tokio::select! {
        biased;
        came = &mut asked => came,
        () = controller => asked.await,
    }
}
