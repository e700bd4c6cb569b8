//! One file of data: an RDB, commands as a server appends them, or an RDB with commands behind it.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use understudy_rdb::{FileSummary, RdbError, StreamingCheck};
use understudy_resp::scan::{RequestTail, ScanLimits};

use super::Damage;

/// How much is read at once.
const READ_BYTES: usize = 256 * 1024;
/// How much of a command is looked at: more than those that matter have.
const HEAD_BYTES: usize = 32;
/// A server believes what it wrote itself, so commands have no limits but those of numbers.
const LIMITS: ScanLimits = ScanLimits {
    args_max: u32::MAX,
    bulk_max: u64::MAX / 4,
    inline_max: 0,
    frame_max: u64::MAX,
    depth_max: 0,
};

/// What may stand behind an RDB, or at the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing: the file is an RDB.
    Forbidden,
    /// Whole commands.
    Whole,
    /// Commands, of which the last may be cut off: the server was writing to it.
    MayBeTorn,
}

/// What a file is.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) rdb: Option<FileSummary>,
    /// Commands that change data.
    pub(super) commands: u64,
    /// Where its torn end begins.
    pub(super) torn_at: Option<u64>,
    has_commands: bool,
}

impl Part {
    /// In one line.
    pub(super) fn line(&self) -> String {
        let mut told = vec![format!("{}: {} bytes", self.name, self.bytes)];
        if let Some(rdb) = &self.rdb {
            told.push(format!("{} keys, {} with an expiry", rdb.keys, rdb.expires));
            let version = (rdb.aux_field("redis-ver").map(|it| ("Redis", it)))
                .or(rdb.aux_field("valkey-ver").map(|it| ("Valkey", it)));
            if let Some((product, version)) = version {
                told.push(format!("written by {product} {version}"));
            }
            told.push(match rdb.checksum {
                Some(checksum) => format!("its checksum {checksum:016x} is right"),
                None => "the server wrote no checksum".to_owned(),
            });
        }
        if self.has_commands {
            told.push(format!("{} commands that change data", self.commands));
        }
        if let Some(at) = self.torn_at {
            told.push(format!(
                "from byte {at} on it is torn: a server leaves that out, unless aof-load-truncated is no"
            ));
        }
        told.join(", ")
    }
}

/// Reads a file from start to end.
pub(super) fn read(path: &Path, name: &str, tail: Tail) -> Result<Part, Damage> {
    let unread = |cause| Damage::Read {
        path: name.to_owned(),
        cause,
    };
    let file = File::open(path).map_err(unread)?;
    let mut source = BufReader::with_capacity(READ_BYTES, file);
    let start = filled(&mut source).map_err(unread)?;
    // As a server decides it: by the first bytes, whatever the file is called.
    let is_rdb =
        tail == Tail::Forbidden || start.starts_with(b"REDIS") || start.starts_with(b"VALKEY");
    let mut part = Part {
        name: name.to_owned(),
        bytes: 0,
        rdb: None,
        commands: 0,
        torn_at: None,
        has_commands: tail != Tail::Forbidden,
    };
    if is_rdb {
        let summary = read_rdb(&mut source, name)?;
        part.bytes = summary.bytes;
        part.rdb = Some(summary);
    }
    if tail == Tail::Forbidden {
        let behind = filled(&mut source).map_err(unread)?.len() as u64;
        if behind > 0 {
            let cause = RdbError::Trailing {
                at: part.bytes,
                count: behind,
            };
            return Err(Damage::Rdb {
                path: name.to_owned(),
                cause,
            });
        }
        return Ok(part);
    }
    read_commands(&mut source, &mut part)?;
    if let (Some(at), Tail::Whole) = (part.torn_at, tail) {
        return Err(Damage::Torn {
            path: name.to_owned(),
            at,
        });
    }
    Ok(part)
}

/// The next bytes; none at the end.
fn filled(source: &mut BufReader<File>) -> io::Result<&[u8]> {
    loop {
        match source.fill_buf() {
            Ok(_) => break,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(source.buffer())
}

fn read_rdb(source: &mut BufReader<File>, name: &str) -> Result<FileSummary, Damage> {
    let damaged = |cause| Damage::Rdb {
        path: name.to_owned(),
        cause,
    };
    let mut check = StreamingCheck::new();
    while !check.is_complete() {
        let bytes = filled(source).map_err(|cause| Damage::Read {
            path: name.to_owned(),
            cause,
        })?;
        if bytes.is_empty() {
            break;
        }
        let taken = check.push(bytes).map_err(damaged)?;
        source.consume(taken);
    }
    check.finish().map_err(damaged)
}

/// What is under way between two reads.
enum Under {
    /// Nothing.
    Nothing,
    /// A remark of the server's (`#TS:…`), up to its line end.
    Remark,
    /// A command.
    Command(RequestTail),
}

fn read_commands(source: &mut BufReader<File>, part: &mut Part) -> Result<(), Damage> {
    let mut under = Under::Nothing;
    let (mut begun, mut head) = (part.bytes, Vec::with_capacity(HEAD_BYTES));
    // A transaction counts when its end is there: a server leaves out one that has none.
    let mut transaction: Option<(u64, u64)> = None;
    loop {
        let bytes = filled(source).map_err(|cause| Damage::Read {
            path: part.name.clone(),
            cause,
        })?;
        let Some(first) = bytes.first() else { break };
        let taken = match &mut under {
            Under::Nothing => {
                begun = part.bytes;
                head.clear();
                under = match first {
                    b'#' => Under::Remark,
                    _ => Under::Command(RequestTail::new()),
                };
                continue;
            }
            Under::Remark => match bytes.iter().position(|it| *it == b'\n') {
                Some(end) => {
                    under = Under::Nothing;
                    end + 1
                }
                None => bytes.len(),
            },
            Under::Command(tail) => {
                let wrong = |what: String| Damage::Command {
                    path: part.name.clone(),
                    at: begun,
                    what,
                };
                let fed = tail
                    .feed(bytes, &LIMITS)
                    .map_err(|cause| wrong(cause.to_string()))?;
                let room = HEAD_BYTES.saturating_sub(head.len()).min(fed.taken);
                head.extend_from_slice(bytes.get(..room).unwrap_or_default());
                if fed.over {
                    under = Under::Nothing;
                    match Word::of(&head) {
                        Word::Empty => return Err(wrong("it has no words".to_owned())),
                        Word::Multi => transaction = Some((begun, part.commands)),
                        Word::Exec => transaction = None,
                        Word::Select => {}
                        Word::Other => part.commands += 1,
                    }
                }
                fed.taken
            }
        };
        source.consume(taken);
        part.bytes += taken as u64;
    }
    if !matches!(under, Under::Nothing) {
        part.torn_at = Some(begun);
    }
    if let Some((at, commands)) = transaction {
        part.torn_at = Some(at);
        part.commands = commands;
    }
    Ok(())
}

/// What matters of a command here.
enum Word {
    Empty,
    Multi,
    Exec,
    Select,
    Other,
}

impl Word {
    fn of(head: &[u8]) -> Word {
        let is = |start: &[u8]| {
            let there = head.get(..start.len());
            there.is_some_and(|it| it.eq_ignore_ascii_case(start))
        };
        if is(b"*0") || is(b"*-") {
            Word::Empty
        } else if is(b"*1\r\n$5\r\nMULTI\r\n") {
            Word::Multi
        } else if is(b"*1\r\n$4\r\nEXEC\r\n") {
            Word::Exec
        } else if is(b"*2\r\n$6\r\nSELECT\r\n") {
            Word::Select
        } else {
            Word::Other
        }
    }
}
