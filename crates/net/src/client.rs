//! One ordered connection to a server, for control, tests and the command line.
//!
//! Commands are answered in the order in which they were sent, one call at a time. After an error that is not a reply
//! the connection is used up: what is still on its way would be taken for the answer to the next command. Nothing
//! reconnects by itself, and nothing is ever sent twice; the error says how much of the call had left us.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use understudy_resp::{Protocol, encode};

use crate::dial::{DialError, Greeting, greeted};
use crate::endpoint::Endpoint;
use crate::reply::ReplyReader;
use crate::socket::Socket;
use crate::stream::Stream;
use crate::value::Value;

/// Longest wait for the answers of one call, unless set otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes read at a time.
const READ_CHUNK: usize = 16 * 1024;
/// Out-of-band pushes kept for `take_pushes`; beyond it the oldest is dropped.
const PUSHES_MAX: usize = 1024;

/// How much of a call had left us when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Not one byte: nothing was executed.
    No,
    /// Part of it: of a single command nothing was executed, of several the first ones may have been.
    Maybe,
    /// All of it: it may have been executed, once.
    Fully,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sent::No => "not sent",
            Sent::Maybe => "partly sent",
            Sent::Fully => "sent",
        })
    }
}

/// Why a call has no answer. An error *reply* is an answer: `Ok(Value::Error)`.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection.
    #[error(transparent)]
    Connect(DialError),
    /// The server does not want us; nothing but the greeting was sent.
    #[error(transparent)]
    Refused(DialError),
    /// The connection ended.
    #[error("lose connection, call {sent}, {answered} answered: {cause}")]
    Lost {
        /// How much of the call had left us.
        sent: Sent,
        /// How many of its commands were answered; their answers are gone.
        answered: usize,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The deadline of the call passed. The server may still execute what it has.
    #[error("wait for an answer, call {sent}, {answered} answered: nothing within {} ms", timeout.as_millis())]
    TimedOut {
        /// How much of the call had left us.
        sent: Sent,
        /// How many of its commands were answered; their answers are gone.
        answered: usize,
        /// The deadline.
        timeout: Duration,
    },
    /// The server's bytes are no Redis, or not what this command is answered with.
    #[error("read reply: {0}")]
    Protocol(String),
    /// An earlier call failed or was dropped half way, and this connection is used up. Nothing was sent.
    #[error("use connection: an earlier call on it was not finished")]
    UsedUp,
}

impl ClientError {
    /// How much of the call had left us.
    pub fn sent(&self) -> Sent {
        match self {
            ClientError::Connect(_) | ClientError::Refused(_) | ClientError::UsedUp => Sent::No,
            ClientError::Lost { sent, .. } | ClientError::TimedOut { sent, .. } => *sent,
            ClientError::Protocol(_) => Sent::Fully,
        }
    }
}

/// A connection that is asked one call at a time.
pub struct Client {
    stream: Stream,
    replies: ReplyReader,
    protocol: Protocol,
    timeout: Duration,
    pushes: std::collections::VecDeque<Vec<Value>>,
    /// Set while a call runs and left set by one that did not finish.
    used_up: bool,
}

impl Client {
    /// Dials, greets in RESP2 and selects the endpoint's database, all within `timeout`.
    pub async fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<Client, ClientError> {
        Client::connect_as(
            endpoint,
            &Greeting {
                db: endpoint.db(),
                ..Greeting::default()
            },
            timeout,
        )
        .await
    }

    /// Dials with a greeting of one's own.
    pub async fn connect_as(
        endpoint: &Endpoint,
        greeting: &Greeting,
        timeout: Duration,
    ) -> Result<Client, ClientError> {
        let greeted = greeted(endpoint, greeting, timeout).await;
        let mut client = greeted.map_err(|cause| match cause {
            DialError::Refused { .. } | DialError::Replica { .. } => ClientError::Refused(cause),
            DialError::Connect { .. }
            | DialError::Tls { .. }
            | DialError::TimedOut { .. }
            | DialError::Lost { .. } => ClientError::Connect(cause),
        })?;
        client.protocol = greeting.protocol;
        client.set_timeout(CALL_TIMEOUT);
        Ok(client)
    }

    /// A client over a connection that is open already, and speaks RESP2 so far.
    pub fn over(stream: impl Into<Stream>) -> Client {
        Client {
            stream: stream.into(),
            replies: ReplyReader::default(),
            protocol: Protocol::Resp2,
            timeout: CALL_TIMEOUT,
            pushes: std::collections::VecDeque::new(),
            used_up: false,
        }
    }

