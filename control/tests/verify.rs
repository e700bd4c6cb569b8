//! The comparison against real servers that replicate, are written to meanwhile, and are tampered with.

#[cfg(test)]
mod verify_tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Duration;

    use tokio::task::JoinHandle;
    use understudy_config::BackendUrl;
    use understudy_control::verify::{
        CompareOptions, KeyRef, Kind, Outcome, Stage, VerifyError, compare, compare_keys,
        repair_ttls,
    };
    use understudy_lab::{Server, ServerOptions, Version};
    use understudy_net::{Client, Endpoint, Value};

    const LIMIT: Duration = Duration::from_secs(10);

    fn url(server: &Server) -> BackendUrl {
        server.url().parse().unwrap()
    }

    async fn client(server: &Server) -> Client {
        Client::connect(&Endpoint::from(&url(server)), LIMIT)
            .await
            .unwrap()
    }

    /// Commands as one would type them. A server that does not know one says so and goes on.
    async fn send(client: &mut Client, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            client
                .call(&line.split(' ').collect::<Vec<_>>())
                .await
                .unwrap();
        }
    }

    async fn pair(source: Version, target: Version) -> (Server, Server) {
        let source = Server::bare(source).await.unwrap();
        let target = Server::bare(target).await.unwrap();
        (source, target)
    }

    /// Every type in every encoding, in two databases.
    async fn fill(client: &mut Client) {
        for i in 0..600 {
            let n = i.to_string();
            let member = format!("member-{i}");
            let calls: [&[&str]; 9] = [
                &["SET", &format!("string:{i}"), &n.repeat(1 + i % 40)],
                &["SET", &format!("expiring:{i}"), &n, "PX", "3600000"],
                &["RPUSH", "list:large", &member],
                &["SADD", "set:large", &member],
                &["SADD", "set:ints", &n],
                &["ZADD", "zset:large", &format!("{i}.5"), &member],
                &["HSET", "hash:large", &member, &n],
                &[
                    "XADD",
                    "stream:large",
                    &format!("{}-1", i + 1),
                    "n",
                    &n,
                    "member",
                    &member,
                ],
                &["PFADD", "hll", &n],
            ];
            client.pipeline(&calls).await.unwrap();
        }
        send(client, SMALL).await;
        send(client, "SELECT 5\nSET elsewhere 1\nSELECT 0").await;
    }

    const SMALL: &str = "
        RPUSH list:small a 1 -70000 b
        SADD set:small a b 17
        HSET hash:small f v 17 -5
        HPEXPIREAT hash:small 4102444800000 FIELDS 1 f
        ZADD zset:small inf a -inf b 0.1 c
        GEOADD geo 13.361389 38.115556 Palermo
        SETBIT bits 1000 1
        XADD stream:small 1-1 a 1
        XADD stream:small 2-1 a 2
        XADD stream:small 3-1 b 3
        XDEL stream:small 2-1
        XGROUP CREATE stream:small readers 0
        XGROUP CREATE stream:small others $
        XREADGROUP GROUP readers alice COUNT 1 STREAMS stream:small >
        XREADGROUP GROUP readers bob COUNT 1 STREAMS stream:small >
        XACK stream:small readers 1-1
        XGROUP CREATECONSUMER stream:small readers nobody
        XGROUP CREATE stream:empty g $ MKSTREAM";

    #[track_caller]
    fn assert_equal(outcome: &Outcome) {
        let differences: Vec<String> = outcome
            .differences
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(
            outcome.is_equal(),
            "{differences:#?} {:?} {:?}",
            outcome.unverifiable,
            outcome.functions
        );
    }

    /// A busy test machine delays what a 6.2 source replicates as a time to live. That is not what is looked for here.
    fn patient() -> CompareOptions {
        CompareOptions {
            ttl_tolerance: Duration::from_secs(5),
            rounds_max: 6,
            ..CompareOptions::default()
        }
    }

    async fn compared(source: &Server, target: &Server) -> Outcome {
        compare(
            &url(source),
            &url(target),
            CompareOptions::default(),
            &|_| {},
        )
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn every_native_pair_holds_the_same_of_every_type() {
        for from in Version::ALL {
            for to in Version::ALL
                .into_iter()
                .filter(|to| to.can_follow(from) && *to != from)
            {
                let (source, target) = pair(from, to).await;
                let mut client = client(&source).await;
                fill(&mut client).await;
                target.follow(&source).await.unwrap();
                // Some of it arrives as commands instead of in the RDB.
                send(
                    &mut client,
                    &SMALL
                        .replace("small", "late")
                        .replace("empty", "late-empty"),
                )
                .await;
                send(
                    &mut client,
                    "SETEX late:ttl 1000 v\nEXPIRE string:1 1000\nSET gone v PX 1",
                )
                .await;
                let outcome = compare(&url(&source), &url(&target), patient(), &|_| {})
                    .await
                    .unwrap();
                assert_equal(&outcome);
                assert_eq!(outcome.unsettled, [], "{from} to {to}");
                assert!(
                    outcome.keys_compared > 1_220,
                    "{from} to {to}: {}",
                    outcome.keys_compared
                );
            }
        }
    }

    #[tokio::test]
    async fn two_servers_that_do_not_replicate_are_compared_too() {
        let (source, target) = pair(Version::Redis7_0_15, Version::Valkey9_1_2).await;
        for server in [&source, &target] {
            send(
                &mut client(server).await,
                "SET a 1\nHSET h f v\nPEXPIREAT a 4102444800000\nSELECT 3\nSET b 2",
            )
            .await;
        }
        assert_equal(&compared(&source, &target).await);
        send(&mut client(&target).await, "SELECT 9\nSET only-here 1").await;
        let outcome = compared(&source, &target).await;
        assert_eq!(named(&outcome), [("db9:only-here".to_owned(), Kind::Extra)]);
    }

    fn named(outcome: &Outcome) -> Vec<(String, Kind)> {
        outcome
            .differences
            .iter()
            .map(|difference| (difference.key.to_string(), difference.kind))
            .collect()
    }

    /// What is done to a replica behind its primary's back is found, by name, and nothing else is.
    async fn tampering_is_found(from: Version, to: Version) {
        let (source, target) = pair(from, to).await;
        let mut writer = client(&source).await;
        fill(&mut writer).await;
        target.follow(&source).await.unwrap();
        assert_equal(&compared(&source, &target).await);
        let mut tamper = client(&target).await;
        send(
            &mut tamper,
            "CONFIG SET replica-read-only no
             SETRANGE string:10 0 X
             PEXPIRE expiring:20 3500000
             PERSIST expiring:21
             PEXPIRE string:22 3500000
             DEL string:30
             SET extra:1 v
             DEL list:small
             SADD list:small a
             ZINCRBY zset:large 0.5 member-7
             HSET hash:large member-9 other
             LSET list:large 300 other
             SADD set:ints 1000
             XACK stream:small readers 3-1
             SELECT 5
             APPEND elsewhere 1
             SELECT 6
             SET extra:2 v",
        )
        .await;
        let outcome = compared(&source, &target).await;
        let mut found = named(&outcome);
        found.sort();
        let expect = [
            ("db0:expiring:20", Kind::Ttl),
            ("db0:expiring:21", Kind::Ttl),
            ("db0:extra:1", Kind::Extra),
            ("db0:hash:large", Kind::Value),
            ("db0:list:large", Kind::Value),
            ("db0:list:small", Kind::Type),
            ("db0:set:ints", Kind::Value),
            ("db0:stream:small", Kind::Value),
            ("db0:string:10", Kind::Value),
            ("db0:string:22", Kind::Ttl),
            ("db0:string:30", Kind::Missing),
            ("db0:zset:large", Kind::Value),
            ("db5:elsewhere", Kind::Value),
            ("db6:extra:2", Kind::Extra),
        ];
        assert_eq!(found, expect.map(|(key, kind)| (key.to_owned(), kind)));
        assert_eq!(outcome.unsettled, []);
        let changed = outcome
            .differences
            .iter()
            .find(|difference| difference.kind == Kind::Value)
            .unwrap();
        assert_ne!(changed.source_digest, changed.target_digest);
        assert!(changed.source_digest.is_some() && changed.target_digest.is_some());
        // The same, key by key, as it is done inside the hold.
        let keys: Vec<_> = outcome
            .differences
            .iter()
            .map(|difference| difference.key.clone())
            .collect();
        let options = CompareOptions::default().inside_hold();
        let again = compare_keys(&url(&source), &url(&target), &keys, options)
            .await
            .unwrap();
        assert_eq!(again.differences.len(), expect.len());
    }

    #[tokio::test]
    async fn tampering_with_8_2_behind_6_2_is_found_by_name() {
        tampering_is_found(Version::Redis6_2_14, Version::Redis8_2_3).await;
    }

    #[tokio::test]
    async fn tampering_with_valkey_9_behind_valkey_8_is_found_by_name() {
        tampering_is_found(Version::Valkey8_1_8, Version::Valkey9_1_2).await;
    }

    /// Writers that go on until dropped: hot counters, lists, short lives, streams that are read in groups.
    struct Writers {
        stop: Arc<AtomicBool>,
        written: Arc<AtomicU64>,
        tasks: Vec<JoinHandle<()>>,
    }

    impl Writers {
        async fn start(server: &Server, count: usize) -> Writers {
            let (stop, written) = (
                Arc::new(AtomicBool::new(false)),
                Arc::new(AtomicU64::new(0)),
            );
            let mut tasks = Vec::new();
            for writer in 0..count {
                let mut client = client(server).await;
                let (stop, written) = (stop.clone(), written.clone());
                tasks.push(tokio::spawn(async move {
                    send(
                        &mut client,
                        &format!("XGROUP CREATE live:stream:{writer} g $ MKSTREAM"),
                    )
                    .await;
                    let mut i = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        i += 1;
                        let (n, own) =
                            (i.to_string(), |kind: &str| format!("live:{kind}:{writer}"));
                        let stream = own("stream");
                        let calls: [&[&str]; 12] = [
                            &["INCR", "live:hot"],
                            &["APPEND", &own("text"), &n],
                            &["RPUSH", &own("list"), &n],
                            &["LTRIM", &own("list"), "-50", "-1"],
                            &[
                                "SET",
                                &format!("live:short:{writer}:{}", i % 200),
                                &n,
                                "PX",
                                "30",
                            ],
                            &[
                                "SETEX",
                                &format!("live:ttl:{writer}:{}", i % 500),
                                "100",
                                &n,
                            ],
                            &[
                                "EXPIRE",
                                &format!("live:ttl:{writer}:{}", (i + 7) % 500),
                                "50",
                            ],
                            &["HINCRBY", &own("hash"), &(i % 50).to_string(), "1"],
                            &["DEL", &format!("string:{}", i % 600)],
                            &["SET", &format!("string:{}", i % 600), &n],
                            &["XADD", &stream, "MAXLEN", "~", "50", "*", "n", &n],
                            &[
                                "XREADGROUP",
                                "GROUP",
                                "g",
                                "c",
                                "COUNT",
                                "1",
                                "STREAMS",
                                &stream,
                                ">",
                            ],
                        ];
                        for answer in client.pipeline(&calls).await.unwrap() {
                            assert_eq!(answer.as_error(), None);
                        }
                        // On a busy machine the replica falls further and further behind otherwise.
                        if i.is_multiple_of(20) {
                            client.call(&["WAIT", "1", "100"]).await.unwrap();
                        }
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                }));
            }
            Writers {
                stop,
                written,
                tasks,
            }
        }

        async fn stop(self) -> u64 {
            self.stop.store(true, Ordering::Relaxed);
            for task in self.tasks {
                task.await.unwrap();
            }
            self.written.load(Ordering::Relaxed)
        }
    }

    async fn live_writes_are_no_differences(from: Version, to: Version) {
        let (source, target) = pair(from, to).await;
        fill(&mut client(&source).await).await;
        target.follow(&source).await.unwrap();
        let writers = Writers::start(&source, 3).await;
        let mut unsettled = Vec::new();
        for _ in 0..4 {
            let outcome = compare(&url(&source), &url(&target), patient(), &|_| {})
                .await
                .unwrap();
            assert_equal(&outcome);
            unsettled = outcome.unsettled;
        }
        assert!(
            writers.stop().await > 100,
            "the comparison ran beside real writes"
        );
        let options = patient().inside_hold();
        let held = compare_keys(&url(&source), &url(&target), &unsettled, options)
            .await
            .unwrap();
        assert_equal(&held);
        assert_eq!(held.unsettled, [], "nothing moves in a hold");
    }

    #[tokio::test]
    async fn live_writes_from_6_2_to_8_2_are_no_differences() {
        live_writes_are_no_differences(Version::Redis6_2_14, Version::Redis8_2_3).await;
    }

    #[tokio::test]
    async fn live_writes_from_7_0_to_8_2_are_no_differences() {
        live_writes_are_no_differences(Version::Redis7_0_15, Version::Redis8_2_3).await;
    }

    #[tokio::test]
    async fn live_writes_from_valkey_8_to_9_are_no_differences() {
        live_writes_are_no_differences(Version::Valkey8_1_8, Version::Valkey9_1_2).await;
    }

    /// Two looks at a lock see it taken; in between it was free. With one confirmation, only WATCH can tell.
    #[tokio::test]
    async fn locks_that_are_taken_and_freed_all_the_time_are_no_differences() {
        let (source, target) = pair(Version::Redis6_2_14, Version::Redis8_2_3).await;
        target.follow(&source).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut lockers = Vec::new();
        for lock in 0..4 {
            let (mut client, stop, name) =
                (client(&source).await, stop.clone(), format!("lock:{lock}"));
            lockers.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    client.call(&["SET", &name, "mine"]).await.unwrap();
                    client.call(&["DEL", &name]).await.unwrap();
                }
            }));
        }
        let options = || CompareOptions {
            stable_rounds: 1,
            settle: Duration::ZERO,
            ..CompareOptions::default()
        };
        let keys: Vec<_> = (0..4)
            .map(|lock| KeyRef {
                db: 0,
                key: format!("lock:{lock}").into_bytes(),
            })
            .collect();
        for _ in 0..300 {
            let outcome = compare_keys(&url(&source), &url(&target), &keys, options())
                .await
                .unwrap();
            assert_equal(&outcome);
        }
        stop.store(true, Ordering::Relaxed);
        for locker in lockers {
            locker.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_lost_write_is_found_while_writes_go_on() {
        let (source, target) = pair(Version::Redis7_0_15, Version::Redis8_2_3).await;
        fill(&mut client(&source).await).await;
        target.follow(&source).await.unwrap();
        let writers = Writers::start(&source, 2).await;
        send(
            &mut client(&target).await,
            "CONFIG SET replica-read-only no\nHDEL hash:large member-3\nDEL list:small",
        )
        .await;
        let outcome = compared(&source, &target).await;
        writers.stop().await;
        let mut found = named(&outcome);
        found.sort();
        assert_eq!(
            found,
            [
                ("db0:hash:large".to_owned(), Kind::Value),
                ("db0:list:small".to_owned(), Kind::Missing)
            ]
        );
    }

    /// How long a command waits between source and target shows in what a 6.2 source replicates, and can be mended.
    #[tokio::test]
    async fn case_26_expiries_that_drifted_behind_6_2_are_found_and_repaired_on_the_source() {
        let (source, target) = pair(Version::Redis6_2_14, Version::Redis8_2_3).await;
        target.follow(&source).await.unwrap();
        target.stop_signal().unwrap();
        let mut writer = client(&source).await;
        send(
            &mut writer,
            "SET late v PX 100000\nSET other v\nEXPIRE other 200\nSET plain v",
        )
        .await;
        tokio::time::sleep(Duration::from_millis(300)).await; // The delay is what is tested.
        target.cont().unwrap();
        let outcome = compared(&source, &target).await;
        let mut found = named(&outcome);
        found.sort();
        assert_eq!(
            found,
            [
                ("db0:late".to_owned(), Kind::Ttl),
                ("db0:other".to_owned(), Kind::Ttl)
            ]
        );
        let repaired = repair_ttls(&url(&source), &outcome.differences, LIMIT)
            .await
            .unwrap();
        assert_eq!(repaired, 2);
        let outcome = compared(&source, &target).await;
        assert_equal(&outcome);
        assert!(
            outcome.ttl_drift_max <= Duration::from_millis(50),
            "{:?}",
            outcome.ttl_drift_max
        );
    }

    #[tokio::test]
    async fn a_drift_below_the_tolerance_is_told_and_tolerated_behind_6_2_only() {
        for (from, tolerated) in [(Version::Redis6_2_14, true), (Version::Redis7_0_15, false)] {
            let (source, target) = pair(from, Version::Redis8_2_3).await;
            send(
                &mut client(&source).await,
                "SET k v\nPEXPIREAT k 4102444800000",
            )
            .await;
            target.follow(&source).await.unwrap();
            send(
                &mut client(&target).await,
                "CONFIG SET replica-read-only no\nPEXPIREAT k 4102444800030",
            )
            .await;
            let outcome = compared(&source, &target).await;
            assert_eq!(outcome.differences.is_empty(), tolerated, "{from}");
            assert_eq!(
                outcome.ttl_drift_max >= Duration::from_millis(25),
                tolerated,
                "{from}"
            );
        }
    }

    #[tokio::test]
    async fn a_library_of_functions_that_differs_is_named() {
        let (source, target) = pair(Version::Redis7_0_15, Version::Redis8_2_3).await;
        let load = |name: &str, n: u8| {
            let code = format!(
                "#!lua name={name}\nredis.register_function('{name}', function() return {n} end)"
            );
            [
                "FUNCTION".to_owned(),
                "LOAD".to_owned(),
                "REPLACE".to_owned(),
                code,
            ]
        };
        for server in [&source, &target] {
            client(server).await.call(&load("same", 1)).await.unwrap();
        }
        client(&source)
            .await
            .call(&load("changed", 1))
            .await
            .unwrap();
        client(&target)
            .await
            .call(&load("changed", 2))
            .await
            .unwrap();
        client(&source).await.call(&load("gone", 1)).await.unwrap();
        let outcome = compared(&source, &target).await;
        assert_eq!(outcome.functions, ["changed", "gone"]);
        assert!(!outcome.is_equal());
    }

    #[tokio::test]
    async fn keys_that_expire_meanwhile_are_no_differences() {
        let (source, target) = pair(Version::Redis7_0_15, Version::Redis8_2_3).await;
        target.follow(&source).await.unwrap();
        let mut writer = client(&source).await;
        // Expired, but deleted by nobody yet: the target still counts them.
        send(&mut writer, "DEBUG SET-ACTIVE-EXPIRE 0").await;
        for i in 0..200 {
            send(&mut writer, &format!("SET short:{i} v PX {}", 1 + i)).await;
        }
        let outcome = compared(&source, &target).await;
        assert_equal(&outcome);
        assert_eq!(outcome.unsettled, []);
    }

    #[tokio::test]
    async fn too_many_differences_end_it_early_and_it_says_so() {
        let (source, target) = pair(Version::Redis7_0_15, Version::Redis8_2_3).await;
        fill(&mut client(&source).await).await;
        let options = CompareOptions {
            pending_max: 100,
            ..CompareOptions::default()
        };
        let outcome = compare(&url(&source), &url(&target), options, &|_| {})
            .await
            .unwrap();
        assert!(!outcome.complete && !outcome.is_equal());
        assert!(outcome.differences.len() >= 100 && outcome.keys_compared < 1_000);
    }

    #[tokio::test]
    async fn progress_goes_from_nothing_to_all() {
        let (source, target) = pair(Version::Redis7_0_15, Version::Redis8_2_3).await;
        fill(&mut client(&source).await).await;
        target.follow(&source).await.unwrap();
        let seen = std::sync::Mutex::new(Vec::new());
        let options = CompareOptions::default();
        compare(&url(&source), &url(&target), options, &|progress| {
            seen.lock().unwrap().push(progress);
        })
        .await
        .unwrap();
        let seen = seen.into_inner().unwrap();
        assert!(seen.len() > 10);
        assert_eq!(
            seen.last()
                .map(|progress| (progress.stage, progress.pending)),
            Some((Stage::Settling, 0))
        );
        assert!(seen.is_sorted_by_key(|progress| progress.keys_compared));
        assert_eq!(seen.last().unwrap().keys_compared, seen[0].keys_total);
    }

    #[tokio::test]
    async fn a_server_that_may_not_be_asked_is_named() {
        let (source, target) = pair(Version::Redis7_0_15, Version::Redis8_2_3).await;
        send(
            &mut client(&source).await,
            "SET k v\nACL SETUSER poor on >p ~* +@all -dump",
        )
        .await;
        target.follow(&source).await.unwrap();
        let poor: BackendUrl = format!("redis://poor:p@127.0.0.1:{}", source.port())
            .parse()
            .unwrap();
        let refused = compare(&poor, &url(&target), CompareOptions::default(), &|_| {})
            .await
            .unwrap_err();
        assert!(matches!(refused, VerifyError::Refused { .. }), "{refused}");
        assert!(
            refused.to_string().contains(&source.port().to_string()),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn a_password_is_enough_to_be_let_in() {
        let options = || ServerOptions::new().password("s3cret");
        let source = Server::start(Version::Redis6_2_14, options())
            .await
            .unwrap();
        let target = Server::start(Version::Valkey8_1_8, options())
            .await
            .unwrap();
        let answer = client(&source)
            .await
            .call(&["SET", "k", "v"])
            .await
            .unwrap();
        assert_eq!(answer, Value::Simple("OK".to_owned()));
        target.follow(&source).await.unwrap();
        assert_equal(&compared(&source, &target).await);
    }
}
