//! A ring: which member of a pool a key belongs to.
//!
//! Members are sorted by name first (shorter names before longer ones, then by byte), as twemproxy does while it looks
//! for duplicates. So the order in which a file lists them never moves a key, and `modula` counts in sorted order.

use std::fmt;
use std::str::FromStr;

use crate::hash::Hash;
use crate::md5::md5;
use crate::slot::{SLOTS, slot};
use crate::tag::HashTag;

/// Most members of one ring.
const MEMBERS_MAX: usize = 4_096;

/// Points that a member of average weight has on a ketama ring.
const POINTS_PER_MEMBER: u32 = 160;

/// Points made from one MD5 digest.
const POINTS_PER_DIGEST: u32 = 4;

/// Longest text that twemproxy hashes for a point (`KETAMA_MAX_HOSTLEN` less its terminating zero).
const POINT_TEXT_MAX: usize = 272;

/// How a pool's keys are spread over its shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// Consistent hashing as libmemcached's ketama. twemproxy's default.
    #[default]
    Ketama,
    /// Hash modulo the sum of the weights.
    Modula,
    /// Any member for any command: for pools of interchangeable servers.
    Random,
    /// Redis Cluster's 16384 slots, in even contiguous ranges over the members in sorted order. Ignores hash and hash tag: a slot
    /// has its own.
    Slots,
}

impl Distribution {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ketama, Self::Modula, Self::Random, Self::Slots];

    /// Its name in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ketama => "ketama",
            Self::Modula => "modula",
            Self::Random => "random",
            Self::Slots => "slots",
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl FromStr for Distribution {
    type Err = UnknownDistribution;

    fn from_str(text: &str) -> Result<Self, UnknownDistribution> {
        Self::ALL
            .into_iter()
            .find(|distribution| distribution.name() == text)
            .ok_or(UnknownDistribution)
    }
}

/// No distribution has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownDistribution;

impl fmt::Display for UnknownDistribution {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("no such distribution")
    }
}

impl std::error::Error for UnknownDistribution {}

/// One shard as the ring sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its identity: keys follow the name, not the address. `twemproxy_name` makes the one of an unnamed server.
    pub name: &'a str,
    /// Its share of the keys, relative to the others. `random` and `slots` ignore it.
    pub weight: u32,
}

/// Why members make no ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingError {
    /// A ring needs a member.
    NoMembers,
    /// More than 4096 members.
    TooManyMembers(usize),
    /// Two members would be one place on the ring.
    SameName(String),
    /// A member that no key can reach.
    ZeroWeight(String),
    /// The weights add up to more than 32 bits.
    WeightTooLarge,
}

impl fmt::Display for RingError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMembers => out.write_str("a ring needs at least one member"),
            Self::TooManyMembers(count) => {
                write!(out, "{count} members are more than a ring's {MEMBERS_MAX}")
            }
            Self::SameName(name) => write!(out, "two members are named '{name}'"),
            Self::ZeroWeight(name) => write!(out, "member '{name}' has weight 0"),
            Self::WeightTooLarge => write!(out, "the weights add up to more than {}", u32::MAX),
        }
    }
}

impl std::error::Error for RingError {}

/// Finds the member that a key belongs to. Immutable; made once per pool and route table.
#[derive(Clone, Debug)]
pub struct Ring {
    hash: Hash,
    tag: Option<HashTag>,
    places: Places,
}

#[derive(Clone, Debug)]
enum Places {
    /// Nothing to choose: no key is hashed.
    One,
    /// Points in ascending order, and beside each the member it leads to.
    Ketama {
        points: Vec<u32>,
        members: Vec<u16>,
    },
    /// `ends[i]` is the sum of the weights up to and with the i-th member in sorted order.
    Modula {
        ends: Vec<u32>,
        members: Vec<u16>,
    },
    Random {
        members: Vec<u16>,
    },
    Slots {
        members: Vec<u16>,
    },
}

