//! A session's commands on one shard after a refusal or a lost lane, until each has its answer.
//!
//! ```text
//!  collecting   SET a 2  refused      waiting   SET a 2  to be sent      collecting   SET a 2  sent …
//!               GET a    "1"                    GET a    to be sent
//! ```
//!
//! Replaying only the SET would answer the GET from before it. So after the first command that must be sent (again),
//! everything the session sent behind it on that shard is taken back and done again in order, reads included. If a write
//! behind it did run, nothing can be taken back: the refused ones answer their refusal, and order is what it was.

use std::collections::VecDeque;

use super::counters::LatencyClass;
use super::ids::{LaneId, Tick};
use super::lane::LaneKey;
use super::retry::{Effect, Refusal, Remedy, Sent, refusal, remedy};
use super::texts;

/// What is known of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Sent; its reply is still to come.
    Pending,
    /// Answered, or answered by us.
    Replied(Vec<u8>),
    /// Not executed, in these words.
    Refused(Vec<u8>),
    /// Not executed; EVAL with the body has already taken the place of EVALSHA.
    Healed(Vec<u8>),
    /// To be sent (again). If time runs out, this is the answer.
    Unsent(Vec<u8>),
}

/// One command (or one MULTI … EXEC) and where its reply belongs.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) run: u64,
    /// Which part of a gather; `None`: it answers one command of its run.
    pub(super) part: Option<u16>,
    /// Its bytes as they are sent. Empty: they had to be let go, and it cannot be sent again.
    pub(super) frame: Vec<u8>,
    /// Replies that one sending of it gets; only the last is the client's.
    pub(super) replies: u32,
    /// How many of them are still to come.
    pub(super) left: u32,
    /// A command queued in its transaction was refused as not executable here.
    pub(super) refused_inside: bool,
    pub(super) effect: Effect,
    pub(super) class: LatencyClass,
    pub(super) since: Tick,
    /// It was executed, or may have been, and is no read.
    pub(super) ran: bool,
    pub(super) outcome: Outcome,
}

/// What a resolved recovery comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Next {
    /// Every command has its answer.
    Done,
    /// Something is to be sent, at once.
    Send,
    /// Something is to be sent, after a while: it was refused.
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Replies are still to come on this lane.
    Collecting(LaneId),
    /// To be sent then, if the gate is open.
    Waiting(Tick),
}

#[derive(Debug)]
pub(super) struct Recovery {
    /// The lane's key: shard, protocol and db that the commands were given for.
    pub(super) key: LaneKey,
    pub(super) state: State,
    pub(super) pieces: VecDeque<Piece>,
    /// After this nothing is tried again.
    pub(super) deadline: Tick,
    pub(super) attempts: u32,
}

impl Piece {
    /// The server's last word on it.
    pub(super) fn answered(&mut self, reply: &[u8]) {
        self.ran = self.effect != Effect::Read;
        self.outcome = Outcome::Replied(reply.to_vec());
    }

    /// Whether a reply that is the last of this piece says that it was not executed, and may be sent again.
    pub(super) fn refused(&self, reply: &[u8]) -> Option<(Refusal, Remedy)> {
        let found = match refusal(reply) {
            None if self.refused_inside && reply.starts_with(b"-EXECABORT") => Refusal::ExecAbort,
            found => found?,
        };
        Some((found, remedy(Sent::Refused(found), self.effect)))
    }
}

impl Recovery {
    /// Replies for it come on this lane.
    pub(super) fn collects_on(&self, lane: LaneId) -> bool {
        self.state == State::Collecting(lane)
    }

    /// It waits, and may go on at this time.
    pub(super) fn waits_until(&self) -> Option<Tick> {
        match self.state {
            State::Waiting(until) => Some(until),
            State::Collecting(_) => None,
        }
    }

    /// The first piece whose reply is still to come.
    pub(super) fn pending(&mut self) -> Option<&mut Piece> {
        self.pieces
            .iter_mut()
            .find(|piece| piece.outcome == Outcome::Pending)
    }

