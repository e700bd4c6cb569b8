//! Walks over a file that comes in pieces of any size, and says what each stretch of it was.
//!
//! The walker owns no bytes but the few of a number that was cut in two. Its stack is as deep as the layouts are, which is
//! known when this is compiled, so no file can make it grow.
//!
//! ```text
//!   magic → section code → [layout of the section] → … → key → [layout of its type] → … → EOF → checksum → done
//! ```

use super::layout::{self, Piece};
use super::summary::Magic;
use crate::RdbError;
use crate::cursor::{Encoding, Length, decode_length, length_size};

/// What a stretch of a file was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Magic,
    /// The byte that says what follows; belongs to no record.
    Code,
    Aux,
    Function,
    ModuleAux,
    SelectDb,
    ResizeDb,
    SlotInfo,
    ExpirySeconds,
    ExpiryMillis,
    Idle,
    Frequency,
    Key {
        type_number: u8,
    },
    Value {
        type_number: u8,
    },
    Checksum,
    Done,
}

/// How far a call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Bytes of the input that were walked over.
    pub(super) consumed: usize,
    /// The section that ended with them; `None` if the input ended first.
    pub(super) ended: Option<Section>,
}

#[derive(Debug)]
pub(super) struct Walk {
    section: Section,
    magic: Magic,
    /// Bytes of the file before the current input.
    at: u64,
    skip: u64,
    partial: Partial,
    inside: Inside,
    frames: [Frame; layout::DEPTH_MAX],
    depth: usize,
}

/// A run through a layout, so many times.
#[derive(Debug, Clone, Copy)]
struct Frame {
    pieces: &'static [Piece],
    next: usize,
    rounds_left: u64,
}

const EMPTY: Frame = Frame {
    pieces: &[],
    next: 0,
    rounds_left: 0,
};

/// A piece of which the front has been walked over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    /// LZF: two lengths, then the bytes.
    Compressed,
    CompressedPlain {
        compressed: u64,
    },
    /// A module's value: a number or a string follows.
    ModuleNumber,
    ModuleText,
}

/// The first bytes of a length that was cut.
#[derive(Debug, Clone, Copy, Default)]
struct Partial {
    bytes: [u8; 9],
    have: usize,
}

impl Walk {
    pub(super) fn new() -> Self {
        Self {
            section: Section::Magic,
            magic: Magic {
                family: crate::Family::Redis,
                version: 0,
            },
            at: 0,
            skip: 0,
            partial: Partial::default(),
            inside: Inside::Nothing,
            frames: [EMPTY; layout::DEPTH_MAX],
            depth: 0,
        }
    }

    pub(super) fn magic(&self) -> Magic {
        self.magic
    }

