//! Snapshots by sidecars over real sockets: who leads is found, one that is lost is replaced, a run is taken once.

#[cfg(test)]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod fake;

#[cfg(test)]
mod agents_tests {
    use std::sync::Arc;
    use std::time::Duration;

    use understudy_config::{BackendUrl, ListenAddress, Secret, User};
    use understudy_control::snapshot::{
        AgentSnapshots, LocalSnapshots, ProviderErrorKind, Release, RestoreTo, SnapshotProvider,
        SnapshotVerbs, SnapshotWish,
    };
    use understudy_lab::{Server, Version};
    use understudy_net::{AdminLimits, AdminServer, AdminTable, Client, Endpoint, Listener};

    use crate::fake::{Fake, failed, not_leader};

    const LIMIT: Duration = Duration::from_secs(10);
    const LOOK: Duration = Duration::from_millis(10);

    /// A sidecar's admin port with a provider behind it; gone when dropped.
    struct Sidecar {
        url: BackendUrl,
        serving: tokio::task::JoinHandle<()>,
    }

    impl Drop for Sidecar {
        fn drop(&mut self) {
            self.serving.abort();
        }
    }

    async fn sidecar(provider: Arc<dyn SnapshotProvider>) -> Sidecar {
        let mut table = AdminTable::new();
        let verbs = Arc::new(SnapshotVerbs::new(provider));
        table.add("SNAPSHOT", "snapshots", verbs);
        let user = User {
            name: "control".to_owned(),
            password: Secret::new("token"),
        };
        let server = AdminServer::new(table, vec![user], AdminLimits::default());
        let any = ListenAddress::Tcp("127.0.0.1".to_owned(), 0);
        let listener = Listener::bind(&any).await.unwrap();
        let address = listener.local_address().to_string();
        let url = format!("redis://control:token@{address}").parse().unwrap();
        let serving = tokio::spawn(Arc::new(server).serve(listener, std::future::pending()));
        Sidecar { url, serving }
    }

    fn agents(sidecars: &[&Sidecar]) -> AgentSnapshots {
        let urls: Vec<BackendUrl> = sidecars.iter().map(|it| it.url.clone()).collect();
        AgentSnapshots::new(Arc::new(move || urls.clone())).with_patience(LIMIT, LOOK)
    }

    fn wish(run: &str, recipe: &str, server: &str) -> SnapshotWish {
        SnapshotWish {
            run: run.to_owned(),
            pool: "p".to_owned(),
            shard: "s1".to_owned(),
            server: server.to_owned(),
            recipe: recipe.to_owned(),
            level: understudy_control::snapshot::Level::App,
        }
    }

