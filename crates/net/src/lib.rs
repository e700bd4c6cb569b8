//! Sockets, dialing, TLS, a small Redis client, the admin server and the HTTP port.
//!
//! ```text
//!  proxy's hot path       Socket      try_read / try_write behind &self: tcp, unix, TLS
//!  everybody's slow path  Stream      AsyncRead + AsyncWrite over a Socket, or in memory
//!  whom to call           Endpoint -> dial -> Greeting answered -> Socket
//!  who calls us           Listener -> Incoming -> Socket
//!  asking a server        Client      one ordered connection; errors say whether bytes left us
//!  being asked            AdminServer a table of commands that proxy and control hand over
//!  being scraped          http        three pages that proxy and control hand over
//! ```
//!
//! This crate knows no pool, no shard and no upgrade.

pub mod admin;
mod client;
mod dial;
mod endpoint;
pub mod http;
mod listener;
mod reply;
mod socket;
mod stream;
mod tls;
mod value;

pub use admin::{AdminHandler, AdminLimits, AdminRequest, AdminServer, AdminTable};
pub use client::{Client, ClientError, Sent};
pub use dial::{DialError, Greeting, RoleCheck, dial, dial_known};
pub use endpoint::Endpoint;
pub use listener::{Incoming, ListenError, Listener, PeerName};
pub use socket::Socket;
pub use stream::Stream;
pub use tls::{Acceptor, ClientTls, ClientTlsOptions, ServerIdentity, TlsError};
pub use value::{ServerError, Value};
