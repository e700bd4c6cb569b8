//! Tables of looks and verdicts, on a clock that the test holds.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Look, Seen, StepRun, Verdict, Why};
use crate::recipe::{Recipe, Vars, read};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

fn recipe(text: &str) -> Recipe {
    let text = format!(
        "{{recipe: own, version: 1, title: T, scope: pvc, consistency: {{alone: crash, quiesced: app, why: w}}, \
         kinds: {{thing: {{group: g, versions: [v1], kind: Thing, plural: things}}}}, \
         rbac: [{{kind: thing, verbs: [get, list, watch, create]}}], {text}}}"
    );
    let tree: Value = serde_saphyr::from_str(&text).unwrap();
    match read(&tree) {
        Ok(recipe) => recipe,
        Err(problems) => panic!("{problems}"),
    }
}

fn simple() -> Recipe {
    recipe(
        "trigger: {verb: create, kind: thing, object: {}}, handle: {id: $.status.id}, \
         when: {accepted: {path: $.status.phase, notIn: [New]}, cut: {path: $.status.cut, exists: true}, \
         ready: {path: $.status.phase, eq: Done}, failed: {path: $.status.phase, eq: Failed}, \
         skipped: {path: $.status.phase, eq: Skipped}, retryable: {path: $.status.error, nonEmpty: true}}, \
         cutTime: $.status.cut, message: [$.status.error], verify: [{that: {path: $.status.count, ge: 1}, else: nothing in it}], \
         deadlines: {accept: 60s, cut: 2m, ready: 15m, errorGrace: 6m, total: 30m}",
    )
}

fn object(status: &Value) -> Value {
    let metadata = json!({"name": "r", "uid": "1", "creationTimestamp": "2026-09-01T10:00:00Z"});
    if status.is_null() {
        return json!({"metadata": metadata});
    }
    json!({"metadata": metadata, "status": status})
}

/// Looks at these statuses at these times; tells each verdict.
fn play(recipe: &Recipe, looks: &[(i64, Value)]) -> Vec<String> {
    let step = &recipe.steps[0];
    let mut run = StepRun::new(step, recipe.deadlines, 0, 30 * MINUTE).keeping(&recipe.handle);
    let mut told = Vec::new();
    for (at, status) in looks {
        let seen = match status.as_str() {
            Some("gone") => Seen::Gone,
            Some("away") => Seen::Unknown("connection refused".to_owned()),
            _ => Seen::Is(object(status)),
        };
        let look = Look {
            object: seen,
            named: BTreeMap::new(),
        };
        told.push(match run.look(&look, &Vars::new(), *at) {
            Verdict::Wait { what, .. } => format!("wait: {what}"),
            Verdict::Ready => "ready".to_owned(),
            Verdict::Skipped(text) => format!("skipped: {text}"),
            Verdict::Failed(end) => format!("{:?}: {}", end.why, end.text),
        });
    }
    told
}

#[track_caller]
fn check(looks: &[(i64, Value)], expect: &str) {
    let told = play(&simple(), looks);
    let last = told.last().unwrap();
    assert!(last.starts_with(expect), "{expect} instead of {told:?}");
}

fn done() -> Value {
    json!({"phase": "Done", "cut": "2026-09-01T10:00:01Z", "count": 1, "id": "x"})
}

#[test]
fn a_run_that_goes_well_is_ready() {
    check(
        &[
            (0, Value::Null),
            (SECOND, json!({"phase": "New"})),
            (5 * SECOND, done()),
        ],
        "ready",
    );
}

#[test]
fn snapshot_01_no_word_of_a_controller_ends_at_the_accept_deadline() {
    check(
        &[(59 * SECOND, Value::Null)],
        "wait: waits for a controller",
    );
    check(
        &[(60 * SECOND, Value::Null)],
        "NoController: no controller has answered after 60 s",
    );
    check(&[(61 * SECOND, json!({"phase": "New"}))], "NoController");
    assert!(Why::NoController.leaves_nothing());
}

#[test]
fn snapshot_02_taken_up_and_never_cut_ends_at_the_cut_deadline() {
    check(
        &[
            (SECOND, json!({"phase": "Running"})),
            (121 * SECOND, json!({"phase": "Running"})),
        ],
        "NotCut",
    );
    assert!(Why::NotCut.leaves_nothing());
}

#[test]
fn snapshot_03_cut_and_slow_waits_until_the_ready_deadline_and_is_left() {
    let slow = json!({"phase": "Running", "cut": "2026-09-01T10:00:01Z"});
    check(
        &[(SECOND, slow.clone()), (14 * MINUTE, slow.clone())],
        "wait: waits until it is ready",
    );
    check(
        &[(SECOND, slow.clone()), (15 * MINUTE, slow.clone())],
        "NotReady",
    );
    check(
        &[
            (SECOND, slow.clone()),
            (14 * MINUTE, slow),
            (14 * MINUTE + 1, done()),
        ],
        "ready",
    );
    assert!(!Why::NotReady.leaves_nothing());
}