impl Ring {
    /// Places the members. Their order does not matter, except that `locate` answers with indexes into it.
    pub fn new(
        distribution: Distribution,
        hash: Hash,
        tag: Option<HashTag>,
        members: &[Member<'_>],
    ) -> Result<Self, RingError> {
        let members = sorted(members)?;
        let places = match distribution {
            _ if members.len() == 1 => Places::One,
            Distribution::Ketama => ketama(&members),
            Distribution::Modula => modula(&members),
            Distribution::Random => Places::Random {
                members: indexes(&members),
            },
            Distribution::Slots => Places::Slots {
                members: indexes(&members),
            },
        };
        Ok(Self { hash, tag, places })
    }

    /// The index of the key's member, in the order in which the members were given. `random` is used by that distribution only.
    #[must_use]
    pub fn locate(&self, key: &[u8], random: u32) -> usize {
        let member = match &self.places {
            Places::One => 0,
            Places::Ketama { points, members } => {
                let hash = self.hash_of(key);
                let place = points.partition_point(|&point| point < hash);
                members[if place == members.len() { 0 } else { place }]
            }
            Places::Modula { ends, members } => {
                let total = ends[ends.len() - 1];
                let place = self.hash_of(key) % total;
                members[ends.partition_point(|&end| end <= place)]
            }
            Places::Random { members } => members[random as usize % members.len()],
            Places::Slots { members } => {
                let place = usize::from(slot(key)) * members.len() / usize::from(SLOTS);
                members[place]
            }
        };
        usize::from(member)
    }

    fn hash_of(&self, key: &[u8]) -> u32 {
        let part = match &self.tag {
            Some(tag) => tag.part(key),
            None => key,
        };
        self.hash.hash(part)
    }
}

/// A member and its index as it was given.
type Indexed<'a> = (u16, Member<'a>);

fn sorted<'a>(members: &[Member<'a>]) -> Result<Vec<Indexed<'a>>, RingError> {
    if members.is_empty() {
        return Err(RingError::NoMembers);
    }
    if members.len() > MEMBERS_MAX {
        return Err(RingError::TooManyMembers(members.len()));
    }
    if let Some(member) = members.iter().find(|member| member.weight == 0) {
        return Err(RingError::ZeroWeight(member.name.to_owned()));
    }
    if members
        .iter()
        .try_fold(0_u32, |sum, member| sum.checked_add(member.weight))
        .is_none()
    {
        return Err(RingError::WeightTooLarge);
    }
    let mut sorted: Vec<Indexed<'a>> = (0..).zip(members.iter().copied()).collect();
    sorted.sort_by_key(|(_, member)| (member.name.len(), member.name));
    match sorted
        .windows(2)
        .find(|pair| pair[0].1.name == pair[1].1.name)
    {
        Some(pair) => Err(RingError::SameName(pair[0].1.name.to_owned())),
        None => Ok(sorted),
    }
}

fn indexes(members: &[Indexed<'_>]) -> Vec<u16> {
    members.iter().map(|(index, _)| *index).collect()
}

fn ketama(members: &[Indexed<'_>]) -> Places {
    let total: u32 = members.iter().map(|(_, member)| member.weight).sum();
    let mut points = Vec::with_capacity(members.len() * POINTS_PER_MEMBER as usize);
    for (index, member) in members {
        for round in 0..digests_of(member.weight, total, members.len()) {
            let mut text = format!("{}-{round}", member.name).into_bytes();
            text.truncate(POINT_TEXT_MAX);
            let digest = md5(&text);
            points.extend(
                digest
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|&bytes| (u32::from_le_bytes(bytes), *index)),
            );
        }
    }
    // Equal points are rare and their order is left open by qsort; glibc's merge sort keeps the sorted order of the members.
    points.sort_by_key(|(point, _)| *point);
    let (points, members) = points.into_iter().unzip();
    Places::Ketama { points, members }
}

/// How many digests, of four points each, a member gets. twemproxy computes this in single precision, and so must we.
fn digests_of(weight: u32, total: u32, members: usize) -> u32 {
    let share = weight as f32 / total as f32;
    let exact = share * POINTS_PER_MEMBER as f32 / POINTS_PER_DIGEST as f32 * members as f32;
    (f64::from(exact) + 0.000_000_000_1) as f32 as u32 // A cast of a positive float rounds down, as floorf does.
}

fn modula(members: &[Indexed<'_>]) -> Places {
    let ends = members.iter().scan(0, |sum: &mut u32, (_, member)| {
        *sum += member.weight;
        Some(*sum)
    });
    Places::Modula {
        ends: ends.collect(),
        members: indexes(members),
    }
}
