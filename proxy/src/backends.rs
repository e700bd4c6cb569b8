//! How to reach each server, and how the servers are.
//!
//! Routes carry addresses without passwords; the login of an address comes from the pool's configuration (`Pool::login_at`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use understudy_config::{BackendUrl, Config, Pool, Scheme, Shard};
use understudy_net::{ClientTls, ClientTlsOptions, DialError, Endpoint, TlsError};

/// Logins and health of all backends.
pub(crate) struct Backends {
    client_name: String,
    shards: ArcSwap<HashMap<(String, String), Login>>,
    health: Mutex<HashMap<String, Health>>,
}

/// How the servers of one shard are reached.
struct Login {
    pool: Pool,
    shard: Shard,
    tls: Option<ClientTls>,
}

/// Whom to dial, and for how long.
pub(crate) struct Access {
    pub(crate) endpoint: Endpoint,
    pub(crate) connect_timeout: Duration,
}

/// How a server is, as the last dial or probe saw it.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    /// Whether it answered.
    pub(crate) state: HealthState,
    /// When that began.
    pub(crate) since: Instant,
}

/// Up, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HealthState {
    /// It answered last time.
    Up,
    /// It did not.
    Down(String),
}

impl Backends {
    pub(crate) fn new(config: &Config, instance: &str) -> Result<Backends, TlsError> {
        Ok(Backends {
            client_name: format!("understudy:{instance}"),
            shards: ArcSwap::from_pointee(logins(config)?),
            health: Mutex::default(),
        })
    }

    /// The name of our connections in a server's CLIENT LIST.
    pub(crate) fn client_name(&self) -> &str {
        &self.client_name
    }

    /// Reads certificates again and takes the logins of this configuration.
    pub(crate) fn reload(&self, config: &Config) -> Result<(), TlsError> {
        self.shards.store(logins(config)?.into());
        Ok(())
    }

    /// How to reach this address of a shard; or why not, in words that a client may read.
    pub(crate) fn access(&self, pool: &str, shard: &str, url: &str) -> Result<Access, String> {
        let shards = self.shards.load();
        let login = shards.get(&(pool.to_owned(), shard.to_owned()));
        let login = login.ok_or_else(|| "its shard is not configured".to_owned())?;
        let url: BackendUrl = url
            .parse()
            .map_err(|_| "its address cannot be read".to_owned())?;
        let url = login.pool.login_at(&login.shard, url);
        let mut endpoint = Endpoint::from(&url);
        if let (Scheme::Rediss, Some(tls)) = (url.scheme, &login.tls) {
            endpoint = endpoint.with_tls(tls.clone());
        }
        Ok(Access {
            endpoint,
            connect_timeout: login.pool.connect_timeout,
        })
    }

    /// Notes how a server answered. Says so once when that changes.
    pub(crate) fn seen(&self, pool: &str, shard: &str, url: &str, state: HealthState) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if health
            .get(url)
            .is_some_and(|known| same_kind(&known.state, &state))
        {
            return;
        }
        match &state {
            HealthState::Down(why) => {
                tracing::warn!(pool, shard, backend = url, why, "a backend does not answer");
            }
            HealthState::Up => {
                tracing::info!(pool, shard, backend = url, "a backend answers");
            }
        }
        health.insert(
            url.to_owned(),
            Health {
                state,
                since: Instant::now(),
            },
        );
    }

    /// How a server is; `None` before it was first asked.
    pub(crate) fn health(&self, url: &str) -> Option<Health> {
        self.health
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(url)
            .cloned()
    }

    /// Forgets servers that no route names.
    pub(crate) fn keep_only(&self, wanted: impl Fn(&str) -> bool) {
        self.health
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|url, _| wanted(url));
    }
}

/// What a client may read about a failed dial: no address, no words of the server.
pub(crate) fn words_for_clients(error: &DialError) -> String {
    match error {
        DialError::Connect { cause, .. } => cause.kind().to_string(),
        DialError::Tls { .. } => "TLS could not be agreed on".to_owned(),
        DialError::TimedOut { timeout, .. } => {
            format!("no answer within {} ms", timeout.as_millis())
        }
        DialError::Refused { step, .. } => format!("it refused our {step}"),
        DialError::Replica { .. } => "it is a replica".to_owned(),
        DialError::Lost { .. } => "the connection was lost in the greeting".to_owned(),
    }
}

fn same_kind(a: &HealthState, b: &HealthState) -> bool {
    matches!(
        (a, b),
        (HealthState::Up, HealthState::Up) | (HealthState::Down(_), HealthState::Down(_))
    )
}

fn logins(config: &Config) -> Result<HashMap<(String, String), Login>, TlsError> {
    let mut logins = HashMap::new();
    for pool in &config.pools {
        let tls = pool.backend_tls.as_ref().map(|files| {
            ClientTls::new(&ClientTlsOptions {
                authority: Some(files.ca.clone()),
                server_name: files.server_name.clone(),
                certificate: files.identity.clone(),
                ..ClientTlsOptions::default()
            })
        });
        let tls = tls.transpose()?;
        for shard in &pool.shards {
            let login = Login {
                pool: pool.clone(),
                shard: shard.clone(),
                tls: tls.clone(),
            };
            logins.insert((pool.name.clone(), shard.name.clone()), login);
        }
    }
    Ok(logins)
}
