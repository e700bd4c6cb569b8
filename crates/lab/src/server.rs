//! One real server process: alone in its own directory, on its own port of 127.0.0.1 (or its own loopback address), gone when
//! dropped.
//!
//! It is started from a config file in its directory, so that CONFIG REWRITE works and a restart finds what it wrote.
//! Its output goes to `server.log`; every error about it carries the end of that file. Only this process id is ever
//! signalled.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::error::LabError;
use crate::port::free_port;
use crate::version::{Product, Version};
use crate::wire::{Address, Reply, Wire};

/// Its config file, in its directory.
const CONFIG: &str = "redis.conf";
/// What it says, in its directory.
const LOG: &str = "server.log";
/// How long a server may take to answer its first PING. A 2-core machine that compiles beside it needs seconds.
const READY_MAX: Duration = Duration::from_secs(30);
/// Between two looks at a starting server; there is nothing to await before it listens.
const READY_LOOK: Duration = Duration::from_millis(5);
/// Starts on a port that somebody else took in between.
const PORT_TRIES: usize = 5;
/// How much of the log an error carries.
const LOG_TAIL_BYTES: usize = 2_000;

/// What differs from a bare server. The bare one keeps no RDB and no AOF by itself, allows DEBUG, and starts a
/// diskless copy to a replica at once instead of after 5 s.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    settings: Vec<(String, String)>,
    password: Option<String>,
    unix_socket: bool,
    directory: Option<PathBuf>,
    place: Option<SocketAddrV4>,
    tls: Option<ServerTls>,
}

/// The files of a server that speaks nothing but TLS, to its clients, its primary and its replicas. PEM.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// What it shows, also where it dials.
    pub certificate: PathBuf,
    /// The key of that.
    pub key: PathBuf,
    /// Whom it believes; whoever dials it has to show a certificate of theirs where `mutual` is set.
    pub authority: PathBuf,
    /// Whether clients and replicas need a certificate.
    pub mutual: bool,
}

impl ServerOptions {
    /// A bare server.
    pub fn new() -> ServerOptions {
        ServerOptions::default()
    }

    /// One line of redis.conf, as `("maxmemory", "64mb")`. A later one for the same name wins.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> ServerOptions {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Requires this password of clients, and offers it to a primary.
    #[must_use]
    pub fn password(mut self, password: &str) -> ServerOptions {
        self.password = Some(password.to_owned());
        self
    }

    /// Listens on a unix socket in its directory too.
    #[must_use]
    pub fn unix_socket(mut self) -> ServerOptions {
        self.unix_socket = true;
        self
    }

    /// Uses an existing directory, which stays when the server is dropped. Without it: a temporary one.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> ServerOptions {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Listens there, and nowhere else. Without it: a free port of 127.0.0.1.
    #[must_use]
    pub fn place(mut self, place: SocketAddrV4) -> ServerOptions {
        self.place = Some(place);
        self
    }

    /// Has no plain port: its port speaks TLS, and so does its replication. The lab itself reaches it by its unix socket.
    /// Of the lab's servers only the distribution's own is built with TLS.
    #[must_use]
    pub fn tls_only(mut self, files: ServerTls) -> ServerOptions {
        self.tls = Some(files);
        self.unix_socket()
    }

    /// The files of [`ServerOptions::tls_only`].
    pub(crate) fn tls(&self) -> Option<&ServerTls> {
        self.tls.as_ref()
    }

    fn host(&self) -> Ipv4Addr {
        self.place.map_or(Ipv4Addr::LOCALHOST, |place| *place.ip())
    }

    fn port(&self) -> Result<u16, LabError> {
        match self.place {
            Some(place) => Ok(place.port()),
            None => free_port().map_err(LabError::io("find a free port")),
        }
    }
}

/// A running server, or one that was killed and waits for [`Server::restart`].
#[derive(Debug)]
pub struct Server {
    version: Version,
    port: u16,
    options: ServerOptions,
    home: Home,
    child: Child,
}

impl Server {
    /// Starts a server and waits until it answers PING.
    pub async fn start(version: Version, options: ServerOptions) -> Result<Server, LabError> {
        let home = match &options.directory {
            Some(directory) => Home::Given(directory.clone()),
            None => Home::Temporary(
                TempDir::with_prefix("understudy-lab-")
                    .map_err(LabError::io("make a directory"))?,
            ),
        };
        let port = options.port()?;
        write_config(home.path(), port, version, &options)?;
        let child = spawn(version, home.path(), CONFIG, &[], LOG)?;
        let mut server = Server {
            version,
            port,
            options,
            home,
            child,
        };
        for _ in 1..PORT_TRIES {
            match server.wait_until_ready().await {
                Err(LabError::Ended { log_tail, .. }) if log_tail.contains("in use") => {
                    server.port = server.options.port()?;
                    write_config(server.home.path(), server.port, version, &server.options)?;
                    server.child = spawn(version, server.home.path(), CONFIG, &[], LOG)?;
                }
                answer => return answer.map(|()| server),
            }
        }
        server.wait_until_ready().await.map(|()| server)
    }

