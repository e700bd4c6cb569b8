//! Commands on a lane of their session's own: what blocks, and what is watched. Cases of docs/cases.md.

use super::*;
use crate::worker::{ClientEnd, GateError, GatePosition, LaneLoss};

const NULL: &str = "*-1\r\n";
const UNKNOWN: &str =
    "-ERR outcome unknown: the connection to the backend was lost after the command was sent\r\n";

/// The client says something that needs a lane of its own; that lane, open and written.
#[track_caller]
fn begun(bench: &mut Bench, line: &str) -> LaneId {
    bench.say(line);
    let own = bench.open();
    assert_eq!(bench.written(own), line.lines().next().unwrap());
    own
}

/// A shared lane that is open and idle.
fn shared(bench: &mut Bench) -> LaneId {
    let client = bench.other_client();
    bench.say_as(client, "GET warm");
    let lane = bench.open();
    bench.written(lane);
    bench.reply(lane, "$-1\r\n");
    bench.hear_as(client);
    lane
}

const UNIT: &str = "MULTI\nPFCOUNT k\nCLIENT UNBLOCK 9 TIMEOUT\nEXEC";
const UNBLOCKED: &str = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:0\r\n:1\r\n";
const NOT_YET: &str = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:0\r\n:0\r\n";

#[track_caller]
fn drained(bench: &mut Bench) {
    match bench.acks.pop() {
        Some((_, Ack::Gate(status))) => {
            assert_eq!((status.state, status.in_flight), (GatePosition::Held, 0));
        }
        other => panic!("{other:?}"),
    }
}

fn move_to_new_server(bench: &mut Bench) {
    bench.prepare(S0, 1).unwrap();
    bench.switch(S0, 1).unwrap();
}

#[test]
fn a_blocked_command_delays_its_own_client_and_nobody_else() {
    let mut bench = Bench::new(1);
    let lane = shared(&mut bench);
    bench.say("SET a 1\nBLPOP k 0\nGET a");
    assert!(bench.dials.is_empty(), "its replies come first");
    assert_eq!(bench.written(lane), "SET a 1");
    bench.reply(lane, "+OK\r\n");
    let own = bench.open();
    assert_eq!(bench.written(own), "BLPOP k 0");
    assert_eq!(bench.written(lane), "", "what is behind it waits");
    let other = bench.other_client();
    bench.say_as(other, "RPUSH k v");
    assert_eq!(bench.written(lane), "RPUSH k v");
    bench.reply(lane, ":1\r\n");
    assert_eq!(bench.hear_as(other), ":1\r\n");
    bench.reply(own, "*2\r\n$1\r\nk\r\n$1\r\nv\r\n");
    assert_eq!(bench.written(lane), "GET a");
    bench.reply(lane, "$1\r\n1\r\n");
    assert_eq!(
        bench.hear(),
        "+OK\r\n*2\r\n$1\r\nk\r\n$1\r\nv\r\n$1\r\n1\r\n"
    );
    bench.say("BLPOP k 1");
    assert_eq!(
        bench.written(own),
        "BLPOP k 1",
        "the lane stays with its session"
    );
    bench.pass(Duration::from_secs(1));
    bench.reply(own, NULL);
    assert_eq!(bench.hear(), NULL);
    bench.pass(Duration::from_secs(400));
    assert!(bench.closed_lanes.contains(&own), "idle for long");
}

#[test]
fn each_command_that_blocks_goes_as_it_is_and_not_inside_a_transaction() {
    for line in [
        "BLPOP k 5",
        "BRPOP k 5",
        "BLMOVE k k LEFT RIGHT 5",
        "BRPOPLPUSH k k 5",
        "BLMPOP 5 1 k LEFT",
        "BZPOPMIN k 5",
        "BZPOPMAX k 5",
        "BZMPOP 5 1 k MIN",
        "XREAD BLOCK 5000 STREAMS k 0-0",
        "XREADGROUP GROUP g c BLOCK 5000 STREAMS k >",
        "BLPOP k nonsense",
    ] {
        let mut bench = Bench::new(1);
        let own = begun(&mut bench, line);
        bench.reply(own, "-ERR said by the server\r\n");
        assert_eq!(bench.hear(), "-ERR said by the server\r\n", "{line}");
        bench.say(&format!("MULTI\n{line}\nEXEC"));
        let lane = bench.open();
        assert_eq!(bench.written(lane), format!("MULTI\n{line}\nEXEC"));
    }
    let mut bench = Bench::new(2);
    bench.check(
        &format!("BLPOP {K0} {K1} 0"),
        "-CROSSSLOT Keys in request don't hash to the same shard; a hash tag keeps keys together\r\n",
    );
    bench.say("WAIT 1 0");
    assert!(
        bench
            .hear()
            .starts_with("-ERR understudy does not carry 'wait' yet: ")
    );
}