    /// Longest wait for the answers of one call. Default: 5 s.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Sends one command and waits for its answer. An error reply is `Ok(Value::Error)`.
    ///
    /// Not cancel safe: dropped half way, the connection is used up, and the command may have been executed.
    pub async fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Value, ClientError> {
        let mut out = Vec::new();
        append(&mut out, args);
        let mut answers = self.exchange(out, 1).await?;
        let answer = answers
            .pop()
            .ok_or_else(|| ClientError::Protocol("no answer".to_owned()))?;
        if args[0].as_ref().eq_ignore_ascii_case(b"hello") && answer.as_error().is_none() {
            match args.get(1).map(AsRef::as_ref) {
                Some(b"2") => self.protocol = Protocol::Resp2,
                Some(b"3") => self.protocol = Protocol::Resp3,
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Sends many commands at once and waits for all answers, in their order. The deadline covers the whole.
    ///
    /// Not cancel safe: dropped half way, the connection is used up, and the commands may have been executed.
    pub async fn pipeline<C: AsRef<[A]>, A: AsRef<[u8]>>(
        &mut self,
        commands: &[C],
    ) -> Result<Vec<Value>, ClientError> {
        let mut out = Vec::new();
        for command in commands {
            append(&mut out, command.as_ref());
        }
        self.exchange(out, commands.len()).await
    }

    /// Sends commands as one MULTI … EXEC and gives their answers. A command that was refused while it was queued
    /// makes this an error reply in the place of all: `Ok(vec![Value::Error("EXECABORT …")])`, preceded by its cause.
    ///
    /// Not cancel safe: dropped half way, the connection is used up, and the transaction may have been executed.
    pub async fn transaction<C: AsRef<[A]>, A: AsRef<[u8]>>(
        &mut self,
        commands: &[C],
    ) -> Result<Vec<Value>, ClientError> {
        let mut out = Vec::new();
        append(&mut out, &["MULTI"]);
        for command in commands {
            append(&mut out, command.as_ref());
        }
        append(&mut out, &["EXEC"]);
        let mut answers = self.exchange(out, commands.len() + 2).await?;
        match answers.pop() {
            Some(Value::Array(answers)) => Ok(answers),
            Some(refused @ Value::Error(_)) => {
                let mut refusals: Vec<Value> = answers
                    .into_iter()
                    .filter(|answer| answer.as_error().is_some())
                    .collect();
                refusals.push(refused);
                Ok(refusals)
            }
            other => Err(ClientError::Protocol(format!(
                "EXEC was answered {other:?}"
            ))),
        }
    }

    /// Waits for one message that nobody asked for (pub/sub, MONITOR, invalidation), at most `timeout`; `None` when none came.
    ///
    /// Cancel safe: what was read stays in the buffer.
    pub async fn next_message(&mut self, timeout: Duration) -> Result<Option<Value>, ClientError> {
        if self.used_up {
            return Err(ClientError::UsedUp);
        }
        if let Some(push) = self.pushes.pop_front() {
            return Ok(Some(Value::Push(push)));
        }
        let message = std::future::poll_fn(|context| self.poll_message(context));
        match tokio::time::timeout(timeout, message).await {
            Err(_) => Ok(None),
            Ok(Ok(message)) => Ok(Some(message)),
            Ok(Err(failed)) => Err(failed),
        }
    }

    /// The protocol that is spoken now.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether a call on it could still succeed, as far as we know.
    pub fn is_usable(&self) -> bool {
        !self.used_up
    }

    /// Whether the peer has ended the connection while nobody asked anything on it. It is used up then, and nothing was sent.
    pub fn has_ended(&mut self) -> bool {
        if self.used_up {
            return true;
        }
        let mut context = Context::from_waker(std::task::Waker::noop());
        // What it says unasked stays in the buffer.
        while let Poll::Ready(read) = self.poll_fill(&mut context) {
            if read.is_err() {
                self.used_up = true;
                return true;
            }
        }
        false
    }

    /// The connection itself, with what was read and not used yet: for handshakes that end in a stream.
    pub fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.replies.buffer)
    }

    /// The socket, when nothing was read beyond the answers.
    pub(crate) fn into_quiet_socket(self) -> Result<Socket, ClientError> {
        let spare = self.replies.buffer.len();
        match self.stream.into_socket() {
            Some(socket) if spare == 0 => Ok(socket),
            _ => Err(ClientError::Protocol(format!(
                "{spare} bytes nobody asked for"
            ))),
        }
    }

    /// Writes everything and reads `count` answers, both at once: a peer that stops reading until we read cannot stop us.
    async fn exchange(&mut self, out: Vec<u8>, count: usize) -> Result<Vec<Value>, ClientError> {
        if std::mem::replace(&mut self.used_up, true) {
            return Err(ClientError::UsedUp);
        }
        let timeout = self.timeout;
        let mut exchange = Exchange {
            client: self,
            out: out.into(),
            written: 0,
            answers: Vec::with_capacity(count),
            count,
        };
        let ended = tokio::time::timeout(
            timeout,
            std::future::poll_fn(|context| exchange.poll(context)),
        )
        .await;
        let (sent, answered) = (exchange.sent(), exchange.answers.len());
        match ended {
            Ok(Ok(())) => {
                let answers = std::mem::take(&mut exchange.answers);
                self.used_up = false;
                Ok(answers)
            }
            Ok(Err(Broken::Connection(cause))) => Err(ClientError::Lost {
                sent,
                answered,
                cause,
            }),
            Ok(Err(Broken::Protocol(what))) => Err(ClientError::Protocol(what)),
            Err(_) => Err(ClientError::TimedOut {
                sent,
                answered,
                timeout,
            }),
        }
    }

    /// Reads once into the buffer. `Ok(0)` never comes: the end of the connection is an error here.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; READ_CHUNK];
        let mut into = ReadBuf::new(&mut chunk);
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, &mut into))?;
        if into.filled().is_empty() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection",
            )));
        }
        self.replies.buffer.extend_from_slice(into.filled());
        Poll::Ready(Ok(()))
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Value, ClientError>> {
        loop {
            match self.replies.next(self.protocol) {
                Ok(Some(message)) => return Poll::Ready(Ok(message)),
                Ok(None) => {}
                Err(what) => {
                    self.used_up = true;
                    return Poll::Ready(Err(ClientError::Protocol(what)));
                }
            }
            if let Err(cause) = std::task::ready!(self.poll_fill(context)) {
                self.used_up = true;
                return Poll::Ready(Err(ClientError::Lost {
                    sent: Sent::No,
                    answered: 0,
                    cause,
                }));
            }
        }
    }

    fn keep_push(&mut self, push: Vec<Value>) {
        if self.pushes.len() == PUSHES_MAX {
            self.pushes.pop_front();
        }
        self.pushes.push_back(push);
    }
}

