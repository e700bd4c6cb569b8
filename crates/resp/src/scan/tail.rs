//! Follows a frame that nobody keeps: says of each piece how many bytes belong to it, and when it is over.
//!
//! A scanner needs the frame's first byte at index 0 for as long as the frame lasts; a tail needs only the next byte. So a value
//! of any size goes by in pieces, and what is remembered of it is a length, some digits, and how many elements are open. The
//! rules are the scanners' own: a tail and a scanner that saw the same bytes say the same.

use super::error::ProtocolError;
use super::limits::ScanLimits;

/// What a tail made of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// So many of them belong to the frame. All of them, unless it is over.
    pub taken: usize,
    /// The frame ended with them.
    pub over: bool,
}

/// Digits that a number may have: as in a scanner.
const DIGITS_MAX: u8 = 18;

/// A number and its line end, byte by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Number {
    value: i64,
    digits: u8,
    negative: bool,
    /// Its CR has come.
    ending: bool,
}

enum Digit {
    More,
    Number(i64),
    Bad,
    BadEnd,
}

impl Number {
    fn push(&mut self, byte: u8) -> Digit {
        match byte {
            b'\n' if self.ending => Digit::Number(if self.negative {
                -self.value
            } else {
                self.value
            }),
            _ if self.ending => Digit::BadEnd,
            b'-' if self.digits == 0 && !self.negative => {
                self.negative = true;
                Digit::More
            }
            b'0'..=b'9' => {
                let leading_zero = self.value == 0 && self.digits > 0;
                let minus_zero = self.negative && byte == b'0' && self.digits == 0;
                if leading_zero || minus_zero || self.digits == DIGITS_MAX {
                    return Digit::Bad;
                }
                self.value = self.value * 10 + i64::from(byte - b'0');
                self.digits += 1;
                Digit::More
            }
            b'\r' if self.digits > 0 => {
                self.ending = true;
                Digit::More
            }
            _ => Digit::Bad,
        }
    }
}

