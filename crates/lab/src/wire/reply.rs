//! Frames: reads RESP2 and RESP3 replies, writes commands. Pure.
//!
//! Simple over fast: an incomplete reply is read again from its first byte when more of it came.

use std::fmt;

/// The largest reply that the lab takes from a server or proxy, in bytes. Beyond it the stream is taken for broken.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// The deepest nesting of a reply.
const DEPTH_MAX: usize = 16;

/// One reply, in either protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+OK`
    Simple(String),
    /// `-ERR …`, without the minus; RESP3's bulk errors too.
    Error(String),
    /// `:1`
    Integer(i64),
    /// `$3 abc`; RESP3's verbatim strings and big numbers too.
    Bulk(Vec<u8>),
    /// Every form of null.
    Null,
    /// Arrays and sets.
    Array(Vec<Reply>),
    /// RESP3's maps, in the order sent.
    Map(Vec<(Reply, Reply)>),
    /// RESP3's doubles.
    Double(f64),
    /// RESP3's booleans.
    Boolean(bool),
    /// RESP3's out-of-band messages.
    Push(Vec<Reply>),
}

impl Reply {
    /// A bulk string of these bytes.
    pub fn bulk(bytes: impl AsRef<[u8]>) -> Reply {
        Reply::Bulk(bytes.as_ref().to_vec())
    }

    /// `+OK`.
    pub fn ok() -> Reply {
        Reply::Simple("OK".to_owned())
    }

    /// The integer, where it is one.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Reply::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The elements of an array, of a push, or of a map laid flat as RESP2 sends it.
    pub fn into_elements(self) -> Option<Vec<Reply>> {
        match self {
            Reply::Array(elements) | Reply::Push(elements) => Some(elements),
            Reply::Map(pairs) => Some(
                pairs
                    .into_iter()
                    .flat_map(|(key, value)| [key, value])
                    .collect(),
            ),
            _ => None,
        }
    }

    /// The bytes of a string of any kind.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Reply::Bulk(bytes) => Some(bytes),
            Reply::Simple(text) => Some(text.into_bytes()),
            _ => None,
        }
    }
}

/// Short, for findings: long strings and arrays are cut.
impl fmt::Display for Reply {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Simple(text) => write!(out, "+{text}"),
            Reply::Error(text) => write!(out, "-{text}"),
            Reply::Integer(number) => write!(out, ":{number}"),
            Reply::Bulk(bytes) => write!(out, "{:?}", shorten(bytes)),
            Reply::Null => write!(out, "(nil)"),
            Reply::Double(number) => write!(out, ",{number}"),
            Reply::Boolean(value) => write!(out, "#{value}"),
            Reply::Array(elements) | Reply::Push(elements) => {
                write!(out, "[")?;
                for (index, element) in elements.iter().take(8).enumerate() {
                    write!(out, "{}{element}", if index == 0 { "" } else { " " })?;
                }
                write!(out, "{}]", if elements.len() > 8 { " …" } else { "" })
            }
            Reply::Map(pairs) => write!(out, "map of {}", pairs.len()),
        }
    }
}

/// A string as people read it, cut in the middle.
pub(crate) fn shorten(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).into_owned();
    let count = text.chars().count();
    if count <= 64 {
        return text;
    }
    let head: String = text.chars().take(28).collect();
    let tail: String = text.chars().skip(count - 28).collect();
    format!("{head}…{tail}")
}

/// Appends one command.
pub fn encode<A: AsRef<[u8]>>(out: &mut Vec<u8>, arguments: &[A]) {
    out.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        let argument = argument.as_ref();
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads the reply at the start of `bytes` and says how long it is; `None` when it is not all there.
pub fn decode(bytes: &[u8]) -> Result<Option<(Reply, usize)>, String> {
    let mut reader = Reader { bytes, at: 0 };
    match reader.reply(0) {
        Ok(reply) => Ok(Some((reply, reader.at))),
        Err(Stop::Incomplete) if bytes.len() > REPLY_BYTES_MAX => {
            Err(format!("reply over {REPLY_BYTES_MAX} bytes"))
        }
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Broken(why)) => Err(why),
    }
}