    /// The lane is lost: what was pending gets its row of the matrix. `sent_bytes` tells for each pending piece, in order,
    /// whether all its bytes left us.
    pub(super) fn lane_lost(&mut self, sent: impl IntoIterator<Item = Sent>, excuse: &[u8]) -> u64 {
        let mut unknown = 0;
        let pending = self
            .pieces
            .iter_mut()
            .filter(|piece| piece.outcome == Outcome::Pending);
        for (piece, sent) in pending.zip(sent) {
            match remedy(sent, piece.effect) {
                Remedy::Unknown => {
                    unknown += 1;
                    piece.answered(texts::OUTCOME_UNKNOWN);
                }
                _ if piece.frame.is_empty() => {
                    unknown += 1;
                    piece.answered(texts::OUTCOME_UNKNOWN);
                }
                // Bytes of the lost write may still reach the server; a later write of this client must not come before it.
                _ if unknown > 0 && piece.effect != Effect::Read => {
                    piece.outcome = Outcome::Replied(texts::NOT_EXECUTED_BEHIND.to_vec());
                }
                Remedy::Resend | Remedy::Replay | Remedy::Heal | Remedy::Pass => {
                    piece.outcome = Outcome::Unsent(excuse.to_vec());
                }
            }
        }
        unknown
    }

    /// Decides what is answered and what is sent (again), once nothing is pending.
    ///
    /// Up to the last write that ran, or may have, nothing can be taken back: a command sent again would come after it. Behind
    /// it, the first command that is not done takes all others with it.
    pub(super) fn resolve(&mut self, now: Tick) -> Next {
        debug_assert!(
            self.pieces
                .iter()
                .all(|piece| piece.outcome != Outcome::Pending),
            "resolved too early"
        );
        let settled = self
            .pieces
            .iter()
            .rposition(|piece| piece.ran)
            .map_or(0, |last| last + 1);
        let undone = |piece: &Piece| !matches!(piece.outcome, Outcome::Replied(_));
        let first = self
            .pieces
            .iter()
            .skip(settled)
            .position(undone)
            .map_or(self.pieces.len(), |at| settled + at);
        let late = self.deadline <= now;
        let mut next = Next::Done;
        for (at, piece) in self.pieces.iter_mut().enumerate() {
            let (fixed, wait, answer) =
                match std::mem::replace(&mut piece.outcome, Outcome::Pending) {
                    Outcome::Refused(answer) => (false, Next::Wait, answer),
                    Outcome::Unsent(answer) | Outcome::Healed(answer) => {
                        (false, Next::Send, answer)
                    }
                    // A read is done again with what it stood behind; an answer of our own to a write is final.
                    Outcome::Replied(answer) => (piece.effect != Effect::Read, Next::Send, answer),
                    Outcome::Pending => continue,
                };
            piece.outcome = if late || fixed || at < first || piece.frame.is_empty() {
                Outcome::Replied(answer)
            } else {
                next = next.max(wait);
                Outcome::Unsent(answer)
            };
        }
        next
    }

    /// Gives up: what was to be sent answers this, or why it was not executed before.
    pub(super) fn give_up(&mut self, answer: &[u8]) {
        for piece in &mut self.pieces {
            if !matches!(piece.outcome, Outcome::Replied(_)) {
                piece.outcome = Outcome::Replied(answer.to_vec());
            }
        }
    }

