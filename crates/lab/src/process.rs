//! One `understudy` process under test: its config, its log, its admin endpoint. Gone when dropped.
//!
//! It is the real binary, started as an operator would. Only its own process id is ever signalled.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::LabError;

/// How long the process may take until its admin endpoint answers.
const READY_MAX: Duration = Duration::from_secs(30);
/// Between two looks at something that only the kernel knows.
const LOOK: Duration = Duration::from_millis(5);

/// What is started, and with what.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    /// The `understudy` binary.
    pub binary: PathBuf,
    /// `serve`, `proxy` or `control`.
    pub subcommand: String,
    /// The config file.
    pub config: PathBuf,
    /// The admin endpoint that the config names, as host:port.
    pub admin: String,
    /// Where its log goes; appended to, so a restart keeps what the first one said.
    pub log: PathBuf,
    /// Environment beside our own.
    pub environment: Vec<(String, String)>,
    /// Its working directory; ours without it.
    pub directory: Option<PathBuf>,
}

/// A running process, or one that ended and waits for [`Process::restart`].
#[derive(Debug)]
pub struct Process {
    options: ProcessOptions,
    child: Child,
}

impl Process {
    /// Starts the process and waits until its admin endpoint answers.
    pub async fn start(options: ProcessOptions) -> Result<Process, LabError> {
        let child = spawn(&options)?;
        let mut process = Process { options, child };
        process.wait_until_ready().await?;
        Ok(process)
    }

    /// Starts it again, with the same config and perhaps another environment.
    pub async fn restart(&mut self, environment: &[(&str, &str)]) -> Result<(), LabError> {
        self.options.environment = owned(environment);
        self.child = spawn(&self.options)?;
        self.wait_until_ready().await
    }

    /// The admin endpoint, as host:port.
    pub fn admin(&self) -> &str {
        &self.options.admin
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The whole log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.options.log).unwrap_or_default()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> Result<(), LabError> {
        self.child.kill().map_err(LabError::io("kill understudy"))?;
        self.child
            .wait()
            .map_err(LabError::io("wait for understudy"))?;
        Ok(())
    }

    /// SIGSTOP: the process stands still, its sockets stay open.
    pub fn freeze(&self) -> Result<(), LabError> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<(), LabError> {
        self.signal(Signal::CONT)
    }

    /// Waits until the process stands still: it has stopped itself, or was stopped. False when it did not within `limit`.
    pub async fn is_frozen_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let path = format!("/proc/{}/stat", self.pid());
        while Instant::now() < deadline {
            let stat = std::fs::read_to_string(&path).unwrap_or_default();
            // The state is the first field behind the name, which ends at the last parenthesis.
            if stat
                .rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('T'))
            {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    /// Makes every write of this process beyond so many bytes of a file fail, its log included, as a full disk does; `None`
    /// makes room again.
    pub fn limit_files(&self, bytes: Option<u64>) -> Result<(), LabError> {
        let limit = rustix::process::Rlimit {
            current: bytes,
            maximum: None,
        };
        let pid = Pid::from_child(&self.child);
        rustix::process::prlimit(Some(pid), rustix::process::Resource::Fsize, limit)
            .map(drop)
            .map_err(|cause| LabError::io("limit understudy's files")(io::Error::from(cause)))
    }

    /// SIGHUP: reload.
    pub fn hang_up(&self) -> Result<(), LabError> {
        self.signal(Signal::HUP)
    }

    /// SIGTERM, and waits for the end; SIGKILL after `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus, LabError> {
        self.signal(Signal::TERM)?;
        match self.wait_for_end(limit).await? {
            Some(status) => Ok(status),
            None => {
                self.kill()?;
                Err(LabError::Answer {
                    doing: "stop understudy".to_owned(),
                    answer: format!("it still ran {limit:?} after SIGTERM"),
                })
            }
        }
    }

    /// Waits until the process has ended by itself, or `limit` has passed.
    pub async fn wait_for_end(&mut self, limit: Duration) -> Result<Option<ExitStatus>, LabError> {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self
                .child
                .try_wait()
                .map_err(LabError::io("look at understudy"))?;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn wait_until_ready(&mut self) -> Result<(), LabError> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            if answers_ping(&self.options.admin).await {
                return Ok(());
            }
            let ended = self
                .child
                .try_wait()
                .map_err(LabError::io("look at understudy"))?;
            let problem = match ended {
                Some(status) => format!("it ended ({status})"),
                None if Instant::now() >= deadline => format!("no answer within {READY_MAX:?}"),
                None => {
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
            };
            return Err(LabError::Answer {
                doing: format!("start understudy {}", self.options.subcommand),
                answer: format!("{problem}; the end of its log:\n{}", tail(&self.log())),
            });
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), LabError> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal)
            .map_err(|cause| LabError::io("signal understudy")(io::Error::from(cause)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that has ended already is fine; that is what we want.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Asks for PING as a telnet user would, so the check needs no client.
async fn answers_ping(admin: &str) -> bool {
    let Ok(mut socket) = TcpStream::connect(admin).await else {
        return false;
    };
    if socket.write_all(b"PING\r\n").await.is_err() {
        return false;
    }
    let mut reply = [0; 1];
    // Any reply will do: one that wants a password answers an error, and is up.
    socket.read_exact(&mut reply).await.is_ok()
}

fn spawn(options: &ProcessOptions) -> Result<Child, LabError> {
    let log = append_to(&options.log)?;
    let directory = options.directory.as_deref().unwrap_or(Path::new("."));
    let errors = log.try_clone().map_err(LabError::io("share the log"))?;
    Command::new(&options.binary)
        .arg(&options.subcommand)
        .arg("--config")
        .arg(&options.config)
        .current_dir(directory)
        .envs(
            options
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|cause| LabError::Spawn {
            program: options.binary.clone(),
            cause,
        })
}

fn append_to(path: &Path) -> Result<File, LabError> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(LabError::io("open the log"))
}

fn owned(environment: &[(&str, &str)]) -> Vec<(String, String)> {
    environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
