//! Free ports below the range that the kernel hands out by itself, so that a server can come back on its own port:
//! inside that range, an outgoing connection of anybody may have taken it meanwhile. And free loopback addresses, for those
//! who want a port of their own choice.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
/// Tries before giving up: that many ports drawn by chance are never all taken on a healthy machine.
const TRIES: u64 = 200;

/// A port of 127.0.0.1 on which nobody listens now. Another process may take it before the caller binds it, so whoever
/// starts a server on it tries again with a new one.
pub fn free_port() -> io::Result<u16> {
    let chance = RandomState::new();
    for attempt in 0..TRIES {
        let drawn = chance.hash_one(attempt) % u64::from(COUNT);
        let port = FIRST + u16::try_from(drawn).unwrap_or(0);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("no free port from {FIRST} to {}", FIRST + COUNT),
    ))
}

/// An address of 127.0.0.0/8 on which nobody listens at this port now, as a host of its own would have.
pub fn free_host(port: u16) -> io::Result<Ipv4Addr> {
    let chance = RandomState::new();
    for attempt in 0..TRIES {
        let [a, b, c, ..] = chance.hash_one(attempt).to_be_bytes();
        // Not 127.0.x.y, which people use by hand.
        let host = Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254));
        if TcpListener::bind((host, port)).is_ok() {
            return Ok(host);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("no free loopback address for port {port}"),
    ))
}
