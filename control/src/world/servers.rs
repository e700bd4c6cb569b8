//! One ordered connection to each server, and the logins for them.
//!
//! Whatever is said to a server goes over its one connection, in order, so an undo can never overtake a late fence. A
//! connection on which a call failed is made again before the next call, and only then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use understudy_config::BackendUrl;
use understudy_net::{ClientError, DialError};

use crate::cutover::{Role, Standing};
use crate::server::{self, Fenced, MissingRight, Observed, Probe, Rewrite, ServerLink};

/// Longest wait for a server's connection or answer. A stall of a server beyond it ends an attempt.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a server did not do what it was told.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{server}: {cause}")]
pub(crate) struct ServerFailure {
    pub(crate) server: String,
    pub(crate) cause: String,
    /// It did not answer: there is no connection, or it broke in the middle. False when it answered with a refusal.
    pub(crate) silent: bool,
}

/// A server's one connection.
#[derive(Default)]
struct Slot {
    link: Option<ServerLink>,
    broken: bool,
}

/// How to log in to a server, and its one connection.
type Known = (BackendUrl, Arc<Mutex<Slot>>);

/// Every server that an upgrade has to do with.
#[derive(Default)]
pub(crate) struct Servers {
    known: std::sync::Mutex<BTreeMap<String, Known>>,
}

/// A server whose connection is ours alone until this is dropped.
pub(crate) struct Held {
    url: BackendUrl,
    slot: OwnedMutexGuard<Slot>,
}

impl Servers {
    /// Remembers how to log in to the server that effects call `url`.
    pub(crate) fn know(&self, url: &BackendUrl) {
        let mut known = self
            .known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        known
            .entry(url.to_string())
            .or_insert_with(|| (url.clone(), Arc::default()));
    }

    /// The login for `url`.
    pub(crate) fn login(&self, url: &str) -> Result<BackendUrl, ServerFailure> {
        let known = self
            .known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let found = known.get(url).map(|(login, _)| login.clone());
        found.ok_or_else(|| ServerFailure {
            server: url.to_owned(),
            cause: "no shard has this server".to_owned(),
            silent: false,
        })
    }

    /// Takes a server's connection, and makes it if need be.
    pub(crate) async fn hold(&self, url: &str) -> Result<Held, ServerFailure> {
        let (login, slot) = {
            let known = self
                .known
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let Some((login, slot)) = known.get(url) else {
                return Err(ServerFailure {
                    server: url.to_owned(),
                    cause: "no shard has this server".to_owned(),
                    silent: false,
                });
            };
            (login.clone(), slot.clone())
        };
        let mut held = Held {
            url: login,
            slot: slot.lock_owned().await,
        };
        held.connect().await?;
        Ok(held)
    }

    /// True when a server's process is certainly gone: its machine answers, and nobody listens there. Silence proves nothing.
    pub(crate) async fn nobody_listens(&self, url: &str) -> bool {
        let Ok(login) = self.login(url) else {
            return false;
        };
        match ServerLink::connect(&login, SERVER_TIMEOUT).await {
            Err(server::ServerError::Connection {
                cause: ClientError::Connect(DialError::Connect { cause, .. }),
                ..
            }) => cause.kind() == std::io::ErrorKind::ConnectionRefused,
            Err(_) | Ok(_) => false,
        }
    }

    /// What our login would need at a server and does not have; on a connection of its own.
    pub(crate) async fn rights_missing(
        &self,
        url: &str,
        major: u32,
    ) -> Result<Vec<MissingRight>, ServerFailure> {
        let login = self.login(url)?;
        server::rights_missing(&login, major, SERVER_TIMEOUT)
            .await
            .map_err(|error| failure(&login, &error))
    }

    /// How a server stands now.
    pub(crate) async fn standing(&self, url: &str) -> Result<Standing, ServerFailure> {
        Ok(standing(&self.hold(url).await?.observe().await?))
    }

    /// Everything about a server.
    pub(crate) async fn observe(&self, url: &str) -> Result<Observed, ServerFailure> {
        self.hold(url).await?.observe().await
    }
}

impl Held {
    async fn connect(&mut self) -> Result<(), ServerFailure> {
        let slot = &mut *self.slot;
        if let Some(link) = slot.link.as_mut()
            && (slot.broken || link.has_ended())
        {
            let again = link.reconnect().await.map(drop);
            slot.broken = again.is_err();
            return self.checked(again);
        }
        if self.slot.link.is_none() {
            let link = ServerLink::connect(&self.url, SERVER_TIMEOUT).await;
            self.slot.link = Some(self.checked(link)?);
            self.slot.broken = false;
        }
        Ok(())
    }

    fn checked<T>(&mut self, result: Result<T, server::ServerError>) -> Result<T, ServerFailure> {
        result.map_err(|error| {
            self.slot.broken = true;
            failure(&self.url, &error)
        })
    }

    /// How we log in there.
    pub(crate) fn login(&self) -> &BackendUrl {
        &self.url
    }

    /// False when a call was not finished: what was asked behind it was not asked.
    pub(crate) fn is_usable(&self) -> bool {
        self.slot.link.as_ref().is_some_and(ServerLink::is_usable)
    }

