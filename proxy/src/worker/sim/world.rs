//! The world: moves bytes in pieces between clients, workers and servers, and checks what it sees.

mod wires;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher};
use std::sync::Arc;
use std::time::Duration;

use understudy_ring::{Distribution, Hash, HashTag, Member, Ring};

use super::client::{Client, Fate};
use super::control::{Control, Deed, Verb, url};
use super::rng::Rng;
use super::server::{Connection, Mode, Server};
use crate::route::{PoolIndex, PoolRoute, RouteTable, ShardIndex, ShardRoute};
use crate::worker::{
    Ack, ClientEnd, CloseReason, Dial, Dirty, GateError, HeldAfterHalfClose, LaneId, Order,
    SessionId, Tick, Took, Worker, WorkerSettings,
};

const WORKERS: usize = 2;
const SHARDS: usize = 2;
const CLIENTS_MAX: usize = 8;

/// How unkind the world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Clients come and go and control does what it wants, but servers and lanes are well.
    None,
    /// Lanes die, dials fail, servers refuse for a while.
    LanesAndServers,
}

/// One backend connection.
struct Link {
    shard: usize,
    epoch: u64,
    connection: Connection,
    open: bool,
    own: bool,
    /// Bytes on their way to the server, and on their way back.
    there: Vec<u8>,
    back: Vec<u8>,
    writable: bool,
    /// The worker wants no more of it for now.
    pub(super) paused: bool,
}

pub(super) struct World {
    rng: Rng,
    trouble: Trouble,
    serves_half_closed: bool,
    now: Tick,
    workers: Vec<Worker>,
    routes: Arc<RouteTable>,
    clients: Vec<Client>,
    writable: BTreeMap<(usize, SessionId), bool>,
    closing: BTreeMap<(usize, SessionId), CloseReason>,
    dials: Vec<(usize, Dial)>,
    links: BTreeMap<(usize, LaneId), Link>,
    servers: BTreeMap<(usize, u64), Server>,
    controls: Vec<Control>,
    served: [u64; SHARDS],
    frozen: [bool; SHARDS],
    tickets: BTreeMap<u64, Ticket>,
    last_ticket: u64,
    last_connection: u64,
    hash: DefaultHasher,
    dirty: Dirty,
    pub(super) trace: u64,
    pub(super) switches: u64,
}

#[derive(Clone, Copy, Debug)]
enum Ticket {
    Verb {
        worker: usize,
        shard: usize,
        verb: Verb,
    },
    Stale,
    Repeat,
    Other,
}

impl World {
    pub(super) fn new(seed: u64, trouble: Trouble) -> World {
        let routes = Arc::new(routes());
        let serves_half_closed = seed % 2 == 1;
        let workers = (0..WORKERS)
            .map(|worker| {
                let settings = WorkerSettings {
                    worker: worker as u16,
                    workers: WORKERS as u16,
                    seed,
                    // Small, so that the limits are reached.
                    session_commands_max: 24,
                    session_ahead_max: 300,
                    session_output_pause: 700,
                    bulk_threshold: if seed % 3 == 2 { 300 } else { 1_000 },
                    lane_queue_max: 2_000,
                    lane_retain_max: if seed % 5 == 4 { 300 } else { 1 << 20 },
                    lane_piece_bytes: if seed % 4 < 2 { 100 } else { 4_000 },
                    released_per_turn: 2,
                    lane_idle_max: Duration::from_millis(200),
                    held_sessions_max: if seed % 7 == 6 { 2 } else { 1_000 },
                    held_after_half_close: if serves_half_closed {
                        HeldAfterHalfClose::Serve
                    } else {
                        HeldAfterHalfClose::Drop
                    },
                    prepared_max: Duration::from_secs(3_600),
                    ..WorkerSettings::default()
                };
                Worker::new(settings, Arc::clone(&routes))
            })
            .collect();
        World {
            rng: Rng::new(seed),
            trouble,
            serves_half_closed,
            now: Tick(1),
            workers,
            routes,
            clients: Vec::new(),
            writable: BTreeMap::new(),
            closing: BTreeMap::new(),
            dials: Vec::new(),
            links: BTreeMap::new(),
            servers: (0..SHARDS)
                .map(|shard| ((shard, 1), Server::new()))
                .collect(),
            controls: (0..SHARDS)
                .map(|shard| Control::new(shard, WORKERS))
                .collect(),
            served: [1; SHARDS],
            frozen: [false; SHARDS],
            tickets: BTreeMap::new(),
            last_ticket: 0,
            last_connection: 0,
            hash: DefaultHasher::new(),
            dirty: Dirty::default(),
            trace: 0,
            switches: 0,
        }
    }

