//! The snapshots in one directory.

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use understudy_config::BackendUrl;
use understudy_net::{Client, ClientError, Endpoint};
use understudy_rdb::FileSummary;

use super::copy::copy_save;
use super::error::SnapshotError;
use super::logins::Logins;
use super::protect::{LastSave, Protection};
use super::provider::SnapshotWish;
use super::record::{How, SnapshotRecord};
use super::store::{Partial, read_back, records, sweep, write_atomically};
use super::wire::{Moment, Transfer};
use crate::verify::info;

/// Longest wait for a connection or the answer to a question. Default: 5 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence of a server that saves or sends. It gives a sign of life each second. Default: 60 s.
const IDLE: Duration = Duration::from_secs(60);

/// Snapshots under one directory, which belongs to this process alone.
#[derive(Debug, Clone)]
pub struct LocalSnapshots {
    directory: PathBuf,
    idle: Duration,
    /// Without it, addresses are taken as they are.
    logins: Option<Logins>,
}

/// What a snapshot is taken for.
#[derive(Clone, Copy)]
pub(super) struct Purpose<'a> {
    pub(super) label: &'a str,
    /// Empty, like the shard, where it guards none.
    pub(super) pool: &'a str,
    pub(super) shard: &'a str,
}

/// What we know about the server before we ask for its data.
struct Known {
    server: String,
    run_id: String,
    version: String,
    valkey_version: Option<String>,
    replid: String,
}