    fn link(&mut self) -> Result<&mut ServerLink, ServerFailure> {
        let server = self.url.to_string();
        // A call that is dropped half way leaves the connection in an unknown state, so it counts as broken until done.
        self.slot.broken = true;
        self.slot.link.as_mut().ok_or(ServerFailure {
            server,
            cause: "there is no connection".to_owned(),
            silent: true,
        })
    }

    fn done<T>(&mut self, result: Result<T, server::ServerError>) -> Result<T, ServerFailure> {
        self.slot.broken = false;
        self.checked(result)
    }

    pub(crate) async fn observe(&mut self) -> Result<Observed, ServerFailure> {
        let result = self.link()?.observe().await;
        self.done(result)
    }

    pub(crate) async fn standing(&mut self) -> Result<Standing, ServerFailure> {
        Ok(standing(&self.observe().await?))
    }

    pub(crate) async fn pause_writes(
        &mut self,
        pause: Duration,
    ) -> Result<Standing, ServerFailure> {
        let result = self.link()?.pause_writes(pause).await;
        Ok(standing(&self.done(result)?))
    }

    pub(crate) async fn unpause(&mut self) -> Result<(), ServerFailure> {
        let result = self.link()?.unpause().await;
        self.done(result)
    }

    pub(crate) async fn replicate_from(
        &mut self,
        host: &str,
        port: u16,
    ) -> Result<(), ServerFailure> {
        let result = self.link()?.replicate_from(host, port).await;
        self.done(result).map(drop)
    }

    /// See [`ServerLink::fence`].
    pub(crate) async fn fence(&mut self, host: &str, port: u16) -> Result<Fenced, ServerFailure> {
        let result = self.link()?.fence(host, port).await;
        self.done(result)
    }

    pub(crate) async fn promote(&mut self) -> Result<Standing, ServerFailure> {
        let result = self.link()?.promote().await;
        Ok(standing(&self.done(result)?))
    }

    pub(crate) async fn probe_write(&mut self) -> Result<Probe, ServerFailure> {
        let result = self.link()?.probe_write().await;
        self.done(result)
    }

    /// `None` when the file was rewritten, else why it cannot be.
    pub(crate) async fn rewrite_config(&mut self) -> Result<Option<String>, ServerFailure> {
        let result = self.link()?.rewrite_config().await;
        Ok(match self.done(result)? {
            Rewrite::Done => None,
            Rewrite::NotPossible(why) => Some(why),
        })
    }

    /// A setting's value; `None` when the server has no such setting.
    pub(crate) async fn setting(&mut self, name: &str) -> Result<Option<String>, ServerFailure> {
        let result = self.link()?.config_get(name).await;
        let found = self.done(result)?;
        Ok(found
            .into_iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value))
    }

    pub(crate) async fn set(&mut self, name: &str, value: &str) -> Result<(), ServerFailure> {
        let result = self.link()?.config_set(name, value).await;
        self.done(result)
    }

    /// Any command; an error reply is an error.
    pub(crate) async fn raw(
        &mut self,
        words: &[&[u8]],
    ) -> Result<understudy_net::Value, ServerFailure> {
        let result = self.link()?.raw(words).await;
        let value = self.done(result)?;
        value.into_ok().map_err(|error| ServerFailure {
            server: self.url.to_string(),
            cause: error.text,
            silent: false,
        })
    }

    pub(crate) async fn clients(&mut self) -> Result<Vec<server::ClientLine>, ServerFailure> {
        let result = self.link()?.client_list().await;
        self.done(result)
    }

    /// The server's clock, in microseconds since 1970.
    pub(crate) async fn time(&mut self) -> Result<u64, ServerFailure> {
        let result = self.link()?.time().await;
        self.done(result)
    }
}

fn failure(server: &BackendUrl, error: &server::ServerError) -> ServerFailure {
    ServerFailure {
        server: server.to_string(),
        cause: without_address(server, one_line(error)),
        silent: error.is_silence(),
    }
}

/// The url stands before it already.
fn without_address(url: &BackendUrl, text: String) -> String {
    let address = format!("{}:{}: ", url.host, url.port);
    match text.strip_prefix(&address) {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

/// An error and what caused it, on one line.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text.replace(['\r', '\n'], " ")
}

/// What a cutover is decided by, out of everything that was seen.
pub(crate) fn standing(seen: &Observed) -> Standing {
    let (role, offset) = match &seen.role {
        server::Role::Primary { .. } => (Role::Primary, seen.offset),
        server::Role::Replica {
            primary_host,
            primary_port,
            link_up,
            sync_in_progress,
            applied_offset,
            ..
        } => {
            let link_up = *link_up && !*sync_in_progress;
            (
                Role::Replica {
                    host: primary_host.clone(),
                    port: *primary_port,
                    link_up,
                },
                *applied_offset,
            )
        }
    };
    Standing {
        run_id: seen.run_id.clone(),
        replid: seen.replid.clone(),
        replid2: seen.replid2.clone(),
        second_offset: seen.second_offset,
        offset,
        role,
        sync_full: seen.sync_full,
        replica_errors: seen.unexpected_error_replies,
        loading: seen.loading,
        unsaved: seen.aof_enabled && seen.aof_rewriting,
    }
}
