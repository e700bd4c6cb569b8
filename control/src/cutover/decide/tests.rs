//! What counts as evidence, row by row.

use super::super::evidence::Role;
use super::*;

fn primary(offset: u64) -> Standing {
    Standing {
        run_id: "run-a".into(),
        replid: "history".into(),
        replid2: "0000".into(),
        second_offset: -1,
        offset,
        role: Role::Primary,
        sync_full: 1,
        replica_errors: 0,
        loading: false,
        unsaved: false,
    }
}

fn replica(offset: u64) -> Standing {
    Standing {
        run_id: "run-b".into(),
        role: Role::Replica {
            host: "h".into(),
            port: 1,
            link_up: true,
        },
        sync_full: 0,
        ..primary(offset)
    }
}

fn fenced(offset: u64) -> Standing {
    Standing {
        role: Role::Replica {
            host: "guard".into(),
            port: 2,
            link_up: false,
        },
        ..primary(offset)
    }
}

fn promoted(offset: u64) -> Standing {
    Standing {
        role: Role::Primary,
        replid: "next".into(),
        replid2: "history".into(),
        second_offset: i64::try_from(offset).unwrap() + 1,
        ..replica(offset)
    }
}

fn identity() -> Identity {
    Identity::of(&primary(0), &replica(0))
}

fn says(decision: CutoverDecision) -> String {
    match decision {
        CutoverDecision::Go { offset } => format!("go {offset}"),
        CutoverDecision::NoGo(waiting) => format!("wait: {waiting}"),
        CutoverDecision::Abort(reason) => format!("abort: {reason}"),
    }
}

#[track_caller]
fn check(decision: CutoverDecision, expect: &str) {
    assert_eq!(says(decision), expect);
}

#[test]
fn a_replica_that_applied_the_paused_offset_may_go() {
    check(
        has_caught_up(&identity(), &primary(100), &replica(100)),
        "go 100",
    );
    check(
        has_caught_up(&identity(), &primary(100), &replica(114)),
        "go 100",
    );
}

#[test]
fn a_winner_whose_append_only_file_is_not_written_yet_is_waited_for() {
    let unsaved = Standing {
        unsaved: true,
        ..replica(100)
    };
    assert_eq!(
        may_begin(&identity(), &primary(100), &unsaved, 40),
        CutoverDecision::NoGo(Waiting::Unsaved)
    );
}

#[test]
fn lag_is_waited_for() {
    check(
        has_caught_up(&identity(), &primary(100), &replica(60)),
        "wait: 40 bytes are not applied yet",
    );
    check(
        may_begin(&identity(), &primary(100), &replica(60), 40),
        "go 100",
    );
    check(
        may_begin(&identity(), &primary(100), &replica(60), 10),
        "wait: 30 bytes are not applied yet",
    );
}

#[test]
fn a_link_that_is_down_is_waited_for() {
    let mut to = replica(100);
    to.role = Role::Replica {
        host: "h".into(),
        port: 1,
        link_up: false,
    };
    check(
        has_caught_up(&identity(), &primary(100), &to),
        "wait: the replication link is down",
    );
}

#[test]
fn hazard_08_an_offset_of_another_history_proves_nothing() {
    let mut restarted = primary(0);
    restarted.run_id = "run-c".into();
    restarted.replid = "other".into();
    check(
        has_caught_up(&identity(), &restarted, &replica(2_000_683)),
        "abort: the server that serves the shard was restarted",
    );
    let mut other = primary(10);
    other.replid = "other".into();
    check(
        has_caught_up(&identity(), &other, &replica(2_000_683)),
        "abort: the history of the serving server changed (another replid)",
    );
}

#[test]
fn a_full_resync_since_the_verification_aborts() {
    let mut from = primary(10);
    from.sync_full = 2;
    check(
        has_caught_up(&identity(), &from, &replica(10)),
        "abort: a full resync was given since the verification",
    );
}

