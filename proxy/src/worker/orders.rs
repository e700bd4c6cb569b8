//! Carries out orders: moves gates, and does to sessions and lanes what follows from it.

use understudy_resp::Protocol;

use super::Worker;
use super::gate::{Attempt, HoldAnswer, Lapse, Told, Turned, Who};
use super::ids::{SessionId, Tick};
use super::lane::LaneKey;
use super::order::{Ack, GateError, GatePosition, GateStatus, Order, SessionLine};
use super::session::Stop;
use crate::route::{PoolIndex, ShardIndex};

/// What a moved gate brings with it.
enum Moved {
    Nothing,
    Opened,
    Switched,
    Lapsed,
}

impl Worker {
    pub(super) fn obey(&mut self, ticket: u64, order: Order, now: Tick) {
        let ack = match order {
            Order::Hold {
                pool,
                shard,
                epoch,
                term,
                lease,
            } => {
                let until = now.after(lease);
                match self.hold(ticket, pool, shard, Attempt { epoch, term }, until, now) {
                    Ok(HoldAnswer::Now) => self.status(pool, shard),
                    Ok(HoldAnswer::Later) => return,
                    Err(error) => Ack::Refused(error),
                }
            }
            Order::Prepare {
                pool,
                shard,
                epoch,
                term,
            } => {
                let until = now.after(self.settings.prepared_max);
                self.move_gate(pool, shard, now, |gate, who| {
                    gate.prepare(Attempt { epoch, term }, until, who)
                        .map(|()| Moved::Nothing)
                })
            }
            Order::Switch {
                pool,
                shard,
                epoch,
                term,
                next_epoch,
                url,
            } => self.move_gate(pool, shard, now, |gate, who| {
                let moved = gate.switch(Attempt { epoch, term }, next_epoch, &url, who)?;
                Ok(if moved {
                    Moved::Switched
                } else {
                    Moved::Nothing
                })
            }),
            Order::Release {
                pool,
                shard,
                epoch,
                term,
            } => {
                let ack = self.move_gate(pool, shard, now, |gate, who| {
                    let moved = gate.release(Attempt { epoch, term }, now, who)?;
                    Ok(if moved { Moved::Opened } else { Moved::Nothing })
                });
                if let Ack::Gate(status) = &ack
                    && status.state == GatePosition::Open
                {
                    self.refuse_waiting(pool, shard, now);
                }
                ack
            }
            Order::Restore {
                pool,
                shard,
                epoch,
                term,
            } => {
                let until = now.after(self.settings.prepared_max);
                self.move_gate(pool, shard, now, |gate, who| {
                    gate.restore(Attempt { epoch, term }, until, now, who)
                        .map(|()| Moved::Nothing)
                })
            }
            Order::Lease {
                pool,
                shard,
                epoch,
                term,
                lease,
                left,
            } => {
                let (until, patience) = (now.after(left), now.after(self.settings.prepared_max));
                let told = Told { epoch, term, lease };
                self.move_gate(pool, shard, now, |gate, who| {
                    Ok(match gate.lease(told, until, patience, now, who)? {
                        Turned::Nothing => Moved::Nothing,
                        Turned::Opened => Moved::Opened,
                        Turned::Lapsed => Moved::Lapsed,
                    })
                })
            }
            Order::Gate { pool, shard } => self.status(pool, shard),
            Order::Routes(routes) => {
                self.take_routes(routes, now);
                Ack::Done
            }
            Order::Sessions => Ack::Sessions(self.session_lines(now)),
            Order::Counters => Ack::Counters(Box::new(self.count())),
            Order::Scripts { pool } => Ack::Scripts(
                self.pools
                    .get(usize::from(pool.0))
                    .map(|pool| pool.scripts.bodies())
                    .unwrap_or_default(),
            ),
        };
        self.dirty.acks.push((ticket, ack));
    }

    fn hold(
        &mut self,
        ticket: u64,
        pool: PoolIndex,
        shard: ShardIndex,
        attempt: Attempt,
        until: Tick,
        now: Tick,
    ) -> Result<HoldAnswer, GateError> {
        let (worker, name) = (self.settings.worker, self.shard_name(pool, shard));
        let who = Who {
            worker,
            shard: &name,
        };
        let gate = &mut self.shard_mut(pool, shard).ok_or(GateError::NoShard)?.gate;
        let seen = gate.term;
        let answer = gate.hold(attempt, until, now, &who)?;
        let (taken_over, begun) = (
            attempt.term > seen,
            gate.position == GatePosition::Held && attempt.term > seen,
        );
        let stale = if taken_over {
            std::mem::take(&mut gate.waiting)
        } else {
            Vec::new()
        };
        if answer == HoldAnswer::Later {
            gate.waiting.push(ticket);
            if !self.draining.contains(&(pool, shard)) {
                self.draining.push((pool, shard));
            }
        }
        if begun && let Some(shard) = self.shard_mut(pool, shard) {
            shard.counters.holds += 1;
        }
        if begun {
            self.unblock_shard(pool, shard, now);
        }
        for ticket in stale {
            let refused = GateError::StaleTerm {
                shard: name.clone(),
                seen: attempt.term,
                given: seen,
            };
            self.dirty.acks.push((ticket, Ack::Refused(refused)));
        }
        Ok(answer)
    }

