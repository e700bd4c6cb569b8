//! One claim, one test: what a client, a backend or control sees of a worker.
//!
//! `Bench` is a worker with one client at hand and lanes that the test plays itself.

mod bulk;
mod cases;
mod gates;
mod lanes;
mod limits;
mod local;
mod pinned;
mod reload;
mod routing;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use understudy_ring::{Distribution, Hash, HashTag, Member, Ring};

use super::{
    Ack, CloseReason, Dial, Dirty, LaneId, Order, SessionId, Tick, Took, Worker, WorkerSettings,
};
use crate::route::{PoolIndex, PoolRoute, PoolUser, RouteTable, ShardIndex, ShardRoute};

const POOL: PoolIndex = PoolIndex(0);
const S0: ShardIndex = ShardIndex(0);
const S1: ShardIndex = ShardIndex(1);

/// Keys that lie on shard 0 and 1 of a pool of two.
const K0: &str = "key0";
const K1: &str = "b";

fn pool(name: &str, shards: &[&str], users: Vec<PoolUser>) -> PoolRoute {
    let members: Vec<Member<'_>> = shards
        .iter()
        .map(|name| Member { name, weight: 1 })
        .collect();
    let ring = Ring::new(
        Distribution::Modula,
        Hash::Crc32a,
        HashTag::parse("{}"),
        &members,
    )
    .unwrap();
    let shard = |name: &&str| ShardRoute {
        name: (*name).into(),
        epoch: 1,
        backend_url: format!("redis://{name}.1"),
    };
    PoolRoute {
        name: name.into(),
        ring,
        shards: shards.iter().map(shard).collect(),
        users,
        timeout: Some(Duration::from_secs(5)),
    }
}

fn table(pools: Vec<PoolRoute>) -> Arc<RouteTable> {
    Arc::new(RouteTable { pools })
}

struct Bench {
    worker: Worker,
    now: Tick,
    client: SessionId,
    dirty: Dirty,
    dials: Vec<Dial>,
    closed_lanes: Vec<LaneId>,
    closed: Vec<(SessionId, CloseReason)>,
    resumed: Vec<SessionId>,
    acks: Vec<(u64, Ack)>,
}

impl Bench {
    fn new(shards: usize) -> Bench {
        Bench::with(shards, WorkerSettings::default())
    }

    fn with(shards: usize, settings: WorkerSettings) -> Bench {
        Bench::over(
            settings,
            table(vec![pool(
                "main",
                &["s0", "s1", "s2"][..shards],
                Vec::new(),
            )]),
        )
    }

    fn over(settings: WorkerSettings, routes: Arc<RouteTable>) -> Bench {
        let mut worker = Worker::new(settings, routes);
        let client = worker.open_session(POOL, "peer".into(), Tick(0)).unwrap();
        Bench {
            worker,
            now: Tick(0),
            client,
            dirty: Dirty::default(),
            dials: Vec::new(),
            closed_lanes: Vec::new(),
            closed: Vec::new(),
            resumed: Vec::new(),
            acks: Vec::new(),
        }
    }

    fn other_client(&mut self) -> SessionId {
        self.worker
            .open_session(POOL, "peer".into(), self.now)
            .unwrap()
    }

    /// Takes the worker's list of work to the test's own.
    fn gather(&mut self) {
        self.worker.take_dirty(&mut self.dirty);
        self.dials.append(&mut self.dirty.dial);
        self.closed_lanes.append(&mut self.dirty.close_lanes);
        self.closed.append(&mut self.dirty.close_sessions);
        self.resumed.append(&mut self.dirty.resume);
        self.acks.append(&mut self.dirty.acks);
        self.worker.check_invariants();
    }

    /// The client sends inline commands, one a line, as they would be typed.
    fn say(&mut self, lines: &str) -> Took {
        self.say_as(self.client, lines)
    }

    fn say_as(&mut self, client: SessionId, lines: &str) -> Took {
        let mut bytes = Vec::new();
        for line in lines.split('\n') {
            let words: Vec<&str> = line.split(' ').collect();
            understudy_resp::encode::command(&mut bytes, &words);
        }
        self.send_as(client, &bytes)
    }

