//! Whole RDB files, front to back.
//!
//! [`StreamingCheck`] walks a file that arrives piece by piece and keeps almost nothing of it: it counts keys and checks the
//! checksum. [`FileReader`] gives every key with its value. Both are driven by one walker that knows the layout of
//! everything as data.

mod check;
mod layout;
mod read;
mod summary;
mod walk;

pub use check::StreamingCheck;
pub use read::{FileError, FileReader, Record, RecordValue};
pub use summary::{FileSummary, Magic};
