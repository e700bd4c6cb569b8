//! Which server each shard is on, as the last upgrade left it: `data_dir/routes.json`.
//!
//! The overlay beats the YAML: a SWITCH is only acknowledged once its route is durable, so a proxy that is killed in the
//! next instant comes back on the new server, and one that is killed after PREPARE comes back held. How that is made
//! durable: `file`.

mod file;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use self::file::OverlayFile;

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

/// Why the overlay cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The system refused a step; what was there is still what is read.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn entry(shard: &str, epoch: u64, backend: &str) -> Entry {
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
    fn a_server_that_comes_back_is_no_longer_retired() {
        let once = Overlay::default().with(entry("s1", 1, "redis://b:2"), "redis://a:1");
        assert_eq!(once.entry("p", "s1").unwrap().retired, ["redis://a:1"]);
        let back = once.with(entry("s1", 2, "redis://a:1"), "redis://b:2");
        assert_eq!(back.entries().len(), 1);
        assert_eq!(back.entry("p", "s1").unwrap().retired, ["redis://b:2"]);
    }
}
