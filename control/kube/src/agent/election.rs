//! Who of the sidecars acts: one Lease, kept by whoever holds it, watched by all others.
//!
//! ```text
//!  look ─► decide ─► create | take | renew (only if unchanged) ─► acts until 2/3 of the duration after it ASKED
//!    ▲                                                              │ no answer: asks again; nothing is done past that time
//!    └───────────────────── every third of that ────────────────────┘ another holder: stops at once
//! ```
//!
//! - Every write names the resourceVersion that it was decided on: of two that take a Lease, one does.
//! - A write whose answer is lost may have happened or not: the Lease is read again before anything is decided.
//! - The end is by our own clock, from before the question. Nobody takes a Lease before its whole duration has passed since
//!   its last change, so between the two nobody acts.
//!
//! What is left: whoever deletes or edits the Lease by hand makes a second holder, for as long as it takes the first one
//! to write: every write is preceded by a renewal ([`Election::confirm`]), which then fails.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use understudy_control::snapshot::{ProviderError, ProviderErrorKind};

use super::failpoint::{Failpoint, Step};
use super::lease::{self, Act, Lease, Seen, believed_until, decide};
use crate::cluster::{Api, CallError, CallKind, Cluster, Place};

/// Tries to write a run, or a renewal before a write, when somebody else changed the Lease but not its holder. Default: 3.
const TRIES: u32 = 3;

/// How a Lease is called, and how long it lasts.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are, without blanks; another start of the same Pod is somebody else.
    pub me: String,
    /// How long it is kept without a sign of life.
    pub duration: Duration,
}

/// What everybody else of this process may know.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// We act until then.
    until: Option<Instant>,
    /// Who holds it, as last seen.
    holder: Option<String>,
    /// Why it could not be asked, last.
    trouble: Option<String>,
}

/// Our part in agreeing on who acts.
pub struct Election {
    cluster: Arc<dyn Cluster>,
    api: Api,
    settings: LeaseSettings,
    /// What was last read. Locked while the API server is asked, so that our own writes do not collide.
    seen: Mutex<Seen>,
    standing: watch::Sender<Standing>,
    ended: watch::Sender<bool>,
    pub(super) failpoint: Failpoint,
}

impl std::fmt::Debug for Election {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settings = &self.settings;
        write!(out, "Election({}/{})", settings.namespace, settings.name)
    }
}

impl Election {
    /// Takes no part before [`Election::run`].
    pub fn new(cluster: Arc<dyn Cluster>, settings: LeaseSettings) -> Self {
        let api = Api::v1("coordination.k8s.io", "Lease", "leases");
        Self {
            cluster,
            api,
            settings,
            seen: Mutex::default(),
            standing: watch::Sender::new(Standing::default()),
            ended: watch::Sender::new(false),
            failpoint: Failpoint::from_environment(),
        }
    }

