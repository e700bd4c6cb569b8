//! One form for one value, whoever wrote it: encodings, versions and the order of hash tables leave no trace.
//!
//! ```text
//!   tag │ count │ parts …      every part is length (u64 LE) │ bytes, every number 8 bytes LE
//!   string s · list l · set e (sorted) · zset z (sorted by member) · hash h (sorted by field) · stream x · module m
//! ```
//!
//! Lengths before everything make the form injective: two different values never write the same bytes.

use std::fmt;

use crate::{Group, HashField, Object, Stream, StreamId, StreamLayout};

/// Where canonical bytes go.
pub trait CanonicalSink {
    /// Takes the next bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl CanonicalSink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl CanonicalSink for blake3::Hasher {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// How much of a stream counts. Everything else is always compared whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// What every version writes: entries, last id, groups with their consumers and pending entries.
    Common,
    /// Also the counters that servers keep since 7.0: entries added, newest deleted id.
    Counters,
    /// Also how many entries a group has read. 7.0 does not replicate it when a group reads, later servers do.
    GroupReads,
}

/// 128 bits that two values share only if they are equal (BLAKE3, cut short).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Digest({self})")
    }
}

impl Object {
    /// Writes the form that every version shares.
    pub fn canonical(&self, out: &mut impl CanonicalSink) {
        self.canonical_in(Detail::Common, out);
    }

    /// Writes the form with as much detail as asked for. Two values may only be compared in the same detail.
    pub fn canonical_in(&self, detail: Detail, out: &mut impl CanonicalSink) {
        match self {
            Self::String(bytes) => {
                out.put(b"s");
                part(out, bytes);
            }
            Self::List(elements) => {
                out.put(b"l");
                parts(out, elements.iter().map(Vec::as_slice), elements.len());
            }
            Self::Set(members) => {
                let mut members: Vec<&[u8]> = members.iter().map(Vec::as_slice).collect();
                members.sort_unstable();
                out.put(b"e");
                let count = members.len();
                parts(out, members.into_iter(), count);
            }
            Self::Zset(members) => zset(out, members),
            Self::Hash(fields) => hash(out, fields),
            Self::Stream(stream) => write_stream(out, stream, detail),
            Self::Module { id, raw } => {
                out.put(b"m");
                number(out, *id);
                part(out, raw);
            }
        }
    }

    /// The digest of the form that every version shares.
    pub fn digest(&self) -> Digest {
        self.digest_in(Detail::Common)
    }

    /// The digest with as much detail as asked for.
    pub fn digest_in(&self, detail: Detail) -> Digest {
        let mut hasher = blake3::Hasher::new();
        self.canonical_in(detail, &mut hasher);
        let mut short = [0; 16];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Digest(short)
    }

    /// As much detail as this value was read with. The lesser of two values' is the one to compare them in.
    pub fn detail(&self) -> Detail {
        match self {
            Self::Stream(stream) => match stream.layout {
                StreamLayout::One => Detail::Common,
                StreamLayout::Two => Detail::Counters,
                StreamLayout::Three => Detail::GroupReads,
            },
            Self::String(_)
            | Self::List(_)
            | Self::Set(_)
            | Self::Zset(_)
            | Self::Hash(_)
            | Self::Module { .. } => Detail::GroupReads,
        }
    }
}

fn number(out: &mut impl CanonicalSink, number: u64) {
    out.put(&number.to_le_bytes());
}

fn part(out: &mut impl CanonicalSink, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.put(bytes);
}

fn parts<'a>(out: &mut impl CanonicalSink, elements: impl Iterator<Item = &'a [u8]>, count: usize) {
    number(out, count as u64);
    for element in elements {
        part(out, element);
    }
}

fn zset(out: &mut impl CanonicalSink, members: &[(Vec<u8>, f64)]) {
    let mut members: Vec<(&[u8], u64)> = members
        .iter()
        .map(|(member, score)| (&member[..], score_bits(*score)))
        .collect();
    members.sort_unstable();
    out.put(b"z");
    number(out, members.len() as u64);
    for (member, score) in members {
        part(out, member);
        number(out, score);
    }
}

/// A zero is a zero, and every way not to be a number is the same.
fn score_bits(score: f64) -> u64 {
    if score == 0.0 {
        0
    } else if score.is_nan() {
        f64::NAN.to_bits()
    } else {
        score.to_bits()
    }
}

