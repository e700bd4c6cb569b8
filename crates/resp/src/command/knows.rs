//! Would a server of that version know this command and its options?
//!
//! Asked of commands in a replication stream that an older server has to follow. The answer errs on the side of "no": a value
//! that looks like a newer option counts as one.

use super::lookup::lookup;
use super::server::Server;
use crate::args::Args;

/// What a server does not know of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The command, or its subcommand.
    Command,
    /// This option, or this way to combine options.
    Option(&'static str),
}

/// True if that server knows the command, its subcommand and its options.
#[must_use]
pub fn knows(server: Server, args: impl Args + Copy) -> bool {
    unknown_part(server, args).is_none()
}

/// What that server does not know of the command; `None` if it knows all of it. A command that no measured server knows
/// (a module's) is unknown to each of them.
#[must_use]
pub fn unknown_part(server: Server, args: impl Args + Copy) -> Option<Unknown> {
    let Some(mut spec) = lookup(args.arg(0)) else {
        return Some(Unknown::Command);
    };
    if !spec.subcommands.is_empty() && args.count() > 1 {
        let found = spec
            .subcommands
            .iter()
            .find(|sub| sub.word().as_bytes().eq_ignore_ascii_case(args.arg(1)));
        match found {
            Some(sub) => spec = sub,
            None => return Some(Unknown::Command),
        }
    }
    if !spec.since.includes(server) {
        return Some(Unknown::Command);
    }
    let newer = spec
        .options
        .iter()
        .filter(|option| !option.since.includes(server));
    for option in newer {
        if has_word(args, usize::from(option.from), option.word) {
            return Some(Unknown::Option(option.word));
        }
    }
    combination(server, spec.name, args)
}

/// What no single word shows.
fn combination(server: Server, name: &str, args: impl Args + Copy) -> Option<Unknown> {
    let on_6_2 = server == Server::Redis6_2;
    match name {
        // Since 7.0 GET goes together with NX.
        "set" if on_6_2 && has_word(args, 3, "NX") && has_word(args, 3, "GET") => {
            Some(Unknown::Option("NX GET"))
        }
        // Since 7.0 an ID may leave its sequence to the server.
        "xadd" if on_6_2 && (2..args.count()).any(|index| is_partial_id(args.arg(index))) => {
            Some(Unknown::Option("ms-*"))
        }
        // Since 7.0 a unit may be written in any case.
        "georadius" | "georadiusbymember" | "geosearch" | "geosearchstore" if on_6_2 => (2..args
            .count())
            .any(|index| is_loud_unit(args.arg(index)))
            .then_some(Unknown::Option("unit in upper case")),
        "restore" | "restore-asking" => (!loads_payload(server, args.arg(3)))
            .then_some(Unknown::Option("payload of a newer version")),
        _ => None,
    }
}

fn has_word(args: impl Args + Copy, from: usize, word: &str) -> bool {
    (from..args.count()).any(|index| args.arg(index).eq_ignore_ascii_case(word.as_bytes()))
}

/// `1526919030474-*`.
fn is_partial_id(arg: &[u8]) -> bool {
    arg.strip_suffix(b"-*").is_some_and(|milliseconds| {
        !milliseconds.is_empty() && milliseconds.iter().all(u8::is_ascii_digit)
    })
}

/// `KM`, `Mi`.
fn is_loud_unit(arg: &[u8]) -> bool {
    [&b"m"[..], b"km", b"ft", b"mi"]
        .into_iter()
        .any(|unit| arg.eq_ignore_ascii_case(unit) && arg != unit)
}

/// True if the server loads a DUMP payload, by the RDB version that stands before its checksum. Valkey 9 refuses the versions
/// that Redis took after the fork (12 to 79). What is too short to hold a version is refused by all servers alike.
fn loads_payload(server: Server, payload: &[u8]) -> bool {
    let Some(&[low, high, ..]) = payload.last_chunk::<10>() else {
        return true;
    };
    let version = u16::from_le_bytes([low, high]);
    match server {
        Server::Redis6_2 => version <= 9,
        Server::Redis7_0 => version <= 10,
        Server::Redis8_2 => version <= 12,
        Server::Valkey8_1 => version <= 11,
        Server::Valkey9_1 => version <= 80 && !(12..80).contains(&version),
    }
}

#[cfg(test)]
mod tests {
    use super::{Unknown, knows, unknown_part};
    use crate::command::Server;

    #[test]
    fn what_is_missing_is_named() {
        let part = |server, line: &str| unknown_part(server, &line.split(' ').collect::<Vec<_>>());
        assert_eq!(
            part(Server::Redis6_2, "PEXPIREAT k 5 gt"),
            Some(Unknown::Option("GT"))
        );
        assert_eq!(part(Server::Redis7_0, "PEXPIREAT k 5 gt"), None);
        assert_eq!(
            part(Server::Redis7_0, "HSETEX h FIELDS 1 f v"),
            Some(Unknown::Command)
        );
        assert_eq!(part(Server::Redis8_2, "nosuch k"), Some(Unknown::Command));
        assert_eq!(
            part(Server::Redis6_2, "FUNCTION LOAD x"),
            Some(Unknown::Command)
        );
    }

    #[test]
    fn a_payload_is_loaded_by_servers_of_its_rdb_version_or_newer() {
        // Rows and columns as measured by DUMP on one server and RESTORE on the other.
        for (version, expect) in [
            (9, [true, true, true, true, true]),
            (10, [false, true, true, true, true]),
            (12, [false, false, true, false, false]),
            (11, [false, false, true, true, true]),
            (80, [false, false, false, false, true]),
        ] {
            let mut payload = b"\x00\x03abc".to_vec();
            payload.extend_from_slice(&u16::to_le_bytes(version));
            payload.extend_from_slice(&[0; 8]);
            let args: [&[u8]; 5] = [b"RESTORE", b"k", b"0", &payload, b"REPLACE"];
            assert_eq!(
                Server::ALL.map(|server| knows(server, args)),
                expect,
                "RDB {version}"
            );
        }
    }
}
