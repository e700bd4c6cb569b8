//! Where connections arrive. Accepting is quick; a TLS handshake, which a slow client may drag out, is not part of it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use understudy_config::ListenAddress;

use crate::socket::Socket;
use crate::tls::{Acceptor, TlsError};

/// Why we cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}: {cause}")]
pub struct ListenError {
    /// Where.
    pub address: String,
    /// Why.
    #[source]
    pub cause: io::Error,
}

/// Who is at the other end, for logs and `PROXY SESSIONS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerName {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A process on this machine, over the socket at this path.
    Unix(PathBuf),
    /// This process itself.
    Memory,
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerName::Tcp(address) => write!(f, "{address}"),
            PeerName::Unix(path) => write!(f, "unix:{}", path.display()),
            PeerName::Memory => f.write_str("memory"),
        }
    }
}

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    place: Place,
    acceptor: Option<Acceptor>,
}

#[derive(Debug)]
enum Place {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds. TCP port 0 takes a free one; the path of a unix socket that nobody serves any more is taken over.
    pub async fn bind(address: &ListenAddress) -> Result<Listener, ListenError> {
        let place = match address {
            ListenAddress::Tcp(host, port) => TcpListener::bind((host.as_str(), *port))
                .await
                .map(Place::Tcp),
            ListenAddress::Unix(path, mode) => {
                bind_unix(path, *mode).map(|listener| Place::Unix(listener, path.clone()))
            }
        };
        let place = place.map_err(|cause| ListenError {
            address: address.to_string(),
            cause,
        })?;
        Ok(Listener {
            place,
            acceptor: None,
        })
    }

    /// Serves TLS from here on. A unix socket needs none and ignores it.
    #[must_use]
    pub fn with_tls(mut self, acceptor: Acceptor) -> Listener {
        self.acceptor = Some(acceptor);
        self
    }

    /// Waits for the next connection. Cancel safe.
    ///
    /// An error concerns one connection (it went away, or the process has no descriptor left): go on after a pause.
    pub async fn accept(&self) -> io::Result<Incoming> {
        match &self.place {
            Place::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let wire = Wire::Tcp(stream.into_std()?, self.acceptor.clone());
                Ok(Incoming {
                    wire,
                    peer: PeerName::Tcp(peer),
                })
            }
            Place::Unix(listener, path) => {
                let (stream, _unnamed) = listener.accept().await?;
                Ok(Incoming {
                    wire: Wire::Unix(stream.into_std()?),
                    peer: PeerName::Unix(path.clone()),
                })
            }
        }
    }

    /// Where it really listens: the port that was taken for port 0.
    pub fn local_address(&self) -> ListenAddress {
        match &self.place {
            Place::Tcp(listener) => match listener.local_addr() {
                Ok(address) => ListenAddress::Tcp(address.ip().to_string(), address.port()),
                Err(_) => ListenAddress::Tcp(String::new(), 0),
            },
            Place::Unix(_, path) => ListenAddress::Unix(path.clone(), None),
        }
    }
}

/// The path disappears with its listener, so that the next start finds it free.
impl Drop for Listener {
    fn drop(&mut self) {
        if let Place::Unix(_, path) = &self.place {
            let _already_gone = std::fs::remove_file(path);
        }
    }
}

fn bind_unix(path: &Path, mode: Option<u32>) -> io::Result<UnixListener> {
    let stale = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && std::os::unix::net::UnixStream::connect(path).is_err();
    if stale {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(listener)
}

/// A connection that was accepted and belongs to no runtime yet: it may be handed to another thread.
#[derive(Debug)]
pub struct Incoming {
    wire: Wire,
    peer: PeerName,
}

#[derive(Debug)]
enum Wire {
    Tcp(std::net::TcpStream, Option<Acceptor>),
    Unix(std::os::unix::net::UnixStream),
}

impl Incoming {
    /// Who is at the other end.
    pub fn peer(&self) -> &PeerName {
        &self.peer
    }

    /// Registers with the runtime of the calling task and, where the listener serves TLS, shakes hands within `timeout`.
    ///
    /// Not cancel safe: dropped half way, the connection closes.
    pub async fn into_socket(self, timeout: Duration) -> Result<Socket, TlsError> {
        match self.wire {
            Wire::Unix(stream) => UnixStream::from_std(stream)
                .map(Socket::Unix)
                .map_err(TlsError::Handshake),
            Wire::Tcp(stream, acceptor) => {
                let stream = TcpStream::from_std(stream).map_err(TlsError::Handshake)?;
                let Some(acceptor) = acceptor else {
                    return Socket::tcp(stream).map_err(TlsError::Handshake);
                };
                crate::socket::tune(&stream).map_err(TlsError::Handshake)?;
                let shaken = tokio::time::timeout(timeout, acceptor.accept(stream)).await;
                let session =
                    shaken.map_err(|_| TlsError::Handshake(io::ErrorKind::TimedOut.into()))??;
                Ok(Socket::Tls(Box::new(session)))
            }
        }
    }
}
