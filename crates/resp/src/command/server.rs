//! The measured servers, and the set of them that knows something.

use std::fmt;

/// A server whose command table was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Server {
    /// Redis 6.2.14.
    Redis6_2,
    /// Redis 7.0.15.
    Redis7_0,
    /// Redis 8.2.3, without modules.
    Redis8_2,
    /// Valkey 8.1.8.
    Valkey8_1,
    /// Valkey 9.1.2.
    Valkey9_1,
}

/// The two families whose versions do not compare with one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Product {
    /// Redis.
    Redis,
    /// Valkey, forked off Redis 7.2.
    Valkey,
}

impl Server {
    /// All of them.
    pub const ALL: [Server; 5] = [
        Server::Redis6_2,
        Server::Redis7_0,
        Server::Redis8_2,
        Server::Valkey8_1,
        Server::Valkey9_1,
    ];

    /// The newest measured server that is not newer than this version, so what it knows, that version knows too (a Valkey 7.2
    /// or 8.0 counts as Redis 7.0). `None` below Redis 6.2: nothing is known about those.
    #[must_use]
    pub fn not_newer_than(product: Product, major: u32, minor: u32) -> Option<Server> {
        match (product, major, minor) {
            (Product::Valkey, major, minor) if (major, minor) >= (9, 1) => Some(Server::Valkey9_1),
            (Product::Valkey, major, minor) if (major, minor) >= (8, 1) => Some(Server::Valkey8_1),
            (Product::Redis, major, minor) if (major, minor) >= (8, 2) => Some(Server::Redis8_2),
            (Product::Redis | Product::Valkey, major, _) if major >= 7 => Some(Server::Redis7_0),
            (Product::Redis, major, minor) if (major, minor) >= (6, 2) => Some(Server::Redis6_2),
            (Product::Redis | Product::Valkey, _, _) => None,
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Server::Redis6_2 => R62,
            Server::Redis7_0 => R70,
            Server::Redis8_2 => R82,
            Server::Valkey8_1 => V81,
            Server::Valkey9_1 => V91,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Server::Redis6_2 => "Redis 6.2",
            Server::Redis7_0 => "Redis 7.0",
            Server::Redis8_2 => "Redis 8.2",
            Server::Valkey8_1 => "Valkey 8.1",
            Server::Valkey9_1 => "Valkey 9.1",
        })
    }
}

pub(super) const R62: u8 = 1;
pub(super) const R70: u8 = 2;
pub(super) const R82: u8 = 4;
pub(super) const V81: u8 = 8;
pub(super) const V91: u8 = 16;
/// Every measured server.
pub(super) const ALL: u8 = R62 | R70 | R82 | V81 | V91;

/// Which of the measured servers know a command or an option.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Since(pub(super) u8);

impl Since {
    /// True if that server knows it.
    #[must_use]
    pub const fn includes(self, server: Server) -> bool {
        self.0 & server.bit() != 0
    }
}

impl fmt::Debug for Since {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set()
            .entries(
                Server::ALL
                    .into_iter()
                    .filter(|server| self.includes(*server)),
            )
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Product, Server};

    #[test]
    fn an_unmeasured_version_counts_as_the_newest_one_below_it() {
        for (product, major, minor, expect) in [
            (Product::Redis, 5, 0, None),
            (Product::Redis, 6, 0, None),
            (Product::Redis, 6, 2, Some(Server::Redis6_2)),
            (Product::Redis, 7, 0, Some(Server::Redis7_0)),
            (Product::Redis, 7, 4, Some(Server::Redis7_0)),
            (Product::Redis, 8, 0, Some(Server::Redis7_0)),
            (Product::Redis, 8, 2, Some(Server::Redis8_2)),
            (Product::Redis, 9, 0, Some(Server::Redis8_2)),
            (Product::Valkey, 7, 2, Some(Server::Redis7_0)),
            (Product::Valkey, 8, 0, Some(Server::Redis7_0)),
            (Product::Valkey, 8, 1, Some(Server::Valkey8_1)),
            (Product::Valkey, 9, 0, Some(Server::Valkey8_1)),
            (Product::Valkey, 9, 1, Some(Server::Valkey9_1)),
        ] {
            assert_eq!(
                Server::not_newer_than(product, major, minor),
                expect,
                "{product:?} {major}.{minor}"
            );
        }
    }
}