    #[tokio::test]
    async fn every_verb_of_a_real_provider_works_over_a_socket() {
        let server = Server::bare(Version::Redis8_2_3).await.unwrap();
        let mut client = Client::connect(
            &Endpoint::from(&server.url().parse::<BackendUrl>().unwrap()),
            LIMIT,
        )
        .await
        .unwrap();
        for i in 0..50 {
            client.call(&["SET", &format!("k{i}"), "v"]).await.unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        let local = LocalSnapshots::open(directory.path().join("s")).unwrap();
        let sidecar = sidecar(Arc::new(local)).await;
        let agents = agents(&[&sidecar]);
        assert_eq!(agents.recipes().await.unwrap(), ["local"]);
        let wish = wish("us-p-s1-1-1-x", "local", &server.url());
        assert!(agents.preflight(&wish).await.unwrap().problems.is_empty());
        let handle = agents.take(&wish, &|_| ()).await.unwrap();
        assert_eq!(
            (handle.run.as_str(), handle.keys),
            ("us-p-s1-1-1-x", Some(50))
        );
        agents.check(&handle).await.unwrap();
        assert_eq!(agents.take(&wish, &|_| ()).await.unwrap(), handle);
        assert_eq!(
            agents.list().await.unwrap().len(),
            1,
            "one run, one snapshot"
        );
        let shown = agents.show(&handle.id).await.unwrap();
        assert!(
            shown.contains(&("keys".to_owned(), "50".to_owned())),
            "{shown:?}"
        );
        let verified = agents.verify(&handle.id, &|_| ()).await.unwrap();
        assert_eq!(verified.keys, 50);
        let to = directory.path().join("restored.rdb");
        let place = RestoreTo::Path(to.clone());
        agents.restore(&handle.id, &place, &|_| ()).await.unwrap();
        assert!(to.exists());
        let again = agents
            .restore(&handle.id, &place, &|_| ())
            .await
            .unwrap_err();
        assert!(again.text.contains("nothing is written over"), "{again}");
        agents.release(&handle, Release::Finalized).await.unwrap();
        agents.delete(&handle.id).await.unwrap();
        let gone = agents.check(&handle).await.unwrap_err();
        assert_eq!(gone.kind, ProviderErrorKind::Failed, "{gone}");
    }

    #[tokio::test]
    async fn the_one_that_leads_is_found_and_asked_first_from_then_on() {
        let (follower, leader) = (Fake::new(), Fake::new());
        follower.answer_checks(Some(not_leader("pod-1")));
        follower.answer_takes(Some(not_leader("pod-1")));
        let (one, two) = (
            sidecar(follower.clone()).await,
            sidecar(leader.clone()).await,
        );
        let agents = agents(&[&one, &two]);
        let handle = agents
            .take(&wish("r1", "fake", "redis://h:1"), &|_| ())
            .await
            .unwrap();
        agents.check(&handle).await.unwrap();
        agents.check(&handle).await.unwrap();
        assert_eq!(leader.taken(), ["r1 redis://h:1"]);
        assert_eq!((follower.checks(), leader.checks()), (0, 2));
    }

    #[tokio::test]
    async fn a_leader_lost_in_the_middle_is_replaced_and_the_run_goes_on() {
        let (first, second) = (Fake::new(), Fake::new());
        first.block_takes(true);
        second.answer_takes(Some(not_leader("first")));
        let (one, two) = (sidecar(first.clone()).await, sidecar(second.clone()).await);
        let agents = agents(&[&one, &two]);
        let wish = wish("r1", "fake", "redis://h:1");
        let said = std::sync::Mutex::new(Vec::new());
        let progress = |now: String| said.lock().unwrap().push(now);
        let taking = agents.take(&wish, &progress);
        let losing = async {
            first.until_taking().await;
            second.answer_takes(None);
            drop(one);
        };
        let (handle, ()) = tokio::join!(taking, losing);
        assert_eq!(handle.unwrap().run, "r1", "the same run");
        assert_eq!(second.taken(), ["r1 redis://h:1"]);
        assert!(!said.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_run_that_failed_is_not_begun_again() {
        let fake = Fake::new();
        fake.answer_takes(Some(failed("VolumeSnapshot redis/x: driver says no")));
        let sidecar = sidecar(fake.clone()).await;
        let agents = agents(&[&sidecar]);
        for _ in 0..2 {
            let wish = wish("r1", "fake", "redis://h:1");
            let error = agents.take(&wish, &|_| ()).await.unwrap_err();
            assert_eq!(error.kind, ProviderErrorKind::Failed);
            assert!(error.text.contains("driver says no"), "{error}");
            fake.answer_takes(None);
        }
        assert_eq!(fake.taken().len(), 1);
    }

    #[tokio::test]
    async fn nobody_who_answers_is_told_as_that_after_the_patience() {
        let sidecar = sidecar(Fake::new()).await;
        let url = sidecar.url.clone();
        drop(sidecar);
        let agents = AgentSnapshots::new(Arc::new(move || vec![url.clone()]))
            .with_patience(Duration::from_millis(50), LOOK);
        let error = agents.list().await.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::Unreachable, "{error}");
        assert!(error.text.contains("see that the sidecars run"), "{error}");
    }

    #[tokio::test]
    async fn a_wrong_token_and_clear_text_over_a_network_are_refused() {
        let sidecar = sidecar(Fake::new()).await;
        let mut wrong = sidecar.url.clone();
        wrong.password = Some(Secret::new("wrong"));
        let far: BackendUrl = "redis://10.255.255.1:7380".parse().unwrap();
        for (url, says) in [(wrong, "WRONGPASS"), (far, "clear text")] {
            let agents = AgentSnapshots::new(Arc::new(move || vec![url.clone()]))
                .with_patience(Duration::from_millis(50), LOOK);
            let error = agents.list().await.unwrap_err();
            assert!(error.text.contains(says), "{error}");
        }
    }
}
