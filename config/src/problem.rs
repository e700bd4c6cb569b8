//! What is wrong with a file: where, what, and what to write instead.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, as `pools[0].shards[1].primary`. Empty for the file as a whole.
    pub path: String,
    /// The line of the file, from 1; 0 when it belongs to no line.
    pub line: usize,
    /// What is wrong, without any secret.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(out, "{}", self.path)?;
        }
        match (self.path.is_empty(), self.line) {
            (true, 0) => {}
            (true, line) => write!(out, "line {line}: ")?,
            (false, 0) => out.write_str(": ")?,
            (false, line) => write!(out, " (line {line}): ")?,
        }
        write!(out, "{}; {}", self.what, self.remedy)
    }
}

/// Everything that is wrong with a file, in the order of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter();
        if let Some(first) = rest.next() {
            write!(out, "{first}")?;
        }
        rest.try_for_each(|problem| write!(out, "\n{problem}"))
    }
}

impl std::error::Error for Problems {}

/// Why a file gave no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be read.
    #[error("read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// It was read and is wrong.
    #[error("{} is not a valid configuration:\n{problems}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All that is wrong with it.
        problems: Problems,
    },
}
