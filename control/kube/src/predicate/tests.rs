//! Tables of questions and answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Objects, Op, Predicate, Ref, Truth, eval};

fn ask(predicate: &Predicate, here: &Value, named: &[(&str, Value)]) -> Truth {
    let named: BTreeMap<String, Value> = named
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    eval(
        predicate,
        Objects {
            here,
            named: &named,
        },
    )
}

fn leaf(at: &str, op: Op) -> Predicate {
    Predicate::Leaf {
        at: Ref::parse(at).unwrap(),
        op,
    }
}

#[track_caller]
#[expect(
    clippy::needless_pass_by_value,
    reason = "rows of a table read better with values"
)]
fn check(at: &str, op: Op, here: Value, expect: Truth) {
    assert_eq!(ask(&leaf(at, op), &here, &[]), expect, "{at} on {here}");
}

#[test]
fn an_object_without_a_status_answers_neither_yes_nor_no() {
    for here in [
        json!({}),
        json!({"status": null}),
        json!({"status": {}}),
        json!({"status": ""}),
    ] {
        check(
            "$.status.phase",
            Op::Eq(json!("Ready")),
            here.clone(),
            Truth::Unknown,
        );
        check(
            "$.status.phase",
            Op::Ne(json!("Failed")),
            here.clone(),
            Truth::Unknown,
        );
        check(
            "$.status.error",
            Op::Exists(json!(false)),
            here.clone(),
            Truth::Unknown,
        );
        check(
            "$['status'].list",
            Op::CountGe(json!(0)),
            here,
            Truth::Unknown,
        );
    }
    check(
        "$.spec.size",
        Op::Exists(json!(false)),
        json!({}),
        Truth::Yes,
    );
    check("$.statusText", Op::Eq(json!(1)), json!({}), Truth::No);
}

#[test]
fn a_missing_path_below_a_status_is_no() {
    let here = json!({"status": {"phase": "New"}});
    check(
        "$.status.error",
        Op::Exists(json!(true)),
        here.clone(),
        Truth::No,
    );
    check(
        "$.status.error",
        Op::Exists(json!(false)),
        here.clone(),
        Truth::Yes,
    );
    check(
        "$.status.error",
        Op::NonEmpty(json!(true)),
        here.clone(),
        Truth::No,
    );
    check(
        "$.status.error",
        Op::NonEmpty(json!(false)),
        here.clone(),
        Truth::Yes,
    );
    check("$.status.count", Op::Ge(json!(1)), here.clone(), Truth::No);
    check(
        "$.status.error",
        Op::NotIn(vec![json!("x")]),
        here,
        Truth::Yes,
    );
}

#[test]
fn a_scalar_status_is_read_and_a_path_into_it_is_no() {
    let here = json!({"status": "Done"});
    check("$.status", Op::Eq(json!("Done")), here.clone(), Truth::Yes);
    check(
        "$.status",
        Op::In(vec![json!("Failed"), json!("Invalid")]),
        here.clone(),
        Truth::No,
    );
    check(
        "$.status.phase",
        Op::Eq(json!("Done")),
        here.clone(),
        Truth::No,
    );
    check("$.status.phase", Op::NonEmpty(json!(true)), here, Truth::No);
}

#[test]
fn every_selected_value_must_equal_and_one_text_may_contain() {
    let here = json!({"status": {"items": [{"p": "Ok", "n": "3"}, {"p": "Bad", "n": 4}], "m": ["a b", "c"]}});
    check(
        "$.status.items[*].p",
        Op::Eq(json!("Ok")),
        here.clone(),
        Truth::No,
    );
    check(
        "$.status.items[*].p",
        Op::Ne(json!("Bad")),
        here.clone(),
        Truth::No,
    );
    check(
        "$.status.items[?@.p=='Bad']",
        Op::Exists(json!(true)),
        here.clone(),
        Truth::Yes,
    );
    check(
        "$.status.items[*].n",
        Op::Ge(json!(3)),
        here.clone(),
        Truth::Yes,
    );
    check(
        "$.status.items[*].n",
        Op::Ge(json!(4)),
        here.clone(),
        Truth::No,
    );
    check(
        "$.status.items[*]",
        Op::CountGe(json!("2")),
        here.clone(),
        Truth::Yes,
    );
    check(
        "$.status.items[-1].p",
        Op::Eq(json!("Bad")),
        here.clone(),
        Truth::Yes,
    );
    check(
        "$.status.m[*]",
        Op::Contains(vec![json!(" b")]),
        here.clone(),
        Truth::Yes,
    );
    check(
        "$.status.m[*]",
        Op::Contains(vec![json!("")]),
        here.clone(),
        Truth::No,
    );
    check(
        "$.status.m[*]",
        Op::StartsWith(vec![json!("x"), json!("c")]),
        here,
        Truth::Yes,
    );
}

