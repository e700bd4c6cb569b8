//! Walks the tree of a recipe and collects every problem with its path.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value};
use understudy_config::Problem;

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Found(RefCell<Vec<Problem>>);

impl Found {
    pub(super) fn add(&self, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.borrow_mut().push(Problem {
            path: path.to_owned(),
            line: 0,
            what: what.into(),
            remedy: remedy.into(),
        });
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A value of the tree and where it is.
#[derive(Clone, Copy)]
pub(super) struct At<'t> {
    pub(super) value: &'t Value,
    pub(super) found: &'t Found,
    path: &'t str,
}

/// A map of the tree whose keys are checked off one by one; what is left over is unknown.
pub(super) struct Keys<'t> {
    map: &'t Map<String, Value>,
    found: &'t Found,
    path: String,
    known: RefCell<BTreeSet<&'static str>>,
}

/// Reads one value at a path.
pub(super) type Reader<'t, T> = dyn Fn(At<'_>) -> Option<T> + 't;

impl<'t> At<'t> {
    pub(super) fn root(value: &'t Value, found: &'t Found) -> Self {
        Self {
            value,
            found,
            path: "",
        }
    }

    pub(super) fn wrong(&self, what: impl Into<String>, remedy: impl Into<String>) {
        self.found.add(self.path, what, remedy);
    }

    pub(super) fn keys(&self) -> Option<Keys<'t>> {
        let Value::Object(map) = self.value else {
            self.wrong("is not a map", "write `key: value` lines below it");
            return None;
        };
        Some(Keys {
            map,
            found: self.found,
            path: self.path.to_owned(),
            known: RefCell::default(),
        })
    }

    pub(super) fn text(&self) -> Option<String> {
        let text = self.value.as_str().map(str::to_owned);
        if text.as_deref().is_none_or(str::is_empty) {
            self.wrong(
                "is not a text",
                "write a text, in quotes if it looks like a number",
            );
            return None;
        }
        text
    }

    pub(super) fn bool(&self) -> Option<bool> {
        let value = self.value.as_bool();
        if value.is_none() {
            self.wrong("is neither true nor false", "write true or false");
        }
        value
    }

    pub(super) fn whole(&self, most: u64) -> Option<u64> {
        let value = self.value.as_u64().filter(|value| *value <= most);
        if value.is_none() {
            self.wrong(
                "is not a whole number in range",
                format!("write 0 to {most}"),
            );
        }
        value
    }

    pub(super) fn duration(&self) -> Option<Duration> {
        let value = self.value.as_str().and_then(duration);
        if value.is_none() {
            self.wrong(
                "is not a time",
                "write a number and ms, s, m or h, as `90s`",
            );
        }
        value
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.value.as_str().unwrap_or_default();
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(
                format!("{} is not one of the words it can be", self.value),
                format!("write {}", names.join(", ")),
            );
        }
        found.map(|(_, value)| *value)
    }

    pub(super) fn items<T>(&self, read: &Reader<'_, T>) -> Vec<T> {
        let Value::Array(list) = self.value else {
            self.wrong("is not a list", "write `- …` lines below it");
            return Vec::new();
        };
        let one = |(index, value): (usize, &Value)| {
            let path = format!("{}[{index}]", self.path);
            read(At {
                value,
                found: self.found,
                path: &path,
            })
        };
        list.iter().enumerate().filter_map(one).collect()
    }

    /// A map from names of the operator's own choice.
    pub(super) fn entries<T>(&self, read: &Reader<'_, T>) -> Vec<(String, T)> {
        let Value::Object(map) = self.value else {
            self.wrong("is not a map", "write `name: …` lines below it");
            return Vec::new();
        };
        let one = |(name, value): (&String, &Value)| {
            let path = format!("{}.{name}", self.path);
            let value = read(At {
                value,
                found: self.found,
                path: path.trim_start_matches('.'),
            })?;
            Some((name.clone(), value))
        };
        map.iter().filter_map(one).collect()
    }
}

impl Keys<'_> {
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub(super) fn has(&self, key: &'static str) -> bool {
        self.known.borrow_mut().insert(key);
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    /// Whether a key that nobody knows is there: for a better word than that.
    pub(super) fn says(&self, key: &'static str) -> bool {
        self.map.contains_key(key) && self.has(key)
    }

    /// An entry that may be missing; null is missing.
    pub(super) fn may<T>(
        &self,
        key: &'static str,
        read: impl Fn(At<'_>) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            return None;
        }
        read(At {
            value: self.map.get(key)?,
            found: self.found,
            path: &self.path_of(key),
        })
    }

    /// An entry that must be there.
    pub(super) fn must<T>(
        &self,
        key: &'static str,
        remedy: &str,
        read: impl Fn(At<'_>) -> Option<T>,
    ) -> Option<T> {
        if self.has(key) {
            return self.may(key, read);
        }
        self.found.add(&self.path_of(key), "is missing", remedy);
        None
    }

    pub(super) fn list<T>(&self, key: &'static str, read: impl Fn(At<'_>) -> Option<T>) -> Vec<T> {
        self.may(key, |at| Some(at.items(&read)))
            .unwrap_or_default()
    }

    pub(super) fn map<T>(
        &self,
        key: &'static str,
        read: impl Fn(At<'_>) -> Option<T>,
    ) -> Vec<(String, T)> {
        self.may(key, |at| Some(at.entries(&read)))
            .unwrap_or_default()
    }

    pub(super) fn wrong(&self, what: impl Into<String>, remedy: impl Into<String>) {
        self.found.add(&self.path, what, remedy);
    }

    /// Every key that nobody asked for is a mistake.
    pub(super) fn nothing_else(&self) {
        let known = self.known.borrow();
        for key in self.map.keys() {
            if !known.contains(key.as_str()) {
                let names: Vec<&str> = known.iter().copied().collect();
                let remedy = format!("remove it; known here: {}", names.join(", "));
                self.found.add(&self.path_of(key), "is not known", remedy);
            }
        }
    }
}

/// `500ms`, `60s`, `15m`, `2h`, and sums as `1h30m`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let unit = after
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = after;
    }
    Some(total)
}
