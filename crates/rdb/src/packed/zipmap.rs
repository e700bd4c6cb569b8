//! Zipmap: small hashes before 2.6. `count │ (length, field, length, free, value, free bytes) … │ 0xff`.

use crate::RdbError;
use crate::cursor::Cursor;

type Pair = (Vec<u8>, Vec<u8>);

/// Fields and values.
pub(crate) fn zipmap(blob: &[u8]) -> Result<Vec<Pair>, RdbError> {
    let mut cursor = Cursor::new(blob);
    let _count = cursor.byte("a zipmap's count")?; // Only a hint: 254 and more mean unknown.
    let mut pairs = Vec::new();
    while let Some(field_length) = length(&mut cursor)? {
        let field = cursor.take(field_length, "a zipmap's field")?.to_vec();
        let value_length = length(&mut cursor)?
            .ok_or_else(|| cursor.corrupt("a zipmap that ends after a field"))?;
        let free = cursor.byte("a zipmap's free bytes")?;
        let value = cursor.take(value_length, "a zipmap's value")?.to_vec();
        cursor.take(usize::from(free), "a zipmap's free bytes")?;
        pairs.push((field, value));
    }
    cursor.finish()?;
    Ok(pairs)
}

/// `None` at the end mark.
fn length(cursor: &mut Cursor<'_>) -> Result<Option<usize>, RdbError> {
    match cursor.byte("a zipmap's length")? {
        0xff => Ok(None),
        0xfe => Ok(Some(
            u32::from_le_bytes(cursor.array("a zipmap's length")?) as usize
        )),
        short => Ok(Some(usize::from(short))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_bytes_belong_to_nobody() {
        let pairs = zipmap(b"\x02\x01a\x02\x01xy?\xfe\x01\0\0\0b\x00\x00\xff").unwrap();
        assert_eq!(
            pairs,
            [(b"a".to_vec(), b"xy".to_vec()), (b"b".to_vec(), Vec::new())]
        );
    }

    #[test]
    fn half_a_pair_is_refused() {
        assert!(zipmap(b"\x01\x01a\xff").is_err());
        assert!(zipmap(b"\x01\x01a\x05\x00x\xff").is_err());
        assert!(zipmap(b"").is_err());
    }
}
