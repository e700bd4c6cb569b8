//! Drives the core as the shell does, with memory for sockets: one session, and servers that always answer.

use std::sync::Arc;

use understudy_proxy::route::{PoolIndex, PoolRoute, RouteTable, ShardRoute};
use understudy_proxy::worker::{Dirty, LaneId, SessionId, Tick, Worker, WorkerSettings};
use understudy_resp::encode;
use understudy_ring::{Distribution, Hash, Member, Ring};

/// Bytes of a value.
const VALUE_BYTES: usize = 64;

#[derive(Clone, Copy)]
pub(crate) enum Operation {
    Get,
    Set,
}

/// One kind of load.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) operation: Operation,
    /// Commands that come and go together, to one shard.
    pub(crate) pipeline: u64,
    /// Shards of the pool. All of them have an open lane.
    pub(crate) shards: u32,
}

impl Case {
    pub(crate) const fn new(name: &'static str, operation: Operation, pipeline: u64) -> Case {
        Case {
            name,
            operation,
            pipeline,
            shards: 1,
        }
    }

    /// The same in a pool of so many shards.
    pub(crate) const fn of_shards(self, name: &'static str, shards: u32) -> Case {
        Case {
            name,
            shards,
            ..self
        }
    }
}

/// So many turns: commands in, through the lane, replies out.
pub(crate) fn run(case: Case, turns: u64) {
    let (requests, replies) = bytes(case);
    let mut world = World::new(case.shards);
    world.open_lanes(case.shards);
    for turn in 0..turns {
        world.turn(&requests, &replies, Tick(turn * 100));
    }
}

fn bytes(case: Case) -> (Vec<u8>, Vec<u8>) {
    let (mut requests, mut replies) = (Vec::new(), Vec::new());
    for number in 0..case.pipeline {
        add(&mut requests, &mut replies, case.operation, number);
    }
    (requests, replies)
}

/// One command and its reply.
fn add(requests: &mut Vec<u8>, replies: &mut Vec<u8>, operation: Operation, number: u64) {
    let key = format!("key:{number:08}");
    let value = [b'x'; VALUE_BYTES];
    match operation {
        Operation::Get => {
            encode::command(requests, &[b"GET".as_slice(), key.as_bytes()]);
            encode::bulk(replies, &value);
        }
        Operation::Set => {
            encode::command(requests, &[b"SET".as_slice(), key.as_bytes(), &value]);
            encode::simple(replies, "OK");
        }
    }
}

struct World {
    worker: Worker,
    session: SessionId,
    /// Lanes that are open.
    lanes: u32,
    /// The one with something to write.
    lane: Option<LaneId>,
    dirty: Dirty,
}

impl World {
    fn new(shards: u32) -> World {
        let names: Vec<String> = (0..shards).map(|number| format!("s{number}")).collect();
        let members: Vec<Member<'_>> = names
            .iter()
            .map(|name| Member { name, weight: 1 })
            .collect();
        let ring = Ring::new(Distribution::Ketama, Hash::Fnv1a_64, None, &members);
        let shards = names.iter().map(|name| ShardRoute {
            name: name.clone(),
            epoch: 0,
            backend_url: "redis://127.0.0.1:6379".into(),
        });
        let pool = PoolRoute {
            name: "bench".into(),
            ring: ring.expect("members are a ring"),
            shards: shards.collect(),
            users: Vec::new(),
            timeout: None,
        };
        let routes = Arc::new(RouteTable { pools: vec![pool] });
        let mut worker = Worker::new(WorkerSettings::default(), routes);
        let session = worker
            .open_session(PoolIndex(0), "127.0.0.1:1".into(), Tick(0))
            .expect("there is room for one session");
        World {
            worker,
            session,
            lanes: 0,
            lane: None,
            dirty: Dirty::default(),
        }
    }

    /// Sends commands until every shard has had one.
    fn open_lanes(&mut self, shards: u32) {
        for number in 0.. {
            if self.lanes == shards {
                return;
            }
            let (mut request, mut reply) = (Vec::new(), Vec::new());
            add(&mut request, &mut reply, Operation::Get, number);
            self.turn(&request, &reply, Tick(0));
        }
    }

    /// The same calls that the shell makes.
    fn turn(&mut self, requests: &[u8], replies: &[u8], now: Tick) {
        self.worker.client_bytes(self.session, requests, now);
        self.settle(now);
        let lane = self.lane.expect("a command is written to a lane");
        let sent = self.worker.lane_output(lane).len();
        assert_eq!(sent, requests.len(), "all commands go to the server");
        self.worker.lane_wrote(lane, sent, now);
        self.worker.backend_bytes(lane, replies, Tick(now.0 + 50));
        self.settle(now);
        let answered = self.worker.session_output(self.session).len();
        assert_eq!(answered, replies.len(), "all replies go to the client");
        self.worker.session_wrote(self.session, answered, now);
    }

    fn settle(&mut self, now: Tick) {
        while self.worker.is_dirty() {
            self.worker.take_dirty(&mut self.dirty);
            self.lane = self.dirty.write_lanes.last().copied().or(self.lane);
            for dial in &self.dirty.dial {
                self.lanes += 1;
                self.worker.lane_opened(dial.lane, None, now);
            }
        }
        std::hint::black_box(self.worker.next_deadline());
    }
}
