//! Brings a local snapshot out of its directory, as a file that a server can start from.
//!
//! Nothing is ever written over: the file gets its name by a link, which fails where there is one of that name already. It
//! gets it only when what was written is, byte for byte, what was taken.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::SnapshotError;
use super::record::SnapshotRecord;

/// How a server calls its RDB unless it is told otherwise.
const FILE_NAME: &str = "dump.rdb";
/// How much is copied at once.
const COPY_BYTES: usize = 256 * 1024;

/// Copies the RDB of `record` to `to`: into it as `dump.rdb` where that is a directory, else under that name.
pub(super) async fn restore(record: SnapshotRecord, to: PathBuf) -> Result<PathBuf, SnapshotError> {
    let copying = tokio::task::spawn_blocking(move || copy(&record, &to));
    match copying.await {
        Ok(copied) => copied,
        Err(cause) => Err(SnapshotError::Read {
            path: PathBuf::new(),
            cause: io::Error::other(cause),
        }),
    }
}

fn copy(record: &SnapshotRecord, to: &Path) -> Result<PathBuf, SnapshotError> {
    let path = match to.is_dir() {
        true => to.join(FILE_NAME),
        false => to.to_owned(),
    };
    let failed = |cause| SnapshotError::Write {
        path: path.clone(),
        cause,
    };
    if path.exists() {
        let exists = "there is a file of that name, and nothing is written over; name another path";
        return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, exists)));
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let partial = directory.join(format!(".{}.{}.partial", record.id, std::process::id()));
    let copied = copy_checked(record, &partial).and_then(|()| {
        let linked = fs::hard_link(&partial, &path);
        linked
            .and_then(|()| fs::File::open(&directory)?.sync_all())
            .map_err(failed)
    });
    let _gone_or_partial = fs::remove_file(&partial); // Its name means nothing to a server.
    copied.map(|()| path)
}

fn copy_checked(record: &SnapshotRecord, partial: &Path) -> Result<(), SnapshotError> {
    let unread = |cause| SnapshotError::Read {
        path: record.path.clone(),
        cause,
    };
    let unwritten = |cause| SnapshotError::Write {
        path: partial.to_owned(),
        cause,
    };
    let mut from = fs::File::open(&record.path).map_err(unread)?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut into = options.open(partial).map_err(unwritten)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(unread(cause)),
        };
        hasher.update(read);
        into.write_all(read).map_err(unwritten)?;
    }
    into.sync_all().map_err(unwritten)?;
    if hasher.finalize().to_hex().as_str() != record.digest {
        return Err(SnapshotError::Damaged {
            path: record.path.clone(),
            what: "it is not the file that was taken".to_owned(),
        });
    }
    Ok(())
}
