//! Are two states of one key the same? Pure.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use understudy_rdb::{Family, Object, RdbError, split_dump};

/// How a key can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Only the source has it.
    Missing,
    /// Only the target has it.
    Extra,
    /// Both have it, as different types.
    Type,
    /// Same type, other content.
    Value,
    /// Same content, other expiry.
    Ttl,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Kind::Missing => "missing on the target",
            Kind::Extra => "extra on the target",
            Kind::Type => "another type",
            Kind::Value => "another value",
            Kind::Ttl => "another expiry",
        })
    }
}

/// What a server said about one key, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyState {
    /// Its DUMP.
    pub(crate) payload: Bytes,
    /// When it expires, in milliseconds since 1970.
    pub(crate) expiry_ms: Option<i64>,
}

/// What was seen of one key, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight<'a> {
    /// `None` if it was not there.
    pub(crate) state: Option<&'a KeyState>,
    /// The server's clock, in milliseconds since 1970.
    pub(crate) now_ms: i64,
}

/// What was found about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Equal { ttl_drift: Duration },
    Differs(Kind),
    Unverifiable(String),
}

/// Compares what both servers said. A key that neither has (any more) is equal, and so is one whose time is up where it
/// is gone, though the other server, asked a moment earlier or by another clock, still has it.
pub(crate) fn judge(source: Sight<'_>, target: Sight<'_>, ttl_tolerance: Duration) -> Verdict {
    const EQUAL: Verdict = Verdict::Equal {
        ttl_drift: Duration::ZERO,
    };
    let is_over = |state: &KeyState, now_ms: i64| {
        let tolerance_ms = i64::try_from(ttl_tolerance.as_millis()).unwrap_or(i64::MAX);
        state
            .expiry_ms
            .is_some_and(|expiry_ms| expiry_ms <= now_ms.saturating_add(tolerance_ms))
    };
    let (source, target) = match (source.state, target.state) {
        (None, None) => return EQUAL,
        (Some(state), None) if is_over(state, target.now_ms) => return EQUAL,
        (None, Some(state)) if is_over(state, source.now_ms) => return EQUAL,
        (Some(_), None) => return Verdict::Differs(Kind::Missing),
        (None, Some(_)) => return Verdict::Differs(Kind::Extra),
        (Some(source), Some(target)) => (source, target),
    };
    match judge_values(&source.payload, &target.payload) {
        Ok(None) => judge_expiries(source.expiry_ms, target.expiry_ms, ttl_tolerance),
        Ok(Some(found)) => found,
        Err((side, cause)) => Verdict::Unverifiable(format!("the {side}'s value: {cause}")),
    }
}

fn judge_values(source: &[u8], target: &[u8]) -> Result<Option<Verdict>, (&'static str, RdbError)> {
    let of_source = |cause| ("source", cause);
    let of_target = |cause| ("target", cause);
    let (source, target) = (
        split_dump(source).map_err(of_source)?,
        split_dump(target).map_err(of_target)?,
    );
    // The same bytes mean the same, but for a type's number, which means something else to Valkey than to Redis.
    let same_family = Family::of_version(source.version) == Family::of_version(target.version);
    if same_family && source.type_number == target.type_number && source.value == target.value {
        return Ok(None);
    }
    let (source, target) = (
        source.decode().map_err(of_source)?,
        target.decode().map_err(of_target)?,
    );
    if let (Object::Module { id: one, .. }, Object::Module { id: other, .. }) = (&source, &target)
        && one != other
    {
        return Ok(Some(Verdict::Unverifiable(
            "a module's value in two encodings".to_owned(),
        )));
    }
    if source.type_name() != target.type_name() {
        return Ok(Some(Verdict::Differs(Kind::Type)));
    }
    let detail = source.detail().min(target.detail());
    let equal = source.digest_in(detail) == target.digest_in(detail);
    Ok((!equal).then_some(Verdict::Differs(Kind::Value)))
}

fn judge_expiries(source: Option<i64>, target: Option<i64>, tolerance: Duration) -> Verdict {
    let ttl_drift = match (source, target) {
        (None, None) => Duration::ZERO,
        (Some(source), Some(target)) => Duration::from_millis(source.abs_diff(target)),
        (None, Some(_)) | (Some(_), None) => return Verdict::Differs(Kind::Ttl),
    };
    if ttl_drift <= tolerance {
        Verdict::Equal { ttl_drift }
    } else {
        Verdict::Differs(Kind::Ttl)
    }
}

