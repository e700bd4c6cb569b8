//! The union of all servers' commands, and the Rust that says it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::command::{Begin, Catalogue, Command, Find, Key};
use crate::{BELIEVED, SERVERS};

/// Every command that some server knows.
pub(crate) struct Union {
    pub(crate) rows: BTreeMap<String, Row>,
}

/// One command: what the most believed server says, and which servers know it.
pub(crate) struct Row {
    pub(crate) command: Command,
    pub(crate) since: BTreeSet<&'static str>,
    /// Words that not all of `since` know.
    options: BTreeMap<String, BTreeSet<&'static str>>,
}

/// What the docs of some versions leave out, where the operation was a plain string to them.
const KNOWN_TO_ALL: [(&str, &[&str]); 4] = [
    ("bitop", &["AND", "OR", "XOR", "NOT"]),
    ("commandlog|get", &["SLOW", "LARGE-REPLY", "LARGE-REQUEST"]),
    ("commandlog|len", &["SLOW", "LARGE-REPLY", "LARGE-REQUEST"]),
    (
        "commandlog|reset",
        &["SLOW", "LARGE-REPLY", "LARGE-REQUEST"],
    ),
];

/// Words that Redis 6.2 does not know, though the docs of 7.0 give them no `since`.
const NEW_IN_7_0: [(&str, &str); 2] = [
    ("xgroup|create", "ENTRIESREAD"),
    ("xgroup|setid", "ENTRIESREAD"),
];

/// Commands that may write to the replication stream. Redis 7.0 and later keep that flag to themselves; 6.2 shows it.
const MAY_REPLICATE: [&str; 2] = ["fcall", "spublish"];

impl Union {
    /// Joins the catalogues.
    pub(crate) fn of(catalogues: &BTreeMap<&'static str, Catalogue>) -> Union {
        let names: BTreeSet<&String> = catalogues
            .values()
            .flat_map(|it| it.commands.keys())
            .collect();
        Union {
            rows: names
                .into_iter()
                .map(|name| (name.clone(), row(name, catalogues)))
                .collect(),
        }
    }

    /// How many commands, containers counted once.
    pub(crate) fn len(&self) -> usize {
        self.rows.keys().filter(|name| !name.contains('|')).count()
    }

