//! Decodes one value by its type byte.
//!
//! Numbers of types (and of a file's sections) mean different things to Redis and to Valkey from 22 on, so they are read
//! by [`Family`], never by the number alone.

use crate::cursor::Cursor;
use crate::packed::{Element, Listpack, intset, listpack, ziplist, zipmap};
use crate::stream::decode_stream;
use crate::{HashField, Object, RdbError, StreamLayout};

/// Whose numbering of types applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Redis of any version, and Valkey before 9.0, which kept to it.
    Redis,
    /// Valkey 9.0 and later.
    Valkey,
}

impl Family {
    /// Valkey took the numbers from 80 on, to stay clear of what Redis would use next.
    pub const fn of_version(version: u16) -> Self {
        if version >= 80 {
            Self::Valkey
        } else {
            Self::Redis
        }
    }
}

/// Decodes the bytes of one value, which must be all of them.
pub fn decode_value(type_number: u8, bytes: &[u8], version: u16) -> Result<Object, RdbError> {
    let mut cursor = Cursor::new(bytes);
    let object = decode(type_number, &mut cursor, version)?;
    cursor.finish()?;
    Ok(object)
}

fn decode(type_number: u8, cursor: &mut Cursor<'_>, version: u16) -> Result<Object, RdbError> {
    match (type_number, Family::of_version(version)) {
        (0, _) => Ok(Object::String(cursor.owned("a string")?)),
        (1, _) => Ok(Object::List(strings(cursor)?)),
        (2, _) => Ok(Object::Set(strings(cursor)?)),
        (3, _) => zset(cursor, text_score),
        (4, _) => hash(cursor),
        (5, _) => zset(cursor, |cursor| cursor.double("a score")),
        (7, _) => module(cursor),
        (9, _) => Ok(Object::Hash(
            zipmap(&cursor.string("a zipmap")?)?
                .into_iter()
                .map(lasting)
                .collect(),
        )),
        (10, _) => Ok(Object::List(ziplist(&cursor.string("a ziplist")?)?)),
        (11, _) => Ok(Object::Set(intset(&cursor.string("an intset")?)?)),
        (12, _) => scored_pairs(ziplist(&cursor.string("a ziplist")?)?, cursor),
        (13, _) => field_pairs(ziplist(&cursor.string("a ziplist")?)?, cursor),
        (14, _) => quicklist(cursor),
        (15, _) => decode_stream(cursor, StreamLayout::One),
        (16, _) => field_pairs(listpack(&cursor.string("a listpack")?)?, cursor),
        (17, _) => scored_pairs(listpack(&cursor.string("a listpack")?)?, cursor),
        (18, _) => quicklist_2(cursor),
        (19, _) => decode_stream(cursor, StreamLayout::Two),
        (20, _) => Ok(Object::Set(listpack(&cursor.string("a listpack")?)?)),
        (21, _) => decode_stream(cursor, StreamLayout::Three),
        (22, Family::Valkey) => valkey_hash(cursor),
        (22, Family::Redis) => expiring_hash(cursor, 1),
        (23, Family::Redis) => expiring_listpack(cursor),
        (24, Family::Redis) => {
            let soonest = cursor.millis("a hash's soonest expiry")?;
            expiring_hash(cursor, soonest)
        }
        (25, Family::Redis) => {
            cursor.millis("a hash's soonest expiry")?; // Repeats what the triples say.
            expiring_listpack(cursor)
        }
        (_, _) => Err(RdbError::UnknownType {
            type_number,
            version,
        }),
    }
}

fn strings(cursor: &mut Cursor<'_>) -> Result<Vec<Vec<u8>>, RdbError> {
    let (count, capacity) = cursor.count("a count of elements")?;
    let mut elements = Vec::with_capacity(capacity);
    for _ in 0..count {
        elements.push(cursor.owned("an element")?);
    }
    Ok(elements)
}

