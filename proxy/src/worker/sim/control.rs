//! A model control: drives one attempt at a time for each shard over all workers, and sends stale and repeated orders.

use std::time::Duration;

use super::rng::Rng;
use crate::route::{PoolIndex, ShardIndex};
use crate::worker::{Ack, GateError, GatePosition, Order};

const POOL: PoolIndex = PoolIndex(0);

/// What an attempt is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Switch,
    AbortWhenHeld,
    AbortWhenPrepared,
    /// Control says nothing more: the lease must end the hold.
    Vanish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Hold,
    Prepare,
    Switch,
    Release,
}

/// What the world has to do for control.
#[derive(Debug)]
pub(super) enum Deed {
    /// Give this order to a worker.
    Order {
        worker: usize,
        verb: Verb,
        order: Order,
    },
    /// All proxies are prepared: from now on nobody may execute.
    Freeze,
    /// The data goes to the server of the next epoch, which serves from now on.
    Move { next_epoch: u64 },
    /// Somebody may execute again.
    Thaw,
}

#[derive(Debug)]
struct Attempt {
    plan: Plan,
    verb: Verb,
    ordered: Vec<bool>,
    answered: Vec<bool>,
    failed: bool,
    lease: Duration,
}

/// Control of one shard.
#[derive(Debug)]
pub(super) struct Control {
    shard: ShardIndex,
    workers: usize,
    pub(super) epoch: u64,
    pub(super) term: u64,
    attempt: Option<Attempt>,
    pub(super) switches: u64,
}

