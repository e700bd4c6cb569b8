//! Splits an inline command into arguments as Redis' `sdssplitargs` does: blanks, quotes, escapes.

use super::error::ProtocolError;

/// Splits one line, its line end already taken off.
pub(super) fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
    let mut args = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|&byte| is_blank(byte)) {
            at += 1;
        }
        if at == line.len() {
            return Ok(args);
        }
        let (arg, next) = one(line, at)?;
        args.push(arg);
        at = next;
    }
}

/// One argument that starts at `at`, and where the scan goes on.
fn one(line: &[u8], mut at: usize) -> Result<(Vec<u8>, usize), ProtocolError> {
    let mut arg = Vec::new();
    while let Some(&byte) = line.get(at) {
        match byte {
            b'"' => return quoted(line, at + 1, arg),
            b'\'' => return literal(line, at + 1, arg),
            _ if is_blank(byte) => break,
            _ => arg.push(byte),
        }
        at += 1;
    }
    Ok((arg, at))
}

/// Behind a double quote: `\xHH`, `\n`, `\r`, `\t`, `\b`, `\a`; any other escaped byte stands for itself.
fn quoted(line: &[u8], mut at: usize, mut arg: Vec<u8>) -> Result<(Vec<u8>, usize), ProtocolError> {
    loop {
        match line.get(at..).unwrap_or_default() {
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                arg.push(hex(*high) << 4 | hex(*low));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                arg.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                at += 2;
            }
            [b'"', ..] => return closed(line, at + 1, arg),
            [byte, ..] => {
                arg.push(*byte);
                at += 1;
            }
            [] => return Err(ProtocolError::UnbalancedQuotes),
        }
    }
}

/// Behind a single quote only `\'` is an escape.
fn literal(
    line: &[u8],
    mut at: usize,
    mut arg: Vec<u8>,
) -> Result<(Vec<u8>, usize), ProtocolError> {
    loop {
        match line.get(at..).unwrap_or_default() {
            [b'\\', b'\'', ..] => {
                arg.push(b'\'');
                at += 2;
            }
            [b'\'', ..] => return closed(line, at + 1, arg),
            [byte, ..] => {
                arg.push(*byte);
                at += 1;
            }
            [] => return Err(ProtocolError::UnbalancedQuotes),
        }
    }
}

/// A closing quote must be followed by a blank or by nothing.
fn closed(line: &[u8], at: usize, arg: Vec<u8>) -> Result<(Vec<u8>, usize), ProtocolError> {
    match line.get(at) {
        Some(&byte) if !is_blank(byte) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok((arg, at)),
    }
}

/// C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[track_caller]
    fn check(line: &str, expect: &str) {
        let got = match split(line.as_bytes()) {
            Ok(args) => args
                .iter()
                .map(|arg| format!("[{}]", arg.escape_ascii()))
                .collect(),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expect, "{line:?}");
    }

    #[test]
    fn lines_split_as_redis_splits_them() {
        check("", "");
        check("  \t ", "");
        check("PING", "[PING]");
        check("  set  k v ", "[set][k][v]");
        check(r#"set k "a b""#, "[set][k][a b]");
        check(r#"set k "\x41\n\q\"""#, r#"[set][k][A\nq\"]"#);
        check(r#"set k "\x4g""#, "[set][k][x4g]");
        check(r"set k 'a\n\' b'", r"[set][k][a\\n\' b]");
        check(r#"set k """#, "[set][k][]");
        check(r#"set pre"fix" v"#, "[set][prefix][v]");
        check(r#"set "k"v"#, "unbalanced quotes in request");
        check(r#"set "k"#, "unbalanced quotes in request");
        check(r"set 'k", "unbalanced quotes in request");
        check(r#"set "k\"#, "unbalanced quotes in request");
    }
}