#[cfg(test)]
mod tests {
    use understudy_rdb::crc64::crc64;

    use super::*;

    fn state(
        type_number: u8,
        value: &[u8],
        version: u16,
        expiry_ms: Option<i64>,
    ) -> Option<KeyState> {
        let mut payload = [&[type_number], value, &version.to_le_bytes()].concat();
        payload.extend(crc64(&payload).to_le_bytes());
        Some(KeyState {
            payload: payload.into(),
            expiry_ms,
        })
    }

    const NOW: i64 = 1_000;

    fn judged(source: Option<&KeyState>, target: Option<&KeyState>) -> Verdict {
        let sight = |state| Sight { state, now_ms: NOW };
        judge(sight(source), sight(target), Duration::from_millis(50))
    }

    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "rows of a table read better without references"
    )]
    fn check(source: Option<KeyState>, target: Option<KeyState>, expect: &Verdict) {
        assert_eq!(&judged(source.as_ref(), target.as_ref()), expect);
    }

    const EQUAL: Verdict = Verdict::Equal {
        ttl_drift: Duration::ZERO,
    };

    #[test]
    fn what_is_the_same_in_another_form_is_equal() {
        check(None, None, &EQUAL);
        check(
            state(0, b"\x01a", 9, None),
            state(0, b"\x01a", 12, None),
            &EQUAL,
        );
        check(
            state(0, b"\x02-1", 9, None),
            state(0, b"\xc0\xff", 12, None),
            &EQUAL,
        );
        check(
            state(2, b"\x02\x01a\x01b", 9, None),
            state(2, b"\x02\x01b\x01a", 80, None),
            &EQUAL,
        );
        let drifted = Verdict::Equal {
            ttl_drift: Duration::from_millis(50),
        };
        check(
            state(0, b"\x01a", 9, Some(100)),
            state(0, b"\x01a", 9, Some(150)),
            &drifted,
        );
    }

    #[test]
    fn each_kind_of_difference_has_its_name() {
        let a = || state(0, b"\x01a", 9, None);
        check(a(), None, &Verdict::Differs(Kind::Missing));
        check(None, a(), &Verdict::Differs(Kind::Extra));
        check(
            a(),
            state(1, b"\x01\x01a", 9, None),
            &Verdict::Differs(Kind::Type),
        );
        check(
            a(),
            state(0, b"\x01b", 9, None),
            &Verdict::Differs(Kind::Value),
        );
        check(
            a(),
            state(0, b"\x01a", 9, Some(1)),
            &Verdict::Differs(Kind::Ttl),
        );
        check(
            state(0, b"\x01a", 9, Some(100)),
            state(0, b"\x01a", 9, Some(151)),
            &Verdict::Differs(Kind::Ttl),
        );
        check(
            state(0, b"\x01a", 9, Some(1)),
            state(0, b"\x01b", 9, None),
            &Verdict::Differs(Kind::Value),
        );
    }

    #[test]
    fn a_key_whose_time_is_up_is_gone_on_both() {
        let expiring = |expiry_ms| state(0, b"\x01a", 9, Some(expiry_ms));
        check(expiring(NOW - 1), None, &EQUAL);
        check(None, expiring(NOW + 50), &EQUAL);
        check(None, expiring(NOW + 51), &Verdict::Differs(Kind::Extra));
        check(expiring(NOW + 51), None, &Verdict::Differs(Kind::Missing));
    }

    #[test]
    fn type_22_of_two_families_is_not_the_same_by_its_bytes() {
        let valkey = b"\x01\x00\x08abcdefgh\x00\x00\x00\x00\x00\x00\x00\x00";
        assert_ne!(
            judged(
                state(22, valkey, 80, None).as_ref(),
                state(22, valkey, 12, None).as_ref()
            ),
            EQUAL
        );
    }

    #[test]
    fn what_cannot_be_read_is_never_called_equal() {
        let unknown = state(40, b"?", 16, None);
        assert!(matches!(
            judged(unknown.as_ref(), state(0, b"\x01a", 9, None).as_ref()),
            Verdict::Unverifiable(_)
        ));
        let module = |id: &[u8]| state(7, &[id, b"\x02\x01\x00"].concat(), 9, None);
        assert!(matches!(
            judged(module(b"\x01").as_ref(), module(b"\x02").as_ref()),
            Verdict::Unverifiable(_)
        ));
        check(module(b"\x01"), module(b"\x01"), &EQUAL);
    }
}
