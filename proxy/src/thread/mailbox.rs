//! What other threads may put before a worker, and how they count its sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use understudy_net::Incoming;

use crate::acceptor::PoolPlace;
use crate::worker::{Ack, Order};

/// Letters that wait for one worker. At the limit an acceptor waits and an order counts as not answered.
const LETTERS_MAX: usize = 1024;

/// One letter to a worker. Letters are read in the order they were sent.
pub(crate) enum Letter {
    /// A client connected.
    Open {
        /// Name of the pool whose listener accepted it.
        pool: Arc<str>,
        /// The connection.
        incoming: Incoming,
        /// Its place among the worker's sessions.
        place: Place,
    },
    /// An order for the core. The sender of the answer is dropped unanswered when the worker is rebuilt.
    Order(Order, oneshot::Sender<Ack>),
    /// Close sessions as they become idle, all of them at the limit, and end the thread.
    Drain(Duration),
    /// Run this on the worker's thread: how tests freeze a worker or make it panic.
    #[cfg(debug_assertions)]
    Run(Box<dyn FnOnce() + Send>),
}

/// How everybody else knows a worker.
#[derive(Clone)]
pub(crate) struct Address {
    /// Number of the worker, from 0.
    pub(crate) worker: u16,
    letters: mpsc::Sender<Letter>,
    sessions: Arc<AtomicUsize>,
}

/// A session's place in the counts of its worker and its pool, given back when dropped.
pub(crate) struct Place {
    worker: Arc<AtomicUsize>,
    _pool: PoolPlace,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Address {
    /// A worker's address and the box that its thread reads.
    pub(crate) fn new(worker: u16) -> (Address, mpsc::Receiver<Letter>) {
        let (letters, mailbox) = mpsc::channel(LETTERS_MAX);
        (
            Address {
                worker,
                letters,
                sessions: Arc::default(),
            },
            mailbox,
        )
    }

    /// How many sessions it has, those on their way to it included.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Hands over a connection; waits while the worker's box is full. Dropped half way, the connection closes.
    pub(crate) async fn open(&self, pool: Arc<str>, incoming: Incoming, place: PoolPlace) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            worker: Arc::clone(&self.sessions),
            _pool: place,
        };
        // A worker that has ended takes nobody: the connection closes with the letter.
        let _ended = self
            .letters
            .send(Letter::Open {
                pool,
                incoming,
                place,
            })
            .await;
    }

    /// Posts an order. The receiver fails when the box is full, the worker has ended, or it is rebuilt before it answers.
    pub(crate) fn order(&self, order: Order) -> oneshot::Receiver<Ack> {
        let (answer, answered) = oneshot::channel();
        self.post(Letter::Order(order, answer));
        answered
    }

    /// Posts a letter if there is room.
    pub(crate) fn post(&self, letter: Letter) {
        if let Err(cause) = self.letters.try_send(letter) {
            tracing::warn!(worker = self.worker, %cause, "post a letter to a worker");
        }
    }
}
