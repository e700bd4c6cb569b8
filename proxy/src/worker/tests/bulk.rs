//! Huge commands and replies: in pieces, on lanes where nobody waits behind them, at one epoch.

use super::*;
use crate::worker::{ClientEnd, LaneLoss};

const THRESHOLD: usize = 1_000;

fn settings() -> WorkerSettings {
    WorkerSettings {
        bulk_threshold: THRESHOLD,
        session_ahead_max: 300,
        session_output_pause: 700,
        client_stall_max: Duration::from_secs(5),
        ..WorkerSettings::default()
    }
}

/// A bench with an open shared lane.
fn warm(shards: usize) -> (Bench, LaneId) {
    let mut bench = Bench::with(shards, settings());
    bench.say(&format!("GET {K0}"));
    let lane = bench.open();
    bench.written(lane);
    bench.reply(lane, "$-1\r\n");
    bench.hear();
    (bench, lane)
}

fn set(key: &str, bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    understudy_resp::encode::command(&mut out, &["SET", key, &"v".repeat(bytes)]);
    out
}

impl Bench {
    /// Bytes that a lane writes now.
    fn raw(&mut self, lane: LaneId) -> Vec<u8> {
        let bytes = self.worker.lane_output(lane).to_vec();
        self.worker.lane_wrote(lane, bytes.len(), self.now);
        self.gather();
        bytes
    }

    /// Sends what the worker takes, as the shell does; gives what it did not take.
    fn upload<'b>(&mut self, bytes: &'b [u8], piece: usize) -> &'b [u8] {
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + piece).min(bytes.len());
            let took = self.send_as(self.client, &bytes[at..end]);
            at = end;
            if took == Took::Pause {
                break;
            }
        }
        &bytes[at..]
    }
}

#[test]
fn a_huge_command_goes_in_pieces_by_a_lane_of_its_own_and_no_neighbour_waits_for_it() {
    let (mut bench, shared) = warm(2);
    let frame = set(K0, 50_000);
    let mut left = bench.upload(&frame, 200);
    let own = bench.open();
    let neighbour = bench.other_client();
    let (mut sent, mut rounds) = (Vec::new(), 0);
    while sent.len() < frame.len() {
        let piece = bench.raw(own);
        assert!(
            piece.len() <= THRESHOLD,
            "what waits in the lane is bounded"
        );
        sent.extend_from_slice(&piece);
        left = bench.upload(left, 200);
        bench.say_as(neighbour, &format!("GET {K0}"));
        assert_eq!(bench.written(shared), format!("GET {K0}"));
        bench.reply(shared, "$1\r\nx\r\n");
        assert_eq!(bench.hear_as(neighbour), "$1\r\nx\r\n");
        rounds += 1;
        assert!(rounds < 1_000, "it stands still");
    }
    assert!(sent == frame && rounds > 40, "{rounds} rounds");
    assert_eq!(bench.hear(), "");
    bench.say(&format!("GET {K0}"));
    assert_eq!(bench.written(shared), "", "behind it nothing goes");
    bench.reply(own, "+OK\r\n");
    assert_eq!(bench.written(shared), format!("GET {K0}"));
    bench.reply(shared, "$1\r\ny\r\n");
    assert_eq!(bench.hear(), "+OK\r\n$1\r\ny\r\n");
}

#[test]
fn what_is_behind_a_huge_command_in_the_same_bytes_is_taken_after_it() {
    let (mut bench, shared) = warm(1);
    let mut frame = set(K0, 1_100);
    understudy_resp::encode::command(&mut frame, &["GET", K0]);
    assert!(bench.upload(&frame, 1_080).is_empty());
    let own = bench.open();
    bench.raw(own);
    bench.raw(own);
    assert_eq!(bench.written(shared), "");
    bench.reply(own, "+OK\r\n");
    assert_eq!(bench.written(shared), format!("GET {K0}"));
}

