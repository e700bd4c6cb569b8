//! The FNV family as twemproxy spells it: signed bytes, and a "64-bit" FNV-1a in 32 bits.

use super::widen;

const INIT_64: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME_64: u64 = 0x0100_0000_01b3;
const INIT_32: u32 = 2_166_136_261;
const PRIME_32: u32 = 16_777_619;

pub(super) fn fnv1_64(key: &[u8]) -> u32 {
    let hash = key.iter().fold(INIT_64, |hash, &byte| {
        let byte = i64::from(byte.cast_signed()).cast_unsigned(); // Sign-extended to 64 bits.
        hash.wrapping_mul(PRIME_64) ^ byte
    });
    hash as u32
}

/// 32-bit arithmetic with the lower halves of the 64-bit constants (0x84222325 and 0x1b3).
pub(super) fn fnv1a_64(key: &[u8]) -> u32 {
    key.iter().fold(INIT_64 as u32, |hash, &byte| {
        (hash ^ widen(byte)).wrapping_mul(PRIME_64 as u32)
    })
}

pub(super) fn fnv1_32(key: &[u8]) -> u32 {
    key.iter().fold(INIT_32, |hash, &byte| {
        hash.wrapping_mul(PRIME_32) ^ widen(byte)
    })
}

pub(super) fn fnv1a_32(key: &[u8]) -> u32 {
    key.iter().fold(INIT_32, |hash, &byte| {
        (hash ^ widen(byte)).wrapping_mul(PRIME_32)
    })
}

#[cfg(test)]
mod tests {
    use super::{fnv1_32, fnv1a_32};

    #[test]
    fn ascii_keys_agree_with_the_published_functions() {
        assert_eq!(fnv1_32(b"foobar"), 0x31f0_b262);
        assert_eq!(fnv1a_32(b"foobar"), 0xbf9c_f968);
    }
}
