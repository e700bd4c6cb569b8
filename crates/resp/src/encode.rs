//! Writes commands and replies. Everything appends to a `Vec<u8>`; nothing fails.
//!
//! RESP3 types have a RESP2 form that says the same: a map is an array of twice the length, a boolean is an integer. Those
//! writers take the `Protocol` of the connection. Texts of simple strings and errors must be one line; a line end in them
//! becomes a blank, since it would be read as the end of the reply.

use crate::Protocol;
use crate::args::Args;

/// A command as a multibulk request.
pub fn command<T: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[T]) {
    command_from(out, args);
}

/// As `command`, from arguments wherever they lie.
pub fn command_from(out: &mut Vec<u8>, args: impl Args + Copy) {
    header(out, b'*', args.count());
    for index in 0..args.count() {
        bulk(out, args.arg(index));
    }
}

/// `+text`.
pub fn simple(out: &mut Vec<u8>, text: &str) {
    line(out, b'+', text.as_bytes());
}

/// `+OK`.
pub fn ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"+OK\r\n");
}

/// `-text`. The text begins with its code: `ERR …`, `READONLY …`.
pub fn error(out: &mut Vec<u8>, text: &str) {
    line(out, b'-', text.as_bytes());
}

/// `:value`.
pub fn integer(out: &mut Vec<u8>, value: i64) {
    out.push(b':');
    decimal(out, value);
    out.extend_from_slice(b"\r\n");
}

