//! What Redis does to one key: a model small enough to be read and trusted. Pure.
//!
//! `apply` changes the entry and returns the reply that a server must give. Only operations that answer alike on every
//! measured version and in both protocols are in it, so a difference is a fault and never a matter of taste.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::{Reply, shorten};

/// A key's value.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) enum Value {
    #[default]
    Absent,
    Text(Vec<u8>),
    List(Vec<Vec<u8>>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    Sorted(BTreeMap<Vec<u8>, i64>),
}

/// When a key ends, in milliseconds since 1970: exactly known after PEXPIREAT, between two readings after EXPIRE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Expiry {
    #[default]
    Never,
    Between(u64, u64),
}

/// A key as the ledger expects it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    pub(crate) expiry: Expiry,
}

/// When a command was sent and when its reply was read, in milliseconds since 1970: it was executed in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) sent_ms: u64,
    pub(crate) answered_ms: u64,
}

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Get,
    Strlen,
    Set(Vec<u8>),
    Add(i64),
    Append(Vec<u8>),
    Push(Vec<Vec<u8>>),
    Pop,
    Length,
    FieldSet(Vec<u8>, Vec<u8>),
    FieldGet(Vec<u8>),
    FieldAdd(Vec<u8>, i64),
    MemberAdd(Vec<u8>),
    MemberRemove(Vec<u8>),
    IsMember(Vec<u8>),
    Score(Vec<u8>, i64),
    Rank(Vec<u8>),
    Delete,
    Unlink,
    Exists,
    ExpireIn { seconds: u64 },
    ExpireAt { unix_ms: u64 },
    Persist,
}

impl Op {
    /// Whether an acknowledgement of it is a promise.
    pub(crate) fn is_write(&self) -> bool {
        !matches!(
            self,
            Op::Get
                | Op::Strlen
                | Op::Length
                | Op::FieldGet(_)
                | Op::IsMember(_)
                | Op::Rank(_)
                | Op::Exists
        )
    }

    /// The command as sent.
    pub(crate) fn arguments(&self, key: &[u8]) -> Vec<Vec<u8>> {
        let key = key.to_vec();
        let text = |word: &str| word.as_bytes().to_vec();
        let number = |number: i64| number.to_string().into_bytes();
        match self {
            Op::Get => vec![text("GET"), key],
            Op::Strlen => vec![text("STRLEN"), key],
            Op::Set(value) => vec![text("SET"), key, value.clone()],
            Op::Add(1) => vec![text("INCR"), key],
            Op::Add(by) => vec![text("INCRBY"), key, number(*by)],
            Op::Append(more) => vec![text("APPEND"), key, more.clone()],
            Op::Push(elements) => [text("RPUSH"), key]
                .into_iter()
                .chain(elements.iter().cloned())
                .collect(),
            Op::Pop => vec![text("LPOP"), key],
            Op::Length => vec![text("LLEN"), key],
            Op::FieldSet(field, value) => vec![text("HSET"), key, field.clone(), value.clone()],
            Op::FieldGet(field) => vec![text("HGET"), key, field.clone()],
            Op::FieldAdd(field, by) => vec![text("HINCRBY"), key, field.clone(), number(*by)],
            Op::MemberAdd(member) => vec![text("SADD"), key, member.clone()],
            Op::MemberRemove(member) => vec![text("SREM"), key, member.clone()],
            Op::IsMember(member) => vec![text("SISMEMBER"), key, member.clone()],
            Op::Score(member, score) => vec![text("ZADD"), key, number(*score), member.clone()],
            Op::Rank(member) => vec![text("ZRANK"), key, member.clone()],
            Op::Delete => vec![text("DEL"), key],
            Op::Unlink => vec![text("UNLINK"), key],
            Op::Exists => vec![text("EXISTS"), key],
            Op::ExpireIn { seconds } => vec![text("EXPIRE"), key, seconds.to_string().into_bytes()],
            Op::ExpireAt { unix_ms } => {
                vec![text("PEXPIREAT"), key, unix_ms.to_string().into_bytes()]
            }
            Op::Persist => vec![text("PERSIST"), key],
        }
    }
}

impl Entry {
    /// Does `op` and returns what a server answers.
    pub(crate) fn apply(&mut self, op: &Op, window: Window) -> Reply {
        match op {
            Op::Set(value) => {
                *self = Entry {
                    value: Value::Text(value.clone()),
                    expiry: Expiry::Never,
                };
                return Reply::ok();
            }
            Op::Delete | Op::Unlink => {
                let was = std::mem::take(self);
                return flag(was.value != Value::Absent);
            }
            Op::Exists => return flag(self.value != Value::Absent),
            Op::ExpireIn { seconds } => {
                let ms = seconds * 1_000;
                return self.expire(Expiry::Between(
                    window.sent_ms + ms,
                    window.answered_ms + ms,
                ));
            }
            Op::ExpireAt { unix_ms } => return self.expire(Expiry::Between(*unix_ms, *unix_ms)),
            Op::Persist => {
                let had = std::mem::take(&mut self.expiry);
                return flag(had != Expiry::Never);
            }
            _ => {}
        }
        let reply = match op {
            Op::Get | Op::Strlen | Op::Add(_) | Op::Append(_) => self.text(op),
            Op::Push(_) | Op::Pop | Op::Length => self.list(op),
            Op::FieldSet(..) | Op::FieldGet(_) | Op::FieldAdd(..) => self.hash(op),
            Op::MemberAdd(_) | Op::MemberRemove(_) | Op::IsMember(_) => self.set(op),
            _ => self.sorted(op),
        };
        let emptied = match &self.value {
            Value::List(list) => list.is_empty(),
            Value::Hash(hash) => hash.is_empty(),
            Value::Set(set) => set.is_empty(),
            Value::Sorted(sorted) => sorted.is_empty(),
            Value::Absent | Value::Text(_) => false,
        };
        if emptied {
            *self = Entry::default();
        }
        reply.unwrap_or_else(wrong_type)
    }

