//! What a proxy does with each command: one row per command whose class does not follow from its flags and keys.

use super::class::{Broadcast, Class, Local, RefuseReason, Split, Transaction};
use super::flags::Flags;
use super::spec::KeySpec;

use Broadcast::{AllOk, AnyValue, Concat, EachMinimum, FirstReply, Scan};
use Class::{FirstShard, Forward, Keyless};
use RefuseReason::{
    Admin, Blocking, Clients, Cluster, CrossProtocol, Monitor, PubSub, Replication, ReplyMode,
    Tracking, Unrouted,
};

/// The exceptions, sorted by name: looked up by halving, while the table is compiled.
#[rustfmt::skip]
pub(super) const ROWS: &[(&str, Class)] = &[
    ("acl|cat",                    Class::Refuse(Admin)),
    ("acl|genpass",                Class::Refuse(Admin)),
    ("acl|whoami",                 Class::Refuse(Admin)),
    ("asking",                     Class::Refuse(Cluster)),
    ("auth",                       Class::Local(Local::Auth)),
    ("client|caching",             Class::Refuse(Tracking)),
    ("client|capa",                Class::Local(Local::ClientCapa)),
    ("client|getname",             Class::Local(Local::ClientGetName)),
    ("client|getredir",            Class::Refuse(Tracking)),
    ("client|id",                  Class::Local(Local::ClientId)),
    ("client|import-source",       Class::Refuse(Clients)),
    ("client|info",                Class::Local(Local::ClientInfo)),
    ("client|kill",                Class::Refuse(Clients)),
    ("client|list",                Class::Refuse(Clients)),
    ("client|no-evict",            Class::Refuse(Clients)),
    ("client|no-touch",            Class::Refuse(Clients)),
    ("client|pause",               Class::Refuse(Clients)),
    ("client|reply",               Class::Refuse(ReplyMode)),
    ("client|setinfo",             Class::Local(Local::ClientSetInfo)),
    ("client|setname",             Class::Local(Local::ClientSetName)),
    ("client|tracking",            Class::Refuse(Tracking)),
    ("client|trackinginfo",        Class::Refuse(Tracking)),
    ("client|unblock",             Class::Refuse(Clients)),
    ("client|unpause",             Class::Refuse(Clients)),
    ("clusterscan",                Class::Refuse(Cluster)),
    ("command",                    FirstShard),
    ("command|count",              FirstShard),
    ("command|docs",               FirstShard),
    ("command|getkeys",            FirstShard),
    ("command|getkeysandflags",    FirstShard),
    ("command|info",               FirstShard),
    ("command|list",               FirstShard),
    ("dbsize",                     Class::Broadcast(Broadcast::Sum)),
    ("del",                        Class::Split(Split::Sum)),
    ("discard",                    Class::Transaction(Transaction::Discard)),
    ("echo",                       Class::Local(Local::Echo)),
    ("eval",                       Keyless),
    ("eval_ro",                    Keyless),
    ("evalsha",                    Keyless),
    ("evalsha_ro",                 Keyless),
    ("exec",                       Class::Transaction(Transaction::Exec)),
    ("exists",                     Class::Split(Split::Sum)),
    ("failover",                   Class::Refuse(Replication)),
    ("fcall",                      Keyless),
    ("fcall_ro",                   Keyless),
    ("flushall",                   Class::Broadcast(AllOk)),
    ("flushdb",                    Class::Broadcast(AllOk)),
    ("function|delete",            Class::Broadcast(AllOk)),
    ("function|dump",              FirstShard),
    ("function|flush",             Class::Broadcast(AllOk)),
    ("function|kill",              Class::Refuse(Admin)),
    ("function|list",              FirstShard),
    ("function|load",              Class::Broadcast(FirstReply)),
    ("function|restore",           Class::Broadcast(AllOk)),
    ("function|stats",             FirstShard),
    ("hello",                      Class::Local(Local::Hello)),
    ("host:",                      Class::Refuse(CrossProtocol)),
    ("info",                       FirstShard),
    ("keys",                       Class::Broadcast(Concat)),
    ("lastsave",                   FirstShard),
    ("lolwut",                     FirstShard),
    ("memory|doctor",              Class::Refuse(Admin)),
    ("memory|malloc-stats",        Class::Refuse(Admin)),
    ("memory|purge",               Class::Refuse(Admin)),
    ("memory|stats",               Class::Refuse(Admin)),
    ("mget",                       Class::Split(Split::Mget)),
    ("monitor",                    Class::Refuse(Monitor)),
    ("mset",                       Class::Split(Split::Mset)),
    ("multi",                      Class::Transaction(Transaction::Multi)),
    ("ping",                       Class::Local(Local::Ping)),
    ("post",                       Class::Refuse(CrossProtocol)),
    ("psync",                      Class::Refuse(Replication)),
    ("publish",                    Forward),
    ("quit",                       Class::Local(Local::Quit)),
    ("randomkey",                  Class::Broadcast(AnyValue)),
    ("readonly",                   Class::Local(Local::ReadOnly)),
    ("readwrite",                  Class::Local(Local::ReadWrite)),
    ("replconf",                   Class::Refuse(Replication)),
    ("replicaof",                  Class::Refuse(Replication)),
    ("reset",                      Class::Local(Local::Reset)),
    ("restore-asking",             Class::Refuse(Cluster)),
    ("role",                       FirstShard),
    ("scan",                       Class::Broadcast(Scan)),
    ("script|debug",               Class::Refuse(Admin)),
    ("script|exists",              Class::Broadcast(EachMinimum)),
    ("script|flush",               Class::Broadcast(AllOk)),
    ("script|kill",                Class::Refuse(Admin)),
    ("script|load",                Class::Broadcast(FirstReply)),
    ("script|show",                FirstShard),
    ("select",                     Class::Local(Local::Select)),
    ("slaveof",                    Class::Refuse(Replication)),
    ("spublish",                   Forward),
    ("stralgo",                    Forward),
    ("swapdb",                     Class::Refuse(Admin)),
    ("sync",                       Class::Refuse(Replication)),
    ("time",                       FirstShard),
    ("touch",                      Class::Split(Split::Sum)),
    ("unlink",                     Class::Split(Split::Sum)),
    ("unwatch",                    Class::Local(Local::Unwatch)),
    ("watch",                      Class::Transaction(Transaction::Watch)),
    ("xread",                      Forward),
    ("xreadgroup",                 Forward),
];

