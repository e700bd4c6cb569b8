//! Gives every key of a file with its value.

use std::io::{self, Read};

use super::check::{Tally, check_checksum};
use super::summary::FileSummary;
use super::walk::{Section, Walk};
use crate::crc64::Crc64;
use crate::cursor::Cursor;
use crate::{Object, RdbError, decode_value};

/// How much is asked of the source at once.
const READ_BYTES: usize = 64 * 1024;

/// Why a file could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The source of the bytes failed.
    #[error("read the file")]
    Read(#[source] io::Error),
    /// The bytes are not a sound file.
    #[error(transparent)]
    Rdb(#[from] RdbError),
}

/// One key of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its database.
    pub db: u64,
    /// Its name.
    pub key: Vec<u8>,
    /// When it expires, in milliseconds since 1970, if it does.
    pub expiry_ms: Option<i64>,
    /// What it holds.
    pub value: RecordValue,
}

/// The value of a key, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordValue {
    /// How it is written.
    pub type_number: u8,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The file's RDB version.
    pub version: u16,
}

impl RecordValue {
    /// Decodes the value.
    pub fn decode(&self) -> Result<Object, RdbError> {
        decode_value(self.type_number, &self.bytes, self.version)
    }
}

/// Reads a file record by record. Holds one key and its value at a time, as large as they are in the file.
pub struct FileReader<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    walk: Walk,
    crc: Crc64,
    tally: Tally,
    section_bytes: Vec<u8>,
    key: Vec<u8>,
    functions: Vec<Vec<u8>>,
    checksum: Option<u64>,
    failed: bool,
}

impl<R: Read> FileReader<R> {
    /// Before the first byte.
    pub fn new(source: R) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            start: 0,
            walk: Walk::new(),
            crc: Crc64::new(),
            tally: Tally::default(),
            section_bytes: Vec::new(),
            key: Vec::new(),
            functions: Vec::new(),
            checksum: None,
            failed: false,
        }
    }

    /// Libraries of functions met so far, as their code.
    pub fn functions(&self) -> &[Vec<u8>] {
        &self.functions
    }

    /// Reads what is left and says what the file was. Bytes after its end are an error.
    pub fn finish(mut self) -> Result<FileSummary, FileError> {
        while self.next_record()?.is_some() {}
        let at = self.walk.at();
        self.fill()?;
        match self.buffer.len() - self.start {
            0 => Ok(self.tally.summary(self.walk.magic(), self.checksum, at)),
            count => Err(RdbError::Trailing {
                at,
                count: count as u64,
            }
            .into()),
        }
    }

    fn next_record(&mut self) -> Result<Option<Record>, FileError> {
        loop {
            let section = self.walk.section();
            if section == Section::Done {
                return Ok(None);
            }
            if self.start == self.buffer.len() && self.fill()? == 0 {
                return Err(RdbError::Truncated {
                    at: self.walk.at(),
                    what: "an RDB file",
                }
                .into());
            }
            let step = self.walk.step(&self.buffer[self.start..])?;
            let walked = &self.buffer[self.start..self.start + step.consumed];
            self.start += step.consumed;
            self.section_bytes.extend_from_slice(walked);
            if section != Section::Checksum {
                self.crc.update(walked);
            }
            if step.ended.is_some()
                && let Some(record) = self.ended(section)?
            {
                return Ok(Some(record));
            }
        }
    }

    fn ended(&mut self, section: Section) -> Result<Option<Record>, FileError> {
        let bytes = std::mem::take(&mut self.section_bytes);
        match section {
            Section::Key { .. } => self.key = Cursor::new(&bytes).owned("a key")?,
            Section::Function => self
                .functions
                .push(Cursor::new(&bytes).owned("a library of functions")?),
            Section::Checksum => self.checksum = check_checksum(&bytes, self.crc)?,
            Section::Value { .. }
            | Section::Aux
            | Section::Magic
            | Section::Code
            | Section::ModuleAux
            | Section::SelectDb
            | Section::ResizeDb
            | Section::SlotInfo
            | Section::ExpirySeconds
            | Section::ExpiryMillis
            | Section::Idle
            | Section::Frequency
            | Section::Done => {}
        }
        let expiry_ms = self.tally.expiry_ms;
        self.tally.ended(section, &bytes)?;
        let Section::Value { type_number } = section else {
            self.section_bytes = bytes;
            self.section_bytes.clear(); // Its memory serves the next section.
            return Ok(None);
        };
        let value = RecordValue {
            type_number,
            bytes,
            version: self.walk.magic().version,
        };
        Ok(Some(Record {
            db: self.tally.db,
            key: std::mem::take(&mut self.key),
            expiry_ms,
            value,
        }))
    }

    fn fill(&mut self) -> Result<usize, FileError> {
        if self.start == self.buffer.len() {
            self.buffer.resize(READ_BYTES, 0);
            self.start = 0;
            let read = loop {
                match self.source.read(&mut self.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            let read = read
                .inspect_err(|_| self.buffer.clear())
                .map_err(FileError::Read)?;
            self.buffer.truncate(read);
        }
        Ok(self.buffer.len() - self.start)
    }
}

impl<R: Read> Iterator for FileReader<R> {
    type Item = Result<Record, FileError>;

    /// Ends after the first error: what follows damage has no meaning.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_record().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}
