//! Takes an RDB as a replica would, and nothing after it.
//!
//! ```text
//!   → REPLCONF capa eof · REPLCONF capa psync2 · REPLCONF rdb-only 1 · REPLCONF version …   (each alone: an unknown one
//!   → PSYNC ? -1                                                                             ends its command)
//!   ← \n …  +FULLRESYNC <replid> <offset>
//!   ← \n …  $<length>   RDB                         from the server's disk (repl-diskless-sync no)
//!        or $EOF:<mark> RDB <mark>                  straight from its child (yes)
//! ```
//!
//! `listening-port` is never announced. 6.2 shows such a replica with port 0, which no Sentinel can reach, so it is never
//! elected. `rdb-only` (6.2) also keeps the server from collecting its stream for us while we read.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use understudy_net::{Client, Stream};

use super::error::SnapshotError;
use super::store::Partial;

/// How much is read at once.
const READ_BYTES: usize = 256 * 1024;
/// Longest line of the handshake. Servers send less than 100 bytes.
const LINE_MAX: usize = 1024;
/// Length of the mark behind an RDB of unknown length.
const MARK_LENGTH: usize = 40;

/// The moment that an RDB is of.
pub(super) struct Moment {
    pub(super) replid: String,
    pub(super) offset: u64,
}

/// A server that was asked for an RDB.
pub(super) struct Transfer<'a> {
    server: &'a str,
    stream: Stream,
    buffer: BytesMut,
    idle: Duration,
}

impl<'a> Transfer<'a> {
    /// Says the handshake and asks.
    ///
    /// Dropped half way, the connection closes, and the server forgets us.
    pub(super) async fn begin(
        mut client: Client,
        server: &'a str,
        valkey_version: Option<&str>,
        idle: Duration,
    ) -> Result<(Self, Moment), SnapshotError> {
        let ask = |cause| SnapshotError::Ask {
            server: server.to_owned(),
            what: "an RDB",
            cause,
        };
        let mut options = vec![
            ["REPLCONF", "capa", "eof"],
            ["REPLCONF", "capa", "psync2"],
            ["REPLCONF", "rdb-only", "1"],
        ];
        // Valkey 9 writes for the version that it believes us to be: without a word, for one that knows no field expiry.
        options.extend(valkey_version.map(|version| ["REPLCONF", "version", version]));
        for option in options {
            // A server that does not know one does without it.
            client.call(&option).await.map_err(ask)?;
        }
        let (mut stream, buffer) = client.into_parts();
        let receive = |cause| SnapshotError::Receive {
            server: server.to_owned(),
            cause,
        };
        stream
            .write_all(b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n")
            .await
            .map_err(receive)?;
        let mut transfer = Self {
            server,
            stream,
            buffer,
            idle,
        };
        let answer = transfer.line().await?;
        let words: Vec<&str> = answer.split(' ').collect();
        let moment = match words[..] {
            ["+FULLRESYNC", replid, offset] => offset.parse().ok().map(|offset| Moment {
                replid: replid.to_owned(),
                offset,
            }),
            _ => None,
        };
        match moment {
            Some(moment) => Ok((transfer, moment)),
            None => Err(transfer.refused(answer)),
        }
    }

    /// Brings the RDB into the file.
    ///
    /// Not cancel safe, and need not be: dropped half way, the connection closes, and the file goes with its owner.
    pub(super) async fn receive(mut self, into: &mut Partial) -> Result<(), SnapshotError> {
        let header = self.line().await?;
        let Some(form) = Form::parse(&header) else {
            return Err(self.refused(header));
        };
        while !into.is_complete() {
            if self.buffer.is_empty() {
                self.fill(into.bytes()).await?;
            }
            let room = form.room(into.bytes()).min(self.buffer.len() as u64);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let taken = into.write(self.server, &self.buffer[..room]).await?;
            let _ = self.buffer.split_to(taken);
            if taken == 0 && room == 0 {
                break; // As long as was said, and not at its end: `Partial::finish` says so.
            }
        }
        match form {
            Form::Length(length) if into.bytes() != length => Err(self.refused(format!(
                "an RDB of {} bytes after announcing {length}",
                into.bytes()
            ))),
            Form::Length(_) => Ok(()),
            Form::Mark(mark) => self.expect_mark(mark, into.bytes()).await,
        }
    }

    async fn expect_mark(
        &mut self,
        mark: [u8; MARK_LENGTH],
        bytes: u64,
    ) -> Result<(), SnapshotError> {
        while self.buffer.len() < MARK_LENGTH {
            self.fill(bytes).await?;
        }
        if self.buffer[..MARK_LENGTH] == mark {
            Ok(())
        } else {
            Err(self.refused("an RDB without the mark behind it".to_owned()))
        }
    }

    /// A line of the handshake. Empty ones are signs of life while the server saves.
    async fn line(&mut self) -> Result<String, SnapshotError> {
        loop {
            while self.buffer.first() == Some(&b'\n') {
                let _ = self.buffer.split_to(1);
            }
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.buffer.len() > LINE_MAX {
                return Err(self.refused("a line without end".to_owned()));
            }
            self.fill(0).await?;
        }
    }

    async fn fill(&mut self, bytes: u64) -> Result<(), SnapshotError> {
        self.buffer.reserve(READ_BYTES);
        let read = tokio::time::timeout(self.idle, self.stream.read_buf(&mut self.buffer)).await;
        let server = || self.server.to_owned();
        match read {
            Err(_) => Err(SnapshotError::Idle {
                server: server(),
                idle: self.idle,
                bytes,
            }),
            Ok(Ok(0)) => Err(SnapshotError::Ended {
                server: server(),
                bytes,
                hint: String::new(),
            }),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(cause)) if cause.kind() == io::ErrorKind::ConnectionReset => {
                Err(SnapshotError::Ended {
                    server: server(),
                    bytes,
                    hint: String::new(),
                })
            }
            Ok(Err(cause)) => Err(SnapshotError::Receive {
                server: server(),
                cause,
            }),
        }
    }

    fn refused(&self, text: String) -> SnapshotError {
        SnapshotError::Refused {
            server: self.server.to_owned(),
            what: "an RDB",
            text,
        }
    }
}

/// How the end of the RDB is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Length(u64),
    Mark([u8; MARK_LENGTH]),
}

impl Form {
    fn parse(header: &str) -> Option<Self> {
        let text = header.strip_prefix('$')?;
        match text.strip_prefix("EOF:") {
            Some(mark) => mark.as_bytes().try_into().ok().map(Self::Mark),
            None => text.parse().ok().map(Self::Length),
        }
    }

    /// How many more bytes can belong to the RDB.
    fn room(self, have: u64) -> u64 {
        match self {
            Self::Length(length) => length.saturating_sub(have),
            Self::Mark(_) => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_known_and_nothing_else() {
        assert_eq!(Form::parse("$175"), Some(Form::Length(175)));
        assert_eq!(
            Form::parse(&format!("$EOF:{}", "a".repeat(40))),
            Some(Form::Mark([b'a'; 40]))
        );
        assert_eq!(Form::parse(&format!("$EOF:{}", "a".repeat(39))), None);
        assert_eq!(Form::parse("$-1"), None);
        assert_eq!(Form::parse("$ENDOFF:1 2 3 4"), None);
        assert_eq!(Form::parse("-ERR no"), None);
    }
}
