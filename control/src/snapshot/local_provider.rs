//! `local` as a provider: the same rules for an RDB under data_dir as for a volume in a backup system.
//!
//! A run is found again by its record's label. `check` and `verify` read the whole file. `release` deletes nothing: how many
//! snapshots are kept is a setting of its own (`keep.rs`).

use std::collections::BTreeMap;

use super::error::SnapshotError;
use super::local::{LocalSnapshots, Purpose};
use super::provider::{
    Answer, Level, Preflight, PreflightProblem, Progress, ProviderError, ProviderErrorKind,
    Release, RestoreTo, SnapshotHandle, SnapshotProvider, SnapshotWish, Verified,
};
use super::record::{How, SnapshotRecord};
use super::{LOCAL, restore};
use crate::world::one_line;

impl SnapshotProvider for LocalSnapshots {
    fn recipes(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async { Ok(vec![LOCAL.to_owned()]) })
    }

    fn preflight<'a>(&'a self, wish: &'a SnapshotWish) -> Answer<'a, Preflight> {
        Box::pin(async move {
            let mut found = Preflight::default();
            if let Err(cause) = self.is_writable() {
                found.problems.push(PreflightProblem {
                    code: "snapshot-directory".to_owned(),
                    text: one_line(&cause),
                    remedy: "give data_dir room and the right to write".to_owned(),
                });
            }
            if wish.level == Level::Crash {
                let more = "an RDB over the wire is of one moment: more than level crash asks for";
                found.notes.push(more.to_owned());
            }
            Ok(found)
        })
    }

    fn take<'a>(
        &'a self,
        wish: &'a SnapshotWish,
        progress: Progress<'a>,
    ) -> Answer<'a, SnapshotHandle> {
        Box::pin(async move {
            let taken_before = self.list()?.into_iter();
            let mut of_run = taken_before.filter(|record| record.label == wish.run);
            let record = match of_run.next() {
                Some(record) => record,
                None => {
                    progress("an RDB over the wire".to_owned());
                    let (server, endpoint) =
                        self.reach(wish).map_err(ProviderError::misconfigured)?;
                    let never = std::future::pending();
                    let purpose = Purpose {
                        label: &wish.run,
                        pool: &wish.pool,
                        shard: &wish.shard,
                    };
                    let taking = self.take_from(&server, &endpoint, purpose, never);
                    taking.await?
                }
            };
            progress("the RDB, read back".to_owned());
            self.verify(&record.id).await?;
            Ok(SnapshotHandle {
                pool: wish.pool.clone(),
                shard: wish.shard.clone(),
                server: wish.server.clone(),
                ..handle(&record)
            })
        })
    }

    fn check<'a>(&'a self, of: &'a SnapshotHandle) -> Answer<'a, ()> {
        Box::pin(async move {
            let record = self.find(&of.id)?;
            self.verify(&of.id).await?;
            match of.handle.get("digest") {
                Some(digest) if *digest != record.digest => {
                    Err(ProviderError::from(SnapshotError::Damaged {
                        path: record.path,
                        what: "it is another one than the journal knows".to_owned(),
                    }))
                }
                _ => Ok(()),
            }
        })
    }

    fn release<'a>(&'a self, _of: &'a SnapshotHandle, _why: Release) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn list(&self) -> Answer<'_, Vec<SnapshotHandle>> {
        Box::pin(async {
            let records = LocalSnapshots::list(self)?;
            Ok(records.iter().map(handle).collect())
        })
    }

    fn show<'a>(&'a self, id: &'a str) -> Answer<'a, Vec<(String, String)>> {
        Box::pin(async move { Ok(fields(&self.find(id).map_err(unknown)?)) })
    }

    fn restore<'a>(
        &'a self,
        id: &'a str,
        to: &'a RestoreTo,
        progress: Progress<'a>,
    ) -> Answer<'a, Vec<(String, String)>> {
        Box::pin(async move {
            let RestoreTo::Path(path) = to else {
                return Err(ProviderError::misconfigured(format!(
                    "a snapshot of recipe {LOCAL} is a file: restore it to a path, not to {to}"
                )));
            };
            let record = self.find(id).map_err(unknown)?;
            self.verify(id).await?;
            progress(format!("{} bytes", record.bytes));
            let (keys, bytes) = (record.keys, record.bytes);
            let made = restore::restore(record, path.clone()).await?;
            let field = |name: &str, value: String| (name.to_owned(), value);
            Ok(vec![
                field("path", made.display().to_string()),
                field("keys", keys.to_string()),
                field("bytes", bytes.to_string()),
            ])
        })
    }

    fn verify<'a>(&'a self, id: &'a str, _progress: Progress<'a>) -> Answer<'a, Verified> {
        Box::pin(async move {
            let record = self.find(id).map_err(unknown)?;
            let summary = LocalSnapshots::verify(self, id).await?;
            let checksum = match &summary.checksum {
                Some(checksum) => format!("the RDB's own checksum {checksum:016x} is right"),
                None => "the server wrote no checksum".to_owned(),
            };
            Ok(Verified {
                keys: summary.keys,
                bytes: summary.bytes,
                lines: vec![
                    format!("{} was read from start to end", record.path.display()),
                    checksum,
                    format!("its digest is that of the record, {}", record.digest),
                    format!("its {} keys are those of the record", summary.keys),
                ],
            })
        })
    }

    fn delete<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.find(id).map_err(unknown)?;
            self.remove(id).map_err(ProviderError::from)
        })
    }
}