#[test]
fn a_command_that_the_winner_could_not_execute_aborts() {
    let mut to = replica(10);
    to.replica_errors = 3;
    check(
        has_caught_up(&identity(), &primary(10), &to),
        "abort: the server that is to take over could not execute 3 replicated commands",
    );
}

#[test]
fn a_winner_that_was_restarted_aborts() {
    let mut to = replica(10);
    to.run_id = "run-x".into();
    check(
        has_caught_up(&identity(), &primary(10), &to),
        "abort: the server that is to take over was restarted",
    );
}

#[test]
fn two_primaries_are_never_a_cutover() {
    let mut to = replica(10);
    to.role = Role::Primary;
    check(
        has_caught_up(&identity(), &primary(10), &to),
        "abort: the server that is to take over is not a replica",
    );
    check(
        has_caught_up(&identity(), &fenced(10), &replica(10)),
        "abort: the serving server is not a primary",
    );
}

#[test]
fn after_the_fence_only_equality_goes() {
    check(is_equal(&identity(), &fenced(100), &replica(100)), "go 100");
    check(
        is_equal(&identity(), &fenced(100), &replica(86)),
        "wait: 14 bytes are not applied yet",
    );
    check(
        is_equal(&identity(), &fenced(100), &replica(101)),
        "abort: offsets differ after the fence: 100 on the serving server, 101 on the other",
    );
    check(
        is_equal(&identity(), &primary(100), &replica(100)),
        "abort: the serving server is not fenced",
    );
}

#[test]
fn hazard_07_equality_needs_no_link_after_the_fence() {
    let mut to = replica(100);
    to.role = Role::Replica {
        host: "h".into(),
        port: 1,
        link_up: false,
    };
    check(is_equal(&identity(), &fenced(100), &to), "go 100");
}

#[test]
fn case_19_an_offset_read_before_the_fence_is_no_proof() {
    // The pause said 100. A write got through before the fence: 100 is not all of it.
    check(
        is_equal(&identity(), &fenced(120), &replica(100)),
        "wait: 20 bytes are not applied yet",
    );
    check(
        is_equal(&identity(), &primary(100), &replica(100)),
        "abort: the serving server is not fenced",
    );
    let mut other = replica(120);
    other.replid = "elsewhere".into();
    assert!(says(is_equal(&identity(), &fenced(120), &other)).starts_with("abort: "));
    check(is_equal(&identity(), &fenced(120), &replica(120)), "go 120");
}

#[test]
fn a_promoted_winner_goes_on_from_the_same_history() {
    check(
        is_promoted(&identity(), &fenced(100), &promoted(100)),
        "go 100",
    );
    check(
        is_promoted(&identity(), &fenced(100), &promoted(114)),
        "go 114",
    );
    check(
        is_promoted(&identity(), &fenced(100), &replica(100)),
        "abort: the server that is to take over is still a replica",
    );
    let mut lost = promoted(100);
    lost.replid2 = "0000".into();
    check(
        is_promoted(&identity(), &fenced(100), &lost),
        "abort: the server that is to take over lost the history that it had applied",
    );
    check(
        is_promoted(&identity(), &fenced(100), &promoted(99)),
        "abort: offsets differ after the fence: 100 on the serving server, 99 on the other",
    );
}

#[test]
fn what_changed_while_control_stood_still_is_not_committed() {
    let may = |from, to| may_commit(&identity(), &fenced(100), &from, &to);
    check(may(fenced(100), promoted(114)), "go 114");
    check(
        may(primary(100), promoted(100)),
        "abort: the serving server is not fenced any more",
    );
    let mut restarted = fenced(100);
    restarted.run_id = "run-c".into();
    check(
        may(restarted, promoted(100)),
        "abort: the server that serves the shard was restarted",
    );
    let mut restarted = promoted(100);
    restarted.run_id = "run-d".into();
    check(
        may(fenced(100), restarted),
        "abort: the server that is to take over was restarted",
    );
    check(
        may(fenced(100), replica(100)),
        "abort: the server that is to take over is still a replica",
    );
}
