//! Keeps a failing save from stopping the server's writes.
//!
//! With save points, a server whose last save failed answers every write with `-MISCONF` until one succeeds. The save that
//! we cause must not do that, so `stop-writes-on-bgsave-error` is `no` around it. What it was is written down first: if
//! we die, or the save fails, the next snapshot of that server that succeeds puts it back.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use understudy_net::{Client, ClientError, Value};

use super::error::SnapshotError;
use super::store::write_atomically;
use crate::verify::info;

const SETTING: &str = "stop-writes-on-bgsave-error";
/// Longest wait for a save that still runs when we are done, before the setting may come back. Default: 5 s.
const SAVE_WAIT: Duration = Duration::from_secs(5);
/// Between two looks at a running save.
const SAVE_LOOK: Duration = Duration::from_millis(20);

/// Whether the setting is ours to put back.
pub(super) struct Protection {
    note: PathBuf,
    lifted: bool,
}

impl Protection {
    /// Makes sure that a failing save stops nothing.
    pub(super) async fn lift(
        client: &mut Client,
        server: &str,
        directory: &Path,
    ) -> Result<Self, SnapshotError> {
        let note = directory.join(format!("{}.{SETTING}.txt", super::local::file_name(server)));
        let unprotected = |text: String| SnapshotError::Unprotected {
            server: server.to_owned(),
            text,
        };
        let ask = |cause: ClientError| SnapshotError::Ask {
            server: server.to_owned(),
            what: SETTING,
            cause,
        };
        let answer = client
            .call(&["CONFIG", "GET", SETTING])
            .await
            .map_err(ask)?;
        let answer = answer
            .into_ok()
            .map_err(|refused| unprotected(refused.to_string()))?;
        let value = answer
            .field(SETTING)
            .and_then(Value::as_str_lossy)
            .unwrap_or_default();
        if value != "yes" {
            return Ok(Self {
                lifted: note.exists(),
                note,
            });
        }
        // A sidecar has no snapshots of its own, so nobody has made the directory yet.
        let made = std::fs::create_dir_all(directory);
        let written = made.and_then(|()| write_atomically(&note, b"yes\n"));
        written.map_err(|cause| SnapshotError::Write {
            path: note.clone(),
            cause,
        })?;
        let answer = client
            .call(&["CONFIG", "SET", SETTING, "no"])
            .await
            .map_err(ask)?;
        if let Err(refused) = answer.into_ok() {
            let _ = fs::remove_file(&note); // Nothing was changed, so there is nothing to put back.
            return Err(unprotected(refused.to_string()));
        }
        Ok(Self { note, lifted: true })
    }

    /// Puts the setting back if the server's last save was good, and otherwise leaves the note for the next time.
    /// Says whether the last save failed.
    pub(super) async fn restore(self, client: &mut Client) -> Result<LastSave, ClientError> {
        let deadline = Instant::now() + SAVE_WAIT;
        let last = loop {
            let info = client
                .call(&["INFO", "persistence"])
                .await?
                .as_str_lossy()
                .unwrap_or_default();
            let running = info::field(&info, "rdb_bgsave_in_progress") == Some("1");
            match info::field(&info, "rdb_last_bgsave_status") {
                Some("ok") if !running => break LastSave::Good,
                _ if !running => break LastSave::Failed,
                _ if Instant::now() >= deadline => break LastSave::Running,
                _ => tokio::time::sleep(SAVE_LOOK).await,
            }
        };
        if !self.lifted {
            return Ok(last);
        }
        match last {
            LastSave::Good => {
                let answer = client.call(&["CONFIG", "SET", SETTING, "yes"]).await?;
                if answer.as_error().is_none() {
                    let _ = fs::remove_file(&self.note); // Left behind, it would only put back once more what is so already.
                }
            }
            LastSave::Failed | LastSave::Running => {
                tracing::warn!(
                    "{SETTING} stays 'no' until a snapshot of this server succeeds: its last save did not"
                );
            }
        }
        Ok(last)
    }
}

/// What the server says about its last save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastSave {
    Good,
    Failed,
    Running,
}
