//! TLS: what each side shows and believes, and the session that a socket drives by hand.
//!
//! The provider is ring, named at each builder, so that no process-wide default has to be installed.

mod identity;
mod session;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use understudy_config::{BackendTls, TlsFiles};

pub(crate) use session::TlsSession;

/// What we believe and show when we dial.
#[derive(Debug, Clone, Default)]
pub struct ClientTlsOptions {
    /// Authorities that may sign the server's certificate, PEM. Without it: those of the system.
    pub authority: Option<PathBuf>,
    /// Whose certificate is expected, where that differs from the host that is dialed.
    pub server_name: Option<String>,
    /// How the server proves who it is.
    pub identity: ServerIdentity,
    /// Our own certificate chain and key, where the server asks for one.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl From<&BackendTls> for ClientTlsOptions {
    fn from(files: &BackendTls) -> ClientTlsOptions {
        ClientTlsOptions {
            authority: Some(files.ca.clone()),
            server_name: files.server_name.clone(),
            identity: ServerIdentity::Verified,
            certificate: files.identity.clone(),
        }
    }
}

/// How far a server's certificate is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServerIdentity {
    /// Signed by an authority we believe, for the name we expect.
    #[default]
    Verified,
    /// Not checked at all: anybody on the way can read and change everything. Only ever chosen by name.
    Insecure,
}

/// Why TLS could not be set up or agreed on.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("read {}: {cause}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A file was read and holds nothing usable.
    #[error("{} holds no {what}", path.display())]
    Empty {
        /// Which one.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Certificates, key or name do not fit together.
    #[error("set up TLS: {0}")]
    Setup(String),
    /// The handshake failed.
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
}

/// The listening side, made once from its files.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Acceptor {
    /// Reads the files; every later connection uses what was read.
    pub fn from_files(files: &TlsFiles) -> Result<Acceptor, TlsError> {
        let config = identity::server_config(files)?;
        Ok(Acceptor(TlsAcceptor::from(Arc::new(config))))
    }

    pub(crate) async fn accept(&self, tcp: TcpStream) -> Result<TlsSession, TlsError> {
        let stream = self.0.accept(tcp).await.map_err(TlsError::Handshake)?;
        let (tcp, connection) = stream.into_inner();
        TlsSession::new(tcp, rustls::Connection::Server(connection)).map_err(TlsError::Handshake)
    }
}

/// The dialing side, made once from its files.
#[derive(Clone)]
pub struct ClientTls {
    connector: TlsConnector,
    server_name: Option<String>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Reads the files; every later connection uses what was read.
    pub fn new(options: &ClientTlsOptions) -> Result<ClientTls, TlsError> {
        let config = identity::client_config(options)?;
        Ok(ClientTls {
            connector: TlsConnector::from(Arc::new(config)),
            server_name: options.server_name.clone(),
        })
    }

    pub(crate) async fn connect(&self, tcp: TcpStream, host: &str) -> Result<TlsSession, TlsError> {
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name =
            ServerName::try_from(name).map_err(|cause| TlsError::Setup(cause.to_string()))?;
        let stream = self
            .connector
            .connect(name, tcp)
            .await
            .map_err(TlsError::Handshake)?;
        let (tcp, connection) = stream.into_inner();
        TlsSession::new(tcp, rustls::Connection::Client(connection)).map_err(TlsError::Handshake)
    }
}
