//! Whose turn it is, and whose time runs, when somebody else goes or stands still.
use super::*;
use crate::worker::{ClientEnd, GateError, LaneLoss};

fn shared(bench: &mut Bench) -> LaneId {
    let client = bench.other_client();
    bench.say_as(client, "GET warm");
    let lane = bench.open();
    bench.written(lane);
    bench.reply(lane, "$-1\r\n");
    bench.hear_as(client);
    lane
}

const UNBLOCKED: &str = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:0\r\n:1\r\n";

/// The second waits in the room behind the first, whose lane is being dialled when its client leaves.
#[test]
fn a_waiter_is_not_forgotten_when_the_one_before_it_leaves() {
    let mut bench = Bench::new(1);
    let lane = shared(&mut bench);
    let mut clients = Vec::new();
    for _ in 0..2 {
        let client = bench.other_client();
        bench.say_as(client, "BLPOP k 0");
        let own = bench.open();
        bench.written(own);
        clients.push((client, own));
    }
    assert!(bench.hold(S0, 1).is_none());
    bench.written(lane);
    for (_, own) in &clients {
        bench.reply(*own, "*-1\r\n");
    }
    bench.reply(lane, &UNBLOCKED.repeat(2));
    bench.acks.clear();
    bench.prepare(S0, 1).unwrap();
    bench.switch(S0, 1).unwrap();
    let dials: Vec<Dial> = bench.dials.drain(..).filter(|dial| dial.own).collect();
    assert_eq!(dials.len(), 2);
    bench.release(S0, 2, 1).unwrap();
    let second = dials[1].lane;
    bench.worker.lane_opened(second, Some(1), bench.now);
    bench.gather();
    assert_eq!(bench.written(second), "", "its turn comes behind the first");
    bench
        .worker
        .client_closed(clients[0].0, ClientEnd::ReadClosed, bench.now);
    bench.gather();
    bench
        .worker
        .client_closed(clients[0].0, ClientEnd::Gone, bench.now);
    bench.gather();
    assert!(bench.closed_lanes.contains(&dials[0].lane));
    for _ in 0..100 {
        bench.pass(Duration::from_secs(60));
    }
    assert_eq!(bench.written(second), "BLPOP k 0");
}

#[test]
fn a_server_that_stops_in_a_huge_reply_to_a_blocked_command_is_given_up() {
    let settings = WorkerSettings {
        bulk_threshold: 1000,
        ..WorkerSettings::default()
    };
    let mut bench = Bench::with(1, settings);
    bench.say("BLPOP k 0");
    let own = bench.open();
    assert_eq!(bench.written(own), "BLPOP k 0");
    bench.reply(
        own,
        &format!("*2\r\n$1\r\nk\r\n$100000\r\n{}", "x".repeat(5000)),
    );
    bench.hear();
    assert!(
        bench.worker.next_deadline().is_some(),
        "somebody looks again"
    );
    for _ in 0..10 {
        bench.pass(Duration::from_secs(10));
    }
    assert!(
        bench.closed_lanes.contains(&own),
        "the server has had its time"
    );
}

/// A hold that does not drain waits for the script; the client that has blocked for an hour is in flight, too.
#[test]
fn a_blocked_client_is_not_what_a_hold_waits_for() {
    let mut routes = pool("main", &["s0"], Vec::new());
    routes.timeout = None;
    let mut bench = Bench::over(WorkerSettings::default(), table(vec![routes]));
    let lane = shared(&mut bench);
    let blocked = bench.other_client();
    bench.say_as(blocked, "BLPOP k 0");
    let own = bench.open();
    bench.written(own);
    bench.pass(Duration::from_secs(3600));
    bench.say("EVAL slow 1 a");
    let lane = if bench.closed_lanes.contains(&lane) {
        bench.open()
    } else {
        lane
    };
    assert_eq!(bench.written(lane), "EVAL slow 1 a");
    bench.pass(Duration::from_secs(5));
    assert!(bench.hold(S0, 1).is_none());
    assert!(
        bench.written(lane).starts_with("MULTI"),
        "the unblocking stands behind the script"
    );
    bench.pass(Duration::from_millis(100));
    let Some((_, Ack::Refused(error))) = bench.acks.pop() else {
        panic!()
    };
    assert!(matches!(error, GateError::NotDrained { .. }));
    assert!(error.to_string().contains("EVAL of client 1"), "{error}");
}

/// Its server answered all the time: it is the client that took nothing.
#[test]
fn a_lane_that_waited_for_a_client_that_left_is_not_timed_out() {
    let settings = WorkerSettings {
        bulk_threshold: 1000,
        session_output_pause: 1000,
        session_output_max: 1 << 20,
        client_stall_max: Duration::from_secs(60),
        ..WorkerSettings::default()
    };
    let mut bench = Bench::with(1, settings);
    let lane = shared(&mut bench);
    bench.say("GET huge\nSET a 1");
    bench.written(lane);
    bench.reply(lane, &format!("$50000\r\n{}", "x".repeat(20000)));
    bench.pass(Duration::from_secs(20));
    assert!(!bench.closed_lanes.contains(&lane));
    bench
        .worker
        .client_closed(bench.client, ClientEnd::Gone, bench.now);
    bench.gather();
    bench.pass(Duration::from_millis(1));
    assert!(
        !bench.closed_lanes.contains(&lane),
        "it was not even asked for more"
    );
}

/// More than the 1,048,576 arguments of the default limits, where the config allows them.
#[test]
fn a_command_of_many_arguments_is_answered_when_its_lane_dies() {
    let mut settings = WorkerSettings::default();
    settings.scan.args_max = 4 << 20;
    settings.bulk_threshold = 64 << 20;
    let mut bench = Bench::with(1, settings);
    let mut bytes = Vec::new();
    let words: Vec<&str> = ["RPUSH", "k"]
        .into_iter()
        .chain(std::iter::repeat_n("v", 1_100_000))
        .collect();
    understudy_resp::encode::command(&mut bytes, &words);
    let client = bench.client;
    bench.send_as(client, &bytes);
    let lane = bench.open();
    let n = bench.worker.lane_output(lane).len();
    bench.worker.lane_wrote(lane, n, bench.now);
    bench.gather();
    bench
        .worker
        .lane_lost(lane, LaneLoss::Closed("x".into()), bench.now);
    bench.gather();
    assert!(bench.hear().starts_with("-ERR outcome unknown"));
}
