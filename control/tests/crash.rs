//! Control is killed at every effect of an upgrade, before and after it, and started again: the shard has exactly one
//! server that takes writes, the proxy is open to that one, and everything that was written is there.

#[cfg(test)]
#[expect(dead_code, reason = "the other tests use the rest of it")]
mod stub;

#[cfg(test)]
mod crash_tests {
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::Stdio;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use understudy_config::{BackendUrl, Config, ListenAddress};
    use understudy_control::Control;
    use understudy_lab::{Server, Version};
    use understudy_net::{AdminRequest, Client, Endpoint, Listener, Value};

    use crate::stub::StubProxy;

    const LIMIT: Duration = Duration::from_secs(30);

    fn config(data: &Path, source: &str, proxy: &str) -> Arc<Config> {
        let backend: BackendUrl = source.parse().unwrap();
        let mut config = Config::embedded(ListenAddress::Tcp("127.0.0.1".to_owned(), 1), backend);
        config.data_dir = data.to_owned();
        config.pools[0].name = "p".to_owned();
        config.control.proxies = vec![proxy.parse().unwrap()];
        Arc::new(config)
    }

    async fn upgrade(control: &Control, line: &str) -> Value {
        let args = line
            .split(' ')
            .map(|word| Bytes::copy_from_slice(word.as_bytes()))
            .collect();
        control
            .admin_handler()
            .call(AdminRequest {
                args,
                user: "test".to_owned(),
            })
            .await
    }

