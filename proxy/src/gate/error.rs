//! Why a gate's verb failed, in the words of docs/gate.md.

use crate::orders::Silent;
use crate::worker::GateError;

/// Why a verb failed. Its text is the reply, without the dash.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerbError {
    #[error("ERR no pool '{0}'")]
    NoPool(String),
    #[error("ERR no shard '{shard}' in pool '{pool}'")]
    NoShard { pool: String, shard: String },
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error("NOTHELD worker {worker} in flight unknown: it did not answer within {waited_ms} ms")]
    Frozen { worker: u16, waited_ms: u64 },
    #[error("NOTHELD worker {worker} in flight unknown: it was rebuilt, or takes no orders")]
    Lost { worker: u16 },
    #[error("ERR {silent}; what it did is unknown, repeat {verb}")]
    Silent { verb: &'static str, silent: Silent },
    #[error("ERR the route was not written and nothing changed: {0}")]
    NotWritten(String),
    #[error("NOLEASE this proxy does not register with control: its config has no control.address")]
    NotRegistered,
    #[error("ERR {0}")]
    BadUrl(String),
    #[error("ERR worker {worker} answered something else than was asked")]
    Odd { worker: u16 },
}

impl VerbError {
    /// Whether the attempt was refused as such: nothing of it is held, or it is not ours to open.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            VerbError::Gate(GateError::NotDrained { .. } | GateError::NotHeld { .. })
            | VerbError::Frozen { .. }
            | VerbError::Lost { .. }
            | VerbError::NotWritten(_)
            | VerbError::Odd { .. } => false,
            VerbError::Gate(
                GateError::StaleTerm { .. }
                | GateError::WrongEpoch { .. }
                | GateError::Busy { .. }
                | GateError::NoLease { .. }
                | GateError::NoShard,
            )
            | VerbError::NoPool(_)
            | VerbError::NoShard { .. }
            | VerbError::Silent { .. }
            | VerbError::NotRegistered
            | VerbError::BadUrl(_) => true,
        }
    }

    /// For verbs that hold nothing and may be repeated, a silent worker is just that.
    pub(super) fn for_repeating(self, verb: &'static str) -> VerbError {
        match self {
            VerbError::Frozen { worker, waited_ms } => VerbError::Silent {
                verb,
                silent: Silent::Late { worker, waited_ms },
            },
            VerbError::Lost { worker } => VerbError::Silent {
                verb,
                silent: Silent::Gone { worker },
            },
            other => other,
        }
    }
}
