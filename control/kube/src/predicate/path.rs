//! Where a question looks: a variable and an RFC 9535 JSONPath in it.

use std::fmt;

use serde_json::Value;
use serde_json_path::JsonPath;

/// A JSONPath that was understood.
#[derive(Clone)]
pub struct Path {
    text: String,
    path: JsonPath,
}

impl Path {
    /// Reads one; the error says what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        match JsonPath::parse(text) {
            Ok(path) => Ok(Self {
                text: text.to_owned(),
                path,
            }),
            Err(cause) => Err(format!("`{text}` is not a JSONPath: {cause}")),
        }
    }

    /// What it selects, nulls left out; nothing when the path leads nowhere.
    #[must_use]
    pub fn select<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        self.path
            .query(value)
            .all()
            .into_iter()
            .filter(|value| !value.is_null())
            .collect()
    }

    /// Whether it looks at what a controller says, rather than at what was asked of it.
    #[must_use]
    pub fn is_below_status(&self) -> bool {
        let rest = self.text.strip_prefix('$').unwrap_or_default();
        [".status", "['status']", "[\"status\"]"]
            .iter()
            .any(|status| {
                rest.strip_prefix(status)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// A path in a variable: `content:$.status.snapshotHandle`, or `$.status.phase` for the object at hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Ref {
    /// The variable; none for the object at hand.
    pub on: Option<String>,
    /// The path in it.
    pub path: Path,
}

impl Ref {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (on, path) = match text.split_once(':') {
            Some((on, path)) if is_name(on) => (Some(on.to_owned()), path),
            _ => (None, text),
        };
        Ok(Self {
            on,
            path: Path::parse(path.trim())?,
        })
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(on) = &self.on {
            write!(out, "{on}:")?;
        }
        out.write_str(self.path.as_str())
    }
}

/// Whether a text can name a variable.
pub(crate) fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}