    /// The file `table.rs`.
    pub(crate) fn to_rust(&self) -> String {
        let mut body = String::new();
        for (name, row) in self.rows.iter().filter(|(name, _)| !name.contains('|')) {
            let prefix = format!("{name}|");
            let subs: Vec<_> = self
                .rows
                .iter()
                .filter(|(sub, _)| sub.starts_with(&prefix))
                .collect();
            let _ = write!(body, "    {}", constructor(name, row));
            if !subs.is_empty() {
                body.push_str(".subcommands(&[\n");
                for (name, row) in subs {
                    let _ = writeln!(body, "        {},", constructor(name, row));
                }
                body.push_str("    ])");
            }
            body.push_str(",\n");
        }
        let used = |word: &str| {
            body.split(|it: char| !it.is_alphanumeric() && it != '_')
                .any(|found| found == word)
        };
        let list = |words: &[&'static str]| {
            words
                .iter()
                .copied()
                .filter(|word| used(word))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let versions: Vec<String> = SERVERS
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        format!(
            "//! Every command of the measured servers. Generated, not written: `generate_command_table` in crates/lab/examples.\n\
             //! Measured: {}.\n\n\
             use super::flags::bit::{{{}}};\n\
             use super::server::{{{}}};\n\
             use super::spec::{{CommandSpec, KeyAccess, at, behind, command, option}};\n\n\
             use KeyAccess::{{{}}};\n\n\
             /// By name; subcommands with their containers.\n\
             pub(super) static TABLE: [CommandSpec; {}] = [\n{body}];\n",
            versions.join(", "),
            list(&FLAGS.map(|(_, word)| word)),
            list(&["ALL", "R62", "R70", "R82", "V81", "V91"]),
            list(&["NotKey", "Overwrite", "ReadOnly", "ReadWrite", "Remove"]),
            self.len(),
        )
    }
}

fn row(name: &str, catalogues: &BTreeMap<&'static str, Catalogue>) -> Row {
    let by_server = |server: &'static str| {
        catalogues
            .get(server)
            .and_then(|it| it.commands.get(name))
            .map(|it| (server, it))
    };
    let known: Vec<(&'static str, &Command)> = BELIEVED.into_iter().filter_map(by_server).collect();
    let since: BTreeSet<&'static str> = known.iter().map(|(server, _)| *server).collect();
    let mut command = known[0].1.clone();
    for (server, other) in &known[1..] {
        if other.arity.is_some() && other.arity != command.arity {
            eprintln!(
                "{name}: arity {:?}, but {:?} on {server}",
                command.arity, other.arity
            );
        }
        if *server != "r62" && other.keys != command.keys {
            eprintln!(
                "{name}: keys {:?}, but {:?} on {server}",
                command.keys, other.keys
            );
        }
        // A subcommand that 6.2 knows by HELP only has its container's flags there.
        if other.arity.is_some() && other.flags.contains("may_replicate") {
            command.flags.insert("may_replicate".into());
        }
    }
    if MAY_REPLICATE.contains(&name) {
        command.flags.insert("may_replicate".into());
    }
    if since.iter().eq(["r62"].iter()) {
        command.keys = legacy_keys(&command);
    }
    if name == "publish" {
        // It has no key spec; routed by its channel, as SPUBLISH.
        command.keys = vec![Key {
            begin: Begin::Index(1),
            find: Find::Range(0, 1, 0),
            access: "NotKey",
        }];
    }
    let options = options(name, &known, &since);
    command.options_from = known
        .iter()
        .map(|(_, it)| it.options_from)
        .filter(|from| *from > 0)
        .min()
        .unwrap_or(1);
    Row {
        command,
        since,
        options,
    }
}

/// Which servers know which option words; only words that some server lacks.
fn options(
    name: &str,
    known: &[(&'static str, &Command)],
    since: &BTreeSet<&'static str>,
) -> BTreeMap<String, BTreeSet<&'static str>> {
    let words: BTreeSet<&String> = known.iter().flat_map(|(_, it)| it.options.keys()).collect();
    let mut options = BTreeMap::new();
    for word in words {
        if KNOWN_TO_ALL
            .iter()
            .any(|(command, words)| *command == name && words.contains(&word.as_str()))
        {
            continue;
        }
        let mut knows: BTreeSet<&'static str> = BTreeSet::new();
        for (server, command) in known {
            if let Some(version) = command.options.get(word) {
                knows.insert(server);
                // Redis 6.2 has no docs: it knows what was there before 7.0.
                let is_old = *server == "r70"
                    && version.as_str() < "7"
                    && !NEW_IN_7_0.contains(&(name, word));
                if is_old && since.contains("r62") {
                    knows.insert("r62");
                }
            }
        }
        if knows != *since {
            options.insert(word.clone(), knows);
        }
    }
    options
}

/// First, last and step of a server without key specs.
fn legacy_keys(command: &Command) -> Vec<Key> {
    let [first, last, step] = command.legacy;
    if first == 0 {
        return Vec::new();
    }
    let last = if last < 0 { last } else { last - first };
    let access = if command.flags.contains("write") {
        "ReadWrite"
    } else {
        "ReadOnly"
    };
    vec![Key {
        begin: Begin::Index(first),
        find: Find::Range(last, step, 0),
        access,
    }]
}

/// `command("get", 2, READONLY | FAST, ALL).keys(&[at(1, ReadOnly)])`.
fn constructor(name: &str, row: &Row) -> String {
    let flags: Vec<&str> = FLAGS
        .iter()
        .filter(|(flag, _)| row.command.flags.contains(*flag))
        .map(|(_, word)| *word)
        .collect();
    let flags = if flags.is_empty() {
        "0".to_owned()
    } else {
        flags.join(" | ")
    };
    let arity = row.command.arity.unwrap_or(-2);
    let mut text = format!(
        "command({name:?}, {arity}, {flags}, {})",
        servers(&row.since)
    );
    if !row.command.keys.is_empty() {
        let keys: Vec<String> = row.command.keys.iter().map(key).collect();
        let _ = write!(text, ".keys(&[{}])", keys.join(", "));
    }
    if !row.options.is_empty() {
        let from = row.command.options_from;
        let options: Vec<String> = row
            .options
            .iter()
            .map(|(word, since)| format!("option({word:?}, {from}, {})", servers(since)))
            .collect();
        let _ = write!(text, ".options(&[{}])", options.join(", "));
    }
    text
}

fn key(key: &Key) -> String {
    let begin = match &key.begin {
        Begin::Index(index) => format!("at({index}, {})", key.access),
        Begin::Keyword(word, from) => format!("behind({word:?}, {from}, {})", key.access),
    };
    match key.find {
        Find::Range(0, 1, 0) => begin,
        Find::Range(last, step, limit) => format!("{begin}.range({last}, {step}, {limit})"),
        Find::Counted(count_at, first, step) => {
            format!("{begin}.counted({count_at}, {first}, {step})")
        }
    }
}

fn servers(since: &BTreeSet<&'static str>) -> String {
    if since.len() == SERVERS.len() {
        return "ALL".to_owned();
    }
    let names: Vec<String> = SERVERS
        .iter()
        .filter(|(name, _)| since.contains(name))
        .map(|(name, _)| name.to_uppercase())
        .collect();
    names.join(" | ")
}

/// Flags as COMMAND names them, and the names of their bits. What is not here is left out of the table.
const FLAGS: [(&str, &str); 20] = [
    ("write", "WRITE"),
    ("readonly", "READONLY"),
    ("denyoom", "DENYOOM"),
    ("admin", "ADMIN"),
    ("pubsub", "PUBSUB"),
    ("noscript", "NOSCRIPT"),
    ("blocking", "BLOCKING"),
    ("loading", "LOADING"),
    ("stale", "STALE"),
    ("skip_monitor", "SKIP_MONITOR"),
    ("skip_slowlog", "SKIP_SLOWLOG"),
    ("asking", "ASKING"),
    ("fast", "FAST"),
    ("no_auth", "NO_AUTH"),
    ("may_replicate", "MAY_REPLICATE"),
    ("no_mandatory_keys", "NO_MANDATORY_KEYS"),
    ("movablekeys", "MOVABLEKEYS"),
    ("allow_busy", "ALLOW_BUSY"),
    ("no_async_loading", "NO_ASYNC_LOADING"),
    ("no_multi", "NO_MULTI"),
];
