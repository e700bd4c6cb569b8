//! Bytes of a server into values: framed by our own scanner, decoded by redis-protocol.
//!
//! The scanner resumes where it stopped and limits depth and size, so a reply of many megabytes is not decoded anew
//! with each packet, and a hostile one cannot exhaust the stack of the recursive decoder behind it.

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::types::BytesFrame as Frame2;
use redis_protocol::resp3::types::BytesFrame as Frame3;
use understudy_resp::Protocol;
use understudy_resp::scan::{ReplyScanner, ScanLimits};

use crate::value::Value;

/// Replies, as they arrive.
#[derive(Default)]
pub(crate) struct ReplyReader {
    pub(crate) buffer: BytesMut,
    scanner: ReplyScanner,
    limits: ScanLimits,
}

impl ReplyReader {
    /// The next whole reply, or `None` until more bytes are in `buffer`. An error ends the connection.
    pub(crate) fn next(&mut self, protocol: Protocol) -> Result<Option<Value>, String> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let scanned = self
            .scanner
            .scan(&self.buffer, &self.limits)
            .map_err(|cause| cause.to_string())?;
        let Some(frame) = scanned else {
            return Ok(None);
        };
        decode(&self.buffer.split_to(frame.len).freeze(), protocol).map(Some)
    }
}

/// One whole frame into a value.
fn decode(frame: &Bytes, protocol: Protocol) -> Result<Value, String> {
    // An error may quote a client's bytes, which need not be UTF-8; the decoder insists on it.
    if frame.first() == Some(&b'-') {
        return Ok(Value::Error(
            String::from_utf8_lossy(&frame[1..frame.len() - 2]).into_owned(),
        ));
    }
    let newer = matches!(
        frame.first(),
        Some(b'_' | b'#' | b',' | b'(' | b'!' | b'=' | b'%' | b'~' | b'>' | b'|')
    );
    // The answer to HELLO 3 is already RESP3, whatever was spoken before.
    if protocol == Protocol::Resp3 || newer {
        // Some answers keep RESP2's null within RESP3; only the older decoder knows it.
        if frame.starts_with(b"$-1") || frame.starts_with(b"*-1") {
            return Ok(Value::Null);
        }
        match redis_protocol::resp3::decode::complete::decode_bytes(frame) {
            Ok(Some((decoded, _))) => Ok(from_resp3(decoded)),
            Ok(None) => Err("a scanned reply is not whole".to_owned()),
            Err(cause) => Err(cause.to_string()),
        }
    } else {
        match redis_protocol::resp2::decode::decode_bytes(frame) {
            Ok(Some((decoded, _))) => Ok(from_resp2(decoded)),
            Ok(None) => Err("a scanned reply is not whole".to_owned()),
            Err(cause) => Err(cause.to_string()),
        }
    }
}

fn from_resp2(frame: Frame2) -> Value {
    match frame {
        Frame2::SimpleString(bytes) => Value::Simple(lossy(&bytes)),
        Frame2::Error(text) => Value::Error(text.to_string()),
        Frame2::Integer(number) => Value::Integer(number),
        Frame2::BulkString(bytes) => Value::Bulk(bytes),
        Frame2::Array(items) => Value::Array(items.into_iter().map(from_resp2).collect()),
        Frame2::Null => Value::Null,
    }
}

fn from_resp3(frame: Frame3) -> Value {
    match frame {
        Frame3::BlobString { data, .. } | Frame3::ChunkedString(data) => Value::Bulk(data),
        Frame3::VerbatimString { data, .. } => Value::Bulk(data),
        Frame3::BlobError { data, .. } => Value::Error(lossy(&data)),
        Frame3::SimpleString { data, .. } => Value::Simple(lossy(&data)),
        Frame3::SimpleError { data, .. } => Value::Error(data.to_string()),
        Frame3::Boolean { data, .. } => Value::Boolean(data),
        Frame3::Null => Value::Null,
        Frame3::Number { data, .. } => Value::Integer(data),
        Frame3::Double { data, .. } => Value::Double(data),
        Frame3::BigNumber { data, .. } => Value::BigNumber(lossy(&data)),
        Frame3::Array { data, .. } => Value::Array(data.into_iter().map(from_resp3).collect()),
        Frame3::Push { data, .. } => Value::Push(data.into_iter().map(from_resp3).collect()),
        Frame3::Set { data, .. } => Value::Set(data.into_iter().map(from_resp3).collect()),
        // The decoder fills its map from the last pair to the first.
        Frame3::Map { data, .. } => {
            let mut pairs: Vec<_> = data
                .into_iter()
                .map(|(name, value)| (from_resp3(name), from_resp3(value)))
                .collect();
            pairs.reverse();
            Value::Map(pairs)
        }
        // A server never says HELLO; the decoder has a form for it all the same.
        Frame3::Hello { .. } => Value::Null,
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