#[test]
fn case_08_a_blocked_pop_is_taken_back_for_a_switch_and_goes_on_with_its_remaining_time() {
    let mut bench = Bench::new(1);
    let lane = shared(&mut bench);
    let own = begun(&mut bench, "BLPOP k 5\nPING");
    bench.pass(Duration::from_secs(1));
    assert!(bench.hold(S0, 1).is_none(), "it is in flight");
    assert_eq!(bench.written(lane), UNIT);
    bench.reply(lane, NOT_YET);
    assert_eq!(
        bench.written(lane),
        UNIT,
        "it had not reached the server: once more"
    );
    bench.reply(own, NULL);
    assert!(
        bench.acks.is_empty(),
        "the answer to the unblocking is in flight"
    );
    bench.reply(lane, UNBLOCKED);
    drained(&mut bench);
    assert_eq!(bench.hear(), "", "the nil was ours");
    move_to_new_server(&mut bench);
    assert_eq!(bench.closed_lanes, [own]);
    let next = bench
        .dials
        .iter()
        .find(|dial| dial.own)
        .expect("dialled before the release")
        .clone();
    assert_eq!(next.backend.url, "redis://new");
    bench.worker.lane_opened(next.lane, Some(5), bench.now);
    bench.gather();
    bench.pass(Duration::from_millis(1_500));
    assert_eq!(bench.written(next.lane), "");
    bench.release(S0, 2, 1).unwrap();
    assert_eq!(bench.written(next.lane), "BLPOP k 2.500");
    bench.reply(next.lane, "*2\r\n$1\r\nk\r\n$1\r\nv\r\n");
    assert_eq!(bench.hear(), "*2\r\n$1\r\nk\r\n$1\r\nv\r\n+PONG\r\n");
}

#[test]
fn case_08_a_value_that_came_first_is_delivered() {
    let mut bench = Bench::new(1);
    let lane = shared(&mut bench);
    let own = begun(&mut bench, "BLPOP k 0");
    assert!(bench.hold(S0, 1).is_none());
    bench.reply(own, "*2\r\n$1\r\nk\r\n$1\r\nv\r\n");
    assert_eq!(bench.hear(), "*2\r\n$1\r\nk\r\n$1\r\nv\r\n");
    assert_eq!(bench.written(lane), UNIT);
    bench.reply(lane, NOT_YET);
    drained(&mut bench);
    assert_eq!(bench.written(lane), "", "nothing is left to unblock");
}

#[test]
fn case_08_a_demoted_server_says_unblocked_and_the_command_is_not_lost() {
    let mut bench = Bench::new(1);
    let own = begun(&mut bench, "BLMOVE k k LEFT LEFT 0");
    bench.reply(own, "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n");
    assert_eq!(
        (bench.hear().as_str(), &bench.closed_lanes[..]),
        ("", &[own][..])
    );
    bench.pass(Duration::from_millis(25));
    let next = bench.open();
    assert_eq!(bench.written(next), "BLMOVE k k LEFT LEFT 0");
    bench.pass(Duration::from_millis(10));
    bench.reply(next, "-LOADING Redis is loading the dataset in memory\r\n");
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.written(next), "BLMOVE k k LEFT LEFT 0");
    bench.pass(Duration::from_secs(1));
    bench.reply(next, "-LOADING Redis is loading the dataset in memory\r\n");
    assert_eq!(
        bench.hear(),
        "-LOADING Redis is loading the dataset in memory\r\n",
        "tried for long enough"
    );
}

