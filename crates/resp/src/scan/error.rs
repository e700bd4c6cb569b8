//! What is wrong with bytes that are no frame. The texts are Redis' own; a client sees them behind `-ERR Protocol error: `.

use std::fmt;

/// Why bytes are no frame. After it nothing more can be read from that connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// The count behind `*` is no number, or is over the limit of arguments.
    InvalidMultibulkLength,
    /// The length behind `$` is no number, or is over the limit of one bulk string.
    InvalidBulkLength,
    /// An argument starts with this byte in place of `$`.
    ExpectedBulk(u8),
    /// A line or a bulk string is not followed by CRLF. Redis itself skips two bytes without looking.
    ExpectedLineEnd,
    /// An inline command is longer than its limit.
    InlineTooBig,
    /// An inline command opens a quote that it does not close, or goes on behind a closed one.
    UnbalancedQuotes,
    /// A frame is larger than `ScanLimits::frame_max`.
    FrameTooBig,
    /// A reply starts with this byte, which is no type of RESP2 or RESP3.
    UnknownReplyType(u8),
    /// A reply holds a count, length or number that is none.
    InvalidReplyLength,
    /// A reply nests deeper than `ScanLimits::depth_max`.
    TooDeep,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolError::InvalidMultibulkLength => out.write_str("invalid multibulk length"),
            ProtocolError::InvalidBulkLength => out.write_str("invalid bulk length"),
            ProtocolError::ExpectedBulk(byte) => {
                // An error is one line: servers write a blank for a line end.
                let byte = if b"\r\n".contains(byte) { &b' ' } else { byte };
                write!(out, "expected '$', got '{}'", byte.escape_ascii())
            }
            ProtocolError::ExpectedLineEnd => out.write_str("expected CRLF"),
            ProtocolError::InlineTooBig => out.write_str("too big inline request"),
            ProtocolError::UnbalancedQuotes => out.write_str("unbalanced quotes in request"),
            ProtocolError::FrameTooBig => out.write_str("too big frame"),
            ProtocolError::UnknownReplyType(byte) => {
                write!(out, "unknown reply type '{}'", byte.escape_ascii())
            }
            ProtocolError::InvalidReplyLength => out.write_str("invalid reply length"),
            ProtocolError::TooDeep => out.write_str("reply nests too deep"),
        }
    }
}

impl std::error::Error for ProtocolError {}
