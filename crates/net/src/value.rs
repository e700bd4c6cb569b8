//! A reply as a value, for code that looks into it. The hot path never makes one.

use bytes::Bytes;
use understudy_resp::{Protocol, encode};

/// One reply, of either protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `+OK`
    Simple(String),
    /// `-ERR …`, without the dash. Also RESP3's bulk error.
    Error(String),
    /// `:1`
    Integer(i64),
    /// `$…`; also RESP3's verbatim text, without its format.
    Bulk(Bytes),
    /// `*…`
    Array(Vec<Value>),
    /// RESP3's map. The order of a map that was received is kept.
    Map(Vec<(Value, Value)>),
    /// RESP3's set.
    Set(Vec<Value>),
    /// `$-1`, `*-1`, or RESP3's `_`.
    Null,
    /// RESP3's double.
    Double(f64),
    /// RESP3's boolean.
    Boolean(bool),
    /// RESP3's number without bounds, as its digits.
    BigNumber(String),
    /// Out of band, RESP3 only.
    Push(Vec<Value>),
}

/// A server answered, and the answer is an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ServerError {
    /// The whole text, code first.
    pub text: String,
}

impl ServerError {
    /// The first word: `ERR`, `READONLY`, `NOAUTH`…
    pub fn code(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }
}

impl Value {
    /// `+OK`, the commonest answer.
    pub fn ok() -> Value {
        Value::Simple("OK".to_owned())
    }

    /// A bulk string out of anything that becomes bytes.
    pub fn bulk(bytes: impl Into<Bytes>) -> Value {
        Value::Bulk(bytes.into())
    }

    /// A bulk string out of text.
    pub fn text(text: impl Into<String>) -> Value {
        Value::Bulk(Bytes::from(text.into()))
    }

    /// An error reply. The code is the first word of `text`.
    pub fn error(text: impl Into<String>) -> Value {
        Value::Error(text.into())
    }

    /// Fields and values one after another, as CONFIG GET answers. `field` reads it back.
    pub fn fields<I, N, V>(pairs: I) -> Value
    where
        I: IntoIterator<Item = (N, V)>,
        N: Into<String>,
        V: Into<Value>,
    {
        Value::Array(
            pairs
                .into_iter()
                .flat_map(|(name, value)| [Value::text(name), value.into()])
                .collect(),
        )
    }

    /// Appends the reply as it travels. RESP2 gets what Redis gives it in the place of newer types.
    pub fn encode(&self, out: &mut Vec<u8>, protocol: Protocol) {
        let all = |out: &mut Vec<u8>, items: &[Value]| {
            items.iter().for_each(|item| item.encode(out, protocol));
        };
        match self {
            Value::Simple(text) => encode::simple(out, text),
            Value::Error(text) => encode::error(out, text),
            Value::Integer(number) => encode::integer(out, *number),
            Value::Bulk(bytes) => encode::bulk(out, bytes),
            Value::Null => encode::null_bulk(out, protocol),
            Value::Double(number) => encode::double(out, protocol, *number),
            Value::Boolean(flag) => encode::boolean(out, protocol, *flag),
            Value::BigNumber(digits) => match protocol {
                Protocol::Resp2 => encode::bulk(out, digits.as_bytes()),
                Protocol::Resp3 => out.extend_from_slice(format!("({digits}\r\n").as_bytes()),
            },
            Value::Array(items) => {
                encode::array_header(out, items.len());
                all(out, items);
            }
            Value::Set(items) => {
                encode::set_header(out, protocol, items.len());
                all(out, items);
            }
            Value::Push(items) => {
                encode::push_header(out, protocol, items.len());
                all(out, items);
            }
            Value::Map(pairs) => {
                encode::map_header(out, protocol, pairs.len());
                for (name, value) in pairs {
                    name.encode(out, protocol);
                    value.encode(out, protocol);
                }
            }
        }
    }

    /// An error reply becomes an error, anything else stays.
    pub fn into_ok(self) -> Result<Value, ServerError> {
        match self {
            Value::Error(text) => Err(ServerError { text }),
            other => Ok(other),
        }
    }

    /// The text of an error reply.
    pub fn as_error(&self) -> Option<&str> {
        match self {
            Value::Error(text) => Some(text),
            _ => None,
        }
    }

    /// Whether this is `+OK`.
    pub fn is_ok(&self) -> bool {
        matches!(self, Value::Simple(text) if text == "OK")
    }

    /// The bytes of a simple or bulk string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Bulk(bytes) => Some(bytes),
            Value::Simple(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// The bytes of a simple or bulk string, kept.
    pub fn into_bytes(self) -> Option<Bytes> {
        match self {
            Value::Bulk(bytes) => Some(bytes),
            Value::Simple(text) => Some(Bytes::from(text)),
            _ => None,
        }
    }

    /// The text of anything that has one (numbers and errors too); what is not UTF-8 is replaced.
    pub fn as_str_lossy(&self) -> Option<String> {
        match self {
            Value::Simple(text) | Value::Error(text) | Value::BigNumber(text) => Some(text.clone()),
            Value::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Double(number) => Some(number.to_string()),
            Value::Boolean(flag) => Some(flag.to_string()),
            Value::Array(_) | Value::Map(_) | Value::Set(_) | Value::Push(_) | Value::Null => None,
        }
    }

    /// The number of an integer, or of a string that spells one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Integer(number) => Some(*number),
            Value::Boolean(flag) => Some(i64::from(*flag)),
            Value::Simple(_) | Value::Bulk(_) | Value::BigNumber(_) => {
                std::str::from_utf8(self.as_bytes()?)
                    .ok()?
                    .trim()
                    .parse()
                    .ok()
            }
            _ => None,
        }
    }

    /// The items of an array, set or push.
    pub fn as_slice(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => Some(items),
            _ => None,
        }
    }

    /// The items of an array, set or push, kept.
    pub fn into_vec(self) -> Option<Vec<Value>> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => Some(items),
            _ => None,
        }
    }

    /// What stands behind a name, in a map or in an array of fields and values.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let named = |value: &Value| {
            value
                .as_bytes()
                .is_some_and(|bytes| bytes.eq_ignore_ascii_case(name.as_bytes()))
        };
        match self {
            Value::Map(pairs) => pairs
                .iter()
                .find(|(key, _)| named(key))
                .map(|(_, value)| value),
            Value::Array(items) => items
                .chunks_exact(2)
                .find(|pair| named(&pair[0]))
                .map(|pair| &pair[1]),
            _ => None,
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Integer(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_in_flat_arrays_and_in_maps() {
        let flat = Value::fields([("gate", Value::from("held")), ("epoch", Value::from(3))]);
        assert_eq!(flat.field("epoch").and_then(Value::as_i64), Some(3));
        assert_eq!(
            flat.field("GATE").and_then(Value::as_str_lossy).as_deref(),
            Some("held")
        );
        assert_eq!(flat.field("held"), None, "a value is not a name");
        let map = Value::Map(vec![(Value::from("term"), Value::from("12"))]);
        assert_eq!(map.field("term").and_then(Value::as_i64), Some(12));
    }

    #[test]
    fn an_error_reply_keeps_its_code() {
        let refused = Value::error("NOTHELD worker 2 in flight 3")
            .into_ok()
            .unwrap_err();
        assert_eq!(refused.code(), "NOTHELD");
    }
}
