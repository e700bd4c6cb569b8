//! Go, wait, or abort: what the evidence says at steps 2, 4, 5 and 6 of a cutover. Pure; a table of tests.
//!
//! Time never says go. The caller ends a wait at its deadline by aborting.

use super::evidence::{Identity, Standing};

/// What the evidence says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CutoverDecision {
    /// Everything that the step needs is true at this offset.
    Go {
        /// The offset.
        offset: u64,
    },
    /// Not yet; look again.
    NoGo(Waiting),
    /// It cannot become true by waiting.
    Abort(AbortReason),
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Bytes that the winner still has to apply.
    Lag {
        /// How many.
        bytes: u64,
    },
    /// The replication link is down.
    LinkDown,
    /// The winner's append-only file does not hold its data yet.
    Unsaved,
}

/// Why waiting does not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AbortReason {
    /// A server or a history is not the one that was verified.
    Identity(String),
    /// The loser is not what the step needs it to be.
    From(&'static str),
    /// The winner is not what the step needs it to be.
    To(&'static str),
    /// The loser's history went on after its fence, or the winner is past it.
    Offsets {
        /// The loser.
        from: u64,
        /// The winner.
        to: u64,
    },
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Waiting::Lag { bytes } => write!(out, "{bytes} bytes are not applied yet"),
            Waiting::LinkDown => write!(out, "the replication link is down"),
            Waiting::Unsaved => {
                write!(
                    out,
                    "the server that takes over still writes its append-only file"
                )
            }
        }
    }
}

impl std::fmt::Display for AbortReason {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AbortReason::Identity(what) => write!(out, "{what}"),
            AbortReason::From(what) => write!(out, "the serving server {what}"),
            AbortReason::To(what) => write!(out, "the server that is to take over {what}"),
            AbortReason::Offsets { from, to } => {
                write!(
                    out,
                    "offsets differ after the fence: {from} on the serving server, {to} on the other"
                )
            }
        }
    }
}

/// Before step 1: is the pair still the one that was verified, and close enough to start?
pub(crate) fn may_begin(
    identity: &Identity,
    from: &Standing,
    to: &Standing,
    lag_max: u64,
) -> CutoverDecision {
    if let Some(what) = identity.broken_by(from, to) {
        return CutoverDecision::Abort(AbortReason::Identity(what));
    }
    if to.unsaved {
        return CutoverDecision::NoGo(Waiting::Unsaved);
    }
    caught_up(from, to, from.offset.saturating_sub(lag_max))
}

/// Step 2: the loser's writes are paused at `paused.offset`; has the winner applied as much of the same history?
pub(crate) fn has_caught_up(
    identity: &Identity,
    paused: &Standing,
    to: &Standing,
) -> CutoverDecision {
    if let Some(what) = identity.broken_by(paused, to) {
        return CutoverDecision::Abort(AbortReason::Identity(what));
    }
    caught_up(paused, to, paused.offset)
}

fn caught_up(from: &Standing, to: &Standing, offset: u64) -> CutoverDecision {
    if from.role.is_replica() {
        return CutoverDecision::Abort(AbortReason::From("is not a primary"));
    }
    if from.loading {
        return CutoverDecision::Abort(AbortReason::From("is loading its data"));
    }
    match &to.role {
        super::Role::Primary => CutoverDecision::Abort(AbortReason::To("is not a replica")),
        super::Role::Replica { link_up: false, .. } => CutoverDecision::NoGo(Waiting::LinkDown),
        super::Role::Replica { .. } if to.replid != from.replid => {
            CutoverDecision::Abort(AbortReason::To("follows another history (another replid)"))
        }
        super::Role::Replica { .. } if to.offset < offset => CutoverDecision::NoGo(Waiting::Lag {
            bytes: offset - to.offset,
        }),
        super::Role::Replica { .. } => CutoverDecision::Go {
            offset: from.offset,
        },
    }
}

/// Step 5: the loser is fenced and frozen; has the winner applied exactly its history?
///
/// The link is not asked for: 6.2 drops its replicas when it becomes one, and there is nothing left to receive.
pub(crate) fn is_equal(identity: &Identity, fenced: &Standing, to: &Standing) -> CutoverDecision {
    if let Some(what) = identity.broken_by(fenced, to) {
        return CutoverDecision::Abort(AbortReason::Identity(what));
    }
    if !fenced.role.is_replica() {
        return CutoverDecision::Abort(AbortReason::From("is not fenced"));
    }
    if !to.role.is_replica() {
        return CutoverDecision::Abort(AbortReason::To("is not a replica"));
    }
    if to.replid != fenced.replid {
        return CutoverDecision::Abort(AbortReason::To("follows another history (another replid)"));
    }
    if to.offset > fenced.offset {
        return CutoverDecision::Abort(AbortReason::Offsets {
            from: fenced.offset,
            to: to.offset,
        });
    }
    if to.offset < fenced.offset {
        return CutoverDecision::NoGo(Waiting::Lag {
            bytes: fenced.offset - to.offset,
        });
    }
    CutoverDecision::Go {
        offset: fenced.offset,
    }
}

/// Step 6: the winner was promoted; is it the primary that goes on from exactly this history?
pub(crate) fn is_promoted(
    identity: &Identity,
    fenced: &Standing,
    to: &Standing,
) -> CutoverDecision {
    if to.run_id != identity.to_run_id {
        return CutoverDecision::Abort(AbortReason::Identity(
            "the server that is to take over was restarted".to_owned(),
        ));
    }
    if to.role.is_replica() {
        return CutoverDecision::Abort(AbortReason::To("is still a replica"));
    }
    if !to.knows(&fenced.replid) {
        return CutoverDecision::Abort(AbortReason::To("lost the history that it had applied"));
    }
    // A new primary that has replicas of its own pings them, so it may be past the fence, never before it.
    if to.offset < fenced.offset {
        return CutoverDecision::Abort(AbortReason::Offsets {
            from: fenced.offset,
            to: to.offset,
        });
    }
    CutoverDecision::Go { offset: to.offset }
}

/// Before step 8: the winner still goes on from the loser's history, in the same process, and the loser is still fenced.
pub(crate) fn may_commit(
    identity: &Identity,
    fenced: &Standing,
    from: &Standing,
    to: &Standing,
) -> CutoverDecision {
    if from.run_id != identity.from_run_id {
        return CutoverDecision::Abort(AbortReason::Identity(
            "the server that serves the shard was restarted".to_owned(),
        ));
    }
    if !from.role.is_replica() {
        return CutoverDecision::Abort(AbortReason::From("is not fenced any more"));
    }
    is_promoted(identity, fenced, to)
}

#[cfg(test)]
mod tests;
