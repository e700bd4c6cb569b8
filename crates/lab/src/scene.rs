//! A whole upgrade's scenery: source servers, target servers, and one or more `understudy` processes of one pool.
//!
//! ```text
//!   load ──> understudy serve ──> s1 (source)      t1 (target, empty)
//!                             └─> s2 (source)      t2 (target, empty)
//! ```
//!
//! Everything lives in one temporary directory and on 127.0.0.1, and is gone when the scene is dropped.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::LabError;
use crate::port::free_port;
use crate::process::{Process, ProcessOptions};
use crate::relay::{Relay, RelayMode};
use crate::server::{Server, ServerOptions};
use crate::version::Version;
use crate::wire::{Address, Reply, Wire};

/// The pool that every scene has.
pub const POOL: &str = "sessions";
/// How long one admin command may take.
const ADMIN_LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at an upgrade's status, where no WAIT is used.
const LOOK: Duration = Duration::from_millis(20);

/// Who runs what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// `understudy serve`: proxy and control in one process.
    Embedded,
    /// `understudy control` and so many `understudy proxy` of the same pool.
    Separate {
        /// How many proxies.
        proxies: usize,
    },
    /// As `Separate`, but control is told of no proxy: each registers.
    Registered {
        /// How many proxies.
        proxies: usize,
        /// `control.proxy_lease`, such as `2s`.
        lease: &'static str,
    },
}

/// What a scene consists of.
#[derive(Clone, Debug)]
pub struct SceneOptions {
    /// The `understudy` binary.
    pub binary: PathBuf,
    /// What the shards run before.
    pub from: Version,
    /// What they are to run.
    pub to: Version,
    /// How many shards.
    pub shards: usize,
    /// Worker threads of each proxy.
    pub workers: usize,
    /// Processes.
    pub cast: Cast,
    /// Whether the proxies are sidecars that take the snapshots; with `Separate` only.
    pub sidecars: bool,
    /// Whether a relay stands before every server, and between control and every proxy, to cut processes off from them.
    pub relays: bool,
    /// Options of every source and target.
    pub server: ServerOptions,
    /// Lines added at the top level of the config, as they stand.
    pub extra_config: String,
    /// Environment of control (or of `serve`).
    pub environment: Vec<(String, String)>,
    /// Environment of each proxy, by its number; further ones have none.
    pub proxy_environment: Vec<Vec<(String, String)>>,
}

impl SceneOptions {
    /// Two shards, three workers, one process.
    pub fn new(binary: impl Into<PathBuf>, from: Version, to: Version) -> SceneOptions {
        SceneOptions {
            binary: binary.into(),
            from,
            to,
            shards: 2,
            workers: 3,
            cast: Cast::Embedded,
            sidecars: false,
            relays: false,
            server: ServerOptions::new(),
            extra_config: String::new(),
            environment: Vec::new(),
            proxy_environment: Vec::new(),
        }
    }
}

/// Running servers and processes.
pub struct Scene {
    /// The servers that hold the data at the beginning, in shard order.
    pub sources: Vec<Server>,
    /// The empty servers that take over, in shard order.
    pub targets: Vec<Server>,
    /// `understudy proxy` processes; the one `serve` process when embedded.
    pub proxies: Vec<Process>,
    /// `understudy control`, when it is a process of its own.
    pub control: Option<Process>,
    /// Where a process is cut off from a server or a proxy; empty unless asked for.
    pub relays: Relays,
    clients: Vec<u16>,
    http: Vec<u16>,
    directory: TempDir,
}

/// The relays of a scene. Servers are called by their relays' addresses everywhere; clients reach the proxies directly.
#[derive(Debug, Default)]
pub struct Relays {
    /// Before the sources, in shard order.
    pub sources: Vec<Relay>,
    /// Before the targets, in shard order.
    pub targets: Vec<Relay>,
    /// Between control and the proxies.
    pub proxies: Vec<Relay>,
}

impl Scene {
    /// Starts everything, and waits until it serves.
    pub async fn start(options: &SceneOptions) -> Result<Scene, LabError> {
        let mut sources = Vec::new();
        let mut targets = Vec::new();
        for _ in 0..options.shards {
            sources.push(Server::start(options.from, options.server.clone()).await?);
            targets.push(Server::start(options.to, options.server.clone()).await?);
        }
        Scene::start_on(options, sources, targets).await
    }

