//! Intset: a sorted array of integers. `width u32 LE (2, 4 or 8) │ count u32 LE │ integers LE`.

use crate::RdbError;
use crate::cursor::{Cursor, decimal};

/// The members of an intset, as decimal text.
pub(crate) fn intset(blob: &[u8]) -> Result<Vec<Vec<u8>>, RdbError> {
    let mut cursor = Cursor::new(blob);
    let width = u32::from_le_bytes(cursor.array("an intset's width")?);
    let count = u32::from_le_bytes(cursor.array("an intset's count")?);
    let fits = u64::from(width) * u64::from(count) == cursor.remaining() as u64;
    if !fits {
        return Err(cursor.corrupt("an intset whose size is not its count times its width"));
    }
    let mut members = Vec::with_capacity(cursor.remaining() / 2);
    for _ in 0..count {
        let member = match width {
            2 => i64::from(i16::from_le_bytes(cursor.array("an intset")?)),
            4 => i64::from(i32::from_le_bytes(cursor.array("an intset")?)),
            8 => i64::from_le_bytes(cursor.array("an intset")?),
            _ => return Err(cursor.corrupt("an intset of unknown width")),
        };
        members.push(decimal(member).into_owned());
    }
    cursor.finish()?;
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_members_of_each_width_come_out() {
        assert_eq!(
            intset(b"\x02\0\0\0\x02\0\0\0\xff\xff\x05\0").unwrap(),
            [b"-1".to_vec(), b"5".to_vec()]
        );
        assert_eq!(
            intset(b"\x04\0\0\0\x01\0\0\0\xff\xff\xff\xff").unwrap(),
            [b"-1".to_vec()]
        );
        assert_eq!(
            intset(b"\x08\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\x80").unwrap(),
            [b"-9223372036854775808".to_vec()]
        );
    }

    #[test]
    fn a_count_that_lies_is_refused() {
        assert!(intset(b"\x02\0\0\0\xff\xff\xff\xff\x05\0").is_err());
        assert!(intset(b"\x00\0\0\0\xff\xff\xff\xff").is_err());
        assert!(intset(b"\x03\0\0\0\x01\0\0\0abc").is_err());
        assert!(intset(b"\x02\0\0").is_err());
    }
}
