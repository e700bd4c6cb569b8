//! docs/commands.md lists every command under what becomes of it. Held against the table: `UPDATE_GOLDEN=1` writes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use understudy_resp::command::{
    Broadcast, Class, CommandSpec, RefuseReason, Split, Transaction, all,
};

/// Around what this test writes; the prose outside is a person's.
const BEGIN: &str = "<!-- from the command table -->\n";
const END: &str = "<!-- end -->\n";

/// A heading, a sentence, and where the group stands on the page.
fn group(class: Class) -> (u8, String, String) {
    let (place, title, what) = match class {
        Class::Forward => (
            0,
            "Forwarded",
            "to the one shard that its keys are on; keys on several shards are `-CROSSSLOT`",
        ),
        Class::Keyless => (
            1,
            "Scripts and functions",
            "forwarded by their keys; without keys to the first shard",
        ),
        Class::Split(Split::Mget) => (2, "Split", "by keys; one array in the order of the keys"),
        Class::Split(Split::Mset) => (3, "Split", "by keys; `OK` when all say so"),
        Class::Split(Split::Sum) => (4, "Split", "by keys; the sum"),
        Class::Transaction(Transaction::Watch) => (
            5,
            "Transactions",
            "keys of one shard, on a connection of the client's own until EXEC is answered",
        ),
        Class::Transaction(_) => (
            5,
            "Transactions",
            "queued by the proxy, sent as one unit to one shard at EXEC",
        ),
        Class::Broadcast(Broadcast::Scan) => (
            6,
            "To all shards",
            "one shard after the other; the cursor says which",
        ),
        Class::Broadcast(Broadcast::Sum) => (7, "To all shards", "the sum"),
        Class::Broadcast(Broadcast::AllOk) => (
            8,
            "To all shards",
            "`OK` when all say so, else the first error",
        ),
        Class::Broadcast(Broadcast::FirstReply) => {
            (9, "To all shards", "one reply; the first error wins")
        }
        Class::Broadcast(Broadcast::EachMinimum) => {
            (10, "To all shards", "1 only where every shard says 1")
        }
        Class::Broadcast(Broadcast::Concat) => {
            (11, "To all shards", "the arrays one behind the other")
        }
        Class::Broadcast(Broadcast::AnyValue) => (
            12,
            "To all shards",
            "the first that is not null, from a shard drawn by chance on",
        ),
        Class::Block => (
            13,
            "May block",
            "to the one shard of their keys, on a connection of the client's own",
        ),
        Class::FirstShard => (
            14,
            "To the first shard",
            "any shard can answer, and it is asked",
        ),
        Class::Local(_) => (15, "Answered by the proxy", "nothing is sent to a server"),
        Class::Refuse(reason) => {
            let at = RefuseReason::ALL.iter().position(|it| *it == reason);
            let place = 16 + u8::try_from(at.unwrap_or(0)).unwrap_or(0);
            return (place, "Refused".to_owned(), reason.missing().to_owned());
        }
    };
    (place, title.to_owned(), what.to_owned())
}

fn written(spec: &CommandSpec) -> String {
    format!("`{}`", spec.name.replace('|', " ").to_ascii_uppercase())
}

fn table() -> String {
    let mut groups: BTreeMap<(u8, String, String), Vec<String>> = BTreeMap::new();
    let every = all()
        .iter()
        .flat_map(|spec| std::iter::once(spec).chain(spec.subcommands))
        .filter(|spec| spec.subcommands.is_empty() || spec.name == "command");
    for spec in every {
        let names = groups.entry(group(spec.class)).or_default();
        names.push(written(spec));
    }
    let mut out = String::from("| what | how | commands |\n|---|---|---|\n");
    for ((_, title, what), names) in groups {
        let _infallible = writeln!(out, "| {title} | {what} | {} |", names.join(" "));
    }
    out
}

#[test]
fn the_commands_page_is_the_command_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/commands.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}\n{}\n{END}{after}", table());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &expected).unwrap();
        return;
    }
    assert!(
        page == expected,
        "docs/commands.md is not what the command table says: UPDATE_GOLDEN=1 cargo test -p understudy-resp --test commands_page"
    );
}
