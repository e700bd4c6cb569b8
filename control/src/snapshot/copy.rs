//! Copies a BGSAVE out of the server's directory, for servers that forbid PSYNC and whose disk we see.
//!
//! A path that exists here need not be the server's: so the server must be on this host, and the file must say that it was
//! written by this version after we asked.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use understudy_config::{BackendUrl, Scheme};
use understudy_net::{Client, Value};
use understudy_rdb::FileSummary;

use super::error::SnapshotError;
use super::store::Partial;
use crate::verify::info;

/// Longest save that is waited for.
const SAVE_MAX: Duration = Duration::from_secs(3600);
/// Between two looks at a running save.
const SAVE_LOOK: Duration = Duration::from_millis(20);
/// How much is copied at once.
const COPY_BYTES: usize = 256 * 1024;

/// A save that we asked for.
pub(super) struct Save {
    path: PathBuf,
    /// The server's clock before it began, in seconds since 1970, less the second by which its coarse clock may be behind.
    since: i64,
}

impl Save {
    /// Fails unless the file is what this server wrote now.
    pub(super) fn must_be(
        &self,
        summary: &FileSummary,
        version: &str,
    ) -> Result<(), SnapshotError> {
        let written_by = summary
            .aux_field("valkey-ver")
            .or(summary.aux_field("redis-ver"));
        let written_at = summary
            .aux_field("ctime")
            .and_then(|ctime| ctime.parse::<i64>().ok());
        if written_by == Some(version) && written_at.is_some_and(|at| at >= self.since) {
            return Ok(());
        }
        let what = "it is not what the server has just saved".to_owned();
        Err(SnapshotError::Damaged {
            path: self.path.clone(),
            what,
        })
    }
}

/// Makes the server save, and copies what it wrote. `refusal` is why it came to this.
pub(super) async fn copy_save(
    client: &mut Client,
    server: &BackendUrl,
    into: &mut Partial,
    refusal: &str,
) -> Result<Save, SnapshotError> {
    let name = server.address();
    let refused = |why: &str| SnapshotError::Refused {
        server: name.clone(),
        what: "an RDB",
        text: format!("{refusal}; {why}, so its RDB cannot be copied either"),
    };
    let local = server.scheme == Scheme::Unix
        || ["localhost", "127.0.0.1", "::1"].contains(&server.host.as_str());
    if !local {
        return Err(refused("the server is on another host"));
    }
    let mut asking = Asking {
        client,
        name: &name,
    };
    let since = asking.ask(&["TIME"]).await?;
    let since = since
        .as_slice()
        .and_then(|time| time.first()?.as_i64()?.checked_sub(1))
        .unwrap_or(i64::MAX);
    asking.ask(&["BGSAVE", "SCHEDULE"]).await?;
    asking.wait_for_save(since).await?;
    let mut path = PathBuf::from(asking.setting("dir").await?);
    path.push(asking.setting("dbfilename").await?);
    let Ok(mut file) = tokio::fs::File::open(&path).await else {
        return Err(refused("its directory is not visible here"));
    };
    let mut buffer = Vec::with_capacity(COPY_BYTES);
    loop {
        buffer.clear();
        let mut some = (&mut file).take(COPY_BYTES as u64);
        let read = some.read_to_end(&mut buffer).await;
        let read = read.map_err(|cause| SnapshotError::Read {
            path: path.clone(),
            cause,
        })?;
        if read == 0 || into.write(&name, &buffer).await? < read {
            return Ok(Save { path, since });
        }
    }
}

struct Asking<'a> {
    client: &'a mut Client,
    name: &'a str,
}

impl Asking<'_> {
    async fn ask(&mut self, args: &[&str]) -> Result<Value, SnapshotError> {
        let server = || self.name.to_owned();
        let answer = self.client.call(args).await;
        let answer = answer.map_err(|cause| SnapshotError::Ask {
            server: server(),
            what: "a save",
            cause,
        })?;
        let refused = |refused: understudy_net::ServerError| SnapshotError::Refused {
            server: server(),
            what: "a save",
            text: refused.to_string(),
        };
        answer.into_ok().map_err(refused)
    }

    async fn setting(&mut self, name: &str) -> Result<String, SnapshotError> {
        let answer = self.ask(&["CONFIG", "GET", name]).await?;
        Ok(answer
            .field(name)
            .and_then(Value::as_str_lossy)
            .unwrap_or_default())
    }

    async fn wait_for_save(&mut self, since: i64) -> Result<(), SnapshotError> {
        let deadline = Instant::now() + SAVE_MAX;
        loop {
            let info = self
                .ask(&["INFO", "persistence"])
                .await?
                .as_str_lossy()
                .unwrap_or_default();
            let running = info::field(&info, "rdb_bgsave_in_progress") == Some("1");
            let saved_at =
                info::field(&info, "rdb_last_save_time").and_then(|time| time.parse::<i64>().ok());
            let good = info::field(&info, "rdb_last_bgsave_status") == Some("ok");
            if !running && !good {
                let hint = ": it could not save (its log says why); its writes go on".to_owned();
                return Err(SnapshotError::Ended {
                    server: self.name.to_owned(),
                    bytes: 0,
                    hint,
                });
            }
            if !running && saved_at.is_some_and(|at| at >= since) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(SnapshotError::Idle {
                    server: self.name.to_owned(),
                    idle: SAVE_MAX,
                    bytes: 0,
                });
            }
            tokio::time::sleep(SAVE_LOOK).await;
        }
    }
}
