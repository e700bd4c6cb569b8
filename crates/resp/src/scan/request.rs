//! Scans requests: multibulk frames as ranges, inline commands as owned arguments.

use super::error::ProtocolError;
use super::inline;
use super::limits::ScanLimits;
use super::line::{self, Line};

/// Where one argument lies, counted from the frame's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArgRange {
    /// Its first byte.
    pub start: u32,
    /// The byte behind its last one.
    pub end: u32,
}

impl ArgRange {
    /// The argument itself; empty if the frame is shorter than the range says.
    #[inline]
    #[must_use]
    pub fn of(self, frame: &[u8]) -> &[u8] {
        frame
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// What a scan of requests found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// A frame of `len` bytes. Without arguments (an empty line, `*0`, `*-1`) it is skipped and gets no reply.
    Complete {
        /// Bytes of the frame.
        len: usize,
    },
    /// The frame goes on.
    Incomplete {
        /// The frame has at least so many bytes in all; never more than it turns out to have.
        need: usize,
    },
}

/// Scans requests one after the other and remembers where it stopped in an incomplete one.
#[derive(Debug, Default)]
pub struct RequestScanner {
    state: State,
    /// Everything before this index is understood.
    at: usize,
    /// Arguments of the frame that are still to come.
    left: usize,
    args: Vec<ArgRange>,
    inline: Vec<Vec<u8>>,
}

/// What the scanner waits for at `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// The first byte of a frame.
    #[default]
    Start,
    /// `$length` of the next argument.
    BulkHeader,
    /// So many bytes and CRLF.
    Bulk(usize),
    /// The line end of an inline command; none before `at`.
    Inline,
    /// Nothing: the next scan begins a new frame. True if the frame was inline.
    Done { inline: bool },
}

/// Ranges that are kept between frames (8 bytes each); a larger vector is given back.
const RANGES_KEPT_MAX: usize = 1024;

/// The shortest argument is `$0 CRLF CRLF`.
const ARG_BYTES_MIN: usize = 6;

impl RequestScanner {
    /// A scanner at the start of a frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Scans the frame that starts at index 0 of `bytes`. Bytes behind it are not looked at.
    ///
    /// After `Incomplete`, call again with the same bytes and more behind them. After `Complete`, the next call begins a
    /// new frame. After an error, `reset` before anything else.
    ///
    /// # Errors
    /// The bytes are no request, or are over a limit.
    #[inline]
    pub fn scan(&mut self, bytes: &[u8], limits: &ScanLimits) -> Result<Scan, ProtocolError> {
        if matches!(self.state, State::Start | State::Done { .. }) {
            match bytes.first() {
                None => {
                    self.reset();
                    return Ok(Scan::Incomplete { need: 1 });
                }
                Some(b'*') => match line::number(bytes, 1) {
                    Line::Number(count, next) => self.begin(count, next, limits)?,
                    Line::More => {
                        self.reset();
                        return Ok(Scan::Incomplete {
                            need: (bytes.len() + 1).max(4),
                        });
                    }
                    Line::Bad => return Err(ProtocolError::InvalidMultibulkLength),
                    Line::BadEnd => return Err(ProtocolError::ExpectedLineEnd),
                },
                Some(_) => {
                    self.reset();
                    self.state = State::Inline;
                }
            }
        }
        if self.state == State::Inline {
            self.scan_inline(bytes, limits)
        } else {
            self.scan_args(bytes, limits)
        }
    }

    /// Forgets a half-scanned frame.
    pub fn reset(&mut self) {
        self.state = State::Start;
        self.at = 0;
        self.left = 0;
        self.args.clear();
        self.inline.clear();
    }

    /// The arguments of the frame that was just completed, relative to its first byte. Empty for an inline command.
    #[must_use]
    pub fn args(&self) -> &[ArgRange] {
        &self.args
    }

