//! Single values: how each kind is read, bounded, and written back.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use understudy_ring::HashTag;

use crate::address::InvalidAddress;
use crate::nearest::nearest;
use crate::section::Wrong;
use crate::units::{ByteSize, duration_text, parse_duration};

/// A value with bounds. Bounds are counts, bytes or microseconds.
pub(crate) trait Scalar: Sized {
    /// How one is written, for a remedy.
    const FORM: &'static str;
    fn parse(text: &str) -> Option<Self>;
    fn measure(&self) -> u64;
    fn from_measure(measure: u64) -> Self;
    /// As a file would have it.
    fn text(&self) -> String;
}

impl Scalar for ByteSize {
    const FORM: &'static str = "a size with its unit, such as 64KiB, 16MiB or 1GiB";

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }

    fn measure(&self) -> u64 {
        self.get()
    }

    fn from_measure(measure: u64) -> Self {
        Self::bytes(measure)
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Scalar for Duration {
    const FORM: &'static str = "a time with its unit, such as 100ms, 2s, 5min or 1h";

    fn parse(text: &str) -> Option<Self> {
        parse_duration(text)
    }

    fn measure(&self) -> u64 {
        u64::try_from(self.as_micros()).unwrap_or(u64::MAX)
    }

    fn from_measure(measure: u64) -> Self {
        Self::from_micros(measure)
    }

    fn text(&self) -> String {
        duration_text(*self)
    }
}

/// Counts of every width.
macro_rules! counts {
    ($($type:ty)*) => {$(
        impl Scalar for $type {
            const FORM: &'static str = "a whole number";

            fn parse(text: &str) -> Option<Self> {
                text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
            }

            fn measure(&self) -> u64 {
                u64::try_from(*self).unwrap_or(u64::MAX)
            }

            fn from_measure(measure: u64) -> Self {
                Self::try_from(measure).unwrap_or(Self::MAX)
            }

            fn text(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

counts!(u8 u32 u64 usize);

/// Reads a value that must lie within bounds.
pub(crate) fn within<T: Scalar>(text: &str, min: u64, max: u64) -> Result<T, Wrong> {
    let value = T::parse(text).ok_or_else(|| {
        Wrong::new(
            format!(
                "'{text}' is not {}",
                T::FORM.split_once(',').map_or(T::FORM, |(kind, _)| kind)
            ),
            format!("write {}", T::FORM),
        )
    })?;
    let measure = value.measure();
    if (min..=max).contains(&measure) {
        return Ok(value);
    }
    let side = if measure < min {
        "too small"
    } else {
        "too large"
    };
    let (min, max) = (T::from_measure(min).text(), T::from_measure(max).text());
    Err(Wrong::new(
        format!("{text} is {side}"),
        format!("write a value from {min} to {max}"),
    ))
}

/// Reads an address.
pub(crate) fn address<T: FromStr<Err = InvalidAddress>>(text: &str) -> Result<T, Wrong> {
    text.parse()
        .map_err(|error: InvalidAddress| Wrong::new(error.what, error.remedy))
}

/// Reads one of several names.
pub(crate) fn one_of<T: Display + Copy>(text: &str, kind: &str, all: &[T]) -> Result<T, Wrong> {
    all.iter()
        .copied()
        .find(|value| value.to_string() == text)
        .ok_or_else(|| {
            let names: Vec<String> = all.iter().map(ToString::to_string).collect();
            let near = nearest(text, names.iter().map(String::as_str));
            let remedy = near.map_or_else(
                || format!("write one of {}", names.join(", ")),
                |name| format!("did you mean '{name}'?"),
            );
            Wrong::new(format!("'{text}' is not a {kind}"), remedy)
        })
}

/// Longest name of a pool, shard or user.
const NAME_MAX: usize = 128;

/// Reads a name that must fit into a command such as `UPGRADE START pool TO shard=url`.
pub(crate) fn name(text: &str) -> Result<String, Wrong> {
    let fits = |letter: char| !letter.is_whitespace() && !letter.is_control() && letter != '=';
    if !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("'{text}' is not a name"),
        format!("write 1 to {NAME_MAX} letters without spaces and '='"),
    ))
}

/// Reads a text that may be anything but empty.
pub(crate) fn text(text: &str) -> Result<String, Wrong> {
    if text.is_empty() {
        return Err(Wrong::new(
            "empty",
            "write a value, or leave the setting out",
        ));
    }
    Ok(text.to_owned())
}

/// Reads a path.
pub(crate) fn path(written: &str) -> Result<PathBuf, Wrong> {
    text(written).map(PathBuf::from)
}

/// Reads a hash tag.
pub(crate) fn hash_tag(text: &str) -> Result<HashTag, Wrong> {
    HashTag::parse(text).ok_or_else(|| {
        Wrong::new(
            format!("'{text}' has not two characters"),
            "write the opening and the closing one, such as \"{}\"",
        )
    })
}
