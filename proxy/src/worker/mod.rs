//! The worker core: sessions, lanes and gates of one thread, as values.
//!
//! ```text
//!  client bytes → session.input → scan frame → table (class, keys) → shard → gate → lane.out ┐
//!                                                            run pushed BEFORE the send       │
//!  client bytes ← session.out ← runs in order ← match entry ← scan reply ← lane.input ← backend
//! ```
//!
//! Two queues explain everything: a session's runs order the replies of one client; a lane's entries pair replies with
//! commands. Neither knows the other. No socket, clock, await or randomness inside: the shell moves bytes, says what time
//! it is, and afterwards does what [`Dirty`] lists. So a seed can play any schedule, and the hot path takes no lock.
//!
//! Reading order: `ids`, `settings`, `order`, `dirty` are the interface; `run`, `session`, `lane`, `gate` the state;
//! `admit`, `local`, `queue`, `spread` take commands in; `reply`, `recovery`, `recover` give replies out; `orders` moves gates;
//! `deadlines` knows when to look again.
//! Beside that way lies another, for what needs a connection of its session's own: `pinned` is its state, `errands` takes in, `own`
//! sends, `answers` gives out, `unblock` is what a hold does to it, `alarms` its time. What is huge goes in pieces: commands in
//! `bulk`, replies in `flow`.

mod admit;
mod alarms;
mod answers;
mod bulk;
mod counters;
mod deadlines;
mod dirty;
mod errands;
mod flow;
mod gate;
mod gather;
mod ids;
mod invariants;
mod lane;
mod local;
mod longest;
mod order;
mod orders;
mod outbound;
mod own;
mod patience;
mod pinned;
mod queue;
mod reading;
mod recover;
mod recovery;
mod reload;
mod reply;
mod retry;
mod run;
mod scripts;
mod session;
mod settings;
mod sha1;
mod slab;
mod spread;
mod texts;
mod transaction;
mod unblock;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

pub use counters::{Counters, Histogram, LatencyClass, ShardCounters};
pub use dirty::{ClientEnd, CloseReason, Dial, Dirty, LaneLoss, RefuseReason, Took};
pub use ids::{LaneId, SessionId, Tick};
pub use longest::Longest;
pub use order::{Ack, GateError, GatePosition, GateStatus, Lease, Order, SessionLine};
pub use settings::{HeldAfterHalfClose, WorkerSettings};

pub(crate) use sha1::sha1_hex;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use understudy_resp::scan::{RequestScanner, ScanLimits};

use crate::route::{Backend, PoolIndex, RouteTable, ShardIndex};
use deadlines::Deadlines;
use gate::Gate;
use lane::{Lane, LaneKey, LaneState};
use scripts::Scripts;
use session::{Session, Stop};
use slab::Slab;
use unblock::LeftBehind;

/// Buffers that are kept for the next session that needs one, and their largest size.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 256 << 10;
/// Bytes that a client took of an output which it has not taken whole, before they are let go.
const WRITTEN_MAX: usize = 256 << 10;

/// One worker.
#[derive(Debug)]
pub struct Worker {
    settings: WorkerSettings,
    /// As the settings', without a bound for the whole frame: what need not be whole may be larger.
    scan: ScanLimits,
    routes: Arc<RouteTable>,
    pools: Vec<Pool>,
    sessions: Slab<Session>,
    lanes: Slab<Lane>,
    dirty: Dirty,
    /// Sessions that go on, in their order.
    ready: VecDeque<SessionId>,
    /// Sessions with a recovery that waits. May name dead ones.
    retrying: Vec<SessionId>,
    /// Lanes that sessions share, and those whose session is gone. A session's own are in its alarm.
    shared_lanes: Vec<LaneId>,
    /// When to look at sessions with lanes of their own.
    alarms: BTreeSet<(Tick, SessionId)>,
    /// When to look at everything else.
    deadlines: Deadlines,
    /// What waited for sessions that went, or for their turn in a room: it goes on at the end of this call.
    left_behind: Vec<LeftBehind>,
    /// How many commands went to sessions' own lanes.
    arrivals: u64,
    /// Some client takes its replies slowly, and the lane that brought the last ones is to be looked at.
    slow: bool,
    /// A lane was paused since a backend's bytes were last taken.
    paused: bool,
    /// Gates whose HOLD waits for the drain.
    draining: Vec<(PoolIndex, ShardIndex)>,
    counters: Counters,
    /// Changes when routes do: sessions that chose lanes before must drain first.
    stamp: u32,
    clients: u64,
    random: u64,
    /// Scanners, buffers and lists that are used again.
    scanners: Vec<RequestScanner>,
    spare: Vec<Vec<u8>>,
    keys: Vec<usize>,
    local: Vec<u8>,
}

