//! The twelve hash functions of twemproxy, by its names.
//!
//! twemproxy hashes `const char`, which is signed on x86-64: where it widens a byte, bytes from 0x80 on are sign-extended.
//! On ARM they are not, so a nutcracker there puts such keys elsewhere for the functions marked `widen` below.

mod crc;
mod fnv;
mod mixing;

use std::fmt;
use std::str::FromStr;

pub(crate) use crc::crc16_xmodem;

use crate::md5::md5;

/// A function from a key's bytes to 32 bits.
#[expect(
    non_camel_case_types,
    reason = "twemproxy's names end in numbers that only an underscore keeps apart"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hash {
    /// Bob Jenkins' one-at-a-time.
    OneAtATime,
    /// The first four bytes of MD5, little endian.
    Md5,
    /// CRC-16/XMODEM without the mask: what is shifted out of the lower half stays in the upper one.
    Crc16,
    /// CRC-32 as libmemcached cut it: 15 bits.
    Crc32,
    /// CRC-32, whole.
    Crc32a,
    /// FNV-1, 64 bits, the lower half taken.
    Fnv1_64,
    /// FNV-1a "64" in 32-bit arithmetic, with both constants cut. twemproxy's default.
    #[default]
    Fnv1a_64,
    /// FNV-1, 32 bits.
    Fnv1_32,
    /// FNV-1a, 32 bits.
    Fnv1a_32,
    /// Paul Hsieh's SuperFastHash.
    Hsieh,
    /// MurmurHash2 with a seed made of the length.
    Murmur,
    /// Bob Jenkins' lookup3.
    Jenkins,
}

impl Hash {
    /// All of them, in twemproxy's order.
    pub const ALL: [Self; 12] = [
        Self::OneAtATime,
        Self::Md5,
        Self::Crc16,
        Self::Crc32,
        Self::Crc32a,
        Self::Fnv1_64,
        Self::Fnv1a_64,
        Self::Fnv1_32,
        Self::Fnv1a_32,
        Self::Hsieh,
        Self::Murmur,
        Self::Jenkins,
    ];

    /// Hashes a key. The empty key is 0 for every function.
    #[must_use]
    pub fn hash(self, key: &[u8]) -> u32 {
        if key.is_empty() {
            return 0; // server_pool_hash() does not ask the function.
        }
        match self {
            Self::OneAtATime => mixing::one_at_a_time(key),
            Self::Md5 => {
                let [a, b, c, d, ..] = md5(key);
                u32::from_le_bytes([a, b, c, d])
            }
            Self::Crc16 => crc::crc16(key),
            Self::Crc32 => crc::crc32(key),
            Self::Crc32a => crc::crc32a(key),
            Self::Fnv1_64 => fnv::fnv1_64(key),
            Self::Fnv1a_64 => fnv::fnv1a_64(key),
            Self::Fnv1_32 => fnv::fnv1_32(key),
            Self::Fnv1a_32 => fnv::fnv1a_32(key),
            Self::Hsieh => mixing::hsieh(key),
            Self::Murmur => mixing::murmur(key),
            Self::Jenkins => mixing::jenkins(key),
        }
    }

    /// Its name in a nutcracker.yml.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneAtATime => "one_at_a_time",
            Self::Md5 => "md5",
            Self::Crc16 => "crc16",
            Self::Crc32 => "crc32",
            Self::Crc32a => "crc32a",
            Self::Fnv1_64 => "fnv1_64",
            Self::Fnv1a_64 => "fnv1a_64",
            Self::Fnv1_32 => "fnv1_32",
            Self::Fnv1a_32 => "fnv1a_32",
            Self::Hsieh => "hsieh",
            Self::Murmur => "murmur",
            Self::Jenkins => "jenkins",
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl FromStr for Hash {
    type Err = UnknownHash;

    fn from_str(text: &str) -> Result<Self, UnknownHash> {
        Self::ALL
            .into_iter()
            .find(|hash| hash.name() == text)
            .ok_or(UnknownHash)
    }
}

/// No hash function has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownHash;

impl fmt::Display for UnknownHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("no such hash function")
    }
}

impl std::error::Error for UnknownHash {}

/// A byte as twemproxy widens it: a signed char on x86-64.
fn widen(byte: u8) -> u32 {
    i32::from(byte.cast_signed()).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::{Hash, widen};

    #[test]
    fn names_read_back() {
        for hash in Hash::ALL {
            assert_eq!(hash.name().parse(), Ok(hash));
        }
        assert!("FNV1A_64".parse::<Hash>().is_err());
    }

    #[test]
    fn bytes_from_0x80_on_are_sign_extended() {
        assert_eq!(widen(0x7f), 0x7f);
        assert_eq!(widen(0x80), 0xffff_ff80);
        assert_eq!(widen(0xff), 0xffff_ffff);
    }

    #[test]
    fn the_empty_key_is_zero() {
        assert!(Hash::ALL.iter().all(|hash| hash.hash(b"") == 0));
    }

    #[test]
    fn twemproxys_own_unit_test_holds() {
        // The hash values that twemproxy 0.5.0's test_all.c asserts for the key "apple".
        let expect: [(Hash, u32); 12] = [
            (Hash::OneAtATime, 2_297_466_611),
            (Hash::Md5, 3_195_025_439),
            (Hash::Crc16, 3_662_830_516),
            (Hash::Crc32, 10_542),
            (Hash::Crc32a, 2_838_417_488),
            (Hash::Fnv1_64, 473_199_127),
            (Hash::Fnv1a_64, 1_488_911_807),
            (Hash::Fnv1_32, 67_176_023),
            (Hash::Fnv1a_32, 280_767_167),
            (Hash::Hsieh, 3_738_850_110),
            (Hash::Murmur, 4_142_305_122),
            (Hash::Jenkins, 1_442_444_624),
        ];
        for (hash, value) in expect {
            assert_eq!(hash.hash(b"apple"), value, "{hash}");
        }
    }
}
