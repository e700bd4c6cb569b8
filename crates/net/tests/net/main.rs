//! What the crate promises, over real sockets.

#![expect(
    clippy::unwrap_used,
    reason = "a test states what it expects; a panic is a failed expectation"
)]

mod admin;
mod client;
mod greeting;
mod peer;
mod tls;
mod unix;
mod wakeups;