    /// Not a test of its own: the process that is killed. It upgrades, and with `BACK` also rolls back.
    #[tokio::test]
    #[ignore = "run by the crash tests as a process of its own"]
    async fn victim() {
        let Ok(data) = std::env::var("CRASH_DATA") else {
            return;
        };
        let variable = |name: &str| std::env::var(name).unwrap();
        let config = config(
            Path::new(&data),
            &variable("CRASH_SOURCE"),
            &variable("CRASH_PROXY"),
        );
        let control = Control::start(config, None).await.unwrap();
        let start = format!(
            "START p TO s1={} ACCEPT other-writers",
            variable("CRASH_TARGET")
        );
        let started = upgrade(&control, &start).await;
        assert!(started.is_ok(), "{started:?}");
        let end = variable("CRASH_END");
        upgrade(&control, "WAIT p soak 20000").await;
        if end == "rolled_back" {
            let deadline = Instant::now() + LIMIT;
            while !upgrade(&control, "ROLLBACK p").await.is_ok() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        if end == "finalized" {
            upgrade(&control, "FINALIZE p").await;
        }
        upgrade(&control, &format!("WAIT p {end} 20000")).await;
    }

    async fn call(server: &Server, words: &[&str]) -> String {
        let endpoint = Endpoint::from(&server.url().parse::<BackendUrl>().unwrap());
        let mut client = Client::connect(&endpoint, LIMIT).await.unwrap();
        client
            .call(words)
            .await
            .unwrap()
            .as_str_lossy()
            .unwrap_or_default()
    }

    /// The phase after recovery once nothing is under way.
    async fn settled(control: &Control) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let status = upgrade(control, "STATUS p JSON")
                .await
                .as_str_lossy()
                .unwrap();
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            let phase = status["phase"].as_str().unwrap().to_owned();
            let recovering = status["shards"][0]["waiting"] == "recovery";
            if !recovering
                && ["soak", "finalized", "aborted", "rolled_back"].contains(&phase.as_str())
            {
                return phase;
            }
            assert!(Instant::now() < deadline, "{status:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn killed_at(effect: &str, moment: &str, end: &str, nth: u32) {
        let what = format!("{effect}:{moment}:kill on the way to {end}");
        let data = tempfile::tempdir().unwrap();
        let (source, target) = (
            Server::bare(Version::Redis6_2_14).await.unwrap(),
            Server::bare(Version::Redis8_2_3).await.unwrap(),
        );
        assert_eq!(call(&source, &["SET", "before", "1"]).await, "OK");
        let proxy = StubProxy::new(&source.url());
        let listener = Listener::bind(&ListenAddress::Tcp("127.0.0.1".to_owned(), 0))
            .await
            .unwrap();
        let ListenAddress::Tcp(_, port) = listener.local_address() else {
            panic!("no tcp")
        };
        let serving = tokio::spawn(proxy.admin().serve(listener, std::future::pending()));
        let proxy_url = format!("redis://127.0.0.1:{port}");
        let mut victim = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash_tests::victim", "--ignored", "--nocapture"])
            .env("CRASH_DATA", data.path())
            .env("CRASH_SOURCE", source.url())
            .env("CRASH_TARGET", target.url())
            .env("CRASH_PROXY", &proxy_url)
            .env("CRASH_END", end)
            .env(
                "UNDERSTUDY_FAILPOINT",
                format!("{effect}:{moment}:kill:{nth}"),
            )
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let ended = tokio::time::timeout(LIMIT, victim.wait())
            .await
            .expect("the victim ends")
            .unwrap();
        assert_eq!(ended.signal(), Some(9), "{what}: the failpoint was not met");

        let control = Control::start(config(data.path(), &source.url(), &proxy_url), None)
            .await
            .unwrap();
        let phase = settled(&control).await;
        let deadline = Instant::now() + LIMIT;
        while proxy.gate().state != "open" {
            assert!(
                Instant::now() < deadline,
                "{what}: {phase} {:?}",
                proxy.gate()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let on_target = matches!(phase.as_str(), "soak" | "finalized");
        let (serves, fenced) = if on_target {
            (&target, &source)
        } else {
            (&source, &target)
        };
        assert_eq!(proxy.gate().backend, serves.url(), "{what}: {phase}");
        assert_eq!(
            call(serves, &["SET", "after", "1"]).await,
            "OK",
            "{what}: {phase}"
        );
        assert_eq!(
            call(serves, &["GET", "before"]).await,
            "1",
            "{what}: {phase}"
        );
        if effect != "take-snapshot" && phase != "rolled_back" {
            let refused = call(fenced, &["SET", "astray", "1"]).await;
            assert!(
                refused.starts_with("READONLY") || !on_target,
                "{what}: {phase}: {refused}"
            );
        }
        control.stop().await;
        serving.abort();
    }

    #[tokio::test]
    async fn killed_before_the_hold_nothing_was_moved() {
        for effect in [
            "take-snapshot",
            "arm",
            "attach",
            "carry-settings",
            "carry-users",
            "carry-scripts",
        ] {
            for moment in ["begun", "applied"] {
                killed_at(effect, moment, "soak", 1).await;
            }
        }
    }

    #[tokio::test]
    async fn killed_before_the_commit_the_attempt_is_undone() {
        for effect in [
            "hold", "pause", "prepare", "fence", "promote", "unpark", "commit",
        ] {
            for moment in ["begun", "applied"] {
                killed_at(effect, moment, "soak", 1).await;
            }
        }
    }

    #[tokio::test]
    async fn killed_after_the_commit_the_shard_goes_forward() {
        for effect in ["switch", "release"] {
            for moment in ["begun", "applied"] {
                killed_at(effect, moment, "soak", 1).await;
            }
        }
    }

    #[tokio::test]
    async fn killed_on_the_way_back_it_is_undone_or_finished() {
        for effect in [
            "hold", "pause", "prepare", "fence", "promote", "unpark", "commit", "switch", "release",
        ] {
            for moment in ["begun", "applied"] {
                killed_at(effect, moment, "rolled_back", 2).await;
            }
        }
    }

    #[tokio::test]
    async fn killed_at_the_end_one_server_serves() {
        for effect in ["retire", "disarm"] {
            for moment in ["begun", "applied"] {
                killed_at(effect, moment, "finalized", 1).await;
            }
        }
    }
}
