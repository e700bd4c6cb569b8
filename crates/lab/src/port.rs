//! Free ports below the range that the kernel hands out by itself, so that a server can come back on its own port:
//! inside that range, an outgoing connection of anybody may have taken it meanwhile. And free loopback addresses, for those
//! who want a port of their own choice.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
/// Tries before giving up: that many ports drawn by chance are never all taken on a healthy machine.
const TRIES: u64 = 200;

/// What this process was given: whoever has a port may bind it late.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of 127.0.0.1 on which nobody listens now, and which this process was not given before. Another process may take it
/// before the caller binds it, so whoever starts a server on it tries again with a new one.
pub fn free_port() -> io::Result<u16> {
    let chance = RandomState::new();
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for attempt in 0..TRIES {
        let drawn = chance.hash_one(attempt) % u64::from(COUNT);
        let port = FIRST + u16::try_from(drawn).unwrap_or(0);
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::free_port;

    #[test]
    fn no_port_is_given_twice_though_nobody_has_bound_it() {
        let ports: BTreeSet<u16> = (0..1000).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 1000);
    }
}
