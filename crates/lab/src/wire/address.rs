//! Where the lab connects to.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::LabError;

/// Where a server or a proxy listens, and the password it wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    pub(super) place: Place,
    pub(super) password: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Tcp(String),
    Unix(PathBuf),
}

impl Address {
    /// `127.0.0.1:port`.
    pub fn local(port: u16) -> Address {
        Address {
            place: Place::Tcp(format!("127.0.0.1:{port}")),
            password: None,
        }
    }

    /// An address and a port.
    pub fn at(place: std::net::SocketAddrV4) -> Address {
        Address {
            place: Place::Tcp(place.to_string()),
            password: None,
        }
    }

    /// A unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Address {
        Address {
            place: Place::Unix(path.into()),
            password: None,
        }
    }

    /// The same place, greeted with AUTH.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Address {
        self.password = Some(password.to_owned());
        self
    }
}

/// Without the password.
impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp(address) => out.write_str(address),
            Place::Unix(path) => write!(out, "unix://{}", path.display()),
        }
    }
}

/// `host:port`, `redis://[:password@]host:port`, `unix:///path`.
impl FromStr for Address {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Address, LabError> {
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Address::unix(path));
        }
        let rest = text
            .strip_prefix("redis://")
            .unwrap_or(text)
            .trim_end_matches('/');
        let (password, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (
                Some(
                    credentials
                        .rsplit_once(':')
                        .map_or(credentials, |(_, word)| word),
                ),
                place,
            ),
            None => (None, rest),
        };
        if place
            .rsplit_once(':')
            .is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
        {
            return Err(LabError::Answer {
                doing: "read an address".to_owned(),
                answer: format!("'{place}' is not host:port"),
            });
        }
        Ok(Address {
            place: Place::Tcp(place.to_owned()),
            password: password.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn an_address_shows_no_password() {
        let address: Address = "redis://default:secret@127.0.0.1:6379/".parse().unwrap();
        assert_eq!(address.to_string(), "127.0.0.1:6379");
        assert_eq!(address, Address::local(6379).with_password("secret"));
        assert!("nowhere".parse::<Address>().is_err());
        assert_eq!(
            "unix:///tmp/s".parse::<Address>().unwrap().to_string(),
            "unix:///tmp/s"
        );
    }
}
