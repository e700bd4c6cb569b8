//! Ziplist: small lists, hashes and sorted sets up to 6.2.
//!
//! ```text
//!   total u32 LE │ tail offset u32 LE │ count u16 LE (65535: unknown) │ entry … │ 0xff
//!   entry = size of the previous entry (1 byte, or 0xfe + u32 LE) │ encoding │ data
//!   00xxxxxx 6-bit string · 01xxxxxx xxxxxxxx 14-bit BE · 80 + u32 BE string
//!   c0 i16 · d0 i32 · e0 i64 · f0 i24 · fe i8 · f1..fd the numbers 0 to 12
//! ```

use crate::RdbError;
use crate::cursor::{Cursor, decimal};

/// All entries as byte strings.
pub(crate) fn ziplist(blob: &[u8]) -> Result<Vec<Vec<u8>>, RdbError> {
    let mut cursor = Cursor::new(blob);
    let total = u32::from_le_bytes(cursor.array("a ziplist's size")?);
    let _tail = u32::from_le_bytes(cursor.array("a ziplist's tail")?);
    let count = u16::from_le_bytes(cursor.array("a ziplist's count")?);
    if u64::from(total) != blob.len() as u64 {
        return Err(cursor.corrupt("a ziplist whose size differs from what it says"));
    }
    let mut entries = Vec::new();
    let mut previous = 0;
    loop {
        let start = cursor.at();
        let size = match cursor.byte("a ziplist")? {
            0xff => break,
            0xfe => u64::from(u32::from_le_bytes(cursor.array("a ziplist")?)),
            short => u64::from(short),
        };
        if size != previous {
            return Err(cursor.corrupt("a ziplist entry that misstates the size of the one before"));
        }
        entries.push(entry(&mut cursor)?);
        previous = (cursor.at() - start) as u64;
    }
    cursor.finish()?;
    if count != u16::MAX && usize::from(count) != entries.len() {
        return Err(cursor.corrupt("a ziplist with another count than it says"));
    }
    Ok(entries)
}

fn entry(cursor: &mut Cursor<'_>) -> Result<Vec<u8>, RdbError> {
    const WHAT: &str = "a ziplist entry";
    let first = cursor.byte(WHAT)?;
    let number = match first {
        0x00..=0x3f => return cursor.take(usize::from(first), WHAT).map(<[u8]>::to_vec),
        0x40..=0x7f => {
            let length = u16::from_be_bytes([first & 0x3f, cursor.byte(WHAT)?]);
            return cursor.take(usize::from(length), WHAT).map(<[u8]>::to_vec);
        }
        0x80..=0xbf => {
            let length = u32::from_be_bytes(cursor.array(WHAT)?);
            return cursor.take(length as usize, WHAT).map(<[u8]>::to_vec);
        }
        0xc0 => i64::from(i16::from_le_bytes(cursor.array(WHAT)?)),
        0xd0 => i64::from(i32::from_le_bytes(cursor.array(WHAT)?)),
        0xe0 => i64::from_le_bytes(cursor.array(WHAT)?),
        0xf0 => {
            let [a, b, c] = cursor.array(WHAT)?;
            i64::from(i32::from_le_bytes([0, a, b, c]) >> 8)
        }
        0xfe => i64::from(i8::from_le_bytes(cursor.array(WHAT)?)),
        0xf1..=0xfd => i64::from(first & 0x0f) - 1,
        _ => return Err(cursor.corrupt("a ziplist entry of unknown encoding")),
    };
    Ok(decimal(number).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(entries: &[&[u8]]) -> Vec<u8> {
        let mut body = Vec::new();
        let mut previous = 0_usize;
        for entry in entries {
            let start = body.len();
            if previous < 254 {
                body.push(previous as u8);
            } else {
                body.push(0xfe);
                body.extend((previous as u32).to_le_bytes());
            }
            body.extend_from_slice(entry);
            previous = body.len() - start;
        }
        let mut blob = (body.len() as u32 + 11).to_le_bytes().to_vec();
        blob.extend(10_u32.to_le_bytes());
        blob.extend((entries.len() as u16).to_le_bytes());
        blob.extend(body);
        blob.push(0xff);
        blob
    }

    #[track_caller]
    fn check(entry: &[u8], expect: &str) {
        let entries = ziplist(&pack(&[entry, b"\xf1"])).unwrap();
        assert_eq!(
            entries
                .iter()
                .map(|e| String::from_utf8_lossy(e))
                .collect::<Vec<_>>(),
            [expect, "0"]
        );
    }

    #[test]
    fn every_encoding_comes_out() {
        check(b"\x03abc", "abc");
        check(b"\x40\x03abc", "abc");
        check(b"\x80\0\0\0\x03abc", "abc");
        check(b"\xc0\xff\xff", "-1");
        check(b"\xd0\xff\xff\xff\x7f", "2147483647");
        check(b"\xe0\0\0\0\0\0\0\0\x80", "-9223372036854775808");
        check(b"\xf0\0\0\x80", "-8388608");
        check(b"\xfe\x80", "-128");
        check(b"\xfd", "12");
        let long = [b"\x41\x2c".as_slice(), &[b'x'; 300]].concat();
        check(&long, &"x".repeat(300));
    }

    #[test]
    fn lies_are_refused() {
        assert!(ziplist(b"").is_err());
        assert!(ziplist(b"\x0b\0\0\0\x0a\0\0\0\x01\0\xff").is_err());
        assert!(ziplist(b"\x0d\0\0\0\x0a\0\0\0\x01\0\x01\xf1\xff").is_err());
        assert!(ziplist(b"\x0d\0\0\0\x0a\0\0\0\x01\0\x00\xff\xff").is_err());
    }
}
