//! Reaching a server and becoming the user, the protocol and the database that the caller needs.
//!
//! The whole greeting leaves in one write, since a dial that costs one round trip more is a gap that clients see:
//! `HELLO 3 AUTH …` or `AUTH …`, `CLIENT SETNAME`, `SELECT`, `ROLE` where a replica must not be reached by mistake, and
//! `CLIENT ID` where somebody may have to unblock this connection from another one.

use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use understudy_resp::Protocol;

use crate::client::{Client, ClientError};
use crate::endpoint::{Endpoint, Place, Tls};
use crate::socket::{Socket, tune};
use crate::tls::{ClientTls, TlsError};
use crate::value::Value;

/// What a new connection says first.
#[derive(Debug, Clone)]
pub struct Greeting {
    /// RESP3 is asked for by HELLO; RESP2 needs no word.
    pub protocol: Protocol,
    /// The database; 0 needs no word.
    pub db: u32,
    /// The name in the server's CLIENT LIST.
    pub name: Option<String>,
    /// Whether a replica is refused.
    pub role: RoleCheck,
    /// Whether the server is asked what it calls this connection. One that may not say refuses the greeting: whoever asks
    /// needs the id.
    pub client_id: bool,
}

impl Default for Greeting {
    fn default() -> Greeting {
        Greeting {
            protocol: Protocol::Resp2,
            db: 0,
            name: None,
            role: RoleCheck::Any,
            client_id: false,
        }
    }
}

/// Whether a dial asks for the server's role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RoleCheck {
    /// Any server will do.
    #[default]
    Any,
    /// A server that says it is a replica is refused. One that may not say (its ACL forbids ROLE) is taken.
    NotReplica,
}

/// Why there is no connection. No command of a client was sent.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers there.
    #[error("connect to {address}: {cause}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// TLS could not be agreed on.
    #[error("connect to {address}: {cause}")]
    Tls {
        /// Where.
        address: String,
        /// Why.
        #[source]
        cause: TlsError,
    },
    /// The deadline passed.
    #[error("connect to {address}: no answer within {} ms", timeout.as_millis())]
    TimedOut {
        /// Where.
        address: String,
        /// The deadline.
        timeout: Duration,
    },
    /// The server does not want us: wrong password, no such database, too many clients.
    #[error("greet {address}: {step} was answered {text}")]
    Refused {
        /// Where.
        address: String,
        /// Which command of the greeting.
        step: &'static str,
        /// The server's words.
        text: String,
    },
    /// The server is a replica and the greeting refuses those.
    #[error("greet {address}: it is a replica")]
    Replica {
        /// Where.
        address: String,
    },
    /// The connection ended, or its bytes were no Redis.
    #[error("greet {address}: {cause}")]
    Lost {
        /// Where.
        address: String,
        /// Why.
        #[source]
        cause: Box<ClientError>,
    },
}

/// Connects and greets within `timeout`. When it is `Ok`, every word of the greeting was accepted.
///
/// Dropped half way, the connection closes and nothing is left behind.
pub async fn dial(
    endpoint: &Endpoint,
    greeting: &Greeting,
    timeout: Duration,
) -> Result<Socket, DialError> {
    let (socket, _id) = dial_known(endpoint, greeting, timeout).await?;
    Ok(socket)
}

/// As `dial`, with what the server calls the connection, if the greeting asks for it.
pub async fn dial_known(
    endpoint: &Endpoint,
    greeting: &Greeting,
    timeout: Duration,
) -> Result<(Socket, Option<u64>), DialError> {
    let (client, id) = greeted_known(endpoint, greeting, timeout).await?;
    let lost = |cause| DialError::Lost {
        address: endpoint.to_string(),
        cause: Box::new(cause),
    };
    Ok((client.into_quiet_socket().map_err(lost)?, id))
}

/// As `dial`, and goes on as a client.
pub(crate) async fn greeted(
    endpoint: &Endpoint,
    greeting: &Greeting,
    timeout: Duration,
) -> Result<Client, DialError> {
    let (client, _id) = greeted_known(endpoint, greeting, timeout).await?;
    Ok(client)
}

async fn greeted_known(
    endpoint: &Endpoint,
    greeting: &Greeting,
    timeout: Duration,
) -> Result<(Client, Option<u64>), DialError> {
    let whole = async {
        let mut client = Client::over(connect(endpoint).await?);
        client.set_timeout(timeout);
        let id = greet(&mut client, endpoint, greeting, timeout).await?;
        Ok((client, id))
    };
    let timed_out = |_| {
        Err(DialError::TimedOut {
            address: endpoint.to_string(),
            timeout,
        })
    };
    tokio::time::timeout(timeout, whole)
        .await
        .unwrap_or_else(timed_out)
}

