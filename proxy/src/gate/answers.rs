//! Makes one answer out of what all workers say about a gate.

use super::error::VerbError;
use crate::orders::Silent;
use crate::worker::{Ack, GateError, GatePosition, GateStatus};

/// One answer out of all: the least advanced gate, sums of what is counted. The first worker that is not as wanted fails it.
pub(super) fn unanimous(
    acks: Vec<(u16, Result<Ack, Silent>)>,
    wanted: impl Fn(&GateStatus) -> bool,
) -> Result<GateStatus, VerbError> {
    let mut whole: Option<GateStatus> = None;
    let mut silent = None;
    for (worker, ack) in acks {
        match ack {
            Ok(Ack::Gate(status)) if wanted(&status) => whole = Some(merge(whole, status)),
            Ok(Ack::Gate(status)) if status.in_flight > 0 => {
                return Err(GateError::NotDrained {
                    worker,
                    in_flight: status.in_flight,
                    longest: None,
                }
                .into());
            }
            Ok(Ack::Refused(refused)) => return Err(refused.into()),
            Ok(_) => return Err(VerbError::Odd { worker }),
            // What another worker refuses says more than that one is silent.
            Err(Silent::Late { worker, waited_ms }) => {
                silent.get_or_insert(VerbError::Frozen { worker, waited_ms });
            }
            Err(Silent::Gone { worker }) => {
                silent.get_or_insert(VerbError::Lost { worker });
            }
        }
    }
    match (silent, whole) {
        (Some(silent), _) => Err(silent),
        (None, Some(whole)) => Ok(whole),
        (None, None) => Err(VerbError::Lost { worker: 0 }),
    }
}

fn merge(whole: Option<GateStatus>, one: GateStatus) -> GateStatus {
    let Some(whole) = whole else { return one };
    let (first, in_flight, held) = (
        rank(one.state) < rank(whole.state),
        whole.in_flight + one.in_flight,
        whole.held_sessions + one.held_sessions,
    );
    let waited_us = whole.waited_us.max(one.waited_us);
    let longest_gap_us = whole.longest_gap_us.max(one.longest_gap_us);
    let least = if first { one } else { whole };
    GateStatus {
        in_flight,
        held_sessions: held,
        waited_us,
        longest_gap_us,
        ..least
    }
}

fn rank(state: GatePosition) -> u8 {
    match state {
        GatePosition::Open => 0,
        GatePosition::Lapsed => 1,
        GatePosition::Held => 2,
        GatePosition::Prepared => 3,
        GatePosition::Switched => 4,
    }
}

/// What a worker says that is on a route already.
pub(super) fn switched(epoch: u64, term: u64, url: &str) -> GateStatus {
    GateStatus {
        state: GatePosition::Switched,
        epoch,
        term,
        backend: url.to_owned(),
        in_flight: 0,
        held_sessions: 0,
        waited_us: 0,
        longest_gap_us: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(state: GatePosition, in_flight: u64) -> Result<Ack, Silent> {
        Ok(Ack::Gate(GateStatus {
            state,
            in_flight,
            ..switched(3, 7, "redis://a:1")
        }))
    }

    #[track_caller]
    fn check(acks: Vec<Result<Ack, Silent>>, expect: &str) {
        let held = |status: &GateStatus| status.state != GatePosition::Open;
        let said = match unanimous((0..).zip(acks).collect(), held) {
            Ok(status) => format!("{} in flight {}", status.state.name(), status.in_flight),
            Err(error) => error.to_string(),
        };
        assert_eq!(said, expect);
    }

    #[test]
    fn one_worker_that_is_not_there_fails_all() {
        use GatePosition::{Held, Open, Prepared};
        let stale = || GateError::StaleTerm {
            shard: "s1".into(),
            seen: 9,
            given: 8,
        };
        let late = || {
            Err(Silent::Late {
                worker: 1,
                waited_ms: 200,
            })
        };
        check(vec![at(Held, 0), at(Held, 0)], "held in flight 0");
        check(vec![at(Prepared, 1), at(Held, 2)], "held in flight 3");
        check(
            vec![at(Held, 0), at(Open, 3)],
            "NOTHELD worker 1 in flight 3",
        );
        check(
            vec![at(Held, 0), Ok(Ack::Refused(stale()))],
            "STALETERM shard s1 has seen term 9, this is 8",
        );
        check(
            vec![at(Held, 0), late()],
            "NOTHELD worker 1 in flight unknown: it did not answer within 200 ms",
        );
        check(
            vec![late(), Ok(Ack::Refused(stale()))],
            "STALETERM shard s1 has seen term 9, this is 8",
        );
        check(
            Vec::new(),
            "NOTHELD worker 0 in flight unknown: it was rebuilt, or takes no orders",
        );
    }
}
