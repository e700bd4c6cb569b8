//! One reply out of the replies of several shards.

use understudy_resp::encode;
use understudy_resp::scan::{ReplyKind, ReplyScanner, ScanLimits};

/// How the parts' replies become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Combine {
    /// MGET: element `i` of the reply is element `.1` of part `.0`.
    Elements(Vec<(u16, u32)>),
    /// DEL, UNLINK, EXISTS, TOUCH, DBSIZE: integers are added.
    Sum,
    /// MSET, FLUSHALL, SCRIPT FLUSH: the first part's reply stands for all.
    First,
    /// KEYS: arrays are joined.
    Join,
    /// RANDOMKEY: the first that is not null, from this part on.
    AnyValue(usize),
    /// SCRIPT EXISTS: arrays of integers; 1 where all shards say 1.
    Every,
    /// SCAN: one part; its cursor is wrapped with the shard.
    Cursor(CursorWrap),
}

/// What a SCAN cursor has to carry besides the server's own cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CursorWrap {
    pub(super) shard: u64,
    pub(super) shards: u64,
    pub(super) epoch: u64,
}

/// Epochs are told apart modulo this in a cursor.
const EPOCHS: u64 = 16;

impl CursorWrap {
    /// The client's cursor for a server's. `None` when it does not fit in 64 bits.
    pub(super) fn wrap(self, server: u64) -> Option<u64> {
        if server == 0 {
            let next = self.shard + 1;
            return Some(if next < self.shards { next } else { 0 });
        }
        server
            .checked_mul(EPOCHS)?
            .checked_add(self.epoch % EPOCHS)?
            .checked_mul(self.shards)?
            .checked_add(self.shard)
    }

    /// Which shard a client's cursor means, and the server's cursor if the shard is still at that epoch.
    pub(super) fn shard_of(cursor: u64, shards: u64) -> u64 {
        cursor % shards.max(1)
    }

    /// The server's cursor. A cursor of another epoch means buckets of another server: the shard is scanned from its start
    /// again, since SCAN may repeat elements but not leave them out.
    pub(super) fn unwrap(self, cursor: u64) -> u64 {
        let rest = cursor / self.shards.max(1);
        if rest % EPOCHS == self.epoch % EPOCHS {
            rest / EPOCHS
        } else {
            0
        }
    }
}

/// The parts that came, until all are there.
#[derive(Debug)]
pub(super) struct Gather {
    combine: Combine,
    parts: Vec<Vec<u8>>,
}

impl Gather {
    pub(super) fn new(combine: Combine, parts: usize) -> Gather {
        Gather {
            combine,
            parts: vec![Vec::new(); parts],
        }
    }

    /// Takes one part's whole reply; gives by how many bytes it grew.
    pub(super) fn take(&mut self, part: u16, reply: &[u8]) -> usize {
        let Some(place) = self.parts.get_mut(usize::from(part)) else {
            return 0;
        };
        debug_assert!(place.is_empty(), "a part is answered once");
        place.extend_from_slice(reply);
        reply.len()
    }

    /// Bytes kept.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(Vec::len).sum()
    }

    /// Writes the one reply. An error of any part is the reply: half an answer would be a wrong one.
    pub(super) fn finish(&self, out: &mut Vec<u8>) {
        if let Some(error) = self
            .parts
            .iter()
            .find(|part| matches!(part.first(), Some(b'-' | b'!')))
        {
            out.extend_from_slice(error);
            return;
        }
        let written = out.len();
        if self.write(out).is_none() {
            out.truncate(written);
            encode::error(out, "ERR a backend gave a reply of an unexpected form");
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        match &self.combine {
            Combine::First => out.extend_from_slice(self.parts.first()?),
            Combine::Sum => {
                let mut sum = 0_i64;
                for part in &self.parts {
                    sum = sum.saturating_add(integer(part)?);
                }
                encode::integer(out, sum);
            }
            Combine::Elements(places) => {
                let parts: Vec<Vec<&[u8]>> = self
                    .parts
                    .iter()
                    .map(|part| elements(part))
                    .collect::<Option<_>>()?;
                encode::array_header(out, places.len());
                for (part, element) in places {
                    out.extend_from_slice(parts.get(usize::from(*part))?.get(*element as usize)?);
                }
            }
            Combine::Join => {
                let parts: Vec<Vec<&[u8]>> = self
                    .parts
                    .iter()
                    .map(|part| elements(part))
                    .collect::<Option<_>>()?;
                encode::array_header(out, parts.iter().map(Vec::len).sum());
                for element in parts.iter().flatten() {
                    out.extend_from_slice(element);
                }
            }
            Combine::AnyValue(start) => {
                let turn = |at: usize| self.parts.get((start + at) % self.parts.len());
                let found = (0..self.parts.len())
                    .filter_map(turn)
                    .find(|part| !matches!(part.as_slice(), b"$-1\r\n" | b"_\r\n"));
                out.extend_from_slice(found.or(self.parts.first())?);
            }
            Combine::Every => {
                let parts: Vec<Vec<&[u8]>> = self
                    .parts
                    .iter()
                    .map(|part| elements(part))
                    .collect::<Option<_>>()?;
                let count = parts.first()?.len();
                encode::array_header(out, count);
                for at in 0..count {
                    let mut every = true;
                    for part in &parts {
                        every &= integer(part.get(at)?)? == 1;
                    }
                    encode::integer(out, i64::from(every));
                }
            }
            Combine::Cursor(wrap) => {
                let parts = elements(self.parts.first()?)?;
                let [cursor, found] = parts.as_slice() else {
                    return None;
                };
                let cursor = wrap.wrap(bulk_number(cursor)?)?;
                encode::array_header(out, 2);
                encode::bulk(out, cursor.to_string().as_bytes());
                out.extend_from_slice(found);
            }
        }
        Some(())
    }
}

