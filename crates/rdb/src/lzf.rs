//! LZF, the compression of strings in RDB.
//!
//! ```text
//!   000lllll            copy l + 1 bytes as they are
//!   LLLooooo oooooooo   copy L + 2 bytes from o + 1 bytes back      (L = 1..6)
//!   111ooooo llllllll oooooooo   copy l + 9 bytes from o + 1 bytes back
//! ```

/// What three bytes can become at most: bounds the memory that a compressed string may ask for.
const EXPANSION_MAX: usize = 264 / 3 + 1;

/// Undoes LZF; `None` unless exactly `plain_length` bytes come out.
pub(crate) fn decompress(compressed: &[u8], plain_length: usize) -> Option<Vec<u8>> {
    if plain_length > compressed.len().saturating_mul(EXPANSION_MAX) {
        return None;
    }
    let mut plain = Vec::with_capacity(plain_length);
    let mut at = 0;
    while let Some(&control) = compressed.get(at) {
        at += 1;
        if control < 32 {
            let count = usize::from(control) + 1;
            plain.extend_from_slice(compressed.get(at..at + count)?);
            at += count;
        } else {
            let mut count = usize::from(control >> 5);
            if count == 7 {
                count += usize::from(*compressed.get(at)?);
                at += 1;
            }
            let back = (usize::from(control & 0x1f) << 8) + usize::from(*compressed.get(at)?) + 1;
            at += 1;
            copy_back(&mut plain, back, count + 2)?;
        }
        if plain.len() > plain_length {
            return None;
        }
    }
    (plain.len() == plain_length).then_some(plain)
}

/// The copy may overlap what it writes: that is how a run of one byte is stored.
fn copy_back(plain: &mut Vec<u8>, back: usize, count: usize) -> Option<()> {
    let start = plain.len().checked_sub(back)?;
    let mut left = count;
    while left > 0 {
        let step = left.min(plain.len() - start);
        plain.extend_from_within(start..start + step);
        left -= step;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(compressed: &[u8], plain_length: usize, expect: Option<&[u8]>) {
        assert_eq!(decompress(compressed, plain_length).as_deref(), expect);
    }

    #[test]
    fn literals_and_overlapping_copies_come_out() {
        check(b"\x02abc", 3, Some(b"abc"));
        check(b"\x00a\xe0\x00\x00", 10, Some(b"aaaaaaaaaa"));
        check(b"\x02abc\x20\x02", 6, Some(b"abcabc"));
    }

    #[test]
    fn damage_is_refused_before_memory_is_spent() {
        check(b"\x02ab", 3, None);
        check(b"\x20\x00", 3, None);
        check(b"\x02abc", 4, None);
        check(b"\x02abc", 2, None);
        check(b"\x02abc", usize::MAX, None);
        check(b"\xe0", 3, None);
    }
}