    pub(super) fn resent(&self) -> u64 {
        self.counted(|counters| counters.commands_resent)
    }

    /// Blocked commands taken back for a hold, and transactions of watched keys that committed.
    pub(super) fn parked_and_committed(&self) -> (u64, u64) {
        let committed = self.clients.iter().map(|client| client.committed).sum();
        (self.counted(|counters| counters.commands_parked), committed)
    }

    /// Commands and replies that went in pieces, and lanes that were set aside for that.
    pub(super) fn streamed(&self) -> [u64; 3] {
        [
            self.counted(|counters| counters.commands_streamed),
            self.counted(|counters| counters.replies_streamed),
            self.counted(|counters| counters.lanes_set_aside),
        ]
    }

    pub(super) fn unknown(&self) -> u64 {
        self.counted(|counters| counters.outcomes_unknown)
    }

    fn counted(&self, pick: impl Fn(&crate::worker::Counters) -> u64) -> u64 {
        self.workers
            .iter()
            .map(|worker| pick(&worker.counters))
            .sum()
    }

    /// One step of anybody.
    pub(super) fn act(&mut self, step: usize) {
        step.hash(&mut self.hash);
        match self.rng.below(100) {
            0..3 => self.open_client(),
            3..30 => self.client_speaks(),
            30..45 => self.client_reads(),
            45..46 => self.client_leaves(),
            46..60 => self.write_lane(),
            60..72 => self.server_works(),
            72..86 => self.deliver_replies(),
            86..89 => self.answer_dial(false),
            89..95 => self.control_acts(true),
            95..96 => self.control_babbles(),
            96..99 => self.pass_time(),
            _ => self.misfortune(),
        }
        self.workers.iter().for_each(Worker::check_invariants);
    }

    /// Everybody becomes kind, and all that was begun ends.
    pub(super) fn finish(&mut self) {
        self.servers.values_mut().for_each(|server| {
            server.mode = Mode::Normal;
            server.down = false;
        });
        for round in 0..5_000 {
            let at_rest = self
                .clients
                .iter()
                .all(|client| client.session.is_none() || !client.waits())
                && self.controls.iter().all(Control::is_idle);
            if at_rest && self.closing.is_empty() && self.dials.is_empty() {
                break;
            }
            assert!(
                round < 4_999,
                "somebody waits for ever: {}",
                self.who_waits()
            );
            for _ in 0..4 {
                self.control_acts(false);
            }
            for number in 0..self.clients.len() {
                self.client_sends(number);
                self.client_takes(number, usize::MAX);
            }
            while !self.dials.is_empty() {
                self.answer_dial(true);
            }
            for key in self.links.keys().copied().collect::<Vec<_>>() {
                self.write_to(key, usize::MAX);
                self.serve(key, usize::MAX);
                self.deliver(key, usize::MAX);
            }
            for shard in 0..SHARDS {
                if !self.frozen[shard] {
                    let server = self.servers.get_mut(&(shard, self.served[shard])).unwrap();
                    server.push_for_waiters();
                }
            }
            self.give_served();
            self.pass_time();
            self.workers.iter().for_each(Worker::check_invariants);
        }
        // What leases and retries left behind ends by itself.
        self.now = self.now.after(Duration::from_secs(10));
        for worker in 0..WORKERS {
            self.call(worker, |worker, now| worker.tick(now));
            for shard in &self.workers[worker].count().shards {
                assert_eq!(
                    (shard.in_flight_now, shard.held_sessions_now),
                    (0, 0),
                    "something is left"
                );
            }
        }
        let mut data = BTreeMap::new();
        for shard in 0..SHARDS {
            data.extend(self.servers[&(shard, self.served[shard])].data.clone());
        }
        self.clients.iter().for_each(|client| client.audit(&data));
        let servers: Vec<&Server> = (0..SHARDS)
            .map(|shard| &self.servers[&(shard, self.served[shard])])
            .collect();
        Client::audit_tokens(&self.clients, &servers);
        self.switches = self.controls.iter().map(|control| control.switches).sum();
        for client in &self.clients {
            (client.answered, client.errors).hash(&mut self.hash);
        }
        format!("{data:?}").hash(&mut self.hash);
        self.trace = self.hash.finish();
    }

