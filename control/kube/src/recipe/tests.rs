//! What a recipe may say, and everything that is told when it says something else.

use serde_json::{Value, json};

use super::{BUILTIN, Book, BookError, Purpose, Trigger, Vars, fill, fill_text, merge, rights};

fn vars() -> Vars {
    let Value::Object(map) = json!({
        "run": "us-1",
        "claim": {"name": "data-0", "namespace": "redis"},
        "params": {"name": "x: {y}\n- z", "count": 3, "map": {"a": "b"}},
    }) else {
        return Vars::new();
    };
    map.into_iter().collect()
}

#[test]
fn every_shipped_recipe_is_valid() {
    let book = match Book::builtin() {
        Ok(book) => book,
        Err(cause) => panic!("{cause}"),
    };
    assert_eq!(book.all().count(), BUILTIN.len());
    for (name, _) in BUILTIN {
        assert!(
            book.find(name).is_some(),
            "{name}.yaml has another name in it"
        );
    }
}

#[test]
fn a_parameter_is_a_value_and_never_parsed() {
    let filled = fill(
        &json!({"a": "{{params.name}}", "b": "<{{params.name}}>"}),
        &vars(),
    )
    .unwrap();
    assert_eq!(filled, json!({"a": "x: {y}\n- z", "b": "<x: {y}\n- z>"}));
    let nested = fill(&json!("{{params.name}}"), &{
        let mut vars = vars();
        vars.insert("params".into(), json!({"name": "{{run}}"}));
        vars
    });
    assert_eq!(
        nested.unwrap(),
        json!("{{run}}"),
        "what is filled in is not filled again"
    );
}

#[test]
fn a_whole_template_keeps_its_type_and_an_optional_one_falls_away() {
    let template = json!({
        "count": "{{params.count}}", "map": "{{params.map}}", "text": "n={{params.count}}",
        "gone": "{{params.none?}}", "list": ["{{params.none?}}", "{{run}}"], "{{run}}-key": 1,
        "path": "{{claim:$.name}}", "null": null,
    });
    let expect = json!({
        "count": 3, "map": {"a": "b"}, "text": "n=3", "list": ["us-1"], "us-1-key": 1, "path": "data-0", "null": null,
    });
    assert_eq!(fill(&template, &vars()).unwrap(), expect);
    assert!(fill(&json!("{{params.none}}"), &vars()).is_err());
    assert!(fill(&json!("a {{params.map}}"), &vars()).is_err());
    assert!(fill(&json!("a {{run"), &vars()).is_err());
    assert!(fill(&json!("{{a b}}"), &vars()).is_err());
    assert_eq!(fill_text(&json!(3), &vars()).unwrap(), "3");
}

#[test]
fn null_removes_and_maps_merge() {
    let merged = merge(
        &json!({"a": {"b": 1, "c": 2}, "l": [1, 2], "x": 1}),
        &json!({"a": {"b": 3, "c": null}, "l": [4]}),
    );
    assert_eq!(merged, json!({"a": {"b": 3}, "l": [4], "x": 1}));
}

fn problems(text: &str) -> String {
    match Book::of(&[("own.yaml".to_owned(), text.to_owned())]) {
        Err(BookError::Invalid(problems)) => problems.to_string(),
        other => panic!("it was taken: {other:?}"),
    }
}

#[test]
fn every_problem_is_told_at_once_with_its_path_and_remedy() {
    let told = problems(
        r#"
recipe: Own
version: 2
title: T
scope: disk
consistency: {alone: crash, quiesced: app, why: w}
kinds: {thing: {group: g, versions: [v1], kind: Thing, plural: things}}
colour: red
resolve:
  - {as: pvc, kind: pvc, name: "{{clam.name}}"}
trigger: {verb: create, kind: thin, object: {metadata: {name: x}}}
when: {ready: {path: "$.status[", eq: 1}, failed: {path: $.status, eq: 1, ne: 2}}
deadlines: {ready: soon}
handle: {h: "other:$.metadata.name"}
"#,
    );
    for part in [
        "own.yaml: recipe: cannot be a name",
        "own.yaml: version: 2 is not a version",
        "own.yaml: scope: \"disk\" is not one of",
        "own.yaml: colour: is not known",
        "own.yaml: trigger.object: says what",
        "own.yaml: when.ready.path: `$.status[` is not a JSONPath",
        "own.yaml: when.failed: does not compare once",
        "own.yaml: deadlines.ready: is not a time",
    ] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
}