#[test]
fn a_hold_waits_for_a_stream_and_otherwise_opens_again() {
    let (mut bench, _) = warm(1);
    let frame = set(K0, 3_000);
    bench.upload(&frame[..1_500], 100);
    let own = bench.open();
    bench.raw(own);
    bench.upload(&frame[1_200..1_300], 100);
    assert!(bench.hold(S0, 1).is_none(), "not drained");
    bench.pass(Duration::from_millis(200));
    let (_, ack) = bench.acks.pop().unwrap();
    let Ack::Refused(refused) = ack else {
        panic!("{ack:?}")
    };
    assert_eq!(
        refused.to_string(),
        "NOTHELD worker 0 in flight 1: a command of client 1 (peer) is not sent to its end after 200 ms"
    );
    assert!(bench.closed_lanes.is_empty(), "the stream goes on");

    let (mut bench, _) = warm(1);
    let mut left = bench.upload(&frame, 100);
    let own = bench.open();
    bench.raw(own);
    left = bench.upload(left, 100);
    assert!(bench.hold(S0, 1).is_none(), "not drained");
    while !left.is_empty() || !bench.worker.lane_output(own).is_empty() {
        bench.raw(own);
        left = bench.upload(left, 100);
    }
    bench.reply(own, "+OK\r\n");
    assert!(
        matches!(bench.acks.pop(), Some((_, Ack::Gate(_)))),
        "drained"
    );
    assert_eq!(bench.hear(), "+OK\r\n");
}

#[test]
fn what_of_a_huge_command_is_kept_as_a_whole_is_taken_back_by_a_hold_and_sent_to_the_next_server() {
    let (mut bench, _) = warm(1);
    let frame = set(K0, 3_000);
    bench.upload(&frame[..100], 100);
    let own = bench.open();
    assert!(!bench.raw(own).is_empty());
    assert!(bench.hold(S0, 1).is_some(), "nothing is in flight");
    assert_eq!(bench.closed_lanes, [own]);
    bench.prepare(S0, 1);
    bench.switch(S0, 1);
    let mut lanes: Vec<LaneId> = bench.dials.drain(..).map(|dial| dial.lane).collect();
    lanes.iter().for_each(|lane| {
        bench.worker.lane_opened(*lane, Some(9), bench.now);
    });
    bench.release(S0, 2, 1);
    let (mut left, mut sent) = (&frame[100..], Vec::new());
    while sent.len() < frame.len() {
        left = bench.upload(left, 100);
        lanes.retain(|lane| !bench.closed_lanes.contains(lane));
        sent.extend(lanes.clone().into_iter().flat_map(|lane| bench.raw(lane)));
    }
    assert!(sent == frame);
}

#[test]
fn a_stream_whose_lane_dies_was_not_executed_and_the_rest_of_it_is_passed_over() {
    let (mut bench, shared) = warm(1);
    let frame = set(K0, 5_000);
    let mut left = bench.upload(&frame, 100);
    let own = bench.open();
    bench.raw(own);
    left = bench.upload(left, 100);
    bench
        .worker
        .lane_lost(own, LaneLoss::Closed("reset".into()), bench.now);
    bench.gather();
    assert_eq!(
        bench.hear(),
        "-ERR not executed: the backend is unavailable: reset\r\n"
    );
    assert!(bench.upload(left, 100).is_empty(), "it is all taken");
    bench.say(&format!("GET {K0}"));
    assert_eq!(bench.written(shared), format!("GET {K0}"));
    assert!(bench.dials.is_empty(), "it is not sent again");
}

