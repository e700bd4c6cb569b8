//! `SNAPSHOT …` on an admin port: any provider, for a control that asks from elsewhere, and for a person with redis-cli.
//!
//! ```text
//!  RECIPES · PREFLIGHT wish · CHECK handle · RELEASE handle why · LIST · SHOW id · DELETE id      answered when they are done
//!  TAKE wish · RESTORE id place · VERIFY id        begun by the first call; said again, they tell how far it is
//!  STATUS [run]                                    how far what was begun is; begins nothing
//! ```
//!
//! - What takes minutes runs as a task of this process: a caller that goes away ends nothing, and one that comes back finds it.
//! - Wishes and handles are JSON, as the journal has them. Errors begin with the word of their kind, `-NOTLEADER` with the
//!   holder behind it.
//! - A run that failed here stays failed here. What a restart of this process forgets, the provider finds by the run.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use understudy_net::{AdminHandler, AdminRequest, Value};

use super::provider::{
    ProviderError, ProviderErrorKind, Release, RestoreTo, SnapshotHandle, SnapshotProvider,
    SnapshotWish,
};

/// Most tasks that are kept in mind. At the limit the oldest that has ended is forgotten; if none has, a new one is refused.
const JOBS_MAX: usize = 64;

/// How far a long call is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum JobState {
    /// It goes on.
    Running {
        /// What it waits for.
        progress: String,
    },
    /// It is done.
    Done {
        /// What the call of the provider answered.
        answer: serde_json::Value,
    },
}

type Ended = Result<serde_json::Value, ProviderError>;

/// A long call: what it waits for, and how it ended.
#[derive(Debug, Default)]
struct Job {
    begun: u64,
    progress: String,
    ended: Option<Ended>,
}

type Jobs = Arc<Mutex<BTreeMap<String, Job>>>;

/// Answers `SNAPSHOT …` out of a provider.
pub struct SnapshotVerbs {
    provider: Arc<dyn SnapshotProvider>,
    jobs: Jobs,
}

impl std::fmt::Debug for SnapshotVerbs {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SnapshotVerbs").finish_non_exhaustive()
    }
}

/// The verbs, for HELP and for error texts.
const USAGE: [(&str, &str); 11] = [
    ("RECIPES", "What SNAPSHOT <name> of UPGRADE START may name."),
    (
        "PREFLIGHT wish",
        "Whether a snapshot could be taken; touches nothing.",
    ),
    (
        "TAKE wish",
        "Take the snapshot of a run, or say how far it is.",
    ),
    ("STATUS [run]", "How far what was begun here is."),
    ("CHECK handle", "Whether a snapshot is ready and whole now."),
    (
        "RELEASE handle finalized|abandoned",
        "The upgrade needs it no longer.",
    ),
    ("LIST", "Every snapshot, as JSON."),
    ("SHOW id", "One snapshot."),
    (
        "RESTORE id place",
        "Bring it back to path:… or object:[namespace/]name.",
    ),
    ("VERIFY id", "Read it back whole."),
    ("DELETE id", "Delete it."),
];

impl SnapshotVerbs {
    /// The verbs of this provider.
    pub fn new(provider: Arc<dyn SnapshotProvider>) -> SnapshotVerbs {
        SnapshotVerbs {
            provider,
            jobs: Arc::default(),
        }
    }

    async fn answer(&self, request: &AdminRequest) -> Result<Value, ProviderError> {
        let word = |index: usize| request.text(index).unwrap_or_default();
        let verb = word(0).to_ascii_uppercase();
        let count = request.args.len();
        match (verb.as_str(), count) {
            ("RECIPES", 1) => json(&self.provider.recipes().await?),
            ("PREFLIGHT", 2) => json(&self.provider.preflight(&parse(word(1))?).await?),
            ("CHECK", 2) => {
                self.provider.check(&parse(word(1))?).await?;
                Ok(Value::ok())
            }
            ("RELEASE", 3) => {
                let why = match word(2).to_ascii_lowercase().as_str() {
                    "finalized" => Release::Finalized,
                    "abandoned" => Release::Abandoned,
                    _ => return Err(wrong("RELEASE is finalized or abandoned")),
                };
                let handle: SnapshotHandle = parse(word(1))?;
                self.provider.release(&handle, why).await?;
                self.forget(&take_name(&handle.run));
                Ok(Value::ok())
            }
            ("LIST", 1) => json(&self.provider.list().await?),
            ("SHOW", 2) => json(&self.provider.show(word(1)).await?),
            ("DELETE", 2) => {
                self.provider.delete(word(1)).await?;
                Ok(Value::ok())
            }
            ("TAKE", 2) => self.take(parse(word(1))?),
            ("RESTORE", 3) => self.restore(word(1), word(2)),
            ("VERIFY", 2) => self.verify(word(1)),
            ("STATUS", 1) => Ok(self.all()),
            ("STATUS", 2) => self.status(word(1)),
            ("HELP", 1) => Ok(Value::Array(
                USAGE
                    .iter()
                    .map(|(form, what)| Value::Simple(format!("SNAPSHOT {form} -- {what}")))
                    .collect(),
            )),
            _ => Err(wrong(
                "no such verb of SNAPSHOT, or not so many words: SNAPSHOT HELP",
            )),
        }
    }

