//! The files: written under a name that means nothing, given their own when everything about them is true.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt;
use understudy_rdb::{FileSummary, RdbError, StreamingCheck};

use super::error::SnapshotError;
use super::record::SnapshotRecord;

/// End of the name of what is not a snapshot yet.
const PARTIAL: &str = ".partial";
/// How much is read back at once.
const READ_BYTES: usize = 256 * 1024;

/// A file that is being written. Dropped before [`Partial::keep`], it is gone.
pub(super) struct Partial {
    path: PathBuf,
    file: tokio::fs::File,
    check: StreamingCheck,
    hasher: blake3::Hasher,
}

/// A whole file, on the disk, under its partial name.
pub(super) struct Whole {
    path: PathBuf,
    pub(super) summary: FileSummary,
    pub(super) digest: String,
}

impl Partial {
    pub(super) async fn create(directory: &Path, id: &str) -> Result<Self, SnapshotError> {
        let path = directory.join(format!(".{id}.rdb{PARTIAL}"));
        let mut options = tokio::fs::OpenOptions::new();
        // It holds everything that the server does: nobody else reads it.
        options.write(true).create_new(true).mode(0o600);
        let file = options
            .open(&path)
            .await
            .map_err(|cause| SnapshotError::Write {
                path: path.clone(),
                cause,
            })?;
        Ok(Self {
            path,
            file,
            check: StreamingCheck::new(),
            hasher: blake3::Hasher::new(),
        })
    }

    /// Takes the next bytes and says how many of them belong to the RDB: fewer than all when it has ended.
    pub(super) async fn write(
        &mut self,
        server: &str,
        bytes: &[u8],
    ) -> Result<usize, SnapshotError> {
        let unsound = |cause| SnapshotError::Unsound {
            server: server.to_owned(),
            cause,
        };
        let taken = self.check.push(bytes).map_err(unsound)?;
        let bytes = bytes.get(..taken).unwrap_or_default();
        self.hasher.update(bytes);
        self.file
            .write_all(bytes)
            .await
            .map_err(|cause| self.failed(cause))?;
        Ok(taken)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.check.is_complete()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.check.bytes()
    }

    /// Brings it to the disk and reads it back.
    pub(super) async fn finish(mut self, server: &str) -> Result<Whole, SnapshotError> {
        self.file
            .flush()
            .await
            .map_err(|cause| self.failed(cause))?;
        self.file
            .sync_all()
            .await
            .map_err(|cause| self.failed(cause))?;
        let path = self.path.clone();
        let digest = self.hasher.finalize().to_hex().to_string();
        let check = std::mem::take(&mut self.check);
        let arrived = check.finish().map_err(|cause| SnapshotError::Unsound {
            server: server.to_owned(),
            cause,
        })?;
        // From here on `Whole` removes the file when something fails.
        let whole = Whole {
            path: path.clone(),
            summary: arrived,
            digest,
        };
        self.path = PathBuf::new();
        let (summary, digest) = read_back(path.clone()).await?;
        if (&summary, &digest) != (&whole.summary, &whole.digest) {
            return Err(SnapshotError::Damaged {
                path,
                what: "it reads back as something else".to_owned(),
            });
        }
        Ok(whole)
    }

    fn failed(&self, cause: io::Error) -> SnapshotError {
        SnapshotError::Write {
            path: self.path.clone(),
            cause,
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        remove_quietly(&self.path);
    }
}

impl Whole {
    /// Gives it its name, and then the record that makes it a snapshot.
    pub(super) fn keep(mut self, record: &SnapshotRecord) -> Result<(), SnapshotError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |cause| SnapshotError::Write { path, cause }
        };
        fs::rename(&self.path, &record.path).map_err(failed(&record.path))?;
        self.path.clone_from(&record.path);
        let json = record.path.with_extension("json");
        write_atomically(&json, &to_json(record)).map_err(failed(&json))?;
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        remove_quietly(&self.path);
    }
}

/// What [`Partial`] and [`Whole`] leave behind when they become something else.
fn remove_quietly(path: &Path) {
    if !path.as_os_str().is_empty() {
        let _ = fs::remove_file(path); // What cannot be removed has a partial name, and is removed at the next start.
    }
}

/// Removes what an earlier process did not finish.
pub(super) fn sweep(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unnamed = name.starts_with('.') && name.ends_with(PARTIAL);
        let without_record = name.ends_with(".rdb") && !path.with_extension("json").exists();
        if unnamed || without_record {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Every record in a directory, oldest first.
pub(super) fn records(directory: &Path) -> Result<Vec<SnapshotRecord>, SnapshotError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |cause| SnapshotError::Read { path, cause }
    };
    let mut records = Vec::new();
    if !directory.exists() {
        return Ok(records); // Nothing was ever taken.
    }
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        let is_record = path
            .extension()
            .is_some_and(|extension| extension == "json")
            && path.with_extension("rdb").exists();
        if is_record {
            let text = fs::read(&path).map_err(failed(&path))?;
            let damaged = |cause: serde_json::Error| SnapshotError::Damaged {
                path: path.clone(),
                what: cause.to_string(),
            };
            let record: SnapshotRecord = serde_json::from_slice(&text).map_err(damaged)?;
            // The directory may have been moved since.
            records.push(SnapshotRecord {
                path: path.with_extension("rdb"),
                ..record
            });
        }
    }
    records.sort_by(|a, b| (a.taken_at_unix_ms, &a.id).cmp(&(b.taken_at_unix_ms, &b.id)));
    Ok(records)
}

/// Reads a file from start to end: is it sound, and what is its digest?
pub(super) async fn read_back(path: PathBuf) -> Result<(FileSummary, String), SnapshotError> {
    let reading = tokio::task::spawn_blocking(move || read_whole(&path));
    match reading.await {
        Ok(read) => read,
        Err(cause) => Err(SnapshotError::Read {
            path: PathBuf::new(),
            cause: io::Error::other(cause),
        }),
    }
}

fn read_whole(path: &Path) -> Result<(FileSummary, String), SnapshotError> {
    let failed = |cause| SnapshotError::Read {
        path: path.to_owned(),
        cause,
    };
    let damaged = |cause: RdbError| SnapshotError::damaged(path, cause.into());
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut buffer = vec![0; READ_BYTES];
    let (mut check, mut hasher) = (StreamingCheck::new(), blake3::Hasher::new());
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(failed(cause)),
        };
        hasher.update(read);
        let taken = check.push(read).map_err(damaged)?;
        if taken < read.len() {
            return Err(damaged(RdbError::Trailing {
                at: check.bytes(),
                count: (read.len() - taken) as u64,
            }));
        }
    }
    let summary = check.finish().map_err(damaged)?;
    Ok((summary, hasher.finalize().to_hex().to_string()))
}

/// Writes a small file so that it is there whole or not at all, whatever happens.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let partial = directory.join(format!(".{name}{PARTIAL}"));
    let written = (|| {
        let mut file = fs::File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        fs::File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        remove_quietly(&partial);
    }
    written
}

fn to_json(record: &SnapshotRecord) -> Vec<u8> {
    // A struct of texts and numbers always has a JSON form.
    serde_json::to_vec_pretty(record).unwrap_or_default()
}