/// The class of a command: its row, or what its flags and keys say.
pub(super) const fn class_of(name: &str, flags: Flags, keys: &[KeySpec]) -> Class {
    if let Some(class) = row(name.as_bytes()) {
        return class;
    }
    let name = name.as_bytes();
    // HELP texts are the server's own, whatever the container is.
    if ends_with(name, b"|help") {
        FirstShard
    } else if starts_with(name, b"cluster") {
        Class::Refuse(Cluster)
    } else if flags.contains(Flags::BLOCKING) {
        if keys.is_empty() {
            Class::Refuse(Blocking)
        } else {
            Class::Block
        }
    } else if flags.contains(Flags::PUBSUB) {
        Class::Refuse(PubSub)
    } else if flags.contains(Flags::ADMIN) {
        Class::Refuse(Admin)
    } else if !keys.is_empty() {
        Forward
    } else {
        Class::Refuse(Unrouted)
    }
}

const fn row(name: &[u8]) -> Option<Class> {
    let (mut low, mut high) = (0, ROWS.len());
    while low < high {
        let middle = (low + high) / 2;
        match compare(ROWS[middle].0.as_bytes(), name) {
            0 => return Some(ROWS[middle].1),
            order if order < 0 => low = middle + 1,
            _ => high = middle,
        }
    }
    None
}

/// Below, at or above 0, as C's `memcmp`; slices do not compare in a const function.
const fn compare(left: &[u8], right: &[u8]) -> i32 {
    let mut at = 0;
    while at < left.len() && at < right.len() {
        if left[at] != right[at] {
            return left[at] as i32 - right[at] as i32;
        }
        at += 1;
    }
    left.len() as i32 - right.len() as i32
}

const fn starts_with(name: &[u8], start: &[u8]) -> bool {
    name.len() >= start.len() && compare(name.split_at(start.len()).0, start) == 0
}

const fn ends_with(name: &[u8], end: &[u8]) -> bool {
    name.len() >= end.len() && compare(name.split_at(name.len() - end.len()).1, end) == 0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{all, is_write};
    use super::{Class, ROWS, Transaction};
    use crate::command::CommandSpec;

    fn every_spec() -> impl Iterator<Item = &'static CommandSpec> {
        all()
            .iter()
            .flat_map(|spec| std::iter::once(spec).chain(spec.subcommands))
    }

    #[test]
    fn rows_are_sorted_and_name_real_commands() {
        let names: BTreeSet<&str> = every_spec().map(|spec| spec.name).collect();
        for pair in ROWS.windows(2) {
            assert!(
                pair[0].0 < pair[1].0,
                "{} stands before {}",
                pair[0].0,
                pair[1].0
            );
        }
        for (name, class) in ROWS {
            assert!(names.contains(name), "no server knows {name}");
            let spec = every_spec().find(|spec| spec.name == *name).unwrap();
            assert_eq!(spec.class, *class, "{name}");
        }
    }

    #[test]
    fn commands_that_touch_keys_are_carried_unless_they_need_a_connection_of_their_own() {
        for spec in every_spec().filter(|spec| !spec.keys.is_empty()) {
            let carried = matches!(
                spec.class,
                Class::Forward
                    | Class::Split(_)
                    | Class::Keyless
                    | Class::Block
                    | Class::Transaction(Transaction::Watch)
            );
            let refused = match spec.class {
                // Sharded channels; a cluster's RESTORE and SCAN; a debugging aid.
                Class::Refuse(_) => matches!(
                    spec.name,
                    "ssubscribe" | "sunsubscribe" | "restore-asking" | "clusterscan" | "pfdebug"
                ),
                _ => false,
            };
            assert!(carried || refused, "{} is {:?}", spec.name, spec.class);
        }
    }

    #[test]
    fn nothing_that_writes_goes_to_the_first_shard_only() {
        for spec in every_spec().filter(|spec| is_write(spec)) {
            assert_ne!(spec.class, Class::FirstShard, "{}", spec.name);
        }
    }

    #[test]
    fn subcommands_carry_the_name_of_their_container() {
        for spec in all() {
            for sub in spec.subcommands {
                assert!(sub.subcommands.is_empty(), "{}", sub.name);
                assert_eq!(sub.name, format!("{}|{}", spec.name, sub.word()));
            }
        }
    }

    /// Every class of every command, so that a change of policy or table shows in a diff.
    #[test]
    fn classes_are_as_written_down() {
        let mut text = String::new();
        for spec in
            every_spec().filter(|spec| spec.subcommands.is_empty() || spec.name == "command")
        {
            text.push_str(&format!("{}\t{:?}\n", spec.name, spec.class));
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/classes.tsv");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(
            text,
            std::fs::read_to_string(path).unwrap(),
            "UPDATE_GOLDEN=1 writes {path}"
        );
    }
}
