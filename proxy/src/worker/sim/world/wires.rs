//! The wires between workers and servers: bytes in pieces, dials, replies, and what breaks.

use super::super::control::url;
use super::super::server::{Connection, Mode};
use super::{Link, SHARDS, Trouble, WORKERS, World};
use crate::route::ShardIndex;
use crate::worker::{LaneId, LaneLoss, Tick, Took};

impl World {
    pub(super) fn some_link(&mut self) -> Option<(usize, LaneId)> {
        let n = self.links.len();
        self.links.keys().nth(self.rng.below(n)).copied()
    }

    pub(super) fn write_lane(&mut self) {
        if let Some(key) = self.some_link() {
            let n = self
                .rng
                .some_of(self.workers[key.0].lane_output(key.1).len());
            self.write_to(key, n);
        }
    }

    pub(super) fn write_to(&mut self, key: (usize, LaneId), most: usize) {
        let bytes = self.workers[key.0].lane_output(key.1);
        let bytes = bytes[..bytes.len().min(most)].to_vec();
        let Some(link) = self.links.get_mut(&key) else {
            return;
        };
        if bytes.is_empty() {
            return;
        }
        assert!(
            link.open && link.writable,
            "bytes for a lane that was not listed"
        );
        link.there.extend_from_slice(&bytes);
        self.call(key.0, |worker, now| {
            worker.lane_wrote(key.1, bytes.len(), now);
        });
        if self.workers[key.0].lane_output(key.1).is_empty()
            && let Some(link) = self.links.get_mut(&key)
        {
            link.writable = false;
        }
    }

    pub(super) fn server_works(&mut self) {
        if let Some(key) = self.some_link() {
            let n = self.rng.some_of(self.links[&key].there.len());
            self.serve(key, n);
        }
    }

    /// The server reads so many bytes and executes what is whole.
    pub(super) fn serve(&mut self, key: (usize, LaneId), most: usize) {
        let Some(link) = self.links.get_mut(&key) else {
            return;
        };
        let n = link.there.len().min(most);
        let bytes: Vec<u8> = link.there.drain(..n).collect();
        let server = self
            .servers
            .get_mut(&(link.shard, link.epoch))
            .expect("a link has a server");
        let now = self.now;
        link.connection.receive(&bytes);
        while !link.connection.blocked
            && let Some(command) = link.connection.next()
        {
            let (reply, ran) = server.command(&mut link.connection, &command, now);
            link.back.extend_from_slice(&reply);
            if ran {
                assert_eq!(
                    link.epoch, self.served[link.shard],
                    "{command:?} ran at an epoch that is not served"
                );
                assert!(
                    !self.frozen[link.shard],
                    "{command:?} ran behind prepared gates"
                );
            }
        }
        self.give_served();
    }

    /// Replies of connections that were blocked go on their way.
    pub(super) fn give_served(&mut self) {
        for ((shard, epoch), server) in &mut self.servers {
            for (connection, reply) in server.served.drain(..) {
                let link = self.links.values_mut().find(|link| {
                    (link.shard, link.epoch, link.connection.id) == (*shard, *epoch, connection)
                });
                if let Some(link) = link {
                    link.back.extend_from_slice(&reply);
                    link.connection.blocked = false;
                }
            }
        }
    }

    /// A connection is gone, and the server has noticed.
    pub(super) fn hang_up(&mut self, link: &Link) {
        if let Some(server) = self.servers.get_mut(&(link.shard, link.epoch)) {
            server
                .waiters
                .retain(|waiter| waiter.connection != link.connection.id);
        }
    }

    pub(super) fn deliver_replies(&mut self) {
        if let Some(key) = self.some_link() {
            let n = self.rng.some_of(self.links[&key].back.len());
            self.deliver(key, n);
        }
    }

    pub(super) fn deliver(&mut self, key: (usize, LaneId), most: usize) {
        let Some(link) = self.links.get_mut(&key) else {
            return;
        };
        if link.paused {
            return;
        }
        let n = link.back.len().min(most);
        let bytes: Vec<u8> = link.back.drain(..n).collect();
        if bytes.is_empty() {
            return;
        }
        let took = self.call(key.0, |worker, now| {
            worker.backend_bytes(key.1, &bytes, now)
        });
        if let Some(link) = self.links.get_mut(&key) {
            link.paused = took == Took::Pause;
        }
    }

    pub(super) fn answer_dial(&mut self, kindly: bool) {
        if self.dials.is_empty() {
            return;
        }
        let at = self.rng.below(self.dials.len());
        let (worker, dial) = self.dials.swap_remove(at);
        let shard = usize::from(dial.backend.shard.1.0);
        assert_eq!(
            dial.backend.url,
            url(ShardIndex(shard as u16), dial.backend.epoch)
        );
        let unlucky = !kindly && self.trouble != Trouble::None && self.rng.chance(15);
        if self
            .servers
            .get(&(shard, dial.backend.epoch))
            .is_none_or(|server| server.down)
            || unlucky
        {
            self.call(worker, |worker, now| {
                worker.lane_lost(dial.lane, LaneLoss::ConnectFailed("refused".into()), now);
            });
            return;
        }
        self.last_connection += 1;
        let id = self.last_connection;
        let connection = Connection::new(id, dial.db, dial.protocol);
        let link = Link {
            shard,
            epoch: dial.backend.epoch,
            connection,
            open: true,
            own: dial.own,
            there: Vec::new(),
            back: Vec::new(),
            writable: false,
            paused: false,
        };
        self.links.insert((worker, dial.lane), link);
        self.call(worker, |worker, now| {
            worker.lane_opened(dial.lane, Some(id), now);
        });
    }

    pub(super) fn pass_time(&mut self) {
        self.now = Tick(self.now.0 + 1 + self.rng.below(8_000) as u64);
        let now = self.now;
        self.clients.iter_mut().for_each(|client| client.now = now);
        self.servers
            .values_mut()
            .for_each(|server| server.end_waiters(now));
        self.give_served();
        for worker in 0..WORKERS {
            if self.workers[worker]
                .next_deadline()
                .is_some_and(|deadline| deadline <= self.now)
            {
                self.call(worker, |worker, now| worker.tick(now));
            }
        }
    }

    pub(super) fn misfortune(&mut self) {
        if self.trouble == Trouble::None {
            return;
        }
        match self.rng.below(3) {
            0 => {
                let Some(key) = self.some_link() else { return };
                // Some of what was sent is still executed, and some of the replies still arrive.
                let n = self.rng.some_of(self.links[&key].there.len());
                self.serve(key, n);
                let n = self.rng.some_of(self.links[&key].back.len());
                self.deliver(key, n);
                if let Some(link) = self.links.remove(&key) {
                    self.hang_up(&link);
                    let loss = if self.rng.chance(70) {
                        LaneLoss::Closed("reset".into())
                    } else {
                        LaneLoss::TimedOut
                    };
                    self.call(key.0, |worker, now| worker.lane_lost(key.1, loss, now));
                }
            }
            1 => {
                let shard = self.rng.below(SHARDS);
                let mode =
                    [Mode::Normal, Mode::Normal, Mode::ReadOnly, Mode::Loading][self.rng.below(4)];
                let server = self.servers.get_mut(&(shard, self.served[shard])).unwrap();
                server.mode = mode;
                server.end_waiters(Tick(0));
                self.give_served();
            }
            _ => {
                let shard = self.rng.below(SHARDS);
                let server = self.servers.get_mut(&(shard, self.served[shard])).unwrap();
                server.down = !server.down;
            }
        }
    }
}
