//! Damage of any kind: never a panic, never a wrong answer where a checksum stands behind it, never much time or memory.

use crate::support::{dumps, file, versions};
use proptest::prelude::*;
use understudy_rdb::{FileReader, StreamingCheck, decode_dump, decode_value, split_dump};

/// Numbers that decide what happens, from one seed: a failing case is found again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }
}

/// Changes a few bytes, cuts something out, or writes a length bomb somewhere.
fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len());
        match dice.roll(5) {
            0 if at < bytes.len() => bytes[at] = dice.roll(256) as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + dice.roll(9)).min(bytes.len()))),
            _ => {
                let bomb: &[u8] = [
                    &b"\x81\x00\x00\x00\x7f\xff\xff\xff\xff"[..],
                    b"\x80\xff\xff\xff\xff",
                    b"\xfe\xff\xff\xff\xff",
                    b"\xff\xff\xff\xff",
                ][dice.roll(4)];
                let end = (at + bomb.len()).min(bytes.len());
                bytes.splice(at..end, bomb.iter().copied());
            }
        }
    }
}

#[test]
fn damaged_values_are_read_or_refused_and_nothing_else() {
    let values: Vec<(u8, Vec<u8>, u16)> = dumps()
        .iter()
        .map(|golden| split_dump(&golden.payload).unwrap())
        .map(|dump| (dump.type_number, dump.value.to_vec(), dump.version))
        .collect();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut refused = 0;
    for round in 0..30_000 {
        let (type_number, value, version) = &values[round % values.len()];
        let mut value = value.clone();
        damage(&mut value, &mut dice);
        // Now and then the bytes are read as something else altogether.
        let type_number = if dice.roll(20) == 0 {
            dice.roll(30) as u8
        } else {
            *type_number
        };
        match decode_value(type_number, &value, *version) {
            Ok(object) => drop(object.digest()),
            Err(_) => refused += 1,
        }
    }
    assert!(
        refused > 10_000,
        "{refused} of 30000 were damaged enough to be refused"
    );
}

#[test]
fn every_flipped_bit_of_a_payload_is_noticed() {
    for golden in dumps()
        .into_iter()
        .filter(|golden| golden.payload.len() < 400)
    {
        for bit in 0..golden.payload.len() * 8 {
            let mut payload = golden.payload.clone();
            payload[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_dump(&payload).is_err(), "{} bit {bit}", golden.key);
        }
    }
}

#[test]
fn every_flipped_bit_of_a_file_is_noticed() {
    let good = file(&versions()[0]);
    let mut dice = Dice(7);
    for _ in 0..4_000 {
        let mut bad = good.clone();
        bad[dice.roll(good.len())] ^= 1 << dice.roll(8);
        let mut check = StreamingCheck::new();
        let pushed = check.push(&bad);
        assert!(pushed.is_err() || check.finish().is_err());
    }
}

#[test]
fn every_cut_of_a_file_is_noticed() {
    for version in versions() {
        let bytes = file(&version);
        for length in 0..bytes.len() {
            let mut check = StreamingCheck::new();
            check.push(&bytes[..length]).unwrap();
            assert!(!check.is_complete());
            assert!(check.finish().is_err(), "{version} cut at {length}");
        }
        assert!(FileReader::new(&bytes[..bytes.len() - 1]).finish().is_err());
        let longer = [&bytes[..], b"x"].concat();
        assert!(FileReader::new(&longer[..]).finish().is_err());
    }
}

#[test]
fn damaged_files_are_walked_the_same_way_however_they_are_cut() {
    let files: Vec<Vec<u8>> = versions().iter().map(|version| file(version)).collect();
    let mut dice = Dice(42);
    for round in 0..2_000 {
        let mut bytes = files[round % files.len()].clone();
        damage(&mut bytes, &mut dice);
        let mut whole = StreamingCheck::new();
        let whole_pushed = whole.push(&bytes).is_ok();
        let mut pieces = StreamingCheck::new();
        let size = 1 + dice.roll(50);
        let pieces_pushed = bytes.chunks(size).all(|piece| pieces.push(piece).is_ok());
        assert_eq!(whole_pushed, pieces_pushed, "round {round}");
        assert_eq!(whole.keys(), pieces.keys(), "round {round}");
        assert!(
            FileReader::new(&bytes[..])
                .take_while(Result::is_ok)
                .count() as u64
                <= whole.keys() + 1
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_as_a_value(type_number in 0_u8..40, bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 1_u16..90) {
        if let Ok(object) = decode_value(type_number, &bytes, version) {
            object.digest();
        }
    }

    #[test]
    fn any_bytes_as_a_payload(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode_dump(&bytes).is_err());
    }

    #[test]
    fn any_bytes_as_a_file(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [b"REDIS0012".as_slice(), &bytes].concat();
        let mut check = StreamingCheck::new();
        let _ = check.push(&bytes);
        prop_assert!(FileReader::new(&bytes[..]).count() <= bytes.len());
    }
}
