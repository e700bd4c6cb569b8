//! Listpack: since 5.0 in streams, since 7.0 everywhere.
//!
//! ```text
//!   total u32 LE │ count u16 LE (65535: unknown) │ element … │ 0xff
//!   element = encoding and data │ the size of both, to be read backwards (1 to 5 bytes)
//!   0xxxxxxx  7-bit number    10xxxxxx  short string      110xxxxx  13-bit number   1110xxxx  12-bit string
//!   f0 32-bit string          f1 i16 · f2 i24 · f3 i32 · f4 i64
//! ```

use std::borrow::Cow;

use crate::RdbError;
use crate::cursor::{Cursor, decimal};

/// One element: servers store whatever looks like a number as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element<'a> {
    Number(i64),
    Text(&'a [u8]),
}

impl<'a> Element<'a> {
    pub(crate) fn bytes(self) -> Cow<'a, [u8]> {
        match self {
            Self::Number(number) => decimal(number),
            Self::Text(text) => Cow::Borrowed(text),
        }
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.bytes().into_owned()
    }
}

/// Reads a listpack front to back.
pub(crate) struct Listpack<'a> {
    cursor: Cursor<'a>,
    count: Option<u16>,
    seen: u64,
}

impl<'a> Listpack<'a> {
    pub(crate) fn new(blob: &'a [u8]) -> Result<Self, RdbError> {
        let mut cursor = Cursor::new(blob);
        let total = u32::from_le_bytes(cursor.array("a listpack's size")?);
        let count = u16::from_le_bytes(cursor.array("a listpack's count")?);
        if u64::from(total) != blob.len() as u64 {
            return Err(cursor.corrupt("a listpack whose size differs from what it says"));
        }
        Ok(Self {
            cursor,
            count: (count != u16::MAX).then_some(count),
            seen: 0,
        })
    }

    /// The next element, or `None` at a sound end.
    pub(crate) fn next(&mut self) -> Result<Option<Element<'a>>, RdbError> {
        let start = self.cursor.at();
        let first = self.cursor.byte("a listpack")?;
        if first == 0xff {
            self.cursor.finish()?;
            let counted = self.count.is_none_or(|count| u64::from(count) == self.seen);
            return if counted {
                Ok(None)
            } else {
                Err(self
                    .cursor
                    .corrupt("a listpack with another count than it says"))
            };
        }
        let element = self.element(first)?;
        self.skip_back_length(self.cursor.at() - start)?;
        self.seen += 1;
        Ok(Some(element))
    }

    /// The next element, which must be there.
    pub(crate) fn expect(&mut self, what: &'static str) -> Result<Element<'a>, RdbError> {
        self.next()?.ok_or(RdbError::Truncated {
            at: self.cursor.at() as u64,
            what,
        })
    }

    pub(crate) fn number(&mut self, what: &'static str) -> Result<i64, RdbError> {
        match self.expect(what)? {
            Element::Number(number) => Ok(number),
            Element::Text(_) => Err(self
                .cursor
                .corrupt("a string in a listpack where a number belongs")),
        }
    }

    pub(crate) fn corrupt(&self, what: &'static str) -> RdbError {
        self.cursor.corrupt(what)
    }

    fn element(&mut self, first: u8) -> Result<Element<'a>, RdbError> {
        const WHAT: &str = "a listpack";
        let cursor = &mut self.cursor;
        let text_length = match first {
            0x00..=0x7f => return Ok(Element::Number(i64::from(first))),
            0x80..=0xbf => usize::from(first & 0x3f),
            0xc0..=0xdf => {
                let raw = i16::from_be_bytes([first & 0x1f, cursor.byte(WHAT)?]);
                return Ok(Element::Number(i64::from((raw << 3) >> 3)));
            }
            0xe0..=0xef => usize::from(u16::from_be_bytes([first & 0x0f, cursor.byte(WHAT)?])),
            0xf0 => u32::from_le_bytes(cursor.array(WHAT)?) as usize,
            0xf1 => {
                return Ok(Element::Number(i64::from(i16::from_le_bytes(
                    cursor.array(WHAT)?,
                ))));
            }
            0xf2 => {
                let [a, b, c] = cursor.array(WHAT)?;
                return Ok(Element::Number(i64::from(
                    i32::from_le_bytes([0, a, b, c]) >> 8,
                )));
            }
            0xf3 => {
                return Ok(Element::Number(i64::from(i32::from_le_bytes(
                    cursor.array(WHAT)?,
                ))));
            }
            0xf4 => return Ok(Element::Number(i64::from_le_bytes(cursor.array(WHAT)?))),
            0xf5..=0xff => return Err(cursor.corrupt("a listpack element of unknown encoding")),
        };
        Ok(Element::Text(cursor.take(text_length, WHAT)?))
    }

    /// The size is written with its first byte's high bit clear and all others' set. How many bytes it takes is not told,
    /// and versions differed at the edges (16383): the shortest that says the right size is it.
    fn skip_back_length(&mut self, size: usize) -> Result<(), RdbError> {
        let mut said: u64 = 0;
        for index in 0..5 {
            let byte = self.cursor.byte("a listpack element's size")?;
            if (byte & 0x80 != 0) != (index > 0) {
                break;
            }
            said = (said << 7) | u64::from(byte & 0x7f);
            if said == size as u64 {
                return Ok(());
            }
        }
        Err(self
            .cursor
            .corrupt("a listpack element that misstates its size"))
    }
}

