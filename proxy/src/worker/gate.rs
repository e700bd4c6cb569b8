//! The gate of one shard in one worker, as docs/gate.md draws it. A plain value: it decides, the worker acts.
//!
//! Held is a lease: `tick` ends it. Prepared and switched are not: after `prepared_max` they only stop making commands
//! wait (`expired`), they never open by themselves. No path leads from prepared or switched to open but RELEASE.

use std::collections::{BTreeMap, VecDeque};

use super::ids::{SessionId, Tick};
use super::order::{GateError, GatePosition};

/// An order to a gate, without its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) epoch: u64,
    pub(super) term: u64,
}

/// What a HOLD comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HoldAnswer {
    /// Drained, or a repeat: answer how it stands.
    Now,
    /// The answer comes when it is drained, or when the lease ends.
    Later,
}

/// Why a hold ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lapse {
    Lease,
    Sessions,
    Bytes,
}

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) position: GatePosition,
    pub(super) epoch: u64,
    pub(super) term: u64,
    pub(super) url: String,
    /// Commands in lanes of this shard, of dead sessions too.
    pub(super) in_flight: u64,
    /// Tickets of HOLD orders that wait for the drain.
    pub(super) waiting: Vec<u64>,
    pub(super) waited_us: u64,
    pub(super) longest_gap_us: u64,
    /// A prepared or switched gate that waited too long: commands are answered `not executed`.
    pub(super) expired: bool,
    /// Sessions that stopped at this gate, first come first. May name dead ones.
    pub(super) parked: VecDeque<SessionId>,
    pub(super) held_sessions: usize,
    pub(super) held_bytes: usize,
    /// Sessions with a command for a lane of their own that waits for this gate, in order of arrival.
    pub(super) room: BTreeMap<u64, SessionId>,
    drained: bool,
    held_since: Tick,
    deadline: Option<Tick>,
}

