//! The gate of one shard in one worker, as docs/gate.md draws it. A plain value: it decides, the worker acts.
//!
//! Held is a lease: `tick` ends it. Prepared and switched are not: after `prepared_max` they only stop making commands
//! wait (`expired`), they never open by themselves. No path leads from prepared or switched to open but RELEASE.
//!
//! While an upgrade is armed, the proxy itself has a lease from control. When that ends, an open gate lapses, and no gate
//! opens: an order that was sent long ago may be read late, so only control's answer to a question of ours says go.

use std::collections::{BTreeMap, VecDeque};

use super::ids::{SessionId, Tick};
use super::order::{GateError, GatePosition, Lease};

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
    /// The end of a hold, or of the patience behind a closed gate.
    deadline: Option<Tick>,
    /// While an upgrade is armed.
    leased: Option<Leased>,
    /// The epoch that control last said holds; below it nobody is served.
    floor: u64,
    /// When `tick` has something to do: the earlier of `deadline` and the end of a lease that counts.
    due: Option<Tick>,
}

/// What control last granted while an upgrade is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leased {
    /// The attempt that armed it.
    term: u64,
    /// Until when we may serve by what control said.
    until: Tick,
    /// The attempt does not count on this proxy: it serves nobody until that has ended.
    waits: bool,
}