fn zset(
    cursor: &mut Cursor<'_>,
    score: impl Fn(&mut Cursor<'_>) -> Result<f64, RdbError>,
) -> Result<Object, RdbError> {
    let (count, capacity) = cursor.count("a count of members")?;
    let mut members = Vec::with_capacity(capacity);
    for _ in 0..count {
        let member = cursor.owned("a member")?;
        members.push((member, score(cursor)?));
    }
    Ok(Object::Zset(members))
}

/// Scores as text, before 4.0: a length of one byte, of which three stand for what is no number.
fn text_score(cursor: &mut Cursor<'_>) -> Result<f64, RdbError> {
    match cursor.byte("a score")? {
        253 => Ok(f64::NAN),
        254 => Ok(f64::INFINITY),
        255 => Ok(f64::NEG_INFINITY),
        length => {
            let text = cursor.take(usize::from(length), "a score")?;
            parse_score(text).ok_or_else(|| cursor.corrupt("a score that is no number"))
        }
    }
}

fn parse_score(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn hash(cursor: &mut Cursor<'_>) -> Result<Object, RdbError> {
    let (count, capacity) = cursor.count("a count of fields")?;
    let mut fields = Vec::with_capacity(capacity / 2);
    for _ in 0..count {
        fields.push(lasting((
            cursor.owned("a field")?,
            cursor.owned("a field's value")?,
        )));
    }
    Ok(Object::Hash(fields))
}

fn lasting((field, value): (Vec<u8>, Vec<u8>)) -> HashField {
    HashField {
        field,
        value,
        expiry_ms: None,
    }
}

/// Valkey 9: each field carries its expiry, -1 for none.
fn valkey_hash(cursor: &mut Cursor<'_>) -> Result<Object, RdbError> {
    let (count, capacity) = cursor.count("a count of fields")?;
    let mut fields = Vec::with_capacity(capacity / 8);
    for _ in 0..count {
        let (field, value) = (cursor.owned("a field")?, cursor.owned("a field's value")?);
        let expiry_ms = Some(cursor.millis("a field's expiry")?).filter(|&ms| ms != -1);
        fields.push(HashField {
            field,
            value,
            expiry_ms,
        });
    }
    Ok(Object::Hash(fields))
}

/// Redis 7.4: a field's expiry counts from the soonest of all, plus 1, so that 0 can mean none.
/// (Its release candidates, type 22, wrote it whole: as if the soonest were 1.)
fn expiring_hash(cursor: &mut Cursor<'_>, soonest: i64) -> Result<Object, RdbError> {
    let (count, capacity) = cursor.count("a count of fields")?;
    let mut fields = Vec::with_capacity(capacity / 3);
    for _ in 0..count {
        let after = cursor.length("a field's expiry")?;
        let expiry_ms = match after {
            0 => None,
            _ => i64::try_from(after - 1)
                .ok()
                .and_then(|after| soonest.checked_add(after)),
        };
        if after != 0 && expiry_ms.is_none() {
            return Err(cursor.corrupt("a field's expiry beyond all time"));
        }
        fields.push(HashField {
            field: cursor.owned("a field")?,
            value: cursor.owned("a field's value")?,
            expiry_ms,
        });
    }
    Ok(Object::Hash(fields))
}

/// Redis 7.4, small: (field, value, expiry or 0) three by three.
fn expiring_listpack(cursor: &mut Cursor<'_>) -> Result<Object, RdbError> {
    let blob = cursor.string("a listpack")?;
    let mut reader = Listpack::new(&blob)?;
    let mut fields = Vec::new();
    while let Some(field) = reader.next()? {
        let value = reader.expect("a field's value")?.into_vec();
        let expiry_ms = match reader.expect("a field's expiry")? {
            Element::Number(0) => None,
            Element::Number(ms) => Some(ms),
            Element::Text(_) => return Err(reader.corrupt("a field's expiry that is no number")),
        };
        fields.push(HashField {
            field: field.into_vec(),
            value,
            expiry_ms,
        });
    }
    Ok(Object::Hash(fields))
}

fn field_pairs(elements: Vec<Vec<u8>>, cursor: &Cursor<'_>) -> Result<Object, RdbError> {
    let mut fields = Vec::with_capacity(elements.len() / 2);
    let mut elements = elements.into_iter();
    while let Some(field) = elements.next() {
        let value = elements
            .next()
            .ok_or_else(|| cursor.corrupt("a field without a value"))?;
        fields.push(lasting((field, value)));
    }
    Ok(Object::Hash(fields))
}

fn scored_pairs(elements: Vec<Vec<u8>>, cursor: &Cursor<'_>) -> Result<Object, RdbError> {
    let mut members = Vec::with_capacity(elements.len() / 2);
    let mut elements = elements.into_iter();
    while let Some(member) = elements.next() {
        let score = elements.next().and_then(|text| parse_score(&text));
        members.push((
            member,
            score.ok_or_else(|| cursor.corrupt("a member without a score"))?,
        ));
    }
    Ok(Object::Zset(members))
}

/// 3.2 to 6.2: a list of ziplists.
fn quicklist(cursor: &mut Cursor<'_>) -> Result<Object, RdbError> {
    let (count, _) = cursor.count("a count of nodes")?;
    let mut elements = Vec::new();
    for _ in 0..count {
        elements.extend(ziplist(&cursor.string("a node")?)?);
    }
    Ok(Object::List(elements))
}

/// Since 7.0: a list of listpacks, and of single elements too big for one.
fn quicklist_2(cursor: &mut Cursor<'_>) -> Result<Object, RdbError> {
    let (count, _) = cursor.count("a count of nodes")?;
    let mut elements = Vec::new();
    for _ in 0..count {
        match cursor.length("a node's container")? {
            1 => elements.push(cursor.owned("a node")?),
            2 => elements.extend(listpack(&cursor.string("a node")?)?),
            _ => return Err(cursor.corrupt("a list node of unknown container")),
        }
    }
    Ok(Object::List(elements))
}

/// A module's value says where each part of it ends, so it can be carried without being understood.
fn module(cursor: &mut Cursor<'_>) -> Result<Object, RdbError> {
    const WHAT: &str = "a module's value";
    let id = cursor.length(WHAT)?;
    let start = cursor.at();
    loop {
        match cursor.length(WHAT)? {
            0 => break,
            1 | 2 => drop(cursor.length(WHAT)?),
            3 => drop(cursor.take(4, WHAT)?),
            4 => drop(cursor.take(8, WHAT)?),
            5 => drop(cursor.string(WHAT)?),
            _ => return Err(cursor.corrupt("a part of a module's value of unknown kind")),
        }
    }
    Ok(Object::Module {
        id,
        raw: cursor.since(start).to_vec(),
    })
}