impl Gate {
    pub(super) fn open_at(epoch: u64, url: String) -> Gate {
        Gate {
            position: GatePosition::Open,
            epoch,
            term: 0,
            url,
            in_flight: 0,
            waiting: Vec::new(),
            waited_us: 0,
            longest_gap_us: 0,
            expired: false,
            parked: VecDeque::new(),
            held_sessions: 0,
            held_bytes: 0,
            room: BTreeMap::new(),
            drained: false,
            held_since: Tick(0),
            deadline: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.position == GatePosition::Open
    }

    /// When `tick` has something to do.
    pub(super) fn deadline(&self) -> Option<Tick> {
        self.deadline
    }

    /// HOLD. On `Later` the caller adds its ticket to `waiting`.
    pub(super) fn hold(
        &mut self,
        attempt: Attempt,
        until: Tick,
        now: Tick,
        who: &Who<'_>,
    ) -> Result<HoldAnswer, GateError> {
        self.check(attempt, who)?;
        let newer = attempt.term > self.term;
        match self.position {
            GatePosition::Prepared | GatePosition::Switched if newer => Err(self.busy(who)),
            GatePosition::Prepared | GatePosition::Switched => Ok(HoldAnswer::Now),
            GatePosition::Held if !newer => Ok(if self.drained {
                HoldAnswer::Now
            } else {
                HoldAnswer::Later
            }),
            // A hold of this term was here and ended: by its lease, or by RELEASE. A repeat that comes late must not stop
            // traffic for an attempt that is over.
            GatePosition::Open if !newer => {
                Err(self.not_held(who, "the hold of this term has ended; take a new term"))
            }
            GatePosition::Open | GatePosition::Held => {
                self.position = GatePosition::Held;
                self.term = attempt.term;
                self.held_since = now;
                self.deadline = Some(until);
                self.longest_gap_us = 0;
                self.waited_us = 0;
                self.drained = self.in_flight == 0;
                Ok(if self.drained {
                    HoldAnswer::Now
                } else {
                    HoldAnswer::Later
                })
            }
        }
    }

    /// PREPARE: only a drained hold of this term.
    pub(super) fn prepare(
        &mut self,
        attempt: Attempt,
        until: Tick,
        who: &Who<'_>,
    ) -> Result<(), GateError> {
        match self.position {
            GatePosition::Switched if attempt.term == self.term => return Ok(()),
            GatePosition::Open
            | GatePosition::Held
            | GatePosition::Prepared
            | GatePosition::Switched => self.check(attempt, who)?,
        }
        match self.position {
            GatePosition::Prepared if attempt.term == self.term => Ok(()),
            GatePosition::Held if attempt.term == self.term && self.drained => {
                debug_assert_eq!(self.in_flight, 0, "a drained gate admitted something");
                self.position = GatePosition::Prepared;
                self.deadline = Some(until);
                Ok(())
            }
            GatePosition::Held if attempt.term == self.term => {
                Err(self.not_held(who, "it is not drained"))
            }
            GatePosition::Prepared | GatePosition::Switched => Err(self.busy(who)),
            GatePosition::Open | GatePosition::Held => {
                Err(self.not_held(who, "no hold of this term"))
            }
        }
    }

    /// SWITCH. `true`: the route moved now; `false`: a repeat.
    pub(super) fn switch(
        &mut self,
        attempt: Attempt,
        next_epoch: u64,
        url: &str,
        who: &Who<'_>,
    ) -> Result<bool, GateError> {
        // A repeat names the epoch that it left; the gate already stands at the next one, perhaps open again.
        if attempt.term == self.term
            && self.epoch == next_epoch
            && next_epoch > attempt.epoch
            && self.url == url
        {
            return Ok(false);
        }
        self.check(attempt, who)?;
        if next_epoch <= attempt.epoch {
            return Err(GateError::WrongEpoch {
                shard: who.shard.into(),
                is: self.epoch,
                given: next_epoch,
            });
        }
        match self.position {
            GatePosition::Prepared if attempt.term == self.term => {
                debug_assert_eq!(self.in_flight, 0, "a prepared gate admitted something");
                self.position = GatePosition::Switched;
                self.epoch = next_epoch;
                url.clone_into(&mut self.url);
                Ok(true)
            }
            GatePosition::Prepared | GatePosition::Switched => Err(self.busy(who)),
            GatePosition::Open | GatePosition::Held => {
                Err(self.not_held(who, "it is not prepared for this term"))
            }
        }
    }

    /// RELEASE. `true`: it opened now; `false`: it was open.
    pub(super) fn release(
        &mut self,
        attempt: Attempt,
        now: Tick,
        who: &Who<'_>,
    ) -> Result<bool, GateError> {
        self.check(attempt, who)?;
        match self.position {
            GatePosition::Prepared | GatePosition::Switched if attempt.term != self.term => {
                Err(self.busy(who))
            }
            GatePosition::Open => {
                self.term = attempt.term;
                Ok(false)
            }
            GatePosition::Held | GatePosition::Prepared | GatePosition::Switched => {
                self.term = attempt.term;
                self.open(now);
                Ok(true)
            }
        }
    }

    /// Restore after a restart: prepared from the start.
    pub(super) fn restore(
        &mut self,
        attempt: Attempt,
        until: Tick,
        now: Tick,
        who: &Who<'_>,
    ) -> Result<(), GateError> {
        self.check(attempt, who)?;
        if self.position != GatePosition::Open || self.in_flight > 0 {
            return if self.position == GatePosition::Prepared && self.term == attempt.term {
                Ok(())
            } else {
                Err(self.busy(who))
            };
        }
        self.position = GatePosition::Prepared;
        self.term = attempt.term;
        self.held_since = now;
        self.drained = true;
        self.deadline = Some(until);
        Ok(())
    }

    /// `true` once, when a hold has just become drained.
    pub(super) fn became_drained(&mut self, now: Tick) -> bool {
        if self.position != GatePosition::Held || self.drained || self.in_flight > 0 {
            return false;
        }
        self.drained = true;
        self.waited_us = now.since(self.held_since);
        true
    }

    /// What a hold that reached its lease or a limit does: it opens, at the epoch it has.
    pub(super) fn lapse(
        &mut self,
        now: Tick,
        sessions_max: usize,
        bytes_max: usize,
    ) -> Option<Lapse> {
        if self.position != GatePosition::Held {
            return None;
        }
        let lapse = if self.held_sessions > sessions_max {
            Lapse::Sessions
        } else if self.held_bytes > bytes_max {
            Lapse::Bytes
        } else if self.deadline.is_some_and(|deadline| deadline <= now) {
            Lapse::Lease
        } else {
            return None;
        };
        self.open(now);
        Some(lapse)
    }

    /// `true` once, when a prepared or switched gate has made commands wait for too long.
    pub(super) fn became_expired(&mut self, now: Tick) -> bool {
        let waits = matches!(
            self.position,
            GatePosition::Prepared | GatePosition::Switched
        );
        if !waits || self.expired || self.deadline.is_none_or(|deadline| deadline > now) {
            return false;
        }
        self.expired = true;
        self.deadline = None;
        true
    }

    fn open(&mut self, now: Tick) {
        if !self.drained {
            self.waited_us = now.since(self.held_since);
        }
        self.position = GatePosition::Open;
        self.deadline = None;
        self.expired = false;
        self.drained = false;
    }

    fn check(&self, attempt: Attempt, who: &Who<'_>) -> Result<(), GateError> {
        if attempt.term < self.term {
            return Err(GateError::StaleTerm {
                shard: who.shard.into(),
                seen: self.term,
                given: attempt.term,
            });
        }
        if attempt.epoch != self.epoch {
            return Err(GateError::WrongEpoch {
                shard: who.shard.into(),
                is: self.epoch,
                given: attempt.epoch,
            });
        }
        Ok(())
    }

    fn busy(&self, who: &Who<'_>) -> GateError {
        GateError::Busy {
            shard: who.shard.into(),
            state: self.position.name(),
            term: self.term,
        }
    }

    fn not_held(&self, who: &Who<'_>, why: &'static str) -> GateError {
        let (state, term) = (self.position.name(), self.term);
        GateError::NotHeld {
            worker: who.worker,
            shard: who.shard.into(),
            state,
            term,
            why,
        }
    }
}

/// Names for errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) worker: u16,
    pub(super) shard: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Who<'static> = Who {
        worker: 2,
        shard: "s1",
    };

    fn gate() -> Gate {
        Gate::open_at(3, "redis://old".into())
    }

    fn at(epoch: u64, term: u64) -> Attempt {
        Attempt { epoch, term }
    }

    fn prepared() -> Gate {
        let mut gate = gate();
        assert_eq!(
            gate.hold(at(3, 7), Tick(100), Tick(0), &WHO),
            Ok(HoldAnswer::Now)
        );
        gate.prepare(at(3, 7), Tick(1_000), &WHO).unwrap();
        gate
    }

    #[test]
    fn the_way_forward_is_hold_prepare_switch_release() {
        let mut gate = prepared();
        assert_eq!(gate.switch(at(3, 7), 4, "redis://new", &WHO), Ok(true));
        assert_eq!((gate.position, gate.epoch), (GatePosition::Switched, 4));
        assert_eq!(gate.switch(at(3, 7), 4, "redis://new", &WHO), Ok(false));
        assert_eq!(gate.prepare(at(3, 7), Tick(1_000), &WHO), Ok(()));
        assert!(
            gate.release(at(3, 7), Tick(9), &WHO).is_err(),
            "an abort after the switch would go back"
        );
        assert_eq!(gate.release(at(4, 7), Tick(9), &WHO), Ok(true));
        assert_eq!(gate.release(at(4, 7), Tick(9), &WHO), Ok(false));
        assert_eq!(gate.switch(at(3, 7), 4, "redis://new", &WHO), Ok(false));
        assert!(gate.is_open());
    }

    #[test]
    fn an_older_term_is_refused_everywhere() {
        let mut gate = prepared();
        let stale = GateError::StaleTerm {
            shard: "s1".into(),
            seen: 7,
            given: 6,
        };
        assert_eq!(
            gate.hold(at(3, 6), Tick(1), Tick(0), &WHO),
            Err(stale.clone())
        );
        assert_eq!(gate.prepare(at(3, 6), Tick(1), &WHO), Err(stale.clone()));
        assert_eq!(gate.switch(at(3, 6), 4, "x", &WHO), Err(stale.clone()));
        assert_eq!(gate.release(at(3, 6), Tick(0), &WHO), Err(stale.clone()));
        assert_eq!(
            stale.to_string(),
            "STALETERM shard s1 has seen term 7, this is 6"
        );
    }

    #[test]
    fn a_prepared_gate_is_busy_for_newer_terms_and_never_opens_by_itself() {
        let mut gate = prepared();
        assert!(matches!(
            gate.hold(at(3, 8), Tick(1), Tick(0), &WHO),
            Err(GateError::Busy { .. })
        ));
        assert!(matches!(
            gate.release(at(3, 8), Tick(0), &WHO),
            Err(GateError::Busy { .. })
        ));
        gate.held_sessions = 1_000;
        assert_eq!(gate.lapse(Tick(1 << 40), 1, 1), None);
        assert!(!gate.became_expired(Tick(999)));
        assert!(gate.became_expired(Tick(1_000)));
        assert!(!gate.became_expired(Tick(1_000)));
        assert!(!gate.is_open());
        assert_eq!(gate.release(at(3, 7), Tick(0), &WHO), Ok(true));
        assert!(!gate.expired);
    }

    #[test]
    fn a_hold_is_a_lease() {
        let mut gate = gate();
        gate.in_flight = 2;
        assert_eq!(
            gate.hold(at(3, 7), Tick(100), Tick(0), &WHO),
            Ok(HoldAnswer::Later)
        );
        assert!(
            gate.prepare(at(3, 7), Tick(1), &WHO).is_err(),
            "not drained"
        );
        assert!(!gate.became_drained(Tick(10)));
        gate.in_flight = 0;
        assert!(gate.became_drained(Tick(30)));
        assert_eq!(gate.waited_us, 30);
        assert_eq!(gate.lapse(Tick(99), 10, 10), None);
        assert_eq!(gate.lapse(Tick(100), 10, 10), Some(Lapse::Lease));
        assert!(matches!(
            gate.prepare(at(3, 7), Tick(1), &WHO),
            Err(GateError::NotHeld { .. })
        ));
        assert!(
            matches!(
                gate.hold(at(3, 7), Tick(300), Tick(200), &WHO),
                Err(GateError::NotHeld { .. })
            ),
            "a late repeat"
        );
        assert_eq!(
            gate.hold(at(3, 8), Tick(300), Tick(200), &WHO),
            Ok(HoldAnswer::Now)
        );
    }

    #[test]
    fn a_hold_opens_at_its_limits() {
        for (sessions, bytes, expect) in [
            (11, 0, Some(Lapse::Sessions)),
            (10, 101, Some(Lapse::Bytes)),
            (10, 100, None),
        ] {
            let mut gate = gate();
            assert!(gate.hold(at(3, 7), Tick(100), Tick(0), &WHO).is_ok());
            (gate.held_sessions, gate.held_bytes) = (sessions, bytes);
            assert_eq!(gate.lapse(Tick(1), 10, 100), expect);
            assert_eq!(gate.epoch, 3);
        }
    }

    #[test]
    fn the_epoch_must_be_the_callers() {
        let mut gate = gate();
        let error = gate.hold(at(4, 7), Tick(100), Tick(0), &WHO).unwrap_err();
        assert_eq!(
            error.to_string(),
            "WRONGEPOCH shard s1 is at epoch 3, not 4"
        );
        assert_eq!(gate.term, 0, "a refused order leaves no trace");
        let mut gate = prepared();
        assert!(matches!(
            gate.switch(at(3, 7), 3, "x", &WHO),
            Err(GateError::WrongEpoch { .. })
        ));
    }

    #[test]
    fn a_restored_gate_is_prepared_and_drained() {
        let mut gate = gate();
        gate.restore(at(3, 9), Tick(50), Tick(0), &WHO).unwrap();
        gate.restore(at(3, 9), Tick(50), Tick(0), &WHO).unwrap();
        assert_eq!(gate.switch(at(3, 9), 4, "redis://new", &WHO), Ok(true));
    }
}
