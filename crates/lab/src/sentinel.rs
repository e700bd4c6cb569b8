//! A real Sentinel that watches one server, alone and in a hurry: it decides by itself, and looks ten times a second
//! where others look every ten seconds.

use std::process::Child;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::LabError;
use crate::port::free_port;
use crate::server::{Server, spawn};
use crate::version::Version;
use crate::wire::{Address, Reply, Wire};

/// How long it may take to answer, and to know its server.
const READY_MAX: Duration = Duration::from_secs(30);
/// Between two looks at what only it knows.
const LOOK: Duration = Duration::from_millis(20);
/// Each of its periods, where `SENTINEL DEBUG` takes it (7.0 and later). Milliseconds.
const PERIOD: &str = "100";
/// The server is down for it after so long. Milliseconds.
const DOWN_AFTER: u32 = 500;
/// It tries again after twice this. Milliseconds.
const FAILOVER_TIMEOUT: u32 = 1_000;

/// A running Sentinel, gone when dropped.
#[derive(Debug)]
pub struct Sentinel {
    address: Address,
    /// What it calls its server. Two that called theirs alike would take each other's for one.
    watched: String,
    child: Child,
    home: TempDir,
}

impl Sentinel {
    /// Starts one of the distribution's version, and waits until it watches the server.
    pub async fn over(server: &Server) -> Result<Sentinel, LabError> {
        let home = TempDir::with_prefix("understudy-sentinel-")
            .map_err(LabError::io("make a directory"))?;
        let port = free_port().map_err(LabError::io("find a free port"))?;
        let watched = format!("server-{}", server.port());
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {watched} 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds {watched} {DOWN_AFTER}\nsentinel failover-timeout {watched} {FAILOVER_TIMEOUT}\n",
            home.path().display(),
            server.port()
        );
        std::fs::write(home.path().join("sentinel.conf"), config)
            .map_err(LabError::io("write sentinel.conf"))?;
        let child = spawn(
            Version::Redis7_0_15,
            home.path(),
            "sentinel.conf",
            &["--sentinel"],
            "sentinel.log",
        )?;
        let sentinel = Sentinel {
            address: Address::local(port),
            watched,
            child,
            home,
        };
        sentinel
            .until(
                "answers",
                |answer| !matches!(answer, Reply::Error(_)),
                &["PING"],
            )
            .await?;
        for period in ["INFO-PERIOD", "PING-PERIOD", "ASK-PERIOD", "PUBLISH-PERIOD"] {
            sentinel
                .call(&["SENTINEL", "DEBUG", period, PERIOD])
                .await?;
        }
        let subscribed = Instant::now();
        loop {
            let channel = ["PUBSUB", "NUMSUB", "__sentinel__:hello"];
            let heard = format!("{:?}", server.call(&channel).await?);
            if heard.contains("Integer(1)") {
                return Ok(sentinel);
            }
            if subscribed.elapsed() > READY_MAX {
                return Err(sentinel.late("it watches nobody"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// One command.
    pub async fn call(&self, words: &[&str]) -> Result<Reply, LabError> {
        let mut wire = Wire::connect(&self.address, READY_MAX)
            .await
            .map_err(LabError::io("connect to the Sentinel"))?;
        wire.call(words)
            .await
            .map_err(LabError::io("ask the Sentinel"))
    }

    /// Watches its server no more.
    pub async fn remove(&self) -> Result<Reply, LabError> {
        self.call(&["SENTINEL", "REMOVE", &self.watched]).await
    }

    /// Waits until it logged a text.
    pub async fn says(&self, text: &str) -> Result<(), LabError> {
        let since = Instant::now();
        while !self.log().contains(text) {
            if since.elapsed() > READY_MAX {
                return Err(self.late(text));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Everything that it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("sentinel.log")).unwrap_or_default()
    }

    async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&Reply) -> bool,
        words: &[&str],
    ) -> Result<(), LabError> {
        let since = Instant::now();
        loop {
            if self.call(words).await.is_ok_and(|answer| wanted(&answer)) {
                return Ok(());
            }
            if since.elapsed() > READY_MAX {
                return Err(self.late(what));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn late(&self, what: &str) -> LabError {
        LabError::Answer {
            doing: format!("wait for the Sentinel: {what}"),
            answer: self.log(),
        }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // Already ended is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
