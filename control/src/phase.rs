//! The phases of one shard's upgrade, and the only moves between them.
//!
//! ```text
//!  plan -> snapshot -> replicate <-> verify <-> cutover -> committed -> soak -> finalized
//!    \________\___________\___________\____________\                      \---> rolled_back
//!                                                   aborted
//! ```
//! A phase is journalled before the driver acts on it. `finalized`, `rolled_back` and `aborted` are ends, after which an
//! upgrade of that shard may be started again. While a shard is rolled back it stays in `soak`: only the journal's commit
//! of the way back makes it `rolled_back`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where one shard's upgrade stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Facts are gathered, blockers are named.
    Plan,
    /// The snapshot that guards this shard is being taken.
    Snapshot,
    /// The target copies the source and then follows it.
    Replicate,
    /// Every key is compared.
    Verify,
    /// Ready for the nine steps, or in them.
    Cutover,
    /// The route is the target's, in the journal; the proxies are being told.
    Committed,
    /// The source follows the target through the guard; the way back is open.
    Soak,
    /// The way back is closed; the source stays fenced.
    Finalized,
    /// The shard is back on its source; the target stays fenced.
    RolledBack,
    /// Stopped before the commit; the shard never left its source.
    Aborted,
}

impl Phase {
    /// Every phase, in the order of an upgrade that goes well, then the two other ends.
    pub const ALL: [Phase; 10] = [
        Phase::Plan,
        Phase::Snapshot,
        Phase::Replicate,
        Phase::Verify,
        Phase::Cutover,
        Phase::Committed,
        Phase::Soak,
        Phase::Finalized,
        Phase::RolledBack,
        Phase::Aborted,
    ];

    /// The only moves there are. The driver journals a move before it acts on it.
    pub fn may_become(self, next: Phase) -> bool {
        match self {
            Phase::Plan => matches!(next, Phase::Snapshot | Phase::Aborted),
            Phase::Snapshot => matches!(next, Phase::Replicate | Phase::Aborted),
            Phase::Replicate => matches!(next, Phase::Verify | Phase::Aborted),
            Phase::Verify => matches!(next, Phase::Cutover | Phase::Replicate | Phase::Aborted),
            // Back to verify: an attempt was undone, target first.
            Phase::Cutover => matches!(next, Phase::Committed | Phase::Verify | Phase::Aborted),
            // Forward only.
            Phase::Committed => matches!(next, Phase::Soak),
            Phase::Soak => matches!(next, Phase::Finalized | Phase::RolledBack),
            Phase::Finalized | Phase::RolledBack | Phase::Aborted => false,
        }
    }

    /// True where nothing runs any more and START may come again.
    pub fn is_end(self) -> bool {
        match self {
            Phase::Finalized | Phase::RolledBack | Phase::Aborted => true,
            Phase::Plan
            | Phase::Snapshot
            | Phase::Replicate
            | Phase::Verify
            | Phase::Cutover
            | Phase::Committed
            | Phase::Soak => false,
        }
    }

    /// True while the shard works towards its soak, so that no second upgrade of its pool may start.
    pub fn is_underway(self) -> bool {
        !self.is_end() && self != Phase::Soak
    }

    /// The phase's name in STATUS, WAIT, metrics and the journal.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Plan => "plan",
            Phase::Snapshot => "snapshot",
            Phase::Replicate => "replicate",
            Phase::Verify => "verify",
            Phase::Cutover => "cutover",
            Phase::Committed => "committed",
            Phase::Soak => "soak",
            Phase::Finalized => "finalized",
            Phase::RolledBack => "rolled_back",
            Phase::Aborted => "aborted",
        }
    }

    /// The phase of this name, whatever its case.
    pub fn named(name: &str) -> Option<Phase> {
        Phase::ALL
            .into_iter()
            .find(|phase| phase.name().eq_ignore_ascii_case(name))
    }

    /// How far this is on the way from the source to the target. Work under way counts least: a pool is as far as the
    /// shard that still has most before it, and a shard that soaks may still go back. Then the ends.
    fn progress(self) -> usize {
        match self {
            Phase::Plan => 0,
            Phase::Snapshot => 1,
            Phase::Replicate => 2,
            Phase::Verify => 3,
            Phase::Cutover => 4,
            Phase::Committed => 5,
            Phase::Soak => 6,
            Phase::Aborted => 7,
            Phase::RolledBack => 8,
            Phase::Finalized => 9,
        }
    }

    /// True when an upgrade in this phase has passed `wanted` on the straight way, so that a wait for it is over.
    pub fn has_reached(self, wanted: Phase) -> bool {
        if self == wanted {
            return true;
        }
        match (self, wanted) {
            (Phase::Aborted | Phase::RolledBack, _) | (_, Phase::Aborted | Phase::RolledBack) => {
                false
            }
            (now, wanted) => now.progress() > wanted.progress(),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The phase of a pool: its least advanced shard's, and an end only when every shard is at one. `None` without shards.
pub(crate) fn pool_phase(shards: impl IntoIterator<Item = Phase>) -> Option<Phase> {
    shards.into_iter().min_by_key(|phase| phase.progress())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_moves_is_exactly_this() {
        let mut moves = Vec::new();
        for from in Phase::ALL {
            for to in Phase::ALL {
                if from.may_become(to) {
                    moves.push(format!("{from}>{to}"));
                }
            }
        }
        assert_eq!(
            moves.join(" "),
            "plan>snapshot plan>aborted snapshot>replicate snapshot>aborted replicate>verify replicate>aborted \
             verify>replicate verify>cutover verify>aborted cutover>verify cutover>committed cutover>aborted \
             committed>soak soak>finalized soak>rolled_back"
        );
    }

    #[test]
    fn an_end_leads_nowhere_and_everything_else_leads_somewhere() {
        for phase in Phase::ALL {
            assert_eq!(
                phase.is_end(),
                !Phase::ALL.into_iter().any(|next| phase.may_become(next)),
                "{phase}"
            );
        }
    }

    #[test]
    fn after_the_commit_there_is_no_abort() {
        for phase in [
            Phase::Committed,
            Phase::Soak,
            Phase::Finalized,
            Phase::RolledBack,
        ] {
            assert!(!phase.may_become(Phase::Aborted), "{phase}");
        }
    }

    #[test]
    fn names_read_back() {
        for phase in Phase::ALL {
            assert_eq!(Phase::named(phase.name()), Some(phase));
        }
        assert_eq!(Phase::named("SOAK"), Some(Phase::Soak));
        assert_eq!(Phase::named("done"), None);
    }

    #[test]
    fn a_pool_is_as_far_as_its_least_advanced_shard() {
        assert_eq!(pool_phase([]), None);
        assert_eq!(pool_phase([Phase::Soak, Phase::Plan]), Some(Phase::Plan));
        assert_eq!(
            pool_phase([Phase::Soak, Phase::RolledBack]),
            Some(Phase::Soak)
        );
        assert_eq!(
            pool_phase([Phase::Finalized, Phase::Soak]),
            Some(Phase::Soak)
        );
        assert_eq!(
            pool_phase([Phase::Aborted, Phase::Verify]),
            Some(Phase::Verify)
        );
    }

    #[test]
    fn a_wait_is_over_once_the_phase_was_passed() {
        assert!(Phase::Soak.has_reached(Phase::Cutover));
        assert!(!Phase::Verify.has_reached(Phase::Soak));
        assert!(!Phase::Aborted.has_reached(Phase::Soak));
        assert!(!Phase::Soak.has_reached(Phase::RolledBack));
        assert!(Phase::RolledBack.has_reached(Phase::RolledBack));
    }
}
