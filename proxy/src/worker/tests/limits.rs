//! Every limit, reached.

use super::*;
use crate::worker::RefuseReason;

#[test]
fn sessions_max_refuses_with_redis_own_words() {
    let mut bench = Bench::with(
        1,
        WorkerSettings {
            sessions_max: 1,
            ..WorkerSettings::default()
        },
    );
    let refused = bench.worker.open_session(POOL, String::new(), Tick(0));
    assert_eq!(refused, Err(RefuseReason::TooManySessions));
    assert_eq!(
        RefuseReason::TooManySessions.to_string(),
        "ERR max number of clients reached"
    );
}

#[test]
fn frame_max_refuses_what_has_to_be_whole_and_closes() {
    let mut settings = WorkerSettings::default();
    settings.scan.frame_max = 1_000;
    let mut bench = Bench::with(1, settings);
    bench.send_as(bench.client, b"*3\r\n$4\r\nEVAL\r\n$1\r\na\r\n$2000\r\n");
    assert_eq!(
        bench.hear(),
        "-ERR Protocol error: a request may have 1000 bytes\r\n"
    );
    assert_eq!(bench.closed, [(bench.client, CloseReason::FrameTooLarge)]);
}

#[test]
fn a_protocol_error_is_answered_and_closes_after_what_came_before() {
    let mut bench = Bench::new(1);
    bench.send_as(bench.client, b"PING\r\n*1\r\n:1\r\nPING\r\n");
    assert_eq!(
        bench.hear(),
        "+PONG\r\n-ERR Protocol error: expected '$', got ':'\r\n"
    );
    assert_eq!(bench.closed, [(bench.client, CloseReason::Protocol)]);
}

#[test]
fn session_output_max_cuts_a_slow_reader_and_its_replies_are_swallowed() {
    let mut bench = Bench::with(
        1,
        WorkerSettings {
            session_output_max: 100,
            ..WorkerSettings::default()
        },
    );
    bench.say("GET a\nGET b");
    let lane = bench.open();
    bench.written(lane);
    bench.reply(lane, &format!("$200\r\n{}\r\n", "x".repeat(200)));
    assert_eq!(bench.closed, [(bench.client, CloseReason::SlowReader)]);
    bench.reply(lane, "$1\r\nB\r\n");
    let other = bench.other_client();
    assert_eq!(bench.hear_as(other), "");
}

#[test]
fn session_output_pause_makes_commands_wait_until_replies_are_taken() {
    let mut bench = Bench::with(
        1,
        WorkerSettings {
            session_output_pause: 10,
            ..WorkerSettings::default()
        },
    );
    bench.say(&["PING"; 9].join("\n"));
    assert_eq!(bench.hear(), "+PONG\r\n+PONG\r\n");
    for _ in 0..3 {
        assert_eq!(bench.hear(), "+PONG\r\n+PONG\r\n");
    }
    assert_eq!(bench.hear(), "+PONG\r\n");
}

#[test]
fn session_commands_max_waits_for_replies() {
    let mut bench = Bench::with(
        1,
        WorkerSettings {
            session_commands_max: 2,
            ..WorkerSettings::default()
        },
    );
    bench.say("GET 1\nGET 2\nGET 3");
    let lane = bench.open();
    assert_eq!(bench.written(lane), "GET 1\nGET 2");
    bench.reply(lane, "$-1\r\n");
    assert_eq!(bench.written(lane), "GET 3");
}

#[test]
fn lane_queue_max_makes_sessions_wait_until_it_is_written() {
    let mut bench = Bench::with(
        1,
        WorkerSettings {
            lane_queue_max: 20,
            ..WorkerSettings::default()
        },
    );
    bench.say("GET 1");
    let lane = bench.open();
    let other = bench.other_client();
    bench.say_as(other, "GET 2");
    assert_eq!(bench.written(lane), "GET 1");
    assert_eq!(bench.written(lane), "GET 2");
}

#[test]
fn lane_retain_max_gives_up_what_it_can_no_longer_send_again() {
    let mut bench = Bench::with(
        1,
        WorkerSettings {
            lane_retain_max: 10,
            ..WorkerSettings::default()
        },
    );
    bench.say("GET a");
    let lane = bench.open();
    bench.written(lane);
    bench.worker.lane_lost(
        lane,
        crate::worker::LaneLoss::Closed("reset".into()),
        bench.now,
    );
    bench.gather();
    assert!(bench.hear().starts_with("-ERR outcome unknown"));
}

#[test]
fn transaction_bytes_max_breaks_the_transaction() {
    let mut bench = Bench::with(
        1,
        WorkerSettings {
            transaction_bytes_max: 30,
            ..WorkerSettings::default()
        },
    );
    bench.say("MULTI\nSET a 1\nSET b 2\nEXEC");
    let reply = bench.hear();
    assert!(
        reply.contains("-ERR a transaction may have 30 bytes") && reply.contains("-EXECABORT"),
        "{reply}"
    );
}

#[test]
fn held_sessions_max_and_held_bytes_max_open_a_held_gate_again() {
    let sessions = WorkerSettings {
        held_sessions_max: 1,
        ..WorkerSettings::default()
    };
    let bytes = WorkerSettings {
        held_bytes_max: 50,
        ..WorkerSettings::default()
    };
    for settings in [sessions, bytes] {
        let mut bench = Bench::with(1, settings);
        bench.hold(S0, 1);
        bench.say("GET a");
        assert!(bench.dials.is_empty());
        let other = bench.other_client();
        bench.say_as(other, "GET b\nGET c");
        let lane = bench.open();
        assert_eq!(bench.written(lane), "GET a\nGET b\nGET c");
        let Some(Ack::Counters(counters)) = bench.order(Order::Counters) else {
            panic!("no counters")
        };
        let shard = &counters.shards[0];
        assert_eq!(shard.holds_over_sessions + shard.holds_over_bytes, 1);
    }
}

#[test]
fn a_prepared_gate_at_held_bytes_max_stops_reading() {
    let mut bench = Bench::with(
        1,
        WorkerSettings {
            held_bytes_max: 40,
            ..WorkerSettings::default()
        },
    );
    bench.hold(S0, 1);
    bench.prepare(S0, 1);
    assert_eq!(bench.say("GET a"), Took::Continue);
    assert_eq!(bench.say("GET b"), Took::Pause);
    bench.release(S0, 1, 1);
    assert_eq!(bench.resumed, [bench.client]);
}

#[test]
fn a_session_that_waits_is_read_ahead_only_so_far() {
    let mut bench = Bench::new(1);
    bench.hold(S0, 1);
    assert_eq!(bench.say("GET a"), Took::Continue);
    assert_eq!(bench.send_as(bench.client, &[b'x'; 64 << 10]), Took::Pause);
}
