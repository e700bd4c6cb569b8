//! Names a difference: what was expected of a key, what is there, and which harm that is. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::FindingKind;
use crate::model::{Expiry, Value};
use crate::wire::shorten;

/// Kind, expected, found.
pub(crate) type Verdict = (FindingKind, String, String);

/// Two values that differ.
pub(crate) fn difference(expected: &Value, found: &Value) -> Verdict {
    match (expected, found) {
        (Value::Text(expected_text), Value::Text(found_text)) => {
            if let (Some(expected), Some(found)) = (number(expected_text), number(found_text)) {
                let kind = if found > expected {
                    FindingKind::Doubled
                } else {
                    FindingKind::Lost
                };
                return (kind, expected.to_string(), found.to_string());
            }
            if expected_text.ends_with(b";") && found_text.ends_with(b";") {
                return sequence(&split(expected_text), &split(found_text));
            }
            (FindingKind::Lost, expected.to_string(), found.to_string())
        }
        (Value::List(expected), Value::List(found)) => sequence(expected, found),
        (Value::Hash(expected), Value::Hash(found)) => mapped(
            expected,
            found,
            |value| shorten(value),
            |value| number(value),
        ),
        (Value::Sorted(expected), Value::Sorted(found)) => {
            mapped(expected, found, i64::to_string, |score| Some(*score))
        }
        (Value::Set(expected), Value::Set(found)) => {
            let missing = expected
                .difference(found)
                .next()
                .map(|member| format!("member {}", shorten(member)));
            let extra = found
                .difference(expected)
                .next()
                .map(|member| format!("removed member {}", shorten(member)));
            match (missing, extra) {
                (Some(missing), _) => (FindingKind::Lost, missing, "none".to_owned()),
                (None, extra) => (
                    FindingKind::Lost,
                    "none".to_owned(),
                    extra.unwrap_or_default(),
                ),
            }
        }
        _ => (FindingKind::Lost, expected.to_string(), found.to_string()),
    }
}

/// One connection's tokens in a shared list: `pushed` of them from 0, all but the unknown ones acknowledged.
pub(crate) fn tokens(pushed: u32, unknown: &BTreeSet<u32>, found: &[u32]) -> Option<Verdict> {
    let there: BTreeSet<u32> = found.iter().copied().collect();
    if let Some(missing) =
        (0..pushed).find(|token| !there.contains(token) && !unknown.contains(token))
    {
        return Some((
            FindingKind::Lost,
            format!("token {missing} of {pushed}"),
            "none".to_owned(),
        ));
    }
    if let Some(strange) = there.iter().find(|token| **token >= pushed) {
        return Some((
            FindingKind::Doubled,
            format!("tokens below {pushed}"),
            format!("token {strange}"),
        ));
    }
    if there.len() != found.len() {
        let twice = found
            .iter()
            .find(|token| found.iter().filter(|other| other == token).count() > 1);
        return Some((
            FindingKind::Doubled,
            "each token once".to_owned(),
            format!("token {} twice", twice.unwrap_or(&0)),
        ));
    }
    // An unknown outcome may come late, even after its successors; the acknowledged ones may not.
    let acknowledged: Vec<u32> = found
        .iter()
        .copied()
        .filter(|token| !unknown.contains(token))
        .collect();
    let turned = acknowledged.windows(2).find(|pair| pair[0] > pair[1])?;
    Some((
        FindingKind::Reordered,
        format!("token {} before {}", turned[1], turned[0]),
        "the other way round".to_owned(),
    ))
}

/// Whether a time to live is the acknowledged one.
pub(crate) fn same_expiry(expected: Expiry, found: Expiry, tolerance_ms: u64) -> bool {
    match (expected, found) {
        (Expiry::Never, Expiry::Never) => true,
        (Expiry::Between(earliest, latest), Expiry::Between(at, _)) => {
            at + tolerance_ms >= earliest && at <= latest + tolerance_ms
        }
        (Expiry::Never, Expiry::Between(..)) | (Expiry::Between(..), Expiry::Never) => false,
    }
}

pub(crate) fn expiry_text(expiry: Expiry) -> String {
    match expiry {
        Expiry::Never => "no end".to_owned(),
        Expiry::Between(earliest, latest) if earliest == latest => {
            format!("an end at {earliest} ms")
        }
        Expiry::Between(earliest, latest) => format!("an end at {earliest} to {latest} ms"),
    }
}

