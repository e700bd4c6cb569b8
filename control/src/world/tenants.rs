//! Proxies that run in Pods and have gone silent: the API server is asked, and those whose Pods are gone are forgotten.
//!
//! The same way out of the set as `UPGRADE FORGET`, with the same refusals: never while a lease runs, nor during an attempt
//! before its commit. Whether a Pod says enough is `whereabouts::judge`'s to know.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::World;
use crate::journal::{FORMAT, ProxyRecord, now_ms};
use crate::proxies::{InTheWay, Key, Refused, Tenant};
use crate::whereabouts::{self, Fate, Verdict};

/// Most Pods that are asked for at once. Further ones wait for the next look. Default: 32.
const ASKED_MAX: usize = 32;

/// Longest wait for proxies to register with a control that was just started. Those that are not heard by then are named.
const REGISTERING_MAX: Duration = Duration::from_secs(10);

/// Between two looks at whether they have.
const REGISTERING_LOOK: Duration = Duration::from_millis(100);

/// What became of the question about one proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// It is forgotten.
    Forgotten,
    /// It was heard meanwhile, or left, or is another one now.
    Changed,
    /// It will be forgotten: what keeps it until then.
    Soon(String),
    /// It stays: what is known of it, and what a person can do.
    Stays(String),
}

impl World {
    /// As `ready`, for PLAN, START and before an attempt: proxies that the journal knows get the time to register again
    /// with a control that was just started.
    pub(crate) async fn ready_soon(&self, key: &Key) -> Result<(), InTheWay> {
        let until = Instant::now() + REGISTERING_MAX;
        loop {
            let seen = self.proxies.registry().ready(key, Instant::now());
            let due = seen.is_err_and(|in_the_way| in_the_way.due);
            if !due || Instant::now() >= until {
                return self.ready(key).await;
            }
            tokio::time::sleep(REGISTERING_LOOK).await;
        }
    }

    /// Whether everybody who serves this pool could take part in an attempt, once those are forgotten who are gone.
    pub(crate) async fn ready(&self, key: &Key) -> Result<(), InTheWay> {
        loop {
            let (mut in_the_way, silent) = {
                let (registry, now) = (self.proxies.registry(), Instant::now());
                let Err(in_the_way) = registry.ready(key, now) else {
                    return Ok(());
                };
                let mut tenants = registry.tenants(Some(&key.0), now).into_iter();
                let silent = tenants.find(|it| in_the_way.silent.as_ref() == Some(&it.id));
                (in_the_way, silent)
            };
            let Some(tenant) = silent else {
                return Err(in_the_way);
            };
            match self.look_after(&tenant).await {
                Looked::Forgotten | Looked::Changed => {}
                Looked::Soon(text) => {
                    in_the_way.passing = true;
                    return Err(in_the_way.saying(&text));
                }
                Looked::Stays(text) => return Err(in_the_way.saying(&text)),
            }
        }
    }

    /// Asks for one proxy's Pod, and forgets the proxy where the rule says so.
    pub(crate) async fn look_after(&self, tenant: &Tenant) -> Looked {
        let pod = &tenant.home.pod;
        let Some(whereabouts) = &self.whereabouts else {
            return Looked::Stays(format!(
                "it ran in Pod {pod}, and control asks no API server: it has neither `kubernetes` in its config nor a token of its Pod"
            ));
        };
        let fate = whereabouts::ask(&**whereabouts, pod).await;
        if matches!(fate, Fate::Runs(_) | Fate::Ending(_)) && !tenant.home.seen {
            self.keep_seen(tenant).await;
        }
        let why = match whereabouts::judge(pod, tenant.lapsed, tenant.home.seen, &fate) {
            Verdict::Stays(text) => return Looked::Stays(text),
            Verdict::Soon(text) => return Looked::Soon(text),
            Verdict::Forget(why) => why,
        };
        let forgotten = (self.proxies.registry()).forget_tenant(tenant, Instant::now());
        match forgotten {
            Ok(()) => {}
            Err(Refused::Unknown(_)) => return Looked::Changed,
            Err(refused) => {
                return Looked::Soon(format!("{why}; it is forgotten later: {refused}"));
            }
        }
        tracing::warn!(
            id = tenant.id,
            address = tenant.address,
            why,
            "a proxy is forgotten by itself: its lease has lapsed and its Pod is gone. Should its process live on, cut off: it \
             serves nobody of a shard that was armed, a fenced server refuses its writes, and its reads once that has no link"
        );
        if let Err(error) = self.journal.drop_proxy(&tenant.id).await {
            tracing::warn!(id = tenant.id, %error, "the journal still knows a proxy that was forgotten");
        }
        Looked::Forgotten
    }

    async fn keep_seen(&self, tenant: &Tenant) {
        let news = self.proxies.registry().seen_at_home(tenant);
        let Some((address, pools)) = news else {
            return;
        };
        let record = ProxyRecord {
            v: FORMAT,
            id: tenant.id.clone(),
            address,
            pools: pools.into_iter().collect(),
            pod: Some(tenant.home.pod.clone()),
            pod_seen: true,
            registered_at_ms: now_ms(),
        };
        if let Err(error) = self.journal.keep_proxy(record).await {
            // It is asked for again after a restart.
            tracing::debug!(id = tenant.id, %error, "keep that a proxy's Pod was seen");
        }
    }

    /// Asks for the Pods of those that are silent, and of those that were never seen, in turns. `last` is where the turn is.
    pub(crate) async fn look_after_tenants(self: &Arc<Self>, last: &mut String) {
        let mut tenants = self.proxies.registry().tenants(None, Instant::now());
        tenants.retain(|it| it.lapsed || !it.home.seen);
        let next = tenants.partition_point(|it| it.id <= *last);
        tenants.rotate_left(next);
        tenants.truncate(ASKED_MAX);
        if let Some(asked) = tenants.last() {
            last.clone_from(&asked.id);
        }
        let mut asking = JoinSet::new();
        for tenant in tenants {
            let world = self.clone();
            asking.spawn(async move { world.look_after(&tenant).await });
        }
        let _all = asking.join_all().await;
    }

    /// A sentence for PLAN where the Pods of proxies cannot be seen.
    pub(crate) async fn unseen_pods(self: &Arc<Self>, pool: &str) -> Option<String> {
        let tenants = self.proxies.registry().tenants(Some(pool), Instant::now());
        let first = tenants.first()?.home.pod.clone();
        let blind = |why: String| {
            format!(
                "control cannot see the Pods of its proxies, such as {first}: {why}; one that is killed without SIGTERM stays in \
                 the way until UPGRADE FORGET"
            )
        };
        let Some(whereabouts) = self.whereabouts.clone() else {
            return Some(blind(
                "there is neither `kubernetes` in its config nor a token of its Pod".to_owned(),
            ));
        };
        let mut asking = JoinSet::new();
        // One for each namespace: that is what rights are given for.
        let mut asked = std::collections::BTreeSet::new();
        for tenant in tenants {
            if asked.insert(tenant.home.pod.namespace.clone()) && asking.len() < ASKED_MAX {
                let whereabouts = whereabouts.clone();
                asking.spawn(async move {
                    let pod = tenant.home.pod;
                    (whereabouts::ask(&*whereabouts, &pod).await, pod)
                });
            }
        }
        let mut unknown =
            asking
                .join_all()
                .await
                .into_iter()
                .filter_map(|(fate, pod)| match fate {
                    Fate::Unknown(why) => Some(format!("{pod} {why}")),
                    Fate::Runs(_) | Fate::Ending(_) | Fate::Gone(_) => None,
                });
        unknown.next().map(blind)
    }
}
