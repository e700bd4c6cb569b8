//! How to reach the servers of a shard: addresses come without passwords, and the config knows the rest.
//!
//! Effects, wishes, handles and the journal name a server by URL without password. Whoever acts on one asks here.

use std::sync::Arc;

use understudy_config::{BackendUrl, Config, Pool, Scheme, Shard};
use understudy_net::Endpoint;

/// The logins of every shard's servers.
#[derive(Clone, Debug)]
pub struct Logins {
    config: Arc<Config>,
}

impl Logins {
    /// Those of a config.
    pub fn new(config: Arc<Config>) -> Logins {
        Logins { config }
    }

    /// A pool of the config.
    pub(crate) fn pool(&self, name: &str) -> Option<&Pool> {
        self.config.pools.iter().find(|pool| pool.name == name)
    }

    /// A pool and one of its shards.
    pub(crate) fn shard(&self, pool: &str, shard: &str) -> Option<(&Pool, &Shard)> {
        let pool = self.pool(pool)?;
        let shard = (pool.shards.iter()).find(|candidate| candidate.name == shard)?;
        Some((pool, shard))
    }

    /// Reads a server's URL as START and the journal write it, and gives it the shard's login and `backend_tls` from the config.
    pub fn server(&self, pool: &str, shard: &str, url: &str) -> Result<BackendUrl, String> {
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
        Ok(server.with_tls(pool.backend_tls.as_ref()))
    }

    /// As [`Logins::server`], ready to be dialed.
    pub fn endpoint(&self, pool: &str, shard: &str, url: &str) -> Result<Endpoint, String> {
        let server = self.server(pool, shard, url)?;
        Ok(Endpoint::from(&server).with_db(0))
    }
}
