//! Every row of `commands.txt` once more, spoiled: keys of the wrong type, an argument missing, one too many, none.

use understudy_lab::Version;
use understudy_resp::command::{Server, Unknown, unknown_part};

use crate::parity::rows::{COMMANDS, Row, rows};
use crate::parity::rules::Rule;
use crate::parity::twins::Twins;

/// A key of each type, made anew for every row.
const FILL: &str = "\
FLUSHALL
SET {string} 7
RPUSH {list} a b c
HSET {hash} f1 1 f2 2
SADD {set} 1 2 3
ZADD {zset} 1 a 2 b
XADD {stream} 1-1 f v";

const TYPES: [&str; 7] = [
    "{string}", "{list}", "{hash}", "{set}", "{zset}", "{stream}", "{none}",
];

/// Rows that others cannot be made of: what they reply, or leave behind, differs from server to server.
fn is_tame(row: &Row) -> bool {
    let name = row.words[0].to_ascii_lowercase();
    let wild = [
        "restore", "migrate", "script", "function", "flushall", "flushdb", "command",
    ];
    row.rule == Rule::Bytes && !row.waits() && !wild.iter().any(|wild| name == wild.as_bytes())
}

/// How replies to a spoiled row are compared: it may well be a good command that picks by chance.
fn rule(words: &[Vec<u8>], server: Server) -> Rule {
    // A command of other versions: this server does not know it, and we only find that it has too few arguments.
    if unknown_part(server, words) == Some(Unknown::Command) {
        return Rule::Error;
    }
    let name = String::from_utf8_lossy(&words[0]).to_lowercase();
    match name.as_str() {
        "srandmember" | "hrandfield" | "zrandmember" | "xadd" | "memory" | "pttl" | "ttl"
        | "xinfo" | "xpending" | "object" => Rule::Shape,
        "scan" | "keys" => Rule::Bag,
        _ => Rule::Bytes,
    }
}

/// A row and what it is spoiled to.
fn mutants(row: &Row, server: Server) -> Vec<Row> {
    let words = &row.words;
    let mut found = Vec::new();
    for at in 1..words.len() {
        for kind in TYPES {
            let mut words = words.clone();
            words[at] = kind.into();
            found.push(words);
        }
        found.push(words[..at].to_vec());
        let mut without = words.clone();
        without.remove(at);
        found.push(without);
    }
    found.push([words.as_slice(), &[b"extra".to_vec()]].concat());
    found
        .into_iter()
        // What picks by chance must not change what others read.
        .filter(|words| !words[0].eq_ignore_ascii_case(b"spop"))
        .map(|words| Row::new(rule(&words, server), words))
        .collect()
}

async fn compare(version: Version, server: Server, resp3: bool) {
    let mut twins = Twins::start(version).await;
    if resp3 {
        twins = twins.resp3().await;
    }
    let fill = rows(FILL);
    for row in rows(COMMANDS).iter().filter(|row| is_tame(row)) {
        for mutant in mutants(row, server).chunks(64) {
            twins.run(&fill, 100).await;
            twins.run(mutant, 100).await;
        }
    }
    assert!(twins.compared > 10_000, "{}", twins.compared);
    twins.expect_none();
}

#[tokio::test]
async fn spoiled_commands_fail_as_on_redis() {
    compare(Version::Redis8_2_3, Server::Redis8_2, false).await;
}

#[tokio::test]
async fn spoiled_commands_fail_as_on_valkey() {
    compare(Version::Valkey9_1_2, Server::Valkey9_1, true).await;
}
