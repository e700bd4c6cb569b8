//! One connection, whatever carries it: TCP, a unix socket, or TLS over TCP.
//!
//! Reading and writing never wait: `try_read` and `try_write` take `&self`, so the reader of a socket
//! and its writer need no lock between them, and a task waits in `readable` or `writable` instead.

use std::io;
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
            Socket::Tcp(stream) => {
                let taken = stream.try_read(into)?;
                if is_drained(taken, into.len()) {
                    let _cleared = stream.try_io(Interest::READABLE, nothing_left);
                }
                Ok(taken)
            }
            Socket::Unix(stream) => {
                let taken = stream.try_read(into)?;
                if is_drained(taken, into.len()) {
                    let _cleared = stream.try_io(Interest::READABLE, nothing_left);
                }
                Ok(taken)
            }
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

    /// Our own address, for `REPLCONF` and for logs.
    pub fn local_ip(&self) -> Option<std::net::IpAddr> {
        let address = match self {
            Socket::Tcp(stream) => stream.local_addr(),
            Socket::Tls(session) => session.tcp().local_addr(),
            Socket::Unix(_) => return None,
        };
        address.ok().map(|address| address.ip())
    }
}

/// Whether a read has emptied the kernel's buffer. With epoll's edges a short read says so, and the next bytes make a new
/// edge: asking again would only cost a system call that answers EAGAIN. tokio's own `poll_read` does the same.
fn is_drained(taken: usize, room: usize) -> bool {
    cfg!(target_os = "linux") && taken > 0 && taken < room
}

/// Makes `try_io` forget that the socket was readable.
fn nothing_left() -> io::Result<()> {
    Err(io::ErrorKind::WouldBlock.into())
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
