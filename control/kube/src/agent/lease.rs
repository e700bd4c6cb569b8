//! A Lease as a value, and what one look at it means: `decide`. Pure.
//!
//! The rule: nobody's clock is compared with anybody else's. A Lease has ended for us when it did not change for its whole
//! duration, by our own clock, since we first saw it as it is. The holder stops a third of the duration earlier.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The annotation that says which runs were begun under a Lease, the last one first.
pub const ANNOTATION_RUN: &str = "understudy.io/run";

/// Most runs that the annotation names. At the limit the oldest is dropped: its object is found by label all the same.
const RUNS_MAX: usize = 16;

/// A Lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// Its resourceVersion: what a write must find unchanged.
    pub(super) version: String,
    /// Who holds it; nobody does after a release.
    pub(super) holder: Option<String>,
    /// How long it lasts from its last change; none when it does not say.
    pub(super) duration: Option<Duration>,
    /// How often it changed hands.
    pub(super) transitions: u64,
    /// The runs that were begun under it, the last one first.
    pub(super) runs: Vec<String>,
}

impl Lease {
    /// Reads an object of the API.
    pub(super) fn of(object: &Value) -> Self {
        let spec = &object["spec"];
        let holder = spec["holderIdentity"].as_str().unwrap_or_default();
        let seconds = spec["leaseDurationSeconds"].as_u64();
        let runs = object["metadata"]["annotations"][ANNOTATION_RUN].as_str();
        let runs = runs.unwrap_or_default().split(',').map(str::trim);
        Self {
            version: object["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            holder: (!holder.is_empty()).then(|| holder.to_owned()),
            duration: seconds.filter(|it| *it > 0).map(Duration::from_secs),
            transitions: spec["leaseTransitions"].as_u64().unwrap_or_default(),
            runs: runs
                .filter(|run| !run.is_empty())
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Whether it is this one's.
    pub(super) fn is_of(&self, me: &str) -> bool {
        self.holder.as_deref() == Some(me)
    }
}

/// What was last read of a Lease, and since when it has been so.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The Lease; none before the first look, and while there is none.
    pub(super) lease: Option<Lease>,
    /// When it was first seen as it is, by our own clock.
    pub(super) since: Option<Instant>,
}

impl Seen {
    /// Takes a look into account.
    pub(super) fn saw(&mut self, lease: Option<Lease>, now: Instant) {
        let same = match (&self.lease, &lease) {
            (Some(old), Some(new)) => old.version == new.version,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same || self.since.is_none() {
            self.since = Some(now);
        }
        self.lease = lease;
    }
}

/// What to do about a Lease now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// There is none: make it.
    Create,
    /// Nobody holds it any more: take it, if it is still as it was seen.
    Take,
    /// It is ours: keep it.
    Renew,
    /// Somebody else's, for so long at most unless it changes.
    Wait(Duration),
}

/// What a look means for `me`; a Lease that names no duration lasts `default`.
pub(super) fn decide(seen: &Seen, me: &str, default: Duration, now: Instant) -> Act {
    let Some(lease) = &seen.lease else {
        return Act::Create;
    };
    match &lease.holder {
        None => Act::Take,
        Some(holder) if holder == me => Act::Renew,
        Some(_) => {
            let lasts = lease.duration.unwrap_or(default);
            let age = seen
                .since
                .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            match lasts.saturating_sub(age) {
                Duration::ZERO => Act::Take,
                left => Act::Wait(left),
            }
        }
    }
}

/// Until when a holder may act that asked for the Lease at `asked` and got it.
pub(super) fn believed_until(asked: Instant, duration: Duration) -> Instant {
    asked + duration * 2 / 3
}

/// Whole seconds, as a Lease has them; never less than what was meant.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn now() -> String {
    // Six digits: the API server refuses any other number of them.
    format!("{:.6}", Timestamp::now())
}

/// A new Lease of `me`.
pub(super) fn new(namespace: &str, name: &str, me: &str, duration: Duration) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "understudy"}},
        "spec": {
            "holderIdentity": me, "leaseDurationSeconds": seconds(duration),
            "acquireTime": now(), "renewTime": now(), "leaseTransitions": 0,
        },
    })
}

