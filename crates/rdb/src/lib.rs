//! RDB files and DUMP payloads: decoding, checking, and one canonical form for every version. Pure.
//!
//! ```text
//!   DUMP payload   type │ value │ version u16 │ CRC64          → dump::decode_dump → Object → Digest
//!   RDB file       magic │ aux │ functions │ keys │ EOF │ CRC64 → file::StreamingCheck (counts) or file::FileReader (objects)
//! ```
//!
//! What every part promises: bytes never cause a panic, nothing is allocated that the input does not pay for (a length
//! is believed only as far as bytes follow it), and nothing recurses, so depth cannot be attacked.
//! Read by Redis 6.2, 7.0, 8.2, Valkey 8.1, 9.1 and everything before them; types that only newer servers write are
//! refused by number, and a module's value is kept as the bytes it is.

mod canonical;
pub mod crc64;
mod cursor;
mod dump;
mod error;
pub mod file;
mod lzf;
mod object;
mod packed;
mod stream;
mod value;

pub use canonical::{CanonicalSink, Detail, Digest};
pub use dump::{Dump, FOOTER_LENGTH, decode_dump, split_dump};
pub use error::RdbError;
pub use file::{FileError, FileReader, FileSummary, Magic, Record, RecordValue, StreamingCheck};
pub use object::{
    Consumer, Group, HashField, Object, Pending, Stream, StreamCounters, StreamEntry, StreamId,
    StreamLayout,
};
pub use value::{Family, decode_value};
