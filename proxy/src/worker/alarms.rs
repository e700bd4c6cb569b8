//! When to look at a session with lanes of its own: its command's time ends, a try is due, a server is overdue, a lane is idle.
//!
//! One alarm for each such session, in order: ten thousand blocked clients cost the others nothing.

use std::time::Duration;

use super::Worker;
use super::dirty::LaneLoss;
use super::ids::{LaneId, SessionId, Tick};
use super::pinned::{Kind, Place};

/// How long after its timeout a blocked command's answer is waited for, where the pool sets no timeout.
const OVERDUE: Duration = Duration::from_secs(10);
impl Worker {
    /// Sessions whose time has come.
    pub(super) fn check_alarms(&mut self, now: Tick) {
        let due: Vec<(Tick, SessionId)> = self
            .alarms
            .iter()
            .take_while(|(at, _)| *at <= now)
            .copied()
            .collect();
        for alarm in due {
            self.alarms.remove(&alarm);
            let id = alarm.1;
            if let Some(pinned) = self.pinned_mut(id) {
                pinned.alarm = None;
            }
            self.wake_up(id, now);
            self.set_alarm(id);
        }
    }

    pub(super) fn wake_up(&mut self, id: SessionId, now: Tick) {
        let idle_max = self.settings.lane_idle_max;
        let Some(pinned) = self.pinned_mut(id) else {
            return;
        };
        let Some(errand) = pinned.errand.as_ref() else {
            let watched = pinned.watched();
            for lane in pinned.lanes.clone() {
                let idle = self
                    .lanes
                    .find(lane.index, lane.generation)
                    .is_some_and(|it| it.active.after(idle_max) <= now);
                if idle && watched != Some(lane) {
                    self.close_own_lane(lane);
                }
            }
            return;
        };
        let ends = errand.ends().is_some_and(|end| end <= now);
        match errand.place {
            Place::Sent(lane) => {
                let paused = self
                    .lanes
                    .find(lane.index, lane.generation)
                    .is_some_and(|it| it.paused);
                let due = self.overdue(id, lane).is_some_and(|at| at <= now);
                if due && paused {
                    self.lose_patience(lane, now);
                } else if due {
                    self.dirty.close_lanes.push(lane);
                    self.lose_lane(lane, &LaneLoss::TimedOut, now);
                }
            }
            Place::Room | Place::Dialling | Place::Waiting(_) if ends => self.end_errand(id, now),
            Place::Waiting(at) if at <= now => self.begin_again(id, now),
            Place::Room | Place::Dialling | Place::Waiting(_) => {}
        }
    }

    /// When a server has had its time to answer an errand. `None`: it may take for ever.
    pub(super) fn overdue(&self, id: SessionId, lane: LaneId) -> Option<Tick> {
        let session = self.sessions.find(id.index, id.generation)?;
        let errand = session.pinned.as_ref()?.errand.as_ref()?;
        let timeout = self.routes.pool(session.pool)?.timeout;
        match &errand.kind {
            Kind::Block(block) if block.unresolved.is_empty() => {
                let lane = self.lanes.find(lane.index, lane.generation)?;
                if lane.paused {
                    return self.patience_ends(lane);
                }
                if lane.passing.is_some() {
                    return Some(lane.progress.after(timeout.unwrap_or(OVERDUE)));
                }
                Some(block.deadline?.after(timeout.unwrap_or(OVERDUE)))
            }
            Kind::Block(_) | Kind::Watch(_) | Kind::Exec { .. } | Kind::Bulk(_) => {
                let lane = self.lanes.find(lane.index, lane.generation)?;
                let tail = session.pinned.as_ref()?.tail.is_some();
                if lane.paused {
                    return self.patience_ends(lane);
                }
                if tail && lane.queued() == 0 {
                    return None; // It waits for the client.
                }
                Some(lane.progress.after(timeout?))
            }
        }
    }

    /// Files when the worker has to look at this session again.
    pub(super) fn set_alarm(&mut self, id: SessionId) {
        let Some(session) = self.sessions.find(id.index, id.generation) else {
            return;
        };
        let Some(pinned) = session.pinned.as_ref() else {
            return;
        };
        let next = match &pinned.errand {
            Some(errand) => match errand.place {
                Place::Sent(lane) => self.overdue(id, lane),
                Place::Room | Place::Dialling => errand.ends(),
                Place::Waiting(at) => Some(errand.ends().map_or(at, |end| end.min(at))),
            },
            None => {
                let watched = pinned.watched();
                let idle = pinned.lanes.iter().filter(|lane| watched != Some(**lane));
                idle.filter_map(|lane| self.lanes.find(lane.index, lane.generation))
                    .map(|lane| lane.active.after(self.settings.lane_idle_max))
                    .min()
            }
        };
        let before = pinned.alarm;
        if before == next {
            return;
        }
        if let Some(before) = before {
            self.alarms.remove(&(before, id));
        }
        if let Some(next) = next {
            self.alarms.insert((next, id));
        }
        if let Some(pinned) = self.pinned_mut(id) {
            pinned.alarm = next;
        }
    }
}
