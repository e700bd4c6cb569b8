//! One admin client: reads requests, asks the table, answers in order.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use understudy_resp::Protocol;
use understudy_resp::scan::{RequestScanner, Scan, ScanLimits};

use super::server::AdminServer;
use super::table::{AdminHandler, AdminRequest};
use crate::listener::PeerName;
use crate::stream::Stream;
use crate::value::Value;

/// Answers gathered before they are written, in bytes, when a client sends many commands at once.
const ANSWERS_GATHERED: usize = 64 * 1024;
/// Longest wait for a client to take its answers; then it is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Session {
    pub(super) server: Arc<AdminServer>,
    pub(super) id: u64,
    pub(super) peer: PeerName,
    pub(super) name: String,
    pub(super) protocol: Protocol,
    /// Who authenticated; `None` until then.
    pub(super) user: Option<String>,
    since: Instant,
}

/// What a session does after an answer.
pub(super) enum Then {
    GoOn,
    Close,
}

impl Session {
    pub(super) fn new(server: Arc<AdminServer>, id: u64, peer: PeerName) -> Session {
        let known = server.users.is_empty() || peer == PeerName::Memory;
        Session {
            server,
            id,
            peer,
            name: String::new(),
            protocol: Protocol::Resp2,
            user: known.then(|| "default".to_owned()),
            since: Instant::now(),
        }
    }

    /// Runs until the client leaves, misbehaves, or says QUIT.
    pub(super) async fn run(mut self, mut stream: Stream) {
        tracing::debug!(peer = %self.peer, id = self.id, "admin client came");
        let mut inbox = BytesMut::new();
        let mut scanner = RequestScanner::new();
        let mut out = Vec::new();
        loop {
            let request = match self.next_request(&mut inbox, &mut scanner) {
                Ok(Some(request)) => request,
                Ok(None) => {
                    if self.write(&mut stream, &mut out).await.is_err()
                        || !self.fill(&mut stream, &mut inbox).await
                    {
                        break;
                    }
                    continue;
                }
                Err(text) => {
                    Value::error(format!("ERR Protocol error: {text}"))
                        .encode(&mut out, self.protocol);
                    let _closing = self.write(&mut stream, &mut out).await;
                    break;
                }
            };
            if request.is_empty() {
                continue;
            }
            let then = self
                .answer(request, &mut stream, &mut inbox, &mut out)
                .await;
            let written = match (&then, out.len() >= ANSWERS_GATHERED) {
                (Then::GoOn, false) => Ok(()),
                _ => self.write(&mut stream, &mut out).await,
            };
            if written.is_err() || matches!(then, Then::Close) {
                break;
            }
        }
        let _gone = stream.shutdown().await;
        tracing::debug!(peer = %self.peer, id = self.id, "admin client left");
    }

    /// Answers into `out`. What is there already is written before a handler is asked, who may take long.
    async fn answer(
        &mut self,
        args: Vec<Bytes>,
        stream: &mut Stream,
        inbox: &mut BytesMut,
        out: &mut Vec<u8>,
    ) -> Then {
        if let Some((answer, then)) = self.own(&args) {
            answer.encode(out, self.protocol);
            return then;
        }
        let server = self.server.clone();
        let Some(command) = server.table.find(&args[0]) else {
            let name = String::from_utf8_lossy(&args[0]).replace(['\r', '\n'], " ");
            let name: String = name.chars().take(128).collect();
            Value::error(format!("ERR unknown command '{name}'")).encode(out, self.protocol);
            return Then::GoOn;
        };
        if self.write(stream, out).await.is_err() {
            return Then::Close;
        }
        let request = AdminRequest {
            args: args[1..].to_vec(),
            user: self.user.clone().unwrap_or_default(),
        };
        if request.args.is_empty() || request.is("help") {
            help(&args[0], command.handler.as_ref()).encode(out, self.protocol);
            return Then::GoOn;
        }
        let call = if command.handler.only_waits(&request) {
            tokio::select! {
                // Dropping it loses nothing: the handler said so.
                value = command.handler.call(request) => value,
                // Cancel safe: what was read stays in the inbox.
                () = gone(stream, inbox, self.server.limits.frame_max) => return Then::Close,
            }
        } else {
            command.handler.call(request).await
        };
        call.encode(out, self.protocol);
        Then::GoOn
    }

    fn next_request(
        &self,
        inbox: &mut BytesMut,
        scanner: &mut RequestScanner,
    ) -> Result<Option<Vec<Bytes>>, String> {
        if inbox.is_empty() {
            return Ok(None);
        }
        let frame_max = self.frame_max();
        let limits = ScanLimits {
            frame_max: frame_max as u64,
            bulk_max: frame_max as u64,
            inline_max: u32::try_from(frame_max).unwrap_or(u32::MAX),
            ..ScanLimits::default()
        };
        match scanner
            .scan(inbox, &limits)
            .map_err(|cause| cause.to_string())?
        {
            Scan::Incomplete { .. } if inbox.len() > frame_max => Err("too big request".to_owned()),
            Scan::Incomplete { .. } => Ok(None),
            Scan::Complete { len } => {
                let frame = inbox.split_to(len).freeze();
                let args = match scanner.is_inline() {
                    true => scanner
                        .inline_args()
                        .iter()
                        .map(|arg| Bytes::copy_from_slice(arg))
                        .collect(),
                    false => scanner
                        .args()
                        .iter()
                        .map(|arg| frame.slice(arg.start as usize..arg.end as usize))
                        .collect(),
                };
                Ok(Some(args))
            }
        }
    }

    fn frame_max(&self) -> usize {
        match self.user {
            Some(_) => self.server.limits.frame_max,
            None => self.server.limits.stranger_frame_max,
        }
    }

    /// Reads more; `false` when there will be none.
    async fn fill(&self, stream: &mut Stream, inbox: &mut BytesMut) -> bool {
        let read = stream.read_buf(inbox);
        if self.user.is_some() {
            return matches!(read.await, Ok(1..));
        }
        let deadline = self.since + self.server.limits.login_max;
        matches!(tokio::time::timeout_at(deadline, read).await, Ok(Ok(1..)))
    }

    async fn write(&self, stream: &mut Stream, out: &mut Vec<u8>) -> std::io::Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(out)).await??;
        out.clear();
        Ok(())
    }
}

/// Waits until the client is gone. What it sends meanwhile stays in the inbox, up to `frame_max`.
async fn gone(stream: &mut Stream, inbox: &mut BytesMut, frame_max: usize) {
    while inbox.len() < frame_max {
        if !matches!(stream.read_buf(inbox).await, Ok(1..)) {
            return;
        }
    }
    std::future::pending::<()>().await;
}

fn help(container: &[u8], handler: &dyn AdminHandler) -> Value {
    let container = String::from_utf8_lossy(container).to_ascii_uppercase();
    let lines = handler.help().into_iter();
    Value::Array(
        lines
            .map(|(form, what)| Value::Simple(format!("{container} {form} -- {what}")))
            .collect(),
    )
}
