//! Golden rows: what real servers answer to COMMAND GETKEYS, and which of them accept which newer commands and options.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use crate::SERVERS;
use crate::command::{Begin, Find, Key};
use crate::server::Server;
use crate::table::Union;
use crate::value::Value;

/// Commands whose keys move, or whose options could be taken for others.
const GETKEYS_SAMPLES: &str = include_str!("getkeys_samples.txt");

/// Commands and options that not every server knows, and some that all do.
const KNOWS_SAMPLES: &str = include_str!("knows_samples.txt");

/// What the servers hold before each of those.
const KNOWS_SEEDS: &str = "SET string abc\nHSET hash f v\nZADD zset 1 m\nXADD stream 1-1 f v\nXGROUP CREATE stream group 0";

/// One row per sample and distinct answer: servers, command, keys (or `!` and the error).
pub(crate) fn getkeys(union: &Union, servers: &mut [Server]) -> Result<String, Box<dyn Error>> {
    let mut samples: Vec<(BTreeSet<&'static str>, Vec<String>)> = Vec::new();
    for (name, row) in &union.rows {
        for args in samples_of(name, row.command.arity.unwrap_or(-2), &row.command.keys) {
            samples.push((row.since.clone(), args));
        }
    }
    for line in lines(GETKEYS_SAMPLES) {
        samples.push((SERVERS.iter().map(|(name, _)| *name).collect(), line));
    }
    let mut text =
        "# servers\tcommand\tits keys, as COMMAND GETKEYS of those servers answers. Generated.\n"
            .to_owned();
    for (known, args) in samples {
        let mut answers: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for server in servers
            .iter_mut()
            .filter(|server| known.contains(server.name))
        {
            let mut request = vec!["COMMAND".to_owned(), "GETKEYS".to_owned()];
            request.extend(args.iter().cloned());
            let answer = match server.call(&request)? {
                // Of an error only that it is one: the texts differ, and none of them reaches a client through us.
                Value::Failure(text) if text.contains("no key arguments") => "!none".to_owned(),
                Value::Failure(_) => "!refused".to_owned(),
                keys => quoted(keys.elements().iter().map(Value::text)),
            };
            answers.entry(answer).or_default().push(server.name);
        }
        for (answer, names) in answers {
            text.push_str(&format!(
                "{}\t{}\t{answer}\n",
                names.join(","),
                quoted(args.iter().map(String::as_str))
            ));
        }
    }
    Ok(text)
}

/// One row per sample: the servers that accept it, and the command.
pub(crate) fn knows(servers: &mut [Server]) -> Result<String, Box<dyn Error>> {
    let mut text = "# servers that know it\tcommand. Generated.\n".to_owned();
    for args in lines(KNOWS_SAMPLES) {
        let mut names = Vec::new();
        for server in servers.iter_mut() {
            server.call(&["FLUSHALL"])?;
            for seed in lines(KNOWS_SEEDS) {
                server.call(&seed)?;
            }
            if !is_unknown(&server.call(&args)?) {
                names.push(server.name);
            }
        }
        let names = if names.is_empty() {
            "-".to_owned()
        } else {
            names.join(",")
        };
        text.push_str(&format!(
            "{names}\t{}\n",
            quoted(args.iter().map(String::as_str))
        ));
    }
    Ok(text)
}

/// Errors that say "I do not know this", as opposed to "there is no such key".
fn is_unknown(answer: &Value) -> bool {
    let Value::Failure(text) = answer else {
        return false;
    };
    let text = text.to_lowercase();
    [
        "syntax error",
        "unknown command",
        "unknown subcommand",
        "wrong number of arguments",
        "unsupported option",
        "invalid stream id",
        "unsupported unit",
        "unknown argument",
    ]
    .iter()
    .any(|part| text.contains(part))
}

/// Arguments that fit the arity and the key specs: `a1 a2 …`, with counts and words where the specs want them.
fn samples_of(name: &str, arity: i64, keys: &[Key]) -> Vec<Vec<String>> {
    if keys.is_empty() {
        return Vec::new();
    }
    let words: Vec<&str> = name.split('|').collect();
    let least = usize::try_from(arity.unsigned_abs())
        .unwrap_or(1)
        .max(words.len());
    let most = if arity < 0 { least + 4 } else { least };
    (least..=most)
        .map(|count| {
            let mut args: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            args.extend((words.len()..count).map(|index| format!("a{index}")));
            for key in keys {
                fit(key, &mut args);
            }
            args
        })
        .collect()
}

fn fit(key: &Key, args: &mut Vec<String>) {
    match (&key.begin, &key.find) {
        (Begin::Index(index), Find::Counted(count_at, first, step)) => {
            let at = usize::try_from(index + count_at).unwrap_or(0);
            let room = args
                .len()
                .saturating_sub(usize::try_from(index + first).unwrap_or(0));
            if let Some(arg) = args.get_mut(at) {
                *arg = (room / usize::try_from(*step).unwrap_or(1))
                    .max(1)
                    .to_string();
            }
        }
        (Begin::Keyword(word, _), _) => {
            let next = args.len();
            args.push(word.clone());
            args.extend((next + 1..next + 5).map(|index| format!("a{index}")));
        }
        (Begin::Index(_), Find::Range(..)) => {}
    }
}

fn lines(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            line.split(' ')
                .map(|word| {
                    if word == "''" {
                        String::new()
                    } else {
                        word.to_owned()
                    }
                })
                .collect()
        })
        .collect()
}

fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words
        .map(|word| if word.is_empty() { "''" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}