enum Stop {
    Incomplete,
    Broken(String),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn reply(&mut self, depth: usize) -> Result<Reply, Stop> {
        if depth > DEPTH_MAX {
            return Err(Stop::Broken(format!("reply nested over {DEPTH_MAX} deep")));
        }
        let line = self.line()?;
        let Some((kind, rest)) = line.split_first() else {
            return Err(Stop::Broken(
                "empty line where a reply should begin".to_owned(),
            ));
        };
        match kind {
            b'+' => Ok(Reply::Simple(text(rest))),
            b'-' => Ok(Reply::Error(text(rest))),
            b':' => Ok(Reply::Integer(number(rest)?)),
            b'_' => Ok(Reply::Null),
            b'#' => Ok(Reply::Boolean(rest == b"t")),
            b',' => Ok(Reply::Double(
                text(rest).parse().map_err(|_| broken("double", rest))?,
            )),
            b'(' => Ok(Reply::Bulk(rest.to_vec())),
            b'$' => Ok(self.string(number(rest)?)?.map_or(Reply::Null, Reply::Bulk)),
            b'=' => {
                let bytes = self.string(number(rest)?)?.unwrap_or_default();
                Ok(Reply::Bulk(bytes.get(4..).unwrap_or_default().to_vec()))
            }
            b'!' => Ok(Reply::Error(text(
                &self.string(number(rest)?)?.unwrap_or_default(),
            ))),
            b'*' | b'~' => Ok(self
                .elements(number(rest)?, depth)?
                .map_or(Reply::Null, Reply::Array)),
            b'>' => Ok(Reply::Push(
                self.elements(number(rest)?, depth)?.unwrap_or_default(),
            )),
            b'%' => {
                let flat = self
                    .elements(number(rest)?.saturating_mul(2), depth)?
                    .unwrap_or_default();
                let mut flat = flat.into_iter();
                let mut pairs = Vec::new();
                while let (Some(key), Some(value)) = (flat.next(), flat.next()) {
                    pairs.push((key, value));
                }
                Ok(Reply::Map(pairs))
            }
            b'|' => {
                self.elements(number(rest)?.saturating_mul(2), depth)?;
                self.reply(depth + 1)
            }
            _ => Err(broken("reply", line)),
        }
    }

    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let length = rest
            .windows(2)
            .position(|pair| pair == b"\r\n")
            .ok_or(Stop::Incomplete)?;
        self.at += length + 2;
        Ok(&rest[..length])
    }

    fn string(&mut self, length: i64) -> Result<Option<Vec<u8>>, Stop> {
        let Ok(length) = usize::try_from(length) else {
            return Ok(None);
        };
        let rest = &self.bytes[self.at..];
        let Some(end) = length.checked_add(2).filter(|end| *end <= REPLY_BYTES_MAX) else {
            return Err(Stop::Broken(format!("string of {length} bytes")));
        };
        if rest.len() < end {
            return Err(Stop::Incomplete);
        }
        if &rest[length..end] != b"\r\n" {
            return Err(Stop::Broken("string longer than it says".to_owned()));
        }
        self.at += end;
        Ok(Some(rest[..length].to_vec()))
    }

    fn elements(&mut self, count: i64, depth: usize) -> Result<Option<Vec<Reply>>, Stop> {
        let Ok(count) = usize::try_from(count) else {
            return Ok(None);
        };
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(self.reply(depth + 1)?);
        }
        Ok(Some(elements))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(bytes: &[u8]) -> Result<i64, Stop> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| broken("number", bytes))
}

fn broken(what: &str, bytes: &[u8]) -> Stop {
    Stop::Broken(format!("not a {what}: {:?}", shorten(bytes)))
}

#[cfg(test)]
mod tests {
    use super::{Reply, decode, encode};

    /// Reads whole, and cut at every byte: a shorter one is never taken for complete.
    #[track_caller]
    fn check(bytes: &[u8], expect: &Reply) {
        assert_eq!(decode(bytes), Ok(Some((expect.clone(), bytes.len()))));
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Ok(None), "cut at {end}");
        }
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        check(b"+OK\r\n", &Reply::ok());
        check(b"-ERR no\r\n", &Reply::Error("ERR no".to_owned()));
        check(b":-7\r\n", &Reply::Integer(-7));
        check(b"$4\r\na\r\nb\r\n", &Reply::bulk("a\r\nb"));
        check(b"$-1\r\n", &Reply::Null);
        check(b"*-1\r\n", &Reply::Null);
        check(b"_\r\n", &Reply::Null);
        check(
            b"*2\r\n:1\r\n*1\r\n+x\r\n",
            &Reply::Array(vec![
                Reply::Integer(1),
                Reply::Array(vec![Reply::Simple("x".into())]),
            ]),
        );
        check(
            b"%1\r\n$1\r\nf\r\n,1.5\r\n",
            &Reply::Map(vec![(Reply::bulk("f"), Reply::Double(1.5))]),
        );
        check(b"=5\r\ntxt:a\r\n", &Reply::bulk("a"));
        check(b"|1\r\n+k\r\n+v\r\n#t\r\n", &Reply::Boolean(true));
        check(
            b">1\r\n+p\r\n",
            &Reply::Push(vec![Reply::Simple("p".into())]),
        );
    }

    #[test]
    fn nonsense_is_named_and_not_waited_for() {
        assert!(decode(b"hello\r\n").is_err());
        assert!(decode(b":x\r\n").is_err());
        assert!(decode(b"$1\r\nabc").is_err());
        assert!(decode("*1\r\n".repeat(40).as_bytes()).is_err());
    }

    #[test]
    fn a_command_is_encoded_as_bulk_strings() {
        let mut out = Vec::new();
        encode(&mut out, &["GET", "k"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }
}