/// The change that takes a Lease over, if it is still as it was seen.
pub(super) fn taken(lease: &Lease, me: &str, duration: Duration) -> Value {
    json!({
        "metadata": {"resourceVersion": lease.version},
        "spec": {
            "holderIdentity": me, "leaseDurationSeconds": seconds(duration),
            "acquireTime": now(), "renewTime": now(), "leaseTransitions": lease.transitions + 1,
        },
    })
}

/// The change that keeps a Lease, if it is still as it was seen; with a run, that one is the last that was begun.
pub(super) fn kept(lease: &Lease, me: &str, duration: Duration, run: Option<&str>) -> Value {
    let mut patch = json!({
        "metadata": {"resourceVersion": lease.version},
        "spec": {"holderIdentity": me, "leaseDurationSeconds": seconds(duration), "renewTime": now()},
    });
    if let Some(run) = run {
        let earlier = lease.runs.iter().map(String::as_str);
        let earlier = earlier.filter(|it| *it != run).take(RUNS_MAX - 1);
        let runs: Vec<&str> = std::iter::once(run).chain(earlier).collect();
        patch["metadata"]["annotations"] = json!({ANNOTATION_RUN: runs.join(",")});
    }
    patch
}

/// The change that gives a Lease up.
pub(super) fn given_up(lease: &Lease) -> Value {
    json!({
        "metadata": {"resourceVersion": lease.version},
        "spec": {"holderIdentity": null, "renewTime": now()},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(15);

    fn lease(version: &str, holder: &str) -> Option<Lease> {
        Some(Lease::of(&json!({
            "metadata": {"resourceVersion": version},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 10},
        })))
    }

    #[tokio::test]
    async fn a_lease_is_judged_by_what_it_says_and_by_our_own_clock() {
        let t0 = Instant::now();
        let at = |s: u64| t0 + Duration::from_secs(s);
        let mut seen = Seen::default();
        assert_eq!(decide(&seen, "me", LASTS, t0), Act::Create);
        seen.saw(lease("1", "me"), t0);
        assert_eq!(decide(&seen, "me", LASTS, at(99)), Act::Renew);
        seen.saw(lease("2", ""), at(1));
        assert_eq!(decide(&seen, "me", LASTS, at(1)), Act::Take);
        seen.saw(lease("3", "other"), at(2));
        let left = |s| Act::Wait(Duration::from_secs(s));
        assert_eq!(decide(&seen, "me", LASTS, at(2)), left(10));
        // Seen again as it was: the wait goes on.
        seen.saw(lease("3", "other"), at(8));
        assert_eq!(decide(&seen, "me", LASTS, at(8)), left(4));
        // Renewed: the wait begins anew.
        seen.saw(lease("4", "other"), at(11));
        assert_eq!(decide(&seen, "me", LASTS, at(12)), left(9));
        assert_eq!(decide(&seen, "me", LASTS, at(21)), Act::Take);
        assert_eq!(decide(&seen, "other", LASTS, at(99)), Act::Renew);
    }

    #[tokio::test]
    async fn the_holder_stops_before_anybody_may_take_it() {
        let asked = Instant::now();
        for millis in [3_000_u64, 3_500, 15_000, 600_000] {
            let duration = Duration::from_millis(millis);
            let object = new("ns", "understudy-p", "me", duration);
            let says = Lease::of(&object).duration.unwrap();
            assert!(believed_until(asked, duration) + duration / 4 < asked + says);
        }
    }

    fn named(lease: &Lease, run: &str) -> Vec<String> {
        let patch = kept(lease, "me", LASTS, Some(run));
        Lease::of(&json!({"metadata": patch["metadata"]})).runs
    }

    #[test]
    fn a_run_is_named_once_and_first_and_old_ones_are_dropped() {
        let mut lease = lease("1", "me").unwrap();
        lease.runs = named(&lease, "a");
        lease.runs = named(&lease, "b");
        assert_eq!(named(&lease, "a"), ["a", "b"]);
        for n in 0..99 {
            lease.runs = named(&lease, &format!("r{n}"));
        }
        assert_eq!((lease.runs.len(), &*lease.runs[0]), (RUNS_MAX, "r98"));
        assert!(kept(&lease, "me", LASTS, None)["metadata"]["annotations"].is_null());
    }
}
