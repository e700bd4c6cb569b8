//! Reads questions, references and demands.

use serde_json::{Value, json};

use super::Demand;
use super::walk::{At, Keys};
use crate::predicate::{Op, Predicate, Ref, is_name};

/// A question. A list is all of them.
pub(super) fn predicate(at: At<'_>) -> Option<Predicate> {
    if at.value.is_array() {
        return Some(Predicate::All(at.items(&predicate)));
    }
    let keys = at.keys()?;
    let read = body(&keys);
    keys.nothing_else();
    read
}

/// Something that must hold: a question, or `{that: question, else: text}`.
pub(super) fn demand(at: At<'_>) -> Option<Demand> {
    if at.value.get("that").is_none() || at.value.get("each").is_some() {
        let that = predicate(at)?;
        return Some(Demand {
            that,
            otherwise: String::new(),
        });
    }
    let keys = at.keys()?;
    let that = keys.must("that", "write the question", predicate);
    let otherwise = keys.may("else", |at| at.text()).unwrap_or_default();
    keys.nothing_else();
    Some(Demand {
        that: that?,
        otherwise,
    })
}

/// `[name:]$.path`.
pub(super) fn reference(at: At<'_>) -> Option<Ref> {
    let text = at.text()?;
    match Ref::parse(&text) {
        Ok(reference) => Some(reference),
        Err(why) => {
            at.wrong(
                why,
                "write an RFC 9535 JSONPath, as `$.status.phase` or `content:$.status`",
            );
            None
        }
    }
}

fn body(keys: &Keys<'_>) -> Option<Predicate> {
    let kinds: Vec<&str> = ["all", "any", "not", "each", "bind", "path"]
        .into_iter()
        .filter(|key| keys.has(key))
        .collect();
    match kinds.as_slice() {
        ["all"] => Some(Predicate::All(keys.list("all", predicate))),
        ["any"] => Some(Predicate::Any(keys.list("any", predicate))),
        ["not"] => Some(Predicate::Not(Box::new(keys.may("not", predicate)?))),
        ["each"] => each(keys),
        ["bind"] => keys.may("bind", bind),
        ["path"] => leaf(keys),
        _ => {
            keys.wrong(
                "is not one question",
                "write exactly one of path, all, any, not, each, bind",
            );
            None
        }
    }
}

fn each(keys: &Keys<'_>) -> Option<Predicate> {
    // A name alone is the variable as a whole.
    let of = keys.may("each", |at| match at.value.as_str() {
        Some(name) if is_name(name) => Ref::parse(&format!("{name}:$")).ok(),
        _ => reference(at),
    });
    let that = keys.must("that", "write what each must answer", predicate);
    let count_ge = keys.may("countGe", |at| Some(at.value.clone()));
    Some(Predicate::Each {
        of: of?,
        that: Box::new(that?),
        count_ge: count_ge.unwrap_or_else(|| json!(1)),
    })
}

fn bind(at: At<'_>) -> Option<Predicate> {
    let keys = at.keys()?;
    let from = keys.must(
        "from",
        "write where the reference is, as `content:$.spec.ref`",
        reference,
    );
    let to = keys.must("to", "write the variable that it must name", |at| at.text());
    keys.nothing_else();
    Some(Predicate::Bind {
        from: from?,
        to: to?,
    })
}

fn leaf(keys: &Keys<'_>) -> Option<Predicate> {
    let mut at = keys.may("path", reference);
    if let Some(on) = keys.may("on", |at| at.text()) {
        if !is_name(&on) || at.as_ref().is_some_and(|at| at.on.is_some()) {
            keys.wrong(
                "names its object twice or wrongly",
                "write `on: name` or `path: name:$…`",
            );
        }
        at = at.map(|at| Ref { on: Some(on), ..at });
    }
    let ops: Vec<&'static str> = Op::NAMES.into_iter().filter(|op| keys.has(op)).collect();
    for regex in ["matches", "match", "regex", "like"] {
        if keys.says(regex) {
            keys.wrong(
                format!("`{regex}`: there are no regular expressions"),
                "write `startsWith`, `contains` or `in`",
            );
            return None;
        }
    }
    let [op] = ops.as_slice() else {
        keys.wrong(
            "does not compare once",
            format!("write exactly one of {}", Op::NAMES.join(", ")),
        );
        return None;
    };
    let op = keys.may(op, |value| operator(op, value));
    Some(Predicate::Leaf { at: at?, op: op? })
}

fn operator(name: &str, at: At<'_>) -> Option<Op> {
    let value = at.value.clone();
    let is_template = value.as_str().is_some_and(|text| text.contains("{{"));
    let list = || -> Option<Vec<Value>> {
        match &value {
            Value::Array(list) if !list.is_empty() => Some(list.clone()),
            Value::Array(_) | Value::Object(_) | Value::Null => {
                at.wrong("is not a list of values", "write `[one, two]`");
                None
            }
            one => Some(vec![one.clone()]),
        }
    };
    let number = || {
        if value.is_number() || is_template {
            return Some(value.clone());
        }
        at.wrong("is not a number", "write a number, or a template of one");
        None
    };
    let yes_no = || at.bool().map(Value::Bool);
    Some(match name {
        "eq" => Op::Eq(value),
        "ne" => Op::Ne(value),
        "in" => Op::In(list()?),
        "notIn" => Op::NotIn(list()?),
        "exists" => Op::Exists(yes_no()?),
        "nonEmpty" => Op::NonEmpty(yes_no()?),
        "ge" => Op::Ge(number()?),
        "countGe" => Op::CountGe(number()?),
        "contains" => Op::Contains(list()?),
        _ => Op::StartsWith(list()?),
    })
}
