//! Taking settings out of a tree: each is asked for by name, and whatever is wrong is collected instead of ending the walk.

use crate::node::{Entry, Node, Value};
use crate::problem::Problem;
use crate::settings::{Kind, SectionSpec};

/// What is wrong with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl Wrong {
    pub(crate) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// Where a value stands: for problems that are found only when values are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: String,
    pub(crate) line: usize,
}

impl Place {
    pub(crate) fn problem(&self, wrong: Wrong) -> Problem {
        Problem {
            path: self.path.clone(),
            line: self.line,
            what: wrong.what,
            remedy: wrong.remedy,
        }
    }

    /// A place below this one.
    pub(crate) fn below(&self, name: &str, line: usize) -> Self {
        let path = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        };
        Self { path, line }
    }

    fn item(&self, index: usize, line: usize) -> Self {
        Self {
            path: format!("{}[{index}]", self.path),
            line,
        }
    }
}

/// An open map of the file.
pub(crate) struct Section<'a> {
    pub(crate) place: Place,
    entries: &'a [Entry],
    spec: &'static SectionSpec,
}

impl<'a> Section<'a> {
    /// Opens a map, and complains about each key that it should not have. Nothing counts as an empty map.
    pub(crate) fn open(
        node: &'a Node,
        place: Place,
        spec: &'static SectionSpec,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let entries: &[Entry] = match &node.value {
            Value::Map(entries) => entries,
            Value::Nothing => &[],
            Value::Text(_) | Value::List(_) => {
                let wrong = Wrong::new(
                    format!("{} stands here", node.describe()),
                    format!("write a section with {}", spec.names()),
                );
                problems.push(place.problem(wrong));
                return None;
            }
        };
        let section = Self {
            place,
            entries,
            spec,
        };
        for (index, entry) in entries.iter().enumerate() {
            let place = section.place.below(&entry.key, entry.line);
            if spec.setting(&entry.key).is_none() {
                problems.push(place.problem(Wrong::new("unknown setting", spec.hint(&entry.key))));
            } else if let Some(first) = entries[..index]
                .iter()
                .find(|earlier| earlier.key == entry.key)
            {
                let what = format!("written twice, first in line {}", first.line);
                problems.push(place.problem(Wrong::new(what, "keep one of them")));
            }
        }
        Some(section)
    }

    /// Where the setting stands, or would stand.
    pub(crate) fn place_of(&self, name: &str) -> Place {
        self.place.below(
            name,
            self.entry(name).map_or(self.place.line, |entry| entry.line),
        )
    }

    /// Whether the file has the setting.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// Reads a setting of one value. `None` when it is absent, or wrong and complained about.
    pub(crate) fn take<T>(
        &self,
        name: &str,
        problems: &mut Vec<Problem>,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let entry = self.entry(name)?;
        let place = self.place_of(name);
        take_text(&entry.value, &place, problems).and_then(|text| match parse(text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                problems.push(place.problem(wrong));
                None
            }
        })
    }

    /// The same for a setting that must be there.
    pub(crate) fn require<T>(
        &self,
        name: &str,
        problems: &mut Vec<Problem>,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        if !self.has(name) {
            problems.push(self.missing(name));
        }
        self.take(name, problems, parse)
    }

    /// The problem that a setting is not there.
    pub(crate) fn missing(&self, name: &str) -> Problem {
        debug_assert!(
            self.spec.setting(name).is_some(),
            "{name} is not in the table of settings"
        );
        let meaning = self
            .spec
            .setting(name)
            .map_or("", |setting| setting.meaning);
        let sentence = meaning
            .split_once(". ")
            .map_or(meaning.trim_end_matches('.'), |(first, _)| first);
        let place = self.place.below(name, self.place.line);
        place.problem(Wrong::new(
            "missing",
            format!("write it: {}", lower_first(sentence)),
        ))
    }

    /// Opens a section below this one.
    pub(crate) fn section(
        &self,
        name: &str,
        spec: &'static SectionSpec,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let entry = self.entry(name)?;
        Section::open(&entry.value, self.place_of(name), spec, problems)
    }

    /// The items of a list with their places. A value that is no list is complained about; absent means empty.
    pub(crate) fn list(&self, name: &str, problems: &mut Vec<Problem>) -> Vec<(&'a Node, Place)> {
        let Some(entry) = self.entry(name) else {
            return Vec::new();
        };
        let place = self.place_of(name);
        match &entry.value.value {
            Value::Nothing => Vec::new(),
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| (item, place.item(index, item.line)))
                .collect(),
            Value::Text(_) | Value::Map(_) => {
                let what = format!("{} stands where a list belongs", entry.value.describe());
                problems.push(place.problem(Wrong::new(
                    what,
                    "write each item on a line of its own, behind '- '",
                )));
                Vec::new()
            }
        }
    }

    /// The keys and values of a map whose keys an operator chooses; absent means empty.
    pub(crate) fn entries(
        &self,
        name: &str,
        problems: &mut Vec<Problem>,
    ) -> Vec<(&'a str, &'a Node, Place)> {
        match self.entry(name) {
            Some(entry) => Self::entries_of(&entry.value, &self.place_of(name), problems),
            None => Vec::new(),
        }
    }

    /// The keys and values of such a map. What is no map, and a key that is there twice, are complained about.
    pub(crate) fn entries_of(
        node: &'a Node,
        place: &Place,
        problems: &mut Vec<Problem>,
    ) -> Vec<(&'a str, &'a Node, Place)> {
        let entries: &[Entry] = match &node.value {
            Value::Map(entries) => entries,
            Value::Nothing => &[],
            Value::Text(_) | Value::List(_) => {
                let what = format!("{} stands here", node.describe());
                problems.push(place.problem(Wrong::new(what, "write names with their values")));
                &[]
            }
        };
        let mut found: Vec<(&str, &Node, Place)> = Vec::new();
        for entry in entries {
            let place = place.below(&entry.key, entry.line);
            if found.iter().any(|(earlier, ..)| *earlier == entry.key) {
                problems.push(place.problem(Wrong::new("written twice", "keep one of them")));
            } else {
                found.push((&entry.key, &entry.value, place));
            }
        }
        found
    }

    /// The value of a setting as it stands in the file.
    pub(crate) fn node(&self, name: &str) -> Option<&'a Node> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// The bounds that the table of settings has for a number, a size or a time.
    pub(crate) fn bounds(&self, name: &str) -> (u64, u64) {
        match self.spec.setting(name).map(|setting| &setting.kind) {
            Some(Kind::Whole { min, max } | Kind::Size { min, max } | Kind::Time { min, max }) => {
                (*min, *max)
            }
            _ => (0, u64::MAX),
        }
    }

    fn entry(&self, name: &str) -> Option<&'a Entry> {
        debug_assert!(
            self.spec.setting(name).is_some(),
            "{name} is not in the table of settings"
        );
        self.entries.iter().find(|entry| entry.key == name)
    }
}

/// The text of a value that must be one.
pub(crate) fn take_text<'a>(
    node: &'a Node,
    place: &Place,
    problems: &mut Vec<Problem>,
) -> Option<&'a str> {
    match &node.value {
        Value::Text(text) => Some(text),
        Value::Nothing | Value::List(_) | Value::Map(_) => {
            let what = format!("{} stands where one value belongs", node.describe());
            problems.push(place.problem(Wrong::new(what, "write the value behind the colon")));
            None
        }
    }
}

/// For the middle of a sentence. `PEM` stays as it is.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}
