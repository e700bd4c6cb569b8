//! What `quiesce` promises, on real servers of every version: the volume holds what was acknowledged before it.

#[cfg(test)]
mod quiesce_tests {
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::Duration;

    use understudy_config::BackendUrl;
    use understudy_control::snapshot::{
        Level, ProviderError, ProviderErrorKind, Quiesce, Quiesced, quiesce,
    };
    use understudy_lab::{Server, ServerOptions, Version};
    use understudy_net::{Client, Endpoint, Value};

    const LIMIT: Duration = Duration::from_secs(20);
    const SETTING: &str = "stop-writes-on-bgsave-error";

    fn endpoint(server: &Server) -> Endpoint {
        Endpoint::from(&server.url().parse::<BackendUrl>().unwrap())
    }

    async fn client(server: &Server) -> Client {
        Client::connect(&endpoint(server), LIMIT).await.unwrap()
    }

    async fn call(client: &mut Client, line: &str) -> Value {
        client
            .call(&line.split(' ').collect::<Vec<_>>())
            .await
            .unwrap()
    }

    async fn quiet(server: &Server, level: Level, notes: &Path) -> Result<Quiesced, ProviderError> {
        let what = Quiesce {
            endpoint: &endpoint(server),
            server: "127.0.0.1:1",
            run: "us-p-s1-1-1-x",
            level,
            notes,
            patience: LIMIT,
        };
        quiesce(what, &|_| ()).await
    }

    /// What a new process of this version finds on a copy of the volume.
    async fn restored(version: Version, volume: &Path, appendonly: bool) -> i64 {
        let copy = tempfile::tempdir().unwrap();
        copy_all(volume, copy.path());
        let mut options = ServerOptions::new().directory(copy.path());
        if appendonly {
            options = options.set("appendonly", "yes");
        }
        let server = Server::start(version, options).await.unwrap();
        let mut client = client(&server).await;
        call(&mut client, "DBSIZE").await.as_i64().unwrap()
    }