#[derive(Debug)]
struct Pool {
    shards: Vec<Shard>,
    scripts: Scripts,
}

/// One shard: its gate, its lanes, its counters.
#[derive(Debug)]
struct Shard {
    gate: Gate,
    /// Lanes of the gate's epoch, one for each protocol and db in use.
    lanes: Vec<LaneId>,
    /// Lanes of an epoch that is over, empty, to be closed when the gate opens.
    old_lanes: Vec<LaneId>,
    /// Empty lanes that were set aside for a huge reply, for the next one.
    spare_lanes: Vec<LaneId>,
    /// Changes whenever the gate's server does.
    address: u32,
    dial_failures: u32,
    /// No dial before this.
    dial_after: Tick,
    counters: ShardCounters,
}

impl Shard {
    fn new(pool: PoolIndex, shard: ShardIndex, epoch: u64, url: String) -> Shard {
        Shard {
            gate: Gate::open_at(epoch, url),
            lanes: Vec::new(),
            old_lanes: Vec::new(),
            spare_lanes: Vec::new(),
            address: 0,
            dial_failures: 0,
            dial_after: Tick(0),
            counters: ShardCounters {
                pool,
                shard,
                ..ShardCounters::default()
            },
        }
    }
}

impl Worker {
    /// A worker without sessions; its gates are open at the epochs of `routes`.
    #[must_use]
    pub fn new(mut settings: WorkerSettings, routes: Arc<RouteTable>) -> Worker {
        let whole_max = usize::try_from(settings.scan.frame_max).unwrap_or(usize::MAX);
        settings.bulk_threshold = settings.bulk_threshold.min(whole_max);
        let output_max = settings.session_output_max;
        settings.session_output_pause = settings.session_output_pause.min(output_max);
        let mut worker = Worker {
            random: settings.seed ^ (u64::from(settings.worker) << 32) ^ 0x9E37_79B9_7F4A_7C15,
            scan: ScanLimits {
                frame_max: u64::from(u32::MAX),
                ..settings.scan
            },
            settings,
            routes: Arc::default(),
            pools: Vec::new(),
            sessions: Slab::new(),
            lanes: Slab::new(),
            dirty: Dirty::default(),
            ready: VecDeque::new(),
            retrying: Vec::new(),
            shared_lanes: Vec::new(),
            alarms: BTreeSet::new(),
            deadlines: Deadlines::default(),
            left_behind: Vec::new(),
            arrivals: 0,
            slow: false,
            paused: false,
            draining: Vec::new(),
            counters: Counters::default(),
            stamp: 0,
            clients: 0,
            scanners: Vec::new(),
            spare: Vec::new(),
            keys: Vec::new(),
            local: Vec::new(),
        };
        worker.take_routes(routes, Tick(0));
        worker
    }

    /// A client connected.
    ///
    /// # Errors
    /// At the limit of sessions, or when the pool is gone: write the error's text as an error reply and close.
    pub fn open_session(
        &mut self,
        pool: PoolIndex,
        peer: String,
        now: Tick,
    ) -> Result<SessionId, RefuseReason> {
        if self.sessions.len() >= self.settings.sessions_max {
            self.counters.sessions_refused += 1;
            return Err(RefuseReason::TooManySessions);
        }
        let Some(route) = self.routes.pool(pool) else {
            return Err(RefuseReason::NoPool);
        };
        let user = route.users.is_empty().then(|| "default".to_owned());
        self.clients += 1;
        let client_id = self.clients * u64::from(self.settings.workers.max(1))
            + u64::from(self.settings.worker);
        let (index, generation) = self
            .sessions
            .insert(Session::new(pool, peer, client_id, user, now));
        self.counters.sessions_opened += 1;
        Ok(SessionId { index, generation })
    }

