//! What a plan is made of: both servers and the proxies, as they were found. Plain values, so that a plan is a table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cutover::Standing;
use crate::server::MissingRight;

/// A server's product and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Build {
    /// Which fork.
    pub product: Product,
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// Patch level.
    pub patch: u32,
}

/// The two forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Product {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

impl std::fmt::Display for Build {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.product {
            Product::Redis => "redis",
            Product::Valkey => "valkey",
        };
        write!(out, "{name} {}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A client of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientFacts {
    /// Its address.
    pub address: String,
    /// Its name.
    pub name: String,
    /// Its user.
    pub user: String,
    /// Its last command.
    pub command: String,
    /// Its flags, as CLIENT LIST shows them.
    pub flags: String,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerFacts {
    /// URL without password.
    pub url: String,
    /// Product and version.
    pub build: Build,
    /// Role, history, offset.
    pub standing: Standing,
    /// Bytes of memory in use.
    pub used_memory: u64,
    /// Limit; 0 is none.
    pub maxmemory: u64,
    /// What happens at the limit.
    pub policy: String,
    /// Writes an append-only file.
    pub aof: bool,
    /// Writes RDB files by itself (save points).
    pub save: bool,
    /// Keys per database.
    pub keys: BTreeMap<u32, u64>,
    /// Runs in cluster mode.
    pub cluster: bool,
    /// Loaded modules.
    pub modules: Vec<String>,
    /// Replicas that hang on it, as `host:port`.
    pub replicas: Vec<String>,
    /// Its file can be rewritten, so that a role survives a restart.
    pub config_file: bool,
    /// Settings that were asked for; empty when CONFIG is refused.
    pub settings: BTreeMap<String, String>,
    /// Its clients; empty when CLIENT LIST is refused.
    pub clients: Vec<ClientFacts>,
    /// Subscribers of Sentinel's channel.
    pub sentinels: u64,
    /// Function libraries.
    pub functions: u64,
    /// What our login may not do there and would have to.
    #[serde(default)]
    pub missing_rights: Vec<MissingRight>,
    /// Keys above the size limit that a sample found: name and bytes.
    pub big_keys: Vec<(String, u64)>,
    /// How many keys the sample looked at.
    pub sampled: u64,
    /// How far its clock is ahead of ours, in milliseconds.
    pub clock_ahead_ms: i64,
}

impl ServerFacts {
    /// All keys.
    pub(crate) fn keys_total(&self) -> u64 {
        self.keys.values().sum()
    }

    /// Whether it dials its primary by TLS. A server that was built without TLS has no such setting.
    pub(crate) fn replicates_by_tls(&self) -> bool {
        self.settings
            .get("tls-replication")
            .is_some_and(|value| value == "yes")
    }

    /// Whether we, and whoever follows it, reach it by TLS: the port is the one of its URL.
    pub(crate) fn listens_with_tls(&self) -> bool {
        self.url.starts_with("rediss://")
    }

    /// A setting's number, when it is one.
    pub(crate) fn number(&self, setting: &str) -> Option<u64> {
        self.settings.get(setting)?.parse().ok()
    }
}

/// One shard's plan: its facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShardFacts {
    /// Pool.
    pub pool: String,
    /// Shard.
    pub shard: String,
    /// The server that is to be left.
    pub source: ServerFacts,
    /// The server that is to be moved to.
    pub target: ServerFacts,
    /// True when the journal names the target as this shard's retired server.
    pub target_is_retired: bool,
    /// True when START says REPLACE.
    pub replace: bool,
    /// True when our guard takes servers by TLS.
    pub guard_tls: bool,
    /// The instances of our proxies; their connections are named `understudy:<instance>`.
    pub instances: Vec<String>,
    /// Our own connections' names.
    pub own_names: Vec<String>,
}
