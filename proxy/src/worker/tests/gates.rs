//! Gates as sessions and control see them.

use super::*;
use crate::worker::{ClientEnd, GateError, GatePosition, GateStatus, HeldAfterHalfClose, Lease};

#[track_caller]
fn gate(ack: Option<Ack>) -> GateStatus {
    match ack {
        Some(Ack::Gate(status)) => status,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(ack: Option<Ack>) -> GateError {
    match ack {
        Some(Ack::Refused(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A bench with one open lane and nothing in flight.
fn warm() -> (Bench, LaneId) {
    let mut bench = Bench::new(1);
    bench.say("GET a");
    let lane = bench.open();
    bench.written(lane);
    bench.reply(lane, "$-1\r\n");
    bench.hear();
    (bench, lane)
}

#[test]
fn case_02_a_pipeline_across_a_switch_keeps_its_order() {
    let (mut bench, lane) = warm();
    bench.say("INCR a");
    assert!(bench.hold(S0, 1).is_none(), "not drained");
    bench.say("INCR a\nPING\nINCR a");
    assert_eq!(bench.written(lane), "INCR a");
    assert!(
        refused(bench.prepare(S0, 1))
            .to_string()
            .ends_with("it is not drained")
    );
    bench.pass(Duration::from_millis(3));
    bench.reply(lane, ":1\r\n");
    let status = gate(bench.acks.pop().map(|ack| ack.1));
    assert_eq!(
        (
            status.state,
            status.in_flight,
            status.held_sessions,
            status.waited_us
        ),
        (GatePosition::Held, 0, 1, 3_000)
    );
    assert_eq!(gate(bench.prepare(S0, 1)).state, GatePosition::Prepared);
    bench.pass(Duration::from_secs(1));
    assert_eq!(gate(bench.switch(S0, 1)).epoch, 2);
    assert_eq!(
        bench.dials.last().map(|dial| dial.backend.url.as_str()),
        Some("redis://new"),
        "dialled before the release"
    );
    let next = bench.open();
    assert_eq!(
        (bench.hear(), bench.written(next)),
        (":1\r\n".into(), String::new()),
        "switched is still held"
    );
    assert_eq!(gate(bench.release(S0, 2, 1)).state, GatePosition::Open);
    assert_eq!(bench.closed_lanes, [lane]);
    assert_eq!(bench.written(next), "INCR a\nINCR a");
    bench.reply(next, ":2\r\n:3\r\n");
    assert_eq!(bench.hear(), ":2\r\n+PONG\r\n:3\r\n");
    let status = gate(bench.order(Order::Gate {
        pool: POOL,
        shard: S0,
    }));
    assert_eq!(
        status.longest_gap_us, 1_003_000,
        "counted from the moment it was held"
    );
}

#[test]
fn a_hold_that_did_not_drain_names_the_oldest_command_and_its_client() {
    let said = |bench: &mut Bench, term| {
        assert!(bench.hold(S0, term).is_none());
        bench.pass(Duration::from_millis(100));
        refused(bench.acks.pop().map(|ack| ack.1)).to_string()
    };
    let (mut bench, lane) = warm();
    let other = bench.other_client();
    bench.say("INCR a\nSET a 1\nGET a");
    bench.written(lane);
    bench.pass(Duration::from_millis(50));
    bench.say_as(other, "EVAL x 1 a");
    // What is answered is not waited for.
    bench.reply(lane, ":1\r\n");
    assert_eq!(
        said(&mut bench, 1),
        "NOTHELD worker 0 in flight 3: SET of client 1 (peer) is not answered after 150 ms"
    );
    bench.reply(lane, "+OK\r\n$1\r\n1\r\n");
    assert_eq!(
        said(&mut bench, 2),
        "NOTHELD worker 0 in flight 1: EVAL of client 2 (peer) is not answered after 200 ms"
    );
    bench
        .worker
        .client_closed(other, ClientEnd::Gone, bench.now);
    bench.gather();
    assert_eq!(
        said(&mut bench, 3),
        "NOTHELD worker 0 in flight 1: EVAL of a client that is gone is not answered after 300 ms"
    );
}

#[test]
fn a_lease_that_ends_opens_the_gate_and_says_what_was_in_flight() {
    let (mut bench, lane) = warm();
    bench.say("INCR a");
    assert!(bench.hold(S0, 1).is_none());
    bench.say("GET b");
    bench.pass(Duration::from_millis(100));
    let error = refused(bench.acks.pop().map(|ack| ack.1));
    assert_eq!(
        error.to_string(),
        "NOTHELD worker 0 in flight 1: INCR of client 1 (peer) is not answered after 100 ms"
    );
    assert_eq!(bench.written(lane), "INCR a\nGET b");
    assert!(matches!(
        refused(bench.prepare(S0, 1)),
        GateError::NotHeld { .. }
    ));
}

#[test]
fn an_abort_sends_held_commands_to_the_old_server() {
    let (mut bench, lane) = warm();
    gate(bench.hold(S0, 1));
    bench.say("SET a 1");
    gate(bench.prepare(S0, 1));
    assert!(matches!(refused(bench.hold(S0, 2)), GateError::Busy { .. }));
    gate(bench.release(S0, 1, 1));
    assert_eq!(bench.written(lane), "SET a 1");
    assert!(
        matches!(refused(bench.hold(S0, 1)), GateError::NotHeld { .. }),
        "the attempt is over"
    );
}

#[test]
fn a_prepared_gate_that_waits_too_long_answers_and_never_opens() {
    let settings = WorkerSettings {
        prepared_max: Duration::from_secs(1),
        ..WorkerSettings::default()
    };
    let mut bench = Bench::with(1, settings);
    gate(bench.hold(S0, 1));
    gate(bench.prepare(S0, 1));
    bench.say("SET a 1\nPING");
    bench.pass(Duration::from_millis(999));
    assert_eq!(bench.hear(), "");
    bench.pass(Duration::from_millis(1));
    let held = "-ERR not executed: this shard is being moved to another server and that takes too long; try again\r\n";
    assert_eq!(bench.hear(), format!("{held}+PONG\r\n"));
    bench.check("GET b", held);
    bench.check("MULTI\nSET a 1\nEXEC", &format!("+OK\r\n+QUEUED\r\n{held}"));
    assert!(bench.dials.is_empty());
    gate(bench.release(S0, 1, 1));
    bench.say("GET b");
    let lane = bench.open();
    assert_eq!(bench.written(lane), "GET b");
}

#[test]
fn case_22_a_client_that_goes_takes_its_held_commands_with_it() {
    for end in [ClientEnd::Gone, ClientEnd::ReadClosed] {
        let (mut bench, lane) = warm();
        gate(bench.hold(S0, 1));
        bench.say("INCR a");
        bench.worker.client_closed(bench.client, end, bench.now);
        bench.gather();
        gate(bench.release(S0, 1, 1));
        assert_eq!(bench.written(lane), "", "{end:?}");
    }
    let settings = WorkerSettings {
        held_after_half_close: HeldAfterHalfClose::Serve,
        ..WorkerSettings::default()
    };
    let mut bench = Bench::with(1, settings);
    gate(bench.hold(S0, 1));
    bench.say("INCR a");
    bench
        .worker
        .client_closed(bench.client, ClientEnd::ReadClosed, bench.now);
    gate(bench.release(S0, 1, 1));
    let lane = bench.open();
    bench.written(lane);
    bench.reply(lane, ":1\r\n");
    assert_eq!((bench.hear().as_str(), bench.closed.len()), (":1\r\n", 1));
}

#[test]
fn case_05_an_open_multi_is_not_torn_by_a_switch() {
    let (mut bench, _) = warm();
    bench.check("MULTI\nSET a 1", "+OK\r\n+QUEUED\r\n");
    gate(bench.hold(S0, 1));
    bench.check("SET b 2", "+QUEUED\r\n");
    bench.say("EXEC");
    gate(bench.prepare(S0, 1));
    gate(bench.switch(S0, 1));
    let next = bench.open();
    assert_eq!(bench.written(next), "");
    gate(bench.release(S0, 2, 1));
    assert_eq!(bench.written(next), "MULTI\nSET a 1\nSET b 2\nEXEC");
}

#[test]
fn case_28_a_split_command_starts_only_when_all_its_gates_are_open() {
    let mut bench = Bench::new(2);
    gate(bench.hold(S1, 1));
    bench.say(&format!("MGET {K0} {K1}\nGET {K0}"));
    let first = bench
        .dials
        .iter()
        .find(|dial| dial.backend.shard.1 == S0)
        .map(|dial| dial.lane);
    assert!(first.is_none_or(|lane| bench.worker.lane_output(lane).is_empty()));
    let other = bench.other_client();
    bench.say_as(other, &format!("GET {K0}"));
    let lane = bench.open();
    assert_eq!(
        bench.written(lane),
        format!("GET {K0}"),
        "the other shard goes on"
    );
    gate(bench.release(S1, 1, 1));
    assert_eq!(bench.written(lane), format!("MGET {K0}\nGET {K0}"));
}

#[test]
fn case_23_held_sessions_go_on_in_order_some_each_turn() {
    let settings = WorkerSettings {
        released_per_turn: 2,
        ..WorkerSettings::default()
    };
    let mut bench = Bench::with(1, settings);
    gate(bench.hold(S0, 1));
    for number in 0..5 {
        let client = bench.other_client();
        bench.say_as(client, &format!("GET {number}"));
    }
    gate(bench.release(S0, 1, 1));
    let lane = bench.open();
    assert_eq!(bench.written(lane), "GET 0\nGET 1");
    assert!(
        bench
            .worker
            .next_deadline()
            .is_some_and(|deadline| deadline <= bench.now),
        "the rest wants a turn"
    );
    bench.pass(Duration::ZERO);
    bench.pass(Duration::ZERO);
    assert_eq!(bench.written(lane), "GET 2\nGET 3\nGET 4");
}

#[test]
fn refused_commands_do_not_keep_a_hold_from_draining_and_go_to_the_new_server() {
    let (mut bench, lane) = warm();
    bench.say("SET a 1\nGET a");
    bench.written(lane);
    bench.reply(
        lane,
        "-READONLY You can't write against a read only replica.\r\n$1\r\n0\r\n",
    );
    let status = gate(bench.hold(S0, 1));
    assert_eq!((status.in_flight, status.held_sessions), (0, 1));
    bench.pass(Duration::from_millis(50));
    assert_eq!(bench.written(lane), "");
    gate(bench.prepare(S0, 1));
    gate(bench.switch(S0, 1));
    let next = bench.open();
    gate(bench.release(S0, 2, 1));
    assert_eq!(bench.written(next), "SET a 1\nGET a");
    bench.reply(next, "+OK\r\n$1\r\n1\r\n");
    assert_eq!(bench.hear(), "+OK\r\n$1\r\n1\r\n");
}

#[test]
fn case_13_a_scan_that_meets_a_new_server_starts_its_shard_again() {
    let (mut bench, lane) = warm();
    bench.say("SCAN 0");
    bench.written(lane);
    bench.reply(lane, "*2\r\n$2\r\n88\r\n*0\r\n");
    let reply = bench.hear();
    let cursor = reply.split("\r\n").nth(2).unwrap().to_owned();
    gate(bench.hold(S0, 1));
    gate(bench.prepare(S0, 1));
    gate(bench.switch(S0, 1));
    let next = bench.open();
    gate(bench.release(S0, 2, 1));
    bench.say(&format!("SCAN {cursor}"));
    assert_eq!(bench.written(next), "SCAN 0");
}

#[test]
fn a_restored_gate_holds_from_the_first_command() {
    let mut bench = Bench::new(1);
    gate(bench.order(Order::Restore {
        pool: POOL,
        shard: S0,
        epoch: 1,
        term: 4,
    }));
    bench.say("GET a");
    assert!(bench.dials.is_empty());
    gate(bench.switch(S0, 4));
    gate(bench.release(S0, 2, 4));
    assert_eq!(bench.dials.last().map(|dial| dial.backend.epoch), Some(2));
}

#[test]
fn hazard_14_a_shard_whose_lease_lapses_parks_its_clients_and_never_asks_the_old_server() {
    let settings = WorkerSettings {
        prepared_max: Duration::from_secs(1),
        ..WorkerSettings::default()
    };
    let mut bench = Bench::with(1, settings);
    bench.say("GET a");
    let lane = bench.open();
    bench.reply(lane, "$1\r\n1\r\n");
    assert_eq!(bench.hear(), "$1\r\n1\r\n");
    bench.written(lane);
    let lease = |epoch, term, lease| Order::Lease {
        pool: POOL,
        shard: S0,
        epoch: Some(epoch),
        term,
        lease,
        left: Duration::from_millis(300),
    };
    assert_eq!(
        gate(bench.order(lease(1, 5, Lease::Armed))).state,
        GatePosition::Open
    );
    bench.say("GET a");
    assert_eq!(bench.written(lane), "GET a");
    bench.pass(Duration::from_millis(300));
    // What is on its way is still answered; what comes now is not sent.
    bench.say("GET a");
    bench.reply(lane, "$1\r\n1\r\n");
    assert_eq!(
        (bench.hear(), bench.written(lane)),
        ("$1\r\n1\r\n".into(), String::new())
    );
    let late = refused(bench.release(S0, 1, 5));
    assert!(matches!(late, GateError::NoLease { .. }));
    bench.pass(Duration::from_secs(1));
    assert!(bench.hear().starts_with("-ERR not executed"));
    // The shard has moved meanwhile: it goes along, and opens there.
    assert_eq!(
        gate(bench.order(lease(2, 9, Lease::Over))).state,
        GatePosition::Lapsed
    );
    assert_eq!(gate(bench.switch(S0, 9)).state, GatePosition::Switched);
    let next = bench.open();
    assert_eq!(gate(bench.release(S0, 2, 9)).state, GatePosition::Open);
    bench.say("GET a");
    bench.reply(next, "$1\r\n2\r\n");
    assert!(bench.hear().ends_with("$1\r\n2\r\n"));
}
