//! Names of runs: short enough for a label of Kubernetes, and never given twice.

use std::fmt::Write as _;

/// Longest name: what a label's value and an object's name of one part may have.
const LENGTH_MAX: usize = 63;
/// Hex digits of a hash that stand for what was cut or replaced.
const HASH_DIGITS: usize = 8;

/// The name of a run: `us-<pool>-<shard>-<upgrade>-<n>-<time>`.
///
/// The time keeps a run of today from being taken for one of the same number of a journal that is gone. Names that are too
/// long, or have letters that a label has not, are told apart by a hash.
pub fn run_name(pool: &str, shard: &str, upgrade: u64, n: u64, now_ms: u64) -> String {
    let wanted = format!("{pool}-{shard}");
    let mut name = plain(&wanted);
    let end = format!("-{upgrade}-{n}-{}", base36(now_ms));
    let room = LENGTH_MAX - "us-".len() - end.len();
    if name != wanted || name.len() > room {
        let hash = blake3::hash(format!("{pool}\0{shard}").as_bytes()).to_hex();
        name.truncate(room - HASH_DIGITS - 1);
        let name_end = name.trim_end_matches('-').len();
        name.truncate(name_end);
        let _never_fails = write!(name, "-{}", &hash[..HASH_DIGITS]);
    }
    format!("us-{name}{end}")
}

fn plain(text: &str) -> String {
    let letter = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() => c,
        _ => '-',
    };
    text.chars().map(letter).collect()
}

fn base36(mut number: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut digits = Vec::new();
    loop {
        digits.push(char::from(DIGITS[(number % 36) as usize]));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_a_name_that_a_label_takes() {
        assert_eq!(
            run_name("sessions", "s1", 3, 1, 1_795_347_327_461),
            "us-sessions-s1-3-1-mwrrfzs5"
        );
        let long = "a-very-long-name-of-a-pool-that-somebody-chose-on-a-monday";
        for (pool, shard) in [(long, "s1"), ("Sessions", "s_1"), ("é", "ü"), ("-", "-")] {
            let name = run_name(pool, shard, u64::MAX, 99, u64::MAX);
            assert!(name.len() <= LENGTH_MAX, "{name}");
            assert!(
                name.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{name}"
            );
            assert!(!name.ends_with('-'), "{name}");
        }
    }

    #[test]
    fn shards_whose_names_look_alike_in_a_label_have_runs_of_their_own() {
        let names = ["s_1", "s.1", "S-1", "s-1"].map(|shard| run_name("p", shard, 1, 1, 1));
        for (i, name) in names.iter().enumerate() {
            assert!(!names[i + 1..].contains(name), "{name}");
        }
        assert_ne!(run_name("a-b", "c", 1, 1, 1), run_name("a", "b_c", 1, 1, 1));
    }
}
