//! Cases of docs/cases.md that are about a switch under live traffic and stand nowhere else.

use super::*;
use crate::worker::{GateError, LaneLoss};

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

/// The shard moves to the new server, up to the release.
#[track_caller]
fn switch_held(bench: &mut Bench) {
    for ack in [bench.prepare(S0, 1), bench.switch(S0, 1)] {
        assert!(matches!(ack, Some(Ack::Gate(_))), "{ack:?}");
    }
}

#[track_caller]
fn refused(bench: &mut Bench, line: &str) {
    bench.say(line);
    let reply = bench.hear();
    let words: Vec<String> = line.split(' ').map(str::to_lowercase).collect();
    let named = (1..=words.len().min(2)).any(|count| {
        let name = words[..count].join(" ");
        reply.starts_with(&format!("-ERR understudy does not carry '{name}'"))
    });
    assert!(named && reply.ends_with("\r\n"), "{line}: {reply}");
    assert!(bench.dials.is_empty(), "{line} was sent");
    bench.check("PING", "+PONG\r\n");
}

#[test]
fn case_01_a_half_received_command_goes_where_its_shard_is_when_it_is_whole() {
    let (mut bench, old) = warm();
    bench.send_as(bench.client, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nhal");
    assert!(
        matches!(bench.hold(S0, 1), Some(Ack::Gate(_))),
        "half a command is not in flight"
    );
    bench.send_as(bench.client, b"f");
    switch_held(&mut bench);
    let new = bench.open();
    bench.release(S0, 2, 1);
    assert_eq!(bench.written(old), "");
    bench.send_as(bench.client, b"1\r\n");
    assert_eq!(bench.written(new), "SET a half1");
}

#[test]
fn case_10_an_entry_that_a_group_was_given_and_nobody_got_is_not_asked_for_again() {
    for line in [
        "XREADGROUP GROUP g c STREAMS k >",
        "XREADGROUP GROUP g c BLOCK 0 STREAMS k >",
    ] {
        let mut bench = Bench::new(1);
        bench.say(line);
        let lane = bench.open();
        assert_eq!(bench.written(lane), line);
        let lost = LaneLoss::Closed("reset".into());
        bench.worker.lane_lost(lane, lost, bench.now);
        bench.gather();
        assert!(bench.hear().starts_with("-ERR outcome unknown"), "{line}");
        bench.pass(Duration::from_secs(1));
        assert!(bench.dials.is_empty(), "{line} was sent again");
        bench.check("PING", "+PONG\r\n");
    }
}

#[test]
fn case_11_subscribing_is_refused_and_a_message_goes_to_one_server() {
    let (mut bench, old) = warm();
    for line in [
        "SUBSCRIBE c",
        "PSUBSCRIBE c*",
        "SSUBSCRIBE c",
        "UNSUBSCRIBE",
        "PUBSUB CHANNELS",
    ] {
        refused(&mut bench, line);
    }
    bench.hold(S0, 1);
    bench.say("PUBLISH c 1");
    switch_held(&mut bench);
    let new = bench.open();
    bench.release(S0, 2, 1);
    assert_eq!(
        (bench.written(old), bench.written(new)),
        (String::new(), "PUBLISH c 1".into())
    );
}

#[test]
fn case_14_client_side_caching_is_refused_by_name() {
    let mut bench = Bench::new(1);
    for line in [
        "CLIENT TRACKING on",
        "CLIENT TRACKING on BCAST PREFIX a",
        "CLIENT CACHING yes",
        "CLIENT GETREDIR",
        "CLIENT TRACKINGINFO",
    ] {
        refused(&mut bench, line);
    }
}

#[test]
fn case_16_a_long_script_outlasts_the_hold_and_is_left_alone() {
    let (mut bench, old) = warm();
    bench.say("EVAL long 1 a");
    assert_eq!(bench.written(old), "EVAL long 1 a");
    assert!(bench.hold(S0, 1).is_none(), "not drained");
    let other = bench.other_client();
    bench.say_as(other, "GET b");
    bench.pass(Duration::from_millis(100));
    let lapsed = bench.acks.pop().map(|it| it.1);
    let not_drained = matches!(
        lapsed,
        Some(Ack::Refused(GateError::NotDrained { in_flight: 1, .. }))
    );
    assert!(not_drained, "{lapsed:?}");
    assert_eq!(
        bench.written(old),
        "GET b",
        "open again, and no SCRIPT KILL"
    );
    bench.reply(old, ":1\r\n$-1\r\n");
    assert_eq!(
        (bench.hear(), bench.hear_as(other)),
        (":1\r\n".into(), "$-1\r\n".into())
    );
}

#[test]
fn case_18_half_a_reply_of_a_dying_server_never_reaches_its_client() {
    let (mut bench, old) = warm();
    bench.say("GET a");
    bench.written(old);
    bench.reply(old, "$10\r\n01234");
    assert_eq!(bench.hear(), "");
    let lost = LaneLoss::Closed("reset".into());
    bench.worker.lane_lost(old, lost, bench.now);
    bench.gather();
    let next = bench.open();
    assert_eq!(bench.written(next), "GET a");
    bench.reply(next, "$2\r\nok\r\n");
    assert_eq!(bench.hear(), "$2\r\nok\r\n");
}

#[test]
fn case_24_replies_cannot_be_switched_off() {
    let mut bench = Bench::new(1);
    for line in ["CLIENT REPLY OFF", "CLIENT REPLY SKIP", "CLIENT REPLY ON"] {
        refused(&mut bench, line);
    }
}

#[test]
fn case_25_the_new_server_is_dialled_with_the_sessions_database_and_protocol() {
    let mut bench = Bench::new(1);
    bench.say("HELLO 3\nSELECT 3\nSET a 1");
    let old = bench.open();
    assert_eq!(bench.written(old), "SET a 1");
    bench.reply(old, "+OK\r\n");
    bench.hear();
    bench.hold(S0, 1);
    bench.say("GET a");
    switch_held(&mut bench);
    let wanted = |dial: &Dial| (dial.backend.url.to_string(), dial.protocol, dial.db);
    let dialled: Vec<_> = bench.dials.iter().map(wanted).collect();
    assert!(
        dialled.contains(&("redis://new".into(), understudy_resp::Protocol::Resp3, 3)),
        "before the release: {dialled:?}"
    );
    let new = bench.open();
    bench.release(S0, 2, 1);
    assert_eq!(bench.written(new), "GET a");
}

#[test]
fn case_27_what_comes_out_by_chance_is_sent_to_one_server_once() {
    let lines = "SPOP s\nXADD x * k v\nINCRBYFLOAT f 0.1\nEVAL chance 1 a";
    for held in [false, true] {
        let (mut bench, old) = warm();
        if held {
            bench.hold(S0, 1);
        }
        bench.say(lines);
        let mut sent = bench.written(old);
        if held {
            switch_held(&mut bench);
            let new = bench.open();
            bench.release(S0, 2, 1);
            sent += &bench.written(old);
            sent += &bench.written(new);
        }
        assert_eq!(sent, lines);
    }
}

#[test]
fn case_29_wait_is_refused_by_name() {
    let mut bench = Bench::new(1);
    for line in ["WAIT 1 0", "WAITAOF 1 0 0"] {
        refused(&mut bench, line);
    }
}

#[test]
fn case_30_what_operates_one_server_is_refused_by_name() {
    let mut bench = Bench::new(1);
    for line in [
        "MONITOR",
        "SYNC",
        "PSYNC ? -1",
        "REPLCONF ACK 0",
        "REPLICAOF NO ONE",
        "SLAVEOF NO ONE",
        "FAILOVER",
        "SHUTDOWN",
        "DEBUG SLEEP 1",
        "CONFIG SET maxmemory 1",
        "ACL SETUSER x",
        "SWAPDB 0 1",
        "CLIENT KILL TYPE normal",
        "CLIENT LIST",
        "CLIENT PAUSE 1",
        "CLUSTER SLOTS",
        "ASKING",
    ] {
        refused(&mut bench, line);
    }
    bench.check("READONLY\nREADWRITE", "+OK\r\n+OK\r\n");
    bench.say("CLIENT ID");
    assert!(
        bench.hear().starts_with(':') && bench.dials.is_empty(),
        "the proxy's own number"
    );
}