#[test]
fn waiters_go_on_in_the_order_in_which_they_came() {
    let mut bench = Bench::new(1);
    let lane = shared(&mut bench);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let client = bench.other_client();
        bench.say_as(client, "BLPOP k 0");
        let own = bench.open();
        bench.written(own);
        clients.push((client, own));
    }
    assert!(bench.hold(S0, 1).is_none());
    bench.written(lane);
    for (_, own) in clients.iter().rev() {
        bench.reply(*own, NULL);
    }
    bench.reply(lane, &UNBLOCKED.repeat(clients.len()));
    drained(&mut bench);
    let late = bench.other_client();
    bench.say_as(late, "BLPOP k 0");
    move_to_new_server(&mut bench);
    bench.release(S0, 2, 1).unwrap();
    let dials: Vec<Dial> = bench.dials.drain(..).filter(|dial| dial.own).collect();
    assert_eq!(dials.len(), 5);
    for dial in dials.iter().rev() {
        let bytes: usize = dials
            .iter()
            .map(|it| bench.worker.lane_output(it.lane).len())
            .sum();
        assert_eq!(bytes, 0, "nobody goes before the first");
        bench.worker.lane_opened(dial.lane, Some(1), bench.now);
        bench.worker.take_dirty(&mut bench.dirty);
    }
    let order: Vec<LaneId> = dials.iter().map(|dial| dial.lane).collect();
    assert_eq!(
        bench.dirty.write_lanes, order,
        "written in order of arrival"
    );
}

#[test]
fn a_remaining_time_that_ends_at_a_closed_gate_answers_nil() {
    let mut bench = Bench::new(1);
    let lane = shared(&mut bench);
    let own = begun(&mut bench, "BLPOP k 0.05");
    assert!(bench.hold(S0, 1).is_none());
    bench.written(lane);
    bench.reply(own, NULL);
    bench.reply(lane, UNBLOCKED);
    drained(&mut bench);
    bench.prepare(S0, 1).unwrap();
    bench.pass(Duration::from_millis(49));
    assert_eq!(bench.hear(), "");
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.hear(), NULL);
    bench.say("BLPOP k 0.05");
    bench.pass(Duration::from_millis(500));
    assert_eq!(
        bench.hear(),
        "",
        "no server was asked yet: the list may be full"
    );
    bench.release(S0, 1, 1).unwrap();
    assert_eq!(bench.written(own), "BLPOP k 0.001");
}

#[test]
fn a_prepared_gate_that_waits_too_long_answers_blocked_clients_too() {
    let settings = WorkerSettings {
        prepared_max: Duration::from_secs(1),
        ..WorkerSettings::default()
    };
    let mut bench = Bench::with(1, settings);
    bench.hold(S0, 1).unwrap();
    bench.prepare(S0, 1).unwrap();
    bench.say("BLPOP k 0");
    bench.pass(Duration::from_secs(1));
    let held = "-ERR not executed: this shard is being moved to another server and that takes too long; try again\r\n";
    assert_eq!(bench.hear(), held);
    bench.check("BLPOP k 0", held);
    bench.check("WATCH k", held);
}

#[test]
fn a_lease_that_ends_puts_an_unblocked_command_back() {
    let mut bench = Bench::new(1);
    let lane = shared(&mut bench);
    let own = begun(&mut bench, "BLPOP k 0");
    assert!(bench.hold(S0, 1).is_none());
    bench.pass(Duration::from_millis(100));
    assert!(matches!(
        bench.acks.pop(),
        Some((_, Ack::Refused(GateError::NotDrained { .. })))
    ));
    bench.written(lane);
    bench.reply(own, NULL);
    bench.reply(lane, UNBLOCKED);
    assert_eq!(
        (bench.hear(), bench.written(own)),
        (String::new(), "BLPOP k 0".into())
    );
}

#[test]
fn what_never_left_us_is_taken_back_without_asking_the_server() {
    let mut bench = Bench::new(1);
    bench.say("BLPOP k 0");
    assert!(bench.hold(S0, 1).is_some(), "its lane is not even open");
    let own = bench.open();
    assert_eq!(bench.written(own), "");
    bench.release(S0, 1, 1).unwrap();
    let half = bench.worker.lane_output(own).len() / 2;
    bench.worker.lane_wrote(own, half, bench.now);
    assert!(bench.hold(S0, 2).is_some());
    assert_eq!(
        bench.closed_lanes,
        [own],
        "half a command is never completed"
    );
    bench.release(S0, 1, 2).unwrap();
    let next = bench.open();
    assert_eq!(bench.written(next), "BLPOP k 0");
}

