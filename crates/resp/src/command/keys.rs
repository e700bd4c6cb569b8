//! Which arguments of a command are keys.

use std::fmt;

use super::spec::{Begin, CommandSpec, Find, KeyAccess, KeySpec};
use crate::args::Args;

/// Why the keys of a command cannot be named. The server would refuse the command too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// The count of keys is no number, or negative.
    BadCount,
    /// A key is due behind the last argument.
    Missing,
}

impl fmt::Display for KeyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            KeyError::BadCount => "value is not an integer or out of range",
            KeyError::Missing => "Number of keys can't be greater than number of args",
        })
    }
}

impl std::error::Error for KeyError {}

/// Puts the argument indexes of the keys into `out`, which is emptied first; in the order of the specs, as COMMAND GETKEYS
/// answers them. Channels of PUBLISH and SPUBLISH are among them: they route like keys.
///
/// # Errors
/// The arguments do not fit the command. `out` then holds what was found before.
#[inline]
pub fn keys(
    spec: &CommandSpec,
    args: impl Args + Copy,
    out: &mut Vec<usize>,
) -> Result<(), KeyError> {
    out.clear();
    if let Some(index) = spec.single_key() {
        if index >= args.count() {
            return Err(KeyError::Missing);
        }
        out.push(index);
        return Ok(());
    }
    several(spec, args, out)
}

/// As `keys`, without channels: the keys whose data the command touches.
///
/// # Errors
/// As `keys`.
pub fn data_keys(
    spec: &CommandSpec,
    args: impl Args + Copy,
    out: &mut Vec<usize>,
) -> Result<(), KeyError> {
    keys(spec, args, out)?;
    if spec.keys.iter().any(|key| key.access == KeyAccess::NotKey) {
        out.clear();
    }
    Ok(())
}

/// True if the command reads keys that no argument names: SORT with a BY pattern or a GET pattern. They lie on any shard,
/// so the answer is only right where there is one.
#[must_use]
pub fn reaches_unnamed_keys(spec: &CommandSpec, args: impl Args + Copy) -> bool {
    if !matches!(spec.name, "sort" | "sort_ro") {
        return false;
    }
    let mut found = false;
    sort_options(args, |word, index| {
        let pattern = args.arg(index + 1);
        found |= match word {
            SortWord::By => pattern.contains(&b'*'),
            SortWord::Get => pattern != b"#",
            SortWord::Store => false,
        };
    });
    found
}

fn several(
    spec: &CommandSpec,
    args: impl Args + Copy,
    out: &mut Vec<usize>,
) -> Result<(), KeyError> {
    match spec.name {
        "sort" => sort(args, out),
        "migrate" => migrate(args, out),
        "georadius" => georadius(args, 6, out),
        "georadiusbymember" => georadius(args, 5, out),
        "stralgo" => stralgo(args, out),
        _ => spec.keys.iter().try_for_each(|key| by_spec(key, args, out)),
    }
}

fn by_spec(key: &KeySpec, args: impl Args + Copy, out: &mut Vec<usize>) -> Result<(), KeyError> {
    let count = args.count();
    let first = match key.begin {
        Begin::Index(index) => usize::from(index),
        Begin::Keyword { word, from } => match keyword(args, word, from) {
            Some(found) => found + 1,
            None => return Ok(()),
        },
    };
    match key.find {
        Find::Range { last, step, limit } => match usize::try_from(last) {
            Ok(last) => push(out, first, first + last, step, count),
            // To the end, or a part of what is left. That may be nothing: PFMERGE of a destination alone is allowed.
            Err(_) if first >= count => Ok(()),
            Err(_) => {
                let last = match limit {
                    2.. if last == -1 => first + ((count - first) / usize::from(limit)).max(1) - 1,
                    _ => count.saturating_sub(usize::from(last.unsigned_abs())),
                };
                if last < first {
                    Ok(())
                } else {
                    push(out, first, last, step, count)
                }
            }
        },
        Find::Counted {
            count_at,
            first: offset,
            step,
        } => {
            let wanted =
                decimal(args.arg(first + usize::from(count_at))).ok_or(KeyError::BadCount)?;
            let first = first + usize::from(offset);
            if wanted == 0 {
                return Ok(());
            }
            let step_len = usize::from(step.max(1));
            let last = wanted
                .checked_sub(1)
                .and_then(|others| others.checked_mul(step_len))
                .and_then(|span| span.checked_add(first));
            push(out, first, last.ok_or(KeyError::Missing)?, step, count)
        }
    }
}

