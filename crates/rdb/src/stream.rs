//! Decodes streams: entries in listpacks under a master id, then counters, then groups.
//!
//! ```text
//!   listpack = master entry                                   entry …
//!     count · deleted · fields n · n names · 0                flags · ms − master · seq − master · …
//!                                                             flags 2 set:   n values of the master's fields
//!                                                             flags 2 clear: n · n × (field, value)
//!                                                             last, how many elements the entry took
//! ```

use std::sync::Arc;

use crate::cursor::Cursor;
use crate::packed::{Element, Listpack};
use crate::{
    Consumer, Group, Object, Pending, RdbError, Stream, StreamCounters, StreamEntry, StreamId,
    StreamLayout,
};

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

pub(crate) fn decode_stream(
    cursor: &mut Cursor<'_>,
    layout: StreamLayout,
) -> Result<Object, RdbError> {
    let mut entries = Vec::new();
    let (nodes, _) = cursor.count("a count of stream nodes")?;
    for _ in 0..nodes {
        let master = node_id(cursor)?;
        let blob = cursor.string("a stream node")?;
        decode_node(master, &blob, &mut entries)?;
    }
    let length = cursor.length("a stream's length")?;
    if length != entries.len() as u64 {
        return Err(cursor.corrupt("a stream with another length than it says"));
    }
    let last_id = two_lengths(cursor)?;
    let counters = match layout {
        StreamLayout::One => None,
        StreamLayout::Two | StreamLayout::Three => Some(StreamCounters {
            first_id: two_lengths(cursor)?,
            deleted_id_max: two_lengths(cursor)?,
            entries_added: cursor.length("a stream's entries added")?,
        }),
    };
    let (count, _) = cursor.count("a count of groups")?;
    let mut groups = Vec::new();
    for _ in 0..count {
        groups.push(decode_group(cursor, layout)?);
    }
    Ok(Object::Stream(Box::new(Stream {
        layout,
        entries,
        last_id,
        counters,
        groups,
    })))
}

/// The key of a node in the server's radix tree: both halves big-endian, as one string.
fn node_id(cursor: &mut Cursor<'_>) -> Result<StreamId, RdbError> {
    let id = cursor.string("a stream node's id")?;
    let id: [u8; 16] = id
        .as_ref()
        .try_into()
        .map_err(|_| cursor.corrupt("a stream node's id that is not 16 bytes"))?;
    Ok(id_from(id))
}

fn id_from(bytes: [u8; 16]) -> StreamId {
    let both = u128::from_be_bytes(bytes);
    StreamId {
        ms: (both >> 64) as u64,
        seq: both as u64,
    }
}

fn raw_id(cursor: &mut Cursor<'_>) -> Result<StreamId, RdbError> {
    Ok(id_from(cursor.array("a pending id")?))
}

fn two_lengths(cursor: &mut Cursor<'_>) -> Result<StreamId, RdbError> {
    Ok(StreamId {
        ms: cursor.length("a stream id")?,
        seq: cursor.length("a stream id")?,
    })
}

fn decode_node(master: StreamId, blob: &[u8], into: &mut Vec<StreamEntry>) -> Result<(), RdbError> {
    const WHAT: &str = "a stream node";
    let mut reader = Listpack::new(blob)?;
    let _valid = reader.number(WHAT)?;
    let _deleted = reader.number(WHAT)?;
    let mut names: Vec<Arc<[u8]>> = Vec::new();
    for _ in 0..reader.number(WHAT)? {
        names.push(reader.expect(WHAT)?.bytes().into());
    }
    reader.number(WHAT)?; // The master entry's end.
    while let Some(flags) = reader.next()? {
        let flags = match flags {
            Element::Number(flags) => flags,
            Element::Text(_) => return Err(reader.corrupt("a stream entry without flags")),
        };
        let (ms, seq) = (reader.number(WHAT)?, reader.number(WHAT)?);
        let id = StreamId {
            ms: master.ms.wrapping_add_signed(ms),
            seq: master.seq.wrapping_add_signed(seq),
        };
        let mut fields = Vec::new();
        if flags & SAME_FIELDS != 0 {
            for name in &names {
                fields.push((name.clone(), reader.expect(WHAT)?.into_vec()));
            }
        } else {
            for _ in 0..reader.number(WHAT)? {
                fields.push((
                    reader.expect(WHAT)?.bytes().into(),
                    reader.expect(WHAT)?.into_vec(),
                ));
            }
        }
        reader.number(WHAT)?; // How many elements the entry took, to be read backwards.
        if flags & DELETED == 0 {
            into.push(StreamEntry { id, fields });
        }
    }
    Ok(())
}

fn decode_group(cursor: &mut Cursor<'_>, layout: StreamLayout) -> Result<Group, RdbError> {
    let name = cursor.owned("a group's name")?;
    let last_id = two_lengths(cursor)?;
    let entries_read = match layout {
        StreamLayout::One => None,
        StreamLayout::Two | StreamLayout::Three => Some(cursor.length("a group's entries read")?),
    };
    let (count, _) = cursor.count("a count of pending entries")?;
    let mut pending = Vec::new();
    for _ in 0..count {
        pending.push(Pending {
            id: raw_id(cursor)?,
            delivered_ms: cursor.millis("a delivery time")?,
            delivered_count: cursor.length("a delivery count")?,
            consumer: None,
        });
    }
    pending.sort_unstable_by_key(|entry| entry.id);
    let (count, _) = cursor.count("a count of consumers")?;
    let mut consumers = Vec::new();
    for index in 0..count {
        consumers.push(decode_consumer(
            cursor,
            layout,
            &mut pending,
            index as usize,
        )?);
    }
    Ok(Group {
        name,
        last_id,
        entries_read,
        pending,
        consumers,
    })
}

/// A consumer only names the ids of its pending entries: the group above it has their times.
fn decode_consumer(
    cursor: &mut Cursor<'_>,
    layout: StreamLayout,
    pending: &mut [Pending],
    index: usize,
) -> Result<Consumer, RdbError> {
    let name = cursor.owned("a consumer's name")?;
    let seen_ms = cursor.millis("a consumer's time")?;
    let active_ms = match layout {
        StreamLayout::One | StreamLayout::Two => None,
        StreamLayout::Three => Some(cursor.millis("a consumer's time")?),
    };
    let (count, _) = cursor.count("a count of a consumer's entries")?;
    for _ in 0..count {
        let id = raw_id(cursor)?;
        let found = pending
            .binary_search_by_key(&id, |entry| entry.id)
            .ok()
            .and_then(|at| pending.get_mut(at));
        let Some(entry) = found else {
            return Err(cursor.corrupt("a consumer's entry that its group does not have"));
        };
        entry.consumer = Some(index);
    }
    Ok(Consumer {
        name,
        seen_ms,
        active_ms,
    })
}
