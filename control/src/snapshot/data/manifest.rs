//! The manifest of a multi-part append-only file (Redis 7 and later): which files there are, and in which order.
//!
//! ```text
//!   file appendonly.aof.1.base.rdb seq 1 type b
//!   file appendonly.aof.4.incr.aof seq 4 type i      type h: history, about to be deleted; nobody loads it
//! ```

use std::io;
use std::path::Path;

use super::Damage;

/// Largest manifest that is read; a server writes some hundred bytes. Default: 1 MiB.
const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;

/// A file that a server would load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name, in the manifest's directory.
    pub(super) file: String,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Base,
    Increment,
    History,
}

/// The files that a server would load, in order.
pub(super) fn read(path: &Path, name: &str) -> Result<Vec<Entry>, Damage> {
    let unread = |cause| Damage::Read {
        path: name.to_owned(),
        cause,
    };
    let bytes = std::fs::metadata(path).map_err(unread)?.len();
    if bytes > MANIFEST_BYTES_MAX {
        return Err(unread(io::Error::other(format!(
            "{bytes} bytes are too many for a manifest"
        ))));
    }
    let text = std::fs::read(path).map_err(unread)?;
    parse(&String::from_utf8_lossy(&text)).map_err(|(line, what)| Damage::Manifest {
        path: name.to_owned(),
        line,
        what,
    })
}

fn parse(text: &str) -> Result<Vec<Entry>, (usize, String)> {
    let (mut base, mut increments, mut last_seq) = (None, Vec::new(), 0);
    for (at, line) in text.lines().enumerate() {
        let wrong = |what: &str| (at + 1, what.to_owned());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words = split(line).ok_or_else(|| wrong("a quote is not closed"))?;
        let (mut file, mut seq, mut role) = (None, None, None);
        for pair in words.chunks(2) {
            let [key, value] = pair else {
                return Err(wrong("a name without a value"));
            };
            match key.to_ascii_lowercase().as_str() {
                "file" if value.contains('/') => return Err(wrong("a path in place of a name")),
                "file" => file = Some(value.clone()),
                "seq" => seq = value.parse::<u64>().ok(),
                "type" => {
                    role = match value.as_str() {
                        "b" => Some(Role::Base),
                        "i" => Some(Role::Increment),
                        "h" => Some(Role::History),
                        _ => None,
                    }
                }
                _ => {} // Newer servers say more.
            }
        }
        let (Some(file), Some(seq), Some(role)) = (file, seq, role) else {
            return Err(wrong("no file, seq and type"));
        };
        let entry = Entry { file };
        match role {
            Role::History => {}
            Role::Base if base.is_some() => return Err(wrong("a second base")),
            Role::Base => base = Some(entry),
            Role::Increment if seq <= last_seq => return Err(wrong("seq goes back")),
            Role::Increment => {
                last_seq = seq;
                increments.push(entry);
            }
        }
    }
    let all: Vec<Entry> = base.into_iter().chain(increments).collect();
    match all.is_empty() {
        true => Err((0, "it names no file".to_owned())),
        false => Ok(all),
    }
}

/// Words of a line; one in quotes may hold blanks and escapes. `None` when a quote is not closed.
fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                (word.to_owned(), after)
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    Some(words)
}

fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut chars = text.char_indices();
    while let Some((at, next)) = chars.next() {
        match next {
            '"' => return Some((word, text.get(at + 1..).unwrap_or_default())),
            '\\' => word.push(match chars.next()?.1 {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            other => word.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn files(text: &str) -> Result<Vec<String>, (usize, String)> {
        let entries = parse(text)?;
        Ok(entries.into_iter().map(|it| it.file).collect())
    }

    #[test]
    fn base_and_increments_are_read_in_order_and_history_is_not() {
        let text = "# made by hand\nfile a.2.base.rdb seq 2 type b\nfile a.1.base.rdb seq 1 type h\n\
            file a.3.incr.aof seq 3 type i startoffset 17\nfile \"a b\\\".4.incr.aof\" seq 4 type i\n";
        let expect = ["a.2.base.rdb", "a.3.incr.aof", "a b\".4.incr.aof"];
        assert_eq!(files(text).unwrap(), expect);
    }

    #[test]
    fn what_no_server_wrote_is_refused_with_its_line() {
        for (text, line, what) in [
            ("", 0, "names no file"),
            ("file a seq 1\n", 1, "no file, seq and type"),
            (
                "file a seq 1 type i\nfile b seq 1 type i\n",
                2,
                "seq goes back",
            ),
            (
                "file a seq 1 type b\nfile b seq 2 type b\n",
                2,
                "second base",
            ),
            ("file ../a seq 1 type b\n", 1, "a path"),
            ("file \"a seq 1 type b\n", 1, "quote"),
            ("file a seq\n", 1, "without a value"),
        ] {
            let (at, why) = files(text).unwrap_err();
            assert!(at == line && why.contains(what), "{text}: {at}: {why}");
        }
    }
}
