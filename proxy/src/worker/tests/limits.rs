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
fn frame_max_refuses_and_closes() {
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

#[test]
fn databases_is_how_far_select_goes() {
    let settings = WorkerSettings {
        databases: 2,
        ..WorkerSettings::default()
    };
    let mut bench = Bench::with(1, settings);
    bench.check(
        "SELECT 1\nSELECT 2",
        "+OK\r\n-ERR DB index is out of range\r\n",
    );
}

#[test]
fn args_max_bulk_max_and_inline_max_refuse_and_close() {
    for (bytes, error) in [
        (
            "*3\r\n$3\r\nGET\r\n",
            "-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            "*2\r\n$11\r\n",
            "-ERR Protocol error: invalid bulk length\r\n",
        ),
        (
            "PING 0123456789012345",
            "-ERR Protocol error: too big inline request\r\n",
        ),
    ] {
        let mut settings = WorkerSettings::default();
        settings.scan.args_max = 2;
        settings.scan.bulk_max = 10;
        settings.scan.inline_max = 16;
        let mut bench = Bench::with(1, settings);
        bench.check("PING 0123456789", "$10\r\n0123456789\r\n");
        bench.send_as(bench.client, bytes.as_bytes());
        assert_eq!(bench.hear(), error);
        assert_eq!(bench.closed, [(bench.client, CloseReason::Protocol)]);
    }
}

#[test]
fn reply_depth_max_closes_the_lane() {
    let mut settings = WorkerSettings::default();
    settings.scan.depth_max = 2;
    let mut bench = Bench::with(1, settings);
    bench.say("EVAL deep 1 a");
    let lane = bench.open();
    bench.written(lane);
    bench.reply(lane, "*1\r\n*1\r\n:1\r\n");
    assert_eq!(bench.hear(), "*1\r\n*1\r\n:1\r\n");
    bench.say("EVAL deeper 1 a");
    bench.written(lane);
    bench.reply(lane, "*1\r\n*1\r\n*1\r\n:1\r\n");
    assert_eq!(bench.closed_lanes, [lane]);
    assert!(bench.hear().starts_with("-ERR "), "the lane is broken");
}

#[test]
fn retry_max_and_retry_wait_say_how_often_a_refused_command_is_tried() {
    let settings = WorkerSettings {
        retry_max: Duration::from_millis(500),
        retry_wait: Duration::from_millis(10),
        ..WorkerSettings::default()
    };
    let mut bench = Bench::with(1, settings);
    bench.say("SET a 1");
    let lane = bench.open();
    bench.written(lane);
    let readonly = "-READONLY You can't write against a read only replica.\r\n";
    let (mut waits, mut waited_ms) = (Vec::new(), 0);
    bench.reply(lane, readonly);
    while waited_ms < 1_000 {
        bench.pass(Duration::from_millis(1));
        waited_ms += 1;
        if !bench.written(lane).is_empty() {
            waits.push(std::mem::take(&mut waited_ms));
            bench.reply(lane, readonly);
        }
    }
    assert_eq!(
        waits[..4],
        [10, 20, 40, 80],
        "it doubles, up to eight times retry_wait"
    );
    assert!(waits[4..].iter().all(|wait| *wait == 80), "{waits:?}");
    let tried: u64 = waits.iter().sum();
    assert!(
        (500..580).contains(&tried),
        "a refusal behind retry_max is the last word: {waits:?}"
    );
    assert_eq!(bench.hear(), readonly);
}