/// Opens the connection; says nothing of Redis yet.
async fn connect(endpoint: &Endpoint) -> Result<Socket, DialError> {
    let failed = |cause| DialError::Connect {
        address: endpoint.to_string(),
        cause,
    };
    let (host, port, tls) = match &endpoint.place {
        Place::Unix(path) => {
            return UnixStream::connect(path)
                .await
                .map(Socket::Unix)
                .map_err(failed);
        }
        Place::Tcp { host, port, tls } => (host, *port, tls),
    };
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(failed)?;
    tune(&stream).map_err(failed)?;
    let refused = |cause| DialError::Tls {
        address: endpoint.to_string(),
        cause,
    };
    let session = match tls {
        Tls::Off => return Ok(Socket::Tcp(stream)),
        Tls::SystemAuthorities => {
            Endpoint::default_tls()
                .map_err(refused)?
                .connect(stream, host)
                .await
        }
        Tls::With(client) => client.connect(stream, host).await,
        Tls::Files(options) => {
            ClientTls::new(options)
                .map_err(refused)?
                .connect(stream, host)
                .await
        }
    };
    Ok(Socket::Tls(Box::new(session.map_err(refused)?)))
}

/// Says the greeting in one write and reads every answer; gives the server's id of the connection, if that was asked.
async fn greet(
    client: &mut Client,
    endpoint: &Endpoint,
    greeting: &Greeting,
    timeout: Duration,
) -> Result<Option<u64>, DialError> {
    let mut id = None;
    let (names, commands): (Vec<&'static str>, Vec<Vec<Vec<u8>>>) =
        steps(endpoint, greeting).into_iter().unzip();
    let address = || endpoint.to_string();
    let answers = client
        .pipeline(&commands)
        .await
        .map_err(|cause| match cause {
            ClientError::TimedOut { .. } => DialError::TimedOut {
                address: address(),
                timeout,
            },
            cause => DialError::Lost {
                address: address(),
                cause: Box::new(cause),
            },
        })?;
    for (step, answer) in names.into_iter().zip(answers) {
        match (step, answer) {
            // A name is a courtesy to whoever reads CLIENT LIST; an ACL may forbid to give one.
            ("CLIENT SETNAME", Value::Error(_)) => {}
            // An ACL that forbids ROLE cannot be told from a server that is fine; the first write tells.
            ("ROLE", Value::Error(_)) => {}
            ("ROLE", Value::Array(role))
                if role.first().and_then(Value::as_bytes) == Some(b"slave") =>
            {
                return Err(DialError::Replica { address: address() });
            }
            (step, Value::Error(text)) => {
                return Err(DialError::Refused {
                    address: address(),
                    step,
                    text,
                });
            }
            ("CLIENT ID", answer) => id = answer.as_i64().and_then(|id| u64::try_from(id).ok()),
            _ => {}
        }
    }
    Ok(id)
}

fn steps(endpoint: &Endpoint, greeting: &Greeting) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect::<Vec<_>>()
    };
    let user = endpoint
        .password
        .as_ref()
        .map(|password| (endpoint.username.as_deref(), password.expose()));
    let mut steps = Vec::new();
    match (greeting.protocol, user) {
        (Protocol::Resp2, None) => {}
        (Protocol::Resp2, Some((None, password))) => {
            steps.push(("AUTH", words(&["AUTH", password])));
        }
        (Protocol::Resp2, Some((Some(name), password))) => {
            steps.push(("AUTH", words(&["AUTH", name, password])));
        }
        (Protocol::Resp3, None) => steps.push(("HELLO", words(&["HELLO", "3"]))),
        (Protocol::Resp3, Some((name, password))) => {
            steps.push((
                "HELLO",
                words(&["HELLO", "3", "AUTH", name.unwrap_or("default"), password]),
            ));
        }
    }
    if let Some(name) = &greeting.name {
        steps.push(("CLIENT SETNAME", words(&["CLIENT", "SETNAME", name])));
    }
    if greeting.db != 0 {
        steps.push(("SELECT", words(&["SELECT", &greeting.db.to_string()])));
    }
    if greeting.role == RoleCheck::NotReplica {
        steps.push(("ROLE", words(&["ROLE"])));
    }
    if greeting.client_id {
        steps.push(("CLIENT ID", words(&["CLIENT", "ID"])));
    }
    steps
}
