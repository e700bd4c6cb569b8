//! Waits for the answer of the Job that reads a scratch claim.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use understudy_config::VerifyJob;
use understudy_control::snapshot::{DataRead, ProviderError, ProviderErrorKind};

use super::judge::{Look, look, warnings};
use super::{Scratch, api};
use crate::cluster::{Api, CallError, CallKind};
use crate::engine::drive::{Engine, elapsed};
use crate::engine::refuse::call_failed;
use crate::engine::run::age;

/// Between two looks at the Job, should nobody tell of a change: the Pod says more than the Job does. Default: 5 s.
const LOOK: Duration = Duration::from_secs(5);
/// How long a container may fail to start before it counts. Default: 3 min.
const STUCK_FOR: Duration = Duration::from_secs(180);

impl Engine<'_> {
    /// Waits for the Job's answer.
    pub(super) async fn jobs_answer(
        &self,
        wanted: &VerifyJob,
        scratch: &Scratch<'_>,
        pods: &Api,
        made: &Value,
    ) -> Result<DataRead, ProviderError> {
        let what = scratch.job.text();
        let namespace = scratch.job.namespace.as_deref();
        let labels = BTreeMap::from([("job-name".to_owned(), scratch.job.name.clone())]);
        let begun = Instant::now();
        let (mut told, mut stuck) = (String::new(), None);
        let mut seen = false;
        loop {
            let looked = async {
                let job = match self.cluster.get(scratch.job.place()).await {
                    Err(cause) if cause.kind == CallKind::NotFound => None,
                    other => Some(other?),
                };
                let pods = self.cluster.list(pods, namespace, &labels).await?;
                Ok::<_, CallError>((job, pods))
            };
            let mut version = String::new();
            let now = match looked.await {
                Ok((Some(job), pods)) => {
                    seen = true;
                    let known = job["metadata"]["resourceVersion"].as_str();
                    version = known.unwrap_or_default().to_owned();
                    look(&job, &pods)
                }
                Ok((None, _)) if seen => {
                    return Err(ProviderError::new(
                        ProviderErrorKind::NotReady,
                        format!(
                            "{what}: somebody deleted it after {}; perhaps another verify of the same snapshot: run this one again when that has ended",
                            age(elapsed(begun))
                        ),
                    ));
                }
                // Whether it was made is not known: it is made now.
                Ok((None, _)) => {
                    let again = self.cluster.create(&scratch.job.api, namespace, made).await;
                    match again {
                        Err(cause) if !cause.is_passing() && cause.kind != CallKind::Conflict => {
                            return Err(call_failed(&what, &cause));
                        }
                        _ => Look::Runs("it is being made".to_owned()),
                    }
                }
                Err(cause) if cause.is_passing() => {
                    Look::Runs(format!("the API server: {}", cause.text))
                }
                Err(cause) => return Err(call_failed(&what, &cause)),
            };
            let (waits, is_stuck) = match now {
                Look::Answered(read) => return Ok(*read),
                Look::Broken(text) => {
                    return Err(ProviderError::new(
                        ProviderErrorKind::NotReady,
                        format!(
                            "{what}: {text}{}, after {}; it says nothing about the snapshot: put right what it names, then run verify again",
                            self.also(scratch).await,
                            age(elapsed(begun))
                        ),
                    ));
                }
                Look::Runs(text) => (text, false),
                Look::Stuck(text) => (text, true),
            };
            stuck = if is_stuck {
                stuck.or_else(|| Some(Instant::now()))
            } else {
                None
            };
            if stuck.is_some_and(|since| since.elapsed() >= STUCK_FOR) {
                return Err(ProviderError::misconfigured(format!(
                    "{what}: {waits}{}, for {}; look at kubernetes.verify (image, pull_secrets), then run verify again",
                    self.also(scratch).await,
                    age(elapsed(begun))
                )));
            }
            let left = wanted.deadline.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(ProviderError::new(
                    ProviderErrorKind::NotReady,
                    format!(
                        "{what}: no answer after {}: {waits}{}; it says nothing about the snapshot: put right what it waits for or give it more time (kubernetes.verify.deadline), then run verify again",
                        age(elapsed(begun)),
                        self.also(scratch).await
                    ),
                ));
            }
            if waits != told {
                (self.progress)(format!("{what}: {waits}"));
                told = waits;
            }
            let most = LOOK.min(left);
            if version.is_empty() {
                tokio::time::sleep(most).await;
            } else {
                self.cluster
                    .changed(scratch.job.place(), &version, most, most)
                    .await;
            }
        }
    }

    /// What events say of it, where we may read them.
    async fn also(&self, scratch: &Scratch<'_>) -> String {
        let events = api("", "Event", "events");
        let namespace = scratch.job.namespace.as_deref();
        let any = BTreeMap::new();
        let all = self.cluster.list(&events, namespace, &any).await;
        let told = warnings(&all.unwrap_or_default(), &scratch.job.name);
        told.iter().map(|it| format!("; {it}")).collect()
    }
}
