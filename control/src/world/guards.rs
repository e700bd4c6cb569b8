//! The guards that are listening, each under the URL of the server that dials it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use understudy_config::{BackendUrl, GuardAddress, HostPort};

use understudy_resp::command::{self, Server};

use crate::guard::{ForeignKeys, Guard, GuardState};
use crate::journal::GuardPlace;
use crate::plan::{Build, Product};

/// All guards of this process.
pub(crate) struct Guards {
    address: GuardAddress,
    open: Mutex<BTreeMap<String, Guard>>,
}

/// What a guard knows about the way back.
#[derive(Clone, Debug)]
pub(crate) struct GuardSeen {
    pub(crate) state: GuardState,
    /// What the follower could not execute.
    pub(crate) foreign: ForeignKeys,
}

impl Guards {
    pub(crate) fn new(address: GuardAddress) -> Guards {
        Guards {
            address,
            open: Mutex::new(BTreeMap::new()),
        }
    }

    fn listening(&self) -> MutexGuard<'_, BTreeMap<String, Guard>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the link of a follower stands, if there is a guard for it.
    pub(crate) fn state(&self, follower: &str) -> Option<GuardState> {
        let listening = self.listening();
        let state = listening.get(follower)?.states().borrow().clone();
        Some(state)
    }

    /// Opens a parked guard for `follower` in front of `primary`, at `wanted` again if that port is free.
    pub(crate) async fn open(
        &self,
        follower: &str,
        build: Build,
        primary: &BackendUrl,
        wanted: Option<&GuardPlace>,
    ) -> Result<GuardPlace, String> {
        self.close(follower).await;
        let server = measured(build)?;
        let mut ports: Vec<u16> = wanted.map(|place| place.port).into_iter().collect();
        ports.push(self.address.listen.port);
        ports.push(0);
        let mut refused = String::new();
        for port in ports {
            let listen = HostPort::new(self.address.listen.host.clone(), port);
            let address = GuardAddress {
                listen,
                ..self.address.clone()
            };
            match Guard::listen(&address, primary, server).await {
                Ok(guard) => {
                    guard.park();
                    let (_, port) = guard.address();
                    let place = GuardPlace {
                        host: self.address.announced_host().to_owned(),
                        port,
                    };
                    self.listening().insert(follower.to_owned(), guard);
                    return Ok(place);
                }
                Err(error) => refused = super::one_line(&error),
            }
        }
        Err(format!("the guard cannot listen: {refused}"))
    }

    /// Lets the parked follower ask for its partial resync.
    pub(crate) async fn unpark(&self, follower: &str) {
        if let Some(guard) = self.listening().get(follower) {
            guard.unpark();
        }
    }

    /// Goes on from what an earlier guard of the same follower knew.
    pub(crate) async fn remember(&self, follower: &str, earlier: ForeignKeys) {
        if let Some(guard) = self.listening().get(follower) {
            guard.remember(earlier);
        }
    }

    async fn states(&self, follower: &str) -> Option<watch::Receiver<GuardState>> {
        self.listening().get(follower).map(Guard::states)
    }

    /// Waits until the follower follows: `+CONTINUE` was seen. Anything else, or nothing in time, is an error in words.
    pub(crate) async fn follows(&self, follower: &str, patience: Duration) -> Result<(), String> {
        let Some(mut states) = self.states(follower).await else {
            return Err("there is no guard".to_owned());
        };
        let settled = states.wait_for(|state| {
            matches!(
                state,
                GuardState::Following { .. } | GuardState::Refused { .. }
            )
        });
        match tokio::time::timeout(patience, settled).await {
            Ok(Ok(state)) => match &*state {
                GuardState::Following { .. } => Ok(()),
                GuardState::Refused { why, .. } => {
                    Err(format!("no partial resync for the way back: {why}"))
                }
                other => Err(format!("no partial resync for the way back: {other:?}")),
            },
            Ok(Err(_closed)) => Err("the guard ended".to_owned()),
            Err(_late) => {
                let so_far = match self.state(follower) {
                    Some(GuardState::Lost { why }) => format!(": {why}"),
                    Some(GuardState::Idle) => ": it did not ask the guard".to_owned(),
                    _ => String::new(),
                };
                Err(format!(
                    "no partial resync for the way back within {} ms{so_far}",
                    patience.as_millis()
                ))
            }
        }
    }

    /// What the guard of a follower knows, if there is one.
    pub(crate) async fn seen(&self, follower: &str) -> Option<GuardSeen> {
        let open = self.listening();
        let guard = open.get(follower)?;
        let foreign = guard.foreign();
        let state = guard.states().borrow().clone();
        Some(GuardSeen { state, foreign })
    }

    /// Stops listening and cuts the link.
    pub(crate) async fn close(&self, follower: &str) {
        let guard = self.listening().remove(follower);
        if let Some(guard) = guard {
            guard.stop().await;
        }
    }

    /// Stops them all.
    pub(crate) async fn close_all(&self) {
        let guards = std::mem::take(&mut *self.listening());
        for (_, guard) in guards {
            guard.stop().await;
        }
    }
}

/// The measured server whose commands a follower is sure to know.
fn measured(build: Build) -> Result<Server, String> {
    let product = match build.product {
        Product::Redis => command::Product::Redis,
        Product::Valkey => command::Product::Valkey,
    };
    let known = Server::not_newer_than(product, build.major, build.minor);
    known.ok_or_else(|| format!("nothing is known about what {build} can execute"))
}