    fn send_as(&mut self, client: SessionId, bytes: &[u8]) -> Took {
        let took = self.worker.client_bytes(client, bytes, self.now);
        self.gather();
        took
    }

    /// What the client reads now.
    fn hear(&mut self) -> String {
        self.hear_as(self.client)
    }

    fn hear_as(&mut self, client: SessionId) -> String {
        let output = String::from_utf8_lossy(self.worker.session_output(client)).into_owned();
        self.worker
            .session_wrote(client, self.worker.session_output(client).len(), self.now);
        self.gather();
        output
    }

    /// One command and its whole reply, which no backend is asked for.
    #[track_caller]
    fn check(&mut self, line: &str, expect: &str) {
        self.say(line);
        assert_eq!(self.hear(), expect, "{line}");
    }

    /// Opens the lane that was dialled last.
    fn open(&mut self) -> LaneId {
        let dial = self.dials.pop().expect("a lane was dialled");
        self.worker.lane_opened(dial.lane, Some(9), self.now);
        self.gather();
        dial.lane
    }

    /// What a lane writes now, one line a command.
    fn written(&mut self, lane: LaneId) -> String {
        let bytes = self.worker.lane_output(lane).to_vec();
        self.worker.lane_wrote(lane, bytes.len(), self.now);
        self.gather();
        let mut scanner = understudy_resp::scan::RequestScanner::new();
        let (mut at, mut lines) = (0, Vec::new());
        while at < bytes.len() {
            let scan = scanner
                .scan(&bytes[at..], &understudy_resp::scan::ScanLimits::default())
                .unwrap();
            let understudy_resp::scan::Scan::Complete { len } = scan else {
                panic!("half a command")
            };
            let word =
                |word: usize| String::from_utf8_lossy(scanner.arg(&bytes[at..], word)).into_owned();
            lines.push(
                (0..scanner.args().len())
                    .map(word)
                    .collect::<Vec<_>>()
                    .join(" "),
            );
            at += len;
        }
        lines.join("\n")
    }

    fn reply(&mut self, lane: LaneId, bytes: &str) {
        self.worker.backend_bytes(lane, bytes.as_bytes(), self.now);
        self.gather();
    }

    /// Time passes, and the worker is ticked if it wanted to be.
    fn pass(&mut self, wait: Duration) {
        self.now = self.now.after(wait);
        if self
            .worker
            .next_deadline()
            .is_some_and(|deadline| deadline <= self.now)
        {
            self.worker.tick(self.now);
        }
        self.gather();
    }

    fn order(&mut self, order: Order) -> Option<Ack> {
        self.worker.order(7, order, self.now);
        self.gather();
        self.acks.pop().map(|(_, ack)| ack)
    }

    fn hold(&mut self, shard: ShardIndex, term: u64) -> Option<Ack> {
        self.order(Order::Hold {
            pool: POOL,
            shard,
            epoch: 1,
            term,
            lease: Duration::from_millis(100),
        })
    }

    fn prepare(&mut self, shard: ShardIndex, term: u64) -> Option<Ack> {
        self.order(Order::Prepare {
            pool: POOL,
            shard,
            epoch: 1,
            term,
        })
    }

    fn switch(&mut self, shard: ShardIndex, term: u64) -> Option<Ack> {
        self.order(Order::Switch {
            pool: POOL,
            shard,
            epoch: 1,
            term,
            next_epoch: 2,
            url: "redis://new".into(),
        })
    }

    fn release(&mut self, shard: ShardIndex, epoch: u64, term: u64) -> Option<Ack> {
        self.order(Order::Release {
            pool: POOL,
            shard,
            epoch,
            term,
        })
    }
}

#[test]
fn the_keys_of_these_tests_lie_where_they_say() {
    let pool = pool("main", &["s0", "s1"], Vec::new());
    assert_eq!(
        [K0, K1].map(|key| pool.ring.locate(key.as_bytes(), 0)),
        [0, 1]
    );
}
