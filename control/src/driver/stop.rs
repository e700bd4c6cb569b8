//! How a driver is stopped, and why it stops by itself.

use std::time::Duration;

use super::Driver;
use crate::journal::JournalError;
use crate::world::ServerFailure;

/// Between two tries of something that has to succeed.
pub(super) const RETRY: Duration = Duration::from_millis(500);

/// What the operator, or the end of the process, wants of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Go on.
    Go,
    /// Abort, if that is still possible.
    Abort,
    /// Control ends: leave everything as it is; recovery goes on from there.
    Stop,
}

/// Why a phase did not end well.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The operator said ABORT.
    #[error("aborted by the operator")]
    Aborted,
    /// Control ends.
    #[error("control was stopped")]
    Stopped,
    /// It cannot go on.
    #[error("{0}")]
    Failed(String),
    /// It may go better another time.
    #[error("{0}")]
    Passing(String),
    /// A server did not answer, or its connection broke in the middle of what it was told. The approach is patient with
    /// that; inside a hold it is a failure as any other.
    #[error("{0}")]
    Silent(String),
}

impl Failure {
    /// Where nobody is patient: clients are held.
    pub(super) fn without_patience(self) -> Failure {
        match self {
            Failure::Silent(why) => Failure::Failed(why),
            other => other,
        }
    }
}

impl From<crate::proxies::InTheWay> for Failure {
    fn from(in_the_way: crate::proxies::InTheWay) -> Failure {
        match in_the_way.passing {
            true => Failure::Passing(in_the_way.to_string()),
            false => Failure::Failed(in_the_way.to_string()),
        }
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Failure {
        Failure::Failed(error.to_string())
    }
}

impl From<ServerFailure> for Failure {
    fn from(error: ServerFailure) -> Failure {
        match error.silent {
            true => Failure::Silent(error.to_string()),
            false => Failure::Failed(error.to_string()),
        }
    }
}

impl Driver {
    /// Whether to go on, asked between two steps.
    pub(super) fn go_on(&self) -> Result<(), Failure> {
        match *self.wish.borrow() {
            Wish::Go => Ok(()),
            Wish::Abort => Err(Failure::Aborted),
            Wish::Stop => Err(Failure::Stopped),
        }
    }

    /// Waits, unless the operator wants something else. Cancel safe.
    pub(super) async fn pause(&mut self, time: Duration) -> Result<(), Failure> {
        let mut wish = self.wish.clone();
        tokio::select! {
            () = tokio::time::sleep(time) => self.go_on(),
            _ = wish.wait_for(|wish| *wish != Wish::Go) => self.go_on(),
        }
    }

    /// Waits after the commit: only the end of control ends it. Cancel safe.
    pub(super) async fn pause_after_commit(&mut self, time: Duration) -> Result<(), Failure> {
        let mut wish = self.wish.clone();
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            _ = wish.wait_for(|wish| *wish == Wish::Stop) => Err(Failure::Stopped),
        }
    }

    /// Runs something that only reads, and drops it when the operator wants something else.
    pub(super) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let mut wish = self.wish.clone();
        tokio::select! {
            done = work => Ok(done),
            _ = wish.wait_for(|wish| *wish != Wish::Go) => {
                self.go_on()?;
                Err(Failure::Stopped)
            }
        }
    }
}