    fn who_waits(&self) -> String {
        let mut out = String::new();
        for client in self
            .clients
            .iter()
            .filter(|client| client.session.is_some() && client.waits())
        {
            let state = client.session.and_then(|id| {
                self.workers[client.worker]
                    .sessions
                    .find(id.index, id.generation)
            });
            out.push_str(&format!(
                "client {} expects {} outbox {} paused {}: {state:?}\n",
                client.number,
                client.expects(),
                client.outbox.len(),
                client.paused
            ));
        }
        format!("{out}{:?}", self.controls)
    }

    fn errors_allowed(&self) -> bool {
        self.trouble != Trouble::None
    }

    /// Calls a worker and does what it lists.
    fn call<T>(&mut self, worker: usize, what: impl FnOnce(&mut Worker, Tick) -> T) -> T {
        let answer = what(&mut self.workers[worker], self.now);
        let mut dirty = std::mem::take(&mut self.dirty);
        self.workers[worker].take_dirty(&mut dirty);
        format!("{dirty:?}").hash(&mut self.hash);
        for session in dirty.write_sessions.drain(..) {
            self.writable.insert((worker, session), true);
        }
        for lane in dirty.write_lanes.drain(..) {
            if let Some(link) = self.links.get_mut(&(worker, lane)) {
                link.writable = true;
            }
        }
        for session in dirty.resume.drain(..) {
            if let Some(client) = self
                .clients
                .iter_mut()
                .find(|client| client.worker == worker && client.session == Some(session))
            {
                client.paused = false;
            }
        }
        for lane in dirty.resume_lanes.drain(..) {
            if let Some(link) = self.links.get_mut(&(worker, lane)) {
                link.paused = false;
            }
        }
        for (session, reason) in dirty.close_sessions.drain(..) {
            let cut_off = reason == CloseReason::BackendProtocol && self.errors_allowed();
            assert!(
                reason == CloseReason::Client || cut_off,
                "nobody here gives a reason to be closed: {reason:?}"
            );
            self.closing.insert((worker, session), reason);
        }
        for lane in dirty.close_lanes.drain(..) {
            if let Some(link) = self.links.remove(&(worker, lane)) {
                self.hang_up(&link);
                assert!(
                    link.own
                        || self.errors_allowed()
                        || (link.there.is_empty() && link.back.is_empty()),
                    "a lane was closed that was in use"
                );
            }
            self.dials
                .retain(|(other, dial)| (*other, dial.lane) != (worker, lane));
        }
        self.dials
            .extend(dirty.dial.drain(..).map(|dial| (worker, dial)));
        let acks: Vec<(u64, Ack)> = dirty.acks.drain(..).collect();
        self.dirty = dirty;
        for (ticket, ack) in acks {
            self.acknowledged(ticket, &ack);
        }
        answer
    }

    fn acknowledged(&mut self, ticket: u64, ack: &Ack) {
        match self
            .tickets
            .remove(&ticket)
            .expect("an order is answered once")
        {
            Ticket::Verb {
                worker,
                shard,
                verb,
            } => {
                if verb == Verb::Hold && matches!(ack, Ack::Gate(_)) {
                    let busy = |(key, link): &(&(usize, LaneId), &Link)| {
                        key.0 == worker && link.shard == shard
                    };
                    for (key, link) in self.links.iter().filter(busy) {
                        let unsent = self.workers[worker].lane_output(key.1).len();
                        assert_eq!(
                            (unsent, link.there.len(), link.back.len()),
                            (0, 0, 0),
                            "hazard 27: drained with bytes on their way"
                        );
                        assert!(!link.connection.blocked, "drained with a client blocked");
                    }
                }
                if let Some(deed) = self.controls[shard].answered(worker, verb, ack) {
                    self.perform(shard, deed);
                }
            }
            Ticket::Stale => assert!(
                matches!(ack, Ack::Refused(GateError::StaleTerm { .. })),
                "a stale order was answered {ack:?}"
            ),
            Ticket::Repeat => assert!(
                matches!(ack, Ack::Gate(_)),
                "a repeated order was answered {ack:?}"
            ),
            Ticket::Other => {}
        }
    }

