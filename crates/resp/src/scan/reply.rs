//! Scans replies of RESP2 and RESP3: where one ends and what kind it is.

use super::error::ProtocolError;
use super::limits::ScanLimits;
use super::line::{self, Line};

/// One whole reply, nested ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyFrame {
    /// Its bytes, a preceding attribute included.
    pub len: usize,
    /// What it is.
    pub kind: ReplyKind,
}

/// What a reply is, as far as a proxy has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// `+OK`.
    Simple,
    /// `-ERR …`, and `!` of RESP3.
    Error,
    /// `:1`.
    Integer,
    /// `$` with a value.
    Bulk,
    /// `*` with a count.
    Array,
    /// `$-1`, `*-1`, and `_` of RESP3.
    Null,
    /// `>`: out of band. It answers no command, except for the subscribe family.
    Push,
    /// The rest of RESP3: boolean, double, big number, verbatim string, map, set.
    Other,
}

/// Scans replies one after the other and remembers where it stopped in an incomplete one.
#[derive(Debug, Default)]
pub struct ReplyScanner {
    /// Everything before this index is understood.
    at: usize,
    /// In an open simple line: no CR stands before this index. In an open bulk string: its end, CRLF included.
    seen: usize,
    /// Elements still to come, innermost last. Empty between frames.
    open: Vec<u64>,
    kind: Option<ReplyKind>,
    /// Bytes that the incomplete reply has at least.
    need: usize,
}

/// What one element turned out to be.
enum Element {
    /// Ends before this index.
    Leaf(ReplyKind, usize),
    /// This many elements follow from this index on.
    Aggregate(ReplyKind, u64, usize),
    /// This many elements follow, and then what they are about.
    Attribute(u64, usize),
    /// The bytes end first.
    More,
}

impl ReplyScanner {
    /// A scanner at the start of a reply.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Scans the reply that starts at index 0 of `bytes`. Bytes behind it are not looked at.
    ///
    /// After `None`, call again with the same bytes and more behind them; after `Some`, the next call begins a new reply.
    ///
    /// # Errors
    /// The bytes are no reply, or are over a limit. The connection is of no use then; `reset` before anything else.
    #[inline]
    pub fn scan(
        &mut self,
        bytes: &[u8],
        limits: &ScanLimits,
    ) -> Result<Option<ReplyFrame>, ProtocolError> {
        if self.open.is_empty() {
            match self.element(bytes, limits)? {
                Element::Leaf(kind, end) => {
                    check_size(end, limits)?;
                    self.at = 0;
                    self.seen = 0;
                    return Ok(Some(ReplyFrame { len: end, kind }));
                }
                Element::More => return self.incomplete(bytes, limits),
                Element::Aggregate(kind, count, next) => {
                    self.kind = Some(kind);
                    self.begin(count, next, limits)?;
                }
                Element::Attribute(count, next) => {
                    // The attribute's elements, and the reply that they belong to.
                    self.kind = None;
                    self.begin(count.saturating_add(1), next, limits)?;
                }
            }
        }
        self.nested(bytes, limits)
    }

    /// Forgets a half-scanned reply. Done by itself after a complete one.
    pub fn reset(&mut self) {
        self.at = 0;
        self.seen = 0;
        self.open.clear();
        self.kind = None;
    }

    /// After `None`: the reply has at least so many bytes in all, as far as its headers have told.
    #[must_use]
    pub fn need(&self) -> usize {
        self.need
    }

    fn begin(&mut self, count: u64, next: usize, limits: &ScanLimits) -> Result<(), ProtocolError> {
        if self.open.len() >= usize::from(limits.depth_max) {
            return Err(ProtocolError::TooDeep);
        }
        self.open.push(count);
        self.at = next;
        self.seen = next;
        Ok(())
    }

    /// Elements until every open aggregate is full.
    fn nested(
        &mut self,
        bytes: &[u8],
        limits: &ScanLimits,
    ) -> Result<Option<ReplyFrame>, ProtocolError> {
        loop {
            let depth = self.open.len();
            let Some(left) = self.open.last_mut() else {
                let frame = ReplyFrame {
                    len: self.at,
                    kind: self.kind.unwrap_or(ReplyKind::Other),
                };
                check_size(frame.len, limits)?;
                self.reset();
                return Ok(Some(frame));
            };
            if *left == 0 {
                self.open.pop();
                continue;
            }
            // The reply behind a top-level attribute is the last element of its level and gives the frame its kind.
            let names_frame = depth == 1 && *left == 1 && self.kind.is_none();
            match self.element(bytes, limits)? {
                Element::More => return self.incomplete(bytes, limits),
                Element::Leaf(kind, end) => {
                    self.count_down();
                    self.at = end;
                    self.seen = end;
                    if names_frame {
                        self.kind = Some(kind);
                    }
                }
                Element::Aggregate(kind, count, next) => {
                    self.count_down();
                    if names_frame {
                        self.kind = Some(kind);
                    }
                    self.begin(count, next, limits)?;
                }
                // An attribute takes no place of its own: its elements come on top of what its level still waits for.
                Element::Attribute(count, next) => {
                    if let Some(left) = self.open.last_mut() {
                        *left = left.saturating_add(count);
                    }
                    self.at = next;
                    self.seen = next;
                }
            }
        }
    }

