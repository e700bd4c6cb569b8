//! Which server each shard is on, as the last upgrade left it: `data_dir/routes.json`.
//!
//! The overlay beats the YAML: a SWITCH is only acknowledged once its route is durable here, so a proxy that is killed in
//! the next instant comes back on the new server, and one that is killed after PREPARE comes back held. A file is
//! replaced whole: temporary file, fsync, rename, fsync of the directory. Whoever fails on the way (a full disk) leaves
//! the old file as it was, and the order that needed the write fails with what the system said.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The form of the file that this program writes. Another number is refused: routes must not be guessed.
const FORM: u32 = 1;

/// How many retired servers a shard remembers, newest last; enough to name every server that an old YAML may still have.
const RETIRED_MAX: usize = 16;

/// Everything in `routes.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overlay {
    entries: Vec<Entry>,
}

/// One shard's route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// The pool's name in the configuration.
    pub(crate) pool: String,
    /// The shard's name, its identity on the ring.
    pub(crate) shard: String,
    /// Number of the route; only grows.
    pub(crate) epoch: u64,
    /// The attempt that wrote this entry.
    pub(crate) term: u64,
    /// The server that holds the shard, without a password.
    pub(crate) backend: String,
    /// Whether a restart may admit commands by itself.
    pub(crate) standing: Standing,
    /// Servers that held the shard before, oldest first.
    #[serde(default)]
    pub(crate) retired: Vec<String>,
}

/// What a restarted proxy does with a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Commands go to the backend.
    Open,
    /// The shard starts held and waits for control.
    Prepared,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    form: u32,
    shards: Vec<Entry>,
}

/// Why the overlay cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The system refused a step; nothing that was there has changed.
    #[error("{step} {}: {cause}", path.display())]
    File {
        /// What was being done.
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The file is there and cannot be understood. Starting without it could route to a retired server.
    #[error("{} cannot be understood ({why}); restore it, or remove it if every `primary` in the configuration is current", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Overlay {
    pub(crate) fn entry(&self, pool: &str, shard: &str) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.pool == pool && entry.shard == shard)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// This overlay with one shard's route replaced. The server that the route leaves is remembered as retired.
    pub(crate) fn with(&self, mut entry: Entry, leaving: &str) -> Overlay {
        let mut next = self.clone();
        let place = next
            .entries
            .iter()
            .position(|old| old.pool == entry.pool && old.shard == entry.shard);
        if let Some(old) = place.map(|at| next.entries.remove(at)) {
            entry.retired = old.retired;
        }
        entry
            .retired
            .retain(|url| *url != entry.backend && url != leaving);
        if leaving != entry.backend {
            entry.retired.push(leaving.to_owned());
        }
        let surplus = entry.retired.len().saturating_sub(RETIRED_MAX);
        entry.retired.drain(..surplus);
        next.entries.push(entry);
        next.entries
            .sort_by(|a, b| (&a.pool, &a.shard).cmp(&(&b.pool, &b.shard)));
        next
    }

    /// Reads the file. A file that is not there is an overlay without entries.
    pub(crate) fn load(data_dir: &Path) -> Result<Overlay, OverlayError> {
        let path = file(data_dir);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Overlay::default()),
            Err(cause) => {
                return Err(OverlayError::File {
                    step: "read",
                    path,
                    cause,
                });
            }
        };
        let unreadable = |why: String| OverlayError::Unreadable {
            path: path.clone(),
            why,
        };
        let document: Document =
            serde_json::from_slice(&text).map_err(|cause| unreadable(cause.to_string()))?;
        if document.form != FORM {
            return Err(unreadable(format!(
                "its form is {}, this program reads {FORM}",
                document.form
            )));
        }
        Ok(Overlay {
            entries: document.shards,
        })
    }

    /// Makes this overlay durable. Blocks on the disk: call it off the worker threads.
    pub(crate) fn store(&self, data_dir: &Path) -> Result<(), OverlayError> {
        let path = file(data_dir);
        let temporary = data_dir.join("routes.json.new");
        let document = Document {
            form: FORM,
            shards: self.entries.clone(),
        };
        let mut text = serde_json::to_vec_pretty(&document)
            .map_err(|cause| failed("encode", &path)(io::Error::other(cause)))?;
        text.push(b'\n');
        let written = write_synced(&temporary, &text);
        if let Err(error) = written {
            // Half a file of ours helps nobody; the next write starts over.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        fs::rename(&temporary, &path).map_err(failed("rename onto", &path))?;
        let directory = File::open(data_dir).map_err(failed("open", data_dir))?;
        directory.sync_all().map_err(failed("sync", data_dir))
    }
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("routes.json")
}

fn write_synced(path: &Path, text: &[u8]) -> Result<(), OverlayError> {
    let mut file = File::create(path).map_err(failed("create", path))?;
    file.write_all(text).map_err(failed("write", path))?;
    file.sync_all().map_err(failed("sync", path))
}

fn failed<'a>(step: &'static str, path: &'a Path) -> impl Fn(io::Error) -> OverlayError + 'a {
    move |cause| OverlayError::File {
        step,
        path: path.to_owned(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(shard: &str, epoch: u64, backend: &str) -> Entry {
        Entry {
            pool: "p".into(),
            shard: shard.into(),
            epoch,
            term: 7,
            backend: backend.into(),
            standing: Standing::Prepared,
            retired: Vec::new(),
        }
    }

    #[test]
    fn what_was_stored_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Overlay::load(dir.path()).unwrap(), Overlay::default());
        let overlay = Overlay::default().with(entry("s1", 1, "redis://b:2"), "redis://a:1");
        overlay.store(dir.path()).unwrap();
        assert_eq!(Overlay::load(dir.path()).unwrap(), overlay);
        assert_eq!(overlay.entry("p", "s1").unwrap().retired, ["redis://a:1"]);
    }

    #[test]
    fn a_server_that_comes_back_is_no_longer_retired() {
        let once = Overlay::default().with(entry("s1", 1, "redis://b:2"), "redis://a:1");
        let back = once.with(entry("s1", 2, "redis://a:1"), "redis://b:2");
        assert_eq!(back.entries().len(), 1);
        assert_eq!(back.entry("p", "s1").unwrap().retired, ["redis://b:2"]);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let old = Overlay::default().with(entry("s1", 1, "redis://b:2"), "redis://a:1");
        old.store(dir.path()).unwrap();
        fs::create_dir(dir.path().join("routes.json.new")).unwrap();
        let error = old
            .with(entry("s1", 2, "redis://c:3"), "redis://b:2")
            .store(dir.path())
            .unwrap_err();
        assert!(error.to_string().starts_with("create "), "{error}");
        assert_eq!(Overlay::load(dir.path()).unwrap(), old);
    }

    #[test]
    fn a_file_of_another_form_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for text in [
            "{\"form\":2,\"shards\":[]}",
            "{",
            "{\"form\":1,\"shards\":[],\"more\":1}",
        ] {
            fs::write(file(dir.path()), text).unwrap();
            let error = Overlay::load(dir.path()).unwrap_err();
            assert!(
                matches!(error, OverlayError::Unreadable { .. }),
                "{text}: {error}"
            );
        }
    }
}
