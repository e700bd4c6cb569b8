//! The table against what real servers answered: rows made by `generate_command_table` in crates/lab/examples.

use understudy_resp::command::{
    KeyAccess, Server, all, keys, knows, lookup, reaches_unnamed_keys, resolve,
};

const GETKEYS: &str = include_str!("data/getkeys.tsv");
const KNOWS: &str = include_str!("data/knows.tsv");

fn words(text: &str) -> Vec<&str> {
    text.split(' ')
        .filter(|word| !word.is_empty())
        .map(|word| if word == "''" { "" } else { word })
        .collect()
}

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('\t').collect())
}

/// Our answer in the servers' words.
fn ours(args: &[&str]) -> String {
    let Ok(spec) = resolve(args) else {
        return "!refused".to_owned();
    };
    let mut found = Vec::new();
    let fits = keys(spec, args, &mut found).is_ok();
    if spec.keys.iter().all(|key| key.access == KeyAccess::NotKey) && spec.name != "stralgo" {
        return "!none".to_owned();
    }
    if !fits {
        return "!refused".to_owned();
    }
    found
        .into_iter()
        .map(|index| args[index])
        .collect::<Vec<_>>()
        .join(" ")
}

/// Where servers disagree, the first of these counts. Valkey 9.1 and 6.2 tell what a command really touches (the last STORE
/// of GEORADIUS), the others what the key specs say.
const BELIEVED: [&str; 5] = ["v91", "r82", "v81", "r70", "r62"];

#[test]
fn keys_are_those_that_command_getkeys_names() {
    let mut checked = 0;
    let all: Vec<Vec<&str>> = rows(GETKEYS).collect();
    for row in &all {
        let [_, command, _] = row[..] else {
            panic!("{row:?}")
        };
        let args = words(command);
        // What every server refuses may be anything to us, as long as it is no panic.
        let of_command = || all.iter().filter(|it| it[1] == command);
        let got = ours(&args);
        let answer = BELIEVED.iter().find_map(|server| {
            of_command().find(|it| {
                it[0].split(',').any(|name| name == *server) && !it[2].starts_with("!refused")
            })
        });
        let Some(answer) = answer else { continue };
        // A count without keys behind it: the servers name none, we call it an error.
        let empty = answer[2].is_empty() && got == "!refused";
        assert!(
            got == answer[2] || empty,
            "{command}: {got:?}, but {} say {:?}",
            answer[0],
            answer[2]
        );
        checked += 1;
    }
    assert!(checked > 700, "only {checked} rows");
}

#[test]
fn a_server_knows_what_it_accepts() {
    for row in rows(KNOWS) {
        let [servers, command] = row[..] else {
            panic!("{row:?}")
        };
        let args = words(command);
        let names = ["r62", "r70", "r82", "v81", "v91"];
        let got: Vec<&str> = Server::ALL
            .into_iter()
            .zip(names)
            .filter(|(server, _)| knows(*server, &args))
            .map(|(_, name)| name)
            .collect();
        let got = if got.is_empty() {
            "-".to_owned()
        } else {
            got.join(",")
        };
        assert_eq!(got, servers, "{command}");
    }
}

#[test]
fn sort_says_when_it_reads_keys_that_it_does_not_name() {
    for (line, expect) in [
        ("SORT k", false),
        ("SORT k BY nosort GET #", false),
        ("SORT k BY w_*", true),
        ("SORT k GET o_*", true),
        ("SORT_RO k LIMIT 0 by GET #", false),
        ("SORT k STORE by", false),
        ("SORT k BY", false),
        ("GET by", false),
    ] {
        let args = words(line);
        assert_eq!(
            reaches_unnamed_keys(resolve(&args).unwrap(), &args),
            expect,
            "{line}"
        );
    }
}

#[test]
fn the_table_holds_what_every_measured_server_has() {
    assert!(all().len() > 250);
    for name in [
        "get", "set", "hsetex", "delifeq", "xackdel", "stralgo", "fcall", "msetex", "quit", "host:",
    ] {
        assert!(lookup(name.as_bytes()).is_some(), "{name}");
    }
    // Modules are left out.
    assert!(lookup(b"vadd").is_none());
}
