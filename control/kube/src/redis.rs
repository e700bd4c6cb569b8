//! The Redis server behind a volume, over the network.

use std::path::Path;
use std::time::Duration;

use understudy_control::snapshot::{Level, Quiesce, quiesce};
use understudy_net::{Client, Endpoint};

use crate::engine::{Facts, Said, Server, ServerError};

/// Longest wait for a connection or an answer. Default: 5 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a save or a sync. Default: 15 min.
const PATIENCE: Duration = Duration::from_secs(900);

/// A server that is reached by its endpoint.
pub(crate) struct RedisServer<'s> {
    /// How it is dialed.
    pub endpoint: &'s Endpoint,
    /// How it is called, without login.
    pub name: &'s str,
    /// The run.
    pub run: &'s str,
    /// Where is written down what has to be put back on it.
    pub notes: &'s Path,
    /// Is told what it waits for.
    pub progress: &'s (dyn Fn(String) + Send + Sync),
}

impl RedisServer<'_> {
    async fn say(&self, words: &[&str]) -> Result<(), ServerError> {
        let failed =
            |cause: &dyn std::fmt::Display| ServerError(format!("{}: {cause}", words.join(" ")));
        let mut client = Client::connect(self.endpoint, CALL_TIMEOUT)
            .await
            .map_err(|cause| failed(&cause))?;
        let answer = client.call(words).await.map_err(|cause| failed(&cause))?;
        answer.into_ok().map(|_| ()).map_err(|cause| failed(&cause))
    }
}

impl Server for RedisServer<'_> {
    fn quiesce(&self, level: Level) -> Said<'_, Facts> {
        Box::pin(async move {
            let what = Quiesce {
                endpoint: self.endpoint,
                server: self.name,
                run: self.run,
                level,
                notes: self.notes,
                patience: PATIENCE,
            };
            let seen = quiesce(what, self.progress)
                .await
                .map_err(|cause| ServerError(cause.text))?;
            Ok(Facts {
                offset: Some(seen.offset),
                keys: Some(seen.keys),
                run_id: Some(seen.run_id),
                version: Some(seen.version),
            })
        })
    }

    fn hold(&self, most: Duration) -> Said<'_, ()> {
        Box::pin(async move {
            let millis = most.as_millis().to_string();
            self.say(&["CLIENT", "PAUSE", &millis, "WRITE"]).await
        })
    }

    fn lift(&self) -> Said<'_, ()> {
        Box::pin(self.say_unpause())
    }
}

impl RedisServer<'_> {
    async fn say_unpause(&self) -> Result<(), ServerError> {
        self.say(&["CLIENT", "UNPAUSE"]).await
    }
}
