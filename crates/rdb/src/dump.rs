//! The payload of DUMP: one value, with the version that wrote it and a checksum, without key and expiry.
//!
//! ```text
//!   type u8 │ value … │ version u16 LE │ CRC64 of everything before, u64 LE
//! ```

use crate::crc64::crc64;
use crate::{Object, RdbError, decode_value};

/// Bytes of version and checksum at the end of a payload.
pub const FOOTER_LENGTH: usize = 10;

/// A payload taken apart, checksum checked, value not yet decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dump<'a> {
    /// How the value is written.
    pub type_number: u8,
    /// The value's bytes.
    pub value: &'a [u8],
    /// The RDB version of the server that wrote it.
    pub version: u16,
}

impl Dump<'_> {
    /// Decodes the value.
    pub fn decode(&self) -> Result<Object, RdbError> {
        decode_value(self.type_number, self.value, self.version)
    }
}

/// Takes a payload apart and checks its checksum.
pub fn split_dump(payload: &[u8]) -> Result<Dump<'_>, RdbError> {
    let truncated = || RdbError::Truncated {
        at: payload.len() as u64,
        what: "a DUMP payload",
    };
    let (signed, stored) = payload.split_last_chunk::<8>().ok_or_else(truncated)?;
    let (body, version) = signed.split_last_chunk::<2>().ok_or_else(truncated)?;
    let (&type_number, value) = body.split_first().ok_or_else(truncated)?;
    let (stored, computed) = (u64::from_le_bytes(*stored), crc64(signed));
    if stored != computed {
        return Err(RdbError::Checksum { stored, computed });
    }
    Ok(Dump {
        type_number,
        value,
        version: u16::from_le_bytes(*version),
    })
}

/// Decodes the answer to DUMP of any supported version.
pub fn decode_dump(payload: &[u8]) -> Result<Object, RdbError> {
    split_dump(payload)?.decode()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(type_number: u8, value: &[u8], version: u16) -> Vec<u8> {
        let mut payload = [&[type_number], value, &version.to_le_bytes()].concat();
        payload.extend(crc64(&payload).to_le_bytes());
        payload
    }

    #[track_caller]
    fn check(type_number: u8, value: &[u8], version: u16, expect: &Object) {
        assert_eq!(
            &decode_dump(&payload(type_number, value, version)).unwrap(),
            expect
        );
    }

    #[test]
    fn one_flipped_bit_anywhere_is_noticed() {
        let good = payload(0, b"\x05hello", 9);
        assert_eq!(
            decode_dump(&good).unwrap(),
            Object::String(b"hello".to_vec())
        );
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_dump(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn type_22_is_read_as_its_family_means_it() {
        let expiring = |expiry_ms| {
            Object::Hash(vec![crate::HashField {
                field: b"f".to_vec(),
                value: b"v".to_vec(),
                expiry_ms,
            }])
        };
        check(
            22,
            b"\x01\x01f\x01v\x05\0\0\0\0\0\0\0",
            80,
            &expiring(Some(5)),
        );
        check(
            22,
            b"\x01\x01f\x01v\xff\xff\xff\xff\xff\xff\xff\xff",
            80,
            &expiring(None),
        );
        check(22, b"\x01\x05\x01f\x01v", 12, &expiring(Some(5)));
        check(22, b"\x01\x00\x01f\x01v", 12, &expiring(None));
        check(
            24,
            b"\x07\0\0\0\0\0\0\0\x01\x05\x01f\x01v",
            12,
            &expiring(Some(11)),
        );
        assert!(decode_dump(&payload(24, b"\x07\0\0\0\0\0\0\0\x01\x05\x01f\x01v", 80)).is_err());
    }

    #[test]
    fn old_forms_are_still_read() {
        let zset = Object::Zset(vec![(b"a".to_vec(), 1.5), (b"b".to_vec(), f64::INFINITY)]);
        check(3, b"\x02\x01a\x031.5\x01b\xfe", 6, &zset);
        check(
            9,
            b"\x07\x01\x01f\x01\x00v\xff",
            6,
            &Object::Hash(vec![crate::HashField {
                field: b"f".to_vec(),
                value: b"v".to_vec(),
                expiry_ms: None,
            }]),
        );
        check(
            2,
            b"\x02\xc0\xff\xc1\x00\x80",
            6,
            &Object::Set(vec![b"-1".to_vec(), b"-32768".to_vec()]),
        );
    }

    #[test]
    fn a_module_is_carried_as_bytes() {
        let parts = b"\x02\x07\x01\x05\x03abcd\x04abcdefgh\x05\x02hi\x00";
        check(
            7,
            &[b"\x09".as_slice(), parts].concat(),
            9,
            &Object::Module {
                id: 9,
                raw: parts.to_vec(),
            },
        );
        assert!(decode_dump(&payload(7, b"\x09\x06\x00", 9)).is_err());
        assert!(matches!(
            decode_dump(&payload(6, b"\x09", 9)),
            Err(RdbError::UnknownType { type_number: 6, .. })
        ));
    }

    #[test]
    fn lengths_that_lie_cost_nothing() {
        for type_number in 0..=40 {
            for bomb in [
                &b"\x81\xff\xff\xff\xff\xff\xff\xff\xff"[..],
                b"\x80\xff\xff\xff\xff",
                b"\xc3\x04\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xe0\xff\x00\x00",
            ] {
                assert!(decode_dump(&payload(type_number, bomb, 12)).is_err());
                assert!(decode_dump(&payload(type_number, bomb, 80)).is_err());
            }
        }
    }
}