fn hash(out: &mut impl CanonicalSink, fields: &[HashField]) {
    let mut fields: Vec<&HashField> = fields.iter().collect();
    fields.sort_unstable();
    out.put(b"h");
    number(out, fields.len() as u64);
    for HashField {
        field,
        value,
        expiry_ms,
    } in fields
    {
        part(out, field);
        part(out, value);
        optional(out, *expiry_ms);
    }
}

fn optional(out: &mut impl CanonicalSink, value: Option<i64>) {
    match value {
        None => out.put(b"-"),
        Some(value) => {
            out.put(b"+");
            out.put(&value.to_le_bytes());
        }
    }
}

fn id(out: &mut impl CanonicalSink, id: StreamId) {
    number(out, id.ms);
    number(out, id.seq);
}

fn write_stream(out: &mut impl CanonicalSink, stream: &Stream, detail: Detail) {
    out.put(b"x");
    number(out, stream.entries.len() as u64);
    for entry in &stream.entries {
        id(out, entry.id);
        number(out, entry.fields.len() as u64);
        for (field, value) in &entry.fields {
            part(out, field);
            part(out, value);
        }
    }
    id(out, stream.last_id);
    if detail >= Detail::Counters {
        // The first id follows from the entries; servers set it at different moments.
        match stream.counters {
            None => out.put(b"-"),
            Some(counters) => {
                out.put(b"+");
                id(out, counters.deleted_id_max);
                number(out, counters.entries_added);
            }
        }
    }
    let mut groups: Vec<&Group> = stream.groups.iter().collect();
    groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    number(out, groups.len() as u64);
    for group in groups {
        write_group(out, group, detail);
    }
}

fn write_group(out: &mut impl CanonicalSink, group: &Group, detail: Detail) {
    part(out, &group.name);
    id(out, group.last_id);
    if detail >= Detail::GroupReads {
        optional(out, group.entries_read.map(|read| read as i64));
    }
    number(out, group.pending.len() as u64);
    for pending in &group.pending {
        id(out, pending.id);
        out.put(&pending.delivered_ms.to_le_bytes());
        number(out, pending.delivered_count);
        let consumer = pending
            .consumer
            .and_then(|index| group.consumers.get(index));
        part(out, consumer.map_or(b"", |consumer| &consumer.name[..]));
    }
    let mut names: Vec<&[u8]> = group
        .consumers
        .iter()
        .map(|consumer| &consumer.name[..])
        .collect();
    names.sort_unstable();
    let count = names.len();
    parts(out, names.into_iter(), count);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(field: &str, value: &str, expiry_ms: Option<i64>) -> HashField {
        HashField {
            field: field.into(),
            value: value.into(),
            expiry_ms,
        }
    }

    #[test]
    fn order_matters_in_lists_and_nowhere_else() {
        let (a, b) = (b"a".to_vec(), b"b".to_vec());
        let set = |members: [&Vec<u8>; 2]| Object::Set(members.map(Clone::clone).to_vec()).digest();
        assert_eq!(set([&a, &b]), set([&b, &a]));
        let list =
            |members: [&Vec<u8>; 2]| Object::List(members.map(Clone::clone).to_vec()).digest();
        assert_ne!(list([&a, &b]), list([&b, &a]));
        let zset = |members: [(&Vec<u8>, f64); 2]| {
            Object::Zset(members.map(|(m, s)| (m.clone(), s)).to_vec()).digest()
        };
        assert_eq!(zset([(&a, 0.0), (&b, 1.0)]), zset([(&b, 1.0), (&a, -0.0)]));
        assert_ne!(zset([(&a, 0.0), (&b, 1.0)]), zset([(&b, 0.0), (&a, 1.0)]));
        let hash = |fields: [HashField; 2]| Object::Hash(fields.to_vec()).digest();
        let (f, g) = (field("f", "1", None), field("g", "2", Some(5)));
        assert_eq!(hash([f.clone(), g.clone()]), hash([g.clone(), f.clone()]));
        assert_ne!(hash([f.clone(), g]), hash([f, field("g", "2", Some(6))]));
    }

    #[test]
    fn neighbours_cannot_be_confused() {
        let list = |parts: &[&str]| {
            Object::List(parts.iter().map(|part| part.as_bytes().to_vec()).collect()).digest()
        };
        assert_ne!(list(&["ab", "c"]), list(&["a", "bc"]));
        assert_ne!(list(&["ab"]), Object::Set(vec![b"ab".to_vec()]).digest());
        assert_ne!(list(&[""]), list(&[]));
        assert_ne!(Object::String(Vec::new()).digest(), list(&[]));
    }
}
