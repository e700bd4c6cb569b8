//! The table of scenarios.

/// What happens around a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// It is taken up, cut, and ready.
    Success,
    /// Everything comes just before its deadline.
    Slow,
    /// An error that the system overcomes.
    Transient,
    /// The system says that it failed.
    Failure,
    /// The system says that it is done, and nothing is in it.
    Nothing,
    /// No controller says anything.
    Silence,
    /// The system skips it, queues it, or something else is in the way.
    Skipped,
    /// It was ready, and is not any more.
    Flip,
    /// It failed, and later says that it is ready.
    Resurrection,
    /// Somebody else's object has our name.
    Foreign,
    /// A right is missing.
    Rights,
    /// A webhook or a quota refuses it.
    Denied,
    /// The API server goes away in the middle.
    Away,
    /// We end in the middle and begin anew.
    Restart,
    /// It is brought back.
    Restored,
    /// Its data is read back from a scratch claim, and that is forgotten.
    Verified,
    /// It is deleted.
    Deleted,
}

/// All of them: (how data files name it, for people).
pub(crate) const ALL: [(Scenario, &str, &str); 17] = [
    (Scenario::Success, "success", "success"),
    (Scenario::Slow, "slow", "slow"),
    (
        Scenario::Transient,
        "transient",
        "transient error, then success",
    ),
    (Scenario::Failure, "failure", "final failure"),
    (Scenario::Nothing, "nothing", "success with nothing in it"),
    (Scenario::Silence, "silence", "no answer"),
    (Scenario::Skipped, "skipped", "skipped or queued"),
    (Scenario::Flip, "flip", "ready that flips back"),
    (
        Scenario::Resurrection,
        "resurrection",
        "resurrection after failure",
    ),
    (
        Scenario::Foreign,
        "foreign",
        "a foreign object of the same name",
    ),
    (Scenario::Rights, "rights", "RBAC denied"),
    (Scenario::Denied, "denied", "quota or webhook denial"),
    (Scenario::Away, "away", "API server away in the middle"),
    (Scenario::Restart, "restart", "own restart in the middle"),
    (Scenario::Restored, "restored", "restored"),
    (Scenario::Verified, "verified", "read back and forgotten"),
    (Scenario::Deleted, "deleted", "deleted"),
];

impl Scenario {
    /// As data files name it.
    pub(crate) fn name(self) -> &'static str {
        ALL.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }
}
