//! Drives the core as the shell does, with memory for sockets: one session, one lane, and a server that always answers.

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
    /// Commands that come and go together.
    pub(crate) pipeline: u64,
}

impl Case {
    pub(crate) const fn new(name: &'static str, operation: Operation, pipeline: u64) -> Case {
        Case {
            name,
            operation,
            pipeline,
        }
    }
}

/// So many turns: commands in, through the lane, replies out.
pub(crate) fn run(case: Case, turns: u64) {
    let (requests, replies) = bytes(case);
    let mut world = World::new();
    for turn in 0..turns {
        world.turn(&requests, &replies, Tick(turn * 100));
    }
}

fn bytes(case: Case) -> (Vec<u8>, Vec<u8>) {
    let value = [b'x'; VALUE_BYTES];
    let (mut requests, mut replies) = (Vec::new(), Vec::new());
    for number in 0..case.pipeline {
        let key = format!("key:{number:08}");
        match case.operation {
            Operation::Get => {
                encode::command(&mut requests, &[b"GET".as_slice(), key.as_bytes()]);
                encode::bulk(&mut replies, &value);
            }
            Operation::Set => {
                encode::command(&mut requests, &[b"SET".as_slice(), key.as_bytes(), &value]);
                encode::simple(&mut replies, "OK");
            }
        }
    }
    (requests, replies)
}

struct World {
    worker: Worker,
    session: SessionId,
    lane: Option<LaneId>,
    dirty: Dirty,
}

impl World {
    fn new() -> World {
        let member = Member {
            name: "s1",
            weight: 1,
        };
        let ring = Ring::new(Distribution::Ketama, Hash::Fnv1a_64, None, &[member]);
        let pool = PoolRoute {
            name: "bench".into(),
            ring: ring.expect("one member is a ring"),
            shards: vec![ShardRoute {
                name: "s1".into(),
                epoch: 0,
                backend_url: "redis://127.0.0.1:6379".into(),
            }],
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
            lane: None,
            dirty: Dirty::default(),
        }
    }

    /// The same calls that the shell makes.
    fn turn(&mut self, requests: &[u8], replies: &[u8], now: Tick) {
        self.worker.client_bytes(self.session, requests, now);
        self.settle(now);
        let lane = self.lane.expect("the first command dials");
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
            for dial in &self.dirty.dial {
                self.lane = Some(dial.lane);
                self.worker.lane_opened(dial.lane, None, now);
            }
        }
        std::hint::black_box(self.worker.next_deadline());
    }
}
