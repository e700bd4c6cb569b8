//! The sockets of one worker around its core: asks the core what is to do and does it.
//!
//! ```text
//!  session task:  read -> core.client_bytes -> wake the flusher; after a long read write the lanes at once
//!  flusher:       behind every session that was ready in this turn, and a few more turns while several are: settle,
//!                 then write each lane once
//!  lane task:     read -> core.backend_bytes -> settle: replies are written to their clients right away
//! ```
//!
//! The core is borrowed only inside one synchronous call; no borrow lives across an await. `settle` is never entered
//! twice: what it calls (writes, closes) leaves marks for tasks instead of calling back.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::lane;
use super::signal::Signal;
use super::slots::Slots;
use super::wire::{Wire, Wrote};
use crate::route::RouteTable;
use crate::shared::Shared;
use crate::worker::{Ack, CloseReason, Dirty, LaneId, Order, SessionId, Tick, Worker};

/// Bytes read from a socket at once. Sixteen commands of 4 KiB and more fit, so that they cost one read and one write.
const SCRATCH_BYTES: usize = 128 * 1024;

/// No lease ends.
const NEVER: Tick = Tick(u64::MAX);

/// One client's connection.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) wire: Wire,
    /// Set when the core wants it closed behind its last reply.
    pub(super) closing: Cell<Option<CloseReason>>,
}

/// One open backend connection.
pub(super) struct Lane {
    pub(super) id: LaneId,
    pub(super) wire: Wire,
    /// Whether it waits in `unwritten`.
    queued: Cell<bool>,
}

/// What clients have sent since the flusher last looked.
#[derive(Clone, Copy, Default)]
pub(super) struct Fresh {
    pub(super) reads: usize,
    pub(super) bytes: usize,
}

/// One worker's core and sockets. Everything here belongs to one thread.
pub(super) struct Shell {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u16,
    pub(super) core: RefCell<Worker>,
    /// The table that the core has, to find a pool by name.
    pub(super) routes: RefCell<Arc<RouteTable>>,
    pub(super) scratch: RefCell<Box<[u8]>>,
    pub(super) sessions: RefCell<Slots<Session>>,
    pub(super) lanes: RefCell<Slots<Lane>>,
    /// Lanes that are being dialled and still wanted.
    pub(super) dialling: RefCell<HashSet<LaneId>>,
    pub(super) flush: Signal,
    pub(super) fresh: Cell<Fresh>,
    pub(super) rearm: Signal,
    pub(super) panicked: Signal,
    pub(super) drained: Signal,
    /// The deadline that the ticker waits for.
    pub(super) armed: Cell<Option<Tick>>,
    /// When a shard stops serving unless control answers before. A process that stood still must not serve first and look
    /// at its clock then.
    lease_end: Cell<Tick>,
    unwritten: RefCell<Vec<Rc<Lane>>>,
    dirty: RefCell<Dirty>,
    answers: RefCell<HashMap<u64, oneshot::Sender<Ack>>>,
    next_ticket: Cell<u64>,
    started: Instant,
}

impl Shell {
    pub(super) fn new(shared: Arc<Shared>, number: u16) -> Shell {
        let routes = shared.routes.load_full();
        let core = Worker::new(shared.worker_settings(number), Arc::clone(&routes));
        Shell {
            shared,
            number,
            core: RefCell::new(core),
            routes: RefCell::new(routes),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            sessions: RefCell::default(),
            lanes: RefCell::default(),
            dialling: RefCell::default(),
            flush: Signal::default(),
            fresh: Cell::default(),
            rearm: Signal::default(),
            panicked: Signal::default(),
            drained: Signal::default(),
            armed: Cell::new(None),
            lease_end: Cell::new(NEVER),
            unwritten: RefCell::default(),
            dirty: RefCell::default(),
            answers: RefCell::default(),
            next_ticket: Cell::new(0),
            started: Instant::now(),
        }
    }