    /// As [`Scene::start`], on servers that somebody else started.
    pub async fn start_on(
        options: &SceneOptions,
        sources: Vec<Server>,
        targets: Vec<Server>,
    ) -> Result<Scene, LabError> {
        let directory =
            TempDir::with_prefix("understudy-scene-").map_err(LabError::io("make a directory"))?;
        let mut relays = Relays::default();
        if options.relays {
            relays.sources = before(&sources).await?;
            relays.targets = before(&targets).await?;
        }
        let mut scene = Scene {
            relays,
            sources,
            targets,
            proxies: Vec::new(),
            control: None,
            clients: Vec::new(),
            http: Vec::new(),
            directory,
        };
        match options.cast {
            Cast::Embedded => {
                let process = scene.launch(options, "serve", 0, &[]).await?;
                scene.proxies.push(process);
            }
            Cast::Separate { proxies } => {
                let mut admins = Vec::new();
                for number in 0..proxies {
                    let kind = if options.sidecars { "sidecar" } else { "proxy" };
                    let process = scene.launch(options, kind, number, &[]).await?;
                    let mut admin = process.admin().to_owned();
                    if options.relays {
                        let relay = Relay::start(&admin, RelayMode::Bytes).await?;
                        admin = relay.address().to_string();
                        scene.relays.proxies.push(relay);
                    }
                    admins.push(admin);
                    scene.proxies.push(process);
                }
                scene.control = Some(scene.launch(options, "control", proxies, &admins).await?);
            }
            Cast::Registered { proxies, .. } => {
                scene.control = Some(scene.launch(options, "control", 0, &[]).await?);
                scene.clients.clear();
                for _ in 0..proxies {
                    scene.add_proxy(options).await?;
                }
            }
        }
        Ok(scene)
    }

    /// One more proxy of the pool.
    pub async fn add_proxy(&mut self, options: &SceneOptions) -> Result<(), LabError> {
        let process = (self.launch(options, "proxy", self.proxies.len(), &[])).await?;
        self.proxies.push(process);
        Ok(())
    }

    /// Where clients of proxy `number` connect.
    pub fn clients(&self, number: usize) -> Address {
        Address::local(self.clients[number])
    }

    /// Where process `number` shows its metrics: the proxies first, then control.
    pub fn http(&self, number: usize) -> std::net::SocketAddr {
        (std::net::Ipv4Addr::LOCALHOST, self.http[number]).into()
    }

    /// Where clients of all proxies connect.
    pub fn all_clients(&self) -> Vec<Address> {
        let proxies = self.proxies.len();
        self.clients
            .iter()
            .take(proxies)
            .map(|port| Address::local(*port))
            .collect()
    }

    /// The process that answers UPGRADE.
    pub fn control(&self) -> &Process {
        self.control.as_ref().unwrap_or(&self.proxies[0])
    }

    /// The process that answers UPGRADE, to be killed, stopped or restarted.
    pub fn control_mut(&mut self) -> &mut Process {
        match &mut self.control {
            Some(control) => control,
            None => &mut self.proxies[0],
        }
    }

    /// The directory in which configs, logs and data directories are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A connection to control's admin endpoint.
    pub async fn admin(&self) -> Result<Wire, LabError> {
        connect_admin(self.control().admin()).await
    }

    /// One admin command to control.
    pub async fn call<A: AsRef<[u8]>>(&self, arguments: &[A]) -> Result<Reply, LabError> {
        let mut wire = self.admin().await?;
        let answer = tokio::time::timeout(ADMIN_LIMIT, wire.call(arguments)).await;
        answer
            .map_err(|_| {
                LabError::io("wait for an admin command")(std::io::ErrorKind::TimedOut.into())
            })?
            .map_err(LabError::io("call an admin command"))
    }

    /// `UPGRADE START` of the whole pool with `more` behind it; an error reply is an error.
    pub async fn start_upgrade(&self, more: &[&str]) -> Result<(), LabError> {
        let mut command = vec![
            "UPGRADE".to_owned(),
            "START".to_owned(),
            POOL.to_owned(),
            "TO".to_owned(),
        ];
        for (index, url) in urls(&self.targets, &self.relays.targets).iter().enumerate() {
            command.push(format!("s{}={url}", index + 1));
        }
        command.extend(more.iter().map(|word| (*word).to_owned()));
        expect_no_error("start the upgrade", self.call(&command).await?)
    }

    /// The upgrade's STATUS document.
    pub async fn status(&self) -> Result<serde_json::Value, LabError> {
        let reply = self.call(&["UPGRADE", "STATUS", POOL, "JSON"]).await?;
        if let Reply::Error(text) = &reply {
            return Err(LabError::Answer {
                doing: "read the status".to_owned(),
                answer: text.clone(),
            });
        }
        let bytes = reply.into_bytes().unwrap_or_default();
        serde_json::from_slice(&bytes).map_err(|error| LabError::Answer {
            doing: "read the status".to_owned(),
            answer: format!("{error} in {}", String::from_utf8_lossy(&bytes)),
        })
    }

    /// Waits until the pool is in `phase`. An upgrade that ended elsewhere is an error that carries its status.
    pub async fn wait_for(
        &self,
        phase: &str,
        limit: Duration,
    ) -> Result<serde_json::Value, LabError> {
        self.wait_until(phase, limit, |status| status["phase"] == phase)
            .await
    }

