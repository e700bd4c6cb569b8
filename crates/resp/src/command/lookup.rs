//! Finds a command by name: length and first eight bytes, folded to lower case, in an open table built at compile time.
//!
//! Names of up to eight letters are decided by comparing one `u64`; longer ones compare their rest. No allocation.

use super::spec::CommandSpec;
use super::table::TABLE;

/// The command of that name, in any letter case; a container for CLIENT, CONFIG and the like.
#[inline]
#[must_use]
pub fn lookup(name: &[u8]) -> Option<&'static CommandSpec> {
    let len = u8::try_from(name.len()).ok()?;
    let head = fold(head(name));
    let mut slot = slot_of(head, len);
    loop {
        let entry = SLOTS[slot];
        if entry.len == 0 {
            return None;
        }
        if entry.head == head && entry.len == len {
            let spec = &TABLE[entry.index as usize];
            if len <= 8 || same_rest(spec.name, name) {
                return Some(spec);
            }
        }
        slot = (slot + 1) % SLOTS_COUNT;
    }
}

/// Every command, containers once, by name.
#[must_use]
pub fn all() -> &'static [CommandSpec] {
    &TABLE
}

fn same_rest(known: &str, name: &[u8]) -> bool {
    match (known.as_bytes().get(8..), name.get(8..)) {
        (Some(known), Some(name)) => known.eq_ignore_ascii_case(name),
        _ => false,
    }
}

/// The first eight bytes as a little-endian number; bytes that are not there are 0.
#[inline]
fn head(name: &[u8]) -> u64 {
    if let Some(eight) = name.first_chunk::<8>() {
        return u64::from_le_bytes(*eight);
    }
    // Two halves that overlap: the same bytes at the same places, so `|` is exact.
    if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        let shift = (name.len() - 4) * 8;
        return u64::from(u32::from_le_bytes(*first))
            | u64::from(u32::from_le_bytes(*last)) << shift;
    }
    match *name {
        [a] => u64::from(a),
        [a, b] => u64::from(a) | u64::from(b) << 8,
        [a, b, c] => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
        _ => 0,
    }
}

/// Every `A`…`Z` among eight bytes to lower case, all at once; other bytes stay.
const fn fold(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let low = word & !HIGH;
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let past_z = low + (0x80 - b'Z' as u64 - 1) * ONES;
    let upper = (from_a ^ past_z) & !word & HIGH;
    word | upper >> 2
}

#[derive(Clone, Copy)]
struct Slot {
    head: u64,
    index: u16,
    /// 0: the slot is free.
    len: u8,
}

/// A power of two, and over three times the number of commands, so that a chain is one or two slots long.
const SLOTS_COUNT: usize = 1024;

// A constant table, not state: built by the compiler, never written.
static SLOTS: [Slot; SLOTS_COUNT] = slots();

const fn slot_of(head: u64, len: u8) -> usize {
    let mixed = (head ^ (len as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 54) as usize % SLOTS_COUNT
}

const fn slots() -> [Slot; SLOTS_COUNT] {
    assert!(TABLE.len() * 3 < SLOTS_COUNT, "more slots are needed");
    let mut slots = [Slot {
        head: 0,
        index: 0,
        len: 0,
    }; SLOTS_COUNT];
    let mut index = 0;
    while index < TABLE.len() {
        let name = TABLE[index].name.as_bytes();
        let mut head = 0_u64;
        let mut byte = 0;
        while byte < name.len() && byte < 8 {
            head |= (name[byte] as u64) << (byte * 8);
            byte += 1;
        }
        let len = name.len() as u8;
        let mut slot = slot_of(head, len);
        while slots[slot].len != 0 {
            slot = (slot + 1) % SLOTS_COUNT;
        }
        slots[slot] = Slot {
            head,
            index: index as u16,
            len,
        };
        index += 1;
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::{SLOTS, all, fold, head, lookup};

    #[test]
    fn every_name_finds_itself_in_any_letter_case() {
        for spec in all() {
            let lower = spec.name;
            let upper = lower.to_uppercase();
            let mixed: String = lower
                .chars()
                .enumerate()
                .map(|(at, it)| {
                    if at % 2 == 0 {
                        it.to_ascii_uppercase()
                    } else {
                        it
                    }
                })
                .collect();
            for name in [lower, &upper, &mixed] {
                assert_eq!(
                    lookup(name.as_bytes()).map(|found| found.name),
                    Some(lower),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn unknown_names_find_nothing() {
        for spec in all() {
            for other in [
                format!("{}x", spec.name),
                format!("x{}", spec.name),
                spec.name[1..].to_owned(),
                format!("{}\0", spec.name),
            ] {
                let expect = all()
                    .iter()
                    .find(|spec| spec.name == other)
                    .map(|spec| spec.name);
                assert_eq!(
                    lookup(other.as_bytes()).map(|found| found.name),
                    expect,
                    "{other:?}"
                );
            }
            // One byte changed, in every place: only a letter's other case may still be found.
            for at in 0..spec.name.len() {
                for flip in [0x01, 0x20, 0x40, 0x80] {
                    let mut other = spec.name.as_bytes().to_vec();
                    other[at] ^= flip;
                    let expect = all()
                        .iter()
                        .find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(&other))
                        .map(|spec| spec.name);
                    assert_eq!(
                        lookup(&other).map(|found| found.name),
                        expect,
                        "{}",
                        other.escape_ascii()
                    );
                }
            }
        }
        assert!(lookup(b"").is_none());
        assert!(lookup(&[b'a'; 300]).is_none());
        assert!(lookup(&[0; 8]).is_none());
        assert!(lookup(&[0xff; 8]).is_none());
    }

    #[test]
    fn folding_touches_upper_case_letters_only() {
        for byte in 0..=255_u8 {
            let expect = u64::from_le_bytes([byte.to_ascii_lowercase(); 8]);
            assert_eq!(fold(u64::from_le_bytes([byte; 8])), expect, "{byte:#x}");
            let mixed = [byte, b'A', 0xff, b'Z', byte, b'@', b'[', 0];
            assert_eq!(
                fold(u64::from_le_bytes(mixed)),
                u64::from_le_bytes(mixed.map(|it| it.to_ascii_lowercase()))
            );
        }
    }

    #[test]
    fn heads_hold_the_bytes_that_are_there() {
        for len in 0..=12 {
            let name: Vec<u8> = (0..len).map(|at| b'a' + at).collect();
            let mut expect = [0; 8];
            let kept = name.len().min(8);
            expect[..kept].copy_from_slice(&name[..kept]);
            assert_eq!(head(&name), u64::from_le_bytes(expect), "{len}");
        }
    }

    #[test]
    fn chains_are_short() {
        let longest = SLOTS
            .split(|slot| slot.len == 0)
            .map(<[_]>::len)
            .max()
            .unwrap();
        assert!(longest <= 8, "{longest} names in a row");
    }
}
