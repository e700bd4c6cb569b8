//! A configuration, whole and valid: what the other crates are built from.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use understudy_ring::{Distribution, Hash, HashTag, Member, Ring, RingError};

use crate::address::{GuardAddress, HostPort, ListenAddress};
use crate::backend_url::BackendUrl;
use crate::kubernetes::Kubernetes;
use crate::limits::Limits;
use crate::problem::Problem;
use crate::secret::Secret;

/// Everything one process is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file that this was read from; none for a text.
    pub file: Option<PathBuf>,
    /// Where routes, journal and local snapshots are kept.
    pub data_dir: PathBuf,
    /// Threads of the data plane, each with backend connections of its own.
    pub workers: NonZeroUsize,
    /// The port for operators.
    pub admin: Admin,
    /// The port for /metrics, /healthz and /readyz; none when it is `off`.
    pub http: Option<Http>,
    /// The upgrade's side.
    pub control: Control,
    /// The cluster whose backup systems take snapshots; none where there is only `local`.
    pub kubernetes: Option<Kubernetes>,
    /// What everything is bounded by.
    pub limits: Limits,
    /// What clients connect to. Never empty; names and addresses differ.
    pub pools: Vec<Pool>,
    /// What a nutcracker.yml asked for and does not get. Empty for a file of our own.
    pub warnings: Vec<Problem>,
}

/// The port for operators: RESP, any Redis client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens.
    pub listen: ListenAddress,
    /// Who may log in; with none, everybody who can reach the port is served.
    pub users: Vec<User>,
    /// Certificate and key, when operators connect by TLS.
    pub tls: Option<TlsFiles>,
}

/// The port for machines that watch us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where it listens.
    pub listen: ListenAddress,
}

/// What the side that upgrades needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Admin ports of the proxies to drive; empty means the proxy in this process.
    pub proxies: Vec<BackendUrl>,
    /// Who logs in to the admin ports of proxies that register.
    pub login: Option<User>,
    /// The admin port of control, with which a proxy in a process of its own registers; none means this process.
    pub address: Option<BackendUrl>,
    /// Where control dials this proxy's admin port; none means where that listens.
    pub announce: Option<HostPort>,
    /// Where the guard waits for the source.
    pub guard: GuardAddress,
    /// What admin ports of proxies must show; with it all of them are dialed by TLS.
    pub proxy_tls: Option<BackendTls>,
    /// Who takes snapshots of volumes.
    pub snapshots: SnapshotsBy,
    /// How long a registered proxy may stay silent.
    pub proxy_lease: Duration,
    /// Oldest snapshot that still guards a cutover.
    pub snapshot_age_max: Duration,
    /// Local snapshots of a shard that stay when its upgrade has ended.
    pub snapshots_kept: usize,
    /// Between two looks at the snapshot from before the cutover, during a soak.
    pub snapshot_check_every: Duration,
}

/// Who takes snapshots of volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotsBy {
    /// This process.
    Here,
    /// The proxies that run as sidecars.
    Agents,
}

/// One listening endpoint and the shards behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name in commands, metrics and the journal.
    pub name: String,
    /// Where clients connect.
    pub listen: ListenAddress,
    /// How keys are spread over the shards.
    pub distribution: Distribution,
    /// What a key is hashed with.
    pub hash: Hash,
    /// What part of a key is hashed.
    pub hash_tag: Option<HashTag>,
    /// Never empty; names and ring names differ.
    pub shards: Vec<Shard>,
    /// Who may log in as a client; with none, nobody needs to.
    pub users: Vec<User>,
    /// Logins of backends by user name, for an address that comes without a password (see `login_at`).
    pub backend_users: Vec<User>,
    /// Certificate and key, when clients connect by TLS.
    pub tls: Option<TlsFiles>,
    /// What backends reached by `rediss://` must show, and what we show them.
    pub backend_tls: Option<BackendTls>,
    /// Longest wait for a backend's reply; none waits as long as the backend lives.
    pub timeout: Option<Duration>,
    /// Longest wait for a backend connection, login included.
    pub connect_timeout: Duration,
    /// Most client sessions of this pool; none leaves it to `limits.sessions_max`.
    pub sessions_max: Option<NonZeroUsize>,
}

/// One server of a pool, and its replicas' place on the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its name in commands, metrics and the journal.
    pub name: String,
    /// Its identity on the ring: keys follow it, whatever the address. The name, unless a nutcracker.yml said otherwise.
    pub ring_name: String,
    /// The server that takes its writes. An upgrade that was committed overrules it (`data_dir/routes.json`).
    pub primary: BackendUrl,
    /// Its share of the pool's keys, relative to the other shards.
    pub weight: u32,
}