#[test]
fn names_that_name_nothing_and_rights_that_are_missing_are_told() {
    let told = problems(
        r#"
recipe: own
version: 1
title: T
scope: pvc
consistency: {alone: crash, quiesced: app, why: w}
kinds: {thing: {group: g, versions: [v1], kind: Thing, plural: things, cluster: true}}
expect: nothing
quiesce: {hold: cut}
resolve:
  - {as: pvc, kind: pvc, name: "{{clam.name}}"}
  - {as: pvc, kind: pvd, name: "{{claim.name}}"}
trigger: {verb: create, kind: thing, namespace: x, object: {spec: {a: "{{params.gone}}", b: "{{expires}}"}}}
when: {ready: {path: $.status, eq: "{{object.x}}"}}
handle: {h: "other:$.metadata.name"}
delete: {verb: delete, objects: [{kind: thing, name: "{{handle.k}}"}]}
"#,
    );
    for part in [
        "resolve[0]: `clam` names nothing; known here: claim,",
        "resolve[1].kind: `pvd` is no kind",
        "resolve[1].as: `pvc` is taken",
        "expect: `nothing` is no resolved list",
        "quiesce.hold: waits for a cut",
        "trigger.namespace: has a namespace",
        "`params.gone` is not there; known: none",
        "`expires` has no time to count from",
        "handle.h: `other` names nothing",
        "`handle.k` is not there; known: h",
        "rbac: has no right to create thing, which trigger does",
        "rbac: has no right to delete thing",
    ] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
}

#[test]
fn a_recipe_extends_a_shipped_one_and_may_take_its_name() {
    let own = |text: &str| [("own.yaml".to_owned(), text.to_owned())];
    let text = "{recipe: mine, version: 1, extends: csi, title: Mine, deadlines: {ready: 2h}, \
                params: {className: {type: string, default: fast, help: h}}}";
    let book = Book::of(&own(text)).unwrap();
    let mine = book.find("mine").unwrap();
    assert_eq!(mine.deadlines.ready.unwrap().as_secs(), 7200);
    assert_eq!(mine.deadlines.cut.unwrap().as_secs(), 60);
    assert!(mine.notes.is_empty());
    assert!(matches!(mine.steps[0].trigger, Trigger::Create(_)));
    let text = "{recipe: csi, version: 1, extends: csi, enabled: false}";
    let book = Book::of(&own(text)).unwrap();
    assert!(!book.find("csi").unwrap().enabled);
    assert!(!book.names().contains(&"csi".to_owned()));
    assert!(problems("{recipe: a, extends: nobody}").contains("`nobody` is no recipe"));
    assert!(problems("{recipe: a, extends: b}\n").contains("`b` is no recipe"));
    assert!(problems("recipe: [").contains("own.yaml"));
}

#[test]
fn rights_name_the_group_the_resource_and_the_namespace() {
    let book = Book::builtin().unwrap();
    let rights = rights(book.find("csi").unwrap(), &vars()).unwrap();
    let has = |resource: &str, verb: &str, namespace: Option<&str>| {
        rights.iter().any(|right| {
            right.resource == resource
                && right.verb == verb
                && right.namespace.as_deref() == namespace
        })
    };
    assert!(has("volumesnapshots", "create", Some("redis")));
    assert!(has("volumesnapshotcontents", "patch", None));
    assert!(!has("volumesnapshotcontents", "delete", None));
    let restoring = rights
        .iter()
        .filter(|right| right.purpose == Purpose::Restore);
    assert!(restoring.count() > 0);
}

