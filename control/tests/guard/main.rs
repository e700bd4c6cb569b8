//! The guard between real servers, and between real and scripted ones.
#![expect(
    clippy::unwrap_used,
    reason = "a test states what it expects; a panic is a failed expectation"
)]

mod cutover;
mod fake;
mod foreign;
mod pair;
mod refusal;
mod soak;