    /// Takes bytes that a client sent. After `Pause` the shell reads no more until the session is in [`Dirty::resume`].
    pub fn client_bytes(&mut self, session: SessionId, bytes: &[u8], now: Tick) -> Took {
        let Some(it) = self.sessions.find_mut(session.index, session.generation) else {
            return Took::Pause;
        };
        if it.closing.is_some() || it.read_closed {
            return Took::Pause;
        }
        it.active = now;
        self.counters.client_bytes_in += bytes.len() as u64;
        if it.stop != Stop::No {
            self.take_ahead(session, bytes, now);
        } else if it.input.is_empty() {
            let consumed = self.process(session, bytes, now);
            if let Some(it) = self.sessions.find_mut(session.index, session.generation)
                && let Some(rest) = bytes.get(consumed..)
                && !rest.is_empty()
            {
                it.input = self.spare.pop().unwrap_or_default();
                it.input.extend_from_slice(rest);
            }
            self.after_pass(session, now);
        } else {
            it.input.extend_from_slice(bytes);
            self.go_on(session, now);
        }
        self.settle(now);
        self.reading(session)
    }

    /// A client's connection ended, in part or in whole. `Gone` frees the session.
    pub fn client_closed(&mut self, session: SessionId, how: ClientEnd, now: Tick) {
        match how {
            ClientEnd::Gone => self.free_session(session, CloseReason::Client),
            ClientEnd::ReadClosed => {
                if let Some(it) = self.sessions.find_mut(session.index, session.generation) {
                    it.read_closed = true;
                    self.half_closed(session);
                    self.after_upload(session);
                }
                self.progressed(session);
            }
        }
        self.settle(now);
    }

    /// Bytes to write to a client.
    #[must_use]
    pub fn session_output(&self, session: SessionId) -> &[u8] {
        self.sessions
            .find(session.index, session.generation)
            .map_or(&[], Session::unwritten)
    }

    /// So many of them were written.
    pub fn session_wrote(&mut self, session: SessionId, n: usize, now: Tick) {
        let Some(it) = self.sessions.find_mut(session.index, session.generation) else {
            return;
        };
        debug_assert!(
            n <= it.unwritten().len(),
            "the shell wrote more than there was"
        );
        it.written = (it.written + n).min(it.out.len());
        it.active = now;
        let waits = it.stop == Stop::Output || !it.held_back.is_empty();
        self.counters.client_bytes_out += n as u64;
        if it.written == it.out.len() {
            it.written = 0;
            it.out.clear();
            let buffer = std::mem::take(&mut it.out);
            keep_spare(&mut self.spare, buffer);
        } else if it.written >= WRITTEN_MAX {
            // A client that never quite catches up: what it took is not kept until it does.
            it.out.drain(..it.written);
            it.written = 0;
        }
        if waits {
            self.read_lanes_again(session, now);
            self.progressed(session);
            self.settle(now);
        }
    }

    /// A dialled lane is ready: connected, logged in, db selected. `server_id` is what the server calls the connection; a
    /// [`Dial`] that is `own` needs it.
    pub fn lane_opened(&mut self, lane: LaneId, server_id: Option<u64>, now: Tick) {
        let Some(it) = self.lanes.find_mut(lane.index, lane.generation) else {
            return;
        };
        it.state = LaneState::Open;
        it.progress = now;
        it.server_id = server_id;
        let key = it.key;
        self.deadlines_moved();
        self.counters.lanes_opened += 1;
        if let Some(shard) = self.shard_mut(key.pool, key.shard) {
            shard.dial_failures = 0;
            shard.dial_after = Tick(0);
        }
        self.list_lane(lane);
        self.own_lane_opened(lane, now);
        self.go_on_behind(now);
    }

