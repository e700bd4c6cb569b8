//! One connection, whatever carries it: TCP, a unix socket, or TLS over TCP.
//!
//! Reading and writing never wait: `try_read` and `try_write` take `&self`, so the reader of a socket
//! and its writer need no lock between them, and a task waits in `readable` or `writable` instead.

use std::io::{self, Read};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BufMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use crate::tls::TlsSession;

/// Idle time before the first keepalive probe on TCP. A peer that vanished without a word is noticed
/// after this and `KEEPALIVE_PROBES` unanswered probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between two keepalive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Unanswered probes after which the kernel ends the connection.
const KEEPALIVE_PROBES: u32 = 3;
/// Plaintext moved per step where the caller's buffer is not initialised.
const TLS_CHUNK: usize = 16 * 1024;

/// An open connection.
#[derive(Debug)]
pub enum Socket {
    /// Plain TCP, `TCP_NODELAY` on.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// TLS over TCP, handshake done.
    Tls(Box<TlsSession>),
}

impl Socket {
    /// A TCP connection with nodelay and keepalive on.
    pub fn tcp(stream: TcpStream) -> io::Result<Socket> {
        tune(&stream)?;
        Ok(Socket::Tcp(stream))
    }

    /// Reads what is there. `Ok(0)` is the peer's end; `WouldBlock` means: wait in `readable`.
    pub fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => read_once(into, &SockRef::from(stream), |read| {
                stream.try_io(Interest::READABLE, read)
            }),
            Socket::Unix(stream) => read_once(into, &SockRef::from(stream), |read| {
                stream.try_io(Interest::READABLE, read)
            }),
            Socket::Tls(session) => session.try_read(into),
        }
    }

    /// Reads what is there into the spare capacity of a buffer, which must have some.
    pub fn try_read_buf<B: BufMut>(&self, into: &mut B) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_read_buf(into),
            Socket::Unix(stream) => stream.try_read_buf(into),
            Socket::Tls(session) => {
                let mut chunk = [0; TLS_CHUNK];
                let room = into.remaining_mut().min(TLS_CHUNK);
                let read = session.try_read(&mut chunk[..room])?;
                into.put_slice(&chunk[..read]);
                Ok(read)
            }
        }
    }

    /// Writes what fits and says how much is on its way. After `WouldBlock`, wait in `writable` and call again
    /// with bytes that start with the same ones: under TLS they may already be encrypted.
    pub fn try_write(&self, from: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write(from),
            Socket::Unix(stream) => stream.try_write(from),
            Socket::Tls(session) => session.try_write(from),
        }
    }

    /// Waits until `try_read` is worth calling. Cancel safe: nothing is consumed.
    pub async fn readable(&self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_readable(context)).await
    }

    /// Waits until `try_write` is worth calling. Cancel safe: nothing is consumed.
    pub async fn writable(&self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_writable(context)).await
    }

    /// `readable` for hand-written futures. One task at a time is woken.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => stream.poll_read_ready(context),
            Socket::Unix(stream) => stream.poll_read_ready(context),
            // Decrypted bytes that wait here never show on the file descriptor.
            Socket::Tls(session) if session.holds_plaintext() => Poll::Ready(Ok(())),
            Socket::Tls(session) => session.tcp().poll_read_ready(context),
        }
    }

    /// `writable` for hand-written futures. One task at a time is woken.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => stream.poll_write_ready(context),
            Socket::Unix(stream) => stream.poll_write_ready(context),
            Socket::Tls(session) => session.tcp().poll_write_ready(context),
        }
    }

    /// Tells the peer that no more bytes will come. Best effort: a connection that is gone has nobody to tell.
    pub fn end_writing(&self) {
        let ended = match self {
            Socket::Tcp(stream) => SockRef::from(stream).shutdown(std::net::Shutdown::Write),
            Socket::Unix(stream) => SockRef::from(stream).shutdown(std::net::Shutdown::Write),
            Socket::Tls(session) => {
                session.say_goodbye();
                SockRef::from(session.tcp()).shutdown(std::net::Shutdown::Write)
            }
        };
        if let Err(cause) = ended {
            tracing::trace!(%cause, "end writing");
        }
    }
}

/// Reads once. A read that did not fill its room has emptied the kernel's buffer, and with epoll's edges the next bytes
/// make a new event: so readiness is forgotten at once, and no system call is spent on hearing EAGAIN.
///
/// It must be forgotten inside the same `try_io` that read. There tokio forgets only the event that it had seen before the
/// read; an event that another thread's driver brings meanwhile stays, and nobody sleeps on bytes that are there.
fn read_once(
    into: &mut [u8],
    mut socket: &socket2::Socket,
    try_io: impl FnOnce(&mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut taken = None;
    let outcome = try_io(&mut || {
        let count = socket.read(into)?;
        taken = Some(count);
        let drained = cfg!(target_os = "linux") && count > 0 && count < into.len();
        if drained {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    });
    taken.map_or(outcome, Ok)
}

/// Small replies must leave at once, and a peer that lost power must be noticed.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
