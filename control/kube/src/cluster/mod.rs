//! The API server behind an interface: what the engine may ask it, and what its refusals mean.
//!
//! Every call has its own timeout. Nothing is retried here: whether a call may be repeated is the engine's to know.

pub mod live;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
mod web;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use serde_json::Value;

use crate::recipe::{Kind, Right};

/// What every call answers with.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send + 'a>>;

/// A kind as this server serves it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Its group; empty for the core group.
    pub group: String,
    /// The version that is used.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// Its name in URLs.
    pub plural: String,
    /// Whether its objects are in no namespace.
    pub cluster: bool,
}

impl Api {
    /// `group/version`, or `v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// A kind of Kubernetes' own whose objects are in namespaces, in v1; the core group is empty.
    #[must_use]
    pub(crate) fn v1(group: &str, kind: &str, plural: &str) -> Self {
        Self {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            cluster: false,
        }
    }

    /// A kind in a version, whether or not it is served.
    #[must_use]
    pub fn of(kind: &Kind, version: &str) -> Self {
        Self {
            group: kind.group.clone(),
            version: version.to_owned(),
            kind: kind.kind.clone(),
            plural: kind.plural.clone(),
            cluster: kind.cluster,
        }
    }
}

/// Which way a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// 401 or 403: we may not.
    Denied,
    /// 404: it is not there.
    NotFound,
    /// 409: there is one of this name, or it changed meanwhile.
    Conflict,
    /// Another 4xx: a webhook, a quota, a policy or the schema refused it.
    Refused,
    /// 429 or 5xx: not now. Or, of an API that is not Kubernetes', nobody listens: nothing was sent.
    Busy,
    /// No answer. A write may have happened or not.
    Unreachable,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CallError {
    /// Which way.
    pub kind: CallKind,
    /// The server's own words.
    pub text: String,
}

impl CallError {
    /// An error of a kind.
    pub fn new(kind: CallKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    /// What an HTTP status means.
    #[must_use]
    pub fn of_status(code: u16, text: impl Into<String>) -> Self {
        let kind = match code {
            401 | 403 => CallKind::Denied,
            404 | 410 => CallKind::NotFound,
            409 => CallKind::Conflict,
            429 | 500..=599 => CallKind::Busy,
            _ => CallKind::Refused,
        };
        // A webhook, a policy and a quota deny with 403 too: what they say is about the object, not about us.
        let text = text.into();
        let about_the_object = [
            "admission webhook",
            "exceeded quota",
            "ValidatingAdmissionPolicy",
        ];
        let kind = if about_the_object.iter().any(|it| text.contains(it)) {
            CallKind::Refused
        } else {
            kind
        };
        Self { kind, text }
    }

    /// Whether it says nothing about what was asked: another try may know.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self.kind, CallKind::Busy | CallKind::Unreachable)
    }
}

/// Whether we may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Whether we may.
    pub yes: bool,
    /// What the server says about it.
    pub reason: String,
}

/// A request to an API that is not Kubernetes'.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// GET, POST, PUT or DELETE.
    pub method: String,
    /// Where to.
    pub url: String,
    /// Names and values.
    pub headers: BTreeMap<String, String>,
    /// Sent as JSON.
    pub body: Option<Value>,
    /// Longest wait for the answer.
    pub timeout: Duration,
    /// PEM of the authorities to trust besides the system's.
    pub authorities: Option<String>,
}

impl fmt::Debug for HttpRequest {
    // Headers and body may hold a token.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.method, self.url)
    }
}

/// Its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpAnswer {
    /// Its status.
    pub status: u16,
    /// Its body; null when it is not JSON.
    pub body: Value,
}

/// One place for a look: the kind, its namespace, and the object's name.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// The kind.
    pub api: &'p Api,
    /// The namespace; none for a kind of the cluster.
    pub namespace: Option<&'p str>,
    /// The name.
    pub name: &'p str,
}

/// An API server.
pub trait Cluster: Send + Sync {
    /// The version of a kind that is served and that we know best. Asked afresh each time. `NotFound` when there is none.
    fn served<'a>(&'a self, kind: &'a Kind) -> Reply<'a, Api>;

    /// One object.
    fn get<'a>(&'a self, at: Place<'a>) -> Reply<'a, Value>;

    /// All objects with these labels; of all namespaces when none is named.
    fn list<'a>(
        &'a self,
        api: &'a Api,
        namespace: Option<&'a str>,
        labels: &'a BTreeMap<String, String>,
    ) -> Reply<'a, Vec<Value>>;

    /// Makes an object; `Conflict` when there is one of its name.
    fn create<'a>(
        &'a self,
        api: &'a Api,
        namespace: Option<&'a str>,
        object: &'a Value,
    ) -> Reply<'a, Value>;

    /// Server-side apply in the name of `understudy`.
    fn apply<'a>(&'a self, at: Place<'a>, object: &'a Value) -> Reply<'a, Value>;

    /// JSON merge patch. With a `metadata.resourceVersion` in it, `Conflict` when the object changed meanwhile.
    fn patch<'a>(&'a self, at: Place<'a>, patch: &'a Value) -> Reply<'a, Value>;

    /// Asks for an object's deletion, only if it is still that one; does not wait. What is not there is deleted.
    fn delete<'a>(&'a self, at: Place<'a>, uid: Option<&'a str>) -> Reply<'a, ()>;

    /// Returns when the object is no longer at this version, or after `poll` where it cannot be watched, and after `most`
    /// in any case. Proves nothing: look again.
    fn changed<'a>(
        &'a self,
        at: Place<'a>,
        version: &'a str,
        poll: Duration,
        most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

    /// Whether we have a right.
    fn can_i<'a>(&'a self, right: &'a Right) -> Reply<'a, Allowed>;

    /// A request to an API that is not Kubernetes'.
    fn http<'a>(&'a self, request: &'a HttpRequest) -> Reply<'a, HttpAnswer>;
}