    /// Takes part until [`Election::end`].
    pub async fn run(&self) {
        let mut ended = self.ended.subscribe();
        while !*ended.borrow() {
            let wait = {
                let mut seen = self.seen.lock().await;
                self.round(&mut seen).await;
                self.rest(&seen)
            };
            tokio::select! {
                () = sleep(wait) => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
        }
    }

    /// Stops acting at once, and gives the Lease up so that nobody has to wait for its end.
    pub async fn end(&self) {
        self.ended.send_replace(true);
        self.standing.send_modify(|standing| standing.until = None);
        let mut seen = self.seen.lock().await;
        let ours = seen.lease.take().filter(|it| it.is_of(&self.settings.me));
        let Some(ours) = ours else { return };
        match self.patch(&lease::given_up(&ours)).await {
            Ok(_) => tracing::info!(lease = self.settings.name, "gave the Lease up"),
            Err(cause) => {
                tracing::warn!(lease = self.settings.name, %cause, "give the Lease up; it ends by itself");
            }
        }
    }

    /// Whether we act now; if not, who does.
    pub fn leads(&self) -> Result<(), ProviderError> {
        match self.acts_until() {
            Some(_) => Ok(()),
            None => Err(self.not_leader()),
        }
    }

    fn acts_until(&self) -> Option<Instant> {
        let until = self.standing.borrow().until;
        until.filter(|until| Instant::now() < *until)
    }

    /// What is said in place of acting.
    pub fn not_leader(&self) -> ProviderError {
        let LeaseSettings {
            namespace,
            name,
            me,
            ..
        } = &self.settings;
        let standing = self.standing.borrow().clone();
        let holder = standing.holder.filter(|holder| holder != me);
        let text = match (&holder, &standing.trouble) {
            (_, Some(trouble)) => {
                format!(
                    "Lease {namespace}/{name} cannot be held: {trouble}; look at the API server, or at our rights"
                )
            }
            (Some(holder), None) => {
                format!("{holder} holds Lease {namespace}/{name}; ask it")
            }
            (None, None) => format!("nobody holds Lease {namespace}/{name} yet; ask again"),
        };
        // A word on the wire: it ends at the first blank.
        let holder = holder.map_or("-".to_owned(), |holder| holder.replace(' ', "_"));
        ProviderError::new(ProviderErrorKind::NotLeader { holder }, text)
    }

    /// Returns when we no longer act. Cancel safe.
    pub async fn lost(&self) {
        let mut told = self.standing.subscribe();
        loop {
            let until = told.borrow_and_update().until;
            let Some(until) = until.filter(|until| Instant::now() < *until) else {
                return;
            };
            tokio::select! {
                () = sleep_until(until) => {}
                changed = told.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Writes a run into the Lease, if that is still ours. Only then may anything be begun for it. True when the run had
    /// been begun under this Lease before.
    pub async fn fence(&self, run: &str) -> Result<bool, ProviderError> {
        self.failpoint.begun(Step::Fence);
        let before = self.prove(Some(run)).await?;
        self.failpoint.applied(Step::Fence);
        Ok(before.runs.iter().any(|it| it == run))
    }

    /// Proves to the API server that the Lease is still ours: right before each write.
    pub async fn confirm(&self) -> Result<(), ProviderError> {
        self.prove(None).await.map(|_| ())
    }

    /// A renewal, with or without a run. Answers with the Lease from before it.
    async fn prove(&self, run: Option<&str>) -> Result<Lease, ProviderError> {
        let mut seen = self.seen.lock().await;
        for _ in 0..TRIES {
            self.leads()?;
            let ours = seen.lease.clone().filter(|it| it.is_of(&self.settings.me));
            let Some(ours) = ours else {
                // A renewal of ours was not answered. What holds is read, and then renewed once more.
                if let Err(cause) = self.look(&mut seen).await {
                    self.trouble(&cause);
                    return Err(self.not_leader());
                }
                if !seen
                    .lease
                    .as_ref()
                    .is_some_and(|it| it.is_of(&self.settings.me))
                {
                    return Err(self.not_leader());
                }
                continue;
            };
            match self.keep(&mut seen, &ours, run).await {
                Ok(()) => return Ok(ours),
                Err(cause) => self.trouble(&cause),
            }
        }
        Err(self.not_leader())
    }

    /// One look and one write at most.
    async fn round(&self, seen: &mut Seen) {
        let done = self.step(seen).await;
        if let Err(cause) = done {
            self.trouble(&cause);
        }
    }

    async fn step(&self, seen: &mut Seen) -> Result<(), CallError> {
        let LeaseSettings {
            namespace,
            name,
            me,
            duration,
        } = &self.settings;
        if !seen.lease.as_ref().is_some_and(|it| it.is_of(me)) {
            self.look(seen).await?;
        }
        let asked = Instant::now();
        match (decide(seen, me, *duration, asked), seen.lease.clone()) {
            (Act::Renew, Some(ours)) => self.keep(seen, &ours, None).await,
            (Act::Take, Some(free)) => {
                self.failpoint.begun(Step::Lease);
                let change = lease::taken(&free, me, *duration);
                let answer = self.patch(&change).await;
                self.failpoint.applied(Step::Lease);
                self.written(seen, asked, answer).await
            }
            (Act::Create, _) => {
                self.failpoint.begun(Step::Lease);
                let object = lease::new(namespace, name, me, *duration);
                let call = self.cluster.create(&self.api, Some(namespace), &object);
                let answer = self.timely(call).await;
                self.failpoint.applied(Step::Lease);
                self.written(seen, asked, answer).await
            }
            (Act::Wait(_) | Act::Renew | Act::Take, _) => Ok(()),
        }
    }

    async fn keep(
        &self,
        seen: &mut Seen,
        ours: &Lease,
        run: Option<&str>,
    ) -> Result<(), CallError> {
        let asked = Instant::now();
        let change = lease::kept(ours, &self.settings.me, self.settings.duration, run);
        let answer = self.patch(&change).await;
        self.written(seen, asked, answer).await
    }

    /// What came of a write that was asked for at `asked`.
    async fn written(
        &self,
        seen: &mut Seen,
        asked: Instant,
        answer: Result<Value, CallError>,
    ) -> Result<(), CallError> {
        match answer {
            Ok(object) => {
                seen.saw(Some(Lease::of(&object)), Instant::now());
                self.holds(asked);
                Ok(())
            }
            Err(cause) => {
                // Whatever happened, what we knew of it may be old.
                seen.lease = None;
                if matches!(cause.kind, CallKind::Conflict | CallKind::NotFound) {
                    self.look(seen).await?;
                }
                Err(cause)
            }
        }
    }

    /// Reads the Lease. One that is not ours ends our acting at once.
    async fn look(&self, seen: &mut Seen) -> Result<(), CallError> {
        let at = Place {
            api: &self.api,
            namespace: Some(&self.settings.namespace),
            name: &self.settings.name,
        };
        let found = match self.timely(self.cluster.get(at)).await {
            Ok(object) => Some(Lease::of(&object)),
            Err(cause) if cause.kind == CallKind::NotFound => None,
            Err(cause) => return Err(cause),
        };
        let holder = found.as_ref().and_then(|lease| lease.holder.clone());
        seen.saw(found, Instant::now());
        let ours = holder.as_deref() == Some(&*self.settings.me);
        let led = self.acts_until().is_some();
        self.standing.send_modify(|standing| {
            standing.until = standing.until.filter(|_| ours);
            standing.holder.clone_from(&holder);
            standing.trouble = None;
        });
        if led && !ours {
            let holder = holder.as_deref().unwrap_or("nobody");
            tracing::warn!(
                lease = self.settings.name,
                holder,
                "the Lease is no longer ours"
            );
        }
        Ok(())
    }

    /// The API server says that the Lease is ours.
    fn holds(&self, asked: Instant) {
        if *self.ended.borrow() {
            return;
        }
        let led = self.acts_until().is_some();
        self.standing.send_modify(|standing| {
            standing.until = Some(believed_until(asked, self.settings.duration));
            standing.holder = Some(self.settings.me.clone());
            standing.trouble = None;
        });
        if !led {
            tracing::info!(
                lease = self.settings.name,
                "holds the Lease: snapshots of its pool are taken here"
            );
        }
    }

    /// Says once what is wrong.
    fn trouble(&self, cause: &CallError) {
        if cause.kind == CallKind::Conflict {
            return; // Somebody else was quicker; who, was just read.
        }
        let new = self.standing.borrow().trouble.as_ref() != Some(&cause.text);
        let text = cause.text.clone();
        self.standing
            .send_modify(|standing| standing.trouble = Some(text));
        if new {
            tracing::warn!(lease = self.settings.name, %cause, "ask for the Lease");
        }
    }

    /// Until the next round: a fifth of the duration, less where the Lease ends sooner.
    fn rest(&self, seen: &Seen) -> Duration {
        let often = self.settings.duration / 5;
        let LeaseSettings { me, duration, .. } = &self.settings;
        match decide(seen, me, *duration, Instant::now()) {
            Act::Wait(left) => often.min(left),
            Act::Renew | Act::Create | Act::Take => often,
        }
    }

    async fn patch(&self, change: &Value) -> Result<Value, CallError> {
        let at = Place {
            api: &self.api,
            namespace: Some(&self.settings.namespace),
            name: &self.settings.name,
        };
        self.timely(self.cluster.patch(at, change)).await
    }

    /// A call that says nothing for a fifth of the duration is as good as lost: there must be time for others.
    async fn timely<T>(
        &self,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let most = self.settings.duration / 5;
        match timeout(most, call).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::new(
                CallKind::Unreachable,
                format!("no answer within {} ms", most.as_millis()),
            )),
        }
    }
}
