//! What a key can hold, in the form in which versions do not differ.

use std::fmt;
use std::sync::Arc;

/// The value of one key.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// Bytes; numbers are their decimal text.
    String(Vec<u8>),
    /// In order.
    List(Vec<Vec<u8>>),
    /// In the order in which the server wrote it, which means nothing.
    Set(Vec<Vec<u8>>),
    /// Members with scores, in no order that means anything: equal scores sort by member.
    Zset(Vec<(Vec<u8>, f64)>),
    /// In the order in which the server wrote it, which means nothing.
    Hash(Vec<HashField>),
    /// Entries in order, with groups.
    Stream(Box<Stream>),
    /// A module's value, as the bytes that the module wrote.
    Module {
        /// Name (9 × 6 bits) and encoding version (10 bits) of the module's type.
        id: u64,
        /// Everything after the id, the end marker included.
        raw: Vec<u8>,
    },
}

/// One field of a hash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HashField {
    /// Its name.
    pub field: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// When it expires, in milliseconds since 1970, if it does.
    pub expiry_ms: Option<i64>,
}

/// A stream with its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Which layout it was read from, hence which counters were there to read.
    pub layout: StreamLayout,
    /// Entries that are not deleted, oldest first.
    pub entries: Vec<StreamEntry>,
    /// The newest id ever given.
    pub last_id: StreamId,
    /// What servers before 7.0 do not count.
    pub counters: Option<StreamCounters>,
    /// Consumer groups.
    pub groups: Vec<Group>,
}

/// How a server wrote a stream down. A later one holds all that an earlier one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamLayout {
    /// 5.0 to 6.2.
    One,
    /// 7.0: counters.
    Two,
    /// 7.2 and Valkey: when a consumer was last active.
    Three,
}

/// Counters that servers keep since 7.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCounters {
    /// The oldest entry that is left.
    pub first_id: StreamId,
    /// The newest id that was deleted by name.
    pub deleted_id_max: StreamId,
    /// Entries ever added.
    pub entries_added: u64,
}

/// One entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    /// Its id.
    pub id: StreamId,
    /// Fields and values, in order; a field may come twice. Entries of one node share their fields' names, as they do in
    /// the server: a node may name a field once and use it in thousands of entries.
    pub fields: Vec<(Arc<[u8]>, Vec<u8>)>,
}

/// Milliseconds and a sequence number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Milliseconds since 1970, as the server or the client gave it.
    pub ms: u64,
    /// Tells entries of one millisecond apart.
    pub seq: u64,
}

impl fmt::Display for StreamId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.ms, self.seq)
    }
}

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Vec<u8>,
    /// The last id that it delivered.
    pub last_id: StreamId,
    /// Entries it has read, since 7.0. `u64::MAX` is the server's way to say that it does not know.
    pub entries_read: Option<u64>,
    /// Delivered, not acknowledged.
    pub pending: Vec<Pending>,
    /// Who reads in its name.
    pub consumers: Vec<Consumer>,
}

/// One entry that was delivered and not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The entry.
    pub id: StreamId,
    /// When it was last delivered, in milliseconds since 1970.
    pub delivered_ms: i64,
    /// How often.
    pub delivered_count: u64,
    /// To whom: an index into the group's consumers. `None` only in damaged data.
    pub consumer: Option<usize>,
}

/// One consumer of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: Vec<u8>,
    /// When it last asked, in milliseconds since 1970. Not replicated exactly, so never compared.
    pub seen_ms: i64,
    /// When it last got something, since 7.2. Not replicated exactly, so never compared.
    pub active_ms: Option<i64>,
}

impl Object {
    /// The type's name as the TYPE command gives it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::List(_) => "list",
            Self::Set(_) => "set",
            Self::Zset(_) => "zset",
            Self::Hash(_) => "hash",
            Self::Stream(_) => "stream",
            Self::Module { .. } => "module",
        }
    }
}