/// The elements of an array reply, as whole replies.
fn elements(reply: &[u8]) -> Option<Vec<&[u8]>> {
    let rest = reply.strip_prefix(b"*")?;
    let line_end = rest.iter().position(|byte| *byte == b'\n')?;
    let count: usize = std::str::from_utf8(rest.get(..line_end.checked_sub(1)?)?)
        .ok()?
        .parse()
        .ok()?;
    let (mut rest, mut scanner, limits) = (
        rest.get(line_end + 1..)?,
        ReplyScanner::new(),
        ScanLimits::default(),
    );
    let mut found = Vec::new();
    for _ in 0..count {
        let frame = scanner.scan(rest, &limits).ok()??;
        if frame.kind == ReplyKind::Push {
            return None;
        }
        found.push(rest.get(..frame.len)?);
        rest = rest.get(frame.len..)?;
    }
    Some(found)
}

fn integer(reply: &[u8]) -> Option<i64> {
    std::str::from_utf8(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
        .ok()?
        .parse()
        .ok()
}

fn bulk_number(reply: &[u8]) -> Option<u64> {
    let line_end = reply.iter().position(|byte| *byte == b'\n')?;
    std::str::from_utf8(reply.get(line_end + 1..)?.strip_suffix(b"\r\n")?)
        .ok()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(combine: Combine, parts: &[&str], expect: &str) {
        let mut gather = Gather::new(combine, parts.len());
        for (at, part) in parts.iter().enumerate().rev() {
            gather.take(at as u16, part.as_bytes());
        }
        let mut out = Vec::new();
        gather.finish(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), expect);
    }

    #[test]
    fn parts_become_one_reply() {
        check(Combine::Sum, &[":2\r\n", ":40\r\n"], ":42\r\n");
        check(Combine::First, &["+OK\r\n", "+OK\r\n"], "+OK\r\n");
        check(
            Combine::Elements(vec![(1, 0), (0, 0), (1, 1)]),
            &["*1\r\n$1\r\na\r\n", "*2\r\n$-1\r\n$1\r\nb\r\n"],
            "*3\r\n$-1\r\n$1\r\na\r\n$1\r\nb\r\n",
        );
        check(
            Combine::Join,
            &["*0\r\n", "*1\r\n$1\r\nb\r\n"],
            "*1\r\n$1\r\nb\r\n",
        );
        check(
            Combine::Every,
            &["*2\r\n:1\r\n:0\r\n", "*2\r\n:1\r\n:1\r\n"],
            "*2\r\n:1\r\n:0\r\n",
        );
    }

    #[test]
    fn an_error_of_one_part_is_the_reply() {
        check(
            Combine::Sum,
            &[":2\r\n", "-LOADING x\r\n"],
            "-LOADING x\r\n",
        );
        check(
            Combine::Sum,
            &[":2\r\n", "+what\r\n"],
            "-ERR a backend gave a reply of an unexpected form\r\n",
        );
        check(
            Combine::Elements(vec![(0, 1)]),
            &["*1\r\n:1\r\n"],
            "-ERR a backend gave a reply of an unexpected form\r\n",
        );
    }

    #[test]
    fn a_scan_walks_through_all_shards_and_ends_at_zero() {
        let wrap = |shard, epoch| CursorWrap {
            shard,
            shards: 3,
            epoch,
        };
        assert_eq!(wrap(0, 5).wrap(0), Some(1));
        assert_eq!(wrap(2, 5).wrap(0), Some(0));
        for cursor in [1_u64, 17, 1 << 40] {
            let given = wrap(1, 5).wrap(cursor).unwrap();
            assert_eq!(CursorWrap::shard_of(given, 3), 1);
            assert_eq!(wrap(1, 5).unwrap(given), cursor);
            assert_eq!(wrap(1, 6).unwrap(given), 0, "another server's buckets");
        }
        assert_eq!(wrap(0, 5).wrap(u64::MAX), None);
        check(
            Combine::Cursor(wrap(1, 0)),
            &["*2\r\n$1\r\n0\r\n*0\r\n"],
            "*2\r\n$1\r\n2\r\n*0\r\n",
        );
    }
}