    fn copy_all(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_owned();
            let is_data = name.to_string_lossy().starts_with("appendonly")
                || path
                    .extension()
                    .is_some_and(|it| it == "rdb" || it == "aof" || it == "manifest");
            if path.is_dir() && is_data {
                std::fs::create_dir_all(to.join(&name)).unwrap();
                copy_all(&path, &to.join(&name));
            } else if is_data {
                std::fs::copy(&path, to.join(name)).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn what_was_acknowledged_before_is_on_the_volume_of_every_version() {
        for version in Version::ALL {
            for appendonly in [false, true] {
                let case = format!("{version} appendonly {appendonly}");
                let mut options = ServerOptions::new().set("save", "");
                if appendonly {
                    options = options.set("appendonly", "yes");
                }
                let server = Server::start(version, options).await.unwrap();
                let mut client = client(&server).await;
                for i in 0..100 {
                    call(&mut client, &format!("SET key:{i} v")).await;
                }
                call(&mut client, "SELECT 3").await;
                call(&mut client, "SET elsewhere v").await;
                let notes = tempfile::tempdir().unwrap();
                let quieted = quiet(&server, Level::App, notes.path()).await.unwrap();
                let how = match (appendonly, version) {
                    (false, _) => "bgsave",
                    (true, Version::Redis6_2_14 | Version::Redis7_0_15) => "aof-fsync",
                    (true, _) => "waitaof",
                };
                assert_eq!(
                    (quieted.level, quieted.how, quieted.keys, quieted.appendonly),
                    (Level::App, how, 101, appendonly),
                    "{case}"
                );
                assert_eq!(quieted.run_id.len(), 40, "{case}");
                assert!(version.to_string().ends_with(&quieted.version), "{case}");
                call(&mut client, "SELECT 0").await;
                assert_eq!(
                    call(&mut client, "DBSIZE").await.as_i64(),
                    Some(100),
                    "{case}: nothing of ours stays"
                );
                assert_eq!(
                    restored(version, server.directory(), appendonly).await,
                    100,
                    "{case}"
                );
                assert_eq!(
                    std::fs::read_dir(notes.path()).unwrap().count(),
                    0,
                    "{case}"
                );
            }
        }
    }

    #[tokio::test]
    async fn clients_write_on_while_it_saves() {
        let server = Server::bare(Version::Redis8_2_3).await.unwrap();
        let mut client = client(&server).await;
        let notes = tempfile::tempdir().unwrap();
        let quieting = quiet(&server, Level::App, notes.path());
        let mut quieting = std::pin::pin!(quieting);
        let mut written = 0;
        let quieted = loop {
            tokio::select! {
                quieted = &mut quieting => break quieted,
                answer = client.call(&["INCR", "n"]) => {
                    written += 1;
                    assert_eq!(answer.unwrap().as_i64(), Some(written));
                }
            }
        };
        quieted.unwrap();
        assert!(written > 0);
    }

    #[tokio::test]
    async fn a_save_that_fails_leaves_the_source_writable_and_says_so() {
        for version in [
            Version::Redis6_2_14,
            Version::Redis7_0_15,
            Version::Redis8_2_3,
            Version::Valkey9_1_2,
        ] {
            let options = ServerOptions::new().set("save", "3600 1");
            let server = Server::start(version, options).await.unwrap();
            let mut client = client(&server).await;
            call(&mut client, "SET a 1").await;
            let in_the_way = server.directory().join("dump.rdb");
            std::fs::create_dir(&in_the_way).unwrap();
            let notes = tempfile::tempdir().unwrap();
            let failed = quiet(&server, Level::App, notes.path()).await.unwrap_err();
            assert_eq!(
                failed.kind,
                ProviderErrorKind::Failed,
                "{version}: {failed}"
            );
            assert!(
                failed.text.contains("could not save"),
                "{version}: {failed}"
            );
            assert!(call(&mut client, "SET b 1").await.is_ok(), "{version}");
            // The disk is well again: the next one succeeds and puts the setting back.
            std::fs::remove_dir(&in_the_way).unwrap();
            quiet(&server, Level::App, notes.path()).await.unwrap();
            let answer = client.call(&["CONFIG", "GET", SETTING]).await.unwrap();
            let value = answer.field(SETTING).and_then(Value::as_str_lossy);
            assert_eq!(value.as_deref(), Some("yes"), "{version}");
        }
    }

    #[tokio::test]
    async fn two_in_one_second_each_wait_for_a_save_of_their_own() {
        let server = Server::bare(Version::Redis7_0_15).await.unwrap();
        let mut client = client(&server).await;
        let notes = tempfile::tempdir().unwrap();
        for round in 1..=2 {
            call(&mut client, &format!("SET round:{round} v")).await;
            quiet(&server, Level::App, notes.path()).await.unwrap();
            let found = restored(Version::Redis7_0_15, server.directory(), false).await;
            assert_eq!(found, round);
        }
    }

    #[tokio::test]
    async fn level_crash_only_looks() {
        let server = Server::bare(Version::Valkey8_1_8).await.unwrap();
        let mut client = client(&server).await;
        call(&mut client, "SET a 1").await;
        let before = call(&mut client, "LASTSAVE").await;
        let notes = tempfile::tempdir().unwrap();
        let seen = quiet(&server, Level::Crash, notes.path()).await.unwrap();
        assert_eq!((seen.level, seen.how, seen.keys), (Level::Crash, "none", 1));
        assert_eq!(call(&mut client, "LASTSAVE").await, before);
        assert!(!server.directory().join("dump.rdb").exists());
    }

    #[tokio::test]
    async fn an_append_only_file_that_nobody_syncs_is_refused_with_the_remedy() {
        let options = ServerOptions::new()
            .set("appendonly", "yes")
            .set("appendfsync", "no");
        let server = Server::start(Version::Redis8_2_3, options).await.unwrap();
        let notes = tempfile::tempdir().unwrap();
        let refused = quiet(&server, Level::App, notes.path()).await.unwrap_err();
        assert_eq!(refused.kind, ProviderErrorKind::Misconfigured);
        assert!(
            refused.text.contains("set appendfsync everysec"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn where_we_may_not_write_the_fsync_is_waited_for() {
        let options = ServerOptions::new().set("appendonly", "yes");
        let server = Server::start(Version::Redis8_2_3, options).await.unwrap();
        let mut client = client(&server).await;
        call(&mut client, "ACL SETUSER reader on >p ~* +@all -@write").await;
        let url = format!("redis://reader:p@127.0.0.1:{}", server.port());
        let reader = Endpoint::from(&url.parse::<BackendUrl>().unwrap());
        let notes = tempfile::tempdir().unwrap();
        let said = Mutex::new(Vec::new());
        let what = Quiesce {
            endpoint: &reader,
            server: "the server",
            run: "r",
            level: Level::App,
            notes: notes.path(),
            patience: LIMIT,
        };
        let quieted = quiesce(what, &|now| said.lock().unwrap().push(now)).await;
        assert_eq!(quieted.unwrap().how, "aof-fsync");
        assert_eq!(said.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_unreachable_not_failed() {
        let mut server = Server::bare(Version::Redis7_0_15).await.unwrap();
        server.kill9().unwrap();
        let notes = tempfile::tempdir().unwrap();
        let error = quiet(&server, Level::App, notes.path()).await.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::Unreachable, "{error}");
    }
}
