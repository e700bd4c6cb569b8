//! After a crash: what is so, and which way.

mod decide;
mod from_servers;

pub(crate) use decide::{Found, Way, decide};
pub use from_servers::recover_from_servers;
