//! Reads the golden data.

use std::collections::BTreeMap;
use std::path::PathBuf;

use understudy_rdb::Object;

/// What one server answered to DUMP of one key.
pub(crate) struct Golden {
    pub(crate) version: String,
    pub(crate) key: String,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn dumps() -> Vec<Golden> {
    let text = std::fs::read_to_string(directory().join("dumps.tsv")).unwrap();
    let golden = |line: &str| {
        let [version, key, payload] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        Golden {
            version: version.to_owned(),
            key: key.to_owned(),
            payload: unhex(payload),
        }
    };
    text.lines().map(golden).collect()
}

pub(crate) fn versions() -> Vec<String> {
    let mut versions: Vec<String> = dumps().into_iter().map(|dump| dump.version).collect();
    versions.dedup();
    versions
}

pub(crate) fn file(version: &str) -> Vec<u8> {
    std::fs::read(directory().join(format!("{version}.rdb"))).unwrap()
}

/// A value as clients see it: a type and texts, in an order that only means something where it does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Truth {
    kind: String,
    elements: Vec<Vec<Vec<u8>>>,
}

impl Truth {
    pub(crate) fn of(object: &Object) -> Self {
        let single = |element: &Vec<u8>| vec![element.clone()];
        let elements = match object {
            Object::String(bytes) => vec![vec![bytes.clone()]],
            Object::List(elements) | Object::Set(elements) => elements.iter().map(single).collect(),
            Object::Zset(members) => members
                .iter()
                .map(|(member, score)| vec![member.clone(), score_text(*score)])
                .collect(),
            Object::Hash(fields) => fields
                .iter()
                .map(|field| vec![field.field.clone(), field.value.clone()])
                .collect(),
            Object::Stream(stream) => {
                let flat = stream.entries.iter().flat_map(|entry| {
                    let id = entry.id.to_string().into_bytes();
                    let pairs = entry
                        .fields
                        .iter()
                        .flat_map(|(field, value)| [field.to_vec(), value.clone()]);
                    std::iter::once(id).chain(pairs)
                });
                flat.map(|text| vec![text]).collect()
            }
            Object::Module { .. } => panic!("no module was loaded"),
        };
        Self::new(object.type_name(), elements)
    }

    fn new(kind: &str, mut elements: Vec<Vec<Vec<u8>>>) -> Self {
        if matches!(kind, "set" | "hash" | "zset") {
            elements.sort();
        }
        Self {
            kind: kind.to_owned(),
            elements,
        }
    }
}

/// As the server prints it, up to the form of its exponents and to the sign of a zero, which versions print or not.
fn score_text(score: f64) -> Vec<u8> {
    format!("{:e}", score + 0.0).into_bytes()
}

pub(crate) fn truth() -> BTreeMap<String, Truth> {
    let text = std::fs::read_to_string(directory().join("truth.tsv")).unwrap();
    let told = |line: &str| {
        let [key, kind, elements] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let flat: Vec<Vec<u8>> = match (kind, elements) {
            (_, "") if kind != "string" => Vec::new(),
            _ => elements.split(' ').map(unhex).collect(),
        };
        let size = if matches!(kind, "hash" | "zset") {
            2
        } else {
            1
        };
        let mut elements: Vec<Vec<Vec<u8>>> = flat.chunks(size).map(<[Vec<u8>]>::to_vec).collect();
        if kind == "zset" {
            for element in &mut elements {
                let score: f64 = String::from_utf8_lossy(&element[1]).parse().unwrap();
                element[1] = score_text(score);
            }
        }
        (key.to_owned(), Truth::new(kind, elements))
    };
    text.lines().map(told).collect()
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(byte).collect()
}
