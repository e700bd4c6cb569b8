//! How long a command is willing to block, and the same command with what is left of that.
//!
//! Every measured server (6.2 on) takes seconds with a fraction; XREAD and XREADGROUP take milliseconds. A timeout that is
//! no such number goes to the server as it is, which says what is wrong with it.

use std::time::Duration;

/// Longest timeout that is counted; Redis' own limit is of the same order.
const SECONDS_MAX: f64 = 1e12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// Where a command's timeout stands and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    at: usize,
    unit: Unit,
    /// `None`: for ever.
    pub(super) time: Option<Duration>,
}

impl Patience {
    /// Finds the timeout of a command that blocks. `None`: it is no timeout that a server would take.
    pub(super) fn of(name: &str, words: &[Vec<u8>]) -> Option<Patience> {
        let (at, unit) = match name {
            "xread" | "xreadgroup" => (option(words, b"BLOCK")? + 1, Unit::Milliseconds),
            "blmpop" | "bzmpop" => (1, Unit::Seconds),
            _ => (words.len().checked_sub(1)?, Unit::Seconds),
        };
        let text = std::str::from_utf8(words.get(at)?).ok()?;
        let seconds = match unit {
            Unit::Seconds => text.parse::<f64>().ok()?,
            Unit::Milliseconds => text.parse::<u64>().ok()? as f64 / 1_000.0,
        };
        if !(0.0..SECONDS_MAX).contains(&seconds) {
            return None;
        }
        let time = (seconds > 0.0).then(|| Duration::from_secs_f64(seconds));
        Some(Patience { at, unit, time })
    }

    /// Writes what is left, at least a millisecond: 0 would mean for ever.
    pub(super) fn write(self, words: &mut [Vec<u8>], left: Duration) {
        let milliseconds = left.as_micros().div_ceil(1_000).max(1);
        if let Some(word) = words.get_mut(self.at) {
            *word = match self.unit {
                Unit::Seconds => {
                    format!("{}.{:03}", milliseconds / 1_000, milliseconds % 1_000).into_bytes()
                }
                Unit::Milliseconds => milliseconds.to_string().into_bytes(),
            };
        }
    }
}

/// Where the ids `$` of an XREAD stand, each with the place of its key. They mean the last entry at the time of the call, so
/// a call that may have to be made again needs them by name.
pub(super) fn last_ids(words: &[Vec<u8>]) -> Vec<(usize, usize)> {
    let Some(streams) = option(words, b"STREAMS") else {
        return Vec::new();
    };
    let first = streams + 1;
    let keys = words.len().saturating_sub(first) / 2;
    (0..keys)
        .map(|key| (first + key, first + keys + key))
        .filter(|(_, id)| words.get(*id).is_some_and(|id| id == b"$"))
        .collect()
}

/// The id in the reply to `XREVRANGE key + - COUNT 1`; `0-0` where there is no entry. `None`: no such reply.
pub(super) fn newest_id(reply: &[u8]) -> Option<Vec<u8>> {
    if matches!(reply, b"*0\r\n" | b"*-1\r\n" | b"_\r\n") {
        return Some(b"0-0".to_vec());
    }
    let mut lines = reply.split(|byte| *byte == b'\n');
    let mut line = || lines.next()?.strip_suffix(b"\r");
    let (one, two, length, id) = (line()?, line()?, line()?, line()?);
    (one == b"*1" && two == b"*2" && length.first() == Some(&b'$')).then(|| id.to_vec())
}

/// Where an option stands. Options and their values are walked as the servers do, so that a group named BLOCK is none.
fn option(words: &[Vec<u8>], name: &[u8]) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        if word.eq_ignore_ascii_case(name) {
            return Some(at);
        }
        let values = match word.to_ascii_uppercase().as_slice() {
            b"STREAMS" => return None,
            b"GROUP" => 2,
            b"COUNT" | b"BLOCK" | b"CLAIM" => 1,
            _ => 0,
        };
        at += 1 + values;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Vec<u8>> {
        line.split(' ').map(|word| word.into()).collect()
    }

    #[test]
    fn what_is_left_is_written_where_the_timeout_stood() {
        for (line, left_us, expect) in [
            ("BLPOP a b 5", 1_234_567, "BLPOP a b 1.235"),
            ("BRPOPLPUSH a b 0.5", 300, "BRPOPLPUSH a b 0.001"),
            (
                "BLMOVE a b LEFT RIGHT 1e3",
                999_000_001,
                "BLMOVE a b LEFT RIGHT 999.001",
            ),
            ("BLMPOP 7 1 a LEFT", 60_000_000, "BLMPOP 60.000 1 a LEFT"),
            ("BZMPOP 7 1 a MIN", 0, "BZMPOP 0.001 1 a MIN"),
            (
                "XREAD COUNT 2 BLOCK 500 STREAMS a 0",
                1_500,
                "XREAD COUNT 2 BLOCK 2 STREAMS a 0",
            ),
            (
                "XREADGROUP GROUP block block BLOCK 9 STREAMS a >",
                4_000,
                "XREADGROUP GROUP block block BLOCK 4 STREAMS a >",
            ),
        ] {
            let mut words = words(line);
            let name = String::from_utf8(words[0].to_ascii_lowercase()).unwrap();
            let patience = Patience::of(&name, &words).expect(line);
            assert!(patience.time.is_some(), "{line}");
            patience.write(&mut words, Duration::from_micros(left_us));
            assert_eq!(words.join(&b' '), expect.as_bytes());
        }
    }

    #[test]
    fn nothing_is_for_ever_but_zero_and_nonsense_is_left_to_the_server() {
        for line in [
            "BLPOP a 0",
            "BLPOP a 0.0",
            "BLPOP a -0",
            "XREAD BLOCK 0 STREAMS a 0",
        ] {
            let words = words(line);
            let name = String::from_utf8(words[0].to_ascii_lowercase()).unwrap();
            assert_eq!(
                Patience::of(&name, &words).map(|it| it.time),
                Some(None),
                "{line}"
            );
        }
        for line in [
            "BLPOP a x",
            "BLPOP a -1",
            "BLPOP a inf",
            "BLPOP a nan",
            "BLPOP a 1e13",
        ] {
            assert_eq!(Patience::of("blpop", &words(line)), None, "{line}");
        }
        assert_eq!(
            Patience::of("xread", &words("XREAD BLOCK 0.5 STREAMS a 0")),
            None
        );
        assert_eq!(Patience::of("xread", &words("XREAD BLOCK")), None);
    }

    #[test]
    fn dollars_are_found_behind_the_keys_only() {
        assert_eq!(
            last_ids(&words("XREAD BLOCK 0 STREAMS $ b c 0 $ $")),
            [(5, 8), (6, 9)]
        );
        assert_eq!(last_ids(&words("XREAD BLOCK 0 STREAMS a 0-0")), []);
        assert_eq!(last_ids(&words("XREAD BLOCK 0")), []);
    }

    #[test]
    fn the_newest_id_is_read_from_the_servers_reply() {
        let entry = b"*1\r\n*2\r\n$15\r\n1700000000000-7\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n";
        assert_eq!(newest_id(entry), Some(b"1700000000000-7".to_vec()));
        assert_eq!(newest_id(b"*0\r\n"), Some(b"0-0".to_vec()));
        assert_eq!(newest_id(b"+QUEUED\r\n"), None);
        assert_eq!(newest_id(b"*1\r\n:1\r\n"), None);
    }
}
