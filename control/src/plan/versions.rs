//! Which server can learn natively from which: measured, ordered pairs. An old server is never pointed at a newer one: a
//! full resync would wipe it before it fails.

use super::facts::{Build, Product};

/// What a pair allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pair {
    /// Seen to work.
    Native,
    /// Nothing was measured, and nothing speaks against it: the same fork, not older.
    Likely,
    /// Seen to fail, or sure to.
    Impossible(&'static str),
}

/// How far a server's data format goes. Larger reads smaller, within the limits of `pair`.
fn generation(build: Build) -> (Product, u32) {
    (build.product, build.major * 100 + build.minor)
}

/// What this ordered pair allows.
pub(super) fn pair(source: Build, target: Build) -> Pair {
    let (from, to) = (generation(source), generation(target));
    if from.1 < 602 && from.0 == Product::Redis {
        return Pair::Impossible("the source is older than 6.2 and cannot pause only its writes");
    }
    match (from.0, to.0) {
        (Product::Redis, Product::Redis) | (Product::Valkey, Product::Valkey) if to.1 < from.1 => {
            Pair::Impossible("the target is older than the source and cannot read its data")
        }
        (Product::Redis, Product::Redis) => {
            measured(matches!((from.1, to.1), (602, 700 | 802) | (700, 802)) || from == to)
        }
        (Product::Valkey, Product::Valkey) => {
            measured(matches!((from.1, to.1), (801, 901)) || from == to)
        }
        // Valkey forked from 7.2 and reads what that wrote, RDB 11 and older.
        (Product::Redis, Product::Valkey) if from.1 <= 702 => measured(matches!(to.1, 801 | 901)),
        (Product::Redis, Product::Valkey) => {
            Pair::Impossible("Valkey does not read what Redis writes from 7.4 on")
        }
        (Product::Valkey, Product::Redis) if from.1 < 900 && to.1 >= 704 => {
            measured((from.1, to.1) == (801, 802))
        }
        (Product::Valkey, Product::Redis) if from.1 < 900 => {
            Pair::Impossible("the target is older than the source and cannot read its data")
        }
        (Product::Valkey, Product::Redis) => {
            Pair::Impossible("Redis does not read what Valkey writes from 9.0 on")
        }
    }
}

fn measured(seen: bool) -> Pair {
    if seen { Pair::Native } else { Pair::Likely }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(text: &str) -> Build {
        let (product, version) = text.split_once(' ').unwrap();
        let product = if product == "redis" {
            Product::Redis
        } else {
            Product::Valkey
        };
        let (major, minor) = version.split_once('.').unwrap();
        Build {
            product,
            major: major.parse().unwrap(),
            minor: minor.parse().unwrap(),
            patch: 0,
        }
    }

    const MEASURED: [&str; 5] = [
        "redis 6.2",
        "redis 7.0",
        "redis 8.2",
        "valkey 8.1",
        "valkey 9.1",
    ];

    #[test]
    fn exactly_the_nine_measured_pairs_of_twenty_are_native() {
        let mut native = Vec::new();
        for source in MEASURED {
            for target in MEASURED {
                if source == target {
                    continue;
                }
                match pair(build(source), build(target)) {
                    Pair::Native => native.push(format!("{source} > {target}")),
                    Pair::Likely => panic!("{source} > {target} was measured"),
                    Pair::Impossible(_) => {}
                }
            }
        }
        assert_eq!(
            native,
            [
                "redis 6.2 > redis 7.0",
                "redis 6.2 > redis 8.2",
                "redis 6.2 > valkey 8.1",
                "redis 6.2 > valkey 9.1",
                "redis 7.0 > redis 8.2",
                "redis 7.0 > valkey 8.1",
                "redis 7.0 > valkey 9.1",
                "valkey 8.1 > redis 8.2",
                "valkey 8.1 > valkey 9.1",
            ]
        );
    }

    #[test]
    fn the_same_version_is_native_and_a_patch_level_does_not_matter() {
        for version in MEASURED {
            assert_eq!(pair(build(version), build(version)), Pair::Native);
        }
    }

    #[test]
    fn what_was_not_measured_is_likely_or_impossible_never_native() {
        assert_eq!(pair(build("redis 7.2"), build("redis 8.0")), Pair::Likely);
        assert!(matches!(
            pair(build("redis 5.0"), build("redis 8.2")),
            Pair::Impossible(_)
        ));
        assert!(matches!(
            pair(build("redis 7.4"), build("valkey 9.1")),
            Pair::Impossible(_)
        ));
        assert!(matches!(
            pair(build("valkey 9.0"), build("redis 8.2")),
            Pair::Impossible(_)
        ));
    }
}
