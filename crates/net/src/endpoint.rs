//! Whom to dial, and as which user.

use std::fmt;
use std::path::PathBuf;

use understudy_config::{BackendUrl, Scheme, Secret};

use crate::tls::{ClientTls, ClientTlsOptions, TlsError};

/// A server's address, the user that we are there, and what we believe about its certificate.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub(crate) place: Place,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) db: u32,
}

#[derive(Debug, Clone)]
pub(crate) enum Place {
    Tcp { host: String, port: u16, tls: Tls },
    Unix(PathBuf),
}

/// What a TCP endpoint does before it speaks Redis.
#[derive(Debug, Clone)]
pub(crate) enum Tls {
    Off,
    /// Asked for by `rediss://`; the system's authorities are read at the first dial.
    SystemAuthorities,
    With(ClientTls),
    /// Of the address itself; its files are read at each dial.
    Files(Box<ClientTlsOptions>),
}

impl Endpoint {
    /// A plain TCP server without a user.
    pub fn tcp(host: impl Into<String>, port: u16) -> Endpoint {
        Endpoint::at(Place::Tcp {
            host: host.into(),
            port,
            tls: Tls::Off,
        })
    }

    /// A server behind a unix socket, without a user.
    pub fn unix(path: impl Into<PathBuf>) -> Endpoint {
        Endpoint::at(Place::Unix(path.into()))
    }

    fn at(place: Place) -> Endpoint {
        Endpoint {
            place,
            username: None,
            password: None,
            db: 0,
        }
    }

    /// The same server, as this user. Without a name it is `default`.
    #[must_use]
    pub fn with_user(mut self, username: Option<String>, password: Secret) -> Endpoint {
        self.username = username;
        self.password = Some(password);
        self
    }

    /// The same server over TLS with these certificates. A unix socket stays as it is.
    #[must_use]
    pub fn with_tls(mut self, client: ClientTls) -> Endpoint {
        if let Place::Tcp { tls, .. } = &mut self.place {
            *tls = Tls::With(client);
        }
        self
    }

    /// The database that a `Client` selects. The proxy's lanes say theirs in the greeting.
    #[must_use]
    pub fn with_db(mut self, db: u32) -> Endpoint {
        self.db = db;
        self
    }

    /// The database of the address.
    pub fn db(&self) -> u32 {
        self.db
    }

    pub(crate) fn default_tls() -> Result<ClientTls, TlsError> {
        ClientTls::new(&ClientTlsOptions::default())
    }
}

impl From<&BackendUrl> for Endpoint {
    fn from(url: &BackendUrl) -> Endpoint {
        let tcp = |tls| Place::Tcp {
            host: url.host.clone(),
            port: url.port,
            tls,
        };
        let place = match url.scheme {
            Scheme::Redis => tcp(Tls::Off),
            Scheme::Rediss => tcp(match &url.tls {
                Some(files) => Tls::Files(Box::new(ClientTlsOptions::from(&**files))),
                None => Tls::SystemAuthorities,
            }),
            Scheme::Unix => Place::Unix(url.path.clone()),
        };
        Endpoint {
            place,
            username: url.username.clone(),
            password: url.password.clone(),
            db: url.db,
        }
    }
}

/// The address, never the password.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Place::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}
