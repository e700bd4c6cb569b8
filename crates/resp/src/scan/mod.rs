//! Finds where a frame ends, without building a value.
//!
//! A request becomes ranges in the read buffer, a reply becomes a length. A scan that met the end of the bytes resumes where
//! it stopped, as long as the caller keeps the frame's first byte at index 0. The same bytes give the same frames however
//! they were cut, since every decision rests on bytes that have been read and never on how many came at once.
//!
//! ```text
//!   request   *2 CRLF  $3 CRLF GET CRLF  $1 CRLF k CRLF  *1 CRLF …      the scan stops at the end of the first frame
//!   args                      [  0  ]           [1]
//! ```

mod error;
mod inline;
mod limits;
mod line;
mod reply;
mod request;
mod tail;

pub use error::ProtocolError;
pub use limits::ScanLimits;
pub use reply::{ReplyFrame, ReplyKind, ReplyScanner};
pub use request::{ArgRange, RequestScanner, Scan};
pub use tail::{Fed, ReplyTail, RequestTail};
