//! Takes over a new route table without losing a session, an epoch or a gate.
//!
//! Pools and shards are known by their names. A shard that stays keeps its gate, whatever the table says about its epoch,
//! unless the gate is open and the table knows a later one. A changed address at the same epoch is an operator's
//! correction: new commands go there, and sessions drain what they have in flight first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::dirty::{CloseReason, LaneLoss};
use super::ids::{LaneId, SessionId, Tick};
use super::order::{Ack, GateError};
use super::session::Stop;
use super::{Pool, Shard, Worker, texts};
use crate::route::{PoolIndex, RouteTable, ShardIndex};

type Place = (PoolIndex, ShardIndex);

/// Where lanes and recoveries of a removed shard belong: an index that no pool has, so that nothing takes them for another's.
const NOWHERE: Place = (PoolIndex(u16::MAX), ShardIndex(u16::MAX));

impl Worker {
    pub(super) fn take_routes(&mut self, routes: Arc<RouteTable>, now: Tick) {
        let old_routes = std::mem::replace(&mut self.routes, routes);
        let routes = Arc::clone(&self.routes);
        let mut old_pools = std::mem::take(&mut self.pools);
        let mut old_shards: BTreeMap<Place, Shard> = BTreeMap::new();
        for (pool, state) in old_pools.iter_mut().enumerate() {
            for (shard, it) in state.shards.drain(..).enumerate() {
                old_shards.insert((PoolIndex(pool as u16), ShardIndex(shard as u16)), it);
            }
        }
        let (mut pools, mut places) = (HashMap::new(), HashMap::new());
        for (at, route) in routes.pools.iter().enumerate() {
            let index = PoolIndex(at as u16);
            let before = old_routes.pool_named(&route.name);
            let mut scripts = None;
            if let Some(before) = before {
                pools.insert(before, index);
                scripts = old_pools
                    .get_mut(usize::from(before.0))
                    .map(|pool| std::mem::take(&mut pool.scripts));
            }
            let mut shards = Vec::with_capacity(route.shards.len());
            for (place, shard) in route.shards.iter().enumerate() {
                let here = (index, ShardIndex(place as u16));
                let there = before
                    .and_then(|before| {
                        Some((before, old_routes.pool(before)?.shard_named(&shard.name)?))
                    })
                    .and_then(|there| Some((there, old_shards.remove(&there)?)));
                let Some((there, mut it)) = there else {
                    shards.push(Shard::new(
                        here.0,
                        here.1,
                        shard.epoch,
                        shard.backend_url.clone(),
                    ));
                    continue;
                };
                places.insert(there, here);
                (it.counters.pool, it.counters.shard) = here;
                if it.gate.is_open()
                    && shard.epoch >= it.gate.epoch
                    && shard.backend_url != it.gate.url
                {
                    it.gate.url.clone_from(&shard.backend_url);
                    it.address += 1;
                    let lanes = std::mem::take(&mut it.lanes);
                    it.old_lanes.extend(lanes);
                    it.old_lanes.append(&mut it.spare_lanes);
                }
                if it.gate.is_open() && shard.epoch > it.gate.epoch {
                    it.gate.epoch = shard.epoch;
                    let lanes = std::mem::take(&mut it.lanes);
                    it.old_lanes.extend(lanes);
                    it.old_lanes.append(&mut it.spare_lanes);
                }
                shards.push(it);
            }
            self.pools.push(Pool {
                shards,
                scripts: scripts.unwrap_or_default(),
            });
        }
        self.stamp = self.stamp.wrapping_add(1).max(1);
        let unchanged = pools.iter().all(|(old, new)| old == new)
            && places.iter().all(|(old, new)| old == new)
            && old_shards.is_empty();
        for (_, gone) in old_shards {
            for ticket in gone.gate.waiting {
                self.dirty
                    .acks
                    .push((ticket, Ack::Refused(GateError::NoShard)));
            }
        }
        self.draining = self
            .draining
            .iter()
            .filter_map(|place| places.get(place).copied())
            .collect();
        let homeless = self.move_sessions(&pools, &places, unchanged);
        self.move_lanes(&places, now);
        for id in homeless {
            self.cut_session(id, CloseReason::PoolRemoved);
        }
        self.end_removed_errands(now);
        // What waited for a shard that is gone has nowhere to go, and says so.
        self.check_retries(now);
    }

