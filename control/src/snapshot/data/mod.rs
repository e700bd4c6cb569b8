//! Reads the files of a server's directory from start to end, as a restored volume holds them: are they what a server would load?
//!
//! ```text
//!   dump.rdb                                     every section, the checksum
//!   appendonlydir/*.manifest ─► base, increments    an RDB or commands; then commands
//!   appendonly.aof                               before Redis 7: commands, often behind an RDB
//! ```
//!
//! - Nothing is executed and nothing is written. Memory stays at some hundred kilobytes, whatever the files hold.
//! - What a server would load without a word is sound; the torn end of the last append-only file is told, as a server does.
//!   Everything else that a server would stop at is damage, with file and place.
//! - Which of RDB and append-only file a server loads is a setting that no file tells: both must be sound.

mod find;
mod manifest;
mod part;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::find::{Appended, Found};
use self::manifest::Entry;
use self::part::{Part, Tail};

/// Longest text of one line of an answer. A name of a file can be as long as it likes.
const LINE_MAX: usize = 400;
/// Most lines, and names of files, that are tried to fit into a short answer.
const LINES_MAX: usize = 32;

/// Why the files cannot be read, or are not what a server would load.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("read {path}: {cause}")]
    Read {
        path: String,
        #[source]
        cause: io::Error,
    },
    #[error("{path}: {cause}")]
    Rdb {
        path: String,
        #[source]
        cause: understudy_rdb::RdbError,
    },
    #[error("{path}: no command at byte {at}: {what}")]
    Command { path: String, at: u64, what: String },
    #[error(
        "{path}: it ends in the middle of a command, which begins at byte {at}, and it is not the last file: no server loads that"
    )]
    Torn { path: String, at: u64 },
    #[error("{path}: line {line}: {what}")]
    Manifest {
        path: String,
        line: usize,
        what: String,
    },
    #[error("{0}")]
    Nothing(String),
}

/// Whether RDBs carried the checksum of their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    /// There is none: the server was told to write none, or there is no RDB.
    #[default]
    Absent,
    /// Each one that is there is right.
    Right,
    /// One is not that of its bytes.
    Wrong,
}

/// What the files of a server's directory hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataRead {
    /// Whether a server would load it.
    pub sound: bool,
    /// What is wrong, where it is not sound.
    pub damage: Option<String>,
    /// Keys in the RDB that a server would begin with; what the commands behind it make of them is not counted.
    pub keys: u64,
    /// Commands behind it that change data.
    pub commands: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// The files that were read, from the directory on.
    pub files: Vec<String>,
    /// Whether the RDBs have their checksum.
    pub checksum: Checksum,
    /// When the RDB was begun, in seconds since 1970, by the server's clock.
    pub saved_at_s: Option<u64>,
    /// For a person: one line a file.
    pub lines: Vec<String>,
}

impl DataRead {
    /// One line of JSON of at most `max` bytes: files and lines are left out at the end where it does not fit.
    #[must_use]
    pub fn to_line(&self, max: usize) -> String {
        let mut short = self.clone();
        for text in short.lines.iter_mut().chain(&mut short.files) {
            cut(text, LINE_MAX);
        }
        if let Some(damage) = &mut short.damage {
            cut(damage, LINE_MAX);
        }
        short.files.truncate(LINES_MAX);
        short.lines.truncate(LINES_MAX);
        loop {
            // A struct of texts and numbers always has a JSON form.
            let line = serde_json::to_string(&short).unwrap_or_default();
            // Names first: the lines have them too.
            if line.len() <= max || (short.files.pop().is_none() && short.lines.pop().is_none()) {
                return line;
            }
        }
    }
}

/// Cuts a text at a character's end.
fn cut(text: &mut String, max: usize) {
    if text.len() <= max {
        return;
    }
    let end = (0..=max).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text.push('…');
}

/// Reads a server's directory, or the only one below it that holds data. `rdb` is the RDB's name where it is not `dump.rdb`.
#[must_use]
pub fn read_data(directory: &Path, rdb: Option<&str>) -> DataRead {
    let mut read = DataRead::default();
    match read_into(directory, rdb, &mut read) {
        Ok(()) => read.sound = true,
        Err(damage) => {
            if let Damage::Rdb {
                cause: understudy_rdb::RdbError::Checksum { .. },
                ..
            } = &damage
            {
                read.checksum = Checksum::Wrong;
            }
            // Names of files may hold anything: one line is one line.
            read.damage = Some(damage.to_string().replace(['\r', '\n'], " "));
        }
    }
    read
}

fn read_into(directory: &Path, rdb: Option<&str>, read: &mut DataRead) -> Result<(), Damage> {
    let found = find::find(directory, rdb)?;
    let name = |path: &Path| named(directory, path);
    let mut base = None;
    if let Some(path) = &found.rdb {
        let part = part::read(path, &name(path), Tail::Forbidden)?;
        base = Some(read.took(part));
    }
    let (keys, commands) = appended(&found, &name, read)?;
    read.commands = commands;
    // Where both are there a server loads the append-only file, if it was told to keep one at all. An empty one is a leftover.
    let rdb_keys = base.unwrap_or_default();
    read.keys = match (keys, commands) {
        (0, 0) => rdb_keys,
        _ => keys,
    };
    if found.rdb.is_some() && found.appended.is_some() {
        read.lines.push(format!(
            "there are both an RDB ({rdb_keys} keys) and an append-only file ({keys} keys, {commands} commands behind them); appendonly says which one a server loads"
        ));
    }
    for path in &found.ignored {
        read.lines
            .push(format!("{}: not read: no server loads it", name(path)));
    }
    Ok(())
}

/// Reads the append-only files: keys of their base, commands behind it.
fn appended(
    found: &Found,
    name: &impl Fn(&Path) -> String,
    read: &mut DataRead,
) -> Result<(u64, u64), Damage> {
    let mut sum = (0, 0);
    let files: Vec<PathBuf> = match &found.appended {
        None => Vec::new(),
        Some(Appended::Single(path)) => vec![path.clone()],
        Some(Appended::Parts(path)) => {
            let home = path.parent().unwrap_or(Path::new("."));
            let entries = manifest::read(path, &name(path))?;
            read.files.push(name(path));
            let file = |entry: &Entry| home.join(&entry.file);
            entries.iter().map(file).collect()
        }
    };
    let last = files.len().saturating_sub(1);
    for (at, path) in files.iter().enumerate() {
        let tail = match at == last {
            true => Tail::MayBeTorn,
            false => Tail::Whole,
        };
        let part = part::read(path, &name(path), tail)?;
        sum.1 += part.commands;
        sum.0 += read.took(part);
    }
    Ok(sum)
}

impl DataRead {
    /// Takes a file in; answers how many keys its RDB has.
    fn took(&mut self, part: Part) -> u64 {
        self.bytes += part.bytes;
        let summary = part.rdb.as_ref();
        if let Some(summary) = summary {
            if summary.checksum.is_some() {
                self.checksum = Checksum::Right;
            }
            let saved = summary.aux_field("ctime").and_then(|it| it.parse().ok());
            self.saved_at_s = saved.or(self.saved_at_s);
        }
        let keys = summary.map_or(0, |it| it.keys);
        self.lines.push(part.line());
        self.files.push(part.name);
        keys
    }
}

/// A path as a person knows it: from the directory on.
fn named(directory: &Path, path: &Path) -> String {
    let short = path.strip_prefix(directory).unwrap_or(path);
    short.display().to_string()
}

#[cfg(test)]
mod tests;
