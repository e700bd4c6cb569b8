//! Redis wire protocol: scanning, encoding, and the command table as data. Pure: no sockets, no clock.
//!
//! `scan` finds where a frame ends without building a value, `encode` writes frames, `command` knows what a command is:
//! its arity, where its keys are, what a proxy does with it, and which server versions know it.

pub mod args;
pub mod scan;

pub mod encode;

pub mod command;

/// The protocol that a connection speaks, as agreed by `HELLO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Protocol {
    /// What every connection starts with.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}
