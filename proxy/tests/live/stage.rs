//! A proxy in this process, servers as processes, and how to speak to each.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::timeout;
use understudy_config::{Config, Http, ListenAddress, Shard};
use understudy_lab::wire::{Address, Reply, Wire};
use understudy_lab::{Load, LoadOptions, Server, ServerOptions, Version};
use understudy_net::{AdminLimits, AdminServer, Client, Value};
use understudy_proxy::{ConfigSource, Proxy};

/// Longest wait for anything that is to happen. Generous: other builds share the machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The pool of every test.
pub(crate) const POOL: &str = "p";

pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    admin: Arc<AdminServer>,
}

impl Stage {
    pub(crate) async fn start(config: Config) -> Stage {
        Stage::from(config, ConfigSource::Fixed).await
    }

    pub(crate) async fn from(config: Config, source: ConfigSource) -> Stage {
        let proxy = Proxy::start(Arc::new(config), source).await.unwrap();
        let admin = Arc::new(AdminServer::new(
            proxy.admin_table(),
            Vec::new(),
            AdminLimits::default(),
        ));
        Stage { proxy, admin }
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> Address {
        match self.proxy.pool_address(POOL).unwrap() {
            ListenAddress::Tcp(_, port) => Address::local(port),
            ListenAddress::Unix(path, _) => Address::unix(path),
        }
    }

    /// A client's connection.
    pub(crate) async fn client(&self) -> Wire {
        Wire::connect(&self.address(), SOON).await.unwrap()
    }

    /// One admin command, split at spaces.
    pub(crate) async fn ask(&self, command: &str) -> Value {
        let mut client = self.admin_client();
        client
            .call(&command.split(' ').collect::<Vec<_>>())
            .await
            .unwrap()
    }

    /// A connection to the admin commands.
    pub(crate) fn admin_client(&self) -> Client {
        let mut client = self.admin.in_memory();
        client.set_timeout(SOON);
        client
    }

    /// Asks, and expects fields and values that begin like this.
    #[track_caller]
    pub(crate) fn expect(answer: &Value, begins: &str) {
        let said = flat(answer);
        assert!(
            said.starts_with(begins),
            "expected {begins:?}, got {said:?}"
        );
    }
}

/// A flat array as words, an error with its dash.
pub(crate) fn flat(value: &Value) -> String {
    match value {
        Value::Error(text) => format!("-{text}"),
        Value::Array(items) => items.iter().map(flat).collect::<Vec<_>>().join(" "),
        other => other.as_str_lossy().unwrap_or_default(),
    }
}

pub(crate) async fn server(version: Version) -> Server {
    Server::start(version, ServerOptions::new()).await.unwrap()
}

pub(crate) async fn old() -> Server {
    server(Version::Redis6_2_14).await
}

pub(crate) async fn new() -> Server {
    server(Version::Redis8_2_3).await
}

/// One pool over these servers, as shards s1, s2, …
pub(crate) fn config(data_dir: &Path, workers: usize, servers: &[&Server]) -> Config {
    let urls: Vec<String> = servers.iter().map(|server| server.url()).collect();
    config_of(data_dir, workers, &urls)
}

pub(crate) fn config_of(data_dir: &Path, workers: usize, urls: &[String]) -> Config {
    let free = ListenAddress::Tcp("127.0.0.1".into(), 0);
    let mut config = Config::embedded(free.clone(), urls[0].parse().unwrap());
    config.data_dir = data_dir.to_owned();
    config.workers = workers.try_into().unwrap();
    config.http = Some(Http { listen: free });
    let pool = &mut config.pools[0];
    pool.name = POOL.into();
    pool.hash_tag = understudy_config_tag();
    pool.shards = (1..)
        .zip(urls)
        .map(|(number, url)| Shard {
            name: format!("s{number}"),
            ring_name: format!("s{number}"),
            primary: url.parse().unwrap(),
            weight: 1,
        })
        .collect();
    config
}

fn understudy_config_tag() -> Option<understudy_ring::HashTag> {
    understudy_ring::HashTag::parse("{}")
}

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Waits until `look` says yes.
pub(crate) async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !look().await {
        assert!(since.elapsed() < SOON, "did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A reply within reason.
pub(crate) async fn call(wire: &mut Wire, command: &str) -> Reply {
    let words: Vec<&str> = command.split(' ').collect();
    timeout(SOON, wire.call(&words))
        .await
        .expect("a reply in time")
        .expect("a reply")
}

/// Mixed load on the pool that leaves the machine some air.
pub(crate) fn load(stage: &Stage) -> Load {
    let options = LoadOptions {
        connections: 24,
        pipeline_max: 8,
        ..LoadOptions::default()
    };
    Load::start(&[stage.address()], &options)
}

/// The number behind a field of an answer.
pub(crate) fn number(answer: &Value, field: &str) -> i64 {
    answer
        .field(field)
        .and_then(Value::as_i64)
        .unwrap_or_else(|| panic!("no {field} in {answer:?}"))
}
