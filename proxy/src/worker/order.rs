//! What the shell may order a worker to do, and what it answers. The gate's verbs are those of docs/gate.md.

use std::sync::Arc;
use std::time::Duration;

use understudy_resp::Protocol;

use super::counters::Counters;
use super::ids::SessionId;
use super::longest::Longest;
use crate::route::{PoolIndex, RouteTable, ShardIndex};

/// One order to one worker.
#[derive(Clone, Debug)]
pub enum Order {
    /// Stop admission for a while; answered when drained, or when the lease ended first.
    Hold {
        /// Whose gate.
        pool: PoolIndex,
        /// Whose gate.
        shard: ShardIndex,
        /// The epoch that the caller believes in.
        epoch: u64,
        /// The attempt that speaks.
        term: u64,
        /// After this the gate opens by itself.
        lease: Duration,
    },
    /// End the lease: from now on only SWITCH or RELEASE of this term moves the gate.
    Prepare {
        /// Whose gate.
        pool: PoolIndex,
        /// Whose gate.
        shard: ShardIndex,
        /// The epoch that the caller believes in.
        epoch: u64,
        /// The attempt that speaks.
        term: u64,
    },
    /// Route to the next server, still held.
    Switch {
        /// Whose gate.
        pool: PoolIndex,
        /// Whose gate.
        shard: ShardIndex,
        /// The epoch that the caller believes in.
        epoch: u64,
        /// The attempt that speaks.
        term: u64,
        /// The epoch from now on; greater than `epoch`.
        next_epoch: u64,
        /// The server from now on, without a password.
        url: String,
    },
    /// Open at the epoch that the gate stands at.
    Release {
        /// Whose gate.
        pool: PoolIndex,
        /// Whose gate.
        shard: ShardIndex,
        /// The epoch that the caller believes in.
        epoch: u64,
        /// The attempt that speaks.
        term: u64,
    },
    /// Start prepared, as it was before a restart. Given before the first session.
    Restore {
        /// Whose gate.
        pool: PoolIndex,
        /// Whose gate.
        shard: ShardIndex,
        /// The epoch at which it was prepared.
        epoch: u64,
        /// The attempt that prepared it.
        term: u64,
    },
    /// What control says of a shard while, or after, an upgrade is armed.
    Lease {
        /// Whose gate.
        pool: PoolIndex,
        /// Whose gate.
        shard: ShardIndex,
        /// The epoch that holds; `None` when control has none for this shard.
        epoch: Option<u64>,
        /// The last attempt that armed anything when control said so.
        term: u64,
        /// What it said.
        lease: Lease,
        /// How long from now that may be believed.
        left: Duration,
    },
    /// Read a gate.
    Gate {
        /// Whose gate.
        pool: PoolIndex,
        /// Whose gate.
        shard: ShardIndex,
    },
    /// Take over a new table. Shards that stay keep gate and epoch; sessions of pools that went are closed.
    Routes(Arc<RouteTable>),
    /// List the sessions.
    Sessions,
    /// Copy the counters.
    Counters,
    /// The script bodies seen in a pool, newest last.
    Scripts {
        /// Whose scripts.
        pool: PoolIndex,
    },
}

/// Whether an upgrade of a shard is armed, and what that means for this proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// None is: serve, whether control answers or not.
    Over,
    /// One is, and counts on this proxy: serve for as long as control answers.
    Armed,
    /// One is, without this proxy: serve nobody until told.
    Wait,
}

/// What a worker answers to an order.
#[derive(Clone, Debug)]
pub enum Ack {
    /// To the gate's verbs: how the gate stands now.
    Gate(GateStatus),
    /// To the gate's verbs: why not.
    Refused(GateError),
    /// To [`Order::Sessions`].
    Sessions(Vec<SessionLine>),
    /// To [`Order::Counters`].
    Counters(Box<Counters>),
    /// To [`Order::Scripts`].
    Scripts(Vec<Vec<u8>>),
    /// To [`Order::Routes`].
    Done,
}

/// Where a gate stands. docs/gate.md has the drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatePosition {
    /// Commands go to the backend.
    Open,
    /// No command is admitted; a lease.
    Held,
    /// No command is admitted; only SWITCH or RELEASE of this term moves it.
    Prepared,
    /// Routed to the next server, still held.
    Switched,
    /// An upgrade is armed and control does not answer, or this proxy is behind: no command is admitted until control says
    /// which epoch holds.
    Lapsed,
}

