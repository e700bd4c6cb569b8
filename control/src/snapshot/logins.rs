//! How to reach the servers of a shard: addresses come without passwords, and the config knows the rest.
//!
//! Effects, wishes, handles and the journal name a server by URL without password. Whoever acts on one asks here.
//! The config's file is read again then: a password in it, or in a file that it names (a mounted Secret), may have changed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use understudy_config::{BackendUrl, Config, Pool, Scheme, Shard};
use understudy_net::Endpoint;

/// How long what was read counts. Default: 1 s.
const FRESH: Duration = Duration::from_secs(1);

/// The logins of every shard's servers.
#[derive(Clone, Debug)]
pub struct Logins {
    /// What this process was started with: where servers are, and how they are reached.
    config: Arc<Config>,
    /// Where users and passwords are read again; none for a config that came from no file.
    again: Option<Arc<Mutex<Again>>>,
}

#[derive(Debug)]
struct Again {
    file: PathBuf,
    at: Instant,
    config: Arc<Config>,
    /// The last reading failed, and that was told.
    told: bool,
}

impl Again {
    /// The config as its file is now; while that cannot be read, as it was.
    fn read(&mut self) -> Arc<Config> {
        if self.at.elapsed() >= FRESH {
            self.at = Instant::now();
            match Config::load(&self.file) {
                Ok(config) => {
                    self.config = Arc::new(config);
                    self.told = false;
                }
                Err(cause) if !self.told => {
                    tracing::warn!("passwords of servers stay as they were: {cause}");
                    self.told = true;
                }
                Err(_) => {}
            }
        }
        self.config.clone()
    }
}

impl Logins {
    /// Those of a config.
    pub fn new(config: Arc<Config>) -> Logins {
        let again = config.file.clone().map(|file| {
            Arc::new(Mutex::new(Again {
                file,
                at: Instant::now(),
                config: config.clone(),
                told: false,
            }))
        });
        Logins { config, again }
    }

    /// The config with the passwords of now.
    fn now(&self) -> Arc<Config> {
        let Some(again) = &self.again else {
            return self.config.clone();
        };
        again.lock().unwrap_or_else(PoisonError::into_inner).read()
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
        let now = self.now();
        // A pool or shard that is in the file no longer keeps the login that it had.
        let pool_now = (now.pools.iter())
            .find(|it| it.name == pool.name)
            .unwrap_or(pool);
        let shard_now = (pool_now.shards.iter())
            .find(|it| it.name == shard.name)
            .unwrap_or(shard);
        let server = pool_now.login_at(shard_now, parsed);
        Ok(server.with_tls(pool.backend_tls.as_ref()))
    }

    /// As [`Logins::server`], ready to be dialed.
    pub fn endpoint(&self, pool: &str, shard: &str, url: &str) -> Result<Endpoint, String> {
        let server = self.server(pool, shard, url)?;
        Ok(Endpoint::from(&server).with_db(0))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::time::Instant;

    use understudy_config::Config;

    use super::{FRESH, Logins};

    #[test]
    fn a_password_is_read_again_when_it_is_used_and_stays_while_its_file_cannot_be_read() {
        let home = tempfile::tempdir().unwrap();
        let (file, secret) = (
            home.path().join("config.yaml"),
            home.path().join("password"),
        );
        fs::write(&secret, "old\n").unwrap();
        let text = "pools: [{name: p, listen: 127.0.0.1:0, backend_users: [{password_file: password}], \
                    shards: [{name: s, primary: 'redis://10.0.0.1:6379'}]}]";
        fs::write(&file, text).unwrap();
        let logins = Logins::new(Arc::new(Config::load(&file).unwrap()));
        let password = || {
            // What was read is no longer fresh.
            let again = logins.again.as_ref().unwrap();
            again.lock().unwrap().at = Instant::now().checked_sub(FRESH).unwrap();
            let server = logins.server("p", "s", "redis://10.0.0.2:6379").unwrap();
            server.password.unwrap().expose().to_owned()
        };
        assert_eq!(password(), "old");
        fs::write(&secret, "new\n").unwrap();
        assert_eq!(password(), "new");
        fs::remove_file(&secret).unwrap();
        assert_eq!(password(), "new", "the last one that could be read");
        fs::write(&secret, "newer\n").unwrap();
        assert_eq!(password(), "newer");
    }
}
