//! What a client asks is what a server answers: every reply is compared with one that was got directly.

use understudy_lab::Version;
use understudy_lab::wire::{Reply, Wire};

use crate::stage::{SOON, Stage, call, config, directory, new, server};

/// Commands that leave the same replies on any fresh server. One list, so that both sides see the same.
const COMMANDS: &str = "\
SET a 1|GET a|GETSET a 2|INCR a|INCRBY a 5|DECR a|APPEND a xyz|STRLEN a|GETRANGE a 0 1|SETRANGE a 1 Q|GET a|GET none
SET b 1 EX 100|PERSIST b|TTL b|EXPIRE b 0|EXISTS b|SETNX c 1|SETNX c 2|SET c 5 XX GET|TYPE c|GETDEL c|SET f 10.5|INCRBYFLOAT f 0.1
MSET m1 1 m2 2 m3 3|MGET m1 none m3 m2|EXISTS m1 m2 none m1|DEL m1 none|UNLINK m2|TOUCH m3 m2|MSETNX n1 1|SETBIT bits 7 1|BITCOUNT bits|GETBIT bits 7
RPUSH l a b c|LPUSH l z|LRANGE l 0 -1|LLEN l|LINDEX l 1|LSET l 0 y|LINSERT l BEFORE b q|LREM l 1 q|LPOP l|RPOP l 2|LPOS l b|LTRIM l 0 0
HSET h f1 v1 f2 v2|HGET h f1|HGETALL h|HMGET h f1 none|HDEL h f1|HLEN h|HINCRBY h n 4|HEXISTS h n|HKEYS h|HVALS h|HSTRLEN h f2
SADD s x|SADD s x y|SCARD s|SISMEMBER s x|SMEMBERS none|SREM s x|SPOP s|ZADD z 1 one 2 two|ZRANGE z 0 -1 WITHSCORES|ZSCORE z one|ZINCRBY z 3 one|ZRANK z one|ZCARD z|ZPOPMIN z
XADD x 1-1 k v|XLEN x|XRANGE x - +|XREAD COUNT 2 STREAMS x 0|PFADD pf a b c|PFCOUNT pf|GEOADD g 13.361389 38.115556 Palermo|GEOPOS g Palermo
EVAL return{KEYS[1],ARGV[1]} 1 k v|EVAL return{1,2,{3,'four'}} 0|MULTI|SET t 1|INCR t|GET t|EXEC|MULTI|SET t 9|DISCARD|GET t|MULTI|INCR l|NOSUCH|EXEC
GET|SET a|NOSUCH x|LPUSH a x|INCR h|PING|PING hello|ECHO hi|SELECT 3|SET db3 1|GET db3|SELECT 0|GET db3|SELECT 99|OBJECT ENCODING a|DUMP none|DBSIZE";

fn commands() -> impl Iterator<Item = &'static str> {
    COMMANDS
        .lines()
        .flat_map(|line| line.split('|'))
        .map(str::trim)
}

async fn same_replies(version: Version, resp3: bool) {
    let (direct, behind, data) = (server(version).await, server(version).await, directory());
    let stage = Stage::start(config(data.path(), 1, &[&behind])).await;
    let (mut to_server, mut to_proxy) = (direct.wire().await.unwrap(), stage.client().await);
    if resp3 {
        for wire in [&mut to_server, &mut to_proxy] {
            assert!(!matches!(call(wire, "HELLO 3").await, Reply::Error(_)));
        }
    }
    for command in commands() {
        let (expected, got) = (
            call(&mut to_server, command).await,
            call(&mut to_proxy, command).await,
        );
        if let (Reply::Error(expected), Reply::Error(got)) = (&expected, &got) {
            // Versions word their errors differently and some are ours; the kind must be the same.
            assert_eq!(
                first_word(got),
                first_word(expected),
                "{command}: {got}, directly {expected}"
            );
            continue;
        }
        assert_eq!(got, expected, "{command}");
    }
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

#[tokio::test]
async fn resp2_replies_are_those_of_the_server() {
    same_replies(Version::Redis6_2_14, false).await;
    same_replies(Version::Redis8_2_3, false).await;
}

#[tokio::test]
async fn resp3_replies_are_those_of_the_server() {
    same_replies(Version::Redis8_2_3, true).await;
    same_replies(Version::Valkey9_1_2, true).await;
}

#[tokio::test]
async fn a_pipeline_of_a_thousand_is_answered_in_order() {
    let (server, data) = (new().await, directory());
    let stage = Stage::start(config(data.path(), 1, &[&server])).await;
    let mut wire = stage.client().await;
    let mut frames = Vec::new();
    for number in 0..1_000 {
        understudy_lab::wire::encode(&mut frames, &["ECHO", &format!("local {number}")]);
        understudy_lab::wire::encode(
            &mut frames,
            &["SET", &format!("key{number}"), &number.to_string()],
        );
        understudy_lab::wire::encode(&mut frames, &["GET", &format!("key{number}")]);
    }
    wire.send(&frames).await.unwrap();
    for number in 0..1_000 {
        assert_eq!(
            next(&mut wire).await,
            Reply::bulk(format!("local {number}"))
        );
        assert_eq!(next(&mut wire).await, Reply::ok());
        assert_eq!(next(&mut wire).await, Reply::bulk(number.to_string()));
    }
}

#[tokio::test]
async fn two_hundred_clients_are_served_at_once() {
    let (server, data) = (new().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&server])).await;
    let mut wires = Vec::new();
    for _ in 0..200 {
        wires.push(stage.client().await);
    }
    for round in 0..5 {
        for (number, wire) in wires.iter_mut().enumerate() {
            let mut frame = Vec::new();
            understudy_lab::wire::encode(
                &mut frame,
                &["SET", &format!("c{number}"), &format!("{round}")],
            );
            understudy_lab::wire::encode(&mut frame, &["APPEND", &format!("c{number}"), "!"]);
            understudy_lab::wire::encode(&mut frame, &["GET", &format!("c{number}")]);
            wire.send(&frame).await.unwrap();
        }
        for wire in &mut wires {
            assert_eq!(next(wire).await, Reply::ok());
            assert_eq!(next(wire).await, Reply::Integer(2));
            assert_eq!(next(wire).await, Reply::bulk(format!("{round}!")));
        }
    }
    let sessions = stage.ask("PROXY SESSIONS").await.as_str_lossy().unwrap();
    assert_eq!(sessions.lines().count(), 200);
    for worker in ["worker=0", "worker=1"] {
        assert_eq!(
            sessions.matches(worker).count(),
            100,
            "sessions are dealt out evenly"
        );
    }
}

#[tokio::test]
async fn a_value_of_megabytes_passes_both_ways() {
    let (server, data) = (new().await, directory());
    let stage = Stage::start(config(data.path(), 1, &[&server])).await;
    let mut wire = stage.client().await;
    let value = vec![b'v'; 8 << 20];
    assert_eq!(
        wire.call(&[b"SET".as_slice(), b"big", &value])
            .await
            .unwrap(),
        Reply::ok()
    );
    assert_eq!(
        wire.call(&["GET", "big"]).await.unwrap(),
        Reply::bulk(&value)
    );
    assert_eq!(call(&mut wire, "PING").await, Reply::Simple("PONG".into()));
}

async fn next(wire: &mut Wire) -> Reply {
    tokio::time::timeout(SOON, wire.reply())
        .await
        .expect("a reply in time")
        .expect("a reply")
}