/// Passes over the body of a bulk string and its CRLF, of which `left` bytes are still to come; gives how many are behind it.
fn body(bytes: &[u8], left: &mut u64) -> Result<usize, ProtocolError> {
    let content = usize::try_from(left.saturating_sub(2)).unwrap_or(usize::MAX);
    let mut taken = content.min(bytes.len());
    *left -= taken as u64;
    while let Some(byte) = bytes.get(taken)
        && *left > 0
    {
        let expect = if *left == 2 { b'\r' } else { b'\n' };
        if *byte != expect {
            return Err(ProtocolError::ExpectedLineEnd);
        }
        *left -= 1;
        taken += 1;
    }
    Ok(taken)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestState {
    Star,
    Count(Number),
    Dollar,
    Length(Number),
    Body(u64),
    Over,
}

/// Follows one multibulk request.
#[derive(Debug)]
pub struct RequestTail {
    state: RequestState,
    /// Arguments that are still to come, the one under way included.
    left: u64,
}

impl Default for RequestTail {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestTail {
    /// At the first byte of a frame.
    #[must_use]
    pub fn new() -> Self {
        RequestTail {
            state: RequestState::Star,
            left: 0,
        }
    }

    /// Takes the next bytes. After an error, or once it is over, it is of no more use.
    ///
    /// # Errors
    /// The bytes are no multibulk request, or an argument is over its limit. The frame as a whole has none here.
    pub fn feed(&mut self, bytes: &[u8], limits: &ScanLimits) -> Result<Fed, ProtocolError> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let byte = rest.first().copied().unwrap_or_default();
            match &mut self.state {
                RequestState::Over => break,
                RequestState::Body(left) => {
                    at += body(rest, left)?;
                    if *left == 0 {
                        self.next_argument();
                    }
                    continue;
                }
                RequestState::Star if byte == b'*' => {
                    self.state = RequestState::Count(Number::default());
                }
                RequestState::Star => return Err(ProtocolError::InvalidMultibulkLength),
                RequestState::Count(number) => match number.push(byte) {
                    Digit::More => {}
                    Digit::Number(count) if count > i64::from(limits.args_max) => {
                        return Err(ProtocolError::InvalidMultibulkLength);
                    }
                    Digit::Number(count) => {
                        // One more than there are: the first is the next.
                        self.left = u64::try_from(count).unwrap_or(0) + 1;
                        self.next_argument();
                    }
                    Digit::Bad => return Err(ProtocolError::InvalidMultibulkLength),
                    Digit::BadEnd => return Err(ProtocolError::ExpectedLineEnd),
                },
                RequestState::Dollar if byte == b'$' => {
                    self.state = RequestState::Length(Number::default());
                }
                RequestState::Dollar => return Err(ProtocolError::ExpectedBulk(byte)),
                RequestState::Length(number) => match number.push(byte) {
                    Digit::More => {}
                    Digit::Number(length) => {
                        let length = u64::try_from(length)
                            .ok()
                            .filter(|length| *length <= limits.bulk_max)
                            .ok_or(ProtocolError::InvalidBulkLength)?;
                        self.state = RequestState::Body(length + 2);
                    }
                    Digit::Bad => return Err(ProtocolError::InvalidBulkLength),
                    Digit::BadEnd => return Err(ProtocolError::ExpectedLineEnd),
                },
            }
            at += 1;
        }
        Ok(Fed {
            taken: at,
            over: self.state == RequestState::Over,
        })
    }

    fn next_argument(&mut self) {
        self.left -= 1;
        self.state = if self.left == 0 {
            RequestState::Over
        } else {
            RequestState::Dollar
        };
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplyState {
    Marker,
    /// A line without a length. The flag says that its CR has come.
    Line(bool),
    Length(u8, Number),
    Body(u64),
    Over,
}

/// Follows one reply.
#[derive(Debug)]
pub struct ReplyTail {
    state: ReplyState,
    /// Elements still to come of each open aggregate, the outermost first.
    open: Vec<u64>,
}

impl Default for ReplyTail {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyTail {
    /// At the first byte of a reply.
    #[must_use]
    pub fn new() -> Self {
        ReplyTail {
            state: ReplyState::Marker,
            open: Vec::new(),
        }
    }

    /// Takes the next bytes. After an error, or once it is over, it is of no more use.
    ///
    /// # Errors
    /// The bytes are no reply, or are over a limit. The reply as a whole has none here.
    pub fn feed(&mut self, bytes: &[u8], limits: &ScanLimits) -> Result<Fed, ProtocolError> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let byte = rest.first().copied().unwrap_or_default();
            match &mut self.state {
                ReplyState::Over => break,
                ReplyState::Body(left) => {
                    at += body(rest, left)?;
                    if *left == 0 {
                        self.element_over();
                    }
                    continue;
                }
                ReplyState::Marker => match byte {
                    b'+' | b':' | b'-' | b'_' | b'#' | b',' | b'(' => {
                        self.state = ReplyState::Line(false);
                    }
                    b'$' | b'!' | b'=' | b'*' | b'%' | b'~' | b'>' | b'|' => {
                        self.state = ReplyState::Length(byte, Number::default());
                    }
                    other => return Err(ProtocolError::UnknownReplyType(other)),
                },
                ReplyState::Line(ending) => match (byte, *ending) {
                    (b'\n', true) => self.element_over(),
                    (b'\n', false) | (_, true) => return Err(ProtocolError::ExpectedLineEnd),
                    (b'\r', false) => *ending = true,
                    (_, false) => {
                        // To the end of the line, or of the bytes.
                        let end = rest.iter().position(|it| matches!(it, b'\r' | b'\n'));
                        at += end.unwrap_or(rest.len());
                        continue;
                    }
                },
                ReplyState::Length(marker, number) => match number.push(byte) {
                    Digit::More => {}
                    Digit::Number(length) => {
                        let marker = *marker;
                        self.headed(marker, length, limits)?;
                    }
                    Digit::Bad => return Err(ProtocolError::InvalidReplyLength),
                    Digit::BadEnd => return Err(ProtocolError::ExpectedLineEnd),
                },
            }
            at += 1;
        }
        Ok(Fed {
            taken: at,
            over: self.state == ReplyState::Over,
        })
    }

    /// A length or a count has come.
    fn headed(&mut self, marker: u8, n: i64, limits: &ScanLimits) -> Result<(), ProtocolError> {
        if n == -1 && matches!(marker, b'$' | b'*') {
            self.element_over();
            return Ok(());
        }
        let n = u64::try_from(n).map_err(|_| ProtocolError::InvalidReplyLength)?;
        let pairs = || n.checked_mul(2).ok_or(ProtocolError::InvalidReplyLength);
        match marker {
            b'$' | b'!' | b'=' => {
                if n > limits.bulk_max {
                    return Err(ProtocolError::InvalidReplyLength);
                }
                self.state = ReplyState::Body(n + 2);
                Ok(())
            }
            b'|' => {
                // It takes no place of its own: its elements come on top of what its level still waits for.
                let more = pairs()?;
                self.state = ReplyState::Marker;
                match self.open.last_mut() {
                    Some(left) => *left = left.saturating_add(more),
                    None => self.begin(more.saturating_add(1), limits)?,
                }
                Ok(())
            }
            b'%' => {
                let n = pairs()?;
                self.aggregate(n, limits)
            }
            _ => self.aggregate(n, limits),
        }
    }

    fn aggregate(&mut self, elements: u64, limits: &ScanLimits) -> Result<(), ProtocolError> {
        if let Some(left) = self.open.last_mut() {
            *left -= 1;
        }
        self.begin(elements, limits)?;
        self.settle();
        Ok(())
    }

    fn begin(&mut self, elements: u64, limits: &ScanLimits) -> Result<(), ProtocolError> {
        if self.open.len() >= usize::from(limits.depth_max) {
            return Err(ProtocolError::TooDeep);
        }
        self.open.push(elements);
        Ok(())
    }

    fn element_over(&mut self) {
        if let Some(left) = self.open.last_mut() {
            *left -= 1;
        }
        self.settle();
    }

    /// Full aggregates are closed; without an open one the reply is over.
    fn settle(&mut self) {
        while self.open.last() == Some(&0) {
            self.open.pop();
        }
        self.state = if self.open.is_empty() {
            ReplyState::Over
        } else {
            ReplyState::Marker
        };
    }
}