impl LocalSnapshots {
    /// Makes the directory if it is not there, and removes what an earlier process did not finish.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, SnapshotError> {
        let directory = directory.into();
        let failed = |cause| SnapshotError::Write {
            path: directory.clone(),
            cause,
        };
        fs::create_dir_all(&directory).map_err(failed)?;
        sweep(&directory).map_err(failed)?;
        Ok(Self::beside(directory))
    }

    /// Those of a process that may be running: nothing is made or removed until something is asked for. Not for taking.
    pub fn beside(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            idle: IDLE,
            logins: None,
        }
    }

    /// The same, with the logins for servers that an upgrade names without a password.
    #[must_use]
    pub fn with_logins(self, logins: Logins) -> Self {
        Self {
            logins: Some(logins),
            ..self
        }
    }

    /// How the server of a wish is dialed.
    pub(super) fn reach(&self, wish: &SnapshotWish) -> Result<(BackendUrl, Endpoint), String> {
        let (pool, shard, url) = (&wish.pool, &wish.shard, &wish.server);
        if let Some(logins) = &self.logins {
            let server = logins.server(pool, shard, url)?;
            return Ok((server, logins.endpoint(pool, shard, url)?));
        }
        let server: BackendUrl = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let endpoint = Endpoint::from(&server).with_db(0);
        Ok((server, endpoint))
    }

    /// Whether a file can be made where snapshots are kept.
    pub(super) fn is_writable(&self) -> Result<(), SnapshotError> {
        let path = self.directory.join(".writable");
        let written = write_atomically(&path, b"").and_then(|()| fs::remove_file(&path));
        written.map_err(|cause| SnapshotError::Write { path, cause })
    }

    /// Longest silence of a server that saves or sends. Default: 60 s.
    #[must_use]
    pub fn with_idle_timeout(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }

    /// Takes a snapshot of a server as it is now. Clients are not held, and a save that fails does not stop their writes.
    ///
    /// When `cancel` resolves, it ends in order. Dropped half way, it leaves no file, but the server's
    /// `stop-writes-on-bgsave-error` may stay off until the next snapshot of that server.
    pub async fn take(
        &self,
        server: &BackendUrl,
        label: &str,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<SnapshotRecord, SnapshotError> {
        let endpoint = Endpoint::from(server).with_db(0);
        let purpose = Purpose {
            label,
            pool: "",
            shard: "",
        };
        self.take_from(server, &endpoint, purpose, cancel).await
    }

    /// As [`LocalSnapshots::take`], of a server that is dialed in a way of its own.
    pub(super) async fn take_from(
        &self,
        server: &BackendUrl,
        endpoint: &Endpoint,
        purpose: Purpose<'_>,
        cancel: impl Future<Output = ()> + Send,
    ) -> Result<SnapshotRecord, SnapshotError> {
        let (mut asking, known) = self.know(server, endpoint).await?;
        let protection = Protection::lift(&mut asking, &known.server, &self.directory).await?;
        let taken = tokio::select! {
            taken = self.take_protected((server, endpoint), purpose, &known, &mut asking) => taken,
            () = cancel => Err(SnapshotError::Cancelled),
        };
        // A question that was dropped half way has used up its connection.
        if !asking.is_usable() {
            asking = connect(endpoint, &known.server).await?;
        }
        let last_save = protection.restore(&mut asking).await;
        match (taken, last_save) {
            (Err(SnapshotError::Ended { server, bytes, .. }), Ok(LastSave::Failed)) => {
                let hint = ": it could not save (its log says why); its writes go on".to_owned();
                Err(SnapshotError::Ended {
                    server,
                    bytes,
                    hint,
                })
            }
            (Ok(record), Err(cause)) => {
                // The snapshot is sound; what is not put back now is put back after the next one.
                tracing::warn!("put back a setting of {}: {cause}", known.server);
                Ok(record)
            }
            (taken, _) => taken,
        }
    }

    /// Reads a snapshot back from the disk: its structure, its checksum, its keys, and that it is what was taken.
    pub async fn verify(&self, id: &str) -> Result<FileSummary, SnapshotError> {
        let record = self.find(id)?;
        let (summary, digest) = read_back(record.path.clone()).await?;
        let damaged = |what: String| SnapshotError::Damaged {
            path: record.path.clone(),
            what,
        };
        if summary.keys != record.keys {
            return Err(damaged(format!(
                "{} keys instead of {}",
                summary.keys, record.keys
            )));
        }
        if summary.bytes != record.bytes || digest != record.digest {
            return Err(damaged("it is not the file that was taken".to_owned()));
        }
        Ok(summary)
    }

    /// Every snapshot, oldest first.
    pub fn list(&self) -> Result<Vec<SnapshotRecord>, SnapshotError> {
        records(&self.directory)
    }

    /// One snapshot.
    pub fn find(&self, id: &str) -> Result<SnapshotRecord, SnapshotError> {
        let unknown = || SnapshotError::Unknown {
            id: id.to_owned(),
            directory: self.directory.clone(),
        };
        self.list()?
            .into_iter()
            .find(|record| record.id == id)
            .ok_or_else(unknown)
    }

    /// Removes a snapshot: the record first, so that there is no moment at which half of it counts.
    pub fn remove(&self, id: &str) -> Result<(), SnapshotError> {
        let record = self.find(id)?;
        for path in [record.path.with_extension("json"), record.path] {
            fs::remove_file(&path).map_err(|cause| SnapshotError::Write { path, cause })?;
        }
        Ok(())
    }

    async fn know(
        &self,
        server: &BackendUrl,
        endpoint: &Endpoint,
    ) -> Result<(Client, Known), SnapshotError> {
        let address = server.address();
        let mut asking = connect(endpoint, &address).await?;
        let ask = |cause| SnapshotError::Ask {
            server: address.clone(),
            what: "INFO",
            cause,
        };
        let mut answers = String::new();
        for section in ["server", "replication"] {
            let answer = asking.call(&["INFO", section]).await.map_err(ask)?;
            let refused = |refused: understudy_net::ServerError| SnapshotError::Refused {
                server: address.clone(),
                what: "INFO",
                text: refused.to_string(),
            };
            answers += &answer
                .into_ok()
                .map_err(refused)?
                .as_str_lossy()
                .unwrap_or_default();
            answers.push('\n');
        }
        let text = |field| info::field(&answers, field).map(str::to_owned);
        let valkey_version = text("valkey_version");
        let known = Known {
            server: address.clone(),
            run_id: text("run_id").unwrap_or_default(),
            version: valkey_version
                .clone()
                .or_else(|| text("redis_version"))
                .unwrap_or_default(),
            valkey_version,
            replid: text("master_replid").unwrap_or_default(),
        };
        Ok((asking, known))
    }

    async fn take_protected(
        &self,
        (server, endpoint): (&BackendUrl, &Endpoint),
        purpose: Purpose<'_>,
        known: &Known,
        asking: &mut Client,
    ) -> Result<SnapshotRecord, SnapshotError> {
        let taken_at_unix_ms = unix_ms();
        let id = format!("{}-{taken_at_unix_ms}", file_name(purpose.label));
        let mut partial = Partial::create(&self.directory, &id).await?;
        let (whole, replid, offset, how) =
            match self.over_the_wire(endpoint, known, &mut partial).await {
                Ok(Moment { replid, offset }) => (
                    partial.finish(&known.server).await?,
                    replid,
                    Some(offset),
                    How::OverTheWire,
                ),
                Err(SnapshotError::Refused { text, .. }) if is_forbidden(&text) => {
                    let save = copy_save(asking, server, &mut partial, &text).await?;
                    let whole = partial.finish(&known.server).await?;
                    save.must_be(&whole.summary, &known.version)?;
                    (whole, known.replid.clone(), None, How::Copied)
                }
                Err(other) => return Err(other),
            };
        let record = SnapshotRecord {
            path: self.directory.join(format!("{id}.rdb")),
            id,
            label: purpose.label.to_owned(),
            pool: purpose.pool.to_owned(),
            shard: purpose.shard.to_owned(),
            bytes: whole.summary.bytes,
            keys: whole.summary.keys,
            checksum: whole
                .summary
                .checksum
                .map(|checksum| format!("{checksum:016x}")),
            digest: whole.digest.clone(),
            server: known.server.clone(),
            run_id: known.run_id.clone(),
            version: known.version.clone(),
            replid,
            offset,
            taken_at_unix_ms,
            how,
        };
        whole.keep(&record)?;
        Ok(record)
    }

    async fn over_the_wire(
        &self,
        endpoint: &Endpoint,
        known: &Known,
        into: &mut Partial,
    ) -> Result<Moment, SnapshotError> {
        let client = connect(endpoint, &known.server).await?;
        let (transfer, moment) = Transfer::begin(
            client,
            &known.server,
            known.valkey_version.as_deref(),
            self.idle,
        )
        .await?;
        transfer.receive(into).await?;
        Ok(moment)
    }
}

async fn connect(endpoint: &Endpoint, name: &str) -> Result<Client, SnapshotError> {
    let ask = |cause: ClientError| SnapshotError::Ask {
        server: name.to_owned(),
        what: "a connection",
        cause,
    };
    let mut client = Client::connect(endpoint, CALL_TIMEOUT).await.map_err(ask)?;
    client.set_timeout(CALL_TIMEOUT);
    Ok(client)
}

/// PSYNC itself is not for us; any other refusal may pass.
fn is_forbidden(text: &str) -> bool {
    text.starts_with("-NOPERM") || text.starts_with("-ERR unknown command")
}

/// A text as part of a file's name.
pub(super) fn file_name(text: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_".contains(c) {
            c
        } else {
            '-'
        }
    };
    text.chars().map(plain).collect()
}

fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
