//! One connection of the source: greet, park, ask, follow.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use understudy_net::{Incoming, PeerName, Socket, TlsError};

use super::GuardState;
use super::ask::{self, Continued, Refusal};
use super::handshake::{HandshakeError, Psync, greet};
use super::relay;
use super::shared::Shared;

/// Longest handshake of a source; a source gives itself as long to be answered.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How often a source that waits is told that we live; it gives up after `repl-timeout`, 60 s by default.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// What a primary sends while it prepares; a replica skips it.
const KEEP_ALIVE_BYTE: &[u8] = b"\n";

pub(super) async fn run(
    incoming: Incoming,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    let peer = incoming.peer().clone();
    let id = shared.new_session();
    let greeting = async {
        let source = incoming
            .into_socket(HANDSHAKE_MAX)
            .await
            .map_err(|cause| no_tls(&shared, &peer, &cause))?;
        let greeted = greet(&source)
            .await
            .map_err(|cause| refuse_stranger(&shared, id, &cause))?;
        Ok::<_, String>((source, greeted))
    };
    let greeted = tokio::select! {
        // Before its PSYNC a source loses nothing by a closed connection.
        _ = stopped.wait_for(|stopped| *stopped) => return,
        greeted = tokio::time::timeout(HANDSHAKE_MAX, greeting) => greeted,
    };
    let (source, greeted) = match greeted {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(why)) => return tracing::debug!(%peer, why, "no replication handshake"),
        Err(_) => return tracing::debug!(%peer, "no replication handshake in time"),
    };
    let open = OpenRequest {
        source: Some(source),
        owed: false,
    };
    let request = match greeted {
        Ok(request) => request,
        Err(why) => {
            open.refuse(&why);
            return shared.tell(
                id,
                GuardState::Refused {
                    why,
                    passing: false,
                },
            );
        }
    };
    let serving = serve(&shared, id, open, &request);
    let ended = tokio::select! {
        // Dropping the rest answers the request if it is still open, and closes both connections.
        _ = stopped.wait_for(|stopped| *stopped) => GuardState::Lost { why: "the guard was stopped".to_owned() },
        () = shared.replaced(id) => return tracing::debug!(%peer, "the source came again: end its former link"),
        ended = serving => ended,
    };
    tracing::info!(%peer, state = ended.name(), why = ended.why(), "the source's link through the guard ended");
    shared.tell(id, ended);
    shared.give_up(id);
}

/// A server that cannot come in is told of where its link is waited for: its log and ours are all that say why.
fn no_tls(shared: &Shared, peer: &PeerName, cause: &TlsError) -> String {
    let why = format!("{peer} could not come in: {cause}");
    tracing::warn!(%peer, %cause, "a server could not come in to the guard");
    shared.tell_while_nobody_asked(GuardState::Lost { why: why.clone() });
    why
}

fn refuse_stranger(shared: &Shared, id: u64, cause: &HandshakeError) -> String {
    let why = cause.to_string();
    if matches!(cause, HandshakeError::Sync) {
        shared.tell(
            id,
            GuardState::Refused {
                why: why.clone(),
                passing: false,
            },
        );
    }
    why
}

