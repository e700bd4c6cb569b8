//! Two shards behave as the one server that an application takes them for.

use std::collections::BTreeSet;

use understudy_lab::Version;
use understudy_lab::wire::Reply;

use crate::parity::rows::rows;
use crate::parity::twins::Twins;

/// Keys that fnv1a_64 does not leave side by side on the ring.
pub(super) fn key(number: u32) -> String {
    format!("{number}:key")
}

pub(super) async fn two() -> Twins {
    Twins::of_shards(Version::Redis8_2_3, 2).await
}

impl Twins {
    async fn compare(&mut self, lines: &[String]) {
        self.run(&rows(&lines.join("\n")), 50).await;
        self.expect_none();
    }

    async fn both_shards_hold_keys(&self) {
        for shard in &self.shards {
            let keys = shard.call(&["DBSIZE"]).await.unwrap().as_integer();
            assert!(keys.unwrap() > 20, "{keys:?}");
        }
    }

    #[track_caller]
    fn words(reply: Reply) -> Vec<String> {
        let word = |reply: Reply| String::from_utf8(reply.into_bytes().unwrap()).unwrap();
        reply
            .into_elements()
            .unwrap()
            .into_iter()
            .map(word)
            .collect()
    }

    /// A whole iteration, and how many steps it took.
    async fn scan(&mut self, options: &str) -> (Vec<String>, usize) {
        let (mut cursor, mut found, mut steps) = ("0".to_owned(), Vec::new(), 0);
        loop {
            let reply = self.behind.ask(&format!("SCAN {cursor}{options}")).await;
            let [next, keys] = reply.into_elements().unwrap().try_into().unwrap();
            cursor = String::from_utf8(next.into_bytes().unwrap()).unwrap();
            found.extend(Twins::words(keys));
            steps += 1;
            if cursor == "0" {
                return (found, steps);
            }
        }
    }
}

