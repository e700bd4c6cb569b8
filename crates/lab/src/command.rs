//! One command of the load: operations on keys of one connection, and the shape in which they are sent. Pure.
//!
//! ```text
//!  Single       GET k                           one reply
//!  Mset Mget    MSET k v k v, MGET k k          one reply; the proxy may split it over shards
//!  Sum          DEL k k, EXISTS k k             one reply, the sum
//!  Transaction  MULTI, ops, EXEC                +OK, +QUEUED for each, an array
//!  Script       EVAL … keys of one group        an array
//! ```
//!
//! Keys that connections share have commands of their own: no single connection can know their replies exactly.

use crate::model::Op;
use crate::wire::{Reply, encode};

/// The index of a key in its connection's book.
pub(crate) type KeyIndex = usize;

/// What one turn of a connection sends.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// On keys that only this connection writes: every reply is known beforehand.
    Own(Planned),
    /// INCR of a counter that all connections share: replies only grow, and the sum is known in the end.
    SharedAdd { counter: usize },
    /// RPUSH to a list that all connections share: every connection's tokens are there once, in its order.
    SharedPush { list: usize, token: u32 },
}

/// A command on keys of one connection and what it does.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) shape: Shape,
    pub(crate) parts: Vec<(KeyIndex, Op)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Single,
    Mset,
    Mget,
    Sum,
    Transaction,
    Script,
}

/// Adds to a counter, pushes to a list, sets a text: three keys changed at once or not at all.
const SCRIPT: &str = "local n = redis.call('INCRBY', KEYS[1], ARGV[1]) \
    local l = redis.call('RPUSH', KEYS[2], ARGV[2]) \
    redis.call('SET', KEYS[3], ARGV[3]) \
    return {n, l, 'OK'}";
/// The same with one key, where keys of one group may lie on several shards.
const SCRIPT_ONE_KEY: &str = "return {redis.call('INCRBY', KEYS[1], ARGV[1])}";

impl Planned {
    /// How many replies it gets.
    pub(crate) fn replies(&self) -> usize {
        match self.shape {
            Shape::Transaction => self.parts.len() + 2,
            Shape::Single | Shape::Mset | Shape::Mget | Shape::Sum | Shape::Script => 1,
        }
    }

    /// Appends the frames.
    pub(crate) fn encode<'k>(&self, out: &mut Vec<u8>, key: impl Fn(KeyIndex) -> &'k [u8]) {
        match self.shape {
            Shape::Single => self.encode_each(out, key),
            Shape::Transaction => {
                encode(out, &["MULTI"]);
                self.encode_each(out, key);
                encode(out, &["EXEC"]);
            }
            Shape::Mset | Shape::Mget | Shape::Sum => {
                let mut arguments = vec![self.joined_name().as_bytes().to_vec()];
                for (index, op) in &self.parts {
                    arguments.extend(op.arguments(key(*index)).drain(1..));
                }
                encode(out, &arguments);
            }
            Shape::Script => {
                let text = if self.parts.len() == 1 {
                    SCRIPT_ONE_KEY
                } else {
                    SCRIPT
                };
                let mut arguments = vec![
                    b"EVAL".to_vec(),
                    text.into(),
                    self.parts.len().to_string().into_bytes(),
                ];
                arguments.extend(self.parts.iter().map(|(index, _)| key(*index).to_vec()));
                arguments.extend(self.parts.iter().map(|(_, op)| script_argument(op)));
                encode(out, &arguments);
            }
        }
    }

    fn encode_each<'k>(&self, out: &mut Vec<u8>, key: impl Fn(KeyIndex) -> &'k [u8]) {
        for (index, op) in &self.parts {
            encode(out, &op.arguments(key(*index)));
        }
    }

    fn joined_name(&self) -> &'static str {
        match (self.shape, self.parts.first().map(|(_, op)| op)) {
            (Shape::Mset, _) => "MSET",
            (Shape::Mget, _) => "MGET",
            (_, Some(Op::Delete)) => "DEL",
            (_, Some(Op::Unlink)) => "UNLINK",
            _ => "EXISTS",
        }
    }
}

fn script_argument(op: &Op) -> Vec<u8> {
    match op {
        Op::Add(by) => by.to_string().into_bytes(),
        Op::Push(elements) => elements.first().cloned().unwrap_or_default(),
        Op::Set(value) => value.clone(),
        _ => Vec::new(),
    }
}

/// Whether a reply says what is expected, in either protocol: a script's status is a simple string in one and a bulk in
/// the other; both are the same text.
pub(crate) fn says(found: &Reply, expected: &Reply) -> bool {
    match (found, expected) {
        (Reply::Simple(text), Reply::Bulk(bytes)) | (Reply::Bulk(bytes), Reply::Simple(text)) => {
            text.as_bytes() == bytes
        }
        _ => found == expected,
    }
}
