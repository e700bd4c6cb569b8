//! What one server says about its commands: COMMAND, COMMAND DOCS, and HELP where COMMAND has no subcommands yet.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use crate::server::Server;
use crate::value::Value;

/// The commands of one server by full name (`client|setname`).
pub(crate) struct Catalogue {
    pub(crate) commands: BTreeMap<String, Command>,
}

/// One command or subcommand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Command {
    /// `None` if it is only known from a HELP text.
    pub(crate) arity: Option<i64>,
    pub(crate) flags: BTreeSet<String>,
    pub(crate) keys: Vec<Key>,
    /// First, last, step: all there is before 7.0.
    pub(crate) legacy: [i64; 3],
    /// Option words and since when they are known, as COMMAND DOCS says it; empty: since the command is.
    pub(crate) options: BTreeMap<String, String>,
    /// The first argument that may be an option.
    pub(crate) options_from: usize,
}

/// One key spec.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) begin: Begin,
    pub(crate) find: Find,
    pub(crate) access: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Begin {
    Index(i64),
    Keyword(String, i64),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Find {
    Range(i64, i64, i64),
    Counted(i64, i64, i64),
}

impl Catalogue {
    /// Asks a server for everything.
    pub(crate) fn ask(server: &mut Server) -> Result<Catalogue, Box<dyn Error>> {
        let mut commands = BTreeMap::new();
        let answer = server.call(&["COMMAND"])?;
        for entry in answer.elements() {
            add(&mut commands, entry);
        }
        if server.name == "r62" {
            subcommands_by_help(server, &mut commands)?;
            // Answered before the table is looked at.
            commands.insert(
                "quit".into(),
                Command {
                    arity: Some(-1),
                    ..Command::default()
                },
            );
        } else {
            for (name, docs) in server.call(&["COMMAND", "DOCS"])?.pairs() {
                add_docs(&mut commands, name, docs);
            }
        }
        Ok(Catalogue { commands })
    }
}

fn add(commands: &mut BTreeMap<String, Command>, entry: &Value) {
    let [name, arity, flags, first, last, step, rest @ ..] = entry.elements() else {
        return;
    };
    let flags: BTreeSet<String> = flags
        .elements()
        .iter()
        .map(|flag| flag.text().to_owned())
        .collect();
    if flags.contains("module") {
        return;
    }
    let command = Command {
        arity: Some(arity.integer()),
        flags,
        keys: rest
            .get(2)
            .map(|specs| specs.elements().iter().filter_map(key).collect())
            .unwrap_or_default(),
        legacy: [first.integer(), last.integer(), step.integer()],
        ..Command::default()
    };
    commands.insert(name.text().to_lowercase(), command);
    for sub in rest.get(3).map(Value::elements).unwrap_or_default() {
        add(commands, sub);
    }
}

/// A key spec; `None` for the "unknown" ones of SORT, which the proxy finds by code.
fn key(spec: &Value) -> Option<Key> {
    let flags: BTreeSet<&str> = spec
        .field("flags")?
        .elements()
        .iter()
        .map(Value::text)
        .collect();
    let (begin, find) = (spec.field("begin_search")?, spec.field("find_keys")?);
    let (begin_spec, find_spec) = (begin.field("spec")?, find.field("spec")?);
    let number = |spec: &Value, name: &str| spec.field(name).map_or(0, Value::integer);
    let begin = match begin.field("type")?.text() {
        "index" => Begin::Index(number(begin_spec, "index")),
        "keyword" => Begin::Keyword(
            begin_spec.field("keyword")?.text().to_owned(),
            number(begin_spec, "startfrom"),
        ),
        _ => return None,
    };
    let find = match find.field("type")?.text() {
        "range" => Find::Range(
            number(find_spec, "lastkey"),
            number(find_spec, "keystep"),
            number(find_spec, "limit"),
        ),
        "keynum" => Find::Counted(
            number(find_spec, "keynumidx"),
            number(find_spec, "firstkey"),
            number(find_spec, "keystep"),
        ),
        _ => return None,
    };
    let access = if flags.contains("not_key") {
        "NotKey"
    } else if flags.contains("RO") {
        "ReadOnly"
    } else if flags.contains("OW") {
        "Overwrite"
    } else if flags.contains("RM") {
        "Remove"
    } else {
        "ReadWrite"
    };
    Some(Key {
        begin,
        find,
        access,
    })
}

/// Redis 6.2 does not list subcommands; its containers tell them by HELP.
fn subcommands_by_help(
    server: &mut Server,
    commands: &mut BTreeMap<String, Command>,
) -> Result<(), Box<dyn Error>> {
    let containers: Vec<(String, Command)> = commands
        .iter()
        .map(|(name, it)| (name.clone(), it.clone()))
        .collect();
    for (name, container) in containers {
        // Only containers have a HELP, and only of them is it safe to ask. CLUSTER is refused outside of a cluster; the proxy
        // refuses all of it, so nothing is lost.
        let is_container = [
            "acl", "client", "command", "config", "latency", "memory", "module", "object",
            "pubsub", "script", "slowlog", "xgroup", "xinfo",
        ]
        .contains(&name.as_str());
        if !is_container {
            continue;
        }
        let mut words = BTreeSet::from(["HELP".to_owned()]);
        let help = server.call(&[name.as_str(), "HELP"])?;
        for line in help
            .elements()
            .iter()
            .skip(1)
            .map(Value::text)
            .filter(|line| !line.starts_with(' '))
        {
            let word = line.split([' ', '<', '(']).next().unwrap_or_default();
            if !word.is_empty()
                && word
                    .chars()
                    .all(|letter| letter.is_ascii_uppercase() || letter == '-')
            {
                words.insert(word.to_owned());
            }
        }
        if words.len() == 1 {
            return Err(format!("{name} HELP says {help:?}").into());
        }
        for word in words {
            // Flags and keys of the container; 7.0 knows better and is believed first.
            commands.insert(
                format!("{name}|{}", word.to_lowercase()),
                Command {
                    arity: None,
                    ..container.clone()
                },
            );
        }
    }
    Ok(())
}

fn add_docs(commands: &mut BTreeMap<String, Command>, name: &str, docs: &Value) {
    if let (Some(command), Some(arguments)) = (commands.get_mut(name), docs.field("arguments")) {
        collect_options(arguments, "", &mut command.options);
        let fixed = arguments
            .elements()
            .iter()
            .take_while(|argument| is_fixed(argument))
            .count();
        command.options_from = 1 + usize::from(name.contains('|')) + fixed;
    }
    for (name, docs) in docs.field("subcommands").into_iter().flat_map(Value::pairs) {
        add_docs(commands, name, docs);
    }
}

fn collect_options(arguments: &Value, since: &str, options: &mut BTreeMap<String, String>) {
    for argument in arguments.elements() {
        let since = argument.field("since").map_or(since, Value::text);
        if let Some(token) = argument.field("token") {
            let word = token.text().to_uppercase();
            if word.chars().any(|letter| letter.is_ascii_alphabetic()) {
                options.entry(word).or_insert_with(|| since.to_owned());
            }
        }
        if let Some(inner) = argument.field("arguments") {
            collect_options(inner, since, options);
        }
    }
}

/// True for an argument that is always there and is no option.
fn is_fixed(argument: &Value) -> bool {
    let kind = argument.field("type").map_or("", Value::text);
    argument.field("token").is_none()
        && argument.field("flags").is_none()
        && !matches!(kind, "oneof" | "block" | "pure-token")
}