/// `$length`, the value.
pub fn bulk(out: &mut Vec<u8>, value: &[u8]) {
    header(out, b'$', value.len());
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// No value, where a bulk string is due: `$-1` or `_`.
pub fn null_bulk(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// No value, where an array is due (EXEC after a failed WATCH): `*-1` or `_`.
pub fn null_array(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"*-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// An array of `count` elements follows.
pub fn array_header(out: &mut Vec<u8>, count: usize) {
    header(out, b'*', count);
}

/// A map of `pairs` keys and values follows.
pub fn map_header(out: &mut Vec<u8>, protocol: Protocol, pairs: usize) {
    match protocol {
        Protocol::Resp2 => header(out, b'*', pairs.saturating_mul(2)),
        Protocol::Resp3 => header(out, b'%', pairs),
    }
}

/// A set of `count` elements follows.
pub fn set_header(out: &mut Vec<u8>, protocol: Protocol, count: usize) {
    match protocol {
        Protocol::Resp2 => header(out, b'*', count),
        Protocol::Resp3 => header(out, b'~', count),
    }
}

/// A push of `count` elements follows. RESP2 has only arrays, and only subscribers get them.
pub fn push_header(out: &mut Vec<u8>, protocol: Protocol, count: usize) {
    match protocol {
        Protocol::Resp2 => header(out, b'*', count),
        Protocol::Resp3 => header(out, b'>', count),
    }
}

/// A boolean; `:1` or `:0` in RESP2.
pub fn boolean(out: &mut Vec<u8>, protocol: Protocol, value: bool) {
    out.extend_from_slice(match (protocol, value) {
        (Protocol::Resp2, true) => b":1\r\n",
        (Protocol::Resp2, false) => b":0\r\n",
        (Protocol::Resp3, true) => b"#t\r\n",
        (Protocol::Resp3, false) => b"#f\r\n",
    });
}

/// A double; a bulk string in RESP2. Infinities and NaN are written as Redis writes them.
pub fn double(out: &mut Vec<u8>, protocol: Protocol, value: f64) {
    let text = if value.is_nan() {
        "nan".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 {
            "inf".to_owned()
        } else {
            "-inf".to_owned()
        }
    } else {
        value.to_string()
    };
    match protocol {
        Protocol::Resp2 => bulk(out, text.as_bytes()),
        Protocol::Resp3 => line(out, b',', text.as_bytes()),
    }
}

/// A text with its three-letter format (`txt`, `mkd`); a bulk string in RESP2.
pub fn verbatim(out: &mut Vec<u8>, protocol: Protocol, format: &str, text: &[u8]) {
    match protocol {
        Protocol::Resp2 => bulk(out, text),
        Protocol::Resp3 => {
            let format = if format.len() == 3 { format } else { "txt" };
            header(out, b'=', text.len() + 4);
            out.extend_from_slice(format.as_bytes());
            out.push(b':');
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn line(out: &mut Vec<u8>, marker: u8, text: &[u8]) {
    out.push(marker);
    out.extend(text.iter().map(|&byte| {
        if byte == b'\r' || byte == b'\n' {
            b' '
        } else {
            byte
        }
    }));
    out.extend_from_slice(b"\r\n");
}

fn header(out: &mut Vec<u8>, marker: u8, count: usize) {
    // A slice is never longer than `isize::MAX` bytes, so its length is never negative as an `i64`.
    out.push(marker);
    decimal(out, i64::try_from(count).unwrap_or(i64::MAX));
    out.extend_from_slice(b"\r\n");
}

fn decimal(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    let mut left = value.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{ReplyKind, ReplyScanner, ScanLimits};

    #[track_caller]
    fn check(write: impl Fn(&mut Vec<u8>, Protocol), resp2: &str, resp3: &str, kind: ReplyKind) {
        for (protocol, expect) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
            let mut out = Vec::new();
            write(&mut out, protocol);
            assert_eq!(
                out.escape_ascii().to_string(),
                expect.escape_default().to_string()
            );
            let frame = ReplyScanner::new()
                .scan(&out, &ScanLimits::default())
                .unwrap()
                .unwrap();
            assert_eq!(frame.len, out.len());
            if protocol == Protocol::Resp3 {
                assert_eq!(frame.kind, kind);
            }
        }
    }

    #[test]
    fn replies_have_both_forms_and_scan_back() {
        check(
            |out, _| simple(out, "OK"),
            "+OK\r\n",
            "+OK\r\n",
            ReplyKind::Simple,
        );
        check(
            |out, _| error(out, "ERR a\r\nb"),
            "-ERR a  b\r\n",
            "-ERR a  b\r\n",
            ReplyKind::Error,
        );
        check(
            |out, _| integer(out, i64::MIN),
            ":-9223372036854775808\r\n",
            ":-9223372036854775808\r\n",
            ReplyKind::Integer,
        );
        check(
            |out, _| integer(out, 0),
            ":0\r\n",
            ":0\r\n",
            ReplyKind::Integer,
        );
        check(
            |out, _| bulk(out, b"a\r\nb"),
            "$4\r\na\r\nb\r\n",
            "$4\r\na\r\nb\r\n",
            ReplyKind::Bulk,
        );
        check(null_bulk, "$-1\r\n", "_\r\n", ReplyKind::Null);
        check(null_array, "*-1\r\n", "_\r\n", ReplyKind::Null);
        check(
            |out, protocol| map_header(out, protocol, 0),
            "*0\r\n",
            "%0\r\n",
            ReplyKind::Other,
        );
        check(
            |out, protocol| set_header(out, protocol, 0),
            "*0\r\n",
            "~0\r\n",
            ReplyKind::Other,
        );
        check(
            |out, protocol| push_header(out, protocol, 0),
            "*0\r\n",
            ">0\r\n",
            ReplyKind::Push,
        );
        check(
            |out, protocol| boolean(out, protocol, true),
            ":1\r\n",
            "#t\r\n",
            ReplyKind::Other,
        );
        check(
            |out, protocol| double(out, protocol, 1.5),
            "$3\r\n1.5\r\n",
            ",1.5\r\n",
            ReplyKind::Other,
        );
        check(
            |out, protocol| double(out, protocol, f64::NEG_INFINITY),
            "$4\r\n-inf\r\n",
            ",-inf\r\n",
            ReplyKind::Other,
        );
        check(
            |out, protocol| verbatim(out, protocol, "txt", b"hi"),
            "$2\r\nhi\r\n",
            "=6\r\ntxt:hi\r\n",
            ReplyKind::Other,
        );
    }

    #[test]
    fn a_command_is_a_multibulk_request() {
        let mut out = Vec::new();
        command(&mut out, &["SET", "k", ""]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    }
}
