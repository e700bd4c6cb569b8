//! An API server in memory, for tests: it keeps a real one's rules and can be told to fail.
//!
//! Its rules: a status is dropped from whatever is created or patched when the kind has a status subresource; a name is
//! taken once; deletion waits for finalizers; every write gives a new resourceVersion. Its faults are in [`Fault`].
//! An admission policy may stand in the way of its callers ([`Gate`]); what the test itself puts there passes by it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Allowed, Api, CallError, CallKind, Cluster, HttpAnswer, HttpRequest, Place, Reply};
use crate::recipe::{Kind, Right, merge};

/// What goes wrong, how often.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The verb: get, list, watch, create, apply, patch, delete, http, discover. `*` for all.
    pub verb: String,
    /// The plural; `*` for all.
    pub plural: String,
    /// How often; `u32::MAX` for ever.
    pub times: u32,
    /// What the caller is told.
    pub error: CallError,
    /// Whether it happens all the same, and only the answer is lost.
    pub done_all_the_same: bool,
}

impl Fault {
    /// A verb on a plural fails so often.
    #[must_use]
    pub fn new(verb: &str, plural: &str, times: u32, status: u16, text: &str) -> Self {
        let error = match status {
            0 => CallError::new(CallKind::Unreachable, text),
            status => CallError::of_status(status, text),
        };
        Self {
            verb: verb.to_owned(),
            plural: plural.to_owned(),
            times,
            error,
            done_all_the_same: false,
        }
    }

    /// The call is carried out; its answer is lost.
    #[must_use]
    pub fn after_it_is_done(self) -> Self {
        Self {
            done_all_the_same: true,
            ..self
        }
    }
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The verb.
    pub verb: String,
    /// The plural, or the URL of an HTTP request.
    pub plural: String,
    /// The name, where there is one.
    pub name: String,
    /// What was sent.
    pub body: Value,
}

/// A write that a caller asks for, as an admission policy is told of it.
#[derive(Clone, Debug)]
pub struct Review {
    /// CREATE, UPDATE or DELETE.
    pub operation: &'static str,
    /// What kind of object.
    pub api: Api,
    /// Its namespace; none for a kind of the cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// As it would be; null for DELETE.
    pub object: Value,
    /// As it is; null for CREATE.
    pub old: Value,
}

type Decide = dyn Fn(&Review) -> Result<(), String> + Send + Sync;

/// Says yes to a write, or why not.
#[derive(Clone)]
pub struct Gate(Arc<Decide>);

impl Gate {
    /// One that decides so.
    pub fn new(decide: impl Fn(&Review) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(decide))
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Gate")
    }
}

type Key = (String, String, String);

#[derive(Debug, Default)]
struct State {
    gate: Option<Gate>,
    version: u64,
    objects: BTreeMap<Key, Value>,
    /// Served versions, and whether there is a status subresource, by `plural.group`.
    kinds: BTreeMap<String, (Vec<String>, bool)>,
    faults: Vec<Fault>,
    denied: BTreeSet<(String, String)>,
    calls: Vec<Call>,
    answers: VecDeque<HttpAnswer>,
    now_ms: i64,
}

/// An API server in memory.
#[derive(Debug)]
pub struct MemoryCluster {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

impl Default for MemoryCluster {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryCluster {
    /// One that serves the core kinds only.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            now_ms: 1_800_000_000_000,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a kind in all versions that a recipe knows.
    pub fn serve(&self, kind: &Kind, status_subresource: bool) {
        let key = format!("{}.{}", kind.plural, kind.group);
        let row = (kind.versions.clone(), status_subresource);
        self.state().kinds.insert(key, row);
    }

    /// Serves a kind no longer.
    pub fn stop_serving(&self, kind: &Kind) {
        let key = format!("{}.{}", kind.plural, kind.group);
        self.state().kinds.remove(&key);
    }

    /// Puts an object there as it is, status and all; replaces one of its name but keeps its uid.
    pub fn put(&self, kind: &Kind, mut object: Value) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let key = (long(kind), namespace.to_owned(), name.to_owned());
        let mut state = self.state();
        if let Some(old) = state.objects.get(&key) {
            object["metadata"]["uid"] = old["metadata"]["uid"].clone();
        }
        state.store(key, object);
        drop(state);
        self.changes.send_modify(|it| *it += 1);
    }

