//! What a login may do, found out without doing it.
//!
//! An upgrade that was begun must be able to end. Whoever may fence a server and may not lift the fence leaves a shard that
//! takes no writes. So everything that is said to a server between PLAN and FINALIZE is tried before anything is changed.
//!
//! A command that is queued in a transaction is answered `-NOPERM` where the login may not run it or may not touch its key,
//! and is not executed before EXEC (measured on Redis 6.2.14, 7.0.15 and 8.2.3, Valkey 8.1.8 and 9.1.2). Here EXEC never
//! follows: the connection is our own, and ends with the transaction open. PSYNC cannot be queued since 7.0; there
//! `ACL DRYRUN` tells, where we may ask it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use understudy_config::BackendUrl;
use understudy_net::{Client, Endpoint, Greeting, Value};

use super::error::ServerError;
use super::link::{CONNECTION_NAME, PROBE_KEY};

/// What control, the proxies and the servers' own replication say by one login, each with arguments that it could have.
const NEEDED: [&[&str]; 29] = [
    &["INFO", "everything"],
    &["ROLE"],
    &["TIME"],
    &["PING"],
    &["SELECT", "0"],
    &["CLIENT", "ID"],
    // By their names the plan knows our connections among the other writers.
    &["CLIENT", "SETNAME", CONNECTION_NAME],
    &["CLIENT", "LIST"],
    &["CLIENT", "KILL", "ID", "0"],
    &["CLIENT", "PAUSE", "1", "WRITE"],
    &["CLIENT", "UNPAUSE"],
    &["CLIENT", "UNBLOCK", "0"],
    &["CONFIG", "GET", "save"],
    &["CONFIG", "SET", "replica-read-only", "yes"],
    &["CONFIG", "REWRITE"],
    &["REPLICAOF", "NO", "ONE"],
    &["REPLCONF", "ack", "0"],
    PSYNC,
    &["PUBSUB", "NUMSUB", "__sentinel__:hello"],
    &["SCAN", "0"],
    &["DUMP", PROBE_KEY],
    &["EXISTS", PROBE_KEY],
    &["PTTL", PROBE_KEY],
    &["PEXPIREAT", PROBE_KEY, "1"],
    &["DEL", PROBE_KEY],
    &["SCRIPT", "LOAD", "return 1"],
    // The proxies' own words: around a command that blocks, and for `$` of XREAD.
    &["UNWATCH"],
    &["PFCOUNT", PROBE_KEY],
    &["XREVRANGE", PROBE_KEY, "+", "-", "COUNT", "1"],
];
/// What 7.0 has on top, and is used there.
const NEEDED_SINCE_7: [&[&str]; 1] = [&["PEXPIRETIME", PROBE_KEY]];
/// What makes a transaction cannot be queued in one. Outside, all three are harmless; in this order.
const TRANSACTION: [&[&str]; 3] = [&["WATCH", PROBE_KEY], &["EXEC"], &["MULTI"]];
const PSYNC: &[&str] = &["PSYNC", "?", "-1"];

/// Something that a login needs and does not have; the text is the command's name, of one or two words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingRight {
    /// It may not run the command.
    Command(String),
    /// It may run the command, and not on every key.
    Keys(String),
    /// The server does not know the command: it was renamed.
    Unknown(String),
}

impl MissingRight {
    fn command(&self) -> &str {
        match self {
            MissingRight::Command(name)
            | MissingRight::Keys(name)
            | MissingRight::Unknown(name) => name,
        }
    }

    /// What grants it, as a rule of `ACL SETUSER`. A renamed command cannot be granted.
    pub fn rule(&self) -> Option<String> {
        match self {
            MissingRight::Command(name) => {
                Some(format!("+{}", name.replace(' ', "|").to_lowercase()))
            }
            MissingRight::Keys(_) => Some("~*".to_owned()),
            MissingRight::Unknown(_) => None,
        }
    }
}