/// All elements as byte strings.
pub(crate) fn listpack(blob: &[u8]) -> Result<Vec<Vec<u8>>, RdbError> {
    let mut reader = Listpack::new(blob)?;
    let mut elements = Vec::new();
    while let Some(element) = reader.next()? {
        elements.push(element.into_vec());
    }
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(elements: &[&[u8]]) -> Vec<u8> {
        let body: Vec<u8> = elements.concat();
        let mut blob = (body.len() as u32 + 7).to_le_bytes().to_vec();
        blob.extend((elements.len() as u16).to_le_bytes());
        blob.extend(body);
        blob.push(0xff);
        blob
    }

    #[track_caller]
    fn check(element: &[u8], expect: &str) {
        let elements = listpack(&pack(&[element, b"\x05\x01"])).unwrap();
        assert_eq!(String::from_utf8_lossy(&elements[0]), expect);
        assert_eq!(elements.len(), 2);
    }

    #[test]
    fn every_encoding_comes_out() {
        check(b"\x7f\x01", "127");
        check(b"\x83abc\x04", "abc");
        check(b"\xdf\xff\x02", "-1");
        check(b"\xcf\xff\x02", "4095");
        check(b"\xd0\x00\x02", "-4096");
        check(b"\xe0\x03abc\x05", "abc");
        check(b"\xf0\x03\0\0\0abc\x08", "abc");
        check(b"\xf1\x00\x80\x03", "-32768");
        check(b"\xf2\xff\xff\x7f\x04", "8388607");
        check(b"\xf2\x00\x00\x80\x04", "-8388608");
        check(b"\xf3\xff\xff\xff\xff\x05", "-1");
        check(
            b"\xf4\x00\x00\x00\x00\x00\x00\x00\x80\x09",
            "-9223372036854775808",
        );
    }

    #[test]
    fn a_size_is_read_in_either_form_at_the_edge() {
        let text = vec![b'x'; 16383 - 5];
        for size in [&[0x7f, 0xff][..], &[0x00, 0xff, 0xff][..]] {
            let element = [
                b"\xf0".as_slice(),
                &(text.len() as u32).to_le_bytes(),
                &text,
                size,
            ]
            .concat();
            check(&element, &String::from_utf8(text.clone()).unwrap());
        }
    }

    #[test]
    fn lies_are_refused() {
        assert!(listpack(b"").is_err());
        assert!(listpack(b"\x07\0\0\0\x01\0\xff").is_err());
        assert!(listpack(b"\x09\0\0\0\x01\0\x05\x02\xff").is_err());
        assert!(listpack(b"\x0a\0\0\0\x01\0\xf5\x01\x01\xff").is_err());
        assert!(listpack(b"\xff\xff\xff\xff\x00\0\xff").is_err());
    }
}
