//! What a whole file says about itself.

use std::collections::BTreeMap;
use std::fmt;

use crate::Family;

/// The first nine bytes of a file: `REDIS0012` or `VALKEY080`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Magic {
    /// Whose numbering the file follows.
    pub family: Family,
    /// Its RDB version.
    pub version: u16,
}

impl Magic {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (family, digits) = match (bytes.strip_prefix(b"REDIS"), bytes.strip_prefix(b"VALKEY")) {
            (Some(digits), _) => (Family::Redis, digits),
            (None, Some(digits)) => (Family::Valkey, digits),
            (None, None) => return None,
        };
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let version = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (version > 0).then_some(Self { family, version })
    }
}

impl fmt::Display for Magic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family {
            Family::Redis => write!(out, "REDIS{:04}", self.version),
            Family::Valkey => write!(out, "VALKEY{:03}", self.version),
        }
    }
}

/// A file that was read to its end and found sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSummary {
    /// How it starts.
    pub magic: Magic,
    /// Keys in all databases.
    pub keys: u64,
    /// Keys by database; a database without keys is not listed.
    pub keys_by_db: BTreeMap<u64, u64>,
    /// Keys that have an expiry.
    pub expires: u64,
    /// The checksum, which was found right; `None` if the server was told to keep none (`rdbchecksum no`).
    pub checksum: Option<u64>,
    /// What the server wrote about itself: `redis-ver`, `repl-id`, `repl-offset` …
    pub aux: Vec<(String, String)>,
    /// Libraries of functions.
    pub functions: u64,
    /// Size of the file.
    pub bytes: u64,
}

impl FileSummary {
    /// One of the server's remarks about itself.
    pub fn aux_field(&self, name: &str) -> Option<&str> {
        self.aux
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    }
}
