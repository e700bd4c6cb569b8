//! The four functions that mix words by shifts and additions.

use super::widen;

pub(super) fn one_at_a_time(key: &[u8]) -> u32 {
    let mut value = key.iter().fold(0_u32, |value, &byte| {
        let value = value.wrapping_add(widen(byte));
        let value = value.wrapping_add(value << 10);
        value ^ (value >> 6)
    });
    value = value.wrapping_add(value << 3);
    value ^= value >> 11;
    value.wrapping_add(value << 15)
}

pub(super) fn hsieh(key: &[u8]) -> u32 {
    let (words, rest) = key.as_chunks::<4>();
    let mut hash = words.iter().fold(0_u32, |hash, &[a, b, c, d]| {
        let hash = hash.wrapping_add(half(a, b));
        let mixed = (half(c, d) << 11) ^ hash;
        let hash = (hash << 16) ^ mixed;
        hash.wrapping_add(hash >> 11)
    });
    match *rest {
        [a, b, c] => {
            hash = hash.wrapping_add(half(a, b));
            hash ^= hash << 16;
            hash ^= widen(c) << 18; // The only signed byte of this function.
            hash = hash.wrapping_add(hash >> 11);
        }
        [a, b] => {
            hash = hash.wrapping_add(half(a, b));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        [a] => {
            hash = hash.wrapping_add(u32::from(a));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    hash ^= hash << 3;
    hash = hash.wrapping_add(hash >> 5);
    hash ^= hash << 4;
    hash = hash.wrapping_add(hash >> 17);
    hash ^= hash << 25;
    hash.wrapping_add(hash >> 6)
}

fn half(low: u8, high: u8) -> u32 {
    u32::from(u16::from_le_bytes([low, high]))
}

pub(super) fn murmur(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = key.len() as u32;
    let seed = 0xdead_beef_u32.wrapping_mul(length);
    let (words, rest) = key.as_chunks::<4>();
    let mut hash = words.iter().fold(seed ^ length, |hash, &word| {
        let mut k = u32::from_le_bytes(word).wrapping_mul(M);
        k ^= k >> 24;
        hash.wrapping_mul(M) ^ k.wrapping_mul(M)
    });
    if !rest.is_empty() {
        hash = (hash ^ word(rest)).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

pub(super) fn jenkins(key: &[u8]) -> u32 {
    /// twemproxy's JENKINS_INITVAL.
    const INITIAL: u32 = 13;
    let start = 0xdead_beef_u32
        .wrapping_add(key.len() as u32)
        .wrapping_add(INITIAL);
    let [mut a, mut b, mut c] = [start; 3];
    let mut rest = key;
    while rest.len() > 12 {
        let (block, behind) = rest.split_at(12);
        a = a.wrapping_add(word(&block[..4]));
        b = b.wrapping_add(word(&block[4..8]));
        c = c.wrapping_add(word(&block[8..]));
        (a, b, c) = mix(a, b, c);
        rest = behind;
    }
    a = a.wrapping_add(word(rest.get(..4).unwrap_or(rest)));
    b = b.wrapping_add(word(rest.get(4..rest.len().min(8)).unwrap_or_default()));
    c = c.wrapping_add(word(rest.get(8..).unwrap_or_default()));
    finish(a, b, c)
}

/// Up to four bytes, little endian, the missing ones zero.
fn word(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, &byte| (word << 8) | u32::from(byte))
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    (a, b, c)
}

fn finish(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}
