//! The ring against a real nutcracker 0.5.0: 2000 keys through eight server lists, two distributions and twelve hashes.
//!
//! `scripts/generate_ring_vectors.py` made the data and says how to make it again; `keys` here and there follow one rule.

#![expect(clippy::unwrap_used, reason = "a panic here is a failed expectation")]

use understudy_ring::{
    Distribution, Hash, HashTag, Member, Ring, twemproxy_name, twemproxy_socket_name,
};

const DATA: &str = include_str!("data/nutcracker-0.5.0.txt");
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const KEYS: usize = 2_000;

/// A key that is the text of a point hashes, by md5, to exactly that point.
const POINTS: [&str; 5] = [
    "127.0.0.1:23001",
    "127.0.0.1:23002",
    "s9",
    "node7",
    "/tmp/understudy-ring-a.sock:",
];

/// Knuth's 64-bit generator, of which each draw takes the upper 16 bits.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 48) % bound
    }

    fn bytes(&mut self, length: u64, lowest: u8) -> Vec<u8> {
        (0..length)
            .map(|_| lowest + self.below(256 - u64::from(lowest)) as u8)
            .collect()
    }

    fn number(&mut self, bound: u64) -> Vec<u8> {
        self.below(bound).to_string().into_bytes()
    }
}

fn keys() -> Vec<Vec<u8>> {
    let mut draw = Draw(20_121_112);
    (0..KEYS)
        .map(|index| {
            let number = index.to_string().into_bytes();
            match index % 10 {
                0 if index == 0 => Vec::new(),
                0 => format!(
                    "{}-{}",
                    POINTS[index / 10 % POINTS.len()],
                    index / 10 / POINTS.len()
                )
                .into_bytes(),
                1 => [b"user:{", &draw.number(500)[..], b"}:", &number].concat(),
                2 => {
                    let length = 1 + draw.below(40);
                    [number, draw.bytes(length, 0)].concat()
                }
                3 => {
                    let length = 1 + draw.below(24);
                    [draw.bytes(length, 128), number].concat()
                }
                4 => {
                    let length = 200 + draw.below(500);
                    [&number[..], b":", &draw.bytes(length, 0)].concat()
                }
                5 => [b"empty{}", &number[..], b"$$()"].concat(),
                6 => [b"}", &number[..], b"{open$("].concat(),
                7 => {
                    let length = 1 + draw.below(6);
                    [
                        b"$",
                        &draw.bytes(length, 128)[..],
                        b"$(",
                        &draw.number(900),
                        b")",
                        &number,
                    ]
                    .concat()
                }
                8 => {
                    let length = 1 + draw.below(3);
                    [b"{", &draw.bytes(length, 0)[..], b"}", &number].concat()
                }
                _ => [b"{{", &draw.number(300)[..], b"}}{x}", &number].concat(),
            }
        })
        .collect()
}

/// A server as its line in a nutcracker.yml: its name on the ring, and its weight.
fn server(line: &str) -> (String, u32) {
    let (endpoint, own) = line
        .split_once(' ')
        .map_or((line, None), |(endpoint, own)| (endpoint, Some(own)));
    let (endpoint, weight) = endpoint.rsplit_once(':').unwrap();
    let name = match endpoint.rsplit_once(':') {
        Some((host, port)) => twemproxy_name(own, host, port.parse().unwrap()),
        None => twemproxy_socket_name(own, endpoint),
    };
    (name, weight.parse().unwrap())
}

fn unpacked(text: &str) -> Vec<usize> {
    let digit = |letter: u8| DIGITS.iter().position(|&digit| digit == letter).unwrap();
    text.bytes()
        .flat_map(|letter| [digit(letter) / 8, digit(letter) % 8])
        .collect()
}

#[test]
fn every_key_is_where_nutcracker_put_it() {
    let keys = keys();
    let mut list = "";
    let mut tag = None;
    let mut servers: Vec<(String, u32)> = Vec::new();
    let mut rings = 0;
    for line in DATA.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["list", name, own_tag] => {
                (list, tag) = (name, HashTag::parse(own_tag));
                servers.clear();
            }
            [distribution @ ("ketama" | "modula"), hash, places] => {
                let distribution: Distribution = distribution.parse().unwrap();
                let hash: Hash = hash.parse().unwrap();
                let members: Vec<Member<'_>> = servers
                    .iter()
                    .map(|(name, weight)| Member {
                        name,
                        weight: *weight,
                    })
                    .collect();
                let ring = Ring::new(distribution, hash, tag, &members).unwrap();
                let places = unpacked(places);
                assert_eq!(places.len(), KEYS);
                for (key, place) in keys.iter().zip(places) {
                    assert_eq!(
                        ring.locate(key, 0),
                        place,
                        "{list} {distribution} {hash} {}",
                        key.escape_ascii()
                    );
                }
                rings += 1;
            }
            _ => servers.push(server(line)),
        }
    }
    assert_eq!(rings, 8 * 2 * 12);
}

#[test]
fn keys_reach_the_odd_corners() {
    let keys = keys();
    assert!(
        keys.iter()
            .filter(|key| key.iter().any(|&byte| byte >= 0x80))
            .count()
            > 500
    );
    assert!(keys.iter().filter(|key| key.len() > 200).count() >= 200);
    assert!(
        keys.iter()
            .filter(|key| key.windows(2).any(|pair| pair == b"{}"))
            .count()
            >= 200
    );
}
