//! No cutover and no rollback without a snapshot that is ready and verified: with a provider that says what a test wants, and
//! with the local one. The proxy is only a gate, which remembers what it was told.

#[cfg(test)]
#[expect(dead_code, reason = "the other tests use the rest of it")]
mod fake;
#[cfg(test)]
#[expect(dead_code, reason = "the other tests use the rest of it")]
mod stub;

#[cfg(test)]
mod guarded_tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use understudy_config::{BackendUrl, Config, ListenAddress};
    use understudy_control::Control;
    use understudy_control::snapshot::{PreflightProblem, SnapshotProvider};
    use understudy_lab::{Server, Version};
    use understudy_net::{AdminHandler, AdminRequest, Value};

    use crate::fake::{Fake, failed, not_leader, unreachable};
    use crate::stub::StubProxy;

    struct Scene {
        source: Server,
        target: Server,
        proxy: Arc<StubProxy>,
        fake: Arc<Fake>,
        config: Arc<Config>,
        control: Option<Control>,
        data: tempfile::TempDir,
    }

    impl Scene {
        async fn new() -> Scene {
            let data = tempfile::tempdir().unwrap();
            let source = Server::bare(Version::Redis7_0_15).await.unwrap();
            let target = Server::bare(Version::Redis8_2_3).await.unwrap();
            for i in 0..50 {
                source.call(&["SET", &format!("k{i}"), "v"]).await.unwrap();
            }
            let backend: BackendUrl = source.url().parse().unwrap();
            let listen = ListenAddress::Tcp("127.0.0.1".to_owned(), 1);
            let mut config = Config::embedded(listen, backend);
            config.data_dir = data.path().to_owned();
            config.pools[0].name = "p".to_owned();
            config.control.snapshot_check_every = Duration::from_millis(100);
            let mut scene = Scene {
                proxy: StubProxy::new(&source.url()),
                fake: Fake::new(),
                config: Arc::new(config),
                control: None,
                source,
                target,
                data,
            };
            scene.start_control().await;
            scene
        }

        async fn start_control(&mut self) {
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            self.control = loop {
                let fake: Arc<dyn SnapshotProvider> = self.fake.clone();
                let admin = Some(self.proxy.admin());
                match Control::start_with(self.config.clone(), admin, vec![fake]).await {
                    Ok(control) => break Some(control),
                    // The one before has not let its journal go yet.
                    Err(_) if std::time::Instant::now() < deadline => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            };
        }

        fn admin(&self) -> Arc<dyn AdminHandler> {
            self.control.as_ref().unwrap().admin_handler()
        }

        async fn upgrade(&self, line: &str) -> Value {
            let words = line
                .split(' ')
                .map(|word| Bytes::copy_from_slice(word.as_bytes()));
            let request = AdminRequest {
                args: words.collect(),
                user: "test".to_owned(),
            };
            self.admin().call(request).await
        }

        async fn start(&self, options: &str) {
            let line = format!(
                "START p TO s1={} ACCEPT other-writers {options}",
                self.target.url()
            );
            let answer = self.upgrade(&line).await;
            assert!(answer.is_ok(), "{answer:?}");
        }

        async fn wait(&self, phase: &str) {
            let answer = self.upgrade(&format!("WAIT p {phase} 30000")).await;
            assert!(answer.is_ok(), "{answer:?}\n{}", self.status().await);
        }

        async fn status(&self) -> String {
            self.upgrade("STATUS p").await.as_str_lossy().unwrap()
        }

        async fn report(&self) -> String {
            self.upgrade("REPORT p JSON").await.as_str_lossy().unwrap()
        }

        /// Until STATUS says so.
        async fn until(&self, what: &str) -> String {
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            loop {
                let status = self.status().await;
                if status.contains(what) {
                    return status;
                }
                assert!(
                    std::time::Instant::now() < deadline,
                    "no '{what}' in {status}"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }

        fn holds(&self) -> usize {
            let told = self.proxy.told();
            told.iter().filter(|verb| *verb == "HOLD").count()
        }

        fn local_files(&self) -> Vec<std::path::PathBuf> {
            let entries = std::fs::read_dir(self.data.path().join("snapshots")).unwrap();
            let paths = entries.map(|entry| entry.unwrap().path());
            paths
                .filter(|path| path.extension().is_some_and(|it| it == "rdb"))
                .collect()
        }
    }

    #[tokio::test]
    async fn a_check_that_says_no_keeps_every_attempt_from_starting() {
        let scene = Scene::new().await;
        scene.fake.answer_checks(Some(failed(
            "VolumeSnapshot redis/x: readyToUse went false",
        )));
        scene.start("SNAPSHOT fake").await;
        scene.wait("aborted").await;
        assert_eq!(scene.holds(), 0, "clients saw nothing");
        let status = scene.status().await;
        for part in [
            "the attempt did not start",
            "readyToUse went false",
            "s old",
            "takes a new one",
        ] {
            assert!(status.contains(part), "'{part}' in {status}");
        }
        let taken = scene.fake.taken();
        assert_eq!(taken.len(), 3, "a new run for each attempt: {taken:?}");
        assert_eq!(
            scene.fake.released().len(),
            3,
            "{:?}",
            scene.fake.released()
        );
    }

    #[tokio::test]
    async fn a_system_that_does_not_answer_says_nothing_about_the_snapshot() {
        let scene = Scene::new().await;
        scene
            .fake
            .answer_checks(Some(unreachable("the API server is away")));
        scene.start("SNAPSHOT fake CUTOVER manual").await;
        scene.until("waiting:UPGRADE CUTOVER").await;
        scene.upgrade("CUTOVER p").await;
        scene.until("the API server is away").await;
        assert_eq!(scene.holds(), 0);
        scene.fake.answer_checks(None);
        scene.upgrade("CUTOVER p").await;
        scene.wait("soak").await;
        assert_eq!(
            scene.fake.taken().len(),
            1,
            "the snapshot that was there guards it"
        );
    }

    #[tokio::test]
    async fn a_local_snapshot_damaged_before_the_cutover_is_taken_again() {
        let scene = Scene::new().await;
        scene.start("CUTOVER manual").await;
        scene.until("waiting:UPGRADE CUTOVER").await;
        let files = scene.local_files();
        assert_eq!(files.len(), 1);
        std::fs::write(&files[0], b"REDIS0011 not any more").unwrap();
        scene.upgrade("CUTOVER p").await;
        scene.wait("soak").await;
        assert_eq!(scene.local_files().len(), 2);
        let report = scene.report().await;
        assert!(report.contains("the attempt did not start"), "{report}");
    }

    #[tokio::test]
    async fn a_rollback_snapshots_the_server_that_loses_its_role_and_looks_at_it_first() {
        let scene = Scene::new().await;
        let (source, target) = (scene.source.url(), scene.target.url());
        scene.start("SNAPSHOT fake").await;
        scene.wait("soak").await;
        scene.until("way_back:exact").await;
        let holds = scene.holds();
        scene.fake.answer_checks(Some(not_leader("nobody")));
        let answer = scene.upgrade("ROLLBACK p").await;
        assert!(answer.is_ok(), "{answer:?}");
        scene.until("the attempt did not start").await;
        scene.until("rolling_back:false").await;
        assert_eq!(scene.holds(), holds, "no client was held");
        scene.fake.answer_checks(None);
        let answer = scene.upgrade("ROLLBACK p").await;
        assert!(answer.is_ok(), "{answer:?}");
        scene.wait("rolled_back").await;
        let servers: Vec<String> = scene.fake.taken();
        assert_eq!(servers.len(), 2);
        assert!(
            servers[0].ends_with(&source) && servers[1].ends_with(&target),
            "{servers:?}"
        );
        assert_eq!(scene.fake.checked().last(), Some(&target));
        let released = scene.fake.released();
        assert_eq!(released.len(), 2, "{released:?}");
        assert!(
            released.iter().all(|line| line.contains("finalized")),
            "{released:?}"
        );
    }

    #[tokio::test]
    async fn a_snapshot_that_goes_after_the_commit_is_an_alarm_and_nothing_else() {
        let scene = Scene::new().await;
        scene.start("").await;
        scene.wait("soak").await;
        scene.until("way_back:exact").await;
        for file in scene.local_files() {
            std::fs::remove_file(file).unwrap();
        }
        let status = scene.until("rollback point lost").await;
        assert!(status.contains("phase:soak"), "{status}");
        let answer = scene.upgrade("FINALIZE p").await;
        assert!(answer.is_ok(), "{answer:?}");
    }

    #[tokio::test]
    async fn what_was_taken_is_released_at_the_end_as_the_end_was() {
        let scene = Scene::new().await;
        let source = scene.source.url();
        scene.start("SNAPSHOT fake CUTOVER manual").await;
        scene.until("waiting:UPGRADE CUTOVER").await;
        scene.upgrade("ABORT p").await;
        scene.wait("aborted").await;
        let abandoned = scene.fake.released();
        assert!(
            abandoned[0].starts_with(&format!("{source} abandoned id-us-p-s1-")),
            "{abandoned:?}"
        );
        scene.start("SNAPSHOT fake").await;
        scene.wait("soak").await;
        assert_eq!(scene.fake.released().len(), 1, "nothing during the soak");
        scene.upgrade("FINALIZE p").await;
        scene.wait("finalized").await;
        let released = scene.fake.released();
        assert!(
            released[1].starts_with(&format!("{source} finalized id-")),
            "{released:?}"
        );
    }

    #[tokio::test]
    async fn an_abort_in_the_middle_of_a_snapshot_gives_its_run_up() {
        let scene = Scene::new().await;
        scene.fake.block_takes(true);
        scene.start("SNAPSHOT fake").await;
        scene.fake.until_taking().await;
        scene.until("the snapshot: waits for ready").await;
        scene.upgrade("ABORT p").await;
        scene.wait("aborted").await;
        let released = scene.fake.released();
        assert!(released[0].ends_with("abandoned "), "no id: {released:?}");
    }

    #[tokio::test]
    async fn a_restart_in_the_middle_of_a_snapshot_goes_on_with_the_same_run() {
        let mut scene = Scene::new().await;
        scene.fake.block_takes(true);
        scene.start("SNAPSHOT fake").await;
        scene.fake.until_taking().await;
        scene.control.take().unwrap().stop().await;
        scene.fake.block_takes(false);
        scene.start_control().await;
        scene.wait("soak").await;
        let taken = scene.fake.taken();
        assert_eq!(taken.len(), 2, "{taken:?}");
        assert_eq!(taken[0], taken[1], "the same run");
        assert_eq!(scene.fake.released(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_is_in_the_way_of_a_snapshot_blocks_by_name() {
        let scene = Scene::new().await;
        let plan = |recipe: &str| {
            format!(
                "PLAN p TO s1={} ACCEPT other-writers SNAPSHOT {recipe}",
                scene.target.url()
            )
        };
        let unknown = scene.upgrade(&plan("nothing-such")).await;
        let text = unknown.as_error().unwrap();
        assert!(text.starts_with("BLOCKED snapshot-missing"), "{text}");
        assert!(text.contains("known are: local fake none"), "{text}");
        scene.fake.has_problem(Some(PreflightProblem {
            code: "snapshot-class".to_owned(),
            text: "two default VolumeSnapshotClasses".to_owned(),
            remedy: "name one in params".to_owned(),
        }));
        let lines = format!("{:?}", scene.upgrade(&plan("fake")).await);
        assert!(
            lines.contains("BLOCKED snapshot-class (shard s1): recipe fake: two default"),
            "{lines}"
        );
        let accepting = format!("{} ACCEPT snapshot-class nonsense", plan("fake"));
        let lines = format!("{:?}", scene.upgrade(&accepting).await);
        assert!(
            lines.contains("ACCEPT nonsense: no blocker of that name is in the way"),
            "{lines}"
        );
        assert!(!lines.contains("ACCEPT snapshot-class: no"), "{lines}");
        assert!(
            lines.contains("snapshot: level crash is reached"),
            "{lines}"
        );
        let start = plan("fake").replacen("PLAN", "START", 1);
        let answer = scene
            .upgrade(&format!("{start} ACCEPT snapshot-class"))
            .await;
        let text = answer.as_error().unwrap();
        assert!(text.starts_with("BLOCKED snapshot-class"), "{text}");
        assert!(scene.fake.taken().is_empty());
    }
}
