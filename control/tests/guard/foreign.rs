//! What the source cannot execute is named, and it is exactly what differs.

use std::collections::BTreeSet;

use understudy_lab::Version;

use crate::pair::Pair;

/// Keys of the databases 0 and 3 whose DEBUG DIGEST-VALUE differs, or that only one server has.
async fn differing(pair: &mut Pair) -> BTreeSet<(u32, String)> {
    let mut differing = BTreeSet::new();
    for db in [0, 3] {
        let mut keys = BTreeSet::new();
        for link in [&mut pair.source_link, &mut pair.target_link] {
            link.raw(&["SELECT", &db.to_string()]).await.unwrap();
            let all = link.raw(&["KEYS", "*"]).await.unwrap().into_vec().unwrap();
            keys.extend(all.iter().filter_map(understudy_net::Value::as_str_lossy));
        }
        for key in keys {
            let mut digests = Vec::new();
            for link in [&mut pair.source_link, &mut pair.target_link] {
                let digest = link.raw(&["DEBUG", "DIGEST-VALUE", &key]).await.unwrap();
                digests.push(format!("{digest:?}"));
            }
            if digests[0] != digests[1] {
                differing.insert((db, key));
            }
        }
    }
    for link in [&mut pair.source_link, &mut pair.target_link] {
        link.raw(&["SELECT", "0"]).await.unwrap();
    }
    differing
}

#[tokio::test]
async fn every_key_of_a_transaction_that_the_source_dropped_is_reported() {
    let mut pair = Pair::start(Version::Redis6_2_14, Version::Redis8_2_3).await;
    pair.cut_over().await;
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let transactions = [
        vec![
            "INCR money",
            "HSET wallet coins 1",
            "HEXPIRE wallet 1000 FIELDS 1 coins",
            "RPUSH events paid",
        ],
        vec!["INCR harmless", "EXPIRE text:1 777"],
        vec!["SET text:5 x", "EXPIRE text:5 100", "EXPIRE text:5 200 GT"],
    ];
    for transaction in transactions {
        let commands: Vec<Vec<String>> = transaction.iter().map(|line| words(line)).collect();
        let answers = pair.target_link.transaction(&commands).await.unwrap();
        assert!(
            answers.iter().all(|answer| answer.as_error().is_none()),
            "{answers:?}"
        );
    }
    pair.on_target("SELECT 3").await;
    pair.on_target("HPEXPIRE nothing 1 FIELDS 1 f").await;
    pair.on_target("HSET other f v").await;
    pair.on_target("HEXPIRE other 5000 FIELDS 1 f").await;
    pair.on_target("SELECT 0").await;
    let script = "redis.call('INCR', KEYS[1]); redis.call('HSETEX', KEYS[2], 'EX', 1000, 'FIELDS', 1, 'f', 'v'); return 1";
    let args = ["EVAL", script, "2", "by-script", "hash-by-script"];
    pair.target_link
        .raw(&args)
        .await
        .unwrap()
        .into_ok()
        .unwrap();
    pair.until_equal().await;

    let foreign = pair.guard.foreign();
    assert!(foreign.whole, "{foreign:?}");
    assert_eq!(foreign.count, 4, "{foreign:?}");
    let reported: BTreeSet<(u32, String)> = foreign
        .keys
        .iter()
        .map(|key| {
            (
                key.db.unwrap(),
                String::from_utf8_lossy(&key.key).into_owned(),
            )
        })
        .collect();
    let differing = differing(&mut pair).await;
    let missed: Vec<_> = differing.difference(&reported).collect();
    assert!(missed.is_empty(), "differ and are not reported: {missed:?}");
    let expected = [
        "by-script",
        "events",
        "hash-by-script",
        "money",
        "text:5",
        "wallet",
    ];
    let mut expected: BTreeSet<(u32, String)> =
        expected.iter().map(|key| (0, (*key).to_owned())).collect();
    expected.insert((3, "other".to_owned()));
    assert_eq!(reported, expected);
}

#[tokio::test]
async fn a_load_that_the_source_knows_is_followed_exactly() {
    let mut pair = Pair::start(Version::Redis7_0_15, Version::Redis8_2_3).await;
    pair.cut_over().await;
    for number in 0..200 {
        pair.on_target(&format!("SET text:{number} new EX 5000"))
            .await;
        pair.on_target(&format!("ZADD scores {number} member:{number}"))
            .await;
        pair.on_target("LPOP list:3").await;
        pair.on_target("XADD stream MAXLEN ~ 10 * field value")
            .await;
        pair.on_target("SPOP nobody").await;
    }
    pair.until_equal().await;
    assert!(
        pair.guard.foreign().is_exact(),
        "{:?}",
        pair.guard.foreign()
    );
    assert_eq!(differing(&mut pair).await, BTreeSet::new());
}
