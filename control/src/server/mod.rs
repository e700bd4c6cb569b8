//! Typed operations on one Redis or Valkey server, over one ordered connection.
//!
//! ```text
//!  ServerLink ── pause, fence, promote, observe … in the order in which they are asked ──> server
//!      │ a call failed, or its deadline passed
//!      └── used up: the next call says so; `reconnect` first kills what the old connection may still have on its way
//! ```
//!
//! A fence that arrives late is a write outage with nobody in charge, and a fence and its undo on two connections can
//! overtake each other (hazard 9). So there is one connection, and it is never replaced silently.

mod clients;
mod error;
mod info;
mod link;
mod observed;
mod rights;

pub use clients::ClientLine;
pub use error::ServerError;
pub(crate) use error::is_silence;
pub use info::Info;
pub use link::{CONNECTION_NAME, Fenced, Former, Probe, Rewrite, ServerLink};
pub use observed::{Backlog, Observed, ReplicaLine, Role, ServerVersion};
pub use rights::{MissingRight, rights_missing, rules_needed};
