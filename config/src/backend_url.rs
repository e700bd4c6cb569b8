//! The address of a Redis server, as an operator writes it: `redis://user:password@host:port/db`.
//!
//! Printing one never shows its password, and neither does an error about one.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::address::{HostPort, InvalidAddress, port_number};
use crate::model::BackendTls;
use crate::secret::Secret;

/// Redis' own port, for a URL without one.
const DEFAULT_PORT: u16 = 6379;

const REMEDY: &str =
    "write redis://[user[:password]@]host:port[/db], rediss://… for TLS, or unix:///path[?db=N]";

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// TCP.
    Redis,
    /// TLS over TCP.
    Rediss,
    /// A unix socket.
    Unix,
}

impl Scheme {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Redis => "redis://",
            Self::Rediss => "rediss://",
            Self::Unix => "unix://",
        }
    }
}

/// A Redis server and how to log in to it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BackendUrl {
    /// TCP, TLS or unix socket.
    pub scheme: Scheme,
    /// Name or IP address, an IPv6 one without brackets; empty for a unix socket.
    pub host: String,
    /// TCP port; 0 for a unix socket.
    pub port: u16,
    /// The unix socket; empty otherwise.
    pub path: PathBuf,
    /// ACL user. Without one, a password is that of the user `default`.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// The database to SELECT after login.
    pub db: u32,
    /// What it must show where it is reached by `rediss://`; none means a certificate of the system's authorities. Never
    /// part of the text.
    pub tls: Option<Box<BackendTls>>,
}

impl BackendUrl {
    /// A TCP server without login.
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self {
            scheme: Scheme::Redis,
            host: host.into(),
            port,
            path: PathBuf::new(),
            username: None,
            password: None,
            db: 0,
            tls: None,
        }
    }

    /// A server behind a unix socket, without login.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self {
            scheme: Scheme::Unix,
            host: String::new(),
            port: 0,
            path: path.into(),
            username: None,
            password: None,
            db: 0,
            tls: None,
        }
    }

    /// `host:port`, or the path of the unix socket.
    #[must_use]
    pub fn address(&self) -> String {
        match self.scheme {
            Scheme::Redis | Scheme::Rediss => HostPort::new(&self.host, self.port).to_string(),
            Scheme::Unix => self.path.display().to_string(),
        }
    }

    /// The same server, which must show this where it is reached by `rediss://`.
    #[must_use]
    pub fn with_tls(self, tls: Option<&BackendTls>) -> Self {
        match (self.scheme, tls) {
            (Scheme::Rediss, Some(tls)) => Self {
                tls: Some(Box::new(tls.clone())),
                ..self
            },
            (Scheme::Redis | Scheme::Rediss | Scheme::Unix, _) => self,
        }
    }

    /// Whether what is sent there never leaves this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.scheme {
            Scheme::Unix => true,
            Scheme::Redis | Scheme::Rediss => {
                let address = self.host.parse::<IpAddr>();
                self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
            }
        }
    }

    /// The ACL user that logs in there.
    #[must_use]
    pub fn user(&self) -> &str {
        self.username.as_deref().unwrap_or("default")
    }

    /// Whether both name the same address and database, however one logs in.
    #[must_use]
    pub fn same_server(&self, other: &Self) -> bool {
        self.address() == other.address() && self.db == other.db
    }
}

impl fmt::Display for BackendUrl {
    /// Everything but the password. Reads back as the same URL without it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.scheme.prefix())?;
        if let Some(username) = &self.username {
            write!(out, "{}@", encoded(username))?;
        }
        out.write_str(&self.address())?;
        match (self.scheme, self.db) {
            (_, 0) => Ok(()),
            (Scheme::Unix, db) => write!(out, "?db={db}"),
            (Scheme::Redis | Scheme::Rediss, db) => write!(out, "/{db}"),
        }
    }
}

impl fmt::Debug for BackendUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "BackendUrl({self}")?;
        if self.password.is_some() {
            out.write_str(", password ***")?;
        }
        out.write_str(")")
    }
}

impl FromStr for BackendUrl {
    type Err = InvalidAddress;

    /// Also takes a bare `host:port`.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = |what: String| InvalidAddress {
            what,
            remedy: REMEDY,
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            // What is bare has no login, but somebody may have put one there.
            let shown = text.rsplit_once('@').map_or(text, |(_, behind)| behind);
            let bare = (!text.contains('@'))
                .then(|| HostPort::from_str(text).ok())
                .flatten();
            let HostPort { host, port } =
                bare.ok_or_else(|| invalid(format!("'{shown}' is not a server's address")))?;
            return Ok(Self::tcp(host, port));
        };
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (Some(login), rest),
            None => (None, rest),
        };
        let mut url = match scheme {
            "redis" | "rediss" => network(rest).map_err(invalid)?,
            "unix" => socket(rest).map_err(invalid)?,
            other => return Err(invalid(format!("'{other}' is not a way to reach a server"))),
        };
        if scheme == "rediss" {
            url.scheme = Scheme::Rediss;
        }
        if let Some(login) = login {
            let (username, password) = login
                .split_once(':')
                .map_or((login, None), |(name, password)| (name, Some(password)));
            let bad_escape = || {
                invalid(
                    "the user or password has a '%' that is not followed by two hex digits"
                        .to_owned(),
                )
            };
            url.username =
                Some(decoded(username).ok_or_else(bad_escape)?).filter(|name| !name.is_empty());
            url.password = password
                .map(decoded)
                .map(|password| password.ok_or_else(bad_escape))
                .transpose()?
                .map(Secret::new);
        }
        Ok(url)
    }
}

