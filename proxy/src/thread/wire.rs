//! What the shell keeps for one socket beside the core: the socket, and why its task should wake.
//!
//! A session and a lane wait alike. The task of a wire is the only one that reads it; anybody on the thread may write it,
//! and whoever meets `WouldBlock` leaves `blocked` behind, so that the task waits for room and goes on.

use std::cell::Cell;
use std::io;
use std::task::{Context, Poll};

use understudy_net::Socket;

use super::signal::Signal;

/// One socket of a worker.
pub(crate) struct Wire {
    socket: Socket,
    wake: Signal,
    reading: Cell<Reading>,
    blocked: Cell<bool>,
    ended: Cell<bool>,
}

/// Whether the task takes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As they come.
    On,
    /// Not before `resume`; the kernel's window makes the peer wait.
    Paused,
    /// The peer has said that no more will come.
    AtEnd,
}

/// Why a wire's task goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// There may be bytes to read.
    Readable,
    /// There may be room to write again.
    Writable,
    /// The wire is to be closed.
    Ended,
}

/// How far a write came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// So many bytes; there may be room for more.
    Some(usize),
    /// The kernel takes no more for now. The wire's task will see `Writable`.
    Blocked,
    /// The connection is gone.
    Gone,
}

impl Wire {
    pub(crate) fn new(socket: Socket) -> Wire {
        Wire {
            socket,
            wake: Signal::default(),
            reading: Cell::new(Reading::On),
            blocked: Cell::new(false),
            ended: Cell::new(false),
        }
    }

    /// Waits for the next thing to do. Cancel safe: it consumes nothing but the wake-up.
    pub(crate) async fn event(&self) -> Event {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    fn poll_event(&self, context: &mut Context<'_>) -> Poll<Event> {
        // Registers the waker; a raise only means that the cells below are worth another look.
        while self.wake.poll(context).is_ready() {}
        if self.ended.get() {
            return Poll::Ready(Event::Ended);
        }
        // An error of the socket shows again when it is read or written.
        if self.blocked.get() && self.socket.poll_writable(context).is_ready() {
            self.blocked.set(false);
            return Poll::Ready(Event::Writable);
        }
        if self.reading.get() == Reading::On && self.socket.poll_readable(context).is_ready() {
            return Poll::Ready(Event::Readable);
        }
        Poll::Pending
    }

    /// Waits for bytes or the end, whatever else is going on. False when the connection is gone.
    pub(crate) async fn readable(&self) -> bool {
        self.socket.readable().await.is_ok()
    }

    /// Reads what is there: `None` when there is nothing yet, 0 at the end, an error when the connection is gone.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        match self.socket.try_read(into) {
            Ok(taken) => Ok(Some(taken)),
            Err(cause)
                if matches!(
                    cause.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            Err(cause) => Err(cause),
        }
    }

    /// Writes what fits.
    pub(crate) fn write(&self, from: &[u8]) -> Wrote {
        if self.blocked.get() {
            return Wrote::Blocked;
        }
        match self.socket.try_write(from) {
            Ok(0) => Wrote::Gone,
            Ok(taken) => Wrote::Some(taken),
            Err(cause)
                if matches!(
                    cause.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                self.blocked.set(true);
                self.wake.raise();
                Wrote::Blocked
            }
            Err(_) => Wrote::Gone,
        }
    }

    /// Stops taking bytes until `resume`.
    pub(crate) fn pause(&self) {
        if self.reading.get() == Reading::On {
            self.reading.set(Reading::Paused);
        }
    }

    /// Takes bytes again.
    pub(crate) fn resume(&self) {
        if self.reading.get() == Reading::Paused {
            self.reading.set(Reading::On);
            self.wake.raise();
        }
    }

    /// The peer has ended its direction: there is nothing more to read, but maybe to write.
    pub(crate) fn at_end(&self) {
        self.reading.set(Reading::AtEnd);
    }

    /// Asks the wire's task to close it.
    pub(crate) fn end(&self) {
        self.ended.set(true);
        self.wake.raise();
    }

    /// Tells the peer that no more bytes will come.
    pub(crate) fn end_writing(&self) {
        self.socket.end_writing();
    }
}
