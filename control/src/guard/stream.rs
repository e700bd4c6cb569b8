//! A replication stream, command by command, in bounded memory. Pure.
//!
//! A value may be 512 MiB long, and the relay must not gather it to learn a command's name and keys. So the head of each
//! argument is kept and the rest is counted past; `resp::scan`, which gives ranges of a whole frame, would need it all.

use understudy_resp::args::Args;

/// Bytes kept of one argument.
const ARGUMENT_KEPT: usize = 4 * 1024;
/// Bytes kept of one command.
const COMMAND_KEPT: usize = 256 * 1024;
/// Arguments kept of one command. Options stand before the values of any command that may have so many.
const ARGUMENTS_KEPT: usize = 16 * 1024;
/// Longest count or length, in digits.
const DIGITS_MAX: u32 = 12;

/// One command, as far as it was kept.
#[derive(Debug, Default)]
pub(super) struct Command {
    bytes: Vec<u8>,
    /// Where each kept argument ends in `bytes`, and whether all of it is there.
    ends: Vec<(usize, bool)>,
    /// Arguments that were not kept at all.
    left_out: bool,
}

impl Command {
    /// Whether every argument is here from its first byte to its last.
    pub(super) fn is_whole(&self, index: usize) -> bool {
        self.ends.get(index).is_some_and(|(_, whole)| *whole)
    }

    /// Whether arguments are missing at the end.
    pub(super) fn left_out(&self) -> bool {
        self.left_out
    }

    /// Whether the name is this one, in any case.
    pub(super) fn is(&self, name: &str) -> bool {
        self.arg(0).eq_ignore_ascii_case(name.as_bytes())
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.left_out = false;
    }
}

impl Args for Command {
    fn count(&self) -> usize {
        self.ends.len()
    }

    fn arg(&self, index: usize) -> &[u8] {
        let Some((end, _)) = self.ends.get(index) else {
            return &[];
        };
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].0);
        &self.bytes[start..*end]
    }
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The `*` of a command.
    Start,
    /// `*3`: the count so far.
    Count(u64, u32),
    /// The `$` of an argument.
    Dollar,
    /// `$3`: the length so far.
    Length(u64, u32),
    /// So many bytes of an argument, and its line end.
    Body(u64),
    /// The line end behind a count, a length, or an argument: what is next when it has passed.
    LineFeed(Then),
    CarriageReturn,
    /// Bytes that are no stream.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Counted,
    Measured(u64),
    ArgumentDone,
}

/// Reads a stream in pieces of any size.
#[derive(Debug)]
pub(super) struct Skimmer {
    at: At,
    /// Arguments that the open command still has to bring.
    missing: u64,
    command: Command,
    /// The offset of the next byte.
    position: u64,
}

impl Skimmer {
    /// At the start of a command, whose first byte has this offset.
    pub(super) fn new(position: u64) -> Skimmer {
        Skimmer {
            at: At::Start,
            missing: 0,
            command: Command::default(),
            position,
        }
    }

    /// Reads a piece. `each` gets every command that ends in it, and the offset of the byte behind it.
    /// False when the bytes are no stream: nothing more can be read then.
    pub(super) fn read(&mut self, mut bytes: &[u8], mut each: impl FnMut(&Command, u64)) -> bool {
        while let Some(&byte) = bytes.first() {
            if let At::Body(length) = self.at {
                bytes = self.body(bytes, length);
                continue;
            }
            bytes = &bytes[1..];
            // A bare line end keeps the connection alive and counts as no byte of the history.
            if self.at == At::Start && byte == b'\n' {
                continue;
            }
            self.position += 1;
            self.at = match (self.at, byte) {
                (At::Start, b'*') => At::Count(0, 0),
                (At::Count(count, digits), b'0'..=b'9') if digits < DIGITS_MAX => {
                    At::Count(count * 10 + u64::from(byte - b'0'), digits + 1)
                }
                (At::Count(count, 1..), b'\r') => {
                    self.missing = count;
                    self.command.clear();
                    At::LineFeed(Then::Counted)
                }
                (At::Dollar, b'$') => At::Length(0, 0),
                (At::Length(length, digits), b'0'..=b'9') if digits < DIGITS_MAX => {
                    At::Length(length * 10 + u64::from(byte - b'0'), digits + 1)
                }
                (At::Length(length, 1..), b'\r') => At::LineFeed(Then::Measured(length)),
                (At::CarriageReturn, b'\r') => At::LineFeed(Then::ArgumentDone),
                (At::LineFeed(then), b'\n') => self.line_ended(then, &mut each),
                _ => At::Lost,
            };
            if self.at == At::Lost {
                return false;
            }
        }
        true
    }

    fn line_ended(&mut self, then: Then, each: &mut impl FnMut(&Command, u64)) -> At {
        match then {
            Then::Measured(length) => {
                match self.command.ends.len() < ARGUMENTS_KEPT {
                    true => self
                        .command
                        .ends
                        .push((self.command.bytes.len(), length == 0)),
                    false => self.command.left_out = true,
                }
                match length {
                    0 => At::CarriageReturn,
                    length => At::Body(length),
                }
            }
            Then::Counted if self.missing == 0 => At::Start,
            Then::Counted => At::Dollar,
            Then::ArgumentDone => {
                self.missing -= 1;
                if self.missing > 0 {
                    return At::Dollar;
                }
                each(&self.command, self.position);
                At::Start
            }
        }
    }