    fn move_gate(
        &mut self,
        pool: PoolIndex,
        shard: ShardIndex,
        now: Tick,
        step: impl FnOnce(&mut super::Gate, &Who<'_>) -> Result<Moved, GateError>,
    ) -> Ack {
        let (worker, name) = (self.settings.worker, self.shard_name(pool, shard));
        let Some(it) = self.shard_mut(pool, shard) else {
            return Ack::Refused(GateError::NoShard);
        };
        match step(
            &mut it.gate,
            &Who {
                worker,
                shard: &name,
            },
        ) {
            Err(error) => return Ack::Refused(error),
            Ok(Moved::Nothing) => {}
            Ok(Moved::Opened) => self.gate_opened(pool, shard, now),
            Ok(Moved::Switched) => self.gate_switched(pool, shard, now),
            Ok(Moved::Lapsed) => self.gate_lapsed(pool, shard, now),
        }
        self.status(pool, shard)
    }

    /// The route moved: lanes of the old epoch are empty and are closed when the gate opens; lanes to the new server are
    /// dialled already, so that the first command need not wait for it.
    fn gate_switched(&mut self, pool: PoolIndex, shard: ShardIndex, now: Tick) {
        let Some(it) = self.shard_mut(pool, shard) else {
            return;
        };
        it.dial_failures = 0;
        it.address += 1;
        it.dial_after = Tick(0);
        let (epoch, old) = (it.gate.epoch, std::mem::take(&mut it.lanes));
        it.old_lanes.extend(&old);
        it.old_lanes.append(&mut it.spare_lanes);
        let mut wanted: Vec<(Protocol, u32)> = Vec::new();
        for id in old {
            if let Some(lane) = self.lanes.find_mut(id.index, id.generation) {
                debug_assert!(lane.in_flight.is_empty(), "a switch comes after the drain");
                lane.retired = true;
                wanted.push((lane.key.protocol, lane.key.db));
            }
        }
        for (protocol, db) in wanted {
            self.lane_of(
                LaneKey {
                    pool,
                    shard,
                    epoch,
                    protocol,
                    db,
                },
                now,
            );
        }
        self.own_lanes_switched(pool, shard, now);
    }

    /// Parked sessions go on in the order in which they came, some each turn; what waits to be sent again goes first.
    fn gate_opened(&mut self, pool: PoolIndex, shard: ShardIndex, now: Tick) {
        self.retry_shard(pool, shard, now);
        self.empty_room(pool, shard, now);
        self.unpark(pool, shard);
        let old = self
            .shard_mut(pool, shard)
            .map(|it| std::mem::take(&mut it.old_lanes))
            .unwrap_or_default();
        for id in old {
            if self
                .lanes
                .find(id.index, id.generation)
                .is_some_and(|lane| lane.in_flight.is_empty())
            {
                self.close_lane(id);
            }
        }
    }

    /// Nobody is served any more: a hold that was not drained is over, and what blocks is taken back, as at a hold.
    fn gate_lapsed(&mut self, pool: PoolIndex, shard: ShardIndex, now: Tick) {
        if let Some(it) = self.shard_mut(pool, shard) {
            it.counters.leases_lapsed += 1;
        }
        self.refuse_waiting(pool, shard, now);
        self.unblock_shard(pool, shard, now);
    }

    fn unpark(&mut self, pool: PoolIndex, shard: ShardIndex) {
        let Some(it) = self
            .pools
            .get_mut(usize::from(pool.0))
            .and_then(|pool| pool.shards.get_mut(usize::from(shard.0)))
        else {
            return;
        };
        for id in it.gate.parked.drain(..) {
            if let Some(session) = self.sessions.find_mut(id.index, id.generation)
                && session.stop == Stop::Gate(shard)
                && !session.ready
            {
                session.ready = true;
                self.ready.push_back(id);
            }
        }
        it.gate.held_sessions = 0;
        it.gate.held_bytes = 0;
    }

    /// Holds that are drained by now are answered.
    pub(super) fn answer_drained(&mut self, now: Tick) {
        if self.draining.is_empty() {
            return;
        }
        let mut draining = std::mem::take(&mut self.draining);
        draining.retain(|(pool, shard)| {
            let Some(it) = self.shard_mut(*pool, *shard) else {
                return false;
            };
            if it.gate.position != GatePosition::Held {
                return false;
            }
            if !it.gate.became_drained(now) {
                return true;
            }
            let tickets = std::mem::take(&mut it.gate.waiting);
            for ticket in tickets {
                let ack = self.status(*pool, *shard);
                self.dirty.acks.push((ticket, ack));
            }
            false
        });
        self.draining = draining;
    }

    /// A held gate that is at a limit opens again.
    pub(super) fn check_limits(&mut self, pool: PoolIndex, shard: ShardIndex, now: Tick) {
        let (sessions_max, bytes_max) = (
            self.settings.held_sessions_max,
            self.settings.held_bytes_max,
        );
        let Some(it) = self.shard_mut(pool, shard) else {
            return;
        };
        let Some(lapse) = it.gate.lapse(now, sessions_max, bytes_max) else {
            return;
        };
        match lapse {
            Lapse::Lease => it.counters.holds_lapsed += 1,
            Lapse::Sessions => it.counters.holds_over_sessions += 1,
            Lapse::Bytes => it.counters.holds_over_bytes += 1,
        }
        self.refuse_waiting(pool, shard, now);
        self.gate_opened(pool, shard, now);
    }

    /// The hold ended before it was drained.
    fn refuse_waiting(&mut self, pool: PoolIndex, shard: ShardIndex, now: Tick) {
        let Some(it) = self.shard_mut(pool, shard) else {
            return;
        };
        let (in_flight, tickets) = (it.gate.in_flight, std::mem::take(&mut it.gate.waiting));
        if tickets.is_empty() {
            return;
        }
        let refused = GateError::NotDrained {
            worker: self.settings.worker,
            in_flight,
            longest: self.longest_in_flight(pool, shard, now),
        };
        let acks = tickets
            .into_iter()
            .map(|ticket| (ticket, Ack::Refused(refused.clone())));
        self.dirty.acks.extend(acks);
    }

    pub(super) fn check_gates(&mut self, now: Tick) {
        for pool in 0..self.pools.len() {
            let pool = PoolIndex(pool as u16);
            for shard in 0..self.shard_count(pool) {
                let shard = ShardIndex(shard as u16);
                let patience = now.after(self.settings.prepared_max);
                if self
                    .shard_mut(pool, shard)
                    .is_some_and(|it| it.gate.became_lapsed(patience, now))
                {
                    self.gate_lapsed(pool, shard, now);
                }
                self.check_limits(pool, shard, now);
                if self
                    .shard_mut(pool, shard)
                    .is_some_and(|it| it.gate.became_expired(now))
                {
                    self.check_retries(now);
                    self.give_up_room(pool, shard, now);
                    self.unpark(pool, shard);
                }
            }
        }
    }

    fn status(&self, pool: PoolIndex, shard: ShardIndex) -> Ack {
        let found = self
            .pools
            .get(usize::from(pool.0))
            .and_then(|pool| pool.shards.get(usize::from(shard.0)));
        let Some(it) = found else {
            return Ack::Refused(GateError::NoShard);
        };
        let gate = &it.gate;
        Ack::Gate(GateStatus {
            state: gate.position,
            epoch: gate.epoch,
            term: gate.term,
            backend: gate.url.clone(),
            in_flight: gate.in_flight,
            held_sessions: (gate.held_sessions + gate.room.len() + self.retries_held(pool, shard))
                as u64,
            waited_us: gate.waited_us,
            longest_gap_us: gate.longest_gap_us,
        })
    }

    fn shard_name(&self, pool: PoolIndex, shard: ShardIndex) -> String {
        let route = self
            .routes
            .pool(pool)
            .and_then(|pool| pool.shards.get(usize::from(shard.0)));
        route.map(|shard| shard.name.clone()).unwrap_or_default()
    }

    fn session_lines(&self, now: Tick) -> Vec<SessionLine> {
        let line = |(index, generation, session): (u32, u32, &super::Session)| SessionLine {
            session: SessionId { index, generation },
            client_id: session.client_id,
            pool: session.pool,
            peer: session.peer.clone(),
            name: String::from_utf8_lossy(&session.name).into_owned(),
            user: session.user.clone().unwrap_or_default(),
            protocol: session.protocol,
            db: session.db,
            age_us: now.since(session.opened),
            idle_us: now.since(session.active),
            commands: session.commands,
            waiting: session.runs.len(),
            input_bytes: session.input.len(),
            output_bytes: session.kept(),
            stopped_by: if session.closing.is_some() {
                "closing"
            } else {
                session.stop.name()
            },
        };
        self.sessions.iter().map(line).collect()
    }

    pub(super) fn count(&self) -> super::Counters {
        let mut counters = self.counters.clone();
        for (index, pool) in self.pools.iter().enumerate() {
            for (at, shard) in pool.shards.iter().enumerate() {
                let mut line = shard.counters.clone();
                line.in_flight_now = shard.gate.in_flight;
                let waiting = self.retries_held(PoolIndex(index as u16), ShardIndex(at as u16));
                line.held_sessions_now =
                    (shard.gate.held_sessions + shard.gate.room.len() + waiting) as u64;
                line.longest_gap_us = shard.gate.longest_gap_us;
                counters.shards.push(line);
            }
        }
        counters
    }
}
