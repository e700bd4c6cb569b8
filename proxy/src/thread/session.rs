//! One client's task: from its handshake to its close.
//!
//! Nothing here is dropped half way. A session ends when the client does, when the core wants it closed behind its last
//! reply, or with its worker.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use understudy_net::{Incoming, Socket};

use super::mailbox::Place;
use super::shell::{Fresh, Session, Shell};
use super::wire::{Event, Wire};
use crate::worker::{ClientEnd, CloseReason, SessionId, Took};

/// Longest TLS handshake of a client. Then the connection is closed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From so many bytes of one client on, lanes are written before the next client is read: one system call is little for
/// that much, and the bytes are still in the processor's cache.
const LONG_READ_BYTES: usize = 32 << 10;
/// How long a connection that we close keeps reading, so that the error we said is not destroyed by a reset.
const LINGER: Duration = Duration::from_millis(500);

pub(super) async fn run(shell: Rc<Shell>, pool: Arc<str>, incoming: Incoming, place: Place) {
    let peer = incoming.peer().to_string();
    let socket = match incoming.into_socket(HANDSHAKE_TIMEOUT).await {
        Ok(socket) => socket,
        Err(cause) => return tracing::debug!(%peer, %cause, "take a connection"),
    };
    match open(&shell, &pool, peer) {
        Ok(id) => {
            let session = Rc::new(Session {
                id,
                wire: Wire::new(socket),
                closing: std::cell::Cell::new(None),
            });
            shell.sessions.borrow_mut().put(id, Rc::clone(&session));
            converse(&shell, &session).await;
            close(&shell, &session).await;
        }
        Err(text) => refuse(socket, &text).await,
    }
    drop(place);
}

/// A session in the core, or what to tell the client.
fn open(shell: &Shell, pool: &str, peer: String) -> Result<SessionId, String> {
    let pool = shell
        .routes
        .borrow()
        .pool_named(pool)
        .ok_or_else(|| "ERR this pool is no longer served".to_owned())?;
    let opened = shell
        .core
        .borrow_mut()
        .open_session(pool, peer, shell.now());
    opened.map_err(|reason| reason.to_string())
}

async fn refuse(socket: Socket, text: &str) {
    // A fresh socket has room for one line; whoever does not read it learns by the close.
    if socket.writable().await.is_ok() {
        let _unread = socket.try_write(format!("-{text}\r\n").as_bytes());
    }
    let wire = Wire::new(socket);
    linger(&wire).await;
}

/// Moves bytes until the session ends.
async fn converse(shell: &Rc<Shell>, session: &Session) {
    loop {
        match session.wire.event().await {
            Event::Ended => return,
            Event::Writable => {
                shell.write_session(session, shell.now());
                shell.settle();
            }
            Event::Readable => {
                if !read(shell, session) {
                    return;
                }
            }
        }
    }
}

/// Hands what the client sent to the core. False when the connection is gone.
fn read(shell: &Rc<Shell>, session: &Session) -> bool {
    let now = shell.now();
    shell.end_leases(now);
    let mut scratch = shell.scratch.borrow_mut();
    let mut length = 0;
    match session.wire.read(&mut scratch) {
        Ok(None) => return true,
        Ok(Some(0)) => {
            session.wire.at_end();
            shell
                .core
                .borrow_mut()
                .client_closed(session.id, ClientEnd::ReadClosed, now);
        }
        Ok(Some(taken)) => {
            length = taken;
            let took = shell
                .core
                .borrow_mut()
                .client_bytes(session.id, &scratch[..taken], now);
            match took {
                Took::Continue => {}
                Took::Pause => session.wire.pause(),
            }
        }
        Err(_reset) => return false,
    }
    drop(scratch);
    if length >= LONG_READ_BYTES {
        shell.settle();
        shell.write_lanes();
    } else {
        let Fresh { reads, bytes } = shell.fresh.get();
        shell.fresh.set(Fresh {
            reads: reads + 1,
            bytes: bytes + length,
        });
        shell.flush.raise();
    }
    true
}

/// Frees the session, then lets a client that erred read why.
async fn close(shell: &Rc<Shell>, session: &Session) {
    shell.sessions.borrow_mut().take(session.id);
    shell
        .core
        .borrow_mut()
        .client_closed(session.id, ClientEnd::Gone, shell.now());
    shell.settle();
    if let Some(CloseReason::Protocol | CloseReason::FrameTooLarge) = session.closing.get() {
        linger(&session.wire).await;
    }
}

/// Says that nothing more will come and discards what still arrives, for a while.
async fn linger(wire: &Wire) {
    wire.end_writing();
    let mut discarded = vec![0; 4096];
    let drained = async {
        while wire.readable().await && !matches!(wire.read(&mut discarded), Ok(Some(0)) | Err(_)) {}
    };
    let _late = tokio::time::timeout(LINGER, drained).await;
}
