//! Reads numbers, lengths and strings off the front of a slice, in the forms of `rdb.c`.
//!
//! ```text
//!   00xxxxxx            6-bit length          0x80 + u32 BE   32-bit length
//!   01xxxxxx xxxxxxxx   14-bit length         0x81 + u64 BE   64-bit length
//!   11xxxxxx            no length but an encoding: 0 int8 · 1 int16 · 2 int32 · 3 LZF(compressed, plain, bytes)
//! ```

use std::borrow::Cow;

use crate::{RdbError, lzf};

/// What the first byte(s) of a string or a count say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Plain(u64),
    /// A string that is not stored as its bytes.
    Encoded(Encoding),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Int8,
    Int16,
    Int32,
    Lzf,
}

/// How many bytes a length takes, told by its first byte.
pub(crate) fn length_size(first: u8) -> usize {
    match first {
        0x40..=0x7f => 2,
        0x80 => 5,
        0x81 => 9,
        _ => 1,
    }
}

/// Decodes the bytes of one length; `None` for a first byte that no server writes.
pub(crate) fn decode_length(bytes: &[u8]) -> Option<Length> {
    match *bytes {
        [short @ 0x00..=0x3f] => Some(Length::Plain(u64::from(short))),
        [high @ 0x40..=0x7f, low] => Some(Length::Plain(u64::from(u16::from_be_bytes([
            high & 0x3f,
            low,
        ])))),
        [0x80, a, b, c, d] => Some(Length::Plain(u64::from(u32::from_be_bytes([a, b, c, d])))),
        [0x81, a, b, c, d, e, f, g, h] => {
            Some(Length::Plain(u64::from_be_bytes([a, b, c, d, e, f, g, h])))
        }
        [0xc0] => Some(Length::Encoded(Encoding::Int8)),
        [0xc1] => Some(Length::Encoded(Encoding::Int16)),
        [0xc2] => Some(Length::Encoded(Encoding::Int32)),
        [0xc3] => Some(Length::Encoded(Encoding::Lzf)),
        _ => None,
    }
}

/// A place in a slice. Every read moves it forward or fails.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    pub(crate) fn corrupt(&self, what: &'static str) -> RdbError {
        RdbError::Corrupt {
            at: self.at as u64,
            what,
        }
    }

    /// Fails unless every byte was read: a value that is followed by something is not the value we think it is.
    pub(crate) fn finish(&self) -> Result<(), RdbError> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(RdbError::Trailing {
                at: self.at as u64,
                count: count as u64,
            }),
        }
    }

    pub(crate) fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], RdbError> {
        let end = self
            .at
            .checked_add(count)
            .filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(RdbError::Truncated {
                at: self.bytes.len() as u64,
                what,
            });
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], RdbError> {
        let taken = self.take(N, what)?;
        taken.try_into().map_err(|_| RdbError::Truncated {
            at: self.bytes.len() as u64,
            what,
        })
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8, RdbError> {
        let [byte] = self.array(what)?;
        Ok(byte)
    }

    pub(crate) fn peek(&self, what: &'static str) -> Result<u8, RdbError> {
        self.clone().byte(what)
    }

    pub(crate) fn any_length(&mut self, what: &'static str) -> Result<Length, RdbError> {
        let size = length_size(self.peek(what)?);
        let bytes = self.take(size, what)?;
        decode_length(bytes).ok_or_else(|| self.corrupt("a length with an unknown encoding"))
    }

    /// A count or a number; an encoded string is not one.
    pub(crate) fn length(&mut self, what: &'static str) -> Result<u64, RdbError> {
        match self.any_length(what)? {
            Length::Plain(length) => Ok(length),
            Length::Encoded(_) => Err(self.corrupt("an encoded string where a number belongs")),
        }
    }

    /// A count of elements, and a capacity for them that the bytes left can pay for.
    pub(crate) fn count(&mut self, what: &'static str) -> Result<(u64, usize), RdbError> {
        let count = self.length(what)?;
        let believable = self.remaining().min(1 << 16);
        Ok((
            count,
            usize::try_from(count).unwrap_or(usize::MAX).min(believable),
        ))
    }

    pub(crate) fn string(&mut self, what: &'static str) -> Result<Cow<'a, [u8]>, RdbError> {
        match self.any_length(what)? {
            Length::Plain(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                Ok(Cow::Borrowed(self.take(length, what)?))
            }
            Length::Encoded(Encoding::Int8) => {
                Ok(decimal(i64::from(i8::from_le_bytes(self.array(what)?))))
            }
            Length::Encoded(Encoding::Int16) => {
                Ok(decimal(i64::from(i16::from_le_bytes(self.array(what)?))))
            }
            Length::Encoded(Encoding::Int32) => {
                Ok(decimal(i64::from(i32::from_le_bytes(self.array(what)?))))
            }
            Length::Encoded(Encoding::Lzf) => {
                let compressed = usize::try_from(self.length(what)?).unwrap_or(usize::MAX);
                let plain = usize::try_from(self.length(what)?).unwrap_or(usize::MAX);
                let compressed = self.take(compressed, what)?;
                let plain =
                    lzf::decompress(compressed, plain).ok_or_else(|| self.corrupt("LZF data"))?;
                Ok(Cow::Owned(plain))
            }
        }
    }

    pub(crate) fn owned(&mut self, what: &'static str) -> Result<Vec<u8>, RdbError> {
        self.string(what).map(Cow::into_owned)
    }

    pub(crate) fn millis(&mut self, what: &'static str) -> Result<i64, RdbError> {
        Ok(i64::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn double(&mut self, what: &'static str) -> Result<f64, RdbError> {
        Ok(f64::from_le_bytes(self.array(what)?))
    }
}

/// A number in the only text form that Redis stores as a number.
pub(crate) fn decimal(number: i64) -> Cow<'static, [u8]> {
    Cow::Owned(number.to_string().into_bytes())
}