/// Lists of keys in an order of their own, with some twice, some missing and some that are no strings.
fn lists() -> Vec<String> {
    let word = |at: u32| {
        if at.is_multiple_of(17) {
            format!("list{at}")
        } else {
            key(at)
        }
    };
    (0..40_u32)
        .map(|list| {
            let keys = (0..=list).map(|at| word((at * 29 + list * 7) % 120));
            keys.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

#[tokio::test]
async fn commands_of_many_keys_are_split_and_joined() {
    for resp3 in [false, true] {
        let mut twins = two().await;
        if resp3 {
            twins = twins.resp3().await;
        }
        let mut lines: Vec<String> = (0..120)
            .step_by(17)
            .map(|at| format!("RPUSH list{at} a b"))
            .collect();
        for list in lists() {
            let pairs = list
                .split(' ')
                .enumerate()
                .map(|(at, key)| format!("{key} {at}"));
            if !list.contains("list") {
                lines.push(format!("MSET {}", pairs.collect::<Vec<_>>().join(" ")));
            }
            lines.push(format!("MGET {list}"));
            lines.push(format!("EXISTS {list}"));
            lines.push(format!("TOUCH {list}"));
        }
        lines.extend((0..100).map(|at| format!("SET {} {at}", key(at))));
        twins.compare(&lines).await;
        twins.both_shards_hold_keys().await;
        let removing = lists().into_iter().enumerate().flat_map(|(at, list)| {
            let verb = if at % 2 == 0 { "DEL" } else { "UNLINK" };
            [
                format!("{verb} {list}"),
                format!("MGET {list}"),
                "DBSIZE".to_owned(),
            ]
        });
        twins.compare(&removing.collect::<Vec<_>>()).await;
        let wrong = [
            "MGET",
            "MSET",
            "MSET a",
            "MSET a 1 b",
            "DEL",
            "EXISTS",
            "TOUCH",
            "UNLINK",
            "DBSIZE x",
        ];
        twins.compare(&wrong.map(str::to_owned)).await;
    }
}

#[tokio::test]
async fn a_pipeline_of_splits_and_single_keys_keeps_its_order() {
    let mut twins = two().await;
    let lines: Vec<String> = (0..600_u32)
        .map(|at| match at % 6 {
            0 => format!("SET {} {at}", key(at % 50)),
            1 => format!(
                "MGET {} {} {}",
                key(at % 50),
                key((at + 7) % 50),
                key((at + 13) % 50)
            ),
            2 => format!("ECHO {at}"),
            3 => format!(
                "MSET {} {at} {} {at}",
                key((at + 5) % 50),
                key((at + 6) % 50)
            ),
            4 => format!("DEL {} {}", key((at + 3) % 50), key((at + 11) % 50)),
            _ => "DBSIZE".to_owned(),
        })
        .collect();
    twins.run(&rows(&lines.join("\n")), 600).await;
    twins.expect_none();
}

#[tokio::test]
async fn a_scan_gives_the_union_of_all_shards() {
    let mut twins = two().await;
    let mut lines: Vec<String> = (0..3_000)
        .map(|at| format!("SET {} {at}", key(at)))
        .collect();
    lines.extend((0..50).map(|at| format!("RPUSH {at}:list {at}")));
    twins.compare(&lines).await;
    twins.both_shards_hold_keys().await;
    let all: BTreeSet<String> = (0..3_000)
        .map(key)
        .chain((0..50).map(|at| format!("{at}:list")))
        .collect();
    for (options, expect) in [
        ("", all.clone()),
        (" COUNT 500", all.clone()),
        (" COUNT 1000000", all.clone()),
        (
            " MATCH 1*",
            all.iter()
                .filter(|key| key.starts_with('1'))
                .cloned()
                .collect(),
        ),
        (
            " TYPE list COUNT 100",
            all.iter()
                .filter(|key| key.ends_with("list"))
                .cloned()
                .collect(),
        ),
        (
            " MATCH 1* COUNT 100 TYPE list",
            all.iter()
                .filter(|key| key.starts_with('1') && key.ends_with("list"))
                .cloned()
                .collect(),
        ),
        (" MATCH nosuch*", BTreeSet::new()),
    ] {
        let (found, steps) = twins.scan(options).await;
        let unique: BTreeSet<String> = found.iter().cloned().collect();
        assert_eq!(unique.len(), found.len(), "{options}: a key came twice");
        assert_eq!(unique, expect, "{options}");
        assert!(steps > 1, "{options}: both shards are walked");
    }
    let keys = twins.behind.ask("KEYS *").await;
    assert_eq!(Twins::words(keys).into_iter().collect::<BTreeSet<_>>(), all);
    assert_eq!(twins.behind.ask("DBSIZE").await, Reply::Integer(3_050));
    for _ in 0..20 {
        let picked = twins.behind.ask("RANDOMKEY").await.into_bytes().unwrap();
        assert!(all.contains(std::str::from_utf8(&picked).unwrap()));
    }
    for bad in ["SCAN x", "SCAN -1", "SCAN 0 COUNT 0", "SCAN 0 WHAT", "SCAN"] {
        let said = twins.behind.ask(bad).await;
        assert_eq!(said, twins.direct.ask(bad).await, "{bad}");
    }
}

#[tokio::test]
async fn what_speaks_of_all_data_speaks_to_all_shards() {
    let mut twins = two().await;
    let fill: Vec<String> = (0..100).map(|at| format!("SET {} {at}", key(at))).collect();
    for verb in ["FLUSHDB", "FLUSHALL", "FLUSHDB ASYNC", "FLUSHALL SYNC"] {
        let mut lines = vec!["SELECT 1".to_owned()];
        lines.extend(fill.clone());
        lines.push("SELECT 0".to_owned());
        lines.extend(fill.clone());
        lines.extend(
            [
                "FLUSHDB WHAT",
                "DBSIZE",
                verb,
                "DBSIZE",
                "RANDOMKEY",
                "KEYS *",
            ]
            .map(str::to_owned),
        );
        lines.extend(["SELECT 1", "DBSIZE", "FLUSHALL", "DBSIZE", "SELECT 0"].map(str::to_owned));
        twins.compare(&lines).await;
    }
    let sha = "1fa00e76656cc152ad327c13fe365858fd7be306";
    let mut lines = vec![
        format!("SCRIPT EXISTS {sha}"),
        "SCRIPT LOAD \"return 42\"".to_owned(),
        "SCRIPT LOAD \"no lua\"".to_owned(),
        format!("SCRIPT EXISTS {sha} {}", "f".repeat(40)),
    ];
    lines.extend((0..20).map(|at| format!("EVALSHA {sha} 1 {}", key(at))));
    lines.extend([
        "SCRIPT FLUSH".to_owned(),
        format!("SCRIPT EXISTS {sha}"),
        format!("EVALSHA {sha} 1 k"),
    ]);
    lines.push("FUNCTION LOAD \"#!lua name=lib\\nredis.register_function('f', function(keys, args) return keys[1] end)\"".to_owned());
    lines.extend((0..20).map(|at| format!("FCALL f 1 {}", key(at))));
    lines.extend(
        [
            "FUNCTION LOAD nolib",
            "FUNCTION DELETE lib",
            "FUNCTION DELETE lib",
            "FUNCTION FLUSH",
        ]
        .map(str::to_owned),
    );
    lines.extend((0..4).map(|at| format!("FCALL f 1 {}", key(at))));
    twins.compare(&lines).await;
}
