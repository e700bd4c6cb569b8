//! The ways to a `Config`: a file, a text, a nutcracker.yml.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::model::Config;
use crate::node;
use crate::nutcracker;
use crate::problem::{LoadError, Problems};
use crate::read;
use crate::sources::Sources;

/// Longest file that is read. Default: 4 MiB, which is some 30,000 shards; a longer one is refused.
const FILE_MAX: u64 = 4 << 20;

impl Config {
    /// Reads a file, ours or a nutcracker.yml: which it is, its shape tells.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let read = |cause| LoadError::Read {
            path: path.to_owned(),
            cause,
        };
        let mut yaml = String::new();
        File::open(path)
            .and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut yaml))
            .map_err(read)?;
        if yaml.len() as u64 > FILE_MAX {
            return Err(read(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "longer than 4 MiB",
            )));
        }
        let base = path.parent().unwrap_or(Path::new(""));
        let mut config = Self::parse(&yaml, base).map_err(|problems| LoadError::Invalid {
            path: path.to_owned(),
            problems,
        })?;
        config.file = Some(path.to_owned());
        Ok(config)
    }

    /// Reads a text, ours or a nutcracker.yml. `base` is the folder that paths of secrets and certificates are relative to.
    pub fn parse(yaml: &str, base: &Path) -> Result<Self, Problems> {
        let environment = |name: &str| env::var(name).ok();
        Self::parse_with(
            yaml,
            Sources {
                base,
                environment: &environment,
            },
        )
    }

    pub(crate) fn parse_with(yaml: &str, sources: Sources<'_>) -> Result<Self, Problems> {
        let root = node::read(yaml).map_err(|problem| Problems(vec![problem]))?;
        if nutcracker::is_nutcracker(&root) {
            nutcracker::config(&root)
        } else {
            read::config(&root, sources)
        }
    }
}

#[cfg(test)]
mod tests;