    fn expire(&mut self, expiry: Expiry) -> Reply {
        if self.value == Value::Absent {
            return flag(false);
        }
        self.expiry = expiry;
        flag(true)
    }

    fn text(&mut self, op: &Op) -> Option<Reply> {
        if let (Value::Absent, Op::Get) = (&self.value, op) {
            return Some(Reply::Null);
        }
        if self.value == Value::Absent && op.is_write() {
            let start = if matches!(op, Op::Add(_)) {
                b"0".to_vec()
            } else {
                Vec::new()
            };
            self.value = Value::Text(start);
        }
        match (&mut self.value, op) {
            (Value::Absent, _) => Some(Reply::Integer(0)),
            (Value::Text(text), Op::Get) => Some(Reply::bulk(text)),
            (Value::Text(text), Op::Strlen) => Some(count(text.len())),
            (Value::Text(text), Op::Append(more)) => {
                text.extend_from_slice(more);
                Some(count(text.len()))
            }
            (Value::Text(text), Op::Add(by)) => {
                let sum = parse(text)? + by;
                *text = sum.to_string().into_bytes();
                Some(Reply::Integer(sum))
            }
            _ => None,
        }
    }

    fn list(&mut self, op: &Op) -> Option<Reply> {
        if self.value == Value::Absent {
            self.value = Value::List(Vec::new());
        }
        let Value::List(list) = &mut self.value else {
            return None;
        };
        match op {
            Op::Push(elements) => list.extend(elements.iter().cloned()),
            Op::Pop if list.is_empty() => return Some(Reply::Null),
            Op::Pop => return Some(Reply::Bulk(list.remove(0))),
            _ => {}
        }
        Some(count(list.len()))
    }

    fn hash(&mut self, op: &Op) -> Option<Reply> {
        if self.value == Value::Absent {
            self.value = Value::Hash(BTreeMap::new());
        }
        let Value::Hash(hash) = &mut self.value else {
            return None;
        };
        match op {
            Op::FieldSet(field, value) => {
                Some(flag(hash.insert(field.clone(), value.clone()).is_none()))
            }
            Op::FieldAdd(field, by) => {
                let sum = hash.get(field).map_or(Some(0), |text| parse(text))? + by;
                hash.insert(field.clone(), sum.to_string().into_bytes());
                Some(Reply::Integer(sum))
            }
            Op::FieldGet(field) => Some(hash.get(field).map_or(Reply::Null, Reply::bulk)),
            _ => None,
        }
    }

    fn set(&mut self, op: &Op) -> Option<Reply> {
        if self.value == Value::Absent {
            self.value = Value::Set(BTreeSet::new());
        }
        let Value::Set(set) = &mut self.value else {
            return None;
        };
        match op {
            Op::MemberAdd(member) => Some(flag(set.insert(member.clone()))),
            Op::MemberRemove(member) => Some(flag(set.remove(member))),
            Op::IsMember(member) => Some(flag(set.contains(member))),
            _ => None,
        }
    }

    fn sorted(&mut self, op: &Op) -> Option<Reply> {
        if self.value == Value::Absent {
            self.value = Value::Sorted(BTreeMap::new());
        }
        let Value::Sorted(sorted) = &mut self.value else {
            return None;
        };
        match op {
            Op::Score(member, score) => Some(flag(sorted.insert(member.clone(), *score).is_none())),
            Op::Rank(member) => {
                let Some(own) = sorted.get(member) else {
                    return Some(Reply::Null);
                };
                let before = sorted
                    .iter()
                    .filter(|(other, score)| (**score, *other) < (*own, member))
                    .count();
                Some(count(before))
            }
            _ => None,
        }
    }
}

/// Short, for findings.
impl std::fmt::Display for Value {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Absent => write!(out, "no such key"),
            Value::Text(text) => write!(out, "{:?}", shorten(text)),
            Value::List(list) => {
                let tail: Vec<String> = list
                    .iter()
                    .rev()
                    .take(3)
                    .rev()
                    .map(|element| shorten(element))
                    .collect();
                write!(out, "a list of {} ending in {}", list.len(), tail.join(" "))
            }
            Value::Hash(hash) => write!(out, "a hash of {}", hash.len()),
            Value::Set(set) => write!(out, "a set of {}", set.len()),
            Value::Sorted(sorted) => write!(out, "a sorted set of {}", sorted.len()),
        }
    }
}

fn flag(yes: bool) -> Reply {
    Reply::Integer(i64::from(yes))
}

fn count(items: usize) -> Reply {
    Reply::Integer(i64::try_from(items).unwrap_or(i64::MAX))
}

fn parse(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn wrong_type() -> Reply {
    Reply::Error("WRONGTYPE Operation against a key holding the wrong kind of value".to_owned())
}

#[cfg(test)]
mod tests;