/// Elements pushed in order, each unlike all others.
fn sequence(expected: &[Vec<u8>], found: &[Vec<u8>]) -> Verdict {
    let counts = |list: &[Vec<u8>]| {
        let mut counts: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for element in list {
            *counts.entry(element.clone()).or_default() += 1;
        }
        counts
    };
    let (due, there) = (counts(expected), counts(found));
    let lengths = |name: &str| format!("{name} of {} elements", expected.len());
    if let Some((element, times)) = there
        .iter()
        .find(|(element, times)| due.get(*element).is_none_or(|due| due < times))
    {
        let found = format!("{} {times} times among {}", shorten(element), found.len());
        let due = due.get(element).copied().unwrap_or(0);
        return (
            FindingKind::Doubled,
            format!("{} {due} times", shorten(element)),
            found,
        );
    }
    if let Some((element, _)) = due
        .iter()
        .find(|(element, times)| there.get(*element).is_none_or(|there| there < times))
    {
        let found = format!("it missing among {}", found.len());
        return (
            FindingKind::Lost,
            format!("{} in {}", shorten(element), lengths("a list")),
            found,
        );
    }
    let turned = expected
        .iter()
        .zip(found)
        .position(|(expected, found)| expected != found)
        .unwrap_or(0);
    let element = |list: &[Vec<u8>]| {
        list.get(turned)
            .map(|element| shorten(element))
            .unwrap_or_default()
    };
    (
        FindingKind::Reordered,
        format!("{} at place {turned}", element(expected)),
        element(found),
    )
}

fn mapped<V: PartialEq>(
    expected: &BTreeMap<Vec<u8>, V>,
    found: &BTreeMap<Vec<u8>, V>,
    show: impl Fn(&V) -> String,
    number: impl Fn(&V) -> Option<i64>,
) -> Verdict {
    for (field, due) in expected {
        match found.get(field) {
            Some(there) if there == due => {}
            Some(there) => {
                let more = number(there)
                    .zip(number(due))
                    .is_some_and(|(there, due)| there > due);
                let kind = if more {
                    FindingKind::Doubled
                } else {
                    FindingKind::Lost
                };
                return (
                    kind,
                    format!("{} = {}", shorten(field), show(due)),
                    show(there),
                );
            }
            None => {
                return (
                    FindingKind::Lost,
                    format!("{} = {}", shorten(field), show(due)),
                    "no such field".to_owned(),
                );
            }
        }
    }
    let extra = found
        .keys()
        .find(|field| !expected.contains_key(*field))
        .map(|field| shorten(field));
    (
        FindingKind::Doubled,
        format!("{} fields", expected.len()),
        format!("{} too", extra.unwrap_or_default()),
    )
}

fn split(text: &[u8]) -> Vec<Vec<u8>> {
    text.split(|byte| *byte == b';')
        .filter(|token| !token.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{difference, same_expiry, tokens};
    use crate::finding::FindingKind::{Doubled, Lost, Reordered};
    use crate::model::{Expiry, Value};

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    fn list(elements: &[&str]) -> Value {
        Value::List(
            elements
                .iter()
                .map(|element| element.as_bytes().to_vec())
                .collect(),
        )
    }

    #[test]
    fn a_difference_is_named_after_the_writes_it_comes_from() {
        for (expected, found, kind) in [
            (text("5"), text("6"), Doubled),
            (text("5"), text("4"), Lost),
            (text("5"), Value::Absent, Lost),
            (Value::Absent, text("5"), Lost),
            (text("new"), text("old"), Lost),
            (text("1;2;3;"), text("1;2;2;3;"), Doubled),
            (text("1;2;3;"), text("1;3;"), Lost),
            (text("1;2;3;"), text("1;3;2;"), Reordered),
            (list(&["a", "b"]), list(&["b", "a"]), Reordered),
            (list(&["a", "b"]), list(&["a"]), Lost),
            (list(&["a"]), list(&["a", "x"]), Doubled),
            (list(&["a"]), text("a"), Lost),
            (
                Value::Sorted([(b"m".to_vec(), 2)].into()),
                Value::Sorted([(b"m".to_vec(), 1)].into()),
                Lost,
            ),
            (
                Value::Hash([(b"n".to_vec(), b"2".to_vec())].into()),
                Value::Hash([(b"n".to_vec(), b"3".to_vec())].into()),
                Doubled,
            ),
            (
                Value::Set([b"m".to_vec()].into()),
                Value::Set(BTreeSet::new()),
                Lost,
            ),
        ] {
            assert_eq!(
                difference(&expected, &found).0,
                kind,
                "{expected} and {found}"
            );
        }
    }

    #[test]
    fn tokens_are_there_once_and_in_order_and_only_unknown_ones_may_lack() {
        let unknown = BTreeSet::from([1]);
        for (found, kind) in [
            (vec![0, 1, 2], None),
            (vec![0, 2], None),
            (vec![0, 2, 1], None),
            (vec![0, 1], Some(Lost)),
            (vec![0, 2, 2], Some(Doubled)),
            (vec![0, 2, 3], Some(Doubled)),
            (vec![2, 0], Some(Reordered)),
        ] {
            assert_eq!(
                tokens(3, &unknown, &found).map(|verdict| verdict.0),
                kind,
                "{found:?}"
            );
        }
    }

    #[test]
    fn an_expiry_may_differ_by_the_tolerance() {
        let at = |ms| Expiry::Between(ms, ms);
        assert!(same_expiry(Expiry::Between(1_000, 1_010), at(1_060), 50));
        assert!(!same_expiry(Expiry::Between(1_000, 1_010), at(1_061), 50));
        assert!(!same_expiry(Expiry::Between(1_000, 1_010), at(949), 50));
        assert!(!same_expiry(at(1), Expiry::Never, 50));
        assert!(same_expiry(Expiry::Never, Expiry::Never, 0));
    }
}
