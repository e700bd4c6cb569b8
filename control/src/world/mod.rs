//! Everything outside that an upgrade looks at or acts on: servers, proxies, guards, snapshots, and the journal.

mod carry;
mod gather;
mod guards;
mod servers;
mod tenants;

use std::sync::Arc;

use understudy_config::{BackendUrl, Config, Pool, Shard};

use crate::effects::Failpoint;
use crate::journal::Journal;
use crate::metrics::CutoverMetrics;
use crate::proxies::Proxies;
use crate::snapshot::{LocalSnapshots, Logins, Providers};
use crate::whereabouts::Whereabouts;

pub(crate) use carry::{carry_scripts, carry_settings, carry_users};
pub(crate) use gather::{Asked, build, gather, sentinels};
pub(crate) use guards::Guards;
pub(crate) use servers::{Held, ServerFailure, Servers, one_line, standing};
pub(crate) use tenants::Looked;

/// The outside.
pub(crate) struct World {
    pub(crate) config: Arc<Config>,
    pub(crate) journal: Journal,
    pub(crate) proxies: Arc<Proxies>,
    pub(crate) servers: Servers,
    pub(crate) guards: Guards,
    pub(crate) logins: Logins,
    /// Those of the recipe `local`, which are among the providers too.
    pub(crate) local_snapshots: LocalSnapshots,
    /// Whoever takes snapshots.
    pub(crate) providers: Providers,
    /// Who knows where a proxy's Pod is.
    pub(crate) whereabouts: Option<Arc<dyn Whereabouts>>,
    pub(crate) metrics: CutoverMetrics,
    /// One for all drivers, so that a place which is asked for once stops control once.
    pub(crate) failpoint: Arc<Failpoint>,
}

impl World {
    /// A pool of the config.
    pub(crate) fn pool(&self, name: &str) -> Option<&Pool> {
        self.logins.pool(name)
    }

    /// A pool and one of its shards.
    pub(crate) fn shard(&self, pool: &str, shard: &str) -> Option<(&Pool, &Shard)> {
        self.logins.shard(pool, shard)
    }

    /// See [`Logins::server`].
    pub(crate) fn server(&self, pool: &str, shard: &str, url: &str) -> Result<BackendUrl, String> {
        self.logins.server(pool, shard, url)
    }

    /// As `server`, and remembers the login under the text that effects will use.
    pub(crate) fn know(&self, pool: &str, shard: &str, url: &str) -> Result<String, String> {
        let server = self.server(pool, shard, url)?;
        self.servers.know(&server);
        Ok(server.to_string())
    }
}