    /// Takes what the piece holds of an argument of which `length` bytes are missing, and gives what is behind it.
    fn body<'a>(&mut self, bytes: &'a [u8], length: u64) -> &'a [u8] {
        let here = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let (mine, rest) = bytes.split_at(here);
        let left = length - here as u64;
        if !self.command.left_out {
            self.keep(mine, left == 0);
        }
        self.position += here as u64;
        self.at = if left == 0 {
            At::CarriageReturn
        } else {
            At::Body(left)
        };
        rest
    }

    fn keep(&mut self, piece: &[u8], is_last: bool) {
        let Command { bytes, ends, .. } = &mut self.command;
        let start = ends.len().checked_sub(2).map_or(0, |before| ends[before].0);
        let Some((end, whole)) = ends.last_mut() else {
            return;
        };
        let room = (ARGUMENT_KEPT - (*end - start).min(ARGUMENT_KEPT))
            .min(COMMAND_KEPT.saturating_sub(bytes.len()));
        let kept = piece.len().min(room);
        bytes.extend_from_slice(&piece[..kept]);
        *end = bytes.len();
        // An argument whose middle was cut off never becomes whole: then no room is left for its end.
        *whole = is_last && kept == piece.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a stream whole, then cut at every byte, and gives what was read and where it ended.
    #[track_caller]
    fn check(stream: &[u8], expect: &[(&str, u64)]) {
        for cut in 0..=stream.len() {
            let mut skimmer = Skimmer::new(100);
            let mut found = Vec::new();
            for piece in [&stream[..cut], &stream[cut..]] {
                let each = |command: &Command, end| {
                    let args = (0..command.count())
                        .map(|index| command.arg(index).escape_ascii().to_string());
                    found.push((args.collect::<Vec<_>>().join(" "), end));
                };
                assert!(skimmer.read(piece, each), "cut at {cut}");
            }
            let found: Vec<(&str, u64)> = found
                .iter()
                .map(|(text, end)| (text.as_str(), *end))
                .collect();
            assert_eq!(found, expect, "cut at {cut}");
        }
    }

    #[test]
    fn commands_are_read_with_the_offset_behind_them() {
        check(b"*1\r\n$4\r\nPING\r\n", &[("PING", 114)]);
        check(
            b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*3\r\n$3\r\nset\r\n$0\r\n\r\n$4\r\n\r\n*1\r\n",
            &[("SELECT 3", 123), ("set  \\r\\n*1", 152)],
        );
    }

    #[test]
    fn keep_alives_between_commands_are_no_bytes_of_the_history() {
        check(
            b"\n*1\r\n$4\r\nPING\r\n\n\n*1\r\n$4\r\nPING\r\n",
            &[("PING", 114), ("PING", 128)],
        );
    }

    #[test]
    fn long_arguments_are_counted_and_not_kept() {
        let value = vec![b'v'; 3_000_000];
        let mut stream = b"*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$3000000\r\n".to_vec();
        stream.extend_from_slice(&value);
        stream.extend_from_slice(b"\r\n$4\r\nPXAT\r\n$13\r\n1700000000000\r\n");
        let mut skimmer = Skimmer::new(0);
        let mut seen = 0;
        for piece in stream.chunks(64 * 1024) {
            assert!(skimmer.read(piece, |command, end| {
                seen += 1;
                assert_eq!(end, stream.len() as u64);
                assert_eq!(
                    (command.arg(1), command.arg(3)),
                    (b"k".as_slice(), b"PXAT".as_slice())
                );
                assert_eq!(command.arg(2).len(), ARGUMENT_KEPT);
                assert!(command.is_whole(1) && !command.is_whole(2) && command.is_whole(4));
            }));
            assert!(skimmer.command.bytes.capacity() <= 2 * COMMAND_KEPT);
        }
        assert_eq!(seen, 1);
    }

    #[test]
    fn many_arguments_are_counted_and_not_kept() {
        let count = ARGUMENTS_KEPT + 10;
        let mut stream = format!("*{count}\r\n$5\r\nRPUSH\r\n").into_bytes();
        for _ in 1..count {
            stream.extend_from_slice(b"$40\r\n0123456789012345678901234567890123456789\r\n");
        }
        let mut ended = None;
        assert!(Skimmer::new(0).read(&stream, |command, end| {
            assert!(command.left_out() && command.count() == ARGUMENTS_KEPT);
            assert!(command.is_whole(1) && !command.is_whole(ARGUMENTS_KEPT - 1));
            ended = Some(end);
        }));
        assert_eq!(ended, Some(stream.len() as u64));
    }

    #[test]
    fn bytes_that_are_no_stream_are_noticed() {
        for bytes in [
            &b"PING\r\n"[..],
            b"*x\r\n",
            b"*\r\n",
            b"*1\r\n+4\r\n",
            b"*1\r\n$4\r\nPINGx",
            b"*1234567890123\r\n",
        ] {
            assert!(
                !Skimmer::new(0).read(bytes, |_, _| ()),
                "{}",
                bytes.escape_ascii()
            );
        }
    }
}
