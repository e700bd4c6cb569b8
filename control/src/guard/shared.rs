//! What all sessions of one guard share: whether to park, who follows, what was refused, what the stream held.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use understudy_net::Endpoint;
use understudy_resp::command::Server;

use super::GuardState;
use super::foreign::{ForeignKeys, StreamReader};
use super::handshake::Psync;

pub(super) struct Shared {
    pub(super) target: Endpoint,
    parked: watch::Sender<bool>,
    state: watch::Sender<GuardState>,
    /// The session that follows, or is next to: a later one takes its place. 0: nobody.
    owner: watch::Sender<u64>,
    inner: Mutex<Inner>,
    /// One session at a time asks the target: two requests would be two forks if both went wrong.
    pub(super) asking: tokio::sync::Mutex<()>,
}

struct Inner {
    next_session: u64,
    reader: StreamReader,
    /// A target's process that answered a hopeful request with something else than `+CONTINUE`. It is not asked again:
    /// each such answer costs it a fork.
    barred: Option<Barred>,
}

/// A request that a process of the target has turned down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Barred {
    pub(super) run_id: String,
    pub(super) request: Psync,
    pub(super) why: String,
}

impl Shared {
    pub(super) fn new(target: Endpoint, source: Server) -> Shared {
        Shared {
            target,
            parked: watch::Sender::new(true),
            state: watch::Sender::new(GuardState::Idle),
            owner: watch::Sender::new(0),
            inner: Mutex::new(Inner {
                next_session: 1,
                reader: StreamReader::new(source),
                barred: None,
            }),
            asking: tokio::sync::Mutex::new(()),
        }
    }

    pub(super) fn new_session(&self) -> u64 {
        let mut inner = self.inner();
        inner.next_session += 1;
        inner.next_session
    }

    pub(super) fn park(&self, parked: bool) {
        if !parked {
            self.inner().barred = None;
        }
        self.parked.send_replace(parked);
    }

    pub(super) fn parked(&self) -> watch::Receiver<bool> {
        self.parked.subscribe()
    }

    pub(super) fn states(&self) -> watch::Receiver<GuardState> {
        self.state.subscribe()
    }

    pub(super) fn foreign(&self) -> ForeignKeys {
        self.inner().reader.foreign().clone()
    }

    pub(super) fn remember(&self, earlier: ForeignKeys) {
        self.inner().reader.remember(earlier);
    }

    pub(super) fn bar(&self, barred: Barred) {
        self.inner().barred = Some(barred);
    }

    pub(super) fn barred(&self) -> Option<Barred> {
        self.inner().barred.clone()
    }

    /// Says what became of the link, unless another session follows: a stranger or a late end must not hide it.
    pub(super) fn tell(&self, session: u64, state: GuardState) {
        let owner = *self.owner.borrow();
        if owner == 0 || owner == session {
            self.state.send_replace(state);
        }
    }

    /// Says why somebody did not get as far as asking, where nobody else did either.
    pub(super) fn tell_while_nobody_asked(&self, why: GuardState) {
        self.state.send_if_modified(|state| {
            let nobody = *state == GuardState::Idle;
            if nobody {
                *state = why;
            }
            nobody
        });
    }

    /// This session follows from here on; whoever did before it ends. False where a later one follows already.
    pub(super) fn take_over(&self, session: u64) -> bool {
        self.owner.send_if_modified(|owner| {
            let later = session > *owner;
            if later {
                *owner = session;
            }
            later
        })
    }

    /// This session follows no more.
    pub(super) fn give_up(&self, session: u64) {
        self.owner.send_if_modified(|owner| {
            let mine = *owner == session;
            if mine {
                *owner = 0;
            }
            mine
        });
    }

    /// Done when a later session has taken over.
    pub(super) async fn replaced(&self, session: u64) {
        let mut owner = self.owner.subscribe();
        if owner.wait_for(|owner| *owner > session).await.is_err() {
            // The sender lives in `self`.
            std::future::pending::<()>().await;
        }
    }

    /// The stream goes on at this offset.
    pub(super) fn resume_at(&self, request: &Psync) {
        self.inner().reader.resume_at(request.offset);
    }

    /// Reads bytes of the stream on their way to the source.
    pub(super) fn read(&self, bytes: &[u8]) {
        self.inner().reader.read(bytes);
    }

    /// Counts what was relayed, without waking anybody.
    pub(super) fn relayed(&self, session: u64, bytes: u64) {
        if *self.owner.borrow() != session {
            return;
        }
        self.state.send_if_modified(|state| {
            if let GuardState::Following { relayed_bytes, .. } = state {
                *relayed_bytes += bytes;
            }
            false
        });
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
