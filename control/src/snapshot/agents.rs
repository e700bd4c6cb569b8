//! Snapshots taken by sidecars: they stand beside the servers and may ask the cluster, control may not.
//!
//! ```text
//!  control ── SNAPSHOT TAKE wish ──► sidecar 1   -NOTLEADER sidecar 2
//!          ── SNAPSHOT TAKE wish ──► sidecar 2   running … running … lost
//!          ── SNAPSHOT TAKE wish ──► sidecar 3   (has the Lease now, finds the run, goes on)   done: handle
//! ```
//!
//! - The one that leads does it; who that is, is found by asking. The one that answered last is asked first.
//! - A sidecar that is lost in the middle costs nothing but time: the same wish, with the same run, goes to the next one.
//! - What a sidecar says of the snapshot is final here. That nobody leads or answers is not: it is asked again for a while.
//! - Nothing is said in clear text to another machine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use understudy_config::{BackendUrl, Scheme};
use understudy_net::{Client, Endpoint, Value};

use super::provider::{
    Answer, Preflight, Progress, ProviderError, ProviderErrorKind, Release, RestoreTo,
    SnapshotHandle, SnapshotProvider, SnapshotWish, Verified,
};
use super::verbs::{JobState, error_from};

/// Longest wait for a connection to a sidecar. Default: 2 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for one answer; a check reads afresh from the cluster. Default: 60 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at what goes on, and between two rounds of asking who leads. Default: 500 ms.
const LOOK: Duration = Duration::from_millis(500);
/// Nobody leads, or nobody answers, for so long: four Leases of 15 s. Default: 60 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the sidecars are, with the login and the TLS for them, as it is true now.
pub type Sidecars = Arc<dyn Fn() -> Vec<BackendUrl> + Send + Sync>;

/// The sidecars of a pool as one provider.
pub struct AgentSnapshots {
    sidecars: Sidecars,
    patience: Duration,
    look: Duration,
    /// The address that answered last.
    leader: Mutex<Option<String>>,
}

impl std::fmt::Debug for AgentSnapshots {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("AgentSnapshots").finish_non_exhaustive()
    }
}

impl AgentSnapshots {
    /// Asks these sidecars.
    pub fn new(sidecars: Sidecars) -> AgentSnapshots {
        AgentSnapshots {
            sidecars,
            patience: PATIENCE,
            look: LOOK,
            leader: Mutex::new(None),
        }
    }

    /// How long nobody may lead or answer, and how often is looked. Defaults: 60 s, 500 ms.
    #[must_use]
    pub fn with_patience(self, patience: Duration, look: Duration) -> AgentSnapshots {
        AgentSnapshots {
            patience,
            look,
            ..self
        }
    }

