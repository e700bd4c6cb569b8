//! Where a proxy that has gone silent is: what an API server says of the Pod in which it said it runs.
//!
//! ```text
//!   silent for longer than its lease  ∧  its Pod, which was seen on this API server, is gone   ─►  forgotten by itself
//!   anything else                                                                              ─►  told, with the next step
//! ```
//! An answer that does not come, or that we may not have, proves nothing. Neither does a Pod that was never seen here: a
//! proxy of another cluster is unknown to this API server, and lives. Pure but for the question itself.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest wait for one answer. Default: 3 s.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Longest part of a Pod's word. What Kubernetes allows fits.
const PART_MAX: usize = 253;

/// The Pod that a proxy says it runs in: `namespace/name/uid/container`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which of all Pods that ever had this name.
    pub uid: String,
    /// The container in which the proxy runs.
    pub container: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

impl PodName {
    /// Reads `namespace/name/uid/container`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let letter = |letter: char| letter.is_ascii_alphanumeric() || "-.".contains(letter);
        let fits = |part: &&str| {
            (1..=PART_MAX).contains(&part.len())
                && part.chars().all(letter)
                && !part.starts_with('.')
        };
        let [namespace, name, uid, container] = parts.as_slice() else {
            return None;
        };
        parts.iter().all(fits).then(|| Self {
            namespace: (*namespace).to_owned(),
            name: (*name).to_owned(),
            uid: (*uid).to_owned(),
            container: (*container).to_owned(),
        })
    }
}

/// What is known of a Pod. Each text is a sentence's rest: "its Pod shop/web-1 …".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is there, and its container runs or will run again.
    Runs(String),
    /// Its deletion was asked for and has not been carried out.
    Ending(String),
    /// It is not there any more, and never comes back.
    Gone(String),
    /// Nobody can say. Proves nothing.
    Unknown(String),
}

/// Who can say where a Pod is.
pub trait Whereabouts: Send + Sync {
    /// Looks it up afresh. What keeps the answer away is told as [`Fate::Unknown`].
    fn of<'a>(&'a self, pod: &'a PodName) -> Pin<Box<dyn Future<Output = Fate> + Send + 'a>>;
}

/// Asks, and waits no longer than `ANSWER_MAX`.
pub(crate) async fn ask(of: &dyn Whereabouts, pod: &PodName) -> Fate {
    within(ANSWER_MAX, of.of(pod)).await
}

async fn within(limit: Duration, answer: impl Future<Output = Fate>) -> Fate {
    match tokio::time::timeout(limit, answer).await {
        Ok(fate) => fate,
        Err(_) => Fate::Unknown(format!(
            "was asked for, and no answer came within {} ms",
            limit.as_millis()
        )),
    }
}

/// What a proxy's silence comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nobody is there any more: it may be forgotten.
    Forget(String),
    /// Nobody is there any more; its lease still runs.
    Soon(String),
    /// It may live: what is known, and what a person can do.
    Stays(String),
}

/// The rule. `lapsed`: its lease has ended, and a tenth of it more. `seen`: this API server has shown that very Pod before.
pub(crate) fn judge(pod: &PodName, lapsed: bool, seen: bool, fate: &Fate) -> Verdict {
    let (namespace, name) = (&pod.namespace, &pod.name);
    let (what, next) = match fate {
        Fate::Gone(what) if seen && lapsed => {
            return Verdict::Forget(format!("its Pod {pod} {what}"));
        }
        Fate::Gone(what) if seen => {
            return Verdict::Soon(format!(
                "its Pod {pod} {what}: it is forgotten when its lease has ended"
            ));
        }
        Fate::Gone(what) => (
            what,
            "this API server never showed that Pod, which proves nothing: perhaps it is of another cluster".to_owned(),
        ),
        Fate::Ending(what) => (
            what,
            format!(
                "the proxy is forgotten by itself once the Pod is gone; where its node is lost, see that the machine is off, then \
                 kubectl delete pod -n {namespace} {name} --force"
            ),
        ),
        Fate::Runs(what) => (
            what,
            format!(
                "see why the proxy is silent (kubectl logs -n {namespace} {name} -c {}), or delete the Pod: it is forgotten by \
                 itself once that is gone",
                pod.container
            ),
        ),
        Fate::Unknown(what) => (what, "that proves nothing".to_owned()),
    };
    Verdict::Stays(format!("its Pod {pod} {what}; {next}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> PodName {
        PodName::parse("shop/web-1/7d1f-22/proxy").unwrap()
    }

    #[test]
    fn a_pod_has_four_parts_and_nothing_else_in_them() {
        assert_eq!(pod().to_string(), "shop/web-1");
        assert_eq!(
            (pod().uid.as_str(), pod().container.as_str()),
            ("7d1f-22", "proxy")
        );
        let long = format!("a/b/c/{}", "d".repeat(PART_MAX + 1));
        for wrong in [
            "",
            "a/b/c",
            "a/b/c/d/e",
            "a//c/d",
            "a/b/c/d e",
            "a/../c/d",
            "a/b?x=1/c/d",
            &long,
        ] {
            assert_eq!(PodName::parse(wrong), None, "{wrong}");
        }
    }

    /// All of the rule: only a Pod that was seen, and is gone, of a proxy whose lease has lapsed.
    #[test]
    fn only_a_lapsed_proxy_whose_pod_was_seen_and_is_gone_is_forgotten() {
        let told = |text: &str| text.to_owned();
        let fates = [
            Fate::Runs(told("runs")),
            Fate::Ending(told("is being deleted")),
            Fate::Gone(told("is gone")),
            Fate::Unknown(told("may not be asked for")),
        ];
        for fate in &fates {
            for (lapsed, seen) in [(true, true), (true, false), (false, true), (false, false)] {
                let gone = matches!(fate, Fate::Gone(_)) && seen;
                match judge(&pod(), lapsed, seen, fate) {
                    Verdict::Forget(why) => {
                        assert!(gone && lapsed, "{fate:?}");
                        assert_eq!(why, "its Pod shop/web-1 is gone");
                    }
                    Verdict::Soon(_) => assert!(gone && !lapsed, "{fate:?}"),
                    Verdict::Stays(text) => {
                        assert!(!gone, "{fate:?}");
                        // Each says what is known, and what to do.
                        assert!(
                            text.starts_with("its Pod shop/web-1 ") && text.contains("; "),
                            "{text}"
                        );
                        let nothing = text.contains("proves nothing");
                        assert!(nothing || text.contains("by itself"), "{text}");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_proves_nothing() {
        let fate = within(Duration::from_millis(1), std::future::pending()).await;
        assert!(matches!(&fate, Fate::Unknown(text) if text.contains("within 1 ms")));
    }
}
