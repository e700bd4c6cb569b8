//! A proxy on real sockets in front of real servers.
//!
//! `stage` starts both and holds what the tests share; each other file is one promise. Servers come from `.tools`
//! (`make tools`); everything listens on ports of its own and is gone with its test.

#![expect(
    clippy::unwrap_used,
    reason = "a test states what it expects; a panic is a failed expectation"
)]

mod backends;
mod gate;
mod huge;
mod operations;
mod order;
mod parity;
mod passing;
mod pinned;
mod restart;
mod stage;
mod transports;
mod trouble;