#[test]
fn a_stream_that_was_sent_as_a_whole_has_an_unknown_outcome() {
    let (mut bench, _) = warm(1);
    let frame = set(K0, 1_500);
    let left = bench.upload(&frame, 100);
    let own = bench.open();
    bench.raw(own);
    bench.upload(left, 100);
    bench.raw(own);
    bench.upload(&[], 1);
    bench.raw(own);
    bench
        .worker
        .lane_lost(own, LaneLoss::Closed("reset".into()), bench.now);
    bench.gather();
    assert!(bench.hear().starts_with("-ERR outcome unknown"));
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_stream_takes_its_lane_with_it() {
    for how in [ClientEnd::Gone, ClientEnd::ReadClosed] {
        let (mut bench, _) = warm(1);
        bench.upload(&set(K0, 5_000)[..1_200], 100);
        let own = bench.open();
        bench.raw(own);
        bench.raw(own);
        bench.worker.client_closed(bench.client, how, bench.now);
        bench.gather();
        assert_eq!(bench.closed_lanes, [own]);
        assert!(bench.hold(S0, 1).is_some(), "nothing is in flight");
    }
}

#[test]
fn a_stream_that_is_no_command_any_more_ends_its_session_and_its_lane() {
    let (mut bench, _) = warm(1);
    let mut frame = set(K0, 1_100);
    let end = frame.len() - 2;
    frame[end..].copy_from_slice(b"xx");
    let left = bench.upload(&frame, 100);
    let own = bench.open();
    let mut sent = bench.raw(own);
    bench.upload(left, 100);
    sent.extend(bench.raw(own));
    assert_eq!(
        bench.hear(),
        "-ERR Protocol error: expected CRLF\r\n",
        "Redis would take any two bytes for the end"
    );
    assert!(sent.len() <= end, "the last bytes never left us");
    assert_eq!(bench.closed, [(bench.client, CloseReason::Protocol)]);
    assert!(bench.closed_lanes.contains(&own));
}

#[test]
fn a_server_that_has_had_enough_is_heard_and_the_session_lives() {
    let (mut bench, shared) = warm(1);
    let frame = set(K0, 5_000);
    let left = bench.upload(&frame, 100);
    let own = bench.open();
    bench.raw(own);
    bench.reply(own, "-ERR Protocol error: invalid bulk length\r\n");
    assert_eq!(bench.hear(), "-ERR Protocol error: invalid bulk length\r\n");
    assert_eq!(bench.closed_lanes, [own]);
    bench.upload(left, 100);
    bench.say(&format!("GET {K0}"));
    assert_eq!(bench.written(shared), format!("GET {K0}"));
}

#[test]
fn what_has_to_be_whole_goes_by_the_own_lane_too_and_can_be_sent_again() {
    let (mut bench, shared) = warm(2);
    let mut frame = Vec::new();
    let value = "v".repeat(2_500);
    understudy_resp::encode::command(&mut frame, &["EVAL", "return 1", "1", K0, &value]);
    assert!(bench.upload(&frame, 300).is_empty());
    assert_eq!(bench.written(shared), "");
    let own = bench.open();
    let mut sent = Vec::new();
    (0..4).for_each(|_| sent.extend(bench.raw(own)));
    assert!(sent == frame);
    bench.reply(own, "-LOADING Redis is loading the dataset in memory\r\n");
    assert_eq!(bench.hear(), "");
    bench.pass(Duration::from_millis(30));
    sent.clear();
    (0..4).for_each(|_| sent.extend(bench.raw(own)));
    assert!(sent == frame, "it was refused, so it goes again");
    bench.reply(own, ":1\r\n");
    assert_eq!(bench.hear(), ":1\r\n");

    bench.say("MULTI");
    for _ in 0..3 {
        bench.say(&format!("SET {K0} {}", "v".repeat(400)));
    }
    bench.hear();
    bench.say("EXEC");
    assert_eq!(bench.written(shared), "");
    sent.clear();
    (0..4).for_each(|_| sent.extend(bench.raw(own)));
    assert!(sent.starts_with(b"*1\r\n$5\r\nMULTI\r\n") && sent.ends_with(b"$4\r\nEXEC\r\n"));
    bench.reply(
        own,
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n+OK\r\n+OK\r\n",
    );
    assert_eq!(bench.hear(), "*3\r\n+OK\r\n+OK\r\n+OK\r\n");
}

#[test]
fn a_huge_reply_goes_in_pieces_and_new_commands_by_another_lane() {
    let (mut bench, first) = warm(1);
    let neighbour = bench.other_client();
    bench.say(&format!("GET {K0}"));
    bench.say_as(neighbour, "GET behind");
    bench.written(first);
    bench.reply(first, "$5000\r\nabc");
    assert_eq!(bench.hear(), "$5000\r\nabc");
    bench.say_as(neighbour, "GET later");
    assert_eq!(
        bench.written(first),
        "",
        "it has a command on the first lane"
    );
    let third = bench.other_client();
    bench.say_as(third, "GET fresh");
    let second = bench.open();
    assert_eq!(bench.written(second), "GET fresh");
    bench.reply(second, "$1\r\nf\r\n");
    assert_eq!(bench.hear_as(third), "$1\r\nf\r\n");
    bench.reply(first, &format!("{}\r\n$1\r\nb\r\n", "d".repeat(4_997)));
    assert_eq!(bench.hear(), format!("{}\r\n", "d".repeat(4_997)));
    assert_eq!(bench.hear_as(neighbour), "$1\r\nb\r\n");
    assert_eq!(bench.written(second), "GET later", "in its order");
    bench.reply(second, "$1\r\nl\r\n");

    // The next huge reply finds the first lane again, and nobody dials.
    bench.say(&format!("GET {K0}"));
    bench.written(second);
    bench.reply(second, "*2\r\n$1\r\nx\r\n$4000\r\n");
    bench.say_as(third, "GET fresh");
    assert_eq!(bench.written(first), "GET fresh");
    assert!(bench.dials.is_empty() && bench.closed_lanes.is_empty());
    bench.reply(second, &format!("{}\r\n", "e".repeat(4_000)));
    assert_eq!(
        bench.hear().len(),
        "*2\r\n$1\r\nx\r\n$4000\r\n".len() + 4_002
    );
}

#[test]
fn a_huge_reply_behind_another_shard_waits_in_its_run() {
    let mut bench = Bench::with(2, settings());
    bench.say(&format!("GET {K0}\nGET {K1}"));
    let lanes = [bench.open(), bench.open()];
    let of = |bench: &mut Bench, key: &str| {
        lanes
            .into_iter()
            .find(|lane| {
                String::from_utf8_lossy(bench.worker.lane_output(*lane))
                    .contains(&format!("\r\n{key}\r\n"))
            })
            .unwrap()
    };
    let (slow, huge) = (of(&mut bench, K0), of(&mut bench, K1));
    bench.written(slow);
    bench.written(huge);
    bench.reply(huge, "$2000\r\nab");
    bench.reply(huge, "cd");
    assert_eq!(bench.hear(), "");
    bench.reply(slow, "$1\r\nx\r\n");
    assert_eq!(bench.hear(), "$1\r\nx\r\n$2000\r\nabcd");
    bench.reply(huge, &format!("{}\r\n", "e".repeat(1_996)));
    assert_eq!(bench.hear().len(), 1_998);
}

#[test]
fn a_client_that_does_not_read_stops_its_lane_and_nobody_else() {
    let (mut bench, lane) = warm(1);
    bench.say(&format!("GET {K0}"));
    bench.written(lane);
    let took = bench.worker.backend_bytes(lane, b"$5000\r\n", bench.now);
    assert_eq!(took, Took::Continue);
    let piece = [b'x'; 500];
    let mut took = Vec::new();
    for _ in 0..2 {
        took.push(bench.worker.backend_bytes(lane, &piece, bench.now));
        bench.gather();
    }
    assert_eq!(took, [Took::Continue, Took::Pause]);
    bench.worker.settings.client_stall_max = Duration::from_secs(100);
    bench.pass(Duration::from_secs(60));
    assert!(
        bench.closed.is_empty(),
        "the server is not overdue: its client is slow"
    );
    let neighbour = bench.other_client();
    bench.say_as(neighbour, "GET fresh");
    let second = bench.open();
    bench.written(second);
    bench.reply(second, "$1\r\nf\r\n");
    assert_eq!(bench.hear_as(neighbour), "$1\r\nf\r\n");
    bench.worker.session_wrote(bench.client, 800, bench.now);
    bench.worker.take_dirty(&mut bench.dirty);
    assert_eq!(bench.dirty.resume_lanes, [lane]);
}

#[test]
fn a_lane_that_dies_in_the_middle_of_a_reply_closes_who_has_seen_a_part_of_it() {
    let (mut bench, lane) = warm(1);
    let neighbour = bench.other_client();
    bench.say(&format!("GET {K0}"));
    bench.say_as(neighbour, "GET behind");
    bench.written(lane);
    bench.reply(lane, "$5000\r\nabc");
    bench
        .worker
        .lane_lost(lane, LaneLoss::Closed("reset".into()), bench.now);
    bench.gather();
    assert_eq!(bench.closed, [(bench.client, CloseReason::BackendProtocol)]);
    let next = bench.open();
    assert_eq!(bench.written(next), "GET behind", "a read goes again");
}

#[test]
fn the_reply_to_a_huge_command_may_be_huge_itself() {
    let (mut bench, _) = warm(1);
    let mut frame = Vec::new();
    let value = "v".repeat(1_500);
    understudy_resp::encode::command(&mut frame, &["GETSET", K0, &value]);
    let left = bench.upload(&frame, 100);
    let own = bench.open();
    bench.raw(own);
    bench.upload(left, 100);
    (0..3).for_each(|_| drop(bench.raw(own)));
    bench.reply(own, "$2000\r\n-ab");
    assert_eq!(bench.hear(), "$2000\r\n-ab");
    bench.reply(own, &format!("{}\r\n", "-".repeat(1_997)));
    assert_eq!(bench.hear().len(), 1_999);
    bench.check("PING", "+PONG\r\n");
}

#[test]
fn many_small_values_in_one_reply_go_in_pieces_too() {
    let (mut bench, lane) = warm(1);
    bench.say("LRANGE l 0 -1\nPING");
    bench.written(lane);
    let reply = format!("*500\r\n{}", "$3\r\nabc\r\n".repeat(500));
    let (mut heard, mut at) = (String::new(), 0);
    while at < reply.len() {
        let end = (at + 61).min(reply.len());
        bench.reply(lane, &reply[at..end]);
        heard.push_str(&bench.hear());
        at = end;
    }
    assert_eq!(heard, format!("{reply}+PONG\r\n"));
    assert_eq!(bench.worker.counters.replies_streamed, 1);
}

#[test]
fn a_client_that_takes_nothing_for_too_long_keeps_no_hold_waiting() {
    let mut bench = Bench::with(
        1,
        WorkerSettings {
            session_output_max: 3_000,
            client_stall_max: Duration::from_secs(1),
            ..settings()
        },
    );
    bench.say(&format!("GET {K0}"));
    let lane = bench.open();
    bench.written(lane);
    bench.reply(lane, &format!("$9000\r\n{}", "x".repeat(1_500)));
    assert!(bench.hold(S0, 1).is_none(), "not drained");
    bench.pass(Duration::from_millis(1_100));
    bench.worker.take_dirty(&mut bench.dirty);
    let piece = [b'x'; 500];
    let mut took = Vec::new();
    for _ in 0..4 {
        took.push(bench.worker.backend_bytes(lane, &piece, bench.now));
        bench.gather();
    }
    assert_eq!(took, [Took::Continue; 4]);
    assert_eq!(bench.closed, [(bench.client, CloseReason::SlowReader)]);
}

#[test]
fn a_client_that_stops_in_the_middle_of_a_command_keeps_no_hold_waiting() {
    let (mut bench, shared) = warm(1);
    let frame = set(K0, 5_000);
    let left = bench.upload(&frame, 100);
    let own = bench.open();
    bench.raw(own);
    let rest = &left[100..];
    bench.upload(&left[..100], 100);
    bench.raw(own);
    assert!(bench.hold(S0, 1).is_none(), "it has just sent something");
    bench.pass(Duration::from_secs(6));
    assert!(matches!(bench.acks.pop(), Some((_, Ack::Refused(_)))));
    assert!(bench.hold(S0, 2).is_some(), "nothing is in flight");
    assert!(bench.hear().starts_with("-ERR not executed"));
    assert_eq!(bench.closed_lanes, [own]);
    bench.release(S0, 1, 2);
    bench.upload(rest, 100);
    bench.say(&format!("GET {K0}"));
    assert_eq!(bench.written(shared), format!("GET {K0}"));
}