    /// A bare server of this version.
    pub async fn bare(version: Version) -> Result<Server, LabError> {
        Server::start(version, ServerOptions::new()).await
    }

    /// Which version runs.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its port; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id now; another one after a restart.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `redis://127.0.0.1:port`, with the password where it has one; `rediss://` where it speaks only TLS.
    pub fn url(&self) -> String {
        let place = SocketAddrV4::new(self.options.host(), self.port);
        let scheme = self.options.tls.as_ref().map_or("redis", |_| "rediss");
        match &self.options.password {
            Some(password) => format!("{scheme}://default:{password}@{place}"),
            None => format!("{scheme}://{place}"),
        }
    }

    /// Where the lab reaches it.
    pub fn address(&self) -> Address {
        let address = match self.options.tls {
            None => Address::at(SocketAddrV4::new(self.options.host(), self.port)),
            Some(_) => Address::unix(self.unix_socket()),
        };
        match &self.options.password {
            Some(password) => address.with_password(password),
            None => address,
        }
    }

    /// Its directory: `redis.conf`, `server.log`, `dump.rdb`, and `redis.sock` when asked for.
    pub fn directory(&self) -> &Path {
        self.home.path()
    }

    /// The socket of [`ServerOptions::unix_socket`].
    pub fn unix_socket(&self) -> PathBuf {
        self.home.path().join("redis.sock")
    }

    /// A connection of the lab's own kind to the server itself.
    pub async fn wire(&self) -> Result<Wire, LabError> {
        Wire::connect(&self.address(), READY_MAX)
            .await
            .map_err(LabError::io(format!("connect to {}", self.version)))
    }

    /// One command on a connection of its own. An error reply is a reply.
    pub async fn call<A: AsRef<[u8]>>(&self, arguments: &[A]) -> Result<Reply, LabError> {
        self.wire()
            .await?
            .call(arguments)
            .await
            .map_err(LabError::io(format!("ask {}", self.version)))
    }