#[test]
fn a_client_that_leaves_while_blocked_takes_its_lane_with_it() {
    for how in [ClientEnd::Gone, ClientEnd::ReadClosed] {
        let mut bench = Bench::new(1);
        let own = begun(&mut bench, "BLPOP k 0");
        bench.worker.client_closed(bench.client, how, bench.now);
        bench.gather();
        assert_eq!(bench.closed_lanes, [own], "{how:?}");
        assert_eq!(bench.worker.count().blocked_abandoned, 1);
        assert_eq!(
            bench.closed.len(),
            usize::from(how == ClientEnd::ReadClosed)
        );
        assert!(bench.hold(S0, 1).is_some(), "nothing is in flight");
    }
}

#[test]
fn a_lost_lane_may_have_popped_so_the_client_is_told() {
    let mut bench = Bench::new(1);
    let own = begun(&mut bench, "BLPOP k 0");
    bench
        .worker
        .lane_lost(own, LaneLoss::Closed("reset".into()), bench.now);
    bench.gather();
    assert_eq!(bench.hear(), UNKNOWN);
    let own = begun(&mut bench, "XREAD BLOCK 0 STREAMS k 0-0");
    bench
        .worker
        .lane_lost(own, LaneLoss::Closed("reset".into()), bench.now);
    bench.gather();
    bench.pass(Duration::from_millis(25));
    let next = bench.open();
    assert_eq!(
        bench.written(next),
        "XREAD BLOCK 0 STREAMS k 0-0",
        "a read goes again"
    );
}

#[test]
fn case_09_the_last_id_of_a_stream_is_the_one_when_the_client_called() {
    let mut bench = Bench::new(1);
    let lane = shared(&mut bench);
    bench.say("XREAD COUNT 2 BLOCK 0 STREAMS k j l $ 0-0 $");
    let own = bench.open();
    assert_eq!(
        bench.written(own),
        "XREVRANGE k + - COUNT 1\nXREVRANGE l + - COUNT 1"
    );
    bench.reply(own, "*1\r\n*2\r\n$3\r\n5-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n");
    bench.reply(own, "*0\r\n");
    let asked = "XREAD COUNT 2 BLOCK 0 STREAMS k j l 5-1 0-0 0-0";
    assert_eq!(bench.written(own), asked);
    assert!(bench.hold(S0, 1).is_none());
    bench.written(lane);
    bench.reply(own, NULL);
    bench.reply(lane, UNBLOCKED);
    drained(&mut bench);
    move_to_new_server(&mut bench);
    let dial = bench.dials.iter().find(|dial| dial.own).unwrap().clone();
    bench.worker.lane_opened(dial.lane, Some(1), bench.now);
    bench.release(S0, 2, 1).unwrap();
    assert_eq!(
        bench.written(dial.lane),
        asked,
        "entries added in between are not missed"
    );
}

#[test]
fn a_key_that_is_no_stream_answers_its_error_once() {
    let mut bench = Bench::new(1);
    bench.say("XREAD BLOCK 0 STREAMS k l $ $\nPING");
    let own = bench.open();
    bench.written(own);
    bench.reply(own, "-WRONGTYPE no\r\n-WRONGTYPE no\r\n");
    assert_eq!(bench.hear(), "-WRONGTYPE no\r\n+PONG\r\n");
}

#[test]
fn case_07_what_is_watched_stays_on_one_connection_until_exec_is_answered() {
    let mut bench = Bench::new(1);
    let lane = shared(&mut bench);
    bench.say("WATCH k j\nGET k\nMULTI\nINCR k\nEXEC\nGET k");
    let own = bench.open();
    assert_eq!(bench.written(own), "WATCH k j");
    assert_eq!(
        bench.written(lane),
        "",
        "a read behind WATCH sees what WATCH saw"
    );
    bench.reply(own, "+OK\r\n");
    assert_eq!(bench.written(lane), "GET k");
    assert_eq!(
        bench.written(own),
        "",
        "EXEC comes behind the replies before it"
    );
    bench.reply(lane, "$1\r\n1\r\n");
    assert_eq!(bench.written(own), "MULTI\nINCR k\nEXEC");
    assert_eq!(bench.written(lane), "");
    bench.reply(own, "+OK\r\n+QUEUED\r\n*1\r\n:2\r\n");
    assert_eq!(bench.written(lane), "GET k");
    bench.reply(lane, "$1\r\n2\r\n");
    assert_eq!(
        bench.hear(),
        "+OK\r\n$1\r\n1\r\n+OK\r\n+QUEUED\r\n*1\r\n:2\r\n$1\r\n2\r\n"
    );
    bench.say("MULTI\nINCR k\nEXEC");
    assert_eq!(
        bench.written(lane),
        "MULTI\nINCR k\nEXEC",
        "nothing is watched any more"
    );
}

