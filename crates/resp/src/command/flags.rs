//! Flags of a command, as the servers' COMMAND names them.

/// Flags of a command, as COMMAND names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flags(pub(super) u32);

impl Flags {
    /// May change data.
    pub const WRITE: Flags = Flags(bit::WRITE);
    /// Reads keys and changes none.
    pub const READONLY: Flags = Flags(bit::READONLY);
    /// Refused when memory is full.
    pub const DENYOOM: Flags = Flags(bit::DENYOOM);
    /// Administrative.
    pub const ADMIN: Flags = Flags(bit::ADMIN);
    /// Publish and subscribe.
    pub const PUBSUB: Flags = Flags(bit::PUBSUB);
    /// Not allowed in scripts.
    pub const NOSCRIPT: Flags = Flags(bit::NOSCRIPT);
    /// May block the client.
    pub const BLOCKING: Flags = Flags(bit::BLOCKING);
    /// Allowed while the data set is loading.
    pub const LOADING: Flags = Flags(bit::LOADING);
    /// Allowed on a replica whose data is stale.
    pub const STALE: Flags = Flags(bit::STALE);
    /// Not shown by MONITOR.
    pub const SKIP_MONITOR: Flags = Flags(bit::SKIP_MONITOR);
    /// Not in the slow log.
    pub const SKIP_SLOWLOG: Flags = Flags(bit::SKIP_SLOWLOG);
    /// For a cluster's slots in migration.
    pub const ASKING: Flags = Flags(bit::ASKING);
    /// Constant or logarithmic time.
    pub const FAST: Flags = Flags(bit::FAST);
    /// Allowed before AUTH.
    pub const NO_AUTH: Flags = Flags(bit::NO_AUTH);
    /// May write to the replication stream without being a write: PUBLISH, EVAL, PFCOUNT.
    pub const MAY_REPLICATE: Flags = Flags(bit::MAY_REPLICATE);
    /// Its count of keys may be 0.
    pub const NO_MANDATORY_KEYS: Flags = Flags(bit::NO_MANDATORY_KEYS);
    /// First, last and step do not tell where its keys are.
    pub const MOVABLEKEYS: Flags = Flags(bit::MOVABLEKEYS);
    /// Allowed while a script runs too long.
    pub const ALLOW_BUSY: Flags = Flags(bit::ALLOW_BUSY);
    /// Not allowed while a replica loads in the background.
    pub const NO_ASYNC_LOADING: Flags = Flags(bit::NO_ASYNC_LOADING);
    /// Not allowed in a transaction.
    pub const NO_MULTI: Flags = Flags(bit::NO_MULTI);

    /// Every flag with the name that COMMAND gives it.
    pub const NAMED: [(&'static str, Flags); 20] = [
        ("write", Flags::WRITE),
        ("readonly", Flags::READONLY),
        ("denyoom", Flags::DENYOOM),
        ("admin", Flags::ADMIN),
        ("pubsub", Flags::PUBSUB),
        ("noscript", Flags::NOSCRIPT),
        ("blocking", Flags::BLOCKING),
        ("loading", Flags::LOADING),
        ("stale", Flags::STALE),
        ("skip_monitor", Flags::SKIP_MONITOR),
        ("skip_slowlog", Flags::SKIP_SLOWLOG),
        ("asking", Flags::ASKING),
        ("fast", Flags::FAST),
        ("no_auth", Flags::NO_AUTH),
        ("may_replicate", Flags::MAY_REPLICATE),
        ("no_mandatory_keys", Flags::NO_MANDATORY_KEYS),
        ("movablekeys", Flags::MOVABLEKEYS),
        ("allow_busy", Flags::ALLOW_BUSY),
        ("no_async_loading", Flags::NO_ASYNC_LOADING),
        ("no_multi", Flags::NO_MULTI),
    ];

    /// True if all of `other` are set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMED
            .into_iter()
            .filter(move |(_, flag)| self.contains(*flag))
            .map(|(name, _)| name)
    }
}

/// The bits by themselves, for the generated table.
pub(super) mod bit {
    pub(in crate::command) const WRITE: u32 = 1;
    pub(in crate::command) const READONLY: u32 = 1 << 1;
    pub(in crate::command) const DENYOOM: u32 = 1 << 2;
    pub(in crate::command) const ADMIN: u32 = 1 << 3;
    pub(in crate::command) const PUBSUB: u32 = 1 << 4;
    pub(in crate::command) const NOSCRIPT: u32 = 1 << 5;
    pub(in crate::command) const BLOCKING: u32 = 1 << 6;
    pub(in crate::command) const LOADING: u32 = 1 << 7;
    pub(in crate::command) const STALE: u32 = 1 << 8;
    pub(in crate::command) const SKIP_MONITOR: u32 = 1 << 9;
    pub(in crate::command) const SKIP_SLOWLOG: u32 = 1 << 10;
    pub(in crate::command) const ASKING: u32 = 1 << 11;
    pub(in crate::command) const FAST: u32 = 1 << 12;
    pub(in crate::command) const NO_AUTH: u32 = 1 << 13;
    pub(in crate::command) const MAY_REPLICATE: u32 = 1 << 14;
    pub(in crate::command) const NO_MANDATORY_KEYS: u32 = 1 << 15;
    pub(in crate::command) const MOVABLEKEYS: u32 = 1 << 16;
    pub(in crate::command) const ALLOW_BUSY: u32 = 1 << 17;
    pub(in crate::command) const NO_ASYNC_LOADING: u32 = 1 << 18;
    pub(in crate::command) const NO_MULTI: u32 = 1 << 19;
}
