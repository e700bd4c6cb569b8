//! An API server for one that must hold a Lease: it reads freely, and writes only right behind a renewal.
//!
//! A process that stood still wakes up with a write in its hand. The renewal in front of it fails when somebody else has
//! taken the Lease meanwhile, and the write is not sent.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::election::Election;
use super::failpoint::Step;
use crate::cluster::{
    Allowed, Api, CallError, CallKind, Cluster, HttpAnswer, HttpRequest, Place, Reply,
};
use crate::recipe::{Kind, Right};

/// Writes for the holder of a Lease only.
pub struct FencedCluster {
    cluster: Arc<dyn Cluster>,
    election: Arc<Election>,
}

impl FencedCluster {
    /// Writes to `cluster` while `election` says that we may.
    pub fn new(cluster: Arc<dyn Cluster>, election: Arc<Election>) -> Self {
        Self { cluster, election }
    }

    async fn write<T>(
        &self,
        plural: &str,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        if let Err(no) = self.election.confirm().await {
            // Passing: who really lost the Lease is stopped from outside.
            return Err(CallError::new(CallKind::Unreachable, no.text));
        }
        let step = match plural {
            "configmaps" => Step::Record,
            _ => Step::Trigger,
        };
        self.election.failpoint.begun(step);
        let answer = call.await;
        self.election.failpoint.applied(step);
        answer
    }
}

impl Cluster for FencedCluster {
    fn served<'a>(&'a self, kind: &'a Kind) -> Reply<'a, Api> {
        self.cluster.served(kind)
    }

    fn get<'a>(&'a self, at: Place<'a>) -> Reply<'a, Value> {
        self.cluster.get(at)
    }

    fn list<'a>(
        &'a self,
        api: &'a Api,
        namespace: Option<&'a str>,
        labels: &'a BTreeMap<String, String>,
    ) -> Reply<'a, Vec<Value>> {
        self.cluster.list(api, namespace, labels)
    }

    fn create<'a>(
        &'a self,
        api: &'a Api,
        namespace: Option<&'a str>,
        object: &'a Value,
    ) -> Reply<'a, Value> {
        let call = self.cluster.create(api, namespace, object);
        Box::pin(self.write(&api.plural, call))
    }

    fn apply<'a>(&'a self, at: Place<'a>, object: &'a Value) -> Reply<'a, Value> {
        Box::pin(self.write(&at.api.plural, self.cluster.apply(at, object)))
    }

    fn patch<'a>(&'a self, at: Place<'a>, patch: &'a Value) -> Reply<'a, Value> {
        Box::pin(self.write(&at.api.plural, self.cluster.patch(at, patch)))
    }

    fn delete<'a>(&'a self, at: Place<'a>, uid: Option<&'a str>) -> Reply<'a, ()> {
        Box::pin(self.write(&at.api.plural, self.cluster.delete(at, uid)))
    }

    fn changed<'a>(
        &'a self,
        at: Place<'a>,
        version: &'a str,
        poll: Duration,
        most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.cluster.changed(at, version, poll, most)
    }

    fn can_i<'a>(&'a self, right: &'a Right) -> Reply<'a, Allowed> {
        self.cluster.can_i(right)
    }

    fn http<'a>(&'a self, request: &'a HttpRequest) -> Reply<'a, HttpAnswer> {
        let call = self.cluster.http(request);
        match request.method.as_str() {
            "GET" => call,
            _ => Box::pin(self.write("http", call)),
        }
    }
}
