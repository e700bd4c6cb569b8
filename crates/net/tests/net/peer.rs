//! The other side of a connection, played by the test.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use understudy_net::{Client, Endpoint};

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Peer(pub(crate) TcpStream);

/// A client and the raw socket that it talks to.
pub(crate) async fn pair() -> (Client, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::tcp("127.0.0.1", listener.local_addr().unwrap().port());
    let (client, accepted) = tokio::join!(Client::connect(&endpoint, SOON), listener.accept());
    (client.unwrap(), Peer(accepted.unwrap().0))
}

impl Peer {
    /// Waits for exactly these bytes.
    pub(crate) async fn expect(&mut self, bytes: &[u8]) {
        let mut read = vec![0; bytes.len()];
        self.0.read_exact(&mut read).await.unwrap();
        assert_eq!(
            read.escape_ascii().to_string(),
            bytes.escape_ascii().to_string()
        );
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads this many bytes, whatever they are.
    pub(crate) async fn swallow(&mut self, count: usize) {
        let mut read = vec![0; count];
        self.0.read_exact(&mut read).await.unwrap();
    }

    /// Dies: what is unread is refused, and the other side is told at once.
    pub(crate) fn reset(self) {
        self.0.set_zero_linger().unwrap();
    }
}
