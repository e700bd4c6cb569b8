//! What a ring promises beside twemproxy's places: order, limits, one shard, random, slots.

#![expect(clippy::unwrap_used, reason = "a panic here is a failed expectation")]

use understudy_ring::{Distribution, Hash, HashTag, Member, Ring, RingError, SLOTS, slot};

fn members<'a>(names: &[&'a str]) -> Vec<Member<'a>> {
    names
        .iter()
        .map(|name| Member { name, weight: 1 })
        .collect()
}

fn ring(distribution: Distribution, names: &[&str]) -> Ring {
    Ring::new(distribution, Hash::Fnv1a_64, None, &members(names)).unwrap()
}

#[test]
fn the_order_of_members_moves_no_key() {
    for distribution in [
        Distribution::Ketama,
        Distribution::Modula,
        Distribution::Slots,
    ] {
        let (one, other) = (
            ring(distribution, &["a", "b", "c10"]),
            ring(distribution, &["c10", "a", "b"]),
        );
        for number in 0..1_000 {
            let key = format!("key:{number}").into_bytes();
            let (one, other) = (
                ["a", "b", "c10"][one.locate(&key, 0)],
                ["c10", "a", "b"][other.locate(&key, 0)],
            );
            assert_eq!(one, other, "{distribution} {number}");
        }
    }
}

#[test]
fn one_shard_has_every_key() {
    for distribution in Distribution::ALL {
        assert_eq!(ring(distribution, &["only"]).locate(b"any key", 12_345), 0);
    }
}

#[test]
fn random_follows_the_number_it_is_given() {
    let ring = ring(Distribution::Random, &["b", "a", "c"]);
    let places: Vec<usize> = (0..6)
        .map(|random| ring.locate(b"the same key", random))
        .collect();
    assert_eq!(places, [1, 0, 2, 1, 0, 2]); // In sorted order: a, b, c.
}

#[test]
fn slots_are_split_evenly_and_in_order() {
    let names: Vec<String> = (0..3).map(|number| format!("s{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ring = ring(Distribution::Slots, &names);
    let mut counts = [0_u32; 3];
    let mut owners = vec![None; usize::from(SLOTS)];
    for number in 0..200_000 {
        let key = format!("key:{number}").into_bytes();
        let place = ring.locate(&key, 0);
        let owner = &mut owners[usize::from(slot(&key))];
        if owner.is_none() {
            counts[place] += 1;
        }
        assert_eq!(*owner.get_or_insert(place), place, "a slot has one owner");
    }
    let seen: Vec<usize> = owners.into_iter().flatten().collect();
    assert_eq!(seen.len(), usize::from(SLOTS), "all slots were reached");
    assert!(seen.is_sorted(), "ranges are contiguous");
    assert_eq!(counts, [5_462, 5_461, 5_461]);
}

#[test]
fn slots_have_a_hash_tag_of_their_own() {
    let ring = Ring::new(
        Distribution::Slots,
        Hash::Md5,
        HashTag::parse("$$"),
        &members(&["a", "b", "c", "d"]),
    )
    .unwrap();
    assert_eq!(ring.locate(b"x{user1}y", 0), ring.locate(b"{user1}", 0));
}

#[test]
fn members_that_make_no_ring_are_refused() {
    #[track_caller]
    fn check(members: &[Member<'_>], expect: &str) {
        let error: RingError =
            Ring::new(Distribution::Modula, Hash::Crc16, None, members).unwrap_err();
        assert_eq!(error.to_string(), expect);
    }
    check(&[], "a ring needs at least one member");
    check(&members(&["a", "b", "a"]), "two members are named 'a'");
    check(
        &[
            Member {
                name: "a",
                weight: 1,
            },
            Member {
                name: "b",
                weight: 0,
            },
        ],
        "member 'b' has weight 0",
    );
    check(
        &[
            Member {
                name: "a",
                weight: u32::MAX,
            },
            Member {
                name: "b",
                weight: 1,
            },
        ],
        "the weights add up to more than 4294967295",
    );
    let names: Vec<String> = (0..4_097).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    check(&members(&names), "4097 members are more than a ring's 4096");
}

#[test]
fn huge_weights_take_no_memory() {
    let heavy = [
        Member {
            name: "a",
            weight: 2_000_000_000,
        },
        Member {
            name: "b",
            weight: 2_000_000_000,
        },
    ];
    let ring = Ring::new(Distribution::Modula, Hash::Crc32a, None, &heavy).unwrap();
    assert_eq!(ring.locate(b"123456789", 0), 1); // 0xcbf43926 is above 2,000,000,000.
}