    fn move_sessions(
        &mut self,
        pools: &HashMap<PoolIndex, PoolIndex>,
        places: &HashMap<Place, Place>,
        unchanged: bool,
    ) -> Vec<SessionId> {
        let (mut homeless, mut woken) = (Vec::new(), Vec::new());
        for (index, generation, session) in self.sessions.iter_mut() {
            let id = SessionId { index, generation };
            let before = session.pool;
            if let Some(pinned) = &mut session.pinned {
                let shard = pinned.errand.as_mut().map(|errand| &mut errand.shard);
                if let Some(shard) = shard {
                    *shard = places.get(&(before, *shard)).map_or(NOWHERE.1, |it| it.1);
                }
                if let Some(watch) = &mut pinned.watch {
                    let place = places.get(&(before, watch.shard));
                    watch.broken |= place.is_none();
                    watch.shard = place.map_or(NOWHERE.1, |it| it.1);
                }
            }
            let Some(pool) = pools.get(&before) else {
                session.stop = Stop::No;
                homeless.push(id);
                continue;
            };
            session.pool = *pool;
            if let Stop::Gate(shard) = session.stop {
                match places.get(&(before, shard)) {
                    Some((_, shard)) => session.stop = Stop::Gate(*shard),
                    None if session.ready => {}
                    None => {
                        session.ready = true;
                        woken.push(id);
                    }
                }
            }
            if let Some(transaction) = &mut session.transaction
                && !unchanged
            {
                transaction.broken = true;
            }
            for recovery in &mut session.recoveries {
                match places.get(&(recovery.key.pool, recovery.key.shard)) {
                    Some(place) => (recovery.key.pool, recovery.key.shard) = *place,
                    None => (recovery.key.pool, recovery.key.shard) = NOWHERE,
                }
            }
        }
        self.ready.extend(woken);
        homeless
    }

    /// Commands for lanes of sessions' own whose shard is gone, and that no server has.
    fn end_removed_errands(&mut self, now: Tick) {
        let lost: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, _, session)| {
                let errand = session.pinned.as_ref().and_then(|it| it.errand.as_ref());
                errand.is_some_and(|errand| errand.shard == NOWHERE.1)
            })
            .map(|(index, generation, _)| SessionId { index, generation })
            .collect();
        for id in lost {
            self.answer_errand(id, texts::NOT_EXECUTED_REMOVED, now);
        }
    }

    fn move_lanes(&mut self, places: &HashMap<Place, Place>, now: Tick) {
        let (mut lost, mut retired) = (Vec::new(), Vec::new());
        for (index, generation, lane) in self.lanes.iter_mut() {
            match places.get(&(lane.key.pool, lane.key.shard)) {
                Some(place) => (lane.key.pool, lane.key.shard) = *place,
                None => {
                    (lane.key.pool, lane.key.shard) = NOWHERE;
                    lost.push(LaneId { index, generation });
                }
            }
        }
        for shard in self.pools.iter_mut().flat_map(|pool| &mut pool.shards) {
            // Behind a closed gate they are empty, and stay until it opens.
            if shard.gate.is_open() {
                retired.append(&mut shard.old_lanes);
            }
        }
        for id in lost {
            self.dirty.close_lanes.push(id);
            self.lose_lane(
                id,
                &LaneLoss::Closed("its shard is no longer configured".into()),
                now,
            );
        }
        for id in retired {
            let Some(lane) = self.lanes.find_mut(id.index, id.generation) else {
                continue;
            };
            lane.retired = true;
            if lane.in_flight.is_empty() {
                self.close_lane(id);
            }
        }
    }
}