    fn count_down(&mut self) {
        if let Some(left) = self.open.last_mut() {
            *left -= 1;
        }
    }

    fn incomplete(
        &mut self,
        bytes: &[u8],
        limits: &ScanLimits,
    ) -> Result<Option<ReplyFrame>, ProtocolError> {
        self.need = self.seen.max(self.at).max(bytes.len()) + 1;
        check_size(self.need, limits)?;
        Ok(None)
    }

    /// The element at `at`; moves nothing but `seen`.
    #[inline]
    fn element(&mut self, bytes: &[u8], limits: &ScanLimits) -> Result<Element, ProtocolError> {
        let Some(&marker) = bytes.get(self.at) else {
            return Ok(Element::More);
        };
        match marker {
            b'$' => self.blob(bytes, limits, ReplyKind::Bulk),
            b'+' => self.line(bytes, ReplyKind::Simple),
            b':' => self.line(bytes, ReplyKind::Integer),
            b'-' => self.line(bytes, ReplyKind::Error),
            b'*' => self.aggregate(bytes, ReplyKind::Array, 1),
            b'_' => self.line(bytes, ReplyKind::Null),
            b'#' | b',' | b'(' => self.line(bytes, ReplyKind::Other),
            b'!' => self.blob(bytes, limits, ReplyKind::Error),
            b'=' => self.blob(bytes, limits, ReplyKind::Other),
            b'%' => self.aggregate(bytes, ReplyKind::Other, 2),
            b'~' => self.aggregate(bytes, ReplyKind::Other, 1),
            b'>' => self.aggregate(bytes, ReplyKind::Push, 1),
            b'|' => match line::number(bytes, self.at + 1) {
                Line::Number(count, next) => Ok(Element::Attribute(elements(count, 2)?, next)),
                other => none(other),
            },
            other => Err(ProtocolError::UnknownReplyType(other)),
        }
    }

    /// A line without a length: up to CRLF.
    #[inline]
    fn line(&mut self, bytes: &[u8], kind: ReplyKind) -> Result<Element, ProtocolError> {
        let from = self.seen.max(self.at + 1);
        let Some(found) = bytes
            .get(from..)
            .and_then(|rest| rest.iter().position(|&byte| byte == b'\r' || byte == b'\n'))
        else {
            self.seen = bytes.len().max(from);
            return Ok(Element::More);
        };
        let end = from + found;
        if bytes[end] == b'\n' {
            return Err(ProtocolError::ExpectedLineEnd);
        }
        match bytes.get(end + 1) {
            Some(b'\n') => Ok(Element::Leaf(kind, end + 2)),
            Some(_) => Err(ProtocolError::ExpectedLineEnd),
            None => {
                self.seen = end;
                Ok(Element::More)
            }
        }
    }

    /// `length CRLF bytes CRLF`; a length of -1 is a null.
    #[inline]
    fn blob(
        &mut self,
        bytes: &[u8],
        limits: &ScanLimits,
        kind: ReplyKind,
    ) -> Result<Element, ProtocolError> {
        let (length, next) = match line::number(bytes, self.at + 1) {
            Line::Number(-1, next) if kind == ReplyKind::Bulk => {
                return Ok(Element::Leaf(ReplyKind::Null, next));
            }
            Line::Number(length, next) => (length, next),
            other => return none(other),
        };
        let length = u64::try_from(length).map_err(|_| ProtocolError::InvalidReplyLength)?;
        if length > limits.bulk_max {
            return Err(ProtocolError::InvalidReplyLength);
        }
        let end = next + usize::try_from(length).map_err(|_| ProtocolError::InvalidReplyLength)?;
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => Ok(Element::Leaf(kind, end + 2)),
            Some(_) => Err(ProtocolError::ExpectedLineEnd),
            None if bytes.len() > end && bytes[end] != b'\r' => Err(ProtocolError::ExpectedLineEnd),
            None => {
                self.seen = end + 1;
                Ok(Element::More)
            }
        }
    }

    /// A count, and `each` elements per counted one; a count of -1 is a null.
    fn aggregate(
        &self,
        bytes: &[u8],
        kind: ReplyKind,
        each: u64,
    ) -> Result<Element, ProtocolError> {
        match line::number(bytes, self.at + 1) {
            Line::Number(-1, next) if kind == ReplyKind::Array => {
                Ok(Element::Leaf(ReplyKind::Null, next))
            }
            Line::Number(count, next) => Ok(Element::Aggregate(kind, elements(count, each)?, next)),
            other => none(other),
        }
    }
}

fn elements(count: i64, each: u64) -> Result<u64, ProtocolError> {
    u64::try_from(count)
        .ok()
        .and_then(|count| count.checked_mul(each))
        .ok_or(ProtocolError::InvalidReplyLength)
}

/// A count or length that is not there.
fn none(line: Line) -> Result<Element, ProtocolError> {
    match line {
        Line::More => Ok(Element::More),
        Line::BadEnd => Err(ProtocolError::ExpectedLineEnd),
        Line::Number(..) | Line::Bad => Err(ProtocolError::InvalidReplyLength),
    }
}

fn check_size(len: usize, limits: &ScanLimits) -> Result<(), ProtocolError> {
    if len as u64 > limits.frame_max {
        Err(ProtocolError::FrameTooBig)
    } else {
        Ok(())
    }
}
