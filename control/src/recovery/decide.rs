//! What an attempt that nobody finished left behind, and what to do about it. Pure.
//!
//! The servers say what is so; the journal only says which way. An attempt without a commit is undone, target first: no
//! client was ever let onto the server that was to take over. With a commit it goes forward, unless the servers show that
//! the commit's disk write was reported as failed and the attempt was undone after it.

use crate::cutover::Standing;

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Found<'a> {
    /// The server that was to lose its role; `None` when it does not answer.
    pub(crate) from: Option<&'a Standing>,
    /// The server that was to gain it.
    pub(crate) to: Option<&'a Standing>,
    /// True when the journal holds the commit.
    pub(crate) committed: bool,
    /// True when any proxy stands at the epoch behind the attempt's.
    pub(crate) any_switched: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Demote, unfence, release to the old epoch.
    Undo,
    /// Tell the proxies the new route.
    Forward,
    /// As forward, but the server that lost its role came back as a primary: fence it again first.
    FenceAndForward,
    /// As forward, but the server that gained the role came back as a replica that has everything: promote it first.
    PromoteAndForward,
    /// The servers needed for a decision do not answer: ask again.
    AskAgain,
    /// What is true fits neither way: a person must look.
    Person(&'static str),
}

/// Decides.
pub(crate) fn decide(found: &Found<'_>) -> Way {
    if !found.committed {
        return if found.any_switched {
            Way::Person(
                "a proxy was switched, but the journal holds no commit: is this the right data_dir?",
            )
        } else {
            Way::Undo
        };
    }
    let Some(to) = found.to else {
        return Way::AskAgain;
    };
    if found.any_switched {
        return match (found.from, to.role.is_replica()) {
            (Some(from), false) if !from.role.is_replica() => Way::FenceAndForward,
            (_, false) => Way::Forward,
            (Some(from), true) if from.role.is_replica() && to.offset >= from.offset => {
                Way::PromoteAndForward
            }
            (_, true) => Way::Person("clients were moved to a server that is a replica now"),
        };
    }
    match (found.from, to.role.is_replica()) {
        // The commit's fsync failed, the attempt was undone, and the bytes reached the disk all the same.
        (Some(from), true) if !from.role.is_replica() => Way::Undo,
        (Some(from), true) if to.offset >= from.offset => Way::PromoteAndForward,
        (Some(_), true) => Way::Undo,
        (None, true) => Way::AskAgain,
        (Some(from), false) if !from.role.is_replica() => Way::FenceAndForward,
        (_, false) => Way::Forward,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cutover::Role;
    use crate::recovery::fixture::{replica, standing};

    fn server(text: &str) -> Option<Standing> {
        match text {
            "primary" => Some(standing(Role::Primary, 100)),
            "replica" => Some(standing(replica(), 100)),
            "behind" => Some(standing(replica(), 50)),
            "gone" => None,
            other => panic!("{other}"),
        }
    }

    #[track_caller]
    fn check(from: &str, to: &str, committed: bool, any_switched: bool, expect: Way) {
        let (from, to) = (server(from), server(to));
        let found = Found {
            from: from.as_ref(),
            to: to.as_ref(),
            committed,
            any_switched,
        };
        assert_eq!(decide(&found), expect);
    }

    #[test]
    fn without_a_commit_everything_is_undone() {
        for from in ["primary", "replica", "gone"] {
            for to in ["primary", "replica", "behind", "gone"] {
                check(from, to, false, false, Way::Undo);
            }
        }
    }

    #[test]
    fn a_switched_proxy_without_a_commit_is_for_a_person() {
        check(
            "replica",
            "primary",
            false,
            true,
            Way::Person(
                "a proxy was switched, but the journal holds no commit: is this the right data_dir?",
            ),
        );
    }

    #[test]
    fn a_commit_goes_forward() {
        check("replica", "primary", true, false, Way::Forward);
        check("replica", "primary", true, true, Way::Forward);
        check("gone", "primary", true, false, Way::Forward);
    }

    #[test]
    fn hazard_04_a_source_that_is_still_primary_means_nothing_was_committed() {
        check("primary", "replica", true, false, Way::Undo);
        check("primary", "behind", true, false, Way::Undo);
    }

    #[test]
    fn hazard_12_a_source_that_came_back_as_primary_is_fenced_again() {
        check("primary", "primary", true, false, Way::FenceAndForward);
        check("primary", "primary", true, true, Way::FenceAndForward);
    }

    #[test]
    fn a_target_that_came_back_as_replica_is_promoted_only_with_everything() {
        check("replica", "replica", true, false, Way::PromoteAndForward);
        check("replica", "behind", true, false, Way::Undo);
        check(
            "replica",
            "behind",
            true,
            true,
            Way::Person("clients were moved to a server that is a replica now"),
        );
    }

    #[test]
    fn without_the_servers_nothing_is_decided() {
        check("replica", "gone", true, false, Way::AskAgain);
        check("gone", "replica", true, false, Way::AskAgain);
    }
}
