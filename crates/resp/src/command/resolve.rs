//! From arguments to the one row of the table that describes them.

use super::class::Class;
use super::flags::Flags;
use super::lookup::lookup;
use super::spec::CommandSpec;
use crate::args::Args;

/// Why arguments have no row in the table.
#[derive(Debug, Clone, Copy)]
pub enum ResolveError {
    /// There is no argument at all.
    Empty,
    /// No measured server knows the command.
    UnknownCommand,
    /// The container has no such subcommand.
    UnknownSubcommand(&'static CommandSpec),
    /// Too few or too many arguments.
    WrongArity(&'static CommandSpec),
}

/// Finds the row of a command; for a container, the row of its subcommand (XGROUP CREATE, OBJECT ENCODING, CLIENT SETNAME).
///
/// # Errors
/// The command is unknown, or has a wrong number of arguments.
#[inline]
pub fn resolve(args: impl Args + Copy) -> Result<&'static CommandSpec, ResolveError> {
    let count = args.count();
    if count == 0 {
        return Err(ResolveError::Empty);
    }
    let spec = lookup(args.arg(0)).ok_or(ResolveError::UnknownCommand)?;
    if !spec.subcommands.is_empty() && count > 1 {
        return subcommand(spec, args);
    }
    if spec.accepts(count) {
        Ok(spec)
    } else {
        Err(ResolveError::WrongArity(spec))
    }
}

fn subcommand(
    container: &'static CommandSpec,
    args: impl Args + Copy,
) -> Result<&'static CommandSpec, ResolveError> {
    let word = args.arg(1);
    let found = container
        .subcommands
        .iter()
        .find(|sub| sub.word().as_bytes().eq_ignore_ascii_case(word));
    let spec = found.ok_or(ResolveError::UnknownSubcommand(container))?;
    if spec.accepts(args.count()) {
        Ok(spec)
    } else {
        Err(ResolveError::WrongArity(spec))
    }
}

impl ResolveError {
    /// The error reply, without `-` and line end, worded as Redis 7 words it.
    #[must_use]
    pub fn error_text(&self, args: impl Args + Copy) -> String {
        match self {
            ResolveError::Empty => "ERR empty command".to_owned(),
            ResolveError::UnknownCommand => {
                let mut text = format!(
                    "ERR unknown command '{}', with args beginning with: ",
                    shown(args.arg(0), SHOWN_MAX)
                );
                let mut left = SHOWN_MAX;
                for index in 1..args.count() {
                    let arg = shown(args.arg(index), left);
                    left = left.saturating_sub(arg.len() + 3);
                    text.push_str(&format!("'{arg}' "));
                    if left == 0 {
                        break;
                    }
                }
                text
            }
            ResolveError::UnknownSubcommand(container) => {
                format!(
                    "ERR unknown subcommand '{}'. Try {} HELP.",
                    shown(args.arg(1), SHOWN_MAX),
                    container.name.to_uppercase()
                )
            }
            ResolveError::WrongArity(spec) => {
                format!("ERR wrong number of arguments for '{}' command", spec.name)
            }
        }
    }
}

/// Bytes of a client's arguments that an error repeats.
const SHOWN_MAX: usize = 128;

/// The start of an argument, to its first NUL, without line ends: as the servers' formats take it.
fn shown(arg: &[u8], bytes_max: usize) -> String {
    let kept = &arg[..arg.len().min(bytes_max)];
    let kept = kept.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(kept).replace(['\r', '\n'], " ")
}

/// True if the command may change data, or write to the replication stream: it is never sent a second time unless the first
/// was refused as a whole. Scripts that are not declared read-only count.
#[inline]
#[must_use]
pub fn is_write(spec: &CommandSpec) -> bool {
    let flags = spec.flags;
    flags.contains(Flags::WRITE)
        || flags.contains(Flags::MAY_REPLICATE)
        || (spec.class == Class::Keyless && !flags.contains(Flags::READONLY))
}

/// True if the command changes nothing, so that it may be sent again when its reply was lost. A command can be neither
/// this nor a write: MULTI, PING.
#[inline]
#[must_use]
pub fn is_readonly(spec: &CommandSpec) -> bool {
    spec.flags.contains(Flags::READONLY)
}

/// True if this very command may block: BLPOP always, XREAD and XREADGROUP with BLOCK only.
#[must_use]
pub fn is_blocking(spec: &CommandSpec, args: impl Args + Copy) -> bool {
    if !spec.flags.contains(Flags::BLOCKING) {
        return false;
    }
    match spec.name {
        "xread" | "xreadgroup" => has_block_option(args),
        _ => true,
    }
}