    /// Argument `index` of the frame that was just completed; empty if there is none. `frame` starts with that frame.
    #[must_use]
    pub fn arg<'a>(&self, frame: &'a [u8], index: usize) -> &'a [u8] {
        self.args.get(index).map_or(&[], |range| range.of(frame))
    }

    /// After `Incomplete`: how many arguments the frame has in all, those to come included. 0 for an inline command.
    #[must_use]
    pub fn args_in_all(&self) -> usize {
        match self.state {
            State::BulkHeader | State::Bulk(_) => self.args.len() + self.left,
            State::Start | State::Inline | State::Done { .. } => 0,
        }
    }

    /// True if the frame that was just completed was an inline command, an empty line included.
    #[must_use]
    pub fn is_inline(&self) -> bool {
        self.state == State::Done { inline: true }
    }

    /// The arguments of a completed inline command. Quotes and escapes are resolved, so they are no ranges of the frame: the
    /// caller encodes them as multibulk before it sends them on.
    #[must_use]
    pub fn inline_args(&self) -> &[Vec<u8>] {
        &self.inline
    }

    /// Begins a multibulk frame whose count ends before `next`. A count of 0 or less is a frame without arguments.
    #[inline]
    fn begin(&mut self, count: i64, next: usize, limits: &ScanLimits) -> Result<(), ProtocolError> {
        if count > i64::from(limits.args_max) {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        self.args.clear();
        if self.args.capacity() > RANGES_KEPT_MAX {
            self.args = Vec::new();
        }
        self.inline.clear();
        self.left = usize::try_from(count).unwrap_or(0);
        self.at = next;
        self.state = State::BulkHeader;
        Ok(())
    }

    /// Arguments until the frame is complete or the bytes end. No room is reserved for what a count merely promises.
    #[inline]
    fn scan_args(&mut self, bytes: &[u8], limits: &ScanLimits) -> Result<Scan, ProtocolError> {
        let frame_max = limits.frame_max.min(u64::from(u32::MAX));
        while self.left > 0 {
            let length = match self.state {
                State::Bulk(length) => length,
                _ => match self.bulk_header(bytes, limits)? {
                    Some(length) => length,
                    None => return Ok(self.incomplete(bytes, 0)),
                },
            };
            let end = self.at + length;
            if end as u64 + 2 > frame_max {
                return Err(ProtocolError::FrameTooBig);
            }
            match bytes.get(end..end + 2) {
                Some(b"\r\n") => {}
                Some(_) => return Err(ProtocolError::ExpectedLineEnd),
                None if bytes.len() > end && bytes[end] != b'\r' => {
                    return Err(ProtocolError::ExpectedLineEnd);
                }
                None => {
                    self.state = State::Bulk(length);
                    return Ok(self.incomplete(bytes, length + 2));
                }
            }
            // Both fit: `end` is below `frame_max`, which is at most `u32::MAX`.
            self.args.push(ArgRange {
                start: self.at as u32,
                end: end as u32,
            });
            self.at = end + 2;
            self.left -= 1;
            self.state = State::BulkHeader;
        }
        self.state = State::Done { inline: false };
        Ok(Scan::Complete { len: self.at })
    }

    /// Reads `$length CRLF` and moves behind it, or gives `None` if the bytes end first.
    #[inline]
    fn bulk_header(
        &mut self,
        bytes: &[u8],
        limits: &ScanLimits,
    ) -> Result<Option<usize>, ProtocolError> {
        match bytes.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
        }
        match line::number(bytes, self.at + 1) {
            Line::Number(length, next) => {
                let length = u64::try_from(length).map_err(|_| ProtocolError::InvalidBulkLength)?;
                if length > limits.bulk_max {
                    return Err(ProtocolError::InvalidBulkLength);
                }
                self.at = next;
                usize::try_from(length)
                    .map(Some)
                    .map_err(|_| ProtocolError::InvalidBulkLength)
            }
            Line::More => Ok(None),
            Line::Bad => Err(ProtocolError::InvalidBulkLength),
            Line::BadEnd => Err(ProtocolError::ExpectedLineEnd),
        }
    }

    /// The least that is missing: `pending` bytes of the argument at `at`, or a whole one, and the shortest possible others.
    fn incomplete(&self, bytes: &[u8], pending: usize) -> Scan {
        let others = self.left.saturating_sub(1).saturating_mul(ARG_BYTES_MIN);
        let this = if pending == 0 { ARG_BYTES_MIN } else { pending };
        Scan::Incomplete {
            need: (self.at + this).saturating_add(others).max(bytes.len() + 1),
        }
    }

    /// An inline command: up to LF, a CR before it taken off.
    fn scan_inline(&mut self, bytes: &[u8], limits: &ScanLimits) -> Result<Scan, ProtocolError> {
        let longest = limits.inline_max as usize;
        let unseen = bytes.get(self.at..).unwrap_or_default();
        let Some(line_end) = unseen
            .iter()
            .position(|&byte| byte == b'\n')
            .map(|found| self.at + found)
        else {
            // The CR that may stand at the end of the longest line is not counted.
            if bytes.len() > longest + 1 || (bytes.len() == longest + 1 && bytes[longest] != b'\r')
            {
                return Err(ProtocolError::InlineTooBig);
            }
            self.at = bytes.len();
            return Ok(Scan::Incomplete {
                need: bytes.len() + 1,
            });
        };
        let line = &bytes[..line_end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > longest {
            return Err(ProtocolError::InlineTooBig);
        }
        self.args.clear();
        self.inline = inline::split(line)?;
        self.state = State::Done { inline: true };
        Ok(Scan::Complete { len: line_end + 1 })
    }
}
