//! One connection that gives replies as the bytes they are.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use understudy_config::ListenAddress;
use understudy_lab::Server;
use understudy_lab::wire::{Reply, decode, encode};

use crate::parity::rules::value;
use crate::stage::{POOL, SOON, Stage};

pub(super) struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The last bulk string that came.
    pub(super) last: Vec<u8>,
}

impl Peer {
    pub(super) async fn of_server(server: &Server) -> Peer {
        Peer::connect(server.port()).await
    }

    pub(super) async fn of_proxy(stage: &Stage) -> Peer {
        match stage.proxy.pool_address(POOL).unwrap() {
            ListenAddress::Tcp(_, port) => Peer::connect(port).await,
            ListenAddress::Unix(..) => panic!("parity is compared over TCP"),
        }
    }

    async fn connect(port: u16) -> Peer {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Peer {
            stream,
            buffer: Vec::new(),
            last: Vec::new(),
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        // A side that has closed says so in what it is asked next.
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next reply; empty when the other side closed.
    pub(super) async fn reply(&mut self) -> Vec<u8> {
        loop {
            if let Some((reply, length)) = decode(&self.buffer).unwrap() {
                if let Reply::Bulk(bytes) = reply {
                    self.last = bytes;
                }
                return self.buffer.drain(..length).collect();
            }
            let read = timeout(SOON, self.stream.read_buf(&mut self.buffer));
            if read.await.expect("a reply in time").unwrap_or(0) == 0 {
                return Vec::new();
            }
        }
    }

    /// Everything until the other side closes.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let read = timeout(SOON, self.stream.read_to_end(&mut self.buffer));
        // A server that closes with bytes of ours unread resets the connection.
        let _ = read.await.expect("an end in time");
        std::mem::take(&mut self.buffer)
    }

    pub(super) async fn call(&mut self, words: &[impl AsRef<[u8]>]) -> Vec<u8> {
        let mut frame = Vec::new();
        encode(&mut frame, words);
        self.send(&frame).await;
        self.reply().await
    }

    /// A command line split at blanks, and its reply as a value.
    pub(super) async fn ask(&mut self, line: &str) -> Reply {
        let reply = self.call(&line.split(' ').collect::<Vec<_>>()).await;
        value(&reply)
    }
}