impl fmt::Display for MissingRight {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MissingRight::Command(name) => write!(out, "{name}"),
            MissingRight::Keys(name) => write!(out, "{name} of every key"),
            MissingRight::Unknown(name) => write!(out, "{name} (renamed)"),
        }
    }
}

/// All that a login needs at a server of this major version, as rules of `ACL SETUSER`.
pub fn rules_needed(major: u32) -> Vec<String> {
    let commands = needed(major).chain(TRANSACTION);
    commands
        .filter_map(|command| MissingRight::Command(name(command)).rule())
        .collect()
}

/// What of it our login at `server` may not do, in no order. Has `timeout` to connect.
pub async fn rights_missing(
    server: &BackendUrl,
    major: u32,
    timeout: Duration,
) -> Result<Vec<MissingRight>, ServerError> {
    let lost = |cause| ServerError::Connection {
        server: server.to_string(),
        cause,
    };
    let endpoint = Endpoint::from(server);
    let greeting = Greeting {
        name: Some(CONNECTION_NAME.to_owned()),
        ..Greeting::default()
    };
    let mut client = (Client::connect_as(&endpoint, &greeting, timeout).await).map_err(lost)?;
    let dry_run: Vec<&str> = ["ACL", "DRYRUN", server.user()]
        .into_iter()
        .chain(PSYNC.iter().copied())
        .collect();
    let told = client.call(&dry_run).await.map_err(lost)?;
    let mut missing = Vec::new();
    // Anything but an error and OK is the reason why not.
    if !told.is_ok() && told.as_error().is_none() {
        missing.push(MissingRight::Command(name(PSYNC)));
    }
    let answers = client.pipeline(&TRANSACTION).await.map_err(lost)?;
    missing.extend(denied(&TRANSACTION, &answers));
    match answers.last() {
        // Outside of a transaction they would be executed.
        Some(begun) if begun.is_ok() => {
            let commands: Vec<&[&str]> = needed(major).collect();
            let answers = client.pipeline(&commands).await.map_err(lost)?;
            missing.extend(denied(&commands, &answers));
            Ok(missing)
        }
        // Without it nothing else can be tried.
        _ if missing.iter().any(|right| right.command() == "MULTI") => Ok(missing),
        other => Err(ServerError::Unexpected {
            server: server.to_string(),
            command: "MULTI".to_owned(),
            what: format!("{other:?}"),
        }),
    }
}

fn needed(major: u32) -> impl Iterator<Item = &'static [&'static str]> {
    let later = NEEDED_SINCE_7.into_iter().filter(move |_| major >= 7);
    NEEDED.into_iter().chain(later)
}

fn name(command: &[&str]) -> String {
    let words = match command[0] {
        "CLIENT" | "CONFIG" | "PUBSUB" | "SCRIPT" => 2,
        _ => 1,
    };
    command[..words].join(" ")
}

fn denied<'a>(
    commands: &'a [&'static [&'static str]],
    answers: &'a [Value],
) -> impl Iterator<Item = MissingRight> + 'a {
    let pairs = commands.iter().zip(answers);
    pairs.filter_map(|(command, answer)| {
        let text = answer.as_error()?;
        let command = name(command);
        // EXEC says EXECABORT, and why behind it.
        match text.contains("NOPERM") {
            true if text.contains(" to run the ") => Some(MissingRight::Command(command)),
            true => Some(MissingRight::Keys(command)),
            false if text.starts_with("ERR unknown command") => {
                Some(MissingRight::Unknown(command))
            }
            false => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::rules_needed;

    #[test]
    fn the_page_for_operators_lists_every_right() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/upgrade.md");
        let page = std::fs::read_to_string(page).unwrap();
        let words: Vec<&str> = page.split_whitespace().collect();
        let rules = rules_needed(8);
        let lists_them = words.windows(rules.len()).any(|found| found == rules);
        assert!(lists_them, "not in docs/upgrade.md: {}", rules.join(" "));
    }
}