/// Walks the options as the servers do, so that a group named `block` is not taken for one.
fn has_block_option(args: impl Args + Copy) -> bool {
    let mut index = 1;
    while index < args.count() {
        let word = args.arg(index);
        if word.eq_ignore_ascii_case(b"BLOCK") {
            return true;
        }
        if word.eq_ignore_ascii_case(b"STREAMS") {
            return false;
        }
        let values = if word.eq_ignore_ascii_case(b"GROUP") {
            2
        } else {
            usize::from(word.eq_ignore_ascii_case(b"COUNT") || word.eq_ignore_ascii_case(b"CLAIM"))
        };
        index += 1 + values;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{is_blocking, is_readonly, is_write, resolve};
    use crate::command::{Class, Local};

    fn split(line: &str) -> Vec<&str> {
        line.split(' ').filter(|word| !word.is_empty()).collect()
    }

    #[track_caller]
    fn check(line: &str, expect: &str) {
        let args = split(line);
        let got = match resolve(&args) {
            Ok(spec) => spec.name.to_owned(),
            Err(error) => error.error_text(&args),
        };
        assert_eq!(got, expect);
    }

    #[test]
    fn containers_resolve_to_their_subcommands() {
        check("GET k", "get");
        check("XGROUP CREATE k g $", "xgroup|create");
        check("object encoding k", "object|encoding");
        check("Client SetName x", "client|setname");
        check("SCRIPT LOAD x", "script|load");
        check("COMMAND", "command");
        check("COMMAND COUNT", "command|count");
        check("MEMORY USAGE k", "memory|usage");
        check("FUNCTION LIST", "function|list");
    }

    #[test]
    fn errors_read_as_those_of_the_servers() {
        check("", "ERR empty command");
        check("GET", "ERR wrong number of arguments for 'get' command");
        check("GET a b", "ERR wrong number of arguments for 'get' command");
        check(
            "CLIENT",
            "ERR wrong number of arguments for 'client' command",
        );
        check(
            "CLIENT SETNAME",
            "ERR wrong number of arguments for 'client|setname' command",
        );
        check(
            "CLIENT NOSUCH x",
            "ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP.",
        );
        check(
            "nosuch a b",
            "ERR unknown command 'nosuch', with args beginning with: 'a' 'b' ",
        );
        check(
            "no\r\nsuch",
            "ERR unknown command 'no  such', with args beginning with: ",
        );
        let long = "x".repeat(500);
        let text = resolve([&long, &long, &long])
            .unwrap_err()
            .error_text([&long, &long, &long]);
        assert!(text.len() < 330, "{}", text.len());
    }

    #[test]
    fn only_some_reads_of_streams_block() {
        for (line, expect) in [
            ("BLPOP a 0", true),
            ("XREAD STREAMS a 0", false),
            ("XREAD BLOCK 0 STREAMS a $", true),
            ("XREAD COUNT 1 block 5 STREAMS a $", true),
            ("XREAD STREAMS block 0", false),
            ("XREADGROUP GROUP block block COUNT 1 STREAMS a >", false),
            (
                "XREADGROUP GROUP g c COUNT 1 NOACK BLOCK 1 STREAMS a >",
                true,
            ),
            ("XREADGROUP GROUP g c BLOCK", true),
            ("GET block", false),
        ] {
            let args = split(line);
            let spec = crate::command::lookup(args[0].as_bytes()).unwrap();
            assert_eq!(is_blocking(spec, &args), expect, "{line}");
        }
    }

    #[test]
    fn what_may_have_been_executed_is_told_from_what_is_harmless() {
        for (line, write, readonly) in [
            ("GET k", false, true),
            ("SET k v", true, false),
            ("PUBLISH c m", true, false),
            ("SPUBLISH c m", true, false),
            ("EVAL s 0", true, false),
            ("EVALSHA s 0", true, false),
            ("FCALL f 0", true, false),
            ("EVAL_RO s 0", false, true),
            ("FCALL_RO f 0", false, true),
            ("PING", false, false),
            ("MULTI", false, false),
            ("FUNCTION LOAD x", true, false),
            ("XREADGROUP GROUP g c STREAMS k >", true, false),
            ("GETDEL k", true, false),
        ] {
            let spec = resolve(&split(line)).unwrap();
            assert_eq!(
                (is_write(spec), is_readonly(spec)),
                (write, readonly),
                "{line}"
            );
        }
    }

    #[test]
    fn what_the_proxy_answers_is_told_by_class() {
        assert_eq!(resolve(["PING"]).unwrap().class, Class::Local(Local::Ping));
        assert_eq!(
            resolve(["HELLO", "3"]).unwrap().class,
            Class::Local(Local::Hello)
        );
        assert_eq!(
            resolve(["CLIENT", "ID"]).unwrap().class,
            Class::Local(Local::ClientId)
        );
    }
}