    fn order(&mut self, worker: usize, kind: Ticket, order: Order) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        self.tickets.insert(ticket, kind);
        self.call(worker, |worker, now| worker.order(ticket, order, now));
    }

    fn control_acts(&mut self, may_begin: bool) {
        let shard = self.rng.below(SHARDS);
        if let Some(deed) = self.controls[shard].act(&mut self.rng, may_begin) {
            self.perform(shard, deed);
        }
    }

    fn perform(&mut self, shard: usize, deed: Deed) {
        match deed {
            Deed::Order {
                worker,
                verb,
                order,
            } => self.order(
                worker,
                Ticket::Verb {
                    worker,
                    shard,
                    verb,
                },
                order,
            ),
            Deed::Freeze => self.frozen[shard] = true,
            Deed::Thaw => self.frozen[shard] = false,
            Deed::Move { next_epoch } => {
                let old = self.servers.get_mut(&(shard, self.served[shard])).unwrap();
                assert!(old.waiters.is_empty(), "somebody waits at the old server");
                let mut next = old.clone();
                // Scripts are not data: the next server has never seen them, unless control taught it.
                next.mode = Mode::Normal;
                next.down = false;
                if self.rng.chance(50) {
                    next.scripts.clear();
                }
                self.served[shard] = next_epoch;
                self.servers.insert((shard, next_epoch), next);
            }
        }
    }

    /// Orders that come late, come twice, or change nothing.
    fn control_babbles(&mut self) {
        let (shard, worker) = (self.rng.below(SHARDS), self.rng.below(WORKERS));
        match self.rng.below(4) {
            0 => {
                // Stale only for a worker that has seen the newer term.
                let seen = self.workers[worker].pools[0].shards[shard].gate.term;
                if seen == self.controls[shard].term
                    && let Some(order) = self.controls[shard].stale_order(&mut self.rng)
                {
                    self.order(worker, Ticket::Stale, order);
                }
            }
            1 => {
                if let Some((worker, order)) = self.controls[shard].repeated_order(&mut self.rng) {
                    self.order(worker, Ticket::Repeat, order);
                }
            }
            2 => {
                let routes = Arc::clone(&self.routes);
                self.order(worker, Ticket::Other, Order::Routes(routes));
            }
            _ => self.order(worker, Ticket::Other, Order::Sessions),
        }
    }

    fn open_client(&mut self) {
        if self
            .clients
            .iter()
            .filter(|client| client.session.is_some())
            .count()
            >= CLIENTS_MAX
        {
            return;
        }
        let (number, worker) = (self.clients.len(), self.rng.below(WORKERS));
        let session = self
            .call(worker, |worker, now| {
                worker.open_session(PoolIndex(0), format!("client {number}"), now)
            })
            .unwrap();
        let mut client = Client::new(number, worker, session);
        client.now = self.now;
        self.clients.push(client);
    }

    fn some_client(&mut self) -> Option<usize> {
        let live: Vec<usize> = (0..self.clients.len())
            .filter(|number| self.clients[*number].session.is_some())
            .collect();
        live.get(self.rng.below(live.len())).copied()
    }

    fn client_speaks(&mut self) {
        let Some(number) = self.some_client() else {
            return;
        };
        let client = &mut self.clients[number];
        if client.half_closed {
            return;
        }
        if client.expects() < 60 {
            let most = if self.rng.chance(20) { 40 } else { 4 };
            for _ in 0..1 + self.rng.below(most) {
                client.say_something(&mut self.rng);
            }
        }
        let n = self.rng.some_of(client.outbox.len());
        self.client_sends_some(number, n);
    }

    fn client_sends(&mut self, number: usize) {
        let n = self.clients[number].outbox.len();
        self.client_sends_some(number, n);
    }

    fn client_sends_some(&mut self, number: usize, n: usize) {
        let client = &mut self.clients[number];
        let (Some(session), false, false) = (client.session, client.paused, n == 0) else {
            return;
        };
        let (worker, bytes) = (client.worker, client.outbox.drain(..n).collect::<Vec<u8>>());
        // Set before the call: the answer may already be overtaken by a resume.
        client.paused = true;
        if self.call(worker, |worker, now| {
            worker.client_bytes(session, &bytes, now)
        }) == Took::Continue
        {
            self.clients[number].paused = false;
        }
    }

    fn client_reads(&mut self) {
        if let Some(number) = self.some_client() {
            let n = 1 + self.rng.below(400);
            self.client_takes(number, n);
        }
    }

    fn client_takes(&mut self, number: usize, most: usize) {
        let client = &self.clients[number];
        let Some(session) = client.session else {
            return;
        };
        let worker = client.worker;
        let output = self.workers[worker].session_output(session);
        if !output.is_empty() {
            assert!(
                self.writable.contains_key(&(worker, session)),
                "output was never listed"
            );
            let bytes = output[..output.len().min(most)].to_vec();
            bytes.hash(&mut self.hash);
            self.call(worker, |worker, now| {
                worker.session_wrote(session, bytes.len(), now);
            });
            let allowed = self.errors_allowed();
            self.clients[number].receive(&bytes, allowed);
        }
        if self.workers[worker].session_output(session).is_empty() {
            self.writable.remove(&(worker, session));
            let reason = self.closing.remove(&(worker, session));
            if reason == Some(CloseReason::BackendProtocol) {
                // Its server died in the middle of a reply; the session is gone already.
                self.clients[number].ended(Fate::Unknown);
            } else if reason.is_some() {
                assert!(
                    self.clients[number].half_closed,
                    "it was closed without asking"
                );
                if self.serves_half_closed && !self.clients[number].may_be_blocked() {
                    assert_eq!(
                        self.clients[number].expects(),
                        0,
                        "a half-closed client still gets its replies"
                    );
                }
                self.call(worker, |worker, now| {
                    worker.client_closed(session, ClientEnd::Gone, now);
                });
                // All that was admitted is answered by now: the rest was held, and went with its client.
                self.clients[number].ended(Fate::NotExecuted);
            }
        }
    }

    fn client_leaves(&mut self) {
        let Some(number) = self.some_client() else {
            return;
        };
        let client = &mut self.clients[number];
        let (worker, Some(session)) = (client.worker, client.session) else {
            return;
        };
        if self.rng.chance(40) && client.outbox.is_empty() {
            client.half_closed = true;
            self.call(worker, |worker, now| {
                worker.client_closed(session, ClientEnd::ReadClosed, now);
            });
            return;
        }
        client.ended(Fate::Unknown);
        self.writable.remove(&(worker, session));
        self.closing.remove(&(worker, session));
        self.call(worker, |worker, now| {
            worker.client_closed(session, ClientEnd::Gone, now);
        });
    }
}

fn routes() -> RouteTable {
    let names: Vec<String> = (0..SHARDS).map(|shard| format!("s{shard}")).collect();
    let members: Vec<Member<'_>> = names
        .iter()
        .map(|name| Member { name, weight: 1 })
        .collect();
    let ring = Ring::new(
        Distribution::Modula,
        Hash::Fnv1a_64,
        HashTag::parse("{}"),
        &members,
    )
    .unwrap();
    let shard = |(at, name): (usize, &String)| ShardRoute {
        name: name.clone(),
        epoch: 1,
        backend_url: url(ShardIndex(at as u16), 1),
    };
    let shards = names.iter().enumerate().map(shard).collect();
    RouteTable {
        pools: vec![PoolRoute {
            name: "pool".into(),
            ring,
            shards,
            users: Vec::new(),
            timeout: None,
        }],
    }
}
