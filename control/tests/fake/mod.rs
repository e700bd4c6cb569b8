//! A provider of the recipe `fake` that does what a test tells it, and remembers what it was asked for.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use understudy_control::snapshot::{
    Answer, Preflight, PreflightProblem, Progress, ProviderError, ProviderErrorKind, Release,
    RestoreTo, SnapshotHandle, SnapshotProvider, SnapshotWish, Verified,
};

#[derive(Default)]
struct State {
    taken: Vec<String>,
    checked: Vec<String>,
    released: Vec<String>,
    take_error: Option<ProviderError>,
    check_error: Option<ProviderError>,
    problem: Option<PreflightProblem>,
}

/// The provider.
pub(crate) struct Fake {
    state: Mutex<State>,
    taking: watch::Sender<usize>,
    blocked: watch::Sender<bool>,
}

pub(crate) fn failed(text: &str) -> ProviderError {
    ProviderError::failed(text)
}

pub(crate) fn unreachable(text: &str) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Unreachable, text)
}

pub(crate) fn not_leader(holder: &str) -> ProviderError {
    let holder = holder.to_owned();
    ProviderError::new(ProviderErrorKind::NotLeader { holder }, "leads")
}

impl Fake {
    pub(crate) fn new() -> Arc<Fake> {
        Arc::new(Fake {
            state: Mutex::default(),
            taking: watch::Sender::new(0),
            blocked: watch::Sender::new(false),
        })
    }

    /// Every `take` that was begun: its run and server.
    pub(crate) fn taken(&self) -> Vec<String> {
        self.state.lock().unwrap().taken.clone()
    }

    /// How many checks were answered with yes.
    pub(crate) fn checks(&self) -> usize {
        self.state.lock().unwrap().checked.len()
    }

    /// The servers whose snapshots were checked, in order.
    pub(crate) fn checked(&self) -> Vec<String> {
        self.state.lock().unwrap().checked.clone()
    }

    /// What was released: `<server> <why> <id or nothing>`.
    pub(crate) fn released(&self) -> Vec<String> {
        self.state.lock().unwrap().released.clone()
    }

    pub(crate) fn answer_takes(&self, error: Option<ProviderError>) {
        self.state.lock().unwrap().take_error = error;
    }

    pub(crate) fn answer_checks(&self, error: Option<ProviderError>) {
        self.state.lock().unwrap().check_error = error;
    }

    pub(crate) fn has_problem(&self, problem: Option<PreflightProblem>) {
        self.state.lock().unwrap().problem = problem;
    }

    /// From now on a take goes on until it is unblocked.
    pub(crate) fn block_takes(&self, is: bool) {
        self.blocked.send_replace(is);
    }

    /// Until some take has begun.
    pub(crate) async fn until_taking(&self) {
        let mut taking = self.taking.subscribe();
        taking.wait_for(|count| *count > 0).await.unwrap();
    }
}

fn now_ms() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

impl SnapshotProvider for Fake {
    fn recipes(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async { Ok(vec!["fake".to_owned()]) })
    }

    fn preflight<'a>(&'a self, _wish: &'a SnapshotWish) -> Answer<'a, Preflight> {
        Box::pin(async {
            let problem = self.state.lock().unwrap().problem.clone();
            Ok(Preflight {
                problems: problem.into_iter().collect(),
                notes: vec!["level crash is reached".to_owned()],
            })
        })
    }

    fn take<'a>(
        &'a self,
        wish: &'a SnapshotWish,
        progress: Progress<'a>,
    ) -> Answer<'a, SnapshotHandle> {
        Box::pin(async move {
            let error = {
                let mut state = self.state.lock().unwrap();
                state.taken.push(format!("{} {}", wish.run, wish.server));
                state.take_error.clone()
            };
            self.taking.send_modify(|count| *count += 1);
            progress("waits for ready".to_owned());
            self.blocked.subscribe().wait_for(|is| !is).await.unwrap();
            match error {
                Some(error) => Err(error),
                None => Ok(SnapshotHandle {
                    id: format!("id-{}", wish.run),
                    taken_at_ms: now_ms(),
                    level_reached: "crash".to_owned(),
                    ..SnapshotHandle::of_run(wish)
                }),
            }
        })
    }

    fn check<'a>(&'a self, handle: &'a SnapshotHandle) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut state = self.state.lock().unwrap();
            match state.check_error.clone() {
                Some(error) => Err(error),
                None => {
                    state.checked.push(handle.server.clone());
                    Ok(())
                }
            }
        })
    }

    fn release<'a>(&'a self, handle: &'a SnapshotHandle, why: Release) -> Answer<'a, ()> {
        Box::pin(async move {
            let line = format!("{} {why} {}", handle.server, handle.id);
            self.state.lock().unwrap().released.push(line);
            Ok(())
        })
    }

    fn list(&self) -> Answer<'_, Vec<SnapshotHandle>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn show<'a>(&'a self, id: &'a str) -> Answer<'a, Vec<(String, String)>> {
        Box::pin(async move { Err(ProviderError::misconfigured(format!("no {id}"))) })
    }

    fn restore<'a>(
        &'a self,
        id: &'a str,
        _to: &'a RestoreTo,
        _progress: Progress<'a>,
    ) -> Answer<'a, Vec<(String, String)>> {
        Box::pin(async move { Err(ProviderError::misconfigured(format!("no {id}"))) })
    }

    fn verify<'a>(&'a self, id: &'a str, _progress: Progress<'a>) -> Answer<'a, Verified> {
        Box::pin(async move { Err(ProviderError::misconfigured(format!("no {id}"))) })
    }

    fn delete<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { Err(ProviderError::misconfigured(format!("no {id}"))) })
    }
}
