//! Everything outside that an upgrade looks at or acts on: servers, proxies, guards, snapshots, and the journal.

mod carry;
mod gather;
mod guards;
mod servers;

use std::sync::Arc;

use understudy_config::{BackendUrl, Config, Pool, Scheme, Shard};

use crate::effects::Failpoint;
use crate::journal::Journal;
use crate::metrics::CutoverMetrics;
use crate::proxies::Proxies;
use crate::snapshot::LocalSnapshots;

pub(crate) use carry::{carry_scripts, carry_settings, carry_users};
pub(crate) use gather::{Asked, build, gather};
pub(crate) use guards::Guards;
pub(crate) use servers::{Held, ServerFailure, Servers, one_line, standing};

/// The outside.
pub(crate) struct World {
    pub(crate) config: Arc<Config>,
    pub(crate) journal: Journal,
    pub(crate) proxies: Proxies,
    pub(crate) servers: Servers,
    pub(crate) guards: Guards,
    pub(crate) snapshots: LocalSnapshots,
    pub(crate) metrics: CutoverMetrics,
    /// One for all drivers, so that a place which is asked for once stops control once.
    pub(crate) failpoint: Arc<Failpoint>,
}

impl World {
    /// A pool of the config.
    pub(crate) fn pool(&self, name: &str) -> Option<&Pool> {
        self.config.pools.iter().find(|pool| pool.name == name)
    }

    /// A pool and one of its shards.
    pub(crate) fn shard(&self, pool: &str, shard: &str) -> Option<(&Pool, &Shard)> {
        let pool = self.pool(pool)?;
        let shard = pool
            .shards
            .iter()
            .find(|candidate| candidate.name == shard)?;
        Some((pool, shard))
    }

    /// Reads a server's URL as START and the journal write it, gives it the shard's login from the config, and remembers it.
    pub(crate) fn server(&self, pool: &str, shard: &str, url: &str) -> Result<BackendUrl, String> {
        let (pool, shard) = self
            .shard(pool, shard)
            .ok_or_else(|| format!("no shard '{shard}' in pool '{pool}'"))?;
        let parsed: BackendUrl = url
            .parse()
            .map_err(|error| format!("the url of shard '{}': {error}", shard.name))?;
        if parsed.password.is_some() {
            return Err(format!(
                "the url of shard '{}' carries a password: write user@host, the password comes from the config",
                shard.name
            ));
        }
        if parsed.scheme == Scheme::Unix {
            return Err(format!(
                "shard '{}': servers cannot replicate over a unix socket",
                shard.name
            ));
        }
        let mut server = pool.with_login(parsed);
        let same_user = server.username.is_none() || server.username == shard.primary.username;
        if server.password.is_none() && same_user {
            server.username.clone_from(&shard.primary.username);
            server.password.clone_from(&shard.primary.password);
        }
        Ok(server)
    }

    /// As `server`, and remembers the login under the text that effects will use.
    pub(crate) fn know(&self, pool: &str, shard: &str, url: &str) -> Result<String, String> {
        let server = self.server(pool, shard, url)?;
        self.servers.know(&server);
        Ok(server.to_string())
    }
}
