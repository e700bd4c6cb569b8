//! Lanes that die, servers that refuse: each row of the retry matrix as a client sees it.

use super::*;
use crate::worker::LaneLoss;

fn closed() -> LaneLoss {
    LaneLoss::Closed("reset".into())
}

/// One command on an open lane; `sent` says whether it was written.
fn one(line: &str, sent: bool) -> (Bench, LaneId) {
    let mut bench = Bench::new(1);
    bench.say(line);
    let lane = bench.open();
    if sent {
        assert_eq!(bench.written(lane), line);
    }
    (bench, lane)
}

#[test]
fn what_was_not_sent_is_sent_again_on_the_next_lane() {
    for line in ["GET a", "SET a 1", "EVAL x 1 a"] {
        let (mut bench, lane) = one(line, false);
        bench.worker.lane_lost(lane, closed(), bench.now);
        bench.gather();
        let next = bench.open();
        assert_eq!(bench.written(next), line);
        bench.reply(next, ":1\r\n");
        assert_eq!(bench.hear(), ":1\r\n");
    }
}

#[test]
fn half_a_command_was_not_executed() {
    let (mut bench, lane) = one("SET a 1", false);
    let half = bench.worker.lane_output(lane).len() - 1;
    bench.worker.lane_wrote(lane, half, bench.now);
    bench.worker.lane_lost(lane, closed(), bench.now);
    bench.gather();
    let next = bench.open();
    assert_eq!(bench.written(next), "SET a 1");
}

#[test]
fn case_03_a_sent_read_is_sent_again_and_a_sent_write_is_unknown() {
    let (mut bench, lane) = one("GET a", true);
    bench.worker.lane_lost(lane, closed(), bench.now);
    bench.gather();
    let next = bench.open();
    assert_eq!(bench.written(next), "GET a");
    for line in ["SET a 1", "EVAL x 1 a", "INCR a"] {
        let (mut bench, lane) = one(line, true);
        bench.worker.lane_lost(lane, closed(), bench.now);
        bench.gather();
        assert!(bench.hear().starts_with("-ERR outcome unknown"), "{line}");
        assert!(bench.dials.is_empty(), "{line} was sent again");
    }
}