#[test]
fn snapshot_04_an_error_counts_by_its_age_and_starts_anew_when_it_was_gone() {
    let cut = json!({"phase": "Running", "cut": "2026-09-01T10:00:01Z"});
    let mut error = cut.clone();
    error["error"] = json!("rate limited");
    check(
        &[(0, error.clone()), (5 * MINUTE, error.clone())],
        "wait: waits until it is ready: rate limited",
    );
    check(
        &[(0, error.clone()), (6 * MINUTE, error.clone())],
        "ErrorStayed: rate limited (for 360 s)",
    );
    check(
        &[
            (0, error.clone()),
            (5 * MINUTE, cut),
            (6 * MINUTE, error.clone()),
        ],
        "wait",
    );
    check(&[(0, error), (5 * MINUTE, done())], "ready");
}

#[test]
fn snapshot_05_the_whole_run_ends_even_when_nobody_can_say() {
    check(&[(29 * MINUTE, json!("away"))], "wait: nobody can say");
    check(
        &[(30 * MINUTE, json!("away"))],
        "TooLong: the run took too long: connection refused",
    );
}

#[test]
fn snapshot_10_a_ready_that_flips_back_is_no_longer_ready() {
    let mut back = done();
    back["phase"] = json!("Running");
    let told = play(&simple(), &[(SECOND, done()), (2 * SECOND, back)]);
    assert_eq!(told[0], "ready");
    assert!(told[1].starts_with("wait"), "{told:?}");
}

#[test]
fn snapshot_11_one_that_is_deleted_or_replaced_is_lost() {
    check(
        &[
            (SECOND, json!({"phase": "Running"})),
            (2 * SECOND, json!("gone")),
        ],
        "Gone: it is gone",
    );
    let recipe = simple();
    let mut run = StepRun::new(&recipe.steps[0], recipe.deadlines, 0, MINUTE).of(Some("another"));
    let look = Look {
        object: Seen::Is(object(&done())),
        named: BTreeMap::new(),
    };
    assert!(
        matches!(run.look(&look, &Vars::new(), 0), Verdict::Failed(end) if end.text.contains("replaced"))
    );
    let mut run = StepRun::new(&recipe.steps[0], recipe.deadlines, 0, MINUTE);
    let mut going = object(&done());
    going["metadata"]["deletionTimestamp"] = json!("2026-09-01T10:00:05Z");
    let look = Look {
        object: Seen::Is(going),
        named: BTreeMap::new(),
    };
    assert!(
        matches!(run.look(&look, &Vars::new(), 0), Verdict::Failed(end) if end.text.contains("deletes it"))
    );
}

#[test]
fn snapshot_12_success_with_nothing_in_it_is_failure() {
    let mut empty = done();
    empty["count"] = json!(0);
    check(&[(SECOND, empty.clone())], "wait: ");
    check(&[(SECOND, empty.clone()), (2 * SECOND, done())], "ready");
    check(
        &[(SECOND, empty.clone()), (12 * SECOND, empty)],
        "NotVerified: nothing in it",
    );
    let mut nameless = done();
    nameless["id"] = json!("");
    check(
        &[(SECOND, nameless.clone()), (12 * SECOND, nameless)],
        "NotVerified: the handle's `id` is empty",
    );
}

#[test]
fn snapshot_14_what_failed_stays_failed_whatever_comes_later() {
    let failed = json!({"phase": "Failed", "error": "disk full"});
    check(&[(SECOND, failed.clone())], "SaidSo: disk full");
    check(
        &[(SECOND, failed), (2 * SECOND, done())],
        "SaidSo: disk full",
    );
}

#[test]
fn snapshot_15_skipped_is_no_failure_of_the_storage() {
    check(
        &[(SECOND, json!({"phase": "Skipped", "error": "another runs"}))],
        "skipped: another runs",
    );
}

#[test]
fn snapshot_19_a_cut_after_the_hold_had_ended_fails() {
    let recipe = recipe(
        "quiesce: {hold: cut, max: 500ms}, trigger: {verb: create, kind: thing, object: {}}, handle: {id: $.metadata.name}, \
         when: {cut: {path: $.status.cut, exists: true}, ready: {path: $.status.phase, eq: Done}}",
    );
    for (at, ready) in [(400, true), (600, false)] {
        let mut run =
            StepRun::new(&recipe.steps[0], recipe.deadlines, 0, MINUTE).held(recipe.quiesce, 0);
        let look = Look {
            object: Seen::Is(object(&done())),
            named: BTreeMap::new(),
        };
        let verdict = run.look(&look, &Vars::new(), at);
        assert_eq!(matches!(verdict, Verdict::Ready), ready, "{verdict:?}");
    }
}

#[test]
fn snapshot_23_an_api_server_that_is_away_proves_nothing() {
    check(
        &[(SECOND, json!("away")), (10 * MINUTE, json!("away"))],
        "wait: nobody can say",
    );
    check(&[(SECOND, json!("away")), (20 * MINUTE, done())], "ready");
}

#[test]
fn snapshot_26_one_that_is_older_than_its_request_is_another_one() {
    let mut old = done();
    old["cut"] = json!("2026-09-01T09:58:59Z");
    check(&[(SECOND, old.clone())], "Older: it was cut 61 s before");
    old["cut"] = json!("2026-09-01T09:59:30Z");
    check(&[(SECOND, old.clone())], "ready");
    old["cut"] = json!(1_788_256_801_000_000_000_i64);
    check(&[(SECOND, old)], "ready");
}
