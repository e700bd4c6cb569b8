//! Numbers and line ends, read byte by byte.
//!
//! A number is refused at its first byte that cannot belong to one, so a sender cannot make us look at a long line again
//! and again, and the answer does not depend on how the bytes were cut.

/// What stands at a place where a number and CRLF are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// The number and the index of the first byte behind its CRLF.
    Number(i64, usize),
    /// The bytes end before the line does.
    More,
    /// No number.
    Bad,
    /// A number, and then a CR without LF.
    BadEnd,
}

/// Reads `number CRLF` at `at`. The rules are those of Redis' `string2ll`: no `+`, no leading zero, no empty number, no
/// `-0`; at most 18 digits here, which every length of a frame fits in.
///
/// Always inlined: a frame has one for each argument, and the call costs more than the two digits.
#[inline(always)]
pub(super) fn number(bytes: &[u8], at: usize) -> Line {
    let rest = bytes.get(at..).unwrap_or_default();
    match *rest {
        // By far the most common: one digit or two.
        [a @ b'0'..=b'9', b'\r', b'\n', ..] => return Line::Number(i64::from(a - b'0'), at + 3),
        [a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', ..] => {
            return Line::Number(i64::from(a - b'0') * 10 + i64::from(b - b'0'), at + 4);
        }
        _ => {}
    }
    any_number(rest, at)
}

/// Digits that a number may have; no overflow of an `i64` can happen below it.
const DIGITS_MAX: usize = 18;

#[inline(never)]
fn any_number(rest: &[u8], at: usize) -> Line {
    let negative = rest.first() == Some(&b'-');
    let start = usize::from(negative);
    let mut value: i64 = 0;
    let mut index = start;
    loop {
        match rest.get(index) {
            None => return Line::More,
            Some(&digit @ b'0'..=b'9') => {
                let leading_zero = value == 0 && index > start;
                let minus_zero = negative && digit == b'0' && index == start;
                if leading_zero || minus_zero || index - start == DIGITS_MAX {
                    return Line::Bad;
                }
                value = value * 10 + i64::from(digit - b'0');
            }
            Some(b'\r') if index > start => break,
            Some(_) => return Line::Bad,
        }
        index += 1;
    }
    match rest.get(index + 1) {
        None => Line::More,
        Some(b'\n') => Line::Number(if negative { -value } else { value }, at + index + 2),
        Some(_) => Line::BadEnd,
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, number};

    #[track_caller]
    fn check(input: &str, expect: Line) {
        assert_eq!(number(input.as_bytes(), 0), expect, "{input:?}");
        if let Line::Number(value, end) = expect {
            for cut in 0..end {
                assert_eq!(
                    number(&input.as_bytes()[..cut], 0),
                    Line::More,
                    "{input:?} cut at {cut}"
                );
            }
            assert_eq!(
                number(format!("ab{input}").as_bytes(), 2),
                Line::Number(value, end + 2)
            );
        }
    }

    #[test]
    fn numbers_follow_string2ll() {
        check("0\r\n", Line::Number(0, 3));
        check("7\r\nx", Line::Number(7, 3));
        check("42\r\n", Line::Number(42, 4));
        check("-1\r\n", Line::Number(-1, 4));
        check(
            "123456789012345678\r\n",
            Line::Number(123_456_789_012_345_678, 20),
        );
        check("1234567890123456789\r\n", Line::Bad);
        check("03\r\n", Line::Bad);
        check("00\r\n", Line::Bad);
        check("-0\r\n", Line::Bad);
        check("+1\r\n", Line::Bad);
        check(" 1\r\n", Line::Bad);
        check("1 \r\n", Line::Bad);
        check("-\r\n", Line::Bad);
        check("\r\n", Line::Bad);
        check("1\n", Line::Bad);
        check("1\rx", Line::BadEnd);
        check("", Line::More);
    }
}
