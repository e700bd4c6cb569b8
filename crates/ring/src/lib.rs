//! Hash functions, hash tags and distributions, bit for bit as twemproxy computes them. Pure.
//!
//! ```text
//! key ──[HashTag]──▶ part of the key ──[Hash]──▶ 32 bits ──[Distribution]──▶ member of the ring
//! ```
//!
//! A key that lands on another server than before is a lost key. So everything here copies twemproxy 0.5.0 as it runs
//! on x86-64, its accidents included, and `tests/vectors.rs` compares it with what a real `nutcracker` did.

mod hash;
mod md5;
mod name;
mod ring;
mod slot;
mod tag;

pub use hash::{Hash, UnknownHash};
pub use name::{twemproxy_name, twemproxy_socket_name};
pub use ring::{Distribution, Member, Ring, RingError, UnknownDistribution};
pub use slot::{SLOTS, slot};
pub use tag::HashTag;
