//! Sizes and times with their units: `64KiB`, `100ms`.

use std::fmt;
use std::time::Duration;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];
const TIME_UNITS: [(&str, u64); 5] = [
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

impl ByteSize {
    /// So many bytes.
    #[must_use]
    pub const fn bytes(count: u64) -> Self {
        Self(count)
    }

    /// So many times 1024 bytes.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// So many times 1024 KiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory, the largest one where it does not fit.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Reads `64KiB`, `512MiB`, `1GiB`, `100B`; only binary units, so that nobody has to guess.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        with_unit(text, &SIZE_UNITS).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&in_units(self.0, &SIZE_UNITS))
    }
}

/// Reads `100ms`, `2s`, `5min`, `1h`, `250us`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    with_unit(text, &TIME_UNITS).map(Duration::from_micros)
}

pub(crate) fn duration_text(duration: Duration) -> String {
    in_units(
        u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        &TIME_UNITS,
    )
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// In the largest unit that leaves no rest.
fn in_units(value: u64, units: &[(&str, u64)]) -> String {
    match units
        .iter()
        .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))
    {
        Some((unit, factor)) => format!("{}{unit}", value / factor),
        None => format!("0{}", units[units.len() - 1].0),
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteSize, duration_text, parse_duration};

    #[test]
    fn sizes_need_a_binary_unit() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("1 MiB", 1 << 20),
            ("2GiB", 2 << 30),
            ("100B", 100),
            ("0B", 0),
        ] {
            assert_eq!(
                ByteSize::parse(text),
                Some(ByteSize::bytes(bytes)),
                "{text}"
            );
        }
        for text in [
            "",
            "64",
            "64kb",
            "64K",
            "KiB",
            "-1KiB",
            "1.5MiB",
            "99999999999GiB",
            "1KiB ",
        ] {
            assert_eq!(ByteSize::parse(text), None, "{text}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        for (text, micros) in [
            ("100ms", 100_000),
            ("2s", 2_000_000),
            ("5min", 300_000_000),
            ("1 h", 3_600_000_000),
            ("7us", 7),
        ] {
            assert_eq!(
                parse_duration(text).map(|time| time.as_micros()),
                Some(micros),
                "{text}"
            );
        }
        for text in ["", "100", "2 sec", "1m", "-1s", "1.5s", "s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn values_print_in_the_largest_unit_without_a_rest() {
        assert_eq!(ByteSize::kib(64).to_string(), "64KiB");
        assert_eq!(ByteSize::mib(2_048).to_string(), "2GiB");
        assert_eq!(ByteSize::bytes(1_000).to_string(), "1000B");
        assert_eq!(ByteSize::bytes(0).to_string(), "0B");
        assert_eq!(duration_text(parse_duration("1500ms").unwrap()), "1500ms");
        assert_eq!(duration_text(parse_duration("120s").unwrap()), "2min");
    }
}