    /// One object, without leaving a trace in the calls.
    #[must_use]
    pub fn peek(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Value> {
        let key = (long(kind), namespace.to_owned(), name.to_owned());
        self.state().objects.get(&key).cloned()
    }

    /// Every object of a kind.
    #[must_use]
    pub fn all(&self, kind: &Kind) -> Vec<Value> {
        let wanted = long(kind);
        let state = self.state();
        let of_kind = state.objects.iter().filter(|(key, _)| key.0 == wanted);
        of_kind.map(|(_, object)| object.clone()).collect()
    }

    /// Merges into an object as a controller would; `subresource` says whether it writes to `/status`. Like a real server it
    /// drops what the other of the two owns. False when the object is not there.
    pub fn write(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        patch: &Value,
        subresource: bool,
    ) -> bool {
        let key = (long(kind), namespace.to_owned(), name.to_owned());
        let mut state = self.state();
        let Some(old) = state.objects.get(&key).cloned() else {
            return false;
        };
        let has_status = state.has_status(&key.0);
        let mut new = merge(&old, patch);
        if has_status && subresource {
            let status = new["status"].clone();
            new.clone_from(&old);
            new["status"] = status;
        } else if has_status {
            new["status"] = old["status"].clone();
        }
        state.store(key, new);
        drop(state);
        self.changes.send_modify(|it| *it += 1);
        true
    }

    /// Sets an object's status by whichever way its kind has.
    pub fn set_status(&self, kind: &Kind, namespace: &str, name: &str, status: &Value) -> bool {
        let subresource = self.state().has_status(&long(kind));
        // A merge would keep what the controller left out.
        self.write(kind, namespace, name, &json!({"status": null}), subresource);
        self.write(
            kind,
            namespace,
            name,
            &json!({"status": status}),
            subresource,
        )
    }

    /// Takes an object away, as its owner's deletion would.
    pub fn remove(&self, kind: &Kind, namespace: &str, name: &str) {
        let key = (long(kind), namespace.to_owned(), name.to_owned());
        self.state().objects.remove(&key);
        self.changes.send_modify(|it| *it += 1);
    }

    /// From now on every write of a caller is asked about first.
    pub fn guard(&self, gate: Gate) {
        self.state().gate = Some(gate);
    }

    /// From now on this goes wrong.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.state().faults.clear();
        self.changes.send_modify(|it| *it += 1);
    }

    /// Takes a right away: calls are denied and `can_i` says no.
    pub fn deny(&self, verb: &str, plural: &str) {
        let row = (verb.to_owned(), plural.to_owned());
        self.state().denied.insert(row);
    }

    /// The next HTTP request is answered with this; the last answer is given for ever.
    pub fn answer(&self, status: u16, body: Value) {
        self.state().answers.push_back(HttpAnswer { status, body });
    }

    /// Everything that was asked, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// How often a verb was called on a plural.
    #[must_use]
    pub fn count(&self, verb: &str, plural: &str) -> usize {
        let calls = self.calls();
        let of = calls
            .iter()
            .filter(|call| call.verb == verb && call.plural == plural);
        of.count()
    }

    /// The server's clock goes on.
    pub fn later(&self, by: Duration) {
        self.state().now_ms += i64::try_from(by.as_millis()).unwrap_or(0);
    }

    /// The server's clock says this, in milliseconds since 1970.
    pub fn set_clock(&self, now_ms: i64) {
        self.state().now_ms = now_ms;
    }

    /// The server's clock, in milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.state().now_ms
    }

    /// One call: its trace, its faults, its rights, and then what it does.
    fn call<T>(
        &self,
        (verb, plural, name): (&str, &str, &str),
        body: &Value,
        act: impl FnOnce(&mut State) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let mut state = self.state();
        state.calls.push(Call {
            verb: verb.to_owned(),
            plural: plural.to_owned(),
            name: name.to_owned(),
            body: body.clone(),
        });
        if state.denied.contains(&(verb.to_owned(), plural.to_owned())) {
            let text =
                format!("{plural} is forbidden: User \"test\" cannot {verb} resource \"{plural}\"");
            return Err(CallError::of_status(403, text));
        }
        let fault = state.faults.iter_mut().find(|fault| {
            fault.times > 0
                && (fault.verb == verb || fault.verb == "*")
                && (fault.plural == plural || fault.plural == "*")
        });
        let fault = fault.map(|fault| {
            if fault.times != u32::MAX {
                fault.times -= 1;
            }
            fault.clone()
        });
        match fault {
            Some(fault) if !fault.done_all_the_same => return Err(fault.error),
            Some(fault) => {
                act(&mut state)?;
                drop(state);
                self.changes.send_modify(|it| *it += 1);
                return Err(fault.error);
            }
            None => {}
        }
        let before = state.version;
        let answer = act(&mut state);
        let changed = state.version != before;
        drop(state);
        if changed {
            self.changes.send_modify(|it| *it += 1);
        }
        answer
    }
}

