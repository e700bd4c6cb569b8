//! The lists of command lines, and how they are written: see the head of `commands.txt`.

use crate::parity::rules::Rule;

/// Every forwarded command with good and bad arguments.
pub(super) const COMMANDS: &str = include_str!("commands.txt");
/// What belongs to a connection: its state, transactions, and what is refused.
pub(super) const SESSIONS: &str = include_str!("sessions.txt");

/// One command line.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) rule: Rule,
    pub(super) words: Vec<Vec<u8>>,
    /// As written, for messages.
    pub(super) text: String,
}

impl Row {
    pub(super) fn new(rule: Rule, words: Vec<Vec<u8>>) -> Row {
        let text = words
            .iter()
            .map(|word| word.escape_ascii().to_string())
            .collect::<Vec<_>>()
            .join(" ");
        Row { rule, words, text }
    }

    /// Its words, `{last}` replaced.
    pub(super) fn fill(&self, last: &[u8]) -> Vec<Vec<u8>> {
        let fill = |word: &Vec<u8>| if word == b"{last}" { last } else { word }.to_vec();
        self.words.iter().map(fill).collect()
    }

    /// True if it is sent when all replies before it are in: it needs the last one, or it is a login that may fail. To such
    /// a one servers since 7.2 give no reply at all when another reply of the same client is still unsent.
    pub(super) fn waits(&self) -> bool {
        self.words
            .iter()
            .any(|word| word == b"{last}" || word == b"password")
    }
}

/// The rows of a list.
pub(super) fn rows(list: &str) -> Vec<Row> {
    list.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(row)
        .collect()
}

fn row(line: &str) -> Row {
    let (rule, command) = match line.split_once(' ') {
        Some((word, rest)) if word.starts_with('@') => (Rule::named(word), rest),
        _ => (Rule::Bytes, line),
    };
    Row::new(rule, words(command))
}

fn words(line: &str) -> Vec<Vec<u8>> {
    let (mut found, mut rest) = (Vec::new(), line.bytes().peekable());
    while let Some(first) = rest.next() {
        let mut word = Vec::new();
        match first {
            b' ' => continue,
            b'\'' => word.extend(rest.by_ref().take_while(|byte| *byte != b'\'')),
            b'"' => {
                while let Some(byte) = rest.next().filter(|byte| *byte != b'"') {
                    word.push(if byte == b'\\' {
                        escaped(&mut rest)
                    } else {
                        byte
                    });
                }
            }
            byte => {
                word.push(byte);
                while let Some(byte) = rest.next_if(|byte| *byte != b' ') {
                    word.push(byte);
                }
            }
        }
        found.push(word);
    }
    found
}

fn escaped(rest: &mut impl Iterator<Item = u8>) -> u8 {
    match rest.next().unwrap() {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
        }
        other => other,
    }
}

#[test]
fn a_line_is_split_as_redis_cli_splits_it() {
    let row = row(r#"@bag SET a "b \x00\n\"" '' x"#);
    assert_eq!(row.rule, Rule::Bag);
    let expect: [&[u8]; 5] = [b"SET", b"a", b"b \x00\n\"", b"", b"x"];
    assert_eq!(row.words, expect);
}
