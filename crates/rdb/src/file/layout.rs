//! Where everything in a file ends, as data: enough to walk over it without understanding it.

use crate::value::Family;

/// One piece of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// A string in any encoding.
    Text,
    /// A number in the form of a length.
    Length,
    /// So many bytes.
    Fixed(u64),
    /// A score as text: a length of one byte, or 253 to 255 for what is no number.
    TextScore,
    /// A count, and then this so many times.
    Each(&'static [Piece]),
    /// Parts of a module's value until the end marker.
    ModuleParts,
}

use Piece::{Each, Fixed, Length, ModuleParts, Text, TextScore};

/// A time in milliseconds, or a score.
const EIGHT: Piece = Fixed(8);
/// A stream id as the server keeps it.
const RAW_ID: Piece = Fixed(16);

pub(super) const TEXT: &[Piece] = &[Text];
pub(super) const TEXT_PAIR: &[Piece] = &[Text, Text];
pub(super) const LENGTH: &[Piece] = &[Length];
pub(super) const LENGTH_PAIR: &[Piece] = &[Length, Length];
pub(super) const LENGTH_TRIPLE: &[Piece] = &[Length, Length, Length];
pub(super) const SECONDS: &[Piece] = &[Fixed(4)];
pub(super) const MILLIS: &[Piece] = &[EIGHT];
pub(super) const BYTE: &[Piece] = &[Fixed(1)];
pub(super) const MODULE: &[Piece] = &[Length, ModuleParts];

const TEXTS: &[Piece] = &[Each(&[Text])];
const PENDING: Piece = Each(&[RAW_ID, EIGHT, Length]);

const STREAM_1: &[Piece] = &[
    Each(&[Text, Text]),
    Length, // entries
    Length, // last id
    Length,
    Each(&[
        Text,
        Length,
        Length,
        PENDING,
        Each(&[Text, EIGHT, Each(&[RAW_ID])]),
    ]),
];
const STREAM_2: &[Piece] = &[
    Each(&[Text, Text]),
    Length, // entries
    Length, // last id
    Length,
    Length, // first id
    Length,
    Length, // newest deleted id
    Length,
    Length, // entries added
    Each(&[
        Text,
        Length,
        Length,
        Length,
        PENDING,
        Each(&[Text, EIGHT, Each(&[RAW_ID])]),
    ]),
];
const STREAM_3: &[Piece] = &[
    Each(&[Text, Text]),
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Each(&[
        Text,
        Length,
        Length,
        Length,
        PENDING,
        Each(&[Text, EIGHT, EIGHT, Each(&[RAW_ID])]),
    ]),
];

/// Layouts nest this deep at most: the consumer's entries of a stream's group.
pub(super) const DEPTH_MAX: usize = 4;

/// The layout of a value; `None` for a type that we do not know.
pub(super) fn of_value(type_number: u8, family: Family) -> Option<&'static [Piece]> {
    match (type_number, family) {
        (0 | 9..=13 | 16 | 17 | 20, _) => Some(TEXT),
        (1 | 2 | 14, _) => Some(TEXTS),
        (3, _) => Some(&[Each(&[Text, TextScore])]),
        (4, _) => Some(&[Each(&[Text, Text])]),
        (5, _) => Some(&[Each(&[Text, EIGHT])]),
        (7, _) => Some(MODULE),
        (15, _) => Some(STREAM_1),
        (18, _) => Some(&[Each(&[Length, Text])]),
        (19, _) => Some(STREAM_2),
        (21, _) => Some(STREAM_3),
        (22, Family::Valkey) => Some(&[Each(&[Text, Text, EIGHT])]),
        (22, Family::Redis) => Some(&[Each(&[Length, Text, Text])]),
        (23, Family::Redis) => Some(TEXT),
        (24, Family::Redis) => Some(&[EIGHT, Each(&[Length, Text, Text])]),
        (25, Family::Redis) => Some(&[EIGHT, Text]),
        (_, _) => None,
    }
}