    /// The result stays: the same run is never triggered twice here, and one that failed stays failed.
    fn take(&self, wish: SnapshotWish) -> Result<Value, ProviderError> {
        let provider = self.provider.clone();
        let name = take_name(&wish.run);
        if !self.jobs().contains_key(&name) {
            provider.may_begin(&wish)?;
        }
        let found = self.job(&name, move |progress| {
            Box::pin(async move {
                let handle = provider.take(&wish, &*progress).await?;
                as_json(&handle)
            })
        });
        if let Err(error) = &found
            && !matches!(error.kind, ProviderErrorKind::Failed)
        {
            // Not final: the next call begins again, and the provider finds what there is.
            self.forget(&name);
        }
        found
    }

    fn restore(&self, id: &str, place: &str) -> Result<Value, ProviderError> {
        let to: RestoreTo = place.parse().map_err(ProviderError::misconfigured)?;
        let (provider, id) = (self.provider.clone(), id.to_owned());
        self.told_once(&format!("restore {id} {to}"), move |progress| {
            Box::pin(async move { as_json(&provider.restore(&id, &to, &*progress).await?) })
        })
    }

    fn verify(&self, id: &str) -> Result<Value, ProviderError> {
        let (provider, id) = (self.provider.clone(), id.to_owned());
        self.told_once(&format!("verify {id}"), move |progress| {
            Box::pin(async move { as_json(&provider.verify(&id, &*progress).await?) })
        })
    }

    /// A job whose end is told to one caller: the next call is a new one.
    fn told_once(
        &self,
        name: &str,
        work: impl FnOnce(Tell) -> Work,
    ) -> Result<Value, ProviderError> {
        let found = self.job(name, work);
        let has_ended = (self.jobs().get(name)).is_some_and(|job| job.ended.is_some());
        if has_ended {
            self.forget(name);
        }
        found
    }

    /// How far the job is; begins it where there is none.
    fn job(&self, name: &str, work: impl FnOnce(Tell) -> Work) -> Result<Value, ProviderError> {
        let mut jobs = self.jobs();
        if let Some(job) = jobs.get(name) {
            return state(job);
        }
        make_room(&mut jobs)?;
        let begun = jobs.values().map(|job| job.begun).max().unwrap_or(0) + 1;
        let job = Job {
            begun,
            progress: "begun".to_owned(),
            ended: None,
        };
        let answer = state(&job);
        jobs.insert(name.to_owned(), job);
        drop(jobs);
        let update = {
            let (jobs, name) = (self.jobs.clone(), name.to_owned());
            move |change: &dyn Fn(&mut Job)| {
                let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(job) = jobs.get_mut(&name).filter(|job| job.begun == begun) {
                    change(job);
                }
            }
        };
        let tell = {
            let update = update.clone();
            Box::new(move |now: String| update(&|job| job.progress.clone_from(&now)))
        };
        let work = work(tell);
        tokio::spawn(async move {
            let working = tokio::spawn(work);
            let ended = working.await.unwrap_or_else(|_panicked| {
                Err(ProviderError::failed(
                    "the snapshot's task ended in a panic; see the log",
                ))
            });
            update(&|job| job.ended = Some(ended.clone()));
        });
        answer
    }

    fn status(&self, run: &str) -> Result<Value, ProviderError> {
        match self.jobs().get(&take_name(run)) {
            Some(job) => state(job),
            None => Err(ProviderError::misconfigured(format!(
                "run '{run}' was not begun by this process; SNAPSHOT TAKE goes on with it"
            ))),
        }
    }