/// From the request to the end of the link; gives the state to be left behind.
async fn serve(shared: &Shared, id: u64, mut open: OpenRequest, request: &Psync) -> GuardState {
    let mut parked = shared.parked();
    let is_parked = *parked.borrow_and_update();
    let mut prepared = None;
    if is_parked {
        let Psync { replid, offset } = request.clone();
        shared.tell(id, GuardState::Parked { replid, offset });
        let unparked = async {
            // A connection that cannot be had now may be had when it counts; then it is asked for why.
            let early = ask::prepare(shared).await.ok();
            let _unparked = parked.wait_for(|parked| !*parked).await;
            early
        };
        match while_waiting(&mut open, unparked).await {
            Ok(early) => prepared = early,
            Err(why) => return GuardState::Lost { why },
        }
    }
    shared.tell(id, GuardState::Asking);
    let asking = ask::ask(shared, prepared, request);
    let asked = while_waiting(&mut open, asking).await;
    let Continued {
        target,
        line,
        stream,
    } = match asked {
        Ok(Ok(continued)) => continued,
        Ok(Err(Refusal { why, passing })) => {
            open.refuse(&why);
            return GuardState::Refused { why, passing };
        }
        Err(why) => return GuardState::Lost { why },
    };
    if !shared.take_over(id) {
        let why = "the source has come again since".to_owned();
        open.refuse(&why);
        return GuardState::Refused { why, passing: true };
    }
    shared.resume_at(request);
    let Ok(source) = open.answer(&line).await else {
        return GuardState::Lost {
            why: "the source's connection broke".to_owned(),
        };
    };
    tracing::info!(
        offset = request.offset,
        "+CONTINUE: the source follows the target through the guard"
    );
    let since = SystemTime::now();
    shared.tell(
        id,
        GuardState::Following {
            since,
            from_offset: request.offset,
            relayed_bytes: 0,
        },
    );
    GuardState::Lost {
        why: relay::run(shared, id, &target, &source, &stream).await,
    }
}

/// Waits for something while the source waits for us: keeps its connection alive and notices when it goes.
async fn while_waiting<T>(
    open: &mut OpenRequest,
    what: impl Future<Output = T>,
) -> Result<T, String> {
    let mut what = std::pin::pin!(what);
    let mut alive = tokio::time::interval(KEEP_ALIVE);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    alive.tick().await;
    let mut unexpected = [0; 64];
    loop {
        let Some(source) = open.source.as_ref() else {
            return Err("the source is gone".to_owned());
        };
        tokio::select! {
            biased;
            done = &mut what => return Ok(done),
            // Cancel safe. A replica says nothing while it waits, so this is its end.
            read = relay::read_some(source, &mut unexpected) => match read {
                Ok(read) if read > 0 => return Err("the source spoke before it was answered".to_owned()),
                _ => return Err("the source went away while it waited".to_owned()),
            },
            _ = alive.tick() => {
                // A byte that does not fit is no loss: the next one comes in a second. By TLS it may be on its way all the
                // same, and what is said next has to begin with it.
                open.owed = source.try_write(KEEP_ALIVE_BYTE).is_err();
            }
        }
    }
}

/// A PSYNC that has no answer yet. It is answered whatever happens, since Redis 6.2 drops its history when the
/// connection closes at this point, and would then ask for a full copy for ever.
struct OpenRequest {
    source: Option<Socket>,
    /// The last keep-alive did not fit.
    owed: bool,
}

impl OpenRequest {
    /// Not now: the source keeps its data and its history, and comes again.
    fn refuse(mut self, why: &str) {
        tracing::info!(why, "refuse the source's request");
        self.say_no();
    }

    /// Passes the target's answer on; from here on closing is harmless.
    async fn answer(mut self, line: &[u8]) -> std::io::Result<Socket> {
        let Some(source) = self.source.take() else {
            return Err(std::io::ErrorKind::NotConnected.into());
        };
        relay::write_all(&source, &behind_the_owed(self.owed, line)).await?;
        Ok(source)
    }

    fn say_no(&mut self) {
        if let Some(source) = self.source.take() {
            // One short line into an empty socket buffer: it fits or the connection is dead.
            let answer = b"-NOMASTERLINK the guard cannot continue this link now\r\n";
            let _dead = source.try_write(&behind_the_owed(self.owed, answer));
            source.end_writing();
        }
    }
}

/// A source skips the bytes that keep it waiting, so one too many does no harm.
fn behind_the_owed(owed: bool, line: &[u8]) -> Cow<'_, [u8]> {
    match owed {
        false => Cow::Borrowed(line),
        true => [KEEP_ALIVE_BYTE, line].concat().into(),
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.say_no();
    }
}
