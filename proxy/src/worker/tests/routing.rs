//! Keys, shards, parts, transactions, scripts.

use super::*;

/// A bench of two shards, with both lanes open.
fn two() -> (Bench, LaneId, LaneId) {
    let mut bench = Bench::new(2);
    bench.say(&format!("GET {K0}\nGET {K1}"));
    let (second, first) = (bench.open(), bench.open());
    assert_eq!(bench.written(first), format!("GET {K0}"));
    assert_eq!(bench.written(second), format!("GET {K1}"));
    bench.reply(second, "$1\r\n2\r\n");
    assert_eq!(bench.hear(), "", "the first reply comes first");
    bench.reply(first, "$1\r\n1\r\n");
    assert_eq!(bench.hear(), "$1\r\n1\r\n$1\r\n2\r\n");
    (bench, first, second)
}

#[test]
fn a_pipeline_on_one_lane_is_one_entry() {
    let mut bench = Bench::new(1);
    bench.say(&["GET a"; 16].join("\n"));
    let lane = bench.open();
    assert_eq!(
        bench
            .worker
            .lanes
            .find(lane.index, lane.generation)
            .unwrap()
            .in_flight
            .len(),
        1
    );
    bench.written(lane);
    bench.reply(lane, &"$-1\r\n".repeat(16));
    assert_eq!(bench.hear(), "$-1\r\n".repeat(16));
}

#[test]
fn split_commands_become_one_reply() {
    let (mut bench, first, second) = two();
    bench.say(&format!(
        "MGET {K1} {K0} {K1}\nDEL {K0} {K1}\nMSET {K0} a {K1} b"
    ));
    assert_eq!(
        bench.written(first),
        format!("MGET {K0}\nDEL {K0}\nMSET {K0} a")
    );
    assert_eq!(
        bench.written(second),
        format!("MGET {K1} {K1}\nDEL {K1}\nMSET {K1} b")
    );
    bench.reply(first, "*1\r\n$1\r\nx\r\n:1\r\n+OK\r\n");
    assert_eq!(bench.hear(), "");
    bench.reply(second, "*2\r\n$1\r\ny\r\n$-1\r\n:0\r\n-OOM no\r\n");
    assert_eq!(
        bench.hear(),
        "*3\r\n$1\r\ny\r\n$1\r\nx\r\n$-1\r\n:1\r\n-OOM no\r\n"
    );
    bench.check(
        &format!("MSET {K0} a {K1}"),
        "-ERR wrong number of arguments for 'mset' command\r\n",
    );
}

#[test]
fn keys_of_one_command_stay_in_one_shard() {
    let (mut bench, first, _) = two();
    bench.say(&format!("RENAME {K0} {K1}\nSINTER {K0} {{{K0}}}x"));
    assert_eq!(bench.written(first), format!("SINTER {K0} {{{K0}}}x"));
    bench.reply(first, "*0\r\n");
    assert!(
        bench
            .hear()
            .starts_with("-CROSSSLOT Keys in request don't hash to the same shard")
    );
    bench.check(
        "EVAL x 0",
        "-ERR understudy cannot route 'eval' without keys in a pool of several shards\r\n",
    );
}

#[test]
fn broadcasts_ask_every_shard_and_scan_walks_through_them() {
    let (mut bench, first, second) = two();
    bench.say("DBSIZE\nSCAN 0 COUNT 5");
    assert_eq!(bench.written(first), "DBSIZE\nSCAN 0 COUNT 5");
    assert_eq!(bench.written(second), "DBSIZE");
    bench.reply(first, ":3\r\n*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n");
    bench.reply(second, ":4\r\n");
    assert_eq!(bench.hear(), ":7\r\n*2\r\n$1\r\n1\r\n*1\r\n$1\r\na\r\n");
    bench.say("SCAN 1");
    assert_eq!(bench.written(second), "SCAN 0");
    bench.reply(second, "*2\r\n$1\r\n9\r\n*0\r\n");
    let reply = bench.hear();
    let cursor = reply.split("\r\n").nth(2).unwrap().to_owned();
    bench.say(&format!("SCAN {cursor}"));
    assert_eq!(bench.written(second), "SCAN 9");
    bench.reply(second, "*2\r\n$1\r\n0\r\n*0\r\n");
    assert_eq!(bench.hear(), "*2\r\n$1\r\n0\r\n*0\r\n");
    bench.check("SCAN x", "-ERR invalid cursor\r\n");
}

