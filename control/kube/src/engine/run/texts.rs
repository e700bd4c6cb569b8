//! Times and texts of objects.

use serde_json::Value;

use crate::predicate::{Op, Predicate};

/// Longest text of a system that is passed on. Default: 300 letters.
const TEXT_MAX: usize = 300;

/// A time of an object in milliseconds since 1970: RFC 3339, or a number of nanoseconds.
#[must_use]
pub fn time_ms(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text
            .parse::<k8s_openapi::jiff::Timestamp>()
            .ok()
            .map(k8s_openapi::jiff::Timestamp::as_millisecond),
        Value::Number(number) => number.as_i64().map(|nanos| nanos / 1_000_000),
        _ => None,
    }
}

/// Milliseconds since 1970 as RFC 3339.
#[must_use]
pub fn rfc3339_ms(at: i64) -> String {
    k8s_openapi::jiff::Timestamp::from_millisecond(at)
        .map(|time| time.to_string())
        .unwrap_or_default()
}

/// How long something lasts, for people.
#[must_use]
pub fn age(millis: i64) -> String {
    match millis {
        ..=9_999 => format!("{} ms", millis.max(0)),
        10_000..=599_999 => format!("{} s", millis / 1_000),
        600_000..=35_999_999 => format!("{} min", millis / 60_000),
        _ => format!("{} h", millis / 3_600_000),
    }
}

/// Texts in one line, each once, cut short for people.
pub fn joined<'v>(values: impl Iterator<Item = &'v Value>) -> String {
    uncut(values).chars().take(TEXT_MAX).collect()
}

/// Texts in one line, each once, whole: what is kept must be found again.
pub(super) fn uncut<'v>(values: impl Iterator<Item = &'v Value>) -> String {
    let mut told: Vec<String> = Vec::new();
    for value in values {
        let text = match value {
            Value::String(text) => text.trim().replace(['\n', '\r'], " "),
            Value::Null | Value::Array(_) | Value::Object(_) => continue,
            other => other.to_string(),
        };
        if !text.is_empty() && !told.contains(&text) {
            told.push(text);
        }
    }
    told.join("; ")
}

/// JSON that a text is, or the last of its lines that is JSON.
pub(super) fn last_json(text: &str) -> Option<Value> {
    let whole = serde_json::from_str::<Value>(text).ok();
    whole.or_else(|| {
        text.lines()
            .rev()
            .find_map(|line| serde_json::from_str(line.trim()).ok())
    })
}

/// A question, for people.
pub(super) fn question(predicate: &Predicate) -> String {
    match predicate {
        Predicate::All(all) => all.iter().map(question).collect::<Vec<_>>().join(" and "),
        Predicate::Any(any) => any.iter().map(question).collect::<Vec<_>>().join(" or "),
        Predicate::Not(inner) => format!("not ({})", question(inner)),
        Predicate::Each { of, that, count_ge } => {
            format!("each of {of} (at least {count_ge}): {}", question(that))
        }
        Predicate::Bind { from, to } => format!("{from} names {to}"),
        Predicate::Leaf { at, op } => match op {
            Op::Eq(value) => format!("{at} is {value}"),
            Op::Ne(value) => format!("{at} is not {value}"),
            Op::In(list) => format!("{at} is one of {}", Value::Array(list.clone())),
            Op::NotIn(list) => format!("{at} is none of {}", Value::Array(list.clone())),
            Op::Exists(value) => format!("{at} exists: {value}"),
            Op::NonEmpty(value) => format!("{at} is not empty: {value}"),
            Op::Ge(value) => format!("{at} is at least {value}"),
            Op::CountGe(value) => format!("{at} is there {value} times"),
            Op::Contains(list) => format!("{at} contains {}", Value::Array(list.clone())),
            Op::StartsWith(list) => format!("{at} starts with {}", Value::Array(list.clone())),
        },
    }
}
