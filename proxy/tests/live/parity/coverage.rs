//! No command of the table is left out of the lists.

use std::collections::BTreeSet;

use understudy_resp::command::{self, Class, CommandSpec, Server};

use crate::parity::rows::{COMMANDS, SESSIONS, rows};

fn names(list: &str) -> BTreeSet<&'static str> {
    rows(list)
        .iter()
        .filter_map(|row| command::resolve(row.words.as_slice()).ok())
        .map(|spec| spec.name)
        .collect()
}

fn specs() -> impl Iterator<Item = &'static CommandSpec> {
    command::all()
        .iter()
        .flat_map(|spec| std::iter::once(spec).chain(spec.subcommands))
        .filter(|spec| spec.subcommands.is_empty())
}

#[test]
fn every_command_that_reaches_a_server_has_a_row() {
    let rows = names(COMMANDS);
    let forwarded = |spec: &&CommandSpec| {
        !matches!(
            spec.class,
            Class::Local(_) | Class::Transaction(_) | Class::Refuse(_)
        )
    };
    let missing: Vec<&str> = specs()
        .filter(forwarded)
        .map(|spec| spec.name)
        .filter(|name| !rows.contains(name))
        .collect();
    assert!(
        missing.is_empty(),
        "commands.txt has no row for {missing:?}"
    );
}

#[test]
fn every_command_that_the_proxy_answers_has_a_row() {
    let rows = names(SESSIONS);
    // QUIT closes: `raw` has it. CAPA is Valkey's alone, and nothing to compare with.
    let elsewhere = ["quit", "client|capa"];
    let missing: Vec<&str> = specs()
        .filter(|spec| matches!(spec.class, Class::Local(_) | Class::Transaction(_)))
        .map(|spec| spec.name)
        .filter(|name| !rows.contains(name) && !elsewhere.contains(name))
        .collect();
    assert!(
        missing.is_empty(),
        "sessions.txt has no row for {missing:?}"
    );
}

#[test]
fn every_reason_to_refuse_has_a_row() {
    let rows = names(SESSIONS);
    let mut missing = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for spec in specs() {
        if let Class::Refuse(reason) = spec.class {
            missing.insert(reason.label());
            if rows.contains(spec.name) {
                seen.insert(reason.label());
            }
        }
    }
    // POST and Host: close the connection: `raw` has them.
    seen.insert("cross_protocol");
    let missing: Vec<_> = missing.difference(&seen).collect();
    assert!(
        missing.is_empty(),
        "sessions.txt has no row for {missing:?}"
    );
}

#[test]
fn the_table_knows_the_newest_servers() {
    for server in [Server::Redis8_2, Server::Valkey9_1] {
        let known = specs().filter(|spec| spec.since.includes(server)).count();
        assert!(known > 250, "{server:?}: {known}");
    }
}