    /// One field of INFO.
    pub async fn info(&self, field: &str) -> Result<Option<String>, LabError> {
        let text = self
            .call(&["INFO", "everything"])
            .await?
            .into_bytes()
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().find_map(|line| {
            line.strip_prefix(field)?
                .strip_prefix(':')
                .map(|value| value.trim().to_owned())
        }))
    }

    /// Makes this server a replica of `source` and waits until it has copied everything and follows.
    pub async fn follow(&self, source: &Server) -> Result<(), LabError> {
        let mut wire = self.wire().await?;
        if let Some(password) = &source.options.password {
            wire.call(&["CONFIG", "SET", "masterauth", password])
                .await
                .map_err(LabError::io("set masterauth"))?;
        }
        let (host, port) = (source.options.host().to_string(), source.port.to_string());
        wire.call(&["REPLICAOF", &host, &port])
            .await
            .map_err(LabError::io("send REPLICAOF"))?;
        let since = Instant::now();
        while self.info("master_link_status").await?.as_deref() != Some("up") {
            if since.elapsed() > READY_MAX {
                return Err(LabError::NotReady {
                    version: self.version,
                    waited: since.elapsed(),
                    log_tail: self.log_tail(),
                });
            }
            tokio::time::sleep(READY_LOOK).await;
        }
        Ok(())
    }

    /// SIGKILL, and waits for its end. Nothing is saved.
    pub fn kill9(&mut self) -> Result<(), LabError> {
        self.child.kill().map_err(LabError::io("kill the server"))?;
        self.child
            .wait()
            .map_err(LabError::io("wait for the server's end"))?;
        Ok(())
    }

    /// SIGSTOP: the process stands still, its connections stay.
    pub fn stop_signal(&self) -> Result<(), LabError> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn cont(&self) -> Result<(), LabError> {
        self.signal(Signal::CONT)
    }

    /// Starts it again on its port, in its directory, with the config file as it is now. Ends it first if it runs: by
    /// SIGTERM, so that it saves what it is configured to save.
    pub async fn restart(&mut self) -> Result<(), LabError> {
        if self
            .child
            .try_wait()
            .map_err(LabError::io("look at the server"))?
            .is_none()
        {
            self.signal(Signal::TERM)?;
            self.signal(Signal::CONT)?;
            let since = Instant::now();
            while self
                .child
                .try_wait()
                .map_err(LabError::io("look at the server"))?
                .is_none()
            {
                if since.elapsed() > READY_MAX {
                    self.kill9()?;
                }
                tokio::time::sleep(READY_LOOK).await;
            }
        }
        self.child = spawn(self.version, self.home.path(), CONFIG, &[], LOG)?;
        self.wait_until_ready().await
    }

    /// The end of what it wrote.
    pub fn log_tail(&self) -> String {
        let log = fs::read(self.home.path().join(LOG)).unwrap_or_default();
        let from = log.len().saturating_sub(LOG_TAIL_BYTES);
        String::from_utf8_lossy(&log[from..]).into_owned()
    }

    /// Whether the process runs. A stopped one does.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    async fn wait_until_ready(&mut self) -> Result<(), LabError> {
        let since = Instant::now();
        loop {
            if let Some(status) = self
                .child
                .try_wait()
                .map_err(LabError::io("look at the server"))?
            {
                return Err(LabError::Ended {
                    version: self.version,
                    status,
                    log_tail: self.log_tail(),
                });
            }
            // Someone else's server may answer on a port that ours failed to get: ours names its own process id.
            if let Ok(mut wire) = Wire::connect(&self.address(), READY_LOOK * 100).await
                && wire
                    .call(&["PING"])
                    .await
                    .is_ok_and(|reply| reply == Reply::Simple("PONG".to_owned()))
                && self.is_it(&mut wire).await
            {
                return Ok(());
            }
            if since.elapsed() > READY_MAX {
                return Err(LabError::NotReady {
                    version: self.version,
                    waited: since.elapsed(),
                    log_tail: self.log_tail(),
                });
            }
            tokio::time::sleep(READY_LOOK).await;
        }
    }

    async fn is_it(&self, wire: &mut Wire) -> bool {
        let answer = wire
            .call(&["INFO", "server"])
            .await
            .ok()
            .and_then(Reply::into_bytes)
            .unwrap_or_default();
        String::from_utf8_lossy(&answer)
            .lines()
            .any(|line| line.trim() == format!("process_id:{}", self.child.id()))
    }

    fn signal(&self, signal: Signal) -> Result<(), LabError> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else { return Ok(()) };
        kill_process(pid, signal).map_err(|cause| LabError::io("signal the server")(cause.into()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended is fine; so is a stopped one, which SIGKILL reaches too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
enum Home {
    Temporary(TempDir),
    Given(PathBuf),
}

impl Home {
    fn path(&self) -> &Path {
        match self {
            Home::Temporary(directory) => directory.path(),
            Home::Given(directory) => directory,
        }
    }
}

/// Starts a server's program in its directory, on a config file there; what it says is added to a log there.
pub(crate) fn spawn(
    version: Version,
    home: &Path,
    config: &str,
    more: &[&str],
    log: &str,
) -> Result<Child, LabError> {
    let program = version.binary()?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(home.join(log))
        .map_err(LabError::io("open the server's log"))?;
    let errors = log
        .try_clone()
        .map_err(LabError::io("open the server's log"))?;
    Command::new(&program)
        .arg(home.join(config))
        .args(more)
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|cause| LabError::Spawn { program, cause })
}

fn write_config(
    home: &Path,
    port: u16,
    version: Version,
    options: &ServerOptions,
) -> Result<(), LabError> {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| {
        lines.retain(|(known, _)| known != name || name == "rename-command");
        lines.push((name.to_owned(), value.to_owned()));
    };
    match &options.tls {
        None => set("port", &port.to_string()),
        Some(files) => {
            set("port", "0");
            set("tls-port", &port.to_string());
            set("tls-replication", "yes");
            set("tls-cert-file", &files.certificate.to_string_lossy());
            set("tls-key-file", &files.key.to_string_lossy());
            set("tls-ca-cert-file", &files.authority.to_string_lossy());
            set("tls-auth-clients", if files.mutual { "yes" } else { "no" });
        }
    }
    set("bind", &options.host().to_string());
    set("dir", &home.to_string_lossy());
    set("save", "\"\"");
    set("appendonly", "no");
    set("repl-diskless-sync", "yes");
    set("repl-diskless-sync-delay", "0");
    if version.product() == Product::Valkey || version.number() >= (7, 0, 0) {
        set("enable-debug-command", "local");
    }
    if options.unix_socket {
        set("unixsocket", &home.join("redis.sock").to_string_lossy());
    }
    if let Some(password) = &options.password {
        set("requirepass", password);
        set("masterauth", password);
    }
    for (name, value) in &options.settings {
        set(name, value);
    }
    let mut text = String::new();
    for (name, value) in &lines {
        let _ = writeln!(text, "{name} {value}");
    }
    fs::write(home.join(CONFIG), text).map_err(LabError::io("write redis.conf"))
}
