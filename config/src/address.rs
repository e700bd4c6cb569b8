//! Where we listen.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::model::TlsFiles;

/// Why a text is no address. Holds no password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct InvalidAddress {
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub remedy: &'static str,
}

/// A host name or IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Name or IP address, an IPv6 one without brackets.
    pub host: String,
    /// TCP port. 0 when listening means any free one.
    pub port: u16,
}

impl HostPort {
    const REMEDY: &'static str = "write host:port, such as 127.0.0.1:7379 or [::1]:7379";

    /// Puts host and port together.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = |what| InvalidAddress {
            what,
            remedy: Self::REMEDY,
        };
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| invalid(format!("'{text}' has no port")))?;
        let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(Some(inside)) => inside,
            None if !host.contains([':', '/', '@']) => host,
            _ => return Err(invalid(format!("'{host}' is not a host"))),
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(invalid(format!("'{host}' is not a host")));
        }
        let port = port_number(port).ok_or_else(|| invalid(format!("'{port}' is not a port")))?;
        Ok(Self::new(host, port))
    }
}

/// Digits only: `u16` itself would take a plus sign.
pub(crate) fn port_number(text: &str) -> Option<u16> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// Host and port; port 0 means any free one.
    Tcp(String, u16),
    /// A unix socket, and its file mode (such as 0o660) when one was given.
    Unix(PathBuf, Option<u32>),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => HostPort::new(host, *port).fmt(out),
            Self::Unix(path, None) => path.display().fmt(out),
            Self::Unix(path, Some(mode)) => write!(out, "{} {mode:04o}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidAddress;

    /// `host:port`, `/path.sock` or `/path.sock 0660`; `unix:///path.sock` too.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if !path.starts_with('/') {
            return HostPort::from_str(text).map(|HostPort { host, port }| Self::Tcp(host, port));
        }
        let Some((path, mode)) = path.rsplit_once(' ') else {
            return Ok(Self::Unix(path.into(), None));
        };
        match u32::from_str_radix(mode, 8) {
            Ok(mode) if mode <= 0o777 => Ok(Self::Unix(path.trim_end().into(), Some(mode))),
            _ => Err(InvalidAddress {
                what: format!("'{mode}' is not a file mode"),
                remedy: "write the path and an octal mode, such as /run/understudy.sock 0660",
            }),
        }
    }
}

/// Where the guard listens for the source's replication link, and how the source is told to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardAddress {
    /// What to bind; port 0 means any free one.
    pub listen: HostPort,
    /// The host name or IP address that the source dials; the listening host by default.
    pub announce: Option<String>,
    /// Certificate and key, where servers replicate by TLS. Then it takes nobody in the clear.
    pub tls: Option<TlsFiles>,
}

impl GuardAddress {
    /// The host to hand to `REPLICAOF`.
    #[must_use]
    pub fn announced_host(&self) -> &str {
        self.announce.as_deref().unwrap_or(&self.listen.host)
    }
}

impl Default for GuardAddress {
    fn default() -> Self {
        Self {
            listen: HostPort::new("127.0.0.1", 0),
            announce: None,
            tls: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HostPort, ListenAddress};

    #[track_caller]
    fn check(text: &str, expect: &str) {
        match text.parse::<ListenAddress>() {
            Ok(address) => assert_eq!(format!("{address:?}"), expect),
            Err(error) => assert_eq!(error.to_string(), expect),
        }
    }

    #[test]
    fn listen_addresses_are_read() {
        check("127.0.0.1:7379", r#"Tcp("127.0.0.1", 7379)"#);
        check("[::1]:7379", r#"Tcp("::1", 7379)"#);
        check("localhost:0", r#"Tcp("localhost", 0)"#);
        check("/run/u.sock", r#"Unix("/run/u.sock", None)"#);
        check("unix:///run/u.sock", r#"Unix("/run/u.sock", None)"#);
        check("/run/u.sock 0660", r#"Unix("/run/u.sock", Some(432))"#);
    }

    #[test]
    fn what_is_no_address_says_why() {
        const REMEDY: &str = "write host:port, such as 127.0.0.1:7379 or [::1]:7379";
        check("localhost", &format!("'localhost' has no port; {REMEDY}"));
        check("localhost:", &format!("'' is not a port; {REMEDY}"));
        check(
            "localhost:70000",
            &format!("'70000' is not a port; {REMEDY}"),
        );
        check("localhost:+1", &format!("'+1' is not a port; {REMEDY}"));
        check("::1:7379", &format!("'::1' is not a host; {REMEDY}"));
        check(":7379", &format!("'' is not a host; {REMEDY}"));
        check("a b:7379", &format!("'a b' is not a host; {REMEDY}"));
        check("http://h:1", &format!("'http://h' is not a host; {REMEDY}"));
        check(
            "/run/u.sock 999",
            "'999' is not a file mode; write the path and an octal mode, such as /run/understudy.sock 0660",
        );
    }

    #[test]
    fn addresses_print_as_they_are_written() {
        for text in [
            "127.0.0.1:7379",
            "[::1]:7379",
            "/run/u.sock",
            "/run/u.sock 0660",
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        assert_eq!(
            "[::1]:1".parse::<HostPort>().unwrap(),
            HostPort::new("::1", 1)
        );
    }
}
