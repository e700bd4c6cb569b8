//! Real servers of many versions, load, ledger and fault injection: what demo, tests and benches share.
//!
//! ```text
//!   Server   a real redis-server or valkey-server of a chosen version, alone in its directory, gone when dropped
//!   Relay    a TCP relay that delays, cuts, stalls, doubles a write or swaps two replies
//!   Load     many connections, mixed commands; every reply checked at once ──┐
//!   Ledger   what each acknowledged write must have left behind            ◄─┘
//!   audit    asks the servers themselves, not the proxy: lost, doubled, reordered, misplaced
//!   Report   the zeros that the demo prints
//! ```
//!
//! The lab judges the proxy, so it shares no code with it: it has its own RESP reader (`wire`) and its own model of what
//! Redis answers (`model`). A fault in the proxy's scanner cannot hide here.

mod error;
mod port;
mod server;
mod version;
pub mod wire;

pub use error::LabError;
pub use port::free_port;
pub use server::{Server, ServerOptions};
pub use version::{Product, Version};