    /// Takes the next piece that has its answer, if it is the first.
    pub(super) fn pop_answered(&mut self) -> Option<(Piece, Vec<u8>)> {
        if !matches!(self.pieces.front()?.outcome, Outcome::Replied(_)) {
            return None;
        }
        let mut piece = self.pieces.pop_front()?;
        match std::mem::replace(&mut piece.outcome, Outcome::Pending) {
            Outcome::Replied(answer) => Some((piece, answer)),
            Outcome::Pending | Outcome::Refused(_) | Outcome::Healed(_) | Outcome::Unsent(_) => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use understudy_resp::Protocol;

    use super::*;
    use crate::route::{PoolIndex, ShardIndex};

    fn piece(effect: Effect, outcome: Outcome) -> Piece {
        Piece {
            run: 0,
            part: None,
            frame: b"x".to_vec(),
            replies: 1,
            left: 1,
            refused_inside: false,
            effect,
            class: LatencyClass::Write,
            since: Tick(0),
            ran: effect != Effect::Read && matches!(outcome, Outcome::Replied(_)),
            outcome,
        }
    }

    fn recovery(pieces: Vec<Piece>) -> Recovery {
        let key = LaneKey {
            pool: PoolIndex(0),
            shard: ShardIndex(0),
            epoch: 1,
            protocol: Protocol::Resp2,
            db: 0,
        };
        Recovery {
            key,
            state: State::Waiting(Tick(0)),
            pieces: pieces.into(),
            deadline: Tick(100),
            attempts: 0,
        }
    }

    fn replied(text: &str) -> Outcome {
        Outcome::Replied(text.into())
    }

    fn refused(text: &str) -> Outcome {
        Outcome::Refused(text.into())
    }

    fn unsent(text: &str) -> Outcome {
        Outcome::Unsent(text.into())
    }

    #[track_caller]
    fn check(pieces: Vec<Piece>, now: Tick, next: Next, expect: &[Outcome]) {
        let mut recovery = recovery(pieces);
        assert_eq!(recovery.resolve(now), next);
        let outcomes: Vec<Outcome> = recovery
            .pieces
            .iter()
            .map(|piece| piece.outcome.clone())
            .collect();
        assert_eq!(outcomes, expect);
    }

    #[test]
    fn hazard_26_everything_behind_a_refused_command_is_done_again() {
        check(
            vec![
                piece(Effect::Read, replied("before")),
                piece(Effect::Write, refused("-READONLY")),
                piece(Effect::Read, replied("stale")),
                piece(Effect::Write, refused("-READONLY 2")),
            ],
            Tick(0),
            Next::Wait,
            &[
                replied("before"),
                unsent("-READONLY"),
                unsent("stale"),
                unsent("-READONLY 2"),
            ],
        );
    }

    #[test]
    fn when_a_later_write_ran_refusals_are_passed_on() {
        check(
            vec![
                piece(Effect::Write, refused("-LOADING")),
                piece(Effect::Read, replied("r")),
                piece(Effect::Write, replied(":1")),
            ],
            Tick(0),
            Next::Done,
            &[replied("-LOADING"), replied("r"), replied(":1")],
        );
    }

    #[test]
    fn an_unanswered_read_is_not_sent_again_where_a_later_write_may_have_run() {
        check(
            vec![
                piece(Effect::Read, unsent("-gone")),
                piece(Effect::Write, replied("-ERR outcome unknown")),
            ],
            Tick(0),
            Next::Done,
            &[replied("-gone"), replied("-ERR outcome unknown")],
        );
        check(
            vec![
                piece(Effect::Write, refused("-LOADING")),
                piece(Effect::Write, replied(":1")),
                piece(Effect::Read, unsent("-gone")),
            ],
            Tick(0),
            Next::Send,
            &[replied("-LOADING"), replied(":1"), unsent("-gone")],
        );
    }

    #[test]
    fn after_the_deadline_the_last_words_are_passed_on() {
        check(
            vec![
                piece(Effect::Write, refused("-READONLY")),
                piece(Effect::Read, unsent("-gone")),
            ],
            Tick(100),
            Next::Done,
            &[replied("-READONLY"), replied("-gone")],
        );
    }

    #[test]
    fn a_lost_lane_follows_the_matrix_and_no_write_overtakes_an_unknown_one() {
        let pending = |effect| piece(effect, Outcome::Pending);
        let mut recovery = recovery(vec![
            pending(Effect::Read),
            pending(Effect::Write),
            pending(Effect::Read),
            pending(Effect::Script),
            pending(Effect::Read),
        ]);
        assert_eq!(
            recovery.lane_lost(
                [Sent::Fully, Sent::Fully, Sent::Fully, Sent::No, Sent::No],
                b"-gone"
            ),
            1
        );
        let outcomes: Vec<Outcome> = recovery
            .pieces
            .iter()
            .map(|piece| piece.outcome.clone())
            .collect();
        let unknown = Outcome::Replied(texts::OUTCOME_UNKNOWN.to_vec());
        let behind = Outcome::Replied(texts::NOT_EXECUTED_BEHIND.to_vec());
        assert_eq!(
            outcomes,
            [
                unsent("-gone"),
                unknown,
                unsent("-gone"),
                behind,
                unsent("-gone")
            ]
        );
    }
}