/// What became of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    Nothing,
    Opened,
    Lapsed,
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
            leased: None,
            floor: 0,
            due: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.position == GatePosition::Open
    }

    /// When `tick` has something to do.
    pub(super) fn due(&self) -> Option<Tick> {
        self.due
    }

    /// When it stops serving unless control answers before.
    pub(super) fn lease_end(&self) -> Option<Tick> {
        let counts = matches!(self.position, GatePosition::Open | GatePosition::Held);
        self.leased.filter(|_| counts).map(|leased| leased.until)
    }

    fn set_due(&mut self) {
        self.due = match (self.deadline, self.lease_end()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
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
            GatePosition::Lapsed => Err(no_lease(who)),
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
                self.set_due();
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
            | GatePosition::Switched
            | GatePosition::Lapsed => self.check(attempt, who)?,
        }
        match self.position {
            GatePosition::Prepared if attempt.term == self.term => Ok(()),
            GatePosition::Held if attempt.term == self.term && self.drained => {
                debug_assert_eq!(self.in_flight, 0, "a drained gate admitted something");
                self.position = GatePosition::Prepared;
                self.deadline = Some(until);
                self.set_due();
                Ok(())
            }
            GatePosition::Held if attempt.term == self.term => {
                Err(self.not_held(who, "it is not drained"))
            }
            GatePosition::Prepared | GatePosition::Switched => Err(self.busy(who)),
            GatePosition::Open | GatePosition::Held => {
                Err(self.not_held(who, "no hold of this term"))
            }
            GatePosition::Lapsed => Err(no_lease(who)),
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
            // It serves nobody, as a prepared one: it goes along to where the shard is.
            GatePosition::Lapsed if self.in_flight == 0 => {
                self.position = GatePosition::Switched;
                self.term = attempt.term;
                self.epoch = next_epoch;
                url.clone_into(&mut self.url);
                Ok(true)
            }
            GatePosition::Open | GatePosition::Held | GatePosition::Lapsed => {
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
            GatePosition::Open
            | GatePosition::Held
            | GatePosition::Prepared
            | GatePosition::Switched
            | GatePosition::Lapsed => {
                self.term = attempt.term;
                if !self.may_open(now) {
                    return Err(self.stay_closed(who));
                }
                // The attempt that armed it has ended.
                self.leased = self.leased.filter(|leased| leased.term > attempt.term);
                if self.leased.is_some_and(|leased| leased.waits) {
                    return Err(self.stay_closed(who));
                }
                let opens = !self.is_open();
                if opens {
                    self.open(now);
                }
                self.set_due();
                Ok(opens)
            }
        }
    }

    /// Whether an order to open can be believed: it was not sent before an answer of control that we have.
    fn may_open(&self, now: Tick) -> bool {
        self.epoch >= self.floor && self.leased.is_none_or(|leased| leased.until > now)
    }

    /// RELEASE came, and control has not been heard for a lease: nobody is served before it was. What is open or held is for
    /// `tick`.
    fn stay_closed(&mut self, who: &Who<'_>) -> GateError {
        if matches!(
            self.position,
            GatePosition::Prepared | GatePosition::Switched
        ) {
            self.position = GatePosition::Lapsed;
            self.set_due();
        }
        no_lease(who)
    }

    /// What control said of this shard: which epoch holds, and whether an upgrade is armed. `until` is when that stops
    /// being fresh, `patience` when those that wait behind a lapsed gate are told so.
    pub(super) fn lease(
        &mut self,
        told: Told,
        until: Tick,
        patience: Tick,
        now: Tick,
        who: &Who<'_>,
    ) -> Result<Turned, GateError> {
        let seen = self.leased.map_or(0, |leased| leased.term);
        if told.term < seen {
            return Err(GateError::StaleTerm {
                shard: who.shard.into(),
                seen,
                given: told.term,
            });
        }
        if let Some(epoch) = told.epoch {
            self.floor = epoch;
        }
        // Said before the attempt ended here.
        let over = self.leased.is_none() && told.term <= self.term;
        self.leased = match told.lease {
            Lease::Over => None,
            Lease::Armed | Lease::Wait if over => None,
            Lease::Armed | Lease::Wait => Some(Leased {
                term: told.term,
                until,
                waits: told.lease == Lease::Wait,
            }),
        };
        let serves = self.may_open(now) && self.leased.is_none_or(|leased| !leased.waits);
        // Only what control says of this very epoch opens a gate that lapsed.
        let opens = serves && told.epoch.is_none_or(|epoch| epoch <= self.epoch);
        let turned = match self.position {
            GatePosition::Open | GatePosition::Held if !serves => {
                self.close(patience, now);
                Turned::Lapsed
            }
            GatePosition::Lapsed if opens => {
                self.open(now);
                Turned::Opened
            }
            GatePosition::Open
            | GatePosition::Held
            | GatePosition::Prepared
            | GatePosition::Switched
            | GatePosition::Lapsed => Turned::Nothing,
        };
        self.set_due();
        Ok(turned)
    }

    /// `true` once, when control has not answered for a lease while an upgrade is armed: nobody is served any more.
    pub(super) fn became_lapsed(&mut self, patience: Tick, now: Tick) -> bool {
        if self.lease_end().is_none_or(|until| until > now) {
            return false;
        }
        self.close(patience, now);
        true
    }

    fn close(&mut self, patience: Tick, now: Tick) {
        self.position = GatePosition::Lapsed;
        self.held_since = now;
        self.deadline = Some(patience);
        self.drained = false;
        self.set_due();
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
        self.set_due();
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
            GatePosition::Prepared | GatePosition::Switched | GatePosition::Lapsed
        );
        if !waits || self.expired || self.deadline.is_none_or(|deadline| deadline > now) {
            return false;
        }
        self.expired = true;
        self.deadline = None;
        self.set_due();
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
        self.set_due();
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

/// Nobody is served, and no order changes that.
fn no_lease(who: &Who<'_>) -> GateError {
    GateError::NoLease {
        shard: who.shard.into(),
    }
}

/// What control says of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The epoch that holds; `None` when control has none for this shard.
    pub(super) epoch: Option<u64>,
    pub(super) term: u64,
    pub(super) lease: Lease,
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

    /// What control says of epoch 3 in term 7, believed until 100.
    fn told(gate: &mut Gate, lease: Lease, epoch: u64, term: u64, now: u64) -> Turned {
        let told = Told {
            epoch: Some(epoch),
            term,
            lease,
        };
        let turned = gate.lease(told, Tick(now + 100), Tick(now + 1_000), Tick(now), &WHO);
        turned.unwrap()
    }

    #[test]
    fn hazard_14_an_armed_gate_serves_only_while_control_answers() {
        let mut gate = gate();
        assert_eq!(told(&mut gate, Lease::Armed, 3, 7, 0), Turned::Nothing);
        assert_eq!(gate.due(), Some(Tick(100)));
        assert_eq!(told(&mut gate, Lease::Armed, 3, 7, 50), Turned::Nothing);
        assert!(!gate.became_lapsed(Tick(9_000), Tick(149)));
        assert!(gate.became_lapsed(Tick(9_000), Tick(150)));
        assert_eq!(gate.position, GatePosition::Lapsed);
        assert!(!gate.became_lapsed(Tick(9_000), Tick(150)));
        assert_eq!(gate.lapse(Tick(1 << 40), 1, 1), None);
        assert!(gate.became_expired(Tick(9_000)));
        assert_eq!(told(&mut gate, Lease::Armed, 3, 7, 9_500), Turned::Opened);
        assert!(gate.is_open() && !gate.expired);
    }

    #[test]
    fn an_order_to_open_that_is_read_late_opens_nothing() {
        let mut gate = gate();
        told(&mut gate, Lease::Armed, 3, 7, 0);
        gate.became_lapsed(Tick(9_000), Tick(100));
        for now in [100, 1 << 40] {
            let late = gate.release(at(3, 7), Tick(now), &WHO);
            assert!(matches!(late, Err(GateError::NoLease { .. })));
        }
        // It was left behind meanwhile: no answer opens the old epoch.
        assert_eq!(told(&mut gate, Lease::Over, 4, 8, 200), Turned::Nothing);
        assert!(gate.release(at(3, 8), Tick(200), &WHO).is_err());
        assert_eq!(gate.switch(at(3, 9), 4, "redis://new", &WHO), Ok(true));
        assert_eq!(gate.release(at(4, 9), Tick(200), &WHO), Ok(true));
        assert!(gate.is_open());
    }

    #[test]
    fn a_prepared_gate_whose_lease_has_ended_waits_for_control_and_not_for_an_old_release() {
        let mut gate = gate();
        told(&mut gate, Lease::Armed, 3, 7, 0);
        gate.hold(at(3, 7), Tick(90), Tick(0), &WHO).unwrap();
        gate.prepare(at(3, 7), Tick(1_000), &WHO).unwrap();
        assert_eq!(gate.due(), Some(Tick(1_000)), "the lease is off");
        assert!(gate.release(at(3, 7), Tick(100), &WHO).is_err());
        assert_eq!(gate.position, GatePosition::Lapsed);
        assert_eq!(told(&mut gate, Lease::Over, 3, 7, 100), Turned::Opened);
    }

    #[test]
    fn hazard_15_a_proxy_that_the_attempt_does_not_count_on_waits_for_its_end() {
        let mut gate = gate();
        assert_eq!(told(&mut gate, Lease::Wait, 3, 7, 0), Turned::Lapsed);
        assert!(gate.hold(at(3, 7), Tick(90), Tick(0), &WHO).is_err());
        assert!(gate.release(at(3, 6), Tick(10), &WHO).is_err());
        assert_eq!(gate.release(at(3, 7), Tick(10), &WHO), Ok(true));
        // An answer that was given before the attempt ended.
        assert_eq!(told(&mut gate, Lease::Wait, 3, 7, 20), Turned::Nothing);
        assert_eq!(gate.due(), None);
    }

    #[test]
    fn a_proxy_that_is_behind_serves_nobody_and_unarmed_ones_need_no_control() {
        let mut gate = gate();
        assert_eq!(told(&mut gate, Lease::Over, 3, 7, 0), Turned::Nothing);
        assert_eq!(gate.due(), None);
        assert_eq!(told(&mut gate, Lease::Over, 4, 7, 10), Turned::Lapsed);
        assert!(gate.release(at(3, 8), Tick(20), &WHO).is_err());
        // The commit had not happened after all.
        assert_eq!(told(&mut gate, Lease::Over, 3, 8, 30), Turned::Opened);
    }

    #[test]
    fn an_answer_that_an_arming_has_overtaken_is_refused() {
        let mut gate = gate();
        told(&mut gate, Lease::Armed, 3, 7, 0);
        let old = Told {
            epoch: Some(3),
            term: 6,
            lease: Lease::Over,
        };
        let refused = gate.lease(old, Tick(200), Tick(200), Tick(10), &WHO);
        assert!(matches!(refused, Err(GateError::StaleTerm { .. })));
        assert_eq!(gate.lease_end(), Some(Tick(100)));
    }
}
