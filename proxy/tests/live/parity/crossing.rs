//! What two shards cannot do as one server is refused by name, and nothing of it runs.

use understudy_lab::wire::Reply;

use crate::parity::shards::{key, two};

fn starts(reply: &Reply, start: &str) -> bool {
    matches!(reply, Reply::Error(text) if text.starts_with(start))
}

#[tokio::test]
async fn keys_on_two_shards_are_refused_where_they_cannot_be_split() {
    let mut twins = two().await;
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for key in (0..100).map(key) {
        twins.behind.ask(&format!("SET {key} 1")).await;
        let mut holds = Vec::new();
        for shard in &twins.shards {
            let exists = shard.call(&["EXISTS", &key]).await.unwrap();
            holds.push(exists == Reply::Integer(1));
        }
        assert!(holds[0] != holds[1], "{key} lies on one shard");
        if holds[0] { &mut here } else { &mut there }.push(key);
    }
    let (a, b) = (here.swap_remove(0), there.swap_remove(0));
    for line in [
        "MSETNX %a 1 %b 2",
        "RENAME %a %b",
        "RENAMENX %a %b",
        "COPY %a %b",
        "RPOPLPUSH %a %b",
        "LMOVE %a %b LEFT RIGHT",
        "SINTER %a %b",
        "SUNIONSTORE %a %a %b",
        "SMOVE %a %b x",
        "ZUNIONSTORE %a 2 %a %b",
        "ZRANGESTORE %a %b 0 1",
        "PFMERGE %a %b",
        "PFCOUNT %a %b",
        "BITOP AND %a %a %b",
        "LMPOP 2 %a %b LEFT",
        "LCS %a %b",
        "SORT %a STORE %b",
        "GEOSEARCHSTORE %a %b FROMLONLAT 1 1 BYRADIUS 1 m",
        "XREAD STREAMS %a %b 0 0",
        "EVAL x 2 %a %b",
        "EVALSHA x 2 %a %b",
        "FCALL f 2 %a %b",
        "MSETEX 2 %a 1 %b 2",
    ] {
        let line = line.replace("%a", &a).replace("%b", &b);
        let said = twins.behind.ask(&line).await;
        assert!(starts(&said, "CROSSSLOT "), "{line}: {said}");
    }
    for line in [
        format!("MGET {a} {b}"),
        format!("DEL {a} {b}"),
        format!("GET {b}"),
        format!("RENAME {a} {b}"),
    ] {
        assert_eq!(twins.behind.ask("MULTI").await, Reply::ok());
        assert_eq!(
            twins.behind.ask(&format!("SET {a} 2")).await,
            Reply::Simple("QUEUED".into())
        );
        let said = twins.behind.ask(&line).await;
        assert!(starts(&said, "CROSSSLOT "), "{line}: {said}");
        let said = twins.behind.ask("EXEC").await;
        assert!(starts(&said, "EXECABORT "), "{line}: {said}");
        assert_eq!(
            twins.behind.ask(&format!("GET {a}")).await,
            Reply::bulk("1"),
            "nothing ran"
        );
    }
    // A tag keeps keys together.
    for line in [
        "MSETNX {t}A 1 {t}B 2",
        "RENAME {t}A {t}B",
        "EVAL return(1) 2 {t}A {t}B",
        "SINTER {s}A {s}B",
    ] {
        let said = twins.behind.ask(line).await;
        assert!(!matches!(said, Reply::Error(_)), "{line}: {said}");
    }
    for line in ["MULTI", "SET {t}A 1", "MGET {t}A {t}B", "EXEC"] {
        let said = twins.behind.ask(line).await;
        assert!(!matches!(said, Reply::Error(_)), "{line}: {said}");
    }
}

#[tokio::test]
async fn what_names_no_key_is_answered_by_one_shard_or_refused_by_name() {
    let mut twins = two().await;
    for line in [
        "TIME",
        "LASTSAVE",
        "ROLE",
        "INFO",
        "LOLWUT",
        "COMMAND COUNT",
        "COMMAND INFO get",
        "FUNCTION LIST",
        "FUNCTION STATS",
        "OBJECT HELP",
        "PUBLISH c m",
        "PING",
        "ECHO x",
    ] {
        let said = twins.behind.ask(line).await;
        assert!(!matches!(said, Reply::Error(_)), "{line}: {said}");
    }
    for (line, name) in [
        ("EVAL return(1) 0", "'eval'"),
        ("EVALSHA x 0", "'evalsha'"),
        ("FCALL f 0", "'fcall'"),
        ("SORT l BY w_*", "'sort'"),
        ("SORT l GET w_*", "'sort'"),
        ("WAIT 0 0", "'wait'"),
        ("SWAPDB 0 1", "'swapdb'"),
    ] {
        let said = twins.behind.ask(line).await;
        assert!(
            matches!(&said, Reply::Error(text) if text.contains(name)),
            "{line}: {said}"
        );
    }
}