    /// This moment on the core's clock.
    pub(super) fn now(&self) -> Tick {
        Tick(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The same moment on the runtime's clock.
    pub(super) fn instant(&self, tick: Tick) -> tokio::time::Instant {
        (self.started + std::time::Duration::from_micros(tick.0)).into()
    }

    /// Runs a task of this worker. When it panics the whole worker is rebuilt: the core may have stopped half way.
    pub(super) fn spawn(self: &Rc<Shell>, task: impl Future<Output = ()> + 'static) {
        let alarm = Alarm(Rc::clone(self));
        tokio::task::spawn_local(async move {
            let _alarm = alarm;
            task.await;
        });
    }

    /// Gives the core an order; the answer goes to the sender, now or later.
    pub(super) fn order(self: &Rc<Shell>, order: Order, answer: oneshot::Sender<Ack>) {
        let ticket = self.next_ticket.get();
        self.next_ticket.set(ticket + 1);
        self.answers.borrow_mut().insert(ticket, answer);
        if let Order::Routes(routes) = &order {
            *self.routes.borrow_mut() = Arc::clone(routes);
        }
        self.core.borrow_mut().order(ticket, order, self.now());
        self.watch_leases();
        self.settle();
    }

    /// Orders and time move leases.
    fn watch_leases(&self) {
        let end = self.core.borrow().lease_end();
        self.lease_end.set(end.unwrap_or(NEVER));
    }

    /// Time has passed: the core does what that brings.
    pub(super) fn tick(self: &Rc<Shell>, now: Tick) {
        self.core.borrow_mut().tick(now);
        self.watch_leases();
        self.settle();
    }

    /// Before anything that came by now is looked at: a lease that has ended is over.
    pub(super) fn end_leases(self: &Rc<Shell>, now: Tick) {
        if now >= self.lease_end.get() {
            self.tick(now);
        }
    }

    /// Does what the core has left to do. Replies are written now; lanes wait for the flusher.
    pub(super) fn settle(self: &Rc<Shell>) {
        let mut dirty = self.dirty.borrow_mut();
        while self.core.borrow().is_dirty() {
            self.core.borrow_mut().take_dirty(&mut dirty);
            self.act_on(&mut dirty);
        }
        if !self.unwritten.borrow().is_empty() {
            self.flush.raise();
        }
        let next = self.core.borrow().next_deadline();
        if let Some(next) = next
            && self.armed.get().is_none_or(|armed| next < armed)
        {
            self.rearm.raise();
        }
    }

    fn act_on(self: &Rc<Shell>, dirty: &mut Dirty) {
        for (ticket, ack) in dirty.acks.drain(..) {
            if let Some(answer) = self.answers.borrow_mut().remove(&ticket) {
                // Whoever asked may have stopped waiting.
                let _gone = answer.send(ack);
            }
        }
        for id in dirty.close_lanes.drain(..) {
            self.dialling.borrow_mut().remove(&id);
            if let Some(lane) = self.lanes.borrow_mut().take(id) {
                lane.wire.end();
            }
        }
        for dial in dirty.dial.drain(..) {
            self.dialling.borrow_mut().insert(dial.lane);
            self.spawn(lane::run(Rc::clone(self), dial));
        }
        // One look at the clock for all of them.
        let now = self.now();
        for id in dirty.write_sessions.drain(..) {
            let session = self.sessions.borrow().find(id).cloned();
            if let Some(session) = session {
                self.write_session(&session, now);
            }
        }
        for (id, reason) in dirty.close_sessions.drain(..) {
            let session = self.sessions.borrow().find(id).cloned();
            if let Some(session) = session {
                session.closing.set(Some(reason));
                self.write_session(&session, now);
            }
        }
        for id in dirty.resume.drain(..) {
            if let Some(session) = self.sessions.borrow().find(id) {
                session.wire.resume();
            }
        }
        for id in dirty.resume_lanes.drain(..) {
            if let Some(lane) = self.lanes.borrow().find(id) {
                lane.wire.resume();
            }
        }
        for id in dirty.write_lanes.drain(..) {
            if let Some(lane) = self.lanes.borrow().find(id) {
                self.queue_lane(lane);
            }
        }
    }

    /// Puts a lane among those that the flusher writes.
    pub(super) fn queue_lane(&self, lane: &Rc<Lane>) {
        if !lane.queued.replace(true) {
            self.unwritten.borrow_mut().push(Rc::clone(lane));
        }
    }

    /// Writes each queued lane once.
    pub(super) fn write_lanes(&self) {
        let mut unwritten = self.unwritten.take();
        for lane in unwritten.drain(..) {
            lane.queued.set(false);
            self.write_lane(&lane);
        }
        // Keeps the list's memory; nothing was queued meanwhile, since nothing here calls the core but to say "written".
        self.unwritten.replace(unwritten);
        if self.core.borrow().is_dirty() {
            // What was written made room: sessions that waited for it are read again.
            self.flush.raise();
        }
    }

    /// Writes what the lane has, until the kernel takes no more.
    pub(super) fn write_lane(&self, lane: &Lane) {
        let now = self.now();
        let mut core = self.core.borrow_mut();
        loop {
            let output = core.lane_output(lane.id);
            if output.is_empty() {
                return;
            }
            match lane.wire.write(output) {
                Wrote::Some(taken) => core.lane_wrote(lane.id, taken, now),
                Wrote::Blocked => return,
                // Its task reads what the server said before it closed, and then the end.
                Wrote::Gone => return,
            }
        }
    }

    /// Writes what the session has, until the kernel takes no more; behind the last byte a closing session ends.
    pub(super) fn write_session(&self, session: &Session, now: Tick) {
        let mut core = self.core.borrow_mut();
        loop {
            let output = core.session_output(session.id);
            if output.is_empty() || session.closing.get() == Some(CloseReason::SlowReader) {
                break;
            }
            match session.wire.write(output) {
                Wrote::Some(taken) => core.session_wrote(session.id, taken, now),
                Wrote::Blocked => return,
                Wrote::Gone => return session.wire.end(),
            }
        }
        if session.closing.get().is_some() {
            session.wire.end();
        }
    }

    /// Asks sessions that wait for nothing to close.
    pub(super) async fn end_idle_sessions(self: &Rc<Shell>) {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Sessions, answer);
        let Ok(Ack::Sessions(lines)) = answered.await else {
            return;
        };
        let sessions = self.sessions.borrow();
        let idle = lines
            .iter()
            .filter(|line| line.waiting == 0 && line.input_bytes == 0 && line.output_bytes == 0);
        for session in idle.filter_map(|line| sessions.find(line.session)) {
            session.wire.end();
        }
    }

    /// A lane that was just connected.
    pub(super) fn lane(&self, id: LaneId, wire: Wire) -> Rc<Lane> {
        let lane = Rc::new(Lane {
            id,
            wire,
            queued: Cell::new(false),
        });
        self.lanes.borrow_mut().put(id, Rc::clone(&lane));
        lane
    }
}

/// Says so when its task panics.
struct Alarm(Rc<Shell>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked.raise();
        }
    }
}
