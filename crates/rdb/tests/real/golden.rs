//! What real servers wrote, read: every version's payloads and files mean the same, and what the server itself tells.
//!
//! The data is made by `crates/lab/examples/generate_dumps.rs`.

use std::collections::BTreeMap;

use crate::support::{Truth, dumps, file, truth, versions};
use understudy_rdb::{Detail, FileReader, Object, StreamingCheck, decode_dump};

#[test]
fn every_version_writes_the_same_value() {
    let mut digests = BTreeMap::new();
    let mut payloads = 0;
    for dump in dumps() {
        let object = decode_dump(&dump.payload)
            .unwrap_or_else(|error| panic!("{} {}: {error}", dump.version, dump.key));
        let (first_version, first) = digests
            .entry(dump.key.clone())
            .or_insert((dump.version.clone(), object.digest()));
        assert_eq!(
            *first,
            object.digest(),
            "{}: {} and {first_version} differ",
            dump.key,
            dump.version
        );
        payloads += 1;
    }
    assert_eq!((digests.len(), payloads), (34, 5 * 32 + 2 * 2));
}

#[test]
fn values_are_what_the_server_tells_by_commands() {
    let truth = truth();
    for dump in dumps() {
        let told = &truth[&dump.key];
        let read = Truth::of(&decode_dump(&dump.payload).unwrap());
        assert_eq!(&read, told, "{} {}", dump.version, dump.key);
    }
}

#[test]
fn counters_of_streams_agree_between_versions_that_keep_them() {
    let mut streams: BTreeMap<String, Vec<(Detail, Object)>> = BTreeMap::new();
    for dump in dumps()
        .into_iter()
        .filter(|dump| dump.key.starts_with("stream"))
    {
        let object = decode_dump(&dump.payload).unwrap();
        streams
            .entry(dump.key)
            .or_default()
            .push((object.detail(), object));
    }
    assert_eq!(streams.len(), 3);
    for (key, written) in streams {
        for (detail, object) in &written {
            for (other_detail, other) in &written {
                let detail = *detail.min(other_detail);
                assert_eq!(
                    object.digest_in(detail),
                    other.digest_in(detail),
                    "{key} in {detail:?}"
                );
            }
        }
    }
}

#[test]
fn a_stream_keeps_its_groups() {
    for dump in dumps()
        .into_iter()
        .filter(|dump| dump.key == "stream:groups")
    {
        let Ok(Object::Stream(stream)) = decode_dump(&dump.payload) else {
            panic!("{}", dump.version)
        };
        let group = stream
            .groups
            .iter()
            .find(|group| group.name == b"readers")
            .unwrap();
        let consumer = |index: Option<usize>| {
            String::from_utf8_lossy(&group.consumers[index.unwrap()].name).into_owned()
        };
        let pending: Vec<String> = group
            .pending
            .iter()
            .map(|entry| {
                format!(
                    "{} {} {} x{}",
                    entry.id,
                    consumer(entry.consumer),
                    entry.delivered_ms,
                    entry.delivered_count
                )
            })
            .collect();
        let expect = [
            "1-1 alice 1600000000123 x1",
            "3-1 alice 1600000000123 x9",
            "4-1 bob 1600000000123 x2",
        ];
        assert_eq!(pending, expect, "{}", dump.version);
        assert_eq!(
            group.consumers.len(),
            3,
            "{}: a consumer without entries is one too",
            dump.version
        );
        assert_eq!(stream.last_id.to_string(), "5-1");
        assert_eq!(stream.entries.len(), 4);
    }
}

#[test]
fn a_field_s_expiry_is_read_in_every_form() {
    let expiring: Vec<_> = dumps()
        .into_iter()
        .filter(|dump| dump.key.starts_with("hash:expiring"))
        .collect();
    assert_eq!(expiring.len(), 4, "two servers, small and large");
    for dump in expiring {
        let Ok(Object::Hash(fields)) = decode_dump(&dump.payload) else {
            panic!("{}", dump.version)
        };
        let mut expiring: Vec<_> = fields
            .iter()
            .filter_map(|field| {
                Some((
                    String::from_utf8_lossy(&field.field).into_owned(),
                    field.expiry_ms?,
                ))
            })
            .collect();
        expiring.sort();
        let expect = [
            ("field-0".to_owned(), 4_102_444_800_001),
            ("field-1".to_owned(), 4_102_444_800_000),
        ];
        assert_eq!(expiring, expect, "{} {}", dump.version, dump.key);
    }
}

#[test]
fn a_file_holds_what_the_payloads_hold() {
    for version in versions() {
        let from_dumps: BTreeMap<Vec<u8>, _> = dumps()
            .into_iter()
            .filter(|dump| dump.version == version)
            .map(|dump| {
                (
                    dump.key.into_bytes(),
                    decode_dump(&dump.payload).unwrap().digest(),
                )
            })
            .collect();
        let bytes = file(&version);
        let mut reader = FileReader::new(&bytes[..]);
        let mut from_file = BTreeMap::new();
        for record in &mut reader {
            let record = record.unwrap();
            assert_eq!(
                record.expiry_ms.is_some(),
                record.key == b"string:plain",
                "{version}"
            );
            let elsewhere = record.key == b"elsewhere";
            assert_eq!(record.db, if elsewhere { 3 } else { 0 }, "{version}");
            if !elsewhere {
                from_file.insert(record.key, record.value.decode().unwrap().digest());
            }
        }
        assert_eq!(from_file, from_dumps, "{version}");
        let has_functions = version != "6.2.14";
        assert_eq!(
            reader.functions().len(),
            usize::from(has_functions),
            "{version}"
        );
        let summary = reader.finish().unwrap();
        assert_eq!(summary.keys, from_dumps.len() as u64 + 1);
        assert_eq!(summary.expires, 1);
        assert_eq!(summary.keys_by_db[&3], 1);
        assert_eq!(summary.functions, u64::from(has_functions));
        assert!(summary.checksum.is_some());
    }
}

#[test]
fn a_file_may_arrive_in_pieces_of_any_size() {
    for version in versions() {
        let bytes = file(&version);
        let whole = summary_of(&bytes, bytes.len());
        let number = version.trim_start_matches("valkey-");
        assert_eq!(
            whole
                .aux_field("redis-ver")
                .or(whole.aux_field("valkey-ver")),
            Some(number),
            "{version}"
        );
        assert_eq!(whole.bytes, bytes.len() as u64);
        for size in [1, 2, 3, 7, 64, 1000] {
            assert_eq!(
                summary_of(&bytes, size),
                whole,
                "{version} in pieces of {size}"
            );
        }
        assert_eq!(
            FileReader::new(&bytes[..]).finish().unwrap(),
            whole,
            "{version}"
        );
    }
}

fn summary_of(bytes: &[u8], size: usize) -> understudy_rdb::FileSummary {
    let mut check = StreamingCheck::new();
    for piece in bytes.chunks(size) {
        assert_eq!(check.push(piece).unwrap(), piece.len());
    }
    assert_eq!(check.push(b"what follows").unwrap(), 0, "the end is found");
    check.finish().unwrap()
}
