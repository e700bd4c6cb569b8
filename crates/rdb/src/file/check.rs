//! Checks a file while it arrives: sound from magic to checksum, keys counted, almost nothing kept.

use std::collections::BTreeMap;

use super::summary::{FileSummary, Magic};
use super::walk::{Section, Walk};
use crate::RdbError;
use crate::crc64::Crc64;
use crate::cursor::Cursor;

/// Most bytes of one remark (AUX) that are kept. A longer one is checked and left out of the summary.
const AUX_BYTES_MAX: usize = 16 * 1024;
/// Most remarks that are kept. Servers write about ten.
const AUX_MAX: usize = 64;

/// Walks over a file that is pushed in pieces of any size. Memory: some kilobytes, whatever comes.
#[derive(Debug)]
pub struct StreamingCheck {
    walk: Walk,
    crc: Crc64,
    tally: Tally,
    /// The current section's bytes, as far as they matter here.
    kept: Vec<u8>,
    checksum: Option<u64>,
}

/// Counts that grow as sections end. Shared with the reader of files.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) db: u64,
    pub(super) keys: u64,
    pub(super) keys_by_db: BTreeMap<u64, u64>,
    pub(super) expires: u64,
    pub(super) expiry_ms: Option<i64>,
    pub(super) aux: Vec<(String, String)>,
    pub(super) functions: u64,
}

impl Default for StreamingCheck {
    fn default() -> Self {
        Self::new()
    }
}

impl StreamingCheck {
    /// Before the first byte.
    pub fn new() -> Self {
        Self {
            walk: Walk::new(),
            crc: Crc64::new(),
            tally: Tally::default(),
            kept: Vec::new(),
            checksum: None,
        }
    }

    /// Takes the next bytes and says how many of them belong to the file: fewer than all only when it has ended.
    pub fn push(&mut self, bytes: &[u8]) -> Result<usize, RdbError> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_complete() {
            let section = self.walk.section();
            let step = self.walk.step(rest)?;
            let (walked, after) = rest.split_at(step.consumed);
            rest = after;
            self.take(section, walked);
            if step.ended.is_some() {
                self.ended(section)?;
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// True once the last byte of the file was pushed.
    pub fn is_complete(&self) -> bool {
        self.walk.section() == Section::Done
    }

    /// Keys counted so far.
    pub fn keys(&self) -> u64 {
        self.tally.keys
    }

    /// Bytes of the file so far.
    pub fn bytes(&self) -> u64 {
        self.walk.at()
    }

    /// What the file was; an error if it has not ended.
    pub fn finish(self) -> Result<FileSummary, RdbError> {
        if !self.is_complete() {
            return Err(RdbError::Truncated {
                at: self.walk.at(),
                what: "an RDB file",
            });
        }
        Ok(self
            .tally
            .summary(self.walk.magic(), self.checksum, self.walk.at()))
    }

    fn take(&mut self, section: Section, walked: &[u8]) {
        let room = match section {
            Section::Aux => AUX_BYTES_MAX + 1,
            // A few bytes each, as their layouts say.
            Section::SelectDb
            | Section::ExpirySeconds
            | Section::ExpiryMillis
            | Section::Checksum => usize::MAX,
            Section::Magic
            | Section::Code
            | Section::Function
            | Section::ModuleAux
            | Section::ResizeDb
            | Section::SlotInfo
            | Section::Idle
            | Section::Frequency
            | Section::Key { .. }
            | Section::Value { .. }
            | Section::Done => 0,
        };
        let kept = walked.len().min(room.saturating_sub(self.kept.len()));
        self.kept.extend_from_slice(&walked[..kept]);
        if section != Section::Checksum {
            self.crc.update(walked);
        }
    }

    fn ended(&mut self, section: Section) -> Result<(), RdbError> {
        if section == Section::Checksum {
            self.checksum = check_checksum(&self.kept, self.crc)?;
        } else if self.kept.len() <= AUX_BYTES_MAX {
            self.tally.ended(section, &self.kept)?;
        }
        self.kept.clear();
        Ok(())
    }
}

/// `None` if the file has no checksum.
pub(super) fn check_checksum(stored: &[u8], computed: Crc64) -> Result<Option<u64>, RdbError> {
    let stored = u64::from_le_bytes(Cursor::new(stored).array("the checksum")?);
    match stored {
        0 => Ok(None),
        _ if stored == computed.value() => Ok(Some(stored)),
        _ => Err(RdbError::Checksum {
            stored,
            computed: computed.value(),
        }),
    }
}

impl Tally {
    /// Takes in a section that has ended, with the bytes that [`StreamingCheck::take`] keeps for it.
    pub(super) fn ended(&mut self, section: Section, bytes: &[u8]) -> Result<(), RdbError> {
        let mut cursor = Cursor::new(bytes);
        match section {
            Section::SelectDb => self.db = cursor.length("a database's number")?,
            Section::ExpiryMillis => self.expiry_ms = Some(cursor.millis("an expiry")?),
            Section::ExpirySeconds => {
                let seconds = i32::from_le_bytes(cursor.array("an expiry")?);
                self.expiry_ms = Some(i64::from(seconds) * 1000);
            }
            Section::Aux if self.aux.len() < AUX_MAX => {
                let (name, value) = (cursor.string("a remark")?, cursor.string("a remark")?);
                self.aux.push((
                    String::from_utf8_lossy(&name).into_owned(),
                    String::from_utf8_lossy(&value).into_owned(),
                ));
            }
            Section::Function => self.functions += 1,
            Section::Value { .. } => {
                self.keys += 1;
                *self.keys_by_db.entry(self.db).or_default() += 1;
                self.expires += u64::from(self.expiry_ms.take().is_some());
            }
            Section::Aux
            | Section::Magic
            | Section::Code
            | Section::ModuleAux
            | Section::ResizeDb
            | Section::SlotInfo
            | Section::Idle
            | Section::Frequency
            | Section::Key { .. }
            | Section::Checksum
            | Section::Done => {}
        }
        Ok(())
    }

    pub(super) fn summary(self, magic: Magic, checksum: Option<u64>, bytes: u64) -> FileSummary {
        FileSummary {
            magic,
            keys: self.keys,
            keys_by_db: self.keys_by_db,
            expires: self.expires,
            checksum,
            aux: self.aux,
            functions: self.functions,
            bytes,
        }
    }
}
