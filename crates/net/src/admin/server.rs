//! Who may connect to the admin endpoint, and how many at once.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use understudy_config::User;

use super::session::Session;
use super::{AdminLimits, AdminTable};
use crate::client::Client;
use crate::listener::{Incoming, Listener, PeerName};
use crate::stream::Stream;

/// Pause after a failed accept: the process may be out of descriptors, and asking again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves a table of commands to Redis clients.
pub struct AdminServer {
    pub(super) table: AdminTable,
    pub(super) users: Vec<User>,
    pub(super) limits: AdminLimits,
    sessions: Arc<Semaphore>,
    next_id: AtomicU64,
}

impl fmt::Debug for AdminServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminServer")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl AdminServer {
    /// A server for these commands. Without users nobody needs a password.
    pub fn new(table: AdminTable, users: Vec<User>, limits: AdminLimits) -> AdminServer {
        AdminServer {
            table,
            users,
            limits,
            sessions: Arc::new(Semaphore::new(limits.sessions_max)),
            next_id: AtomicU64::new(1),
        }
    }

    /// Accepts until `shutdown` is done; then every session ends, also one whose command is still running.
    pub async fn serve(self: Arc<Self>, listener: Listener, shutdown: impl Future<Output = ()>) {
        let mut sessions = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                // Cancel safe: `accept` consumes nothing until it is done.
                accepted = listener.accept() => match accepted {
                    Ok(incoming) => {
                        let server = self.clone();
                        match self.sessions.clone().try_acquire_owned() {
                            Ok(permit) => sessions.spawn(async move { server.greet(incoming, permit).await }),
                            Err(_full) => sessions.spawn(refuse(incoming, self.limits.login_max)),
                        };
                    }
                    Err(cause) => {
                        tracing::warn!(%cause, "accept an admin connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = sessions.join_next() => {
                    if ended.is_err_and(|cause| cause.is_panic()) {
                        tracing::error!("an admin session panicked");
                    }
                }
            }
        }
        sessions.shutdown().await;
    }

    /// A client within this process, who needs no password. Its session runs as a task of the current runtime and ends
    /// with the client.
    pub fn in_memory(self: &Arc<Self>) -> Client {
        let (ours, theirs) = Stream::in_memory();
        let session = Session::new(self.clone(), self.next_id(), PeerName::Memory);
        tokio::spawn(session.run(theirs));
        Client::over(ours)
    }

    async fn greet(self: Arc<Self>, incoming: Incoming, permit: OwnedSemaphorePermit) {
        let peer = incoming.peer().clone();
        match incoming.into_socket(self.limits.login_max).await {
            Ok(socket) => {
                let id = self.next_id();
                Session::new(self, id, peer).run(socket.into()).await;
            }
            Err(cause) => tracing::debug!(%peer, %cause, "greet an admin client"),
        }
        drop(permit);
    }

    fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

async fn refuse(incoming: Incoming, timeout: Duration) {
    tracing::warn!(peer = %incoming.peer(), "refuse an admin client: too many sessions");
    if let Ok(socket) = incoming.into_socket(timeout).await {
        let mut stream = Stream::from(socket);
        let _gone = stream
            .write_all(b"-ERR max number of clients reached\r\n")
            .await;
        let _gone = stream.shutdown().await;
    }
}