impl GatePosition {
    /// The word on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GatePosition::Open => "open",
            GatePosition::Held => "held",
            GatePosition::Prepared => "prepared",
            GatePosition::Switched => "switched",
            GatePosition::Lapsed => "lapsed",
        }
    }
}

/// One worker's gate of one shard, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateStatus {
    /// Open, held, prepared, switched or lapsed.
    pub state: GatePosition,
    /// The epoch it routes to.
    pub epoch: u64,
    /// The highest term it accepted.
    pub term: u64,
    /// The server of that epoch.
    pub backend: String,
    /// Commands in flight: in lanes' buffers or at the server.
    pub in_flight: u64,
    /// Sessions that wait for it.
    pub held_sessions: u64,
    /// How long the last hold took to drain.
    pub waited_us: u64,
    /// Longest time that a command of this shard took from its arrival to its reply, since the last HOLD.
    pub longest_gap_us: u64,
}

/// Why a gate did not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// An older attempt speaks.
    #[error("STALETERM shard {shard} has seen term {seen}, this is {given}")]
    StaleTerm {
        /// Name of the shard.
        shard: String,
        /// The highest term accepted.
        seen: u64,
        /// The term of the order.
        given: u64,
    },
    /// Caller and worker disagree about the route.
    #[error("WRONGEPOCH shard {shard} is at epoch {is}, not {given}")]
    WrongEpoch {
        /// Name of the shard.
        shard: String,
        /// The gate's epoch.
        is: u64,
        /// The epoch of the order.
        given: u64,
    },
    /// HOLD could not drain in time.
    #[error("NOTHELD worker {worker} in flight {in_flight}{}", behind(longest.as_ref()))]
    NotDrained {
        /// Which worker.
        worker: u16,
        /// What was still in flight.
        in_flight: u64,
        /// The first of it to come, where that is known.
        longest: Option<Longest>,
    },
    /// PREPARE or SWITCH found no hold of this term.
    #[error("NOTHELD worker {worker}: shard {shard} is {state} with term {term}: {why}")]
    NotHeld {
        /// Which worker.
        worker: u16,
        /// Name of the shard.
        shard: String,
        /// Where the gate stands.
        state: &'static str,
        /// The gate's term.
        term: u64,
        /// What was missing, in words.
        why: &'static str,
    },
    /// An older attempt is prepared or switched; it must end first.
    #[error("BUSYGATE shard {shard} is {state} for term {term}")]
    Busy {
        /// Name of the shard.
        shard: String,
        /// Where the gate stands.
        state: &'static str,
        /// The term that it waits for.
        term: u64,
    },
    /// The gate has lapsed, or an order to open it came while control has not been heard for a lease.
    #[error(
        "NOLEASE shard {shard} serves nobody until control has answered this proxy's UPGRADE REGISTER"
    )]
    NoLease {
        /// Name of the shard.
        shard: String,
    },
    /// No such pool or shard in this worker's table.
    #[error("ERR no such shard in this worker's routes")]
    NoShard,
}

fn behind(longest: Option<&Longest>) -> String {
    longest.map(|it| format!(": {it}")).unwrap_or_default()
}

/// One session, for PROXY SESSIONS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLine {
    /// Its id in this worker.
    pub session: SessionId,
    /// The id that CLIENT ID answers.
    pub client_id: u64,
    /// Its pool.
    pub pool: PoolIndex,
    /// Where it comes from.
    pub peer: String,
    /// What CLIENT SETNAME said.
    pub name: String,
    /// Who it logged in as.
    pub user: String,
    /// RESP2 or RESP3.
    pub protocol: Protocol,
    /// The selected database.
    pub db: u32,
    /// Microseconds since it opened.
    pub age_us: u64,
    /// Microseconds since its last byte.
    pub idle_us: u64,
    /// Commands it sent.
    pub commands: u64,
    /// Entries that wait for their replies.
    pub waiting: usize,
    /// Bytes it sent that are not admitted.
    pub input_bytes: usize,
    /// Bytes of replies that it has not taken.
    pub output_bytes: usize,
    /// What it waits for: `-`, `gate`, `drain`, `retry`, `lane`, `output`, `commands`, `own lane`, `upload`, `closing`.
    pub stopped_by: &'static str,
}
