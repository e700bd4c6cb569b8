//! Takes connections of one pool and hands each to the worker with the fewest sessions.
//!
//! The socket belongs to no runtime until its worker opens it, so that all its wake-ups happen on that worker's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use understudy_net::{Incoming, Listener};

use crate::orders::Crew;

/// Rest after a failed accept: out of file descriptors, most likely, and they come back with time.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Longest TLS handshake, and longest wait for room, of a client that is refused anyway.
const REFUSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The sessions of one pool, over all workers.
#[derive(Clone, Default)]
pub(crate) struct PoolCount(Arc<AtomicUsize>);

/// A session's place in its pool's count, given back when dropped.
pub(crate) struct PoolPlace(Arc<AtomicUsize>);

impl PoolCount {
    /// A place, unless `max` are taken.
    fn enter(&self, max: usize) -> Option<PoolPlace> {
        let place = PoolPlace(Arc::clone(&self.0));
        // The place gives back what was counted, refused or not.
        (self.0.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
    }
}

impl Drop for PoolPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts until its task is aborted. `sessions_max` is asked each time, since a reload may change it.
pub(crate) async fn run(
    listener: Listener,
    pool: Arc<str>,
    crew: Crew,
    sessions_max: impl Fn() -> usize,
) {
    let count = PoolCount::default();
    loop {
        let incoming = match listener.accept().await {
            Ok(incoming) => incoming,
            Err(cause) => {
                tracing::warn!(%pool, %cause, "accept a client");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let Some(place) = count.enter(sessions_max()) else {
            tracing::warn!(%pool, "refuse a client: the pool has as many sessions as it may");
            tokio::spawn(refuse(incoming));
            continue;
        };
        let Some(worker) = crew.idlest() else { return };
        worker.open(Arc::clone(&pool), incoming, place).await;
    }
}

async fn refuse(incoming: Incoming) {
    let Ok(socket) = incoming.into_socket(REFUSE_TIMEOUT).await else {
        return;
    };
    // A fresh socket has room for one line; whoever does not read it learns by the close.
    if timeout(REFUSE_TIMEOUT, socket.writable())
        .await
        .is_ok_and(|waited| waited.is_ok())
    {
        let _unread = socket.try_write(b"-ERR max number of clients reached\r\n");
    }
    socket.end_writing();
}
