//! A YAML file as a tree that knows its lines, so that every problem can be reported with its place, and all at once.
//!
//! Small on purpose: one document, text keys, no aliases. What a value means is decided by who takes it.

use granit_parser::{Event, Parser, ScalarStyle, Span};

use crate::problem::Problem;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing: `key:`, `key: ~` or `key: null`.
    Nothing,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a map with its value. Keys may repeat: whoever takes them complains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) value: Node,
}

impl Node {
    /// What it is, for a sentence.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Nothing => "nothing",
            Value::Text(_) => "one value",
            Value::List(_) => "a list",
            Value::Map(_) => "a section",
        }
    }

    /// The value of a key of a map.
    pub(crate) fn at(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| &entry.value),
            Value::Nothing | Value::Text(_) | Value::List(_) => None,
        }
    }
}

/// Reads one document. An empty file is `Nothing`. Nesting is limited by the parser (255 levels of each kind).
pub(crate) fn read(yaml: &str) -> Result<Node, Problem> {
    let mut tree = Tree::default();
    for event in Parser::new_from_str(yaml) {
        let (event, span) = event.map_err(|error| {
            let what = format!("this is not YAML: {}", error.info());
            problem(
                error.marker().line(),
                what,
                "check quotes, colons and indentation around this line",
            )
        })?;
        tree.accept(event, span)?;
    }
    Ok(tree.root.unwrap_or(Node {
        line: 0,
        value: Value::Nothing,
    }))
}

fn problem(line: usize, what: impl Into<String>, remedy: &str) -> Problem {
    Problem {
        path: String::new(),
        line,
        what: what.into(),
        remedy: remedy.to_owned(),
    }
}

/// A list or map whose end has not been read.
enum Open {
    List {
        line: usize,
        items: Vec<Node>,
    },
    Map {
        line: usize,
        entries: Vec<Entry>,
        key: Option<(String, usize)>,
    },
}

#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
}

impl Tree {
    fn accept(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(problem(
                        line,
                        "a second document starts here",
                        "keep one document in a file",
                    ));
                }
                Ok(())
            }
            Event::Scalar(text, style, _, _) => {
                let nothing = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null");
                let value = if nothing {
                    Value::Nothing
                } else {
                    Value::Text(text.into_owned())
                };
                self.put(Node { line, value })
            }
            Event::SequenceStart(..) => {
                self.open.push(Open::List {
                    line,
                    items: Vec::new(),
                });
                Ok(())
            }
            Event::MappingStart(..) => {
                self.open.push(Open::Map {
                    line,
                    entries: Vec::new(),
                    key: None,
                });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { line, items }) => self.put(Node {
                    line,
                    value: Value::List(items),
                }),
                Some(Open::Map { line, entries, .. }) => self.put(Node {
                    line,
                    value: Value::Map(entries),
                }),
                None => Ok(()),
            },
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                Err(problem(line, "aliases are not read", "write the value out"))
            }
            _ => Ok(()), // Starts and ends of stream and document, and what only presentation needs.
        }
    }

    fn put(&mut self, node: Node) -> Result<(), Problem> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                Some((key, line)) => entries.push(Entry {
                    key,
                    line,
                    value: node,
                }),
                None => match node.value {
                    Value::Text(text) => *key = Some((text, node.line)),
                    Value::Nothing | Value::List(_) | Value::Map(_) => {
                        return Err(problem(
                            node.line,
                            "the key before this colon is no name",
                            "write a name before the colon",
                        ));
                    }
                },
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Node, Value, read};

    fn shown(node: &Node) -> String {
        let line = node.line;
        match &node.value {
            Value::Nothing => format!("{line}:-"),
            Value::Text(text) => format!("{line}:{text:?}"),
            Value::List(items) => format!(
                "{line}:[{}]",
                items.iter().map(shown).collect::<Vec<_>>().join(" ")
            ),
            Value::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|entry| format!("{}@{}={}", entry.key, entry.line, shown(&entry.value)))
                    .collect();
                format!("{line}:{{{}}}", entries.join(" "))
            }
        }
    }

    #[track_caller]
    fn check(yaml: &str, expect: &str) {
        match read(yaml) {
            Ok(node) => assert_eq!(shown(&node), expect),
            Err(problem) => assert_eq!(problem.to_string(), expect),
        }
    }

    #[test]
    fn values_know_their_lines() {
        check(
            "a: 1\nb:\n  - x\n  - { c: 'y z' }\n",
            r#"1:{a@1=1:"1" b@2=3:[3:"x" 4:{c@4=4:"y z"}]}"#,
        );
        check("# only a comment\n", "0:-");
        check("", "0:-");
    }

    #[test]
    fn nothing_is_not_a_text() {
        check(
            "a:\nb: ~\nc: null\nd: ''\n",
            r#"1:{a@1=1:- b@2=2:- c@3=3:- d@4=4:""}"#,
        );
    }

    #[test]
    fn what_is_not_read_is_said() {
        check(
            "a: [1\n",
            "line 1: this is not YAML: unclosed bracket '['; check quotes, colons and indentation around this line",
        );
        check(
            "a: &x 1\nb: *x\n",
            "line 2: aliases are not read; write the value out",
        );
        check(
            "a: 1\n---\nb: 1\n",
            "line 2: a second document starts here; keep one document in a file",
        );
        check(
            "? [a]\n: 1\n",
            "line 1: the key before this colon is no name; write a name before the colon",
        );
    }
}
