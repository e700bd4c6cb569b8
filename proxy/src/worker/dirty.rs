//! What the shell has to do after it called the worker: sockets to write, dial and close, and answers to orders.

use super::ids::{LaneId, SessionId};
use super::order::Ack;
use crate::route::Backend;
use understudy_resp::Protocol;

/// Work for the shell. Swapped with the worker's own by [`Worker::take_dirty`](super::Worker::take_dirty), so that its
/// vectors are made once.
#[derive(Debug, Default)]
pub struct Dirty {
    /// Sessions that have output.
    pub write_sessions: Vec<SessionId>,
    /// Open lanes that have output.
    pub write_lanes: Vec<LaneId>,
    /// Sessions that may be read again.
    pub resume: Vec<SessionId>,
    /// Lanes that may be read again.
    pub resume_lanes: Vec<LaneId>,
    /// Sessions to close once their output is written. The shell then says `client_closed(.., Gone)`, which frees them.
    pub close_sessions: Vec<(SessionId, CloseReason)>,
    /// Lanes to connect. The shell answers each with `lane_opened` or `lane_lost`.
    pub dial: Vec<Dial>,
    /// Lanes to close at once. Their ids are already dead: no answer is needed, a late one is ignored.
    pub close_lanes: Vec<LaneId>,
    /// Answers to orders, by ticket.
    pub acks: Vec<(u64, Ack)>,
}

impl Dirty {
    /// Empties all lists and keeps their memory.
    pub fn clear(&mut self) {
        self.write_sessions.clear();
        self.write_lanes.clear();
        self.resume.clear();
        self.resume_lanes.clear();
        self.close_sessions.clear();
        self.dial.clear();
        self.close_lanes.clear();
        self.acks.clear();
    }

    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.write_sessions.is_empty()
            && self.write_lanes.is_empty()
            && self.resume.is_empty()
            && self.resume_lanes.is_empty()
            && self.close_sessions.is_empty()
            && self.dial.is_empty()
            && self.close_lanes.is_empty()
            && self.acks.is_empty()
    }
}

/// A lane to connect: which server, in which protocol, with which db selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// The lane that waits for it.
    pub lane: LaneId,
    /// The server.
    pub backend: Backend,
    /// HELLO 3, or none.
    pub protocol: Protocol,
    /// SELECT, when not 0.
    pub db: u32,
    /// One session's own: [`Worker::lane_opened`](super::Worker::lane_opened) needs what the server calls it.
    pub own: bool,
}

/// What became of bytes that a client or a backend sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// Read on.
    Continue,
    /// Read no more until the session is in [`Dirty::resume`], or the lane in [`Dirty::resume_lanes`].
    Pause,
}

/// How a client's connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEnd {
    /// It will send no more, but still wants replies.
    ReadClosed,
    /// It is gone. What it sent and was not admitted is dropped, replies to it are swallowed. Frees the session.
    Gone,
}

/// How a lane ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaneLoss {
    /// It never opened: nothing left us.
    ConnectFailed(String),
    /// It was closed, by the backend or by an error of the socket.
    Closed(String),
    /// The shell gave up waiting.
    TimedOut,
}

/// Why a session is closed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client closed first.
    Client,
    /// It said QUIT.
    Quit,
    /// It spoke no RESP; the error was its last reply.
    Protocol,
    /// A request above `frame_max`.
    FrameTooLarge,
    /// It did not take its replies.
    SlowReader,
    /// Its pool is no longer configured.
    PoolRemoved,
    /// A backend's connection ended, or it broke the protocol, in the middle of a reply of which the client has a part.
    BackendProtocol,
}

impl CloseReason {
    /// How many there are.
    pub const COUNT: usize = 7;
    /// All of them, in the order of their numbers.
    pub const ALL: [CloseReason; CloseReason::COUNT] = [
        CloseReason::Client,
        CloseReason::Quit,
        CloseReason::Protocol,
        CloseReason::FrameTooLarge,
        CloseReason::SlowReader,
        CloseReason::PoolRemoved,
        CloseReason::BackendProtocol,
    ];

    /// Label in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CloseReason::Client => "client",
            CloseReason::Quit => "quit",
            CloseReason::Protocol => "protocol",
            CloseReason::FrameTooLarge => "frame_too_large",
            CloseReason::SlowReader => "slow_reader",
            CloseReason::PoolRemoved => "pool_removed",
            CloseReason::BackendProtocol => "backend_protocol",
        }
    }
}

/// Why a session was not opened. Its text is what the client reads before the close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefuseReason {
    /// `sessions_max` is reached.
    #[error("ERR max number of clients reached")]
    TooManySessions,
    /// No such pool in this worker's table.
    #[error("ERR this pool is no longer served")]
    NoPool,
}
