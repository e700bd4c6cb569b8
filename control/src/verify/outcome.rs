//! What a comparison is told, and what it says.

use std::fmt;
use std::time::Duration;

use understudy_net::ClientError;
use understudy_rdb::Digest;

use super::judge::Kind;

/// How a comparison goes about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompareOptions {
    /// Most that an expiry may differ if one of the servers is 6.2 or older: those replicate a time to live, not a time, so
    /// it starts anew when it arrives. Newer pairs must agree to the millisecond. Default: 50 ms.
    pub ttl_tolerance: Duration,
    /// Most keys that one transaction reads. It is halved when values turn out large. Default: 64.
    pub batch: usize,
    /// Bytes of values above which the next batch is smaller. Default: 8 MiB.
    pub batch_bytes: usize,
    /// How often keys that differ are looked at again before they are given up as unsettled. Default: 12.
    pub rounds_max: u32,
    /// How often in a row a difference is seen unchanged, on a key that stood still meanwhile, before it is one. Default: 3.
    pub stable_rounds: u32,
    /// Wait before the second look; each later one waits twice as long, up to 0.5 s. Default: 10 ms.
    pub settle: Duration,
    /// Most keys that may wait for another look. When so many differ, the comparison stops there and says that it is not
    /// complete. Default: 100,000.
    pub pending_max: usize,
    /// Longest wait for one answer, and for the target to apply what the source had. Default: 30 s.
    pub timeout: Duration,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self {
            ttl_tolerance: Duration::from_millis(50),
            batch: 64,
            batch_bytes: 8 << 20,
            rounds_max: 12,
            stable_rounds: 3,
            settle: Duration::from_millis(10),
            pending_max: 100_000,
            timeout: Duration::from_secs(30),
        }
    }
}

impl CompareOptions {
    /// For keys that nobody writes now: one look at both sides decides, and no time is spent on waiting.
    #[must_use]
    pub fn inside_hold(self) -> Self {
        Self {
            rounds_max: 1,
            stable_rounds: 1,
            settle: Duration::ZERO,
            ..self
        }
    }
}

/// One key of one database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRef {
    /// The database.
    pub db: u32,
    /// The key.
    pub key: Vec<u8>,
}

/// Printable as it is, everything else escaped as `\xNN`.
impl fmt::Display for KeyRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "db{}:{}", self.db, self.key.escape_ascii())
    }
}

/// A key that is not the same on both servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub key: KeyRef,
    /// How.
    pub kind: Kind,
    /// Digest of the source's value, if there is one.
    pub source_digest: Option<Digest>,
    /// Digest of the target's value, if there is one.
    pub target_digest: Option<Digest>,
    /// When it expires on the source, in milliseconds since 1970.
    pub source_expiry_ms: Option<i64>,
    /// When it expires on the target, in milliseconds since 1970.
    pub target_expiry_ms: Option<i64>,
}

impl Difference {
    /// An expiry that may have grown on the way: a time to live that the target took late. What else differs in its expiry
    /// was not made by replication.
    pub fn may_have_drifted(&self) -> bool {
        let expiries = self.source_expiry_ms.zip(self.target_expiry_ms);
        self.kind == Kind::Ttl && expiries.is_some_and(|(source, target)| source < target)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = |digest: Option<Digest>| {
            digest.map_or("absent".to_owned(), |digest| digest.to_string())
        };
        let expiry = |expiry: Option<i64>| expiry.map_or("never".to_owned(), |ms| ms.to_string());
        write!(out, "{}: {}", self.key, self.kind)?;
        match self.kind {
            Kind::Missing | Kind::Extra => Ok(()),
            Kind::Type | Kind::Value => {
                write!(
                    out,
                    " (source {}, target {})",
                    digest(self.source_digest),
                    digest(self.target_digest)
                )
            }
            Kind::Ttl => {
                write!(
                    out,
                    " (source {}, target {})",
                    expiry(self.source_expiry_ms),
                    expiry(self.target_expiry_ms)
                )
            }
        }
    }
}

