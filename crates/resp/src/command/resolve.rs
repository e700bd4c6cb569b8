//! From arguments to the one row of the table that describes them.

use super::class::Class;
use super::lookup::lookup;
use super::spec::{CommandSpec, Flags};
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
                    shown(args.arg(0))
                );
                let start = text.len();
                for index in 1..args.count() {
                    if text.len() - start >= SHOWN_MAX {
                        break;
                    }
                    text.push_str(&format!("'{}' ", shown(args.arg(index))));
                }
                text
            }
            ResolveError::UnknownSubcommand(container) => {
                format!(
                    "ERR unknown subcommand '{}'. Try {} HELP.",
                    shown(args.arg(1)),
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

fn shown(arg: &[u8]) -> String {
    let kept = &arg[..arg.len().min(SHOWN_MAX)];
    String::from_utf8_lossy(kept)
        .chars()
        .map(|it| if it.is_control() { ' ' } else { it })
        .collect()
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