fn push(
    out: &mut Vec<usize>,
    first: usize,
    last: usize,
    step: u8,
    count: usize,
) -> Result<(), KeyError> {
    if first >= count || last >= count || last < first {
        return Err(KeyError::Missing);
    }
    out.extend((first..=last).step_by(usize::from(step.max(1))));
    Ok(())
}

/// Where a word stands, looked for forwards from `from`, or backwards from `count + from` if that is negative.
fn keyword(args: impl Args + Copy, word: &str, from: i8) -> Option<usize> {
    let is_word = |&index: &usize| args.arg(index).eq_ignore_ascii_case(word.as_bytes());
    match usize::try_from(from) {
        Ok(from) => (from..args.count()).find(is_word),
        Err(_) => (1..=args.count().checked_sub(usize::from(from.unsigned_abs()))?)
            .rev()
            .find(is_word),
    }
}

/// A count of keys, as the servers read one.
fn decimal(arg: &[u8]) -> Option<usize> {
    if arg.is_empty() || arg.len() > 9 {
        return None;
    }
    arg.iter().try_fold(0_usize, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + usize::from(digit - b'0'))
    })
}

/// SORT key … STORE destination. The last STORE wins.
fn sort(args: impl Args + Copy, out: &mut Vec<usize>) -> Result<(), KeyError> {
    push(out, 1, 1, 1, args.count())?;
    let mut store = None;
    sort_options(args, |word, index| {
        if word == SortWord::Store {
            store = Some(index + 1);
        }
    });
    out.extend(store);
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SortWord {
    By,
    Get,
    Store,
}

/// Walks the options of SORT; tells each BY, GET and STORE that has an argument behind it.
fn sort_options(args: impl Args + Copy, mut tell: impl FnMut(SortWord, usize)) {
    let count = args.count();
    let mut index = 2;
    while index < count {
        let word = args.arg(index);
        let known = if word.eq_ignore_ascii_case(b"BY") {
            Some(SortWord::By)
        } else if word.eq_ignore_ascii_case(b"GET") {
            Some(SortWord::Get)
        } else if word.eq_ignore_ascii_case(b"STORE") {
            Some(SortWord::Store)
        } else {
            None
        };
        match known {
            Some(word) if index + 1 < count => {
                tell(word, index);
                index += 2;
            }
            _ if word.eq_ignore_ascii_case(b"LIMIT") => index += 3,
            _ => index += 1,
        }
    }
}

/// MIGRATE host port key …, or with an empty key and KEYS key … at the end.
fn migrate(args: impl Args + Copy, out: &mut Vec<usize>) -> Result<(), KeyError> {
    let count = args.count();
    if args.arg(3).is_empty() {
        let mut index = 6;
        while index < count {
            let word = args.arg(index);
            if word.eq_ignore_ascii_case(b"KEYS") {
                return push(out, index + 1, count - 1, 1, count);
            }
            index += if word.eq_ignore_ascii_case(b"AUTH") {
                2
            } else if word.eq_ignore_ascii_case(b"AUTH2") {
                3
            } else {
                1
            };
        }
    }
    push(out, 3, 3, 1, count)
}

/// GEORADIUS key … STORE key, STOREDIST key. The last of them wins.
fn georadius(
    args: impl Args + Copy,
    options_from: usize,
    out: &mut Vec<usize>,
) -> Result<(), KeyError> {
    let count = args.count();
    push(out, 1, 1, 1, count)?;
    let mut store = None;
    let mut index = options_from;
    while index + 1 < count {
        let word = args.arg(index);
        if word.eq_ignore_ascii_case(b"STORE") || word.eq_ignore_ascii_case(b"STOREDIST") {
            store = Some(index + 1);
            index += 1;
        }
        index += 1;
    }
    out.extend(store);
    Ok(())
}

/// STRALGO LCS … KEYS a b, of Redis 6.2 only; with STRINGS it has no keys.
fn stralgo(args: impl Args + Copy, out: &mut Vec<usize>) -> Result<(), KeyError> {
    match keyword(args, "KEYS", 2) {
        Some(found) => push(out, found + 1, found + 2, 1, args.count()),
        None => Ok(()),
    }
}