fn long(kind: &Kind) -> String {
    format!("{}.{}", kind.plural, kind.group)
}

fn key(at: &Place<'_>) -> Key {
    (
        format!("{}.{}", at.api.plural, at.api.group),
        at.namespace.unwrap_or_default().to_owned(),
        at.name.to_owned(),
    )
}

fn missing(at: &Place<'_>) -> CallError {
    let text = format!("{} \"{}\" not found", at.api.plural, at.name);
    CallError::of_status(404, text)
}

impl State {
    fn has_status(&self, kind: &str) -> bool {
        self.kinds.get(kind).is_some_and(|(_, status)| *status)
    }

    /// Whether a write may be; the words are a real server's.
    fn admit(
        &self,
        operation: &'static str,
        at: &Place<'_>,
        object: &Value,
        old: &Value,
    ) -> Result<(), CallError> {
        let Some(gate) = &self.gate else {
            return Ok(());
        };
        let review = Review {
            operation,
            api: at.api.clone(),
            namespace: at.namespace.map(str::to_owned),
            name: at.name.to_owned(),
            object: object.clone(),
            old: old.clone(),
        };
        (gate.0)(&review).map_err(|why| {
            let text = format!(
                "{} \"{}\" is forbidden: ValidatingAdmissionPolicy denied request: {why}",
                at.api.plural, at.name
            );
            CallError::of_status(422, text)
        })
    }

    fn store(&mut self, key: Key, mut object: Value) {
        self.version += 1;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(self.version.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{}", self.version));
        }
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = json!(crate::engine::run::rfc3339_ms(self.now_ms));
        }
        self.objects.insert(key, object);
    }

    fn patched(&mut self, at: &Place<'_>, patch: &Value) -> Result<Value, CallError> {
        let key = key(at);
        let old = self.objects.get(&key).cloned().ok_or_else(|| missing(at))?;
        let wanted = &patch["metadata"]["resourceVersion"];
        if !wanted.is_null() && *wanted != old["metadata"]["resourceVersion"] {
            return Err(CallError::of_status(409, "the object has been modified"));
        }
        let mut new = merge(&old, patch);
        if self.has_status(&key.0) {
            new["status"] = old["status"].clone();
        }
        self.admit("UPDATE", at, &new, &old)?;
        self.store(key.clone(), new);
        Ok(self.objects.get(&key).cloned().unwrap_or_default())
    }
}

impl Cluster for MemoryCluster {
    fn served<'a>(&'a self, kind: &'a Kind) -> Reply<'a, Api> {
        Box::pin(async move {
            self.call(("discover", &kind.plural, ""), &Value::Null, |state| {
                if !kind.discover {
                    let version = kind.versions.first().map_or("v1", String::as_str);
                    return Ok(Api::of(kind, version));
                }
                let served = state
                    .kinds
                    .get(&long(kind))
                    .map(|(versions, _)| versions.clone());
                let served = served.unwrap_or_default();
                let best = kind
                    .versions
                    .iter()
                    .find(|version| served.contains(version));
                best.map(|version| Api::of(kind, version)).ok_or_else(|| {
                    let text = format!("no matches for kind {} in {}", kind.kind, kind.group);
                    CallError::of_status(404, text)
                })
            })
        })
    }

    fn get<'a>(&'a self, at: Place<'a>) -> Reply<'a, Value> {
        Box::pin(async move {
            self.call(("get", &at.api.plural, at.name), &Value::Null, |state| {
                let found = state.objects.get(&key(&at)).cloned();
                found.ok_or_else(|| missing(&at))
            })
        })
    }

