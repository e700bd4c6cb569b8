//! A TLS session driven by hand, so that it reads and writes like any other socket: without waiting, behind `&self`.
//!
//! ```text
//!   try_read   plaintext waiting? -> yes: copy it out
//!                                 -> no:  read_tls from tcp -> decrypt -> again     WouldBlock comes from tcp only
//!   try_write  plaintext -> one record, encrypted inside -> tcp took all of it? -> Ok(n)
//!                                                                      -> no:  WouldBlock, n stays `accepted`
//! ```
//!
//! `try_write` counts bytes only once all of their ciphertext is with the kernel. What is encrypted but not yet sent
//! is `accepted`: the next call, which starts with the same bytes, finishes it and only then counts them. So a
//! caller that stops on `Ok` leaves nothing behind in here, and needs no flush.
//!
//! Nor may the peer read what was not counted: it may be sent again on another connection. So what is `accepted` is never more
//! than one record, of which a part is nothing that can be read, and only `try_write` sends the rest of it.

use std::io::{self, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::Connection;
use tokio::net::TcpStream;

/// Plaintext of one record at most, in bytes (RFC 8446, 5.1); rustls' own default.
const RECORD_MAX: usize = 1 << 14;

/// An agreed TLS session over TCP.
#[derive(Debug)]
pub struct TlsSession {
    tcp: TcpStream,
    /// Never contended: one task at a time works on a socket. It only makes `&self` enough.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    connection: Connection,
    /// Decrypted bytes that nobody has read yet.
    plaintext: usize,
    /// Bytes of the caller that are encrypted, and not yet wholly with the kernel.
    accepted: usize,
}

impl TlsSession {
    /// Takes over after the handshake, with whatever came along with its last record.
    pub(super) fn new(tcp: TcpStream, mut connection: Connection) -> io::Result<TlsSession> {
        let plaintext = connection
            .process_new_packets()
            .map_err(invalid)?
            .plaintext_bytes_to_read();
        Ok(TlsSession {
            tcp,
            state: Mutex::new(State {
                connection,
                plaintext,
                accepted: 0,
            }),
        })
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(crate) fn holds_plaintext(&self) -> bool {
        self.state().plaintext > 0
    }

    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let mut state = self.state();
        loop {
            match state.connection.reader().read(into) {
                Ok(read) => {
                    state.plaintext = state.plaintext.saturating_sub(read);
                    return Ok(read);
                }
                // The peer closed without saying so. Frames have lengths, so a cut one is noticed above.
                Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
                Err(cause) => return Err(cause),
            }
            state.connection.read_tls(&mut Wire(&self.tcp))?;
            let processed = state.connection.process_new_packets();
            // Answers of the protocol itself (a key update, or the alert that says what was wrong). If the kernel
            // takes none now, they go out before the next write.
            if state.accepted == 0 {
                let _best_effort = state.send_encrypted(&self.tcp);
            }
            state.plaintext = processed.map_err(invalid)?.plaintext_bytes_to_read();
        }
    }

    pub(crate) fn try_write(&self, from: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        if state.accepted == 0 {
            // What the protocol itself still has to say goes first; the buffer behind it is bounded.
            state.send_encrypted(&self.tcp)?;
            let record = from.get(..RECORD_MAX).unwrap_or(from);
            state.accepted = state.connection.writer().write(record)?;
        }
        state.send_encrypted(&self.tcp)?;
        debug_assert!(
            state.accepted <= from.len(),
            "after WouldBlock the same bytes come again"
        );
        Ok(std::mem::take(&mut state.accepted).min(from.len()))
    }

    /// Sends the closing alert, as far as the kernel takes it. In the middle of a record there is none: a cut is what it is.
    pub(crate) fn say_goodbye(&self) {
        let mut state = self.state();
        if state.accepted > 0 {
            return;
        }
        state.connection.send_close_notify();
        let _best_effort = state.send_encrypted(&self.tcp);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send_encrypted(&mut self, tcp: &TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut Wire(tcp))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

/// The blocking traits that rustls wants, over a socket that answers `WouldBlock`.
struct Wire<'a>(&'a TcpStream);

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.try_write(from)
    }

    fn write_vectored(&mut self, from: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn invalid(cause: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause)
}