#[test]
fn a_transaction_leaves_as_one_unit_and_answers_once() {
    let (mut bench, first, _) = two();
    bench.check(
        &format!("MULTI\nSET {K0} 1\nPING"),
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n",
    );
    assert_eq!(bench.written(first), "");
    bench.say("EXEC\nGET key0");
    assert_eq!(
        bench.written(first),
        format!("MULTI\nSET {K0} 1\nPING\nEXEC\nGET key0")
    );
    bench.reply(
        first,
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+PONG\r\n$1\r\n1\r\n",
    );
    assert_eq!(bench.hear(), "*2\r\n+OK\r\n+PONG\r\n$1\r\n1\r\n");
}

#[test]
fn what_redis_says_while_it_queues_is_said_here() {
    let abort = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    for (line, error) in [
        ("NONSENSE", "-ERR unknown command 'NONSENSE', with args beginning with: \r\n".to_owned()),
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n".to_owned()),
        ("SELECT 1", "-ERR understudy does not carry 'select' inside MULTI\r\n".to_owned()),
        ("GET b", "-CROSSSLOT Keys in request don't hash to the same shard; a hash tag keeps keys together\r\n".to_owned()),
    ] {
        let (mut bench, ..) = two();
        bench.check(&format!("MULTI\nSET {K0} 1\n{line}\nEXEC"), &format!("+OK\r\n+QUEUED\r\n{error}{abort}"));
        bench.check("EXEC", "-ERR EXEC without MULTI\r\n");
    }
    let mut bench = Bench::new(1);
    bench.check(
        "MULTI\nMULTI\nDISCARD\nDISCARD",
        "+OK\r\n-ERR MULTI calls can not be nested\r\n+OK\r\n-ERR DISCARD without MULTI\r\n",
    );
    bench.check("MULTI\nEXEC", "+OK\r\n*0\r\n");
    bench.check(
        "MULTI\nWATCH a\nRESET\nEXEC",
        "+OK\r\n-ERR WATCH inside MULTI is not allowed\r\n+RESET\r\n-ERR EXEC without MULTI\r\n",
    );
}

#[test]
fn case_15_a_missing_script_is_healed_where_its_body_is_known() {
    let mut bench = Bench::new(1);
    bench.say("EVAL return(1) 1 a");
    let lane = bench.open();
    bench.written(lane);
    bench.reply(lane, ":1\r\n");
    bench.hear();
    let digest = String::from_utf8(crate::worker::sha1::sha1_hex(b"return(1)").to_vec()).unwrap();
    bench.say(&format!("EVALSHA {digest} 1 a x\nGET b"));
    bench.written(lane);
    bench.reply(lane, "-NOSCRIPT No matching script. Please use EVAL.\r\n");
    bench.reply(lane, "$1\r\n0\r\n");
    assert_eq!(bench.hear(), "");
    assert_eq!(bench.written(lane), "EVAL return(1) 1 a x\nGET b");
    bench.reply(lane, ":1\r\n$1\r\n1\r\n");
    assert_eq!(bench.hear(), ":1\r\n$1\r\n1\r\n");
    let unknown = "0".repeat(40);
    bench.say(&format!("EVALSHA {unknown} 1 a"));
    bench.written(lane);
    bench.reply(lane, "-NOSCRIPT No matching script. Please use EVAL.\r\n");
    assert!(bench.hear().starts_with("-NOSCRIPT"));
    match bench.order(Order::Scripts { pool: POOL }) {
        Some(Ack::Scripts(bodies)) => assert_eq!(bodies, [b"return(1)"]),
        other => panic!("{other:?}"),
    }
}
