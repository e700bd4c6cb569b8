//! Upgrades of real servers, with a proxy that is only a gate.

#[cfg(test)]
#[expect(dead_code, reason = "the crash tests use the rest of it")]
mod stub;

#[cfg(test)]
mod upgrade_tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use understudy_config::{BackendUrl, Config, ListenAddress};
    use understudy_control::Control;
    use understudy_lab::{Server, ServerOptions, Version};
    use understudy_net::{AdminHandler, AdminRequest, Client, Endpoint, Value};

    use crate::stub::{Gate, StubProxy};

    const LIMIT: Duration = Duration::from_secs(10);

    struct Scene {
        source: Server,
        target: Server,
        proxy: Arc<StubProxy>,
        config: Arc<Config>,
        control: Control,
        admin: Arc<dyn AdminHandler>,
        _data: tempfile::TempDir,
    }

    fn config(data: &Path, source: &Server) -> Arc<Config> {
        let backend: BackendUrl = source.url().parse().unwrap();
        let mut config = Config::embedded(ListenAddress::Tcp("127.0.0.1".to_owned(), 1), backend);
        config.data_dir = data.to_owned();
        config.pools[0].name = "p".to_owned();
        Arc::new(config)
    }

    async fn scene(source: Version, target: Version) -> Scene {
        let data = tempfile::tempdir().unwrap();
        let source = Server::bare(source).await.unwrap();
        let target = Server::bare(target).await.unwrap();
        let proxy = StubProxy::new(&source.url());
        let config = config(data.path(), &source);
        let control = Control::start(config.clone(), Some(proxy.admin()))
            .await
            .unwrap();
        let admin = control.admin_handler();
        fill(&source).await;
        Scene {
            source,
            target,
            proxy,
            config,
            control,
            admin,
            _data: data,
        }
    }

    async fn client(server: &Server) -> Client {
        Client::connect(
            &Endpoint::from(&server.url().parse::<BackendUrl>().unwrap()),
            LIMIT,
        )
        .await
        .unwrap()
    }

    async fn fill(server: &Server) {
        let mut client = client(server).await;
        for index in 0..200 {
            client
                .call(&["SET", &format!("key:{index}"), &index.to_string()])
                .await
                .unwrap();
            client
                .call(&["HSET", "hash", &format!("f{index}"), "v"])
                .await
                .unwrap();
            client
                .call(&["SET", &format!("short:{index}"), "v", "EX", "3600"])
                .await
                .unwrap();
        }
    }

    impl Scene {
        async fn upgrade(&self, line: &str) -> Value {
            let args = line
                .split(' ')
                .map(|word| Bytes::copy_from_slice(word.as_bytes()))
                .collect();
            self.admin
                .call(AdminRequest {
                    args,
                    user: "test".to_owned(),
                })
                .await
        }

        #[track_caller]
        fn is_ok(value: &Value) {
            assert!(value.is_ok(), "{value:?}");
        }

        async fn start(&self, options: &str) -> Value {
            let line = format!(
                "START p TO s1={} ACCEPT other-writers {options}",
                self.target.url()
            );
            self.upgrade(line.trim()).await
        }

        async fn wait(&self, phase: &str) {
            let answer = self.upgrade(&format!("WAIT p {phase} 30000")).await;
            if !answer.is_ok() {
                panic!("{answer:?}\n{}", self.status().await);
            }
        }

        async fn status(&self) -> String {
            self.upgrade("STATUS p").await.as_str_lossy().unwrap()
        }

        async fn json(&self) -> serde_json::Value {
            let text = self.upgrade("STATUS p JSON").await.as_str_lossy().unwrap();
            serde_json::from_str(&text).unwrap()
        }

        async fn way_back_is(&self, expect: &str) {
            let deadline = std::time::Instant::now() + LIMIT;
            loop {
                let status = self.json().await;
                if status["shards"][0]["way_back"] == expect {
                    return;
                }
                assert!(std::time::Instant::now() < deadline, "{status:#}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn role(server: &Server) -> String {
        server.info("role").await.unwrap().unwrap()
    }

    async fn set(server: &Server, key: &str) -> String {
        client(server)
            .await
            .call(&["SET", key, "x"])
            .await
            .unwrap()
            .as_str_lossy()
            .unwrap()
    }

    #[tokio::test]
    async fn a_shard_is_upgraded_soaks_and_is_finalized() {
        let scene = scene(Version::Redis6_2_14, Version::Redis8_2_3).await;
        Scene::is_ok(&scene.start("").await);
        scene.wait("soak").await;
        assert_eq!(scene.proxy.told(), ["HOLD", "PREPARE", "SWITCH", "RELEASE"]);
        let gate = scene.proxy.gate();
        assert_eq!(
            (gate.state, gate.epoch, gate.backend.as_str()),
            ("open", 1, scene.target.url().as_str())
        );
        assert_eq!(role(&scene.source).await, "slave");
        assert_eq!(role(&scene.target).await, "master");
        assert!(set(&scene.source, "late").await.starts_with("READONLY"));
        assert_eq!(set(&scene.target, "new").await, "OK");
        scene.way_back_is("exact").await;
        let status = scene.json().await;
        assert_eq!(status["phase"], "soak");
        assert_eq!(status["shards"][0]["differences"], 0);
        assert!(
            status["shards"][0]["hold_ms"].as_f64().unwrap() >= 4.0,
            "what the proxies saw, or the hold itself where that was longer"
        );
        assert!(status["shards"][0]["snapshot"].is_string());
        Scene::is_ok(&scene.upgrade("FINALIZE p").await);
        scene.wait("finalized").await;
        assert!(
            set(&scene.source, "late").await.starts_with("READONLY"),
            "the loser stays fenced"
        );
    }

    #[tokio::test]
    async fn a_shard_is_rolled_back_with_what_was_written_in_soak_and_upgraded_again() {
        let scene = scene(Version::Redis6_2_14, Version::Redis8_2_3).await;
        Scene::is_ok(&scene.start("").await);
        scene.wait("soak").await;
        assert_eq!(set(&scene.target, "written-in-soak").await, "OK");
        scene.way_back_is("exact").await;
        Scene::is_ok(&scene.upgrade("ROLLBACK p s1").await);
        scene.wait("rolled_back").await;
        assert_eq!(role(&scene.source).await, "master");
        assert_eq!(role(&scene.target).await, "slave");
        let gate = scene.proxy.gate();
        assert_eq!(
            (gate.state, gate.epoch, gate.backend.as_str()),
            ("open", 2, scene.source.url().as_str())
        );
        let mut source = client(&scene.source).await;
        assert_eq!(
            source
                .call(&["GET", "written-in-soak"])
                .await
                .unwrap()
                .as_str_lossy()
                .unwrap(),
            "x"
        );
        Scene::is_ok(&scene.start("").await);
        scene.wait("soak").await;
        assert_eq!(scene.proxy.gate().epoch, 3);
    }

    /// Servers whose files say what breaks a fence, and a new primary.
    #[tokio::test]
    async fn hazards_11_and_31_writable_replicas_are_fenced_and_a_lonely_new_primary_takes_writes()
    {
        let data = tempfile::tempdir().unwrap();
        let options = ServerOptions::new()
            .set("replica-read-only", "no")
            .set("min-replicas-to-write", "0");
        let source = Server::start(Version::Redis6_2_14, options).await.unwrap();
        let options = ServerOptions::new()
            .set("replica-read-only", "no")
            .set("min-replicas-to-write", "1");
        let target = Server::start(Version::Redis8_2_3, options).await.unwrap();
        let proxy = StubProxy::new(&source.url());
        let config = config(data.path(), &source);
        let control = Control::start(config.clone(), Some(proxy.admin()))
            .await
            .unwrap();
        let admin = control.admin_handler();
        fill(&source).await;
        let scene = Scene {
            source,
            target,
            proxy,
            config,
            control,
            admin,
            _data: data,
        };
        Scene::is_ok(&scene.start("CUTOVER manual").await);
        waiting(&scene).await;
        assert!(set(&scene.target, "astray").await.starts_with("READONLY"));
        Scene::is_ok(&scene.upgrade("CUTOVER p").await);
        scene.wait("soak").await;
        assert!(set(&scene.source, "astray").await.starts_with("READONLY"));
        // The source follows it again: it has its one replica, or needs none.
        let mut target = client(&scene.target).await;
        let needs = ["CONFIG", "GET", "min-replicas-to-write"];
        let needs = target.call(&needs).await.unwrap();
        let needs = needs.field("min-replicas-to-write").and_then(Value::as_i64);
        assert_eq!(needs, Some(0));
        assert_eq!(set(&scene.target, "new").await, "OK");
    }

    #[tokio::test]
    async fn a_rollback_that_would_lose_keys_is_blocked_until_they_are_accepted() {
        let scene = scene(Version::Redis6_2_14, Version::Redis8_2_3).await;
        Scene::is_ok(&scene.start("").await);
        scene.wait("soak").await;
        scene.way_back_is("exact").await;
        let mut target = client(&scene.target).await;
        target
            .call(&["HEXPIRE", "hash", "9000", "FIELDS", "1", "f1"])
            .await
            .unwrap()
            .into_ok()
            .unwrap();
        scene.way_back_is("exact except 1 keys").await;
        let refused = scene.upgrade("ROLLBACK p").await;
        assert!(
            refused.as_error().unwrap().starts_with("BLOCKED"),
            "{refused:?}"
        );
        Scene::is_ok(&scene.upgrade("ROLLBACK p s1 ACCEPT-LOSS 1").await);
        scene.wait("rolled_back").await;
        let report = scene.upgrade("REPORT p").await.as_str_lossy().unwrap();
        let left = report
            .lines()
            .find(|line| line.contains("rolled back without 1 keys"));
        assert!(left.is_some_and(|line| line.ends_with("hash")), "{report}");
        // What was left behind is on the target still, and a partial resync does not take it away.
        Scene::is_ok(&scene.start("").await);
        scene.wait("aborted").await;
        let error = scene.json().await["error"].to_string();
        assert!(error.contains("empty it and START again"), "{error}");
        for command in [&["REPLICAOF", "NO", "ONE"][..], &["FLUSHALL"]] {
            client(&scene.target).await.call(command).await.unwrap();
        }
        Scene::is_ok(&scene.start("").await);
        scene.wait("soak").await;
    }

    #[tokio::test]
    async fn a_drain_that_does_not_end_is_tried_again_and_then_aborted_with_the_source_serving() {
        let scene = scene(Version::Redis6_2_14, Version::Redis8_2_3).await;
        scene
            .proxy
            .refuse(Some(("HOLD", "NOTHELD worker 1 in flight 3")));
        Scene::is_ok(&scene.start("").await);
        scene.wait("aborted").await;
        let holds = scene
            .proxy
            .told()
            .iter()
            .filter(|verb| *verb == "HOLD")
            .count();
        assert_eq!(holds, 3);
        assert_eq!(set(&scene.source, "still-here").await, "OK");
        let status = scene.json().await;
        assert!(
            status["error"]
                .as_str()
                .unwrap()
                .contains("NOTHELD worker 1 in flight 3"),
            "{status:#}"
        );
        let url = |field: &str| status["shards"][0][field].as_str().unwrap().to_owned();
        let (source, target) = (url("source"), url("target"));
        // The target is left fenced; a second primary is never the remedy.
        let by_hand = serde_json::json!([
            format!("redis-cli -u {target} REPLICAOF 127.0.0.1 1"),
            format!("redis-cli -u {source} REPLICAOF NO ONE"),
            format!("redis-cli -u {source} CLIENT UNPAUSE"),
        ]);
        assert_eq!(status["shards"][0]["by_hand"], by_hand);
    }

    #[tokio::test]
    async fn a_proxy_that_does_not_prepare_undoes_the_attempt() {
        let scene = scene(Version::Redis7_0_15, Version::Redis8_2_3).await;
        scene.proxy.refuse(Some(("PREPARE", "NOTHELD shard s1")));
        Scene::is_ok(&scene.start("").await);
        scene.wait("aborted").await;
        assert_eq!(scene.proxy.gate().state, "open");
        assert_eq!(set(&scene.source, "still-here").await, "OK");
    }

    #[tokio::test]
    async fn manual_waits_and_a_rehearsal_changes_nothing() {
        let scene = scene(Version::Redis6_2_14, Version::Redis8_2_3).await;
        Scene::is_ok(&scene.start("CUTOVER manual").await);
        waiting(&scene).await;
        let lines = scene.upgrade("REHEARSE p").await;
        assert!(format!("{lines:?}").contains("predicted gap"), "{lines:?}");
        assert!(format!("{lines:?}").contains("CUTOVER when"), "{lines:?}");
        assert_eq!(role(&scene.source).await, "master");
        assert_eq!(set(&scene.source, "after-rehearsal").await, "OK");
        assert_eq!(scene.proxy.gate().state, "open");
        waiting(&scene).await;
        Scene::is_ok(&scene.upgrade("CUTOVER p").await);
        scene.wait("soak").await;
        let mut target = client(&scene.target).await;
        assert_eq!(
            target
                .call(&["GET", "after-rehearsal"])
                .await
                .unwrap()
                .as_str_lossy()
                .unwrap(),
            "x"
        );
    }

    async fn waiting(scene: &Scene) {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while scene.json().await["shards"][0]["waiting"] != "UPGRADE CUTOVER" {
            assert!(
                std::time::Instant::now() < deadline,
                "{}",
                scene.status().await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    #[tokio::test]
    async fn abort_before_the_commit_leaves_the_source_as_it_was() {
        let scene = scene(Version::Redis6_2_14, Version::Redis8_2_3).await;
        Scene::is_ok(&scene.start("CUTOVER manual").await);
        waiting(&scene).await;
        Scene::is_ok(&scene.upgrade("ABORT p").await);
        assert_eq!(set(&scene.source, "still-here").await, "OK");
        let mut source = client(&scene.source).await;
        let priority = source
            .call(&["CONFIG", "GET", "replica-priority"])
            .await
            .unwrap();
        assert_eq!(
            priority.field("replica-priority").and_then(Value::as_i64),
            Some(100)
        );
        assert!(
            set(&scene.target, "x").await.starts_with("READONLY"),
            "the target is left fenced"
        );
        Scene::is_ok(&scene.start("").await);
        scene.wait("soak").await;
    }

    #[tokio::test]
    async fn what_blocks_is_named_with_its_remedy() {
        let scene = scene(Version::Redis6_2_14, Version::Redis8_2_3).await;
        set(&scene.target, "old-data").await;
        let line = format!("START p TO s1={}", scene.target.url());
        let refused = scene.upgrade(&line).await;
        let text = refused.as_error().unwrap();
        assert!(text.starts_with("BLOCKED target-not-empty"), "{text}");
        assert!(text.contains("say REPLACE"), "{text}");
        let plan = scene.upgrade(&line.replace("START", "PLAN")).await;
        let plan = format!("{plan:?}");
        assert!(
            plan.contains("s1 BLOCKED target-not-empty") && plan.contains("fence"),
            "{plan}"
        );
        for (line, expect) in [
            (
                "START q TO s1=redis://127.0.0.1:1",
                "ERR no pool 'q': the config has p",
            ),
            (
                "START p TO s9=redis://127.0.0.1:1",
                "ERR no shard 's9' in pool 'p': it has s1",
            ),
            ("START p TO s1", "ERR no shard=url after TO, but 's1'"),
            ("STATUS p", "NOUPGRADE"),
            (
                "START p TO s1=redis://u:secret@127.0.0.1:1",
                "ERR the url of shard 's1' carries a password",
            ),
            ("START p TO s1=redis://127.0.0.1:1", "BLOCKED unreachable"),
        ] {
            let answer = scene.upgrade(line).await;
            assert!(
                answer.as_error().unwrap().starts_with(expect),
                "{line}: {answer:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_verb_that_comes_too_early_or_twice_is_told_where_each_shard_stands() {
        let scene = scene(Version::Redis6_2_14, Version::Redis8_2_3).await;
        let status = scene.upgrade("STATUS").await.as_str_lossy().unwrap();
        assert!(
            status.starts_with("# no pool was ever upgraded"),
            "{status}"
        );
        Scene::is_ok(&scene.start("CUTOVER manual").await);
        waiting(&scene).await;
        let check = async |line: &str, expect: &str| {
            let answer = scene.upgrade(line).await;
            let text = answer.as_error().unwrap_or_default();
            assert!(text.contains(expect), "{line}: {answer:?}");
        };
        let waits = "s1 is in cutover, waiting for UPGRADE CUTOVER";
        check("WAIT p soak 1", waits).await;
        check("ROLLBACK p", waits).await;
        let under_way = "UPGRADE ABORT p stops it before its commit";
        let again = format!("START p TO s1={}", scene.target.url());
        check(&again, under_way).await;
        Scene::is_ok(&scene.upgrade("CUTOVER p").await);
        scene.wait("soak").await;
        check("CUTOVER p", "s1 is in soak").await;
        scene.way_back_is("exact").await;
        Scene::is_ok(&scene.upgrade("ROLLBACK p").await);
        for verb in ["ROLLBACK p", "FINALIZE p"] {
            let answer = scene.upgrade(verb).await;
            let text = answer.as_error().unwrap_or_default();
            let said = text.contains("being rolled back") || text.contains("s1 is in rolled_back");
            assert!(said, "{verb}: {answer:?}");
        }
        scene.wait("rolled_back").await;
        check("WAIT p finalized 60000", "will not reach finalized").await;
    }

    #[tokio::test]
    async fn a_restart_of_control_in_soak_keeps_the_way_back() {
        let mut scene = scene(Version::Redis6_2_14, Version::Redis8_2_3).await;
        Scene::is_ok(&scene.start("").await);
        scene.wait("soak").await;
        scene.way_back_is("exact").await;
        scene = restart(scene).await;
        assert_eq!(set(&scene.target, "while-away").await, "OK");
        scene.way_back_is("exact").await;
        Scene::is_ok(&scene.upgrade("ROLLBACK p").await);
        scene.wait("rolled_back").await;
    }

    #[tokio::test]
    async fn hazard_24_a_target_that_was_restarted_while_control_was_away_is_named() {
        let mut scene = scene(Version::Redis7_0_15, Version::Redis8_2_3).await;
        Scene::is_ok(&scene.start("").await);
        scene.wait("soak").await;
        scene = restart_with(scene, true).await;
        let deadline = std::time::Instant::now() + LIMIT;
        loop {
            let warnings = scene.json().await["shards"][0]["warnings"].to_string();
            if warnings.contains("the target was restarted") {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{warnings}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn restart(scene: Scene) -> Scene {
        restart_with(scene, false).await
    }

    /// Control is started again; its target too, while it is away.
    async fn restart_with(scene: Scene, target_too: bool) -> Scene {
        let Scene {
            source,
            mut target,
            proxy,
            config,
            control,
            admin,
            _data,
        } = scene;
        control.stop().await;
        if target_too {
            target.kill9().unwrap();
            target.restart().await.unwrap();
        }
        drop(admin);
        let deadline = std::time::Instant::now() + LIMIT;
        let control = loop {
            match Control::start(config.clone(), Some(proxy.admin())).await {
                Ok(control) => break control,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let admin = control.admin_handler();
        Scene {
            source,
            target,
            proxy,
            config,
            control,
            admin,
            _data,
        }
    }

    #[tokio::test]
    async fn a_proxy_left_prepared_by_a_dead_attempt_is_released_at_start() {
        let scene = scene(Version::Redis6_2_14, Version::Redis8_2_3).await;
        Scene::is_ok(&scene.start("").await);
        scene.wait("soak").await;
        Scene::is_ok(&scene.upgrade("FINALIZE p").await);
        let backend = scene.proxy.gate().backend;
        scene.proxy.set(Gate {
            state: "prepared",
            epoch: 1,
            term: 9,
            backend,
        });
        let scene = restart(scene).await;
        let deadline = std::time::Instant::now() + LIMIT;
        while scene.proxy.gate().state != "open" {
            assert!(
                std::time::Instant::now() < deadline,
                "{:?}",
                scene.proxy.gate()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn get(server: &Server, name: &str) -> String {
        let mut client = client(server).await;
        let a = client.call(&["CONFIG", "GET", name]).await.unwrap();
        a.as_slice().unwrap()[1].as_str_lossy().unwrap()
    }

    #[tokio::test]
    async fn the_target_has_its_own_settings_after_a_rollback_and_a_second_upgrade() {
        let scene = scene(Version::Redis7_0_15, Version::Redis8_2_3).await;
        let mut target = client(&scene.target).await;
        for (n, v) in [
            ("maxmemory-policy", "allkeys-lru"),
            ("replica-priority", "50"),
            ("min-replicas-to-write", "0"),
        ] {
            target.call(&["CONFIG", "SET", n, v]).await.unwrap();
        }
        Scene::is_ok(&scene.start("").await);
        scene.wait("soak").await;
        scene.way_back_is("exact").await;
        Scene::is_ok(&scene.upgrade("ROLLBACK p").await);
        scene.wait("rolled_back").await;
        Scene::is_ok(&scene.start("").await);
        scene.wait("soak").await;
        scene.way_back_is("exact").await;
        Scene::is_ok(&scene.upgrade("FINALIZE p").await);
        scene.wait("finalized").await;
        assert_eq!(
            (
                get(&scene.target, "maxmemory-policy").await,
                get(&scene.target, "replica-priority").await
            ),
            ("allkeys-lru".to_owned(), "50".to_owned())
        );
    }

    #[tokio::test]
    async fn a_retired_target_that_was_given_other_work_is_not_overwritten() {
        let scene = scene(Version::Redis7_0_15, Version::Redis8_2_3).await;
        Scene::is_ok(&scene.start("CUTOVER manual").await);
        let deadline = std::time::Instant::now() + LIMIT;
        while !scene.status().await.contains("waiting:UPGRADE CUTOVER") {
            assert!(std::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Scene::is_ok(&scene.upgrade("ABORT p").await);
        let mut target = client(&scene.target).await;
        for words in [
            &["REPLICAOF", "NO", "ONE"][..],
            &["FLUSHALL"],
            &["SET", "other-work", "1"],
        ] {
            target.call(words).await.unwrap();
        }
        let started = scene.start("").await;
        let refused = started.as_error().unwrap_or_default();
        assert!(refused.contains("BLOCKED target-not-empty"), "{started:?}");
        let v = target.call(&["GET", "other-work"]).await.unwrap();
        assert!(v.as_str_lossy().as_deref() == Some("1"), "{v:?}");
    }

    #[tokio::test]
    async fn a_target_in_another_database_than_its_source_is_refused() {
        let scene = scene(Version::Redis6_2_14, Version::Redis8_2_3).await;
        let start = format!("START p TO s1={}/3", scene.target.url());
        let refused = scene.upgrade(&start).await;
        let text = refused.as_error().unwrap_or_default();
        assert!(
            text.starts_with("ERR the url of shard 's1' names database 3"),
            "{refused:?}"
        );
        assert_eq!(role(&scene.target).await, "master");
    }

    /// 7.0 replicates times, not times to live: an expiry never drifts there.
    #[tokio::test]
    async fn a_rollback_takes_no_lost_expiry_for_a_drift() {
        let scene = scene(Version::Redis7_0_15, Version::Redis8_2_3).await;
        Scene::is_ok(&scene.start("").await);
        scene.wait("soak").await;
        scene.way_back_is("exact").await;
        let mut source = client(&scene.source).await;
        for words in [
            &["CONFIG", "SET", "replica-read-only", "no"][..],
            &["PERSIST", "short:1"],
            &["PEXPIRE", "short:2", "60000"],
            &["CONFIG", "SET", "replica-read-only", "yes"],
        ] {
            source.call(words).await.unwrap().into_ok().unwrap();
        }
        Scene::is_ok(&scene.upgrade("ROLLBACK p").await);
        let deadline = std::time::Instant::now() + LIMIT;
        loop {
            let status = scene.status().await;
            assert!(!status.contains("phase:rolled_back"), "{status}");
            if status.contains("short:1") {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(role(&scene.target).await, "master");
    }

    #[tokio::test]
    async fn a_target_that_came_back_as_a_replica_is_named() {
        let mut scene = scene(Version::Redis7_0_15, Version::Redis8_2_3).await;
        Scene::is_ok(&scene.start("").await);
        scene.wait("soak").await;
        scene.way_back_is("exact").await;
        scene.target.restart().await.unwrap();
        client(&scene.target)
            .await
            .call(&["REPLICAOF", "127.0.0.1", "1"])
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let status = scene.status().await;
        assert!(
            status.contains("is a replica and refuses writes"),
            "{}",
            status
                .lines()
                .filter(|l| l.contains("warnings"))
                .collect::<String>()
        );
    }
}