/// A key that could not be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverifiable {
    /// Which.
    pub key: KeyRef,
    /// Why: a value type that we do not know, or a module's value in two encodings.
    pub why: String,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Keys of the source that were looked at.
    pub keys_compared: u64,
    /// Keys of the target that the source was asked for.
    pub keys_asked: u64,
    /// Keys that changed whenever we looked: for [`super::compare_keys`] inside the hold.
    pub unsettled: Vec<KeyRef>,
    /// Keys that are not the same.
    pub differences: Vec<Difference>,
    /// Keys that could not be judged.
    pub unverifiable: Vec<Unverifiable>,
    /// Libraries of functions that are not the same, by name. Empty where one of the servers knows no functions.
    pub functions: Vec<String>,
    /// Largest difference of an expiry that was tolerated.
    pub ttl_drift_max: Duration,
    /// The source replicates times to live, not times (6.2 or older): an expiry may grow on the way.
    pub expiries_drift: bool,
    /// One of the two is such a server.
    pub relative_expiries: bool,
    /// False if it stopped early because too many keys differed.
    pub complete: bool,
}

impl Outcome {
    /// For the way back. Beside a server that replicates times to live (6.2 or older), an expiry that is there on both sides may
    /// have drifted while it was replicated to and fro: that is no reason to stay. An expiry that only one of them has is a difference.
    /// How many were forgotten.
    pub(crate) fn forget_drifted(&mut self) -> usize {
        let before = self.differences.len();
        let relative = self.relative_expiries;
        self.differences.retain(|found| {
            let both = found.source_expiry_ms.is_some() && found.target_expiry_ms.is_some();
            !(relative && both && found.kind == Kind::Ttl)
        });
        before - self.differences.len()
    }

    /// Everything was looked at, and is the same as far as it stood still.
    pub fn is_equal(&self) -> bool {
        self.complete
            && self.differences.is_empty()
            && self.unverifiable.is_empty()
            && self.functions.is_empty()
    }
}

/// Where a comparison is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Looking at the source's keys.
    Source,
    /// Looking for keys that only the target has.
    Target,
    /// Looking again at what differed.
    Settling,
}

/// How far a comparison has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it does.
    pub stage: Stage,
    /// Keys of the source, as it counted them at the start.
    pub keys_total: u64,
    /// Keys of the source that were looked at.
    pub keys_compared: u64,
    /// Keys that wait for another look.
    pub pending: u64,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A server could not be asked.
    #[error("ask {server} for {what}")]
    Ask {
        /// Its address.
        server: String,
        /// What for.
        what: &'static str,
        /// Why.
        #[source]
        cause: ClientError,
    },
    /// A server does not answer us what we need.
    #[error("{server} refused {what}: {text}")]
    Refused {
        /// Its address.
        server: String,
        /// What.
        what: &'static str,
        /// The server's words.
        text: String,
    },
    /// An answer that no server gives.
    #[error("{server} gave no sense for {what}")]
    Nonsense {
        /// Its address.
        server: String,
        /// What was asked.
        what: &'static str,
    },
    /// The target did not catch up with what the source had when it was read.
    #[error("the target applied nothing up to offset {wanted} within {} ms; it is at {applied}", timeout.as_millis())]
    Behind {
        /// The source's offset.
        wanted: u64,
        /// The target's.
        applied: u64,
        /// How long we waited.
        timeout: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_expiry_that_grew_may_have_drifted() {
        let differs = |kind, source, target| Difference {
            key: KeyRef {
                db: 0,
                key: "k".into(),
            },
            kind,
            source_digest: None,
            target_digest: None,
            source_expiry_ms: source,
            target_expiry_ms: target,
        };
        assert!(differs(Kind::Ttl, Some(1_000), Some(1_500)).may_have_drifted());
        for tampered in [
            differs(Kind::Ttl, Some(1_500), Some(1_000)),
            differs(Kind::Ttl, Some(1_000), None),
            differs(Kind::Ttl, None, Some(1_000)),
            differs(Kind::Value, Some(1_000), Some(1_500)),
        ] {
            assert!(!tampered.may_have_drifted(), "{tampered}");
        }
    }
}