    /// Waits until the status is as `wanted` says; `what` names it in the error.
    pub async fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> Result<serde_json::Value, LabError> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status().await?;
            if wanted(&status) {
                return Ok(status);
            }
            let phase = status["phase"].as_str().unwrap_or_default();
            let ended = matches!(phase, "aborted" | "finalized" | "rolled_back");
            if ended || Instant::now() >= deadline {
                return Err(LabError::Answer {
                    doing: format!("wait for {what}"),
                    answer: format!(
                        "{status:#}\nthe end of control's log:\n{}",
                        last_lines(&self.control().log(), 30)
                    ),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn launch(
        &mut self,
        options: &SceneOptions,
        subcommand: &str,
        number: usize,
        proxies: &[String],
    ) -> Result<Process, LabError> {
        let port = || free_port().map_err(LabError::io("find a free port"));
        let (clients, admin, http) = (port()?, port()?, port()?);
        self.clients.push(clients);
        self.http.push(http);
        let name = format!("{subcommand}-{number}");
        let home = self.directory.path();
        let config = home.join(format!("{name}.yaml"));
        let ports = Ports {
            clients,
            admin,
            http,
        };
        let mut control = match options.cast {
            Cast::Registered { lease, .. } => match &self.control {
                None => vec![format!("proxy_lease: {lease}")],
                Some(control) => vec![
                    format!("address: \"{}\"", control.admin()),
                    format!("proxy_lease: {lease}"),
                ],
            },
            Cast::Embedded | Cast::Separate { .. } if proxies.is_empty() => Vec::new(),
            Cast::Embedded | Cast::Separate { .. } => {
                let by = if options.sidecars { "agents" } else { "here" };
                let proxies = proxies.join(", ");
                vec![format!("snapshots: {by}"), format!("proxies: [{proxies}]")]
            }
        };
        // Servers that replicate by TLS dial the guard by TLS.
        control.extend(options.server.tls().map(|files| {
            format!(
                "guard: {{ tls: {{ certificate: {}, key: {}, client_ca: {} }} }}",
                files.certificate.display(),
                files.key.display(),
                files.authority.display()
            )
        }));
        let control = match control.as_slice() {
            [] => String::new(),
            settings => format!("control: {{ {} }}\n", settings.join(", ")),
        };
        let text = self.config(options, &home.join(&name), &ports, &control);
        std::fs::write(&config, text).map_err(LabError::io("write a config"))?;
        let environment = if matches!(subcommand, "proxy" | "sidecar") {
            (options.proxy_environment.get(number).cloned()).unwrap_or_default()
        } else {
            options.environment.clone()
        };
        Process::start(ProcessOptions {
            binary: options.binary.clone(),
            subcommand: subcommand.to_owned(),
            config,
            admin: format!("127.0.0.1:{admin}"),
            log: home.join(format!("{name}.log")),
            environment,
            directory: None,
        })
        .await
    }

    fn config(&self, options: &SceneOptions, data: &Path, ports: &Ports, control: &str) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "data_dir: {}", data.display());
        let _ = writeln!(text, "workers: {}", options.workers);
        let _ = writeln!(text, "admin: {{ listen: \"127.0.0.1:{}\" }}", ports.admin);
        let _ = writeln!(text, "http: {{ listen: \"127.0.0.1:{}\" }}", ports.http);
        text.push_str(control);
        text.push_str(&options.extra_config);
        let _ = writeln!(
            text,
            "pools:\n  - name: {POOL}\n    listen: \"127.0.0.1:{}\"",
            ports.clients
        );
        if let Some(files) = options.server.tls() {
            let _ = writeln!(
                text,
                "    backend_tls: {{ ca: {}, certificate: {}, key: {} }}",
                files.authority.display(),
                files.certificate.display(),
                files.key.display()
            );
        }
        let _ = writeln!(
            text,
            "    distribution: ketama\n    hash: fnv1a_64\n    hash_tag: \"{{}}\"\n    shards:"
        );
        for (index, url) in urls(&self.sources, &self.relays.sources).iter().enumerate() {
            let _ = writeln!(
                text,
                "      - {{ name: s{}, primary: \"{url}\" }}",
                index + 1
            );
        }
        text
    }
}

/// A relay before each of these servers.
async fn before(servers: &[Server]) -> Result<Vec<Relay>, LabError> {
    let mut relays = Vec::new();
    for server in servers {
        let address = server.address().to_string();
        relays.push(Relay::start(&address, RelayMode::Bytes).await?);
    }
    Ok(relays)
}

/// What the servers are called: their relays' addresses, where they have some.
fn urls(servers: &[Server], relays: &[Relay]) -> Vec<String> {
    match relays {
        [] => servers.iter().map(Server::url).collect(),
        relays => relays.iter().map(Relay::url).collect(),
    }
}

struct Ports {
    clients: u16,
    admin: u16,
    http: u16,
}

/// A connection to an admin endpoint given as host:port.
async fn connect_admin(admin: &str) -> Result<Wire, LabError> {
    let port = admin
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or(0);
    Wire::connect(&Address::local(port), Duration::from_secs(5))
        .await
        .map_err(LabError::io("connect to the admin endpoint"))
}

fn expect_no_error(doing: &str, reply: Reply) -> Result<(), LabError> {
    match reply {
        Reply::Error(answer) => Err(LabError::Answer {
            doing: doing.to_owned(),
            answer,
        }),
        _ => Ok(()),
    }
}

fn last_lines(log: &str, count: usize) -> String {
    let lines: Vec<&str> = log.lines().rev().take(count).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