/// `host[:port][/db]`
fn network(text: &str) -> Result<BackendUrl, String> {
    let (address, db) = text.split_once('/').unwrap_or((text, ""));
    let db = if db.is_empty() { 0 } else { database(db)? };
    let HostPort { host, port } = if address.ends_with(']') || !address.contains(':') {
        HostPort::from_str(&format!("{address}:{DEFAULT_PORT}"))
    } else {
        HostPort::from_str(address)
    }
    .map_err(|error| error.what)?;
    if port == 0 {
        return Err("port 0 can not be dialed".to_owned());
    }
    Ok(BackendUrl {
        db,
        ..BackendUrl::tcp(host, port)
    })
}

/// `/path[?db=N]`
fn socket(text: &str) -> Result<BackendUrl, String> {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if !path.starts_with('/') || path.len() < 2 {
        return Err(format!("'{path}' is not the path of a socket"));
    }
    let db = match query.strip_prefix("db=") {
        Some(db) => database(db)?,
        None if query.is_empty() => 0,
        None => return Err("only ?db=N may follow the path of a socket".to_owned()),
    };
    Ok(BackendUrl {
        db,
        ..BackendUrl::unix(path)
    })
}

/// As many databases as Redis can be configured to have would be more, but nobody has 65536.
fn database(text: &str) -> Result<u32, String> {
    port_number(text)
        .map(u32::from)
        .ok_or_else(|| format!("'{text}' is not a database number"))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{BackendUrl, REMEDY, Scheme};

    #[track_caller]
    fn check(text: &str, expect: &str) {
        match text.parse::<BackendUrl>() {
            Ok(url) => assert_eq!(format!("{url:?}"), expect),
            Err(error) => assert_eq!(error.to_string(), format!("{expect}; {REMEDY}")),
        }
    }

    #[test]
    fn servers_are_read() {
        check(
            "redis://127.0.0.1:6001",
            "BackendUrl(redis://127.0.0.1:6001)",
        );
        check("redis://cache", "BackendUrl(redis://cache:6379)");
        check("redis://[::1]:6001/2", "BackendUrl(redis://[::1]:6001/2)");
        check("redis://[::1]", "BackendUrl(redis://[::1]:6379)");
        check("rediss://cache:6001", "BackendUrl(rediss://cache:6001)");
        check(
            "unix:///run/redis.sock",
            "BackendUrl(unix:///run/redis.sock)",
        );
        check(
            "unix:///run/redis.sock?db=3",
            "BackendUrl(unix:///run/redis.sock?db=3)",
        );
        check("127.0.0.1:7380", "BackendUrl(redis://127.0.0.1:7380)");
    }

    #[test]
    fn the_login_is_read_and_the_password_never_printed() {
        check(
            "redis://app:s3cret@cache:6001",
            "BackendUrl(redis://app@cache:6001, password ***)",
        );
        check(
            "redis://:s3cret@cache:6001",
            "BackendUrl(redis://cache:6001, password ***)",
        );
        check(
            "redis://app@cache:6001",
            "BackendUrl(redis://app@cache:6001)",
        );
        let url: BackendUrl = "redis://a%40b:p%2F%40%3a@cache:6001/1".parse().unwrap();
        assert_eq!(url.username.as_deref(), Some("a@b"));
        assert_eq!(
            url.password.as_ref().map(|secret| secret.expose()),
            Some("p/@:")
        );
        assert_eq!(url.to_string(), "redis://a%40b@cache:6001/1");
        assert_eq!((url.scheme, url.db), (Scheme::Redis, 1));
    }

    #[test]
    fn what_is_no_server_says_why_without_the_password() {
        check("cache", "'cache' is not a server's address");
        check("app:s3cret@cache", "'cache' is not a server's address");
        check("http://cache:80", "'http' is not a way to reach a server");
        check("redis://app:s3cret@cache:x", "'x' is not a port");
        check("redis://app:s3cret@:6001", "'' is not a host");
        check(
            "redis://app:s3%zz@cache:6001",
            "the user or password has a '%' that is not followed by two hex digits",
        );
        check("redis://cache:0", "port 0 can not be dialed");
        check("redis://cache:6001/x", "'x' is not a database number");
        check(
            "unix://redis.sock",
            "'redis.sock' is not the path of a socket",
        );
        check(
            "unix:///redis.sock?user=a",
            "only ?db=N may follow the path of a socket",
        );
    }

    #[test]
    fn the_same_server_may_be_logged_in_to_differently() {
        let one: BackendUrl = "redis://a:b@cache:6001".parse().unwrap();
        assert!(one.same_server(&"redis://cache:6001".parse().unwrap()));
        assert!(!one.same_server(&"redis://cache:6001/1".parse().unwrap()));
        assert!(!one.same_server(&"redis://cache:6002".parse().unwrap()));
    }
}