    fn leader(&self) -> Option<String> {
        self.leader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn answered(&self, address: Option<String>) {
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// The sidecars, the one that answered last first.
    fn in_order(&self) -> Vec<BackendUrl> {
        let mut sidecars = (self.sidecars)();
        let leader = self.leader();
        sidecars.sort_by_key(|sidecar| leader.as_deref() != Some(&sidecar.address()));
        sidecars
    }

    /// Asks until one that leads has answered.
    async fn ask(&self, words: &[String], progress: Progress<'_>) -> Result<Value, ProviderError> {
        let deadline = Instant::now() + self.patience;
        loop {
            let error = match self.ask_each(words).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let may_pass = matches!(
                error.kind,
                ProviderErrorKind::NotLeader { .. } | ProviderErrorKind::Unreachable
            );
            if !may_pass {
                return Err(error);
            }
            if Instant::now() >= deadline {
                let text = format!(
                    "{error}; for {} s; see that the sidecars run and that one holds the Lease",
                    self.patience.as_secs()
                );
                return Err(ProviderError::new(error.kind, text));
            }
            progress(error.text);
            tokio::time::sleep(self.look).await;
        }
    }

    /// One round. What it ends with says more than what came before it: that nobody leads, rather than that one is away.
    async fn ask_each(&self, words: &[String]) -> Result<Value, ProviderError> {
        let mut last = ProviderError::new(
            ProviderErrorKind::Unreachable,
            "no sidecar is known; name them under control.proxies, or let them register",
        );
        for sidecar in self.in_order() {
            let address = sidecar.address();
            match call(&sidecar, words).await {
                Ok(answer) => {
                    self.answered(Some(address));
                    return Ok(answer);
                }
                Err(error) => {
                    let named = format!("sidecar {address}: {}", error.text);
                    match error.kind {
                        ProviderErrorKind::NotLeader { .. } => {
                            last = ProviderError::new(error.kind, named);
                        }
                        ProviderErrorKind::Unreachable
                            if matches!(last.kind, ProviderErrorKind::Unreachable) =>
                        {
                            last = ProviderError::new(error.kind, named);
                        }
                        ProviderErrorKind::Unreachable => {}
                        ProviderErrorKind::NotReady
                        | ProviderErrorKind::Failed
                        | ProviderErrorKind::Denied
                        | ProviderErrorKind::Misconfigured => {
                            self.answered(Some(address));
                            return Err(ProviderError::new(error.kind, named));
                        }
                    }
                }
            }
        }
        self.answered(None);
        Err(last)
    }

    async fn ask_for<T: DeserializeOwned>(&self, words: &[String]) -> Result<T, ProviderError> {
        read(&self.ask(words, &|_| ()).await?)
    }

    /// Says the same again and again, until it is done.
    async fn until_done<T: DeserializeOwned>(
        &self,
        words: &[String],
        progress: Progress<'_>,
    ) -> Result<T, ProviderError> {
        loop {
            match read::<JobState>(&self.ask(words, progress).await?)? {
                JobState::Running { progress: now } => progress(now),
                JobState::Done { answer } => {
                    return serde_json::from_value(answer).map_err(|error| nonsense(&error));
                }
            }
            tokio::time::sleep(self.look).await;
        }
    }
}

impl SnapshotProvider for AgentSnapshots {
    fn recipes(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async {
            // Every sidecar knows them, and an operator waits for the answer: one round, and whoever answers.
            read(&self.ask_each(&words(&["RECIPES"])).await?)
        })
    }

    fn preflight<'a>(&'a self, wish: &'a SnapshotWish) -> Answer<'a, Preflight> {
        Box::pin(async move { self.ask_for(&words(&["PREFLIGHT", &json(wish)?])).await })
    }

    fn take<'a>(
        &'a self,
        wish: &'a SnapshotWish,
        progress: Progress<'a>,
    ) -> Answer<'a, SnapshotHandle> {
        Box::pin(async move {
            let words = words(&["TAKE", &json(wish)?]);
            self.until_done(&words, progress).await
        })
    }

    fn check<'a>(&'a self, handle: &'a SnapshotHandle) -> Answer<'a, ()> {
        Box::pin(async move {
            let words = words(&["CHECK", &json(handle)?]);
            self.ask(&words, &|_| ()).await.map(drop)
        })
    }

    fn release<'a>(&'a self, handle: &'a SnapshotHandle, why: Release) -> Answer<'a, ()> {
        Box::pin(async move {
            let words = words(&["RELEASE", &json(handle)?, &why.to_string()]);
            self.ask(&words, &|_| ()).await.map(drop)
        })
    }

    fn list(&self) -> Answer<'_, Vec<SnapshotHandle>> {
        Box::pin(async { self.ask_for(&words(&["LIST"])).await })
    }

    fn show<'a>(&'a self, id: &'a str) -> Answer<'a, Vec<(String, String)>> {
        Box::pin(async move { self.ask_for(&words(&["SHOW", id])).await })
    }

    fn restore<'a>(
        &'a self,
        id: &'a str,
        to: &'a RestoreTo,
        progress: Progress<'a>,
    ) -> Answer<'a, Vec<(String, String)>> {
        Box::pin(async move {
            let words = words(&["RESTORE", id, &to.to_string()]);
            self.until_done(&words, progress).await
        })
    }

    fn verify<'a>(&'a self, id: &'a str, progress: Progress<'a>) -> Answer<'a, Verified> {
        Box::pin(async move { self.until_done(&words(&["VERIFY", id]), progress).await })
    }

    fn delete<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.ask(&words(&["DELETE", id]), &|_| ()).await.map(drop) })
    }
}

async fn call(sidecar: &BackendUrl, words: &[String]) -> Result<Value, ProviderError> {
    if sidecar.scheme == Scheme::Redis && !sidecar.is_loopback() {
        return Err(ProviderError::misconfigured(
            "it would be asked in clear text over a network: give it admin.tls, and control.proxy_tls here",
        ));
    }
    let unreachable = |error: &dyn std::error::Error| {
        ProviderError::new(
            ProviderErrorKind::Unreachable,
            crate::world::one_line(error),
        )
    };
    let endpoint = Endpoint::from(sidecar);
    let connecting = Client::connect(&endpoint, CONNECT_TIMEOUT);
    let mut client = connecting.await.map_err(|error| unreachable(&error))?;
    client.set_timeout(ANSWER_TIMEOUT);
    let answer = client.call(words).await;
    let answer = answer.map_err(|error| unreachable(&error))?;
    match answer.as_error() {
        Some(text) => Err(error_from(text)),
        None => Ok(answer),
    }
}

fn words(verb: &[&str]) -> Vec<String> {
    let words = std::iter::once("SNAPSHOT").chain(verb.iter().copied());
    words.map(str::to_owned).collect()
}

fn json(value: &impl Serialize) -> Result<String, ProviderError> {
    serde_json::to_string(value).map_err(|error| nonsense(&error))
}

fn read<T: DeserializeOwned>(answer: &Value) -> Result<T, ProviderError> {
    let text = answer.as_str_lossy().unwrap_or_default();
    serde_json::from_str(&text).map_err(|error| nonsense(&error))
}

fn nonsense(error: &serde_json::Error) -> ProviderError {
    ProviderError::misconfigured(format!(
        "a sidecar answers something else than SNAPSHOT of this version: {error}; upgrade it"
    ))
}
