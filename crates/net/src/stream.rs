//! The slow path's view of a connection: `AsyncRead` and `AsyncWrite`, over a socket or in memory.
//!
//! In one process, control talks to its own proxy over the in-memory form: the same bytes, no port, no password.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use crate::socket::Socket;

/// Bytes that each direction of an in-memory connection holds before its writer waits.
const MEMORY_BYTES: usize = 64 * 1024;

/// A connection for code that may wait.
#[derive(Debug)]
pub struct Stream(Wire);

#[derive(Debug)]
enum Wire {
    Socket(Socket),
    Memory(DuplexStream),
}

impl Stream {
    /// Both ends of a connection inside this process.
    pub fn in_memory() -> (Stream, Stream) {
        let (one, other) = tokio::io::duplex(MEMORY_BYTES);
        (Stream(Wire::Memory(one)), Stream(Wire::Memory(other)))
    }

    /// The socket underneath, where there is one, taken out.
    pub fn into_socket(self) -> Option<Socket> {
        match self.0 {
            Wire::Socket(socket) => Some(socket),
            Wire::Memory(_) => None,
        }
    }

    /// The socket underneath, where there is one.
    pub fn socket(&self) -> Option<&Socket> {
        match &self.0 {
            Wire::Socket(socket) => Some(socket),
            Wire::Memory(_) => None,
        }
    }
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Stream {
        Stream(Wire::Socket(socket))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = match &mut self.0 {
            Wire::Memory(duplex) => return Pin::new(duplex).poll_read(context, into),
            Wire::Socket(socket) => socket,
        };
        loop {
            match socket.try_read(into.initialize_unfilled()) {
                Ok(read) => {
                    into.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                    ready!(socket.poll_readable(context))?;
                }
                Err(cause) => return Poll::Ready(Err(cause)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = match &mut self.0 {
            Wire::Memory(duplex) => return Pin::new(duplex).poll_write(context, from),
            Wire::Socket(socket) => socket,
        };
        loop {
            match socket.try_write(from) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                    ready!(socket.poll_writable(context))?;
                }
                Err(cause) => return Poll::Ready(Err(cause)),
            }
        }
    }

    /// Nothing waits here: `try_write` counts only what is on its way.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Wire::Memory(duplex) => Pin::new(duplex).poll_shutdown(context),
            Wire::Socket(socket) => {
                socket.end_writing();
                Poll::Ready(Ok(()))
            }
        }
    }
}
