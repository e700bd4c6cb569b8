//! The source's side of the handshake: we answer it ourselves, up to its PSYNC.
//!
//! Everything that a replica says before PSYNC gets `+OK`: what it can do is its own affair, since we tell the target
//! what *we* can do. SYNC, which would be answered with a full copy, ends the connection.

use std::io;

use bytes::BytesMut;
use understudy_net::Socket;
use understudy_resp::scan::{RequestScanner, Scan, ScanLimits};

/// Longest command of a handshake, in bytes.
const COMMAND_MAX: u32 = 16 * 1024;
/// Most commands of a handshake.
const COMMANDS_MAX: usize = 32;

/// What the source asks for: its history, from this byte on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Psync {
    pub(super) replid: String,
    /// The next byte that it needs.
    pub(super) offset: u64,
}

/// What a source asked for, or why that cannot be continued.
pub(super) type Asked = Result<Psync, String>;

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("read the handshake: {0}")]
    Io(#[from] io::Error),
    #[error("read the handshake: {0}")]
    Protocol(String),
    #[error("it asked for a full copy by SYNC")]
    Sync,
    #[error("it said {0}, which no replica says")]
    Stranger(String),
    #[error("it went away")]
    Closed,
}

/// Answers until the PSYNC, which is left unanswered.
///
/// Not cancel safe: dropped half way, the connection is to be closed; before PSYNC that costs the source nothing.
pub(super) async fn greet(source: &Socket) -> Result<Asked, HandshakeError> {
    let mut inbox = BytesMut::with_capacity(1024);
    let mut scanner = RequestScanner::new();
    for _ in 0..COMMANDS_MAX {
        let args = next_command(source, &mut inbox, &mut scanner).await?;
        let text = |index: usize| {
            args.get(index)
                .map(|arg| String::from_utf8_lossy(arg).into_owned())
                .unwrap_or_default()
        };
        match text(0).to_ascii_uppercase().as_str() {
            "PING" => super::relay::write_all(source, b"+PONG\r\n").await?,
            "AUTH" => super::relay::write_all(source, b"+OK\r\n").await?,
            "REPLCONF" => super::relay::write_all(source, b"+OK\r\n").await?,
            "PSYNC" => {
                let texts = args.iter().map(|arg| String::from_utf8_lossy(arg));
                return Ok(request(&texts.collect::<Vec<_>>()));
            }
            "SYNC" => return Err(HandshakeError::Sync),
            other => return Err(HandshakeError::Stranger(other.chars().take(32).collect())),
        }
    }
    Err(HandshakeError::Stranger("too much".to_owned()))
}

/// Reads a PSYNC, or says why it cannot be continued.
fn request(args: &[impl AsRef<str>]) -> Result<Psync, String> {
    let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
    match args.as_slice() {
        [_, "?", _] => {
            Err("the source has no history to continue: it asks for a full copy".to_owned())
        }
        [_, replid, offset] => match offset.parse() {
            Ok(offset) if is_replid(replid) => Ok(Psync {
                replid: (*replid).to_owned(),
                offset,
            }),
            _ => Err(format!("the source asks for '{replid}' from '{offset}'")),
        },
        // PSYNC replid offset FAILOVER would promote whoever answers.
        _ => Err("the source asks for a failover".to_owned()),
    }
}

/// Forty hexadecimal digits.
pub(super) fn is_replid(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn next_command(
    source: &Socket,
    inbox: &mut BytesMut,
    scanner: &mut RequestScanner,
) -> Result<Vec<Vec<u8>>, HandshakeError> {
    let limits = ScanLimits {
        args_max: 64,
        bulk_max: u64::from(COMMAND_MAX),
        inline_max: COMMAND_MAX,
        frame_max: u64::from(COMMAND_MAX),
        ..ScanLimits::default()
    };
    loop {
        if !inbox.is_empty() {
            let scan = scanner
                .scan(inbox, &limits)
                .map_err(|cause| HandshakeError::Protocol(cause.to_string()))?;
            if let Scan::Complete { len } = scan {
                let frame = inbox.split_to(len);
                let args: Vec<Vec<u8>> = match scanner.is_inline() {
                    true => scanner.inline_args().to_vec(),
                    false => (0..scanner.args().len())
                        .map(|index| scanner.arg(&frame, index).to_vec())
                        .collect(),
                };
                if !args.is_empty() {
                    return Ok(args);
                }
                continue;
            }
        }
        inbox.reserve(1024);
        match source.try_read_buf(inbox) {
            Ok(0) => return Err(HandshakeError::Closed),
            Ok(_) => {}
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => source.readable().await?,
            Err(cause) => return Err(cause.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLID: &str = "0123456789abcdef0123456789abcdef01234567";

    #[track_caller]
    fn check(args: &[&str], expect: Result<u64, &str>) {
        let found = request(args);
        match expect {
            Ok(offset) => assert_eq!(
                found,
                Ok(Psync {
                    replid: REPLID.to_owned(),
                    offset
                })
            ),
            Err(part) => assert!(found.clone().unwrap_err().contains(part), "{found:?}"),
        }
    }

    #[test]
    fn only_a_history_and_an_offset_are_a_request() {
        check(&["PSYNC", REPLID, "1234"], Ok(1234));
        check(&["PSYNC", "?", "-1"], Err("full copy"));
        check(&["PSYNC", "abc", "1"], Err("'abc'"));
        check(&["PSYNC", REPLID, "-1"], Err("'-1'"));
        check(&["PSYNC", REPLID, "1", "FAILOVER"], Err("failover"));
        check(&["PSYNC"], Err("failover"));
    }
}
