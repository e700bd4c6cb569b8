//! What can go wrong in the lab itself, as opposed to what it finds.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::version::Version;

/// A fault of the lab or its environment. What the lab *finds* is a `Finding`, never an error.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The server's binary is not there. Tests that can do without it skip, and say why.
    #[error("{version} is not installed in {tools}: run 'make tools'", tools = .looked_in.display())]
    NotInstalled {
        /// The version asked for.
        version: Version,
        /// The tools folder that lacks it.
        looked_in: PathBuf,
    },
    /// No such version name.
    #[error("unknown version '{0}': known are {known}", known = Version::names())]
    UnknownVersion(String),
    /// The process could not be started.
    #[error("start {program}", program = .program.display())]
    Spawn {
        /// The binary.
        program: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The process ended while it was expected to serve.
    #[error("{version} ended ({status}); the end of its log:\n{log_tail}")]
    Ended {
        /// Which server.
        version: Version,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The last lines of its log.
        log_tail: String,
    },
    /// The server runs and does not answer PING.
    #[error("{version} does not answer after {waited:?}; the end of its log:\n{log_tail}")]
    NotReady {
        /// Which server.
        version: Version,
        /// How long it was given.
        waited: Duration,
        /// The last lines of its log.
        log_tail: String,
    },
    /// A file, a process signal or a socket of the lab failed.
    #[error("{doing}")]
    Io {
        /// What was being done, as a verb phrase.
        doing: String,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// A server answered something that the lab cannot go on with.
    #[error("{doing}: {answer}")]
    Answer {
        /// What was being done, as a verb phrase.
        doing: String,
        /// What came back.
        answer: String,
    },
}

impl LabError {
    /// Says what was being done when `cause` happened.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> LabError {
        let doing = doing.into();
        move |cause| LabError::Io { doing, cause }
    }
}