#[test]
fn an_exec_whose_end_was_not_sent_is_sent_again_and_otherwise_unknown() {
    for sent_all in [false, true] {
        let mut bench = Bench::new(1);
        bench.say("MULTI\nINCR a\nEXEC");
        bench.hear();
        let lane = bench.open();
        let bytes = bench.worker.lane_output(lane).len() - usize::from(!sent_all);
        bench.worker.lane_wrote(lane, bytes, bench.now);
        bench.reply(lane, "+OK\r\n");
        bench.worker.lane_lost(lane, closed(), bench.now);
        bench.gather();
        if sent_all {
            assert!(bench.hear().starts_with("-ERR outcome unknown"));
        } else {
            let next = bench.open();
            assert_eq!(bench.written(next), "MULTI\nINCR a\nEXEC");
            bench.reply(next, "+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
            assert_eq!(bench.hear(), "*1\r\n:1\r\n");
        }
    }
}

#[test]
fn case_04_refused_commands_wait_and_are_sent_again_in_order() {
    for (line, reply) in [
        (
            "SET a 1",
            "-READONLY You can't write against a read only replica.\r\n",
        ),
        (
            "GET a",
            "-LOADING Redis is loading the dataset in memory\r\n",
        ),
        (
            "GET a",
            "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        ),
        ("SET a 1", "-CLUSTERDOWN The cluster is down\r\n"),
        (
            "SET a 1",
            "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        ),
        (
            "EVAL x 1 a",
            "-ERR Error running script (call to f_x): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica. \r\n",
        ),
    ] {
        let (mut bench, lane) = one(line, true);
        bench.reply(lane, reply);
        assert_eq!(
            (bench.hear(), bench.written(lane)),
            (String::new(), String::new()),
            "{line}"
        );
        bench.pass(Duration::from_millis(25));
        assert_eq!(bench.written(lane), line);
        bench.reply(lane, "+OK\r\n");
        assert_eq!(bench.hear(), "+OK\r\n");
    }
}

#[test]
fn after_a_while_the_refusal_is_passed_on() {
    let (mut bench, lane) = one("SET a 1", true);
    for _ in 0..100 {
        bench.reply(
            lane,
            "-READONLY You can't write against a read only replica.\r\n",
        );
        bench.pass(Duration::from_millis(200));
        if bench.written(lane).is_empty() {
            break;
        }
    }
    assert_eq!(
        bench.hear(),
        "-READONLY You can't write against a read only replica.\r\n"
    );
}

#[test]
fn case_04_other_errors_are_passed_on_at_once() {
    for reply in [
        "-MOVED 1 h:1\r\n",
        "-ASK 1 h:1\r\n",
        "-OOM no\r\n",
        "-WRONGTYPE no\r\n",
        "-MISCONF no\r\n",
        "-BUSY no\r\n",
    ] {
        let (mut bench, lane) = one("SET a 1", true);
        bench.reply(lane, reply);
        assert_eq!(bench.hear(), reply);
    }
}

#[test]
fn hazard_25_a_refused_transaction_is_done_again_as_a_whole() {
    let readonly = "-READONLY You can't write against a read only replica.\r\n";
    for refused in [
        "+OK\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.\r\n".to_owned(),
        format!("+OK\r\n{readonly}-EXECABORT Transaction discarded because of previous errors.\r\n"),
    ] {
        let mut bench = Bench::new(1);
        bench.say("MULTI\nINCR a\nEXEC\nGET a");
        bench.hear();
        let lane = bench.open();
        bench.written(lane);
        bench.reply(lane, &refused);
        bench.reply(lane, "$1\r\n0\r\n");
        assert_eq!(bench.hear(), "");
        bench.pass(Duration::from_millis(25));
        assert_eq!(bench.written(lane), "MULTI\nINCR a\nEXEC\nGET a");
        bench.reply(lane, "+OK\r\n+QUEUED\r\n*1\r\n:1\r\n$1\r\n1\r\n");
        assert_eq!(bench.hear(), "*1\r\n:1\r\n$1\r\n1\r\n");
    }
}

#[test]
fn hazard_26_a_refused_command_takes_what_is_behind_it_along() {
    let mut bench = Bench::new(1);
    bench.say("GET x\nSET a 2\nGET a");
    let lane = bench.open();
    bench.written(lane);
    bench.reply(
        lane,
        "$1\r\nx\r\n-READONLY You can't write against a read only replica.\r\n$1\r\n1\r\n",
    );
    assert_eq!(bench.hear(), "$1\r\nx\r\n");
    bench.say("PING");
    assert_eq!(bench.hear(), "", "nothing overtakes");
    bench.pass(Duration::from_millis(25));
    assert_eq!(bench.written(lane), "SET a 2\nGET a");
    bench.reply(lane, "+OK\r\n$1\r\n2\r\n");
    assert_eq!(bench.hear(), "+OK\r\n$1\r\n2\r\n+PONG\r\n");
}

#[test]
fn case_17_a_lane_that_does_not_answer_is_closed_and_a_late_reply_reaches_nobody() {
    let (mut bench, lane) = one("INCR a", true);
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.closed_lanes, [lane]);
    assert!(bench.hear().starts_with("-ERR outcome unknown"));
    bench.say("GET a");
    bench.reply(lane, ":1\r\n");
    assert_eq!(bench.hear(), "");
}

#[test]
fn replies_of_a_dead_session_reach_no_newer_one() {
    let (mut bench, lane) = one("GET a", true);
    bench
        .worker
        .client_closed(bench.client, crate::worker::ClientEnd::Gone, bench.now);
    bench.client = bench.other_client();
    bench.say("GET b");
    bench.written(lane);
    bench.reply(lane, "$1\r\nA\r\n$1\r\nB\r\n");
    assert_eq!(bench.hear(), "$1\r\nB\r\n");
}

#[test]
fn a_server_that_cannot_be_reached_is_an_error_after_a_while_and_dials_are_spaced() {
    let mut bench = Bench::new(1);
    bench.say("GET a");
    let mut dials = 0;
    for _ in 0..1_000 {
        if let Some(dial) = bench.dials.pop() {
            dials += 1;
            bench.worker.lane_lost(
                dial.lane,
                LaneLoss::ConnectFailed("connection refused".into()),
                bench.now,
            );
        }
        bench.pass(Duration::from_millis(5));
    }
    assert_eq!(
        bench.hear(),
        "-ERR not executed: the backend is unavailable: connection refused\r\n"
    );
    assert!((5..30).contains(&dials), "{dials} dials");
}

#[test]
fn a_backend_that_speaks_unasked_loses_its_lane() {
    let (mut bench, lane) = one("GET a", true);
    bench.reply(lane, "$-1\r\n:1\r\n");
    assert_eq!(bench.hear(), "$-1\r\n");
    assert_eq!(bench.closed_lanes, [lane]);
    let (mut bench, lane) = one("GET a", true);
    bench.reply(lane, "nonsense\r\n");
    assert_eq!(bench.closed_lanes, [lane]);
}

#[test]
fn case_12_pushes_answer_no_command() {
    let (mut bench, lane) = one("GET a", true);
    bench.reply(lane, ">1\r\n+x\r\n$1\r\nA\r\n>1\r\n+y\r\n");
    assert_eq!(bench.hear(), "$1\r\nA\r\n");
}

#[test]
fn lane_idle_max_closes_a_lane_that_nobody_uses() {
    let (mut bench, lane) = one("GET a", true);
    bench.reply(lane, "$-1\r\n");
    bench.pass(Duration::from_secs(299));
    assert!(bench.closed_lanes.is_empty());
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.closed_lanes, [lane]);
}
