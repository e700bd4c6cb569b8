//! Lets the demoted source follow the target, and never lets it be wiped.
//!
//! ```text
//!  source --REPLICAOF guard--> [ handshake ] --PSYNC--> parked ... unpark() --> [ may the target continue it? INFO ]
//!                                                                                 │ no: -NOMASTERLINK, and why
//!                                                       target <--- PSYNC --------┘ yes
//!                                                         │ +CONTINUE, and nothing else in the world
//!  source <=================== relay, reading along ======┘
//! ```
//!
//! A full copy empties the source before it learns that it cannot read it (measured on 11 of 20 version pairs), and so
//! do `-ERR` (the source then asks with SYNC), `+DUALCHANNELSYNC` and `+RDBCHANNELSYNC`. So this is a whitelist: the
//! source gets our own answers to its handshake, and of the target's bytes only those that follow `+CONTINUE`.
//! A refused PSYNC is always *answered*, with `-NOMASTERLINK`: Redis 6.2 forgets its history when the connection just
//! closes there, and with it the way back.
//!
//! The relay reads the stream and keeps the keys of what the source cannot execute: the way back is exact but for these.

mod ask;
mod foreign;
mod handshake;
mod relay;
mod session;
mod shared;
mod stream;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;
use understudy_config::{GuardAddress, ListenAddress};
use understudy_net::{Acceptor, Endpoint, ListenError, Listener, TlsError};
use understudy_resp::command::Server;

pub use foreign::{ForeignKey, ForeignKeys};

use shared::Shared;

/// Sessions at once. A source has one, and for a moment two when it reconnects; more are strangers.
const SESSIONS_MAX: usize = 8;
/// Pause after a failed accept: the process may be out of descriptors, and asking again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest time that `stop` gives its sessions to answer a PSYNC that is open.
const STOP_MAX: Duration = Duration::from_secs(2);

/// What became of the source's link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardState {
    /// The source has not asked yet.
    Idle,
    /// The source asked to continue, and its request is held back.
    Parked {
        /// The history it has.
        replid: String,
        /// The next byte that it needs.
        offset: u64,
    },
    /// The target is being asked.
    Asking,
    /// `+CONTINUE` was seen: the way back is proven, and the source follows.
    Following {
        /// Since when.
        since: SystemTime,
        /// The offset of the first byte that was relayed.
        from_offset: u64,
        /// Bytes relayed since. They count as `from_offset`'s history does; the source may still have to execute some.
        relayed_bytes: u64,
    },
    /// The source asked, and was told that it cannot now. It asks again every second.
    Refused {
        /// Why.
        why: String,
        /// True when the target was not there to be asked: the next time it may say otherwise.
        passing: bool,
    },
    /// The link was there, or its request was, and has ended. The source comes again by itself.
    Lost {
        /// Why.
        why: String,
    },
}

impl GuardState {
    /// The names of all states, as metrics have them.
    pub(crate) const NAMES: [&str; 6] =
        ["idle", "parked", "asking", "following", "refused", "lost"];

    /// This state's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            GuardState::Idle => "idle",
            GuardState::Parked { .. } => "parked",
            GuardState::Asking => "asking",
            GuardState::Following { .. } => "following",
            GuardState::Refused { .. } => "refused",
            GuardState::Lost { .. } => "lost",
        }
    }

    /// Why it ended or was refused, where it did or was.
    pub(crate) fn why(&self) -> Option<&str> {
        match self {
            GuardState::Refused { why, .. } | GuardState::Lost { why } => Some(why),
            GuardState::Idle
            | GuardState::Parked { .. }
            | GuardState::Asking
            | GuardState::Following { .. } => None,
        }
    }

    /// True while the source follows.
    pub fn is_following(&self) -> bool {
        matches!(self, GuardState::Following { .. })
    }
}

/// Why the guard cannot be.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// Its address cannot be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Its certificate or key cannot be used.
    #[error("read control.guard.tls")]
    Tls(#[from] TlsError),
}

/// A listener that the source is told to follow, in the target's place. It starts parked.
///
/// When it is dropped, open requests are refused as far as one write allows; `stop` does it properly.
pub struct Guard {
    shared: Arc<Shared>,
    address: (String, u16),
    stop: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Guard {
    /// Binds and waits for the source. `target` is a `&BackendUrl`, or an `Endpoint`. `source` is what the source's version knows: what it does not know is reported.
    pub async fn listen(
        address: &GuardAddress,
        target: impl Into<Endpoint>,
        source: Server,
    ) -> Result<Guard, GuardError> {
        // Read anew for each guard: a certificate that was renewed meanwhile is shown.
        let acceptor = address.tls.as_ref().map(Acceptor::from_files).transpose()?;
        let listen = ListenAddress::Tcp(address.listen.host.clone(), address.listen.port);
        let mut listener = Listener::bind(&listen).await?;
        if let Some(acceptor) = acceptor {
            listener = listener.with_tls(acceptor);
        }
        let port = match listener.local_address() {
            ListenAddress::Tcp(_, port) => port,
            ListenAddress::Unix(..) => 0,
        };
        let shared = Arc::new(Shared::new(target.into(), source));
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, shared.clone(), stopped));
        Ok(Guard {
            shared,
            address: (address.announced_host().to_owned(), port),
            stop,
            accepting,
        })
    }

    /// What to hand to REPLICAOF.
    pub fn address(&self) -> (String, u16) {
        self.address.clone()
    }

    /// Holds back what the source asks from now on. A link that follows goes on.
    pub fn park(&self) {
        self.shared.park(true);
    }

    /// Asks the target what the source asked, now and for every later request. Forgets earlier refusals.
    pub fn unpark(&self) {
        self.shared.park(false);
    }

    /// The link, now and as it changes. `relayed_bytes` grows without waking anybody.
    pub fn states(&self) -> watch::Receiver<GuardState> {
        self.shared.states()
    }

    /// The keys of commands that the source cannot execute, since this guard was made or told.
    pub fn foreign(&self) -> ForeignKeys {
        self.shared.foreign()
    }

    /// Goes on from what an earlier guard of the same link knew: before a restart of control.
    pub fn remember(&self, earlier: ForeignKeys) {
        self.shared.remember(earlier);
    }

    /// Refuses what is open, ends the link, and gives the port back.
    pub async fn stop(self) {
        let _nobody_left = self.stop.send(true);
        let accepting = self.accepting.abort_handle();
        if tokio::time::timeout(STOP_MAX, self.accepting)
            .await
            .is_err()
        {
            accepting.abort();
        }
    }
}

async fn accept(listener: Listener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            // Cancel safe: both only look. An error means that the guard was dropped.
            _told_or_dropped = stopped.changed() => break,
            accepted = listener.accept() => match accepted {
                Ok(incoming) if sessions.len() < SESSIONS_MAX => {
                    sessions.spawn(session::run(incoming, shared.clone(), stopped.clone()));
                }
                Ok(incoming) => tracing::warn!(peer = %incoming.peer(), "refuse a connection to the guard: too many"),
                Err(cause) => {
                    tracing::warn!(%cause, "accept a connection to the guard");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_ended) = sessions.join_next() => {}
        }
    }
    drop(listener);
    // Each session sees `stopped` too, answers what is open, and ends.
    while sessions.join_next().await.is_some() {}
}