impl Control {
    pub(super) fn new(shard: usize, workers: usize) -> Control {
        Control {
            shard: ShardIndex(shard as u16),
            workers,
            epoch: 1,
            term: 0,
            attempt: None,
            switches: 0,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.attempt.is_none()
    }

    /// The next thing that control does; most often nothing.
    pub(super) fn act(&mut self, rng: &mut Rng, may_begin: bool) -> Option<Deed> {
        let Some(attempt) = &mut self.attempt else {
            if may_begin && rng.chance(20) {
                self.term += 1 + rng.below(2) as u64;
                let plan = [
                    Plan::Switch,
                    Plan::Switch,
                    Plan::Switch,
                    Plan::AbortWhenHeld,
                    Plan::AbortWhenPrepared,
                    Plan::Vanish,
                ][rng.below(6)];
                let lease = Duration::from_micros(1_000 + rng.below(400_000) as u64);
                let none = vec![false; self.workers];
                self.attempt = Some(Attempt {
                    plan,
                    verb: Verb::Hold,
                    ordered: none.clone(),
                    answered: none,
                    failed: false,
                    lease,
                });
            }
            return None;
        };
        if let Some(worker) = attempt.ordered.iter().position(|ordered| !ordered) {
            attempt.ordered[worker] = true;
            let verb = attempt.verb;
            return Some(Deed::Order {
                worker,
                verb,
                order: self.order(verb),
            });
        }
        if !attempt.answered.iter().all(|answered| *answered) {
            return None;
        }
        let (verb, failed, plan) = (attempt.verb, attempt.failed, attempt.plan);
        match (verb, failed, plan) {
            (Verb::Hold, false, Plan::Vanish) => {
                self.attempt = None;
                None
            }
            (Verb::Hold, false, Plan::Switch | Plan::AbortWhenPrepared) => {
                self.turn(Verb::Prepare, None)
            }
            (Verb::Hold | Verb::Prepare, true, _) | (Verb::Hold, false, Plan::AbortWhenHeld) => {
                self.turn(Verb::Release, None)
            }
            (Verb::Prepare, false, Plan::Switch) => {
                let next_epoch = self.epoch + 1;
                self.turn(Verb::Switch, Some(Deed::Move { next_epoch }))
            }
            (Verb::Prepare, false, _) => self.turn(Verb::Release, Some(Deed::Thaw)),
            (Verb::Switch, false, _) => {
                self.epoch += 1;
                self.switches += 1;
                self.turn(Verb::Release, Some(Deed::Thaw))
            }
            (Verb::Switch, true, _) => panic!("a prepared gate refused to switch"),
            (Verb::Release, failed, _) => {
                assert!(!failed, "a release was refused");
                self.attempt = None;
                None
            }
        }
    }

    fn turn(&mut self, verb: Verb, deed: Option<Deed>) -> Option<Deed> {
        if let Some(attempt) = &mut self.attempt {
            attempt.verb = verb;
            attempt.ordered.fill(false);
            attempt.answered.fill(false);
            attempt.failed = false;
        }
        deed
    }

    fn order(&self, verb: Verb) -> Order {
        let (pool, shard, epoch, term) = (POOL, self.shard, self.epoch, self.term);
        let lease = self
            .attempt
            .as_ref()
            .map_or(Duration::from_millis(1), |attempt| attempt.lease);
        match verb {
            Verb::Hold => Order::Hold {
                pool,
                shard,
                epoch,
                term,
                lease,
            },
            Verb::Prepare => Order::Prepare {
                pool,
                shard,
                epoch,
                term,
            },
            Verb::Switch => Order::Switch {
                pool,
                shard,
                epoch,
                term,
                next_epoch: epoch + 1,
                url: url(shard, epoch + 1),
            },
            Verb::Release => Order::Release {
                pool,
                shard,
                epoch,
                term,
            },
        }
    }

    /// An order of an attempt that is over.
    pub(super) fn stale_order(&self, rng: &mut Rng) -> Option<Order> {
        let (pool, shard, epoch, term) = (POOL, self.shard, self.epoch, self.term.checked_sub(1)?);
        Some(match rng.below(3) {
            0 => Order::Hold {
                pool,
                shard,
                epoch,
                term,
                lease: Duration::from_millis(500),
            },
            1 => Order::Prepare {
                pool,
                shard,
                epoch,
                term,
            },
            _ => Order::Release {
                pool,
                shard,
                epoch,
                term,
            },
        })
    }

    /// The last order once more, to a worker that has answered it.
    pub(super) fn repeated_order(&self, rng: &mut Rng) -> Option<(usize, Order)> {
        let attempt = self
            .attempt
            .as_ref()
            .filter(|attempt| !attempt.failed && attempt.verb != Verb::Hold)?;
        let worker = rng.below(self.workers);
        attempt.answered[worker].then(|| (worker, self.order(attempt.verb)))
    }

    /// A worker answered; the flag says that it was the last one of a phase in which all agreed to be prepared.
    pub(super) fn answered(&mut self, worker: usize, verb: Verb, ack: &Ack) -> Option<Deed> {
        let attempt = self.attempt.as_mut()?;
        if attempt.verb != verb {
            return None;
        }
        attempt.answered[worker] = true;
        match (verb, ack) {
            (Verb::Hold, Ack::Gate(status)) => {
                assert_eq!((status.state, status.in_flight), (GatePosition::Held, 0));
            }
            (Verb::Prepare, Ack::Gate(status)) => assert_eq!(
                (status.state, status.in_flight),
                (GatePosition::Prepared, 0)
            ),
            (Verb::Switch, Ack::Gate(status)) => assert_eq!(status.state, GatePosition::Switched),
            (Verb::Release, Ack::Gate(status)) => assert_eq!(
                (status.state, status.epoch),
                (GatePosition::Open, self.epoch)
            ),
            (_, Ack::Refused(GateError::NotDrained { .. } | GateError::NotHeld { .. })) => {
                attempt.failed = true;
            }
            (_, other) => panic!("{verb:?} was answered {other:?}"),
        }
        let all = attempt.answered.iter().all(|answered| *answered);
        (verb == Verb::Prepare && all && !attempt.failed).then_some(Deed::Freeze)
    }
}

pub(super) fn url(shard: ShardIndex, epoch: u64) -> String {
    format!("redis://shard{}.epoch{epoch}", shard.0)
}