    fn list<'a>(
        &'a self,
        api: &'a Api,
        namespace: Option<&'a str>,
        labels: &'a BTreeMap<String, String>,
    ) -> Reply<'a, Vec<Value>> {
        Box::pin(async move {
            self.call(("list", &api.plural, ""), &json!(labels), |state| {
                let kind = format!("{}.{}", api.plural, api.group);
                let wanted = |(key, object): (&Key, &Value)| {
                    let here = key.0 == kind && namespace.is_none_or(|it| it == key.1);
                    let labelled = labels
                        .iter()
                        .all(|(name, value)| object["metadata"]["labels"][name] == **value);
                    (here && labelled).then(|| object.clone())
                };
                Ok(state.objects.iter().filter_map(wanted).collect())
            })
        })
    }

    fn create<'a>(
        &'a self,
        api: &'a Api,
        namespace: Option<&'a str>,
        object: &'a Value,
    ) -> Reply<'a, Value> {
        Box::pin(async move {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            self.call(("create", &api.plural, name), object, |state| {
                let mut object = object.clone();
                let name = match object["metadata"]["generateName"].as_str() {
                    Some(prefix) if name.is_empty() => format!("{prefix}{:05}", state.version),
                    _ => name.to_owned(),
                };
                object["metadata"]["name"] = json!(name);
                let at = Place {
                    api,
                    namespace,
                    name: &name,
                };
                let key = key(&at);
                if state.objects.contains_key(&key) {
                    let text = format!("{} \"{name}\" already exists", api.plural);
                    return Err(CallError::of_status(409, text));
                }
                if let Some(namespace) = namespace {
                    object["metadata"]["namespace"] = json!(namespace);
                }
                if state.has_status(&key.0)
                    && let Value::Object(map) = &mut object
                {
                    map.shift_remove("status");
                }
                state.admit("CREATE", &at, &object, &Value::Null)?;
                state.store(key.clone(), object);
                Ok(state.objects.get(&key).cloned().unwrap_or_default())
            })
        })
    }

    fn apply<'a>(&'a self, at: Place<'a>, object: &'a Value) -> Reply<'a, Value> {
        Box::pin(async move {
            self.call(("apply", &at.api.plural, at.name), object, |state| {
                if state.objects.contains_key(&key(&at)) {
                    return state.patched(&at, object);
                }
                state.admit("CREATE", &at, object, &Value::Null)?;
                state.store(key(&at), object.clone());
                Ok(state.objects.get(&key(&at)).cloned().unwrap_or_default())
            })
        })
    }

    fn patch<'a>(&'a self, at: Place<'a>, patch: &'a Value) -> Reply<'a, Value> {
        Box::pin(async move {
            self.call(("patch", &at.api.plural, at.name), patch, |state| {
                state.patched(&at, patch)
            })
        })
    }

    fn delete<'a>(&'a self, at: Place<'a>, uid: Option<&'a str>) -> Reply<'a, ()> {
        Box::pin(async move {
            self.call(("delete", &at.api.plural, at.name), &Value::Null, |state| {
                let Some(mut object) = state.objects.get(&key(&at)).cloned() else {
                    return Ok(());
                };
                if uid.is_some_and(|uid| object["metadata"]["uid"] != uid) {
                    return Err(CallError::of_status(
                        409,
                        "the UID in the precondition is another",
                    ));
                }
                state.admit("DELETE", &at, &Value::Null, &object)?;
                let waits = object["metadata"]["finalizers"].as_array();
                if waits.is_some_and(|list| !list.is_empty()) {
                    object["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
                    state.store(key(&at), object);
                } else {
                    state.version += 1;
                    state.objects.remove(&key(&at));
                }
                Ok(())
            })
        })
    }

    fn changed<'a>(
        &'a self,
        at: Place<'a>,
        version: &'a str,
        poll: Duration,
        most: Duration,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let mut changes = self.changes.subscribe();
            let may = self.call(("watch", &at.api.plural, at.name), &Value::Null, |_| Ok(()));
            let wait = async {
                loop {
                    changes.borrow_and_update();
                    let now = self.state().objects.get(&key(&at)).cloned();
                    let now = now.map(|it| it["metadata"]["resourceVersion"].clone());
                    if now.is_none_or(|now| now != version) || changes.changed().await.is_err() {
                        return;
                    }
                }
            };
            if may.is_err() {
                tokio::time::sleep(poll.min(most)).await;
            } else {
                let _ = tokio::time::timeout(most, wait).await; // Looking again is right either way.
            }
        })
    }

    fn can_i<'a>(&'a self, right: &'a Right) -> Reply<'a, Allowed> {
        Box::pin(async move {
            let plural = right.resource.clone();
            self.call(("can", &plural, ""), &json!(right.verb), |state| {
                let denied = state.denied.contains(&(right.verb.clone(), plural.clone()));
                Ok(Allowed {
                    yes: !denied,
                    reason: String::new(),
                })
            })
        })
    }

    fn http<'a>(&'a self, request: &'a HttpRequest) -> Reply<'a, HttpAnswer> {
        Box::pin(async move {
            let body = json!({"headers": request.headers, "body": request.body});
            self.call(("http", &request.url, &request.method), &body, |state| {
                let answer = if state.answers.len() > 1 {
                    state.answers.pop_front()
                } else {
                    state.answers.front().cloned()
                };
                answer.ok_or_else(|| CallError::new(CallKind::Unreachable, "connection refused"))
            })
        })
    }
}
