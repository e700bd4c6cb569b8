//! What a command is, as data: arity, flags, key positions, what a proxy does with it, which servers know it.
//!
//! ```text
//!   table     generated: what real servers answer to COMMAND and COMMAND DOCS (crates/lab/examples/generate_command_table.rs)
//!   policy    written by hand: one row per command whose class does not follow from its flags and keys
//!   lookup → resolve → keys      the way of one command through this module; none of them allocates or hashes with SipHash
//! ```

mod class;
mod flags;
mod keys;
mod knows;
mod lookup;
mod policy;
mod resolve;
mod server;
mod spec;
#[rustfmt::skip] // One command a line, however long.
mod table;

pub use class::{Broadcast, Class, Local, RefuseReason, Split, Transaction};
pub use flags::Flags;
pub use keys::{KeyError, data_keys, keys, reaches_unnamed_keys};
pub use knows::{Unknown, knows, unknown_part};
pub use lookup::{all, lookup};
pub use resolve::{ResolveError, is_blocking, is_readonly, is_write, resolve};
pub use server::{Product, Server, Since};
pub use spec::{Begin, CommandSpec, Find, KeyAccess, KeySpec, OptionSince};