    pub(super) fn section(&self) -> Section {
        self.section
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Walks to the end of the current section or of the input.
    pub(super) fn step(&mut self, input: &[u8]) -> Result<Step, RdbError> {
        let mut rest = input;
        let ended = self.advance(&mut rest)?;
        let consumed = input.len() - rest.len();
        self.at += consumed as u64;
        Ok(Step { consumed, ended })
    }

    fn advance(&mut self, rest: &mut &[u8]) -> Result<Option<Section>, RdbError> {
        let ended = self.section;
        match ended {
            Section::Magic => {
                let Some(magic) = self.gather(rest, 9) else {
                    return Ok(None);
                };
                self.magic = Magic::parse(magic).ok_or(RdbError::Magic)?;
                self.section = Section::Code;
            }
            Section::Code => {
                let Some((&code, after)) = rest.split_first() else {
                    return Ok(None);
                };
                *rest = after;
                self.begin(code)?;
            }
            Section::Checksum => {
                if self.gather(rest, 8).is_none() {
                    return Ok(None);
                }
                self.section = Section::Done;
            }
            Section::Done => return Ok(None),
            Section::Key { type_number } => {
                if !self.pieces(rest)? {
                    return Ok(None);
                }
                let pieces = layout::of_value(type_number, self.magic.family);
                self.enter(Section::Value { type_number }, pieces.unwrap_or_default());
            }
            Section::Aux
            | Section::Function
            | Section::ModuleAux
            | Section::SelectDb
            | Section::ResizeDb
            | Section::SlotInfo
            | Section::ExpirySeconds
            | Section::ExpiryMillis
            | Section::Idle
            | Section::Frequency
            | Section::Value { .. } => {
                if !self.pieces(rest)? {
                    return Ok(None);
                }
                self.section = Section::Code;
            }
        }
        Ok(Some(ended))
    }

    fn enter(&mut self, section: Section, pieces: &'static [Piece]) {
        self.section = section;
        self.frames[0] = Frame {
            pieces,
            next: 0,
            rounds_left: 1,
        };
        self.depth = 1;
    }

    fn begin(&mut self, code: u8) -> Result<(), RdbError> {
        let version = self.magic.version;
        let (section, pieces) = match code {
            255 if version >= 5 => (Section::Checksum, layout::TEXT),
            255 => (Section::Done, layout::TEXT),
            254 => (Section::SelectDb, layout::LENGTH),
            253 => (Section::ExpirySeconds, layout::SECONDS),
            252 => (Section::ExpiryMillis, layout::MILLIS),
            251 => (Section::ResizeDb, layout::LENGTH_PAIR),
            250 => (Section::Aux, layout::TEXT_PAIR),
            249 => (Section::Frequency, layout::BYTE),
            248 => (Section::Idle, layout::LENGTH),
            247 => (Section::ModuleAux, layout::MODULE),
            246 => {
                return Err(RdbError::Unsupported {
                    what: "functions as release candidates of 7.0 wrote them",
                    version,
                });
            }
            245 => (Section::Function, layout::TEXT),
            244 => (Section::SlotInfo, layout::LENGTH_TRIPLE),
            243 => {
                return Err(RdbError::Unsupported {
                    what: "section 243 (a slot import, or metadata of keys)",
                    version,
                });
            }
            242 => {
                return Err(RdbError::Unsupported {
                    what: "section 242 (a template of hashes)",
                    version,
                });
            }
            type_number => {
                if layout::of_value(type_number, self.magic.family).is_none() {
                    return Err(RdbError::UnknownType {
                        type_number,
                        version,
                    });
                }
                (Section::Key { type_number }, layout::TEXT)
            }
        };
        self.enter(section, pieces);
        Ok(())
    }

    /// Walks through the layout that was entered. True at its end.
    fn pieces(&mut self, rest: &mut &[u8]) -> Result<bool, RdbError> {
        loop {
            if !self.skip_over(rest) {
                return Ok(false);
            }
            if self.inside != Inside::Nothing {
                if !self.go_on_inside(rest)? {
                    return Ok(false);
                }
                continue;
            }
            let Some(frame) = self
                .depth
                .checked_sub(1)
                .and_then(|top| self.frames.get_mut(top))
            else {
                return Ok(true);
            };
            let Some(&piece) = frame.pieces.get(frame.next) else {
                frame.next = 0;
                frame.rounds_left -= 1;
                if frame.rounds_left == 0 {
                    self.depth -= 1;
                }
                continue;
            };
            if !self.piece(piece, rest)? {
                return Ok(false);
            }
        }
    }

    /// True if the piece's front was walked over.
    fn piece(&mut self, piece: Piece, rest: &mut &[u8]) -> Result<bool, RdbError> {
        match piece {
            Piece::Fixed(count) => self.skip = count,
            Piece::Text => {
                if !self.text(rest)? {
                    return Ok(false);
                }
            }
            Piece::Length => {
                if self.length(rest)?.is_none() {
                    return Ok(false);
                }
            }
            Piece::TextScore => {
                let Some((&length, after)) = rest.split_first() else {
                    return Ok(false);
                };
                *rest = after;
                self.skip = if length >= 253 { 0 } else { u64::from(length) };
            }
            Piece::Each(pieces) => {
                let Some(rounds_left) = self.length(rest)? else {
                    return Ok(false);
                };
                self.next_piece();
                if rounds_left > 0 {
                    self.push(Frame {
                        pieces,
                        next: 0,
                        rounds_left,
                    });
                }
                return Ok(true);
            }
            Piece::ModuleParts => {
                let Some(part) = self.length(rest)? else {
                    return Ok(false);
                };
                match part {
                    0 => {}
                    1 | 2 => self.inside = Inside::ModuleNumber,
                    3 => self.skip = 4,
                    4 => self.skip = 8,
                    5 => self.inside = Inside::ModuleText,
                    _ => return Err(self.corrupt("a part of a module's value of unknown kind")),
                }
                if part != 0 {
                    return Ok(true); // The same piece again, until its end marker.
                }
            }
        }
        self.next_piece();
        Ok(true)
    }

    fn next_piece(&mut self) {
        if let Some(frame) = self
            .depth
            .checked_sub(1)
            .and_then(|top| self.frames.get_mut(top))
        {
            frame.next += 1;
        }
    }

    fn push(&mut self, frame: Frame) {
        debug_assert!(
            self.depth < layout::DEPTH_MAX,
            "layouts nest deeper than DEPTH_MAX says"
        );
        if let Some(free) = self.frames.get_mut(self.depth) {
            *free = frame;
            self.depth += 1;
        }
    }

    fn go_on_inside(&mut self, rest: &mut &[u8]) -> Result<bool, RdbError> {
        match self.inside {
            Inside::Nothing => {}
            Inside::Compressed => {
                let Some(compressed) = self.length(rest)? else {
                    return Ok(false);
                };
                self.inside = Inside::CompressedPlain { compressed };
            }
            Inside::CompressedPlain { compressed } => {
                if self.length(rest)?.is_none() {
                    return Ok(false);
                }
                self.inside = Inside::Nothing;
                self.skip = compressed;
            }
            Inside::ModuleNumber => {
                if self.length(rest)?.is_none() {
                    return Ok(false);
                }
                self.inside = Inside::Nothing;
            }
            Inside::ModuleText => {
                let before = self.inside;
                self.inside = Inside::Nothing;
                if !self.text(rest)? {
                    self.inside = before;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Walks over a string's length and leaves its bytes to be skipped. False if the input ended first.
    fn text(&mut self, rest: &mut &[u8]) -> Result<bool, RdbError> {
        let Some(length) = self.any_length(rest)? else {
            return Ok(false);
        };
        match length {
            Length::Plain(count) => self.skip = count,
            Length::Encoded(Encoding::Int8) => self.skip = 1,
            Length::Encoded(Encoding::Int16) => self.skip = 2,
            Length::Encoded(Encoding::Int32) => self.skip = 4,
            Length::Encoded(Encoding::Lzf) => self.inside = Inside::Compressed,
        }
        Ok(true)
    }

    fn length(&mut self, rest: &mut &[u8]) -> Result<Option<u64>, RdbError> {
        match self.any_length(rest)? {
            None => Ok(None),
            Some(Length::Plain(length)) => Ok(Some(length)),
            Some(Length::Encoded(_)) => {
                Err(self.corrupt("an encoded string where a number belongs"))
            }
        }
    }

    fn any_length(&mut self, rest: &mut &[u8]) -> Result<Option<Length>, RdbError> {
        let first = if self.partial.have > 0 {
            Some(self.partial.bytes[0])
        } else {
            rest.first().copied()
        };
        let Some(first) = first else { return Ok(None) };
        let Some(bytes) = self.gather(rest, length_size(first)) else {
            return Ok(None);
        };
        match decode_length(bytes) {
            Some(length) => Ok(Some(length)),
            None => Err(self.corrupt("a length with an unknown encoding")),
        }
    }

    /// So many bytes in one piece, however the input is cut; `None` if it ended first.
    fn gather(&mut self, rest: &mut &[u8], count: usize) -> Option<&[u8]> {
        let missing = count - self.partial.have;
        let taken = missing.min(rest.len());
        let (now, after) = rest.split_at(taken);
        self.partial.bytes[self.partial.have..self.partial.have + taken].copy_from_slice(now);
        *rest = after;
        self.partial.have += taken;
        if self.partial.have < count {
            return None;
        }
        self.partial.have = 0;
        Some(&self.partial.bytes[..count])
    }

    fn skip_over(&mut self, rest: &mut &[u8]) -> bool {
        let taken = usize::try_from(self.skip)
            .unwrap_or(usize::MAX)
            .min(rest.len());
        *rest = &rest[taken..];
        self.skip -= taken as u64;
        self.skip == 0
    }

    fn corrupt(&self, what: &'static str) -> RdbError {
        RdbError::Corrupt { at: self.at, what }
    }
}
