//! Which server answers for which key: pools, their rings, and the backend of each shard.
//!
//! A table is immutable and shared. A worker copies epochs and addresses into its gates once, when it takes the table
//! over; from then on the gate of a shard is the only truth about where that shard's commands go, and a reload never
//! moves an epoch back.

use std::fmt;
use std::time::Duration;

use understudy_ring::Ring;

/// Place of a pool in its [`RouteTable`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolIndex(pub u16);

/// Place of a shard in its [`PoolRoute`]; the same index is its member on the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub u16);

/// One server at one epoch of one shard: what a lane is dialled to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backend {
    /// Address without a password. The shell finds the credentials by this and the shard.
    pub url: String,
    /// The shard that this server answers for.
    pub shard: (PoolIndex, ShardIndex),
    /// The route number at which it does.
    pub epoch: u64,
}

/// All pools of one proxy. Immutable; a reload makes a new one.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// The pools, found by [`PoolIndex`].
    pub pools: Vec<PoolRoute>,
}

impl RouteTable {
    /// The pool at this place.
    #[must_use]
    pub fn pool(&self, pool: PoolIndex) -> Option<&PoolRoute> {
        self.pools.get(usize::from(pool.0))
    }

    /// The place of the pool with this name.
    #[must_use]
    pub fn pool_named(&self, name: &str) -> Option<PoolIndex> {
        let index = self.pools.iter().position(|pool| pool.name == name)?;
        u16::try_from(index).ok().map(PoolIndex)
    }
}

/// One listening endpoint and its shards.
#[derive(Debug)]
pub struct PoolRoute {
    /// Its name: what orders, logs and a reload know it by.
    pub name: String,
    /// Finds the shard of a key.
    pub ring: Ring,
    /// The shards, in the order of the ring's members. Never empty.
    pub shards: Vec<ShardRoute>,
    /// Who may log in. Empty: no AUTH is asked for, and AUTH is refused as Redis does without a password.
    pub users: Vec<PoolUser>,
    /// Longest wait for a backend's reply; then its lane is closed and the outcome follows the retry matrix. `None`: no limit.
    pub timeout: Option<Duration>,
}

impl PoolRoute {
    /// The place of the shard with this name.
    #[must_use]
    pub fn shard_named(&self, name: &str) -> Option<ShardIndex> {
        let index = self.shards.iter().position(|shard| shard.name == name)?;
        u16::try_from(index).ok().map(ShardIndex)
    }
}

/// One shard at the epoch that configuration and overlay know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRoute {
    /// Its identity on the ring and in orders.
    pub name: String,
    /// Its route number; only grows.
    pub epoch: u64,
    /// The server that has the shard at this epoch, without a password.
    pub backend_url: String,
}

/// A user that clients of a pool may log in as.
#[derive(Clone, PartialEq, Eq)]
pub struct PoolUser {
    /// `default` is the one that `AUTH password` means.
    pub name: String,
    /// Compared in constant time, never shown.
    pub password: Vec<u8>,
}

impl PoolUser {
    /// Compares without telling by its time how much was right.
    #[must_use]
    pub fn accepts(&self, name: &[u8], password: &[u8]) -> bool {
        let mut difference = u8::from(self.password.len() != password.len());
        for (at, byte) in password.iter().enumerate() {
            difference |= byte ^ self.password.get(at).copied().unwrap_or(!byte);
        }
        self.name.as_bytes() == name && difference == 0
    }
}

impl fmt::Debug for PoolUser {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("PoolUser")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::PoolUser;

    #[test]
    fn a_password_must_match_in_full_and_never_shows() {
        let user = PoolUser {
            name: "default".into(),
            password: b"sesame".to_vec(),
        };
        assert!(user.accepts(b"default", b"sesame"));
        for wrong in [&b"sesam"[..], b"sesame1", b"", b"sesamf"] {
            assert!(!user.accepts(b"default", wrong));
        }
        assert!(!user.accepts(b"other", b"sesame"));
        assert!(!format!("{user:?}").contains("sesame"));
    }
}
