//! Redis Cluster's hash slots.

use crate::hash::crc16_xmodem;
use crate::tag::HashTag;

/// How many slots there are.
pub const SLOTS: u16 = 16_384;

/// A key's slot as Redis Cluster computes it: CRC-16/XMODEM of its `{tag}`, or of the whole key, modulo 16384.
#[must_use]
pub fn slot(key: &[u8]) -> u16 {
    let braces = HashTag::BRACES;
    crc16_xmodem(braces.part(key)) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::slot;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // What `CLUSTER KEYSLOT` of Redis 7.0.15 answers.
        assert_eq!(slot(b"123456789"), 12_739);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"somekey"), 11_058);
        assert_eq!(slot(b"foo{hash_tag}"), 2_515);
        assert_eq!(slot(b"bar{hash_tag}"), 2_515);
        assert_eq!(slot(b""), 0);
        assert_eq!(slot(b"foo{}{bar}"), 8_363);
        assert_eq!(slot(b"foo{{bar}}zap"), 4_015);
        assert_eq!(slot(b"foo{bar}{zap}"), 5_061);
    }
}