/// A record as a handle. Whose shard it is stands in the upgrade's journal only.
pub(crate) fn handle(record: &SnapshotRecord) -> SnapshotHandle {
    let place = [
        ("path", record.path.display().to_string()),
        ("digest", record.digest.clone()),
        ("how", how(record.how).to_owned()),
        ("replid", record.replid.clone()),
    ];
    SnapshotHandle {
        id: record.id.clone(),
        run: record.label.clone(),
        recipe: LOCAL.to_owned(),
        server: record.server.clone(),
        taken_at_ms: record.taken_at_unix_ms,
        level_reached: Level::App.to_string(),
        offset: record.offset,
        keys: Some(record.keys),
        bytes: Some(record.bytes),
        run_id: Some(record.run_id.clone()),
        version: Some(record.version.clone()),
        handle: BTreeMap::from(place.map(|(name, value)| (name.to_owned(), value))),
        ..SnapshotHandle::default()
    }
}

fn fields(record: &SnapshotRecord) -> Vec<(String, String)> {
    let or_unknown = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    let offset = record.offset.map(|offset| offset.to_string());
    let fields = [
        ("id", record.id.clone()),
        ("recipe", LOCAL.to_owned()),
        ("run", record.label.clone()),
        ("server", record.server.clone()),
        ("version", record.version.clone()),
        ("run_id", record.run_id.clone()),
        ("replid", record.replid.clone()),
        ("offset", or_unknown(offset)),
        ("keys", record.keys.to_string()),
        ("bytes", record.bytes.to_string()),
        ("checksum", or_unknown(record.checksum.clone())),
        ("digest", record.digest.clone()),
        ("taken_at_ms", record.taken_at_unix_ms.to_string()),
        ("how", how(record.how).to_owned()),
        ("path", record.path.display().to_string()),
    ];
    fields.map(|(name, value)| (name.to_owned(), value)).into()
}

fn how(how: How) -> &'static str {
    match how {
        How::OverTheWire => "over-the-wire",
        How::Copied => "copied",
    }
}

/// As any other, where a name that nobody knows is the caller's mistake.
fn unknown(error: SnapshotError) -> ProviderError {
    match error {
        SnapshotError::Unknown { .. } => ProviderError::misconfigured(one_line(&error)),
        other => other.into(),
    }
}

impl From<SnapshotError> for ProviderError {
    fn from(error: SnapshotError) -> ProviderError {
        let kind = match &error {
            SnapshotError::Ask { .. } => ProviderErrorKind::Unreachable,
            SnapshotError::Refused { .. } => ProviderErrorKind::Denied,
            SnapshotError::Unprotected { .. } => ProviderErrorKind::Misconfigured,
            SnapshotError::Ended { .. }
            | SnapshotError::Receive { .. }
            | SnapshotError::Idle { .. }
            | SnapshotError::Unsound { .. }
            | SnapshotError::Write { .. }
            | SnapshotError::Read { .. }
            | SnapshotError::Damaged { .. }
            | SnapshotError::Unknown { .. }
            | SnapshotError::Cancelled => ProviderErrorKind::Failed,
        };
        ProviderError::new(kind, one_line(&error))
    }
}