    fn all(&self) -> Value {
        let lines = self
            .jobs()
            .iter()
            .map(|(name, job)| {
                Value::text(match &job.ended {
                    None => format!("{name}: {}", job.progress),
                    Some(Ok(_)) => format!("{name}: done"),
                    Some(Err(error)) => format!("{name}: {} {error}", error.kind.word()),
                })
            })
            .collect();
        Value::Array(lines)
    }

    fn forget(&self, name: &str) {
        let mut jobs = self.jobs();
        if jobs.get(name).is_some_and(|job| job.ended.is_some()) {
            jobs.remove(name);
        }
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Tell = Box<dyn Fn(String) + Send + Sync>;
type Work = Pin<Box<dyn Future<Output = Ended> + Send>>;

fn take_name(run: &str) -> String {
    format!("take {run}")
}

fn state(job: &Job) -> Result<Value, ProviderError> {
    match &job.ended {
        None => json(&JobState::Running {
            progress: job.progress.clone(),
        }),
        Some(Ok(answer)) => json(&JobState::Done {
            answer: answer.clone(),
        }),
        Some(Err(error)) => Err(error.clone()),
    }
}

fn make_room(jobs: &mut BTreeMap<String, Job>) -> Result<(), ProviderError> {
    if jobs.len() < JOBS_MAX {
        return Ok(());
    }
    let ended = jobs.iter().filter(|(_, job)| job.ended.is_some());
    let oldest = ended.min_by_key(|(_, job)| job.begun);
    let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
        return Err(ProviderError::new(
            ProviderErrorKind::NotReady,
            format!("{JOBS_MAX} snapshots are under way here; try again"),
        ));
    };
    jobs.remove(&oldest);
    Ok(())
}

fn wrong(text: &str) -> ProviderError {
    ProviderError::misconfigured(text)
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ProviderError> {
    let bad =
        |error| ProviderError::misconfigured(format!("read the JSON of the request: {error}"));
    serde_json::from_str(text).map_err(bad)
}

fn as_json(value: &impl Serialize) -> Result<serde_json::Value, ProviderError> {
    let bad = |error| ProviderError::failed(format!("write the answer: {error}"));
    serde_json::to_value(value).map_err(bad)
}

fn json(value: &impl Serialize) -> Result<Value, ProviderError> {
    as_json(value).map(|value| Value::text(value.to_string()))
}

/// An error as it stands on the wire.
fn error(error: &ProviderError) -> Value {
    Value::error(match &error.kind {
        ProviderErrorKind::NotLeader { holder } => format!("NOTLEADER {holder} {error}"),
        other => format!("{} {error}", other.word()),
    })
}

/// An error of the wire as it was at the other side.
pub(super) fn error_from(text: &str) -> ProviderError {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let kinds = [
        ProviderErrorKind::NotReady,
        ProviderErrorKind::Failed,
        ProviderErrorKind::Denied,
        ProviderErrorKind::Unreachable,
        ProviderErrorKind::Misconfigured,
    ];
    if word == "NOTLEADER" {
        let (holder, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let holder = holder.to_owned();
        return ProviderError::new(ProviderErrorKind::NotLeader { holder }, rest);
    }
    match kinds.into_iter().find(|kind| kind.word() == word) {
        Some(kind) => ProviderError::new(kind, rest),
        // No login, no such command, a server that is none of ours.
        None => ProviderError::misconfigured(text),
    }
}

impl AdminHandler for SnapshotVerbs {
    fn call<'a>(
        &'a self,
        request: AdminRequest,
    ) -> Pin<Box<dyn Future<Output = Value> + Send + 'a>> {
        Box::pin(async move {
            let answer = self.answer(&request).await;
            answer.unwrap_or_else(|no| error(&no))
        })
    }

    fn help(&self) -> Vec<(&'static str, &'static str)> {
        USAGE.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_comes_back_as_it_went() {
        let kinds = [
            ProviderErrorKind::NotReady,
            ProviderErrorKind::Failed,
            ProviderErrorKind::Denied,
            ProviderErrorKind::Unreachable,
            ProviderErrorKind::Misconfigured,
            ProviderErrorKind::NotLeader {
                holder: "pod-1".to_owned(),
            },
        ];
        for kind in kinds {
            let there = ProviderError::new(kind, "what it says, in words");
            let Value::Error(wire) = error(&there) else {
                panic!("an error is an error")
            };
            assert_eq!(error_from(&wire), there);
        }
        assert_eq!(
            error_from("NOAUTH Authentication required.").kind,
            ProviderErrorKind::Misconfigured
        );
    }
}