#[test]
fn case_07_nested_and_empty_transactions_and_other_shards() {
    let mut bench = Bench::new(2);
    bench.say(&format!("WATCH {K0}"));
    let own = bench.open();
    bench.written(own);
    bench.reply(own, "+OK\r\n");
    bench.hear();
    let crossslot = "-CROSSSLOT Keys in request don't hash to the same shard; a hash tag keeps keys together\r\n";
    bench.check(&format!("WATCH {K1}"), crossslot);
    bench.check(
        "MULTI\nMULTI\nWATCH x\nDISCARD",
        "+OK\r\n-ERR MULTI calls can not be nested\r\n-ERR WATCH inside MULTI is not allowed\r\n+OK\r\n",
    );
    assert_eq!(
        bench.written(own),
        "UNWATCH",
        "DISCARD forgets what is watched"
    );
    bench.reply(own, "+OK\r\n");
    assert_eq!(bench.hear(), "");
    bench.say(&format!("WATCH {K0}"));
    bench.written(own);
    bench.reply(own, "+OK\r\n");
    bench.hear();
    let change =
        "-ERR understudy does not carry another database or protocol between WATCH and EXEC\r\n";
    bench.check("SELECT 1\nHELLO 3", &format!("{change}{change}"));
    bench.check(
        &format!("MULTI\nINCR {K1}\nEXEC"),
        &format!(
            "+OK\r\n{crossslot}-EXECABORT Transaction discarded because of previous errors.\r\n"
        ),
    );
    assert_eq!(bench.written(own), "UNWATCH");
    bench.reply(own, "+OK\r\n");
    bench.say(&format!("WATCH {K0}\nMULTI\nEXEC"));
    bench.written(own);
    bench.reply(own, "+OK\r\n");
    assert_eq!(
        bench.written(own),
        "MULTI\nEXEC",
        "only the server knows whether a key changed"
    );
    bench.reply(own, "+OK\r\n*-1\r\n");
    assert_eq!(bench.hear(), "+OK\r\n+OK\r\n*-1\r\n");
    bench.say(&format!("WATCH {K0}"));
    bench.written(own);
    bench.reply(own, "+OK\r\n");
    bench.check("RESET", "+OK\r\n+RESET\r\n");
    assert!(bench.closed_lanes.contains(&own));
}

#[test]
fn case_06_a_switch_between_watch_and_exec_makes_exec_null() {
    let mut bench = Bench::new(1);
    let own = begun(&mut bench, "WATCH k");
    bench.reply(own, "+OK\r\n");
    bench.hear();
    assert!(
        bench.hold(S0, 1).is_some(),
        "a watch does not keep a shard from draining"
    );
    bench.say("MULTI\nINCR k\nEXEC");
    assert_eq!(bench.hear(), "+OK\r\n+QUEUED\r\n");
    move_to_new_server(&mut bench);
    bench.release(S0, 2, 1).unwrap();
    assert_eq!(bench.hear(), NULL);
    assert!(
        bench.dials.iter().all(|dial| dial.own),
        "nothing was executed"
    );
    let next = begun(&mut bench, "WATCH k");
    bench.reply(next, "+OK\r\n");
    bench.say("MULTI\nINCR k\nEXEC");
    assert_eq!(
        bench.written(next),
        "MULTI\nINCR k\nEXEC",
        "the next try commits"
    );
}

#[test]
fn case_06_an_abort_leaves_the_watch_standing() {
    let mut bench = Bench::new(1);
    let own = begun(&mut bench, "WATCH k");
    bench.reply(own, "+OK\r\n");
    bench.hold(S0, 1).unwrap();
    bench.say("MULTI\nINCR k\nEXEC");
    bench.prepare(S0, 1).unwrap();
    assert_eq!(bench.written(own), "");
    bench.release(S0, 1, 1).unwrap();
    assert_eq!(bench.written(own), "MULTI\nINCR k\nEXEC");
}

