//! A server for tests of recipes: it obeys at once, and remembers what it was asked.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use understudy_control::snapshot::Level;

use super::{Facts, Said, Server};

/// A server that remembers what it was asked.
#[derive(Debug, Default)]
pub struct Quiet(Mutex<Vec<String>>);

impl Quiet {
    /// What it was asked, in order: `quiesce app`, `hold`, `lift`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, asked: String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(asked);
    }
}

impl Server for Quiet {
    fn quiesce(&self, level: Level) -> Said<'_, Facts> {
        self.note(format!("quiesce {level}"));
        Box::pin(async {
            Ok(Facts {
                offset: Some(42),
                keys: Some(7),
                run_id: Some("abc".to_owned()),
                version: Some("6.2.14".to_owned()),
            })
        })
    }

    fn hold(&self, _most: Duration) -> Said<'_, ()> {
        self.note("hold".to_owned());
        Box::pin(async { Ok(()) })
    }

    fn lift(&self) -> Said<'_, ()> {
        self.note("lift".to_owned());
        Box::pin(async { Ok(()) })
    }
}
