//! The processes that are compared, all in front of one real server.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use understudy_lab::{Server, Version, free_port, tool};

/// How long a process may take until its port answers.
const READY_MAX: Duration = Duration::from_secs(10);

/// One process under load.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) pid: u32,
    /// Whether it answers with the request's own bytes.
    pub(crate) echoes: bool,
}

/// All of them; ended when dropped.
pub(crate) struct Sides {
    sides: Vec<Side>,
    /// Peers that are not installed.
    pub(crate) missing: Vec<&'static str>,
    children: Vec<Child>,
    server: Server,
    directory: TempDir,
}

impl Sides {
    /// Starts the server and every side. The floor is the first; a peer that is not installed is left out.
    pub(crate) fn start(beside: Option<&str>) -> Result<Sides, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let server = runtime
            .block_on(Server::bare(Version::Redis8_2_3))
            .map_err(|error| error.to_string())?;
        let directory = TempDir::new().map_err(|error| error.to_string())?;
        let mut sides = Sides {
            sides: Vec::new(),
            missing: Vec::new(),
            children: Vec::new(),
            server,
            directory,
        };
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let port = port()?;
        sides.add(
            "floor (tokio echo)",
            port,
            true,
            Command::new(own).arg("--floor").arg(port.to_string()),
        )?;
        let (port, pid) = (sides.server.port(), sides.server.pid());
        sides.sides.push(Side {
            name: "direct (the server)",
            port,
            pid,
            echoes: false,
        });
        let binary = env!("CARGO_BIN_EXE_understudy");
        sides.add_understudy("understudy, 1 worker", binary, 1)?;
        sides.add_understudy("understudy, 2 workers", binary, 2)?;
        if let Some(other) = beside {
            sides.add_understudy("the other, 1 worker", other, 1)?;
        }
        sides.add_nutcracker()?;
        sides.add_haproxy()?;
        Ok(sides)
    }

    pub(crate) fn all(&self) -> &[Side] {
        &self.sides
    }

    /// The port of the one server behind all sides.
    pub(crate) fn server_port(&self) -> u16 {
        self.server.port()
    }

    fn add_understudy(
        &mut self,
        name: &'static str,
        binary: &str,
        workers: u32,
    ) -> Result<(), String> {
        let (port, admin) = (port()?, port()?);
        let data = self.directory.path().join(format!("data-{port}"));
        let config = format!(
            "data_dir: {}\nworkers: {workers}\nadmin: {{ listen: \"127.0.0.1:{admin}\" }}\nhttp: off\npools:\n  - name: bench\n    listen: \"127.0.0.1:{port}\"\n    shards:\n      - {{ name: s1, primary: \"redis://127.0.0.1:{}\" }}\n",
            data.display(),
            self.server.port()
        );
        let path = self.write(&format!("understudy-{port}.yaml"), &config)?;
        self.add(
            name,
            port,
            false,
            Command::new(binary).arg("proxy").arg("--config").arg(path),
        )
    }

    fn add_nutcracker(&mut self) -> Result<(), String> {
        let Some(binary) = tool("nutcracker") else {
            self.missing.push("nutcracker");
            return Ok(());
        };
        let (port, stats) = (port()?, port()?);
        let config = format!(
            "bench:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n  servers:\n   - 127.0.0.1:{}:1\n",
            self.server.port()
        );
        let path = self.write("nutcracker.yml", &config)?;
        let mut command = Command::new(binary);
        command
            .arg("-c")
            .arg(path)
            .arg("-a")
            .arg("127.0.0.1")
            .arg("-s")
            .arg(stats.to_string());
        self.add("nutcracker", port, false, &mut command)
    }

    fn add_haproxy(&mut self) -> Result<(), String> {
        let Some(binary) = tool("haproxy") else {
            self.missing.push("haproxy");
            return Ok(());
        };
        let port = port()?;
        let config = format!(
            "global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\nlisten bench\n  bind 127.0.0.1:{port}\n  server s1 127.0.0.1:{}\n",
            self.server.port()
        );
        let path = self.write("haproxy.cfg", &config)?;
        self.add(
            "haproxy (TCP)",
            port,
            false,
            Command::new(binary).arg("-db").arg("-f").arg(path),
        )
    }

    fn add(
        &mut self,
        name: &'static str,
        port: u16,
        echoes: bool,
        command: &mut Command,
    ) -> Result<(), String> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("start {name}: {error}"))?;
        let pid = child.id();
        self.children.push(child);
        wait_for(port).map_err(|error| format!("{name}: {error}"))?;
        self.sides.push(Side {
            name,
            port,
            pid,
            echoes,
        });
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = Path::join(self.directory.path(), name);
        fs::write(&path, text).map_err(|error| format!("write {name}: {error}"))?;
        Ok(path)
    }
}

impl Drop for Sides {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended already is what we want.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn port() -> Result<u16, String> {
    free_port().map_err(|error| format!("find a free port: {error}"))
}

fn wait_for(port: u16) -> Result<(), String> {
    let deadline = Instant::now() + READY_MAX;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            return Err(format!("port {port} does not answer after {READY_MAX:?}"));
        }
        std::thread::yield_now();
    }
    Ok(())
}
