//! What the crate promises, over real sockets.

mod admin;
mod client;
mod greeting;
mod peer;
mod tls;
mod unix;