    /// A lane ended, or never opened. Its id is dead afterwards.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the event ends with this call"
    )]
    pub fn lane_lost(&mut self, lane: LaneId, why: LaneLoss, now: Tick) {
        self.lose_lane(lane, &why, now);
        self.settle(now);
    }

    /// Takes bytes that a backend sent. After `Pause` the shell reads no more until the lane is in [`Dirty::resume_lanes`].
    pub fn backend_bytes(&mut self, lane: LaneId, bytes: &[u8], now: Tick) -> Took {
        self.counters.backend_bytes_in += bytes.len() as u64;
        self.take_replies(lane, bytes, now);
        self.settle(now);
        if self.paused {
            self.paused = false;
            return self.lane_reading(lane);
        }
        Took::Continue
    }

    /// The next bytes to write to a backend; behind them there may be more. Empty until the lane is open.
    #[must_use]
    pub fn lane_output(&self, lane: LaneId) -> &[u8] {
        match self.lanes.find(lane.index, lane.generation) {
            Some(it) if it.state == LaneState::Open => it.unsent(),
            _ => &[],
        }
    }

    /// So many of them were written.
    pub fn lane_wrote(&mut self, lane: LaneId, n: usize, now: Tick) {
        let Some(it) = self.lanes.find_mut(lane.index, lane.generation) else {
            return;
        };
        it.wrote(n);
        self.counters.backend_writes += 1;
        self.counters.backend_bytes_out += n as u64;
        if !it.waiters.is_empty() {
            self.made_room(lane, now);
        }
    }

    /// An order; its answer comes out of [`Worker::take_dirty`] with the same ticket, now or later.
    pub fn order(&mut self, ticket: u64, order: Order, now: Tick) {
        self.obey(ticket, order, now);
        self.deadlines_moved();
        self.settle(now);
    }

    /// Time passed. To be called at [`Worker::next_deadline`], early is harmless.
    pub fn tick(&mut self, now: Tick) {
        self.check_gates(now);
        self.check_lanes(now);
        self.check_alarms(now);
        self.check_retries(now);
        self.deadlines_moved();
        self.settle(now);
    }

    /// When a shard stops serving unless control answers before. Nothing that comes later is to be seen before that tick.
    #[must_use]
    pub fn lease_end(&self) -> Option<Tick> {
        let shards = self.pools.iter().flat_map(|pool| &pool.shards);
        shards.filter_map(|shard| shard.gate.lease_end()).min()
    }

    /// Whether there is something to do for the shell.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Swaps the list of what is to do with an empty one.
    pub fn take_dirty(&mut self, into: &mut Dirty) {
        into.clear();
        std::mem::swap(&mut self.dirty, into);
        for id in &into.write_sessions {
            if let Some(session) = self.sessions.find_mut(id.index, id.generation) {
                session.listed = false;
            }
        }
        for id in &into.write_lanes {
            if let Some(lane) = self.lanes.find_mut(id.index, id.generation) {
                lane.listed = false;
            }
        }
    }

    fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.find_mut(id.index, id.generation)
    }

    fn shard_mut(&mut self, pool: PoolIndex, shard: ShardIndex) -> Option<&mut Shard> {
        self.pools
            .get_mut(usize::from(pool.0))?
            .shards
            .get_mut(usize::from(shard.0))
    }

    fn shard_count(&self, pool: PoolIndex) -> usize {
        self.pools
            .get(usize::from(pool.0))
            .map_or(0, |pool| pool.shards.len())
    }

    fn next_random(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed >> 32) as u32
    }

    /// Everything that follows from what just happened: sessions that can go on do, holds that are drained are answered.
    fn settle(&mut self, now: Tick) {
        let turn = self.ready.len().min(self.settings.released_per_turn);
        for _ in 0..turn {
            let Some(id) = self.ready.pop_front() else {
                break;
            };
            let Some(session) = self.session(id) else {
                continue;
            };
            session.ready = false;
            session.stop = Stop::No;
            if session.closing.is_none() {
                self.go_on(id, now);
            }
            self.resume(id);
        }
        if !self.left_behind.is_empty() {
            self.go_on_behind(now);
        }
        self.answer_drained(now);
        self.settle_deadlines(now);
    }

    /// The session's reason to wait is over. A session at a gate is woken by that gate only.
    fn wake(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.find_mut(id.index, id.generation)
            && !matches!(session.stop, Stop::No | Stop::Gate(_) | Stop::Upload)
            && !session.ready
        {
            session.ready = true;
            self.ready.push_back(id);
        }
    }

    /// Scans what the session has kept.
    fn go_on(&mut self, id: SessionId, now: Tick) {
        let Some(session) = self.session(id) else {
            return;
        };
        let mut input = std::mem::take(&mut session.input);
        let consumed = self.process(id, &input, now);
        input.drain(..consumed.min(input.len()));
        if let Some(session) = self.sessions.find_mut(id.index, id.generation)
            && !input.is_empty()
        {
            session.input = input;
        } else {
            keep_spare(&mut self.spare, input);
        }
        self.after_pass(id, now);
    }

    /// Queues the session where it waits, now that its input is stored.
    fn after_pass(&mut self, id: SessionId, now: Tick) {
        let Some(session) = self.sessions.find_mut(id.index, id.generation) else {
            return;
        };
        let (pool, stop, bytes) = (session.pool, session.stop, session.input.len());
        match stop {
            Stop::Gate(index) => {
                session.waits_since.get_or_insert(now);
                if let Some(shard) = self.shard_mut(pool, index) {
                    let gate = &mut shard.gate;
                    gate.parked.push_back(id);
                    gate.held_sessions += 1;
                    gate.held_bytes += bytes;
                }
                self.check_limits(pool, index, now);
            }
            Stop::No
            | Stop::Drain
            | Stop::Retry
            | Stop::Lane
            | Stop::Output
            | Stop::Commands
            | Stop::Upload
            | Stop::Errand => {}
        }
        self.progressed(id);
    }

    /// After replies or a pass: output is listed, waits that are over end, a session that has said all is closed.
    fn progressed(&mut self, id: SessionId) {
        let Some(session) = self.sessions.find_mut(id.index, id.generation) else {
            return;
        };
        if session.kept() > self.settings.session_output_pause {
            if session.kept() > self.settings.session_output_max {
                return self.cut_session(id, CloseReason::SlowReader);
            }
            self.slow = true;
        }
        if !session.unwritten().is_empty() && !session.listed {
            session.listed = true;
            self.dirty.write_sessions.push(id);
        }
        let dropped = match session.stop {
            Stop::No => true,
            Stop::Gate(_) => self.settings.held_after_half_close == HeldAfterHalfClose::Drop,
            Stop::Drain
            | Stop::Retry
            | Stop::Lane
            | Stop::Output
            | Stop::Commands
            | Stop::Upload
            | Stop::Errand => false,
        };
        if session.read_closed && session.closing.is_none() && session.runs.is_empty() && dropped {
            // What is left of its input is no whole command and never will be, or it is held and goes with its client.
            session.closing = Some(CloseReason::Client);
        }
        let idle = session.runs.is_empty();
        if let Some(reason) = session.closing
            && idle
            && !session.close_listed
        {
            session.close_listed = true;
            self.dirty.close_sessions.push((id, reason));
        }
        let over = match session.stop {
            Stop::Drain => idle,
            Stop::Commands => session.waiting <= self.settings.session_commands_max / 2,
            Stop::Retry => session.recoveries.is_empty(),
            Stop::Errand => session
                .pinned
                .as_ref()
                .is_none_or(|pinned| pinned.errand.is_none()),
            Stop::Output => session.kept() <= self.settings.session_output_pause / 2,
            Stop::No | Stop::Gate(_) | Stop::Lane | Stop::Upload => false,
        };
        if over {
            self.wake(id);
        }
    }

    /// Ends a session at once: its id is dead, its replies are swallowed, the shell closes it.
    fn cut_session(&mut self, id: SessionId, reason: CloseReason) {
        if self.sessions.find(id.index, id.generation).is_some() {
            self.free_session(id, reason);
            self.dirty.close_sessions.push((id, reason));
        }
    }

    /// Frees a session, with all it had not sent yet.
    fn free_session(&mut self, id: SessionId, reason: CloseReason) {
        self.leave_pinned(id);
        let Some(session) = self.sessions.remove(id.index, id.generation) else {
            return;
        };
        let reason = session.closing.unwrap_or(reason);
        self.counters.sessions_closed[reason as usize] += 1;
        if let Stop::Gate(shard) = session.stop
            && !session.ready
            && let Some(shard) = self.shard_mut(session.pool, shard)
        {
            let gate = &mut shard.gate;
            gate.held_sessions -= 1;
            gate.held_bytes -= session.input.len();
            // The queue may name dead sessions, but not mostly.
            if gate.parked.len() > 64 + 2 * gate.held_sessions {
                let sessions = &self.sessions;
                let live = |id: &SessionId| sessions.find(id.index, id.generation).is_some();
                if let Some(pool) = self.pools.get_mut(usize::from(session.pool.0)) {
                    pool.shards
                        .iter_mut()
                        .for_each(|shard| shard.gate.parked.retain(live));
                }
            }
        }
        if let Some(scanner) = session.scanner {
            self.keep_scanner(scanner);
        }
        let lanes = session.held_back.into_iter();
        self.left_behind.extend(lanes.map(LeftBehind::Lane));
        keep_spare(&mut self.spare, session.out);
        keep_spare(&mut self.spare, session.input);
    }

    fn keep_scanner(&mut self, mut scanner: RequestScanner) {
        if self.scanners.len() < SPARE_MAX {
            scanner.reset();
            self.scanners.push(scanner);
        }
    }

    /// The lane of a shard's present epoch for this protocol and db; made and dialled where there is none.
    fn lane_of(&mut self, key: LaneKey, now: Tick) -> Option<LaneId> {
        let shard = self
            .pools
            .get(usize::from(key.pool.0))?
            .shards
            .get(usize::from(key.shard.0))?;
        for lane in &shard.lanes {
            if let Some(it) = self.lanes.find(lane.index, lane.generation)
                && it.key.protocol == key.protocol
                && it.key.db == key.db
            {
                return Some(*lane);
            }
        }
        if !shard.spare_lanes.is_empty()
            && let Some(lane) = self.take_spare(key)
        {
            return Some(lane);
        }
        let shard = self
            .pools
            .get(usize::from(key.pool.0))?
            .shards
            .get(usize::from(key.shard.0))?;
        let (epoch, url, after) = (shard.gate.epoch, shard.gate.url.clone(), shard.dial_after);
        let state = if after > now {
            LaneState::Delayed(after)
        } else {
            LaneState::Dialing
        };
        let (key, piece_bytes) = (LaneKey { epoch, ..key }, self.settings.lane_piece_bytes);
        let (index, generation) = self.lanes.insert(Lane::new(key, state, piece_bytes, now));
        let lane = LaneId { index, generation };
        self.shared_lanes.push(lane);
        self.deadlines_moved();
        let shard = self.shard_mut(key.pool, key.shard)?;
        shard.lanes.push(lane);
        let address = shard.address;
        let retain_max = self.settings.lane_retain_max;
        if let Some(it) = self.lanes.find_mut(index, generation) {
            it.address = address;
            it.retain_max = retain_max;
        }
        if state == LaneState::Dialing {
            self.dial(lane, url);
        }
        Some(lane)
    }

    fn dial(&mut self, lane: LaneId, url: String) {
        if let Some(it) = self.lanes.find_mut(lane.index, lane.generation) {
            it.state = LaneState::Dialing;
            let LaneKey {
                pool,
                shard,
                epoch,
                protocol,
                db,
            } = it.key;
            let own = it.owner.is_some();
            self.counters.lanes_dialled += 1;
            self.dirty.dial.push(Dial {
                lane,
                backend: Backend {
                    url,
                    shard: (pool, shard),
                    epoch,
                },
                protocol,
                db,
                own,
            });
        }
    }

    /// Lists a lane that has something to write.
    fn list_lane(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.find_mut(id.index, id.generation)
            && lane.state == LaneState::Open
            && !lane.listed
            && lane.queued() > 0
        {
            lane.listed = true;
            self.dirty.write_lanes.push(id);
        }
    }
}

fn keep_spare(spare: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if buffer.capacity() > 0 && buffer.capacity() <= SPARE_BYTES_MAX && spare.len() < SPARE_MAX {
        buffer.clear();
        spare.push(buffer);
    }
}