#[test]
fn case_06_a_lost_lane_or_a_demoted_server_makes_exec_null_and_never_runs_it_twice() {
    let watched = || {
        let mut bench = Bench::new(1);
        let own = begun(&mut bench, "WATCH k");
        bench.reply(own, "+OK\r\n");
        bench.hear();
        (bench, own)
    };
    let lose = |bench: &mut Bench, own| {
        bench
            .worker
            .lane_lost(own, LaneLoss::Closed("reset".into()), bench.now);
        bench.gather();
    };
    let queued = "+OK\r\n+QUEUED\r\n";
    let (mut bench, own) = watched();
    lose(&mut bench, own);
    bench.check(
        "WATCH j\nMULTI\nINCR k\nEXEC",
        &format!("+OK\r\n{queued}{NULL}"),
    );

    let (mut bench, own) = watched();
    bench.say("MULTI\nINCR k\nEXEC");
    let part = bench.worker.lane_output(own).len() - 1;
    bench.worker.lane_wrote(own, part, bench.now);
    lose(&mut bench, own);
    assert_eq!(
        bench.hear(),
        format!("{queued}{NULL}"),
        "EXEC never left us"
    );

    let (mut bench, own) = watched();
    bench.say("MULTI\nINCR k\nEXEC");
    bench.written(own);
    lose(&mut bench, own);
    assert_eq!(
        bench.hear(),
        format!("{queued}{UNKNOWN}"),
        "it may have committed"
    );

    for replies in [
        "+OK\r\n-READONLY You can't write against a read only replica.\r\n-EXECABORT Transaction discarded because of previous errors.\r\n",
        "+OK\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.\r\n",
    ] {
        let (mut bench, own) = watched();
        bench.say("MULTI\nINCR k\nEXEC");
        bench.written(own);
        bench.reply(own, replies);
        assert_eq!(bench.hear(), format!("{queued}{NULL}"));
        assert!(bench.dials.is_empty(), "not sent again");
    }
}

#[test]
fn an_exec_of_a_client_that_left_is_waited_for_by_a_hold() {
    let mut bench = Bench::new(1);
    let own = begun(&mut bench, "WATCH k");
    bench.reply(own, "+OK\r\n");
    bench.say("MULTI\nINCR k\nEXEC");
    bench.written(own);
    bench
        .worker
        .client_closed(bench.client, ClientEnd::Gone, bench.now);
    bench.gather();
    assert!(bench.hold(S0, 1).is_none(), "it runs whoever listens");
    bench.reply(own, "+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    drained(&mut bench);
    assert_eq!(bench.closed_lanes, [own]);
}

#[test]
fn a_server_that_does_not_end_a_blocked_command_in_time_is_given_up() {
    let mut bench = Bench::new(1);
    begun(&mut bench, "BLPOP k 1");
    bench.pass(Duration::from_millis(5_999));
    assert_eq!(bench.hear(), "");
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.hear(), UNKNOWN);
    let mut bench = Bench::new(1);
    begun(&mut bench, "BLPOP k 0");
    bench.pass(Duration::from_secs(100_000));
    assert_eq!(bench.hear(), "", "it may take for ever");
}

#[test]
fn an_unblocking_that_is_lost_or_refused_never_hangs_the_hold() {
    let mut bench = Bench::new(1);
    let lane = shared(&mut bench);
    let own = begun(&mut bench, "BLPOP k 0");
    assert!(bench.hold(S0, 1).is_none());
    assert_eq!(bench.written(lane), UNIT);
    bench
        .worker
        .lane_lost(lane, LaneLoss::Closed("reset".into()), bench.now);
    bench.gather();
    let next = bench.open();
    assert_eq!(bench.written(next), UNIT, "asked again by another lane");
    bench.reply(next, "+OK\r\n+QUEUED\r\n-NOPERM no\r\n-EXECABORT Transaction discarded because of previous errors.\r\n");
    assert_eq!(
        bench.written(next),
        "",
        "a server that refuses is not asked for ever"
    );
    assert_eq!(bench.worker.count().unblocks_refused, 1);
    bench.pass(Duration::from_millis(100));
    assert!(matches!(
        bench.acks.pop(),
        Some((_, Ack::Refused(GateError::NotDrained { in_flight: 1, .. })))
    ));
    bench.reply(own, "*2\r\n$1\r\nk\r\n$1\r\nv\r\n");
    assert_eq!(bench.hear(), "*2\r\n$1\r\nk\r\n$1\r\nv\r\n");
}