/// Its name, what is replaced, and what must be told.
type Wrong<'w> = (&'w str, &'w [(&'w str, &'w str)], &'w [&'w str]);

/// A recipe that is right, with some of its lines replaced.
fn stranger(changes: &[(&str, &str)]) -> String {
    let mut text = r#"recipe: own
version: 1
title: T
scope: pvc
consistency: { alone: crash, quiesced: app, why: w }
kinds:
  thing: { group: g, versions: [v1], kind: Thing, plural: things }
trigger:
  verb: create
  kind: thing
  object: { spec: { claim: "{{claim.name}}" } }
when:
  ready: { path: $.status.phase, eq: Done }
handle:
  name: $.metadata.name
deadlines: { ready: 15m }
rbac:
  - { kind: thing, verbs: [create, get] }
"#
    .to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    text
}

#[test]
fn ten_wrong_recipes_of_a_stranger_are_told_with_file_path_what_is_wrong_and_the_remedy() {
    assert!(Book::of(&[("own.yaml".to_owned(), stranger(&[]))]).is_ok());
    let http = "verb: http\n  method: POST\n  url: /backup\nobserve: { via: httpPoll, url: \"https:///jobs\" }";
    let wrong: [Wrong<'_>; 14] = [
        (
            "indent",
            &[("  kind: thing\n", " kind: thing\n")],
            &["own.yaml: line 10 column 2: ", "; look at the indent"],
        ),
        (
            "operator",
            &[("eq: Done", "equals: Done")],
            &[
                "own.yaml: when.ready: does not compare once; write exactly one of eq,",
                "own.yaml: when.ready.equals: is not known; ",
            ],
        ),
        (
            "regex",
            &[("eq: Done", "matches: ^Do")],
            &[
                "own.yaml: when.ready: `matches`: there are no regular expressions; write `startsWith`",
            ],
        ),
        (
            "variable",
            &[("{{claim.name}}", "{{pvc.spec.volumeName}}")],
            &["own.yaml: trigger.object.spec.claim: `pvc` names nothing; known here: "],
        ),
        (
            "key",
            &[("{{claim.name}}", "{{claim.nmae}}")],
            &[
                "own.yaml: trigger.object.spec.claim: `claim.nmae` is not there; known: name, namespace",
            ],
        ),
        (
            "two triggers",
            &[("when:\n", "steps: [{as: a}]\nwhen:\n")],
            &["own.yaml: has both `trigger` and `steps`; keep one of them"],
        ),
        (
            "trigger twice",
            &[("when:\n", "trigger: { verb: patch }\nwhen:\n")],
            &[
                "own.yaml:",
                "trigger",
                "line 12 column 1: duplicate mapping key: trigger; look at",
            ],
        ),
        (
            "no handle",
            &[("handle:\n  name: $.metadata.name\n", "")],
            &["own.yaml: handle: is missing; write what is kept of a snapshot"],
        ),
        (
            "duration",
            &[("15m", "15 minutes")],
            &[
                "own.yaml: deadlines.ready: is not a time; write a number and ms, s, m or h, as `90s`",
            ],
        ),
        (
            "kind",
            &[("kind: thing\n", "kind: Thing\n")],
            &[
                "own.yaml: trigger.kind: `Thing` is no kind; known: ",
                "thing",
            ],
        ),
        (
            "extends",
            &[("version: 1\n", "version: 1\nextends: cis\n")],
            &[
                "own.yaml: extends: `cis` is no recipe; name one of ",
                " csi,",
            ],
        ),
        (
            "host",
            &[(
                "verb: create\n  kind: thing\n  object: { spec: { claim: \"{{claim.name}}\" } }",
                http,
            )],
            &[
                "own.yaml: trigger.url: `/backup` names no host; write `https://host/path`",
                "own.yaml: observe.url: `https:///jobs` names no host",
            ],
        ),
        (
            "poll",
            &[(
                "when:\n",
                "observe: { via: httpPoll, url: \"https://b/x\" }\nwhen:\n",
            )],
            &[
                "own.yaml: observe.via: `httpPoll` looks at nothing",
                "; write `via: watch`",
            ],
        ),
        (
            "many",
            &[
                ("15m", "soon"),
                ("kind: thing\n", "kind: thin\n"),
                ("eq: Done", "eq: 1, ne: 2"),
                ("scope: pvc", "scope: disk"),
                ("{{claim.name}}", "{{clam.name}}"),
                ("version: 1", "colour: red"),
            ],
            &[
                "deadlines.ready: is not a time",
                "version: is missing",
                "colour: is not known",
                "when.ready: does not compare once",
                "scope: ",
                "trigger.kind: `thin` is no kind",
                "`clam` names nothing",
            ],
        ),
    ];
    let mut missing = String::new();
    for (name, changes, parts) in wrong {
        let told = problems(&stranger(changes));
        if std::env::var_os("UNDERSTUDY_TELL").is_some() {
            eprintln!("== {name}\n{told}");
        }
        for part in parts {
            if !told.contains(part) {
                missing += &format!("== {name}: {part} is missing in\n{told}\n");
            }
        }
    }
    assert!(missing.is_empty(), "{missing}");
    let two = [("a.yaml", stranger(&[])), ("b.yaml", stranger(&[]))]
        .map(|(from, text)| (from.to_owned(), text));
    let error = Book::of(&two).unwrap_err().to_string();
    assert!(
        error.contains("b.yaml: recipe: `own` is a recipe of a.yaml already; give it another name"),
        "{error}"
    );
}

#[test]
fn a_way_into_a_scratch_claim_is_checked_like_the_rest_and_every_problem_is_told_at_once() {
    let told = problems(
        r#"
recipe: own
extends: csi
scratch:
  into: elsewhere
  forEver: true
  leaves: [{ kind: snapshot }]
  steps:
    - { as: change, trigger: { verb: patch, kind: pvc, name: "{{target.nam}}", patch: {} }, when: { ready: { path: $.a, exists: true } } }
    - { as: volume, trigger: { verb: create, kind: pv, name: "{{there}}", object: {} }, when: { ready: { path: $.a, exists: true } } }
"#,
    );
    for part in [
        "`target.nam` is not there",
        "scratch.steps[0].trigger: makes no object that could be forgotten",
        "`there` names nothing",
        "has no right to create pv",
        "has no right to delete pv",
        "has no right to delete snapshot, which scratch.leaves[0] does",
        "scratch.into: \"elsewhere\" is not one of the words",
        "scratch.forEver: is not known",
        "scratch.leaves[0]: would remove all there are",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let told = problems("recipe: own\nextends: csi\nscratch: { into: nowhere }\n");
    assert!(told.contains("scratch: does not say why"), "{told}");
}

#[test]
fn most_shipped_recipes_know_a_way_into_a_scratch_claim_and_the_others_say_why_not() {
    let book = Book::builtin().unwrap();
    let without = book.all().filter(|it| it.way_back().is_err());
    let without: Vec<&str> = without.map(|it| it.name.as_str()).collect();
    let expect = ["commvault", "commvault-job", "kanister", "kubemove"];
    assert_eq!(without, expect);
    // Without a word of its own a recipe goes the way of its restore, where that makes a new claim by itself.
    let tree = |more: &str| format!("recipe: own\nextends: csi\n{more}");
    for (more, why) in [
        ("", None),
        ("restore: { byHand: More is to do. }", Some("needs a hand")),
        ("restore: { mode: inPlace }", Some("never into another one")),
        ("restore: { mode: app }", Some("not into a claim of ours")),
        ("restore: null", Some("does not say how to restore")),
    ] {
        let book = Book::of(&[("own.yaml".to_owned(), tree(more))]).unwrap();
        let said = book.find("own").unwrap().way_back().err();
        match why {
            None => assert_eq!(said, None),
            Some(why) => assert!(said.is_some_and(|it| it.contains(why)), "{more}"),
        }
    }
}

#[test]
fn rights_where_snapshots_are_read_back_are_asked_for_only_where_that_is_named() {
    let book = Book::builtin().unwrap();
    let kasten = book.find("kasten").unwrap();
    let mut vars = vars();
    vars.insert(
        "claim".into(),
        json!({"name": "data-0", "namespace": "redis"}),
    );
    let there = |vars: &Vars| {
        let all = rights(kasten, vars).unwrap();
        all.into_iter()
            .filter(|it| it.namespace.as_deref() == Some("read-back"))
            .count()
    };
    assert_eq!(there(&vars), 0);
    vars.insert("verify".into(), json!({"namespace": "read-back"}));
    assert_eq!(
        there(&vars),
        4,
        "get, list, create and delete restoreactions"
    );
}
