//! Asks a question of objects.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Op, Predicate, Ref, Truth};

/// What a question may look at: the object at hand, and the others by their names.
#[derive(Clone, Copy, Debug)]
pub struct Objects<'o> {
    /// The one that a path without a name is on.
    pub here: &'o Value,
    /// The others.
    pub named: &'o BTreeMap<String, Value>,
}

impl<'o> Objects<'o> {
    fn object(&self, at: &Ref) -> Option<&'o Value> {
        match &at.on {
            None => Some(self.here),
            Some(name) => self.named.get(name).filter(|value| !value.is_null()),
        }
    }
}

/// What a reference selects; empty where there is nothing.
#[must_use]
pub fn select<'o>(at: &Ref, objects: Objects<'o>) -> Vec<&'o Value> {
    objects
        .object(at)
        .map(|value| at.path.select(value))
        .unwrap_or_default()
}

/// The answer. Pure: the same objects give the same answer.
#[must_use]
pub fn eval(predicate: &Predicate, objects: Objects<'_>) -> Truth {
    match predicate {
        Predicate::All(all) => all
            .iter()
            .fold(Truth::Yes, |so_far, one| so_far.and(eval(one, objects))),
        Predicate::Any(any) => any
            .iter()
            .fold(Truth::No, |so_far, one| so_far.or(eval(one, objects))),
        Predicate::Not(inner) => eval(inner, objects).opposite(),
        Predicate::Leaf { at, op } => leaf(at, op, objects),
        Predicate::Each { of, that, count_ge } => each(of, that, count_ge, objects),
        Predicate::Bind { from, to } => bind(from, to, objects),
    }
}

fn leaf(at: &Ref, op: &Op, objects: Objects<'_>) -> Truth {
    // An object that is not there (yet) has said nothing, whatever is asked.
    let Some(object) = objects.object(at) else {
        return Truth::Unknown;
    };
    let found = at.path.select(object);
    if found.is_empty() && at.path.is_below_status() && !has_status(object) {
        return Truth::Unknown;
    }
    let every =
        |test: &dyn Fn(&Value) -> bool| !found.is_empty() && found.iter().all(|it| test(it));
    let some = |test: &dyn Fn(&str) -> bool| found.iter().any(|it| it.as_str().is_some_and(test));
    let holds = match op {
        Op::Eq(wanted) => every(&|it| same(it, wanted)),
        Op::Ne(unwanted) => !found.iter().any(|it| same(it, unwanted)),
        Op::In(list) => every(&|it| list.iter().any(|wanted| same(it, wanted))),
        Op::NotIn(list) => !found
            .iter()
            .any(|it| list.iter().any(|unwanted| same(it, unwanted))),
        Op::Exists(wanted) => wanted.as_bool() == Some(!found.is_empty()),
        Op::NonEmpty(wanted) => wanted.as_bool() == Some(every(&|it| !is_empty(it))),
        Op::Ge(least) => match number(least) {
            Some(least) => every(&|it| number(it).is_some_and(|it| it >= least)),
            None => return Truth::Unknown,
        },
        Op::CountGe(least) => match number(least) {
            #[expect(clippy::cast_precision_loss, reason = "nobody lists 2^53 volumes")]
            Some(least) => found.len() as f64 >= least,
            None => return Truth::Unknown,
        },
        Op::Contains(parts) => some(&|text| texts(parts).any(|part| text.contains(part))),
        Op::StartsWith(parts) => some(&|text| texts(parts).any(|part| text.starts_with(part))),
    };
    holds.into()
}

fn each(of: &Ref, that: &Predicate, count_ge: &Value, objects: Objects<'_>) -> Truth {
    let Some(object) = objects.object(of) else {
        return Truth::Unknown;
    };
    let selected = of.path.select(object);
    if selected.is_empty() && of.path.is_below_status() && !has_status(object) {
        return Truth::Unknown;
    }
    // A variable that is a list is given as `name:$`.
    let elements: Vec<&Value> = match selected.as_slice() {
        [Value::Array(list)] if of.path.as_str() == "$" => list.iter().collect(),
        _ => selected,
    };
    let Some(least) = number(count_ge) else {
        return Truth::Unknown;
    };
    #[expect(clippy::cast_precision_loss, reason = "nobody lists 2^53 volumes")]
    let enough = Truth::from(elements.len() as f64 >= least);
    elements.into_iter().fold(enough, |so_far, element| {
        let objects = Objects {
            here: element,
            ..objects
        };
        so_far.and(eval(that, objects))
    })
}

fn bind(from: &Ref, to: &str, objects: Objects<'_>) -> Truth {
    let Some(named) = objects.named.get(to).filter(|value| !value.is_null()) else {
        return Truth::Unknown;
    };
    let Some(holder) = objects.object(from) else {
        return Truth::Unknown;
    };
    let references = from.path.select(holder);
    let [reference] = references.as_slice() else {
        return Truth::No;
    };
    let agrees = |field: &str| reference[field] == named["metadata"][field];
    let names = agrees("name") && (agrees("namespace") || reference["namespace"].is_null());
    // A uid that is missing names whoever comes along next under that name.
    (names && agrees("uid") && !reference["uid"].is_null()).into()
}

/// Whether its controller has said anything. A status may be a text instead of a map.
pub(super) fn has_status(object: &Value) -> bool {
    !is_empty(&object["status"])
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Equal, with 1 and 1.0 the same number.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        _ => left == right,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok().or_else(|| {
            // A time counts as its milliseconds since 1970.
            let time = text.parse::<k8s_openapi::jiff::Timestamp>().ok()?;
            #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
            Some(time.as_millisecond() as f64)
        }),
        _ => None,
    }
}

fn texts(values: &[Value]) -> impl Iterator<Item = &str> {
    values
        .iter()
        .filter_map(Value::as_str)
        .filter(|text| !text.is_empty())
}