/// One call on its way.
struct Exchange<'a> {
    client: &'a mut Client,
    out: bytes::Bytes,
    written: usize,
    answers: Vec<Value>,
    count: usize,
}

enum Broken {
    Connection(io::Error),
    Protocol(String),
}

impl Exchange<'_> {
    fn sent(&self) -> Sent {
        match (self.written, self.out.is_empty()) {
            (_, true) => Sent::Fully,
            (0, false) => Sent::No,
            (_, false) => Sent::Maybe,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut cannot_write = None;
        while !self.out.is_empty() && cannot_write.is_none() {
            match Pin::new(&mut self.client.stream).poll_write(context, &self.out) {
                Poll::Ready(Ok(written)) => {
                    self.out.advance(written);
                    self.written += written;
                }
                // A server that refuses us says why before it closes: read that first.
                Poll::Ready(Err(cause)) => cannot_write = Some(cause),
                Poll::Pending => break,
            }
        }
        loop {
            while self.answers.len() < self.count {
                match self.client.replies.next(self.client.protocol) {
                    Ok(Some(Value::Push(push))) => self.client.keep_push(push),
                    Ok(Some(answer)) => self.answers.push(answer),
                    Ok(None) => break,
                    Err(what) => return Poll::Ready(Err(Broken::Protocol(what))),
                }
            }
            if self.answers.len() == self.count && self.out.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match self.client.poll_fill(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(cause)) => {
                    return Poll::Ready(Err(Broken::Connection(cannot_write.unwrap_or(cause))));
                }
                Poll::Pending => match cannot_write {
                    Some(cause) => return Poll::Ready(Err(Broken::Connection(cause))),
                    None => return Poll::Pending,
                },
            }
        }
    }
}

fn append<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[A]) {
    encode::command(out, args);
}