#[test]
fn combinators_keep_what_is_unknown() {
    use Truth::{No, Unknown, Yes};
    for (left, right, and, or) in [
        (Yes, Yes, Yes, Yes),
        (Yes, No, No, Yes),
        (Yes, Unknown, Unknown, Yes),
        (No, Unknown, No, Unknown),
        (Unknown, Unknown, Unknown, Unknown),
        (No, No, No, No),
    ] {
        assert_eq!((left.and(right), right.and(left)), (and, and));
        assert_eq!((left.or(right), right.or(left)), (or, or));
    }
    let unknown = leaf("$.status.phase", Op::Eq(json!("Failed")));
    let not = Predicate::Not(Box::new(unknown));
    assert_eq!(ask(&not, &json!({}), &[]), Unknown);
    assert_eq!(ask(&Predicate::All(vec![]), &json!({}), &[]), Yes);
    assert_eq!(ask(&Predicate::Any(vec![]), &json!({}), &[]), No);
}

#[test]
fn each_counts_and_asks_every_element() {
    let each = |least: u64| Predicate::Each {
        of: Ref::parse("members:$").unwrap(),
        that: Box::new(leaf("$.status.ready", Op::Eq(json!(true)))),
        count_ge: json!(least),
    };
    let ready = json!({"status": {"ready": true}});
    let mute = json!({});
    let members = |list: Value| [("members", list)];
    assert_eq!(
        ask(&each(2), &json!({}), &members(json!([ready, ready]))),
        Truth::Yes
    );
    assert_eq!(
        ask(&each(3), &json!({}), &members(json!([ready, ready]))),
        Truth::No
    );
    assert_eq!(
        ask(&each(1), &json!({}), &members(json!([ready, mute]))),
        Truth::Unknown
    );
    assert_eq!(ask(&each(1), &json!({}), &members(json!([]))), Truth::No);
    assert_eq!(ask(&each(0), &json!({}), &[]), Truth::Unknown);
}

#[test]
fn a_binding_must_lead_back_by_uid() {
    let bind = Predicate::Bind {
        from: Ref::parse("content:$.spec.volumeSnapshotRef").unwrap(),
        to: "snapshot".to_owned(),
    };
    let snapshot = json!({"metadata": {"name": "s", "namespace": "redis", "uid": "1"}});
    for (reference, expect) in [
        (
            json!({"name": "s", "namespace": "redis", "uid": "1"}),
            Truth::Yes,
        ),
        (
            json!({"name": "s", "namespace": "redis", "uid": "2"}),
            Truth::No,
        ),
        (json!({"name": "s", "namespace": "redis"}), Truth::No),
        (
            json!({"name": "t", "namespace": "redis", "uid": "1"}),
            Truth::No,
        ),
        (
            json!({"name": "s", "namespace": "other", "uid": "1"}),
            Truth::No,
        ),
    ] {
        let content = json!({"spec": {"volumeSnapshotRef": reference}});
        let named = [("content", content), ("snapshot", snapshot.clone())];
        assert_eq!(ask(&bind, &json!({}), &named), expect, "{reference}");
    }
    assert_eq!(
        ask(&bind, &json!({}), &[("snapshot", snapshot)]),
        Truth::Unknown
    );
}