/// A name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// `default` is the user of `AUTH password`.
    pub name: String,
    /// Its password.
    pub password: Secret,
}

/// The files of a TLS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM certificate chain.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
    /// PEM certificates of the authorities a client's certificate must come from; none asks for no certificate.
    pub client_ca: Option<PathBuf>,
}

/// The files of a TLS client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackendTls {
    /// PEM certificates of the authorities that backends are checked against.
    pub ca: PathBuf,
    /// PEM certificate chain and key to show, when backends ask.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name to check, when it is not the host of the address.
    pub server_name: Option<String>,
}

impl Config {
    /// One pool of one shard with defaults for the rest: `serve --listen ADDR --backend URL`.
    #[must_use]
    pub fn embedded(listen: ListenAddress, backend: BackendUrl) -> Self {
        let shard = Shard {
            name: "s1".to_owned(),
            ring_name: "s1".to_owned(),
            primary: backend,
            weight: 1,
        };
        Self {
            file: None,
            data_dir: PathBuf::from("./understudy-data"),
            workers: default_workers(),
            admin: Admin::default(),
            http: Some(Http::default()),
            control: Control::default(),
            kubernetes: None,
            limits: Limits::default(),
            pools: vec![Pool::new("default", listen, vec![shard])],
            warnings: Vec::new(),
        }
    }

    /// The pool of this name.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == name)
    }
}

impl Pool {
    /// A pool with defaults for all but these.
    #[must_use]
    pub fn new(name: impl Into<String>, listen: ListenAddress, shards: Vec<Shard>) -> Self {
        Self {
            name: name.into(),
            listen,
            distribution: Distribution::default(),
            hash: Hash::default(),
            hash_tag: None,
            shards,
            users: Vec::new(),
            backend_users: Vec::new(),
            tls: None,
            backend_tls: None,
            timeout: None,
            connect_timeout: Duration::from_secs(1),
            sessions_max: None,
        }
    }

    /// The shard of this name.
    #[must_use]
    pub fn shard(&self, name: &str) -> Option<&Shard> {
        self.shards.iter().find(|shard| shard.name == name)
    }

    /// The ring of this pool; `locate` answers with indexes into `shards`. Never fails for a pool that was read from a file.
    pub fn ring(&self) -> Result<Ring, RingError> {
        let members: Vec<Member<'_>> = self
            .shards
            .iter()
            .map(|shard| Member {
                name: &shard.ring_name,
                weight: shard.weight,
            })
            .collect();
        Ring::new(self.distribution, self.hash, self.hash_tag, &members)
    }

    /// The same server with the login that this pool has for it as a server of that shard. One rule for whoever dials one:
    /// addresses in routes, orders and the journal come without passwords.
    ///
    /// A password of its own stays. The address of the shard's `primary` is reached as the file says it is. Any other, an upgrade's
    /// target say, is reached as its user where it names one, otherwise as the user of `primary`; the password is that of
    /// `backend_users`, or that of `primary` where the user is the same.
    #[must_use]
    pub fn login_at(&self, shard: &Shard, mut server: BackendUrl) -> BackendUrl {
        let primary = &shard.primary;
        if server.password.is_some() {
            return server;
        }
        if server.username.is_none() {
            server.username.clone_from(&primary.username);
        }
        let same_user = server.user() == primary.user();
        if same_user && server.address() == primary.address() {
            server.password.clone_from(&primary.password);
        }
        let mut server = self.with_login(server);
        if same_user && server.password.is_none() {
            server.password.clone_from(&primary.password);
        }
        server
    }

    /// The same server with the password that `backend_users` has for its user, where it has none of its own.
    pub(crate) fn with_login(&self, mut server: BackendUrl) -> BackendUrl {
        if server.password.is_none() {
            let user = self
                .backend_users
                .iter()
                .find(|user| user.name == server.user());
            server.password = user.map(|user| user.password.clone());
        }
        server
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: ListenAddress::Tcp("127.0.0.1".to_owned(), 7380),
            users: Vec::new(),
            tls: None,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: ListenAddress::Tcp("127.0.0.1".to_owned(), 7381),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self {
            proxies: Vec::new(),
            login: None,
            address: None,
            announce: None,
            guard: GuardAddress::default(),
            proxy_tls: None,
            snapshots: SnapshotsBy::Here,
            proxy_lease: Duration::from_secs(10),
            snapshot_age_max: Duration::from_secs(3_600),
            snapshots_kept: 3,
            snapshot_check_every: Duration::from_secs(60),
        }
    }
}

/// Half the cores, at least one: each worker has its own backend connections, so more workers batch less.
pub(crate) fn default_workers() -> NonZeroUsize {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(cores / 2).unwrap_or(NonZeroUsize::MIN)
}
