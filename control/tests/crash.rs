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
    use rustix::process::{Pid, Signal, kill_process};
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
        config.control.proxies = proxy.split(',').map(|url| url.parse().unwrap()).collect();
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

    /// A proxy that only has a gate, on a port of its own.
    struct Gate {
        proxy: Arc<StubProxy>,
        url: String,
        serving: tokio::task::JoinHandle<()>,
    }

    impl Gate {
        async fn new(backend: &str) -> Gate {
            let proxy = StubProxy::new(backend);
            let listener = Listener::bind(&ListenAddress::Tcp("127.0.0.1".to_owned(), 0))
                .await
                .unwrap();
            let ListenAddress::Tcp(_, port) = listener.local_address() else {
                panic!("no tcp")
            };
            let serving = tokio::spawn(proxy.admin().serve(listener, std::future::pending()));
            let url = format!("redis://127.0.0.1:{port}");
            Gate {
                proxy,
                url,
                serving,
            }
        }

        async fn is_open(&self, what: &str) {
            let deadline = Instant::now() + LIMIT;
            while self.proxy.gate().state != "open" {
                assert!(Instant::now() < deadline, "{what}: {:?}", self.proxy.gate());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// A process that upgrades until its failpoint.
    fn victim_of(
        data: &Path,
        servers: [&Server; 2],
        proxies: &str,
        end: &str,
        failpoint: &str,
    ) -> tokio::process::Child {
        let [source, target] = servers;
        tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash_tests::victim", "--ignored", "--nocapture"])
            .env("CRASH_DATA", data)
            .env("CRASH_SOURCE", source.url())
            .env("CRASH_TARGET", target.url())
            .env("CRASH_PROXY", proxies)
            .env("CRASH_END", end)
            .env("UNDERSTUDY_FAILPOINT", failpoint)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    async fn killed_at(effect: &str, moment: &str, end: &str, nth: u32) {
        let what = format!("{effect}:{moment}:kill on the way to {end}");
        let data = tempfile::tempdir().unwrap();
        let (source, target) = (
            Server::bare(Version::Redis6_2_14).await.unwrap(),
            Server::bare(Version::Redis8_2_3).await.unwrap(),
        );
        assert_eq!(call(&source, &["SET", "before", "1"]).await, "OK");
        let Gate {
            proxy,
            url: proxy_url,
            serving,
        } = Gate::new(&source.url()).await;
        let mut failpoint = format!("{effect}:{moment}:kill:{nth}");
        if matches!(effect, "demote" | "unfence") {
            // What is undone, because the step that proves the way back is said to have failed.
            failpoint = format!("{failpoint},unpark:applied:error:{nth}");
        }
        let servers = [&source, &target];
        let mut victim = victim_of(data.path(), servers, &proxy_url, end, &failpoint);
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
    async fn killed_in_the_undo_it_is_undone_all_the_same() {
        for effect in ["demote", "unfence"] {
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
        for effect in ["retire", "disarm", "release-snapshot"] {
            for moment in ["begun", "applied"] {
                killed_at(effect, moment, "finalized", 1).await;
            }
        }
    }

    #[tokio::test]
    async fn a_proxy_that_died_with_control_does_not_keep_the_source_fenced() {
        let what = "a proxy died with control";
        let data = tempfile::tempdir().unwrap();
        let (source, target) = (
            Server::bare(Version::Redis7_0_15).await.unwrap(),
            Server::bare(Version::Redis8_2_3).await.unwrap(),
        );
        let (lives, dies) = (
            Gate::new(&source.url()).await,
            Gate::new(&source.url()).await,
        );
        lives.proxy.set_instance("lives");
        let proxies = format!("{},{}", lives.url, dies.url);
        let servers = [&source, &target];
        let mut victim = victim_of(
            data.path(),
            servers,
            &proxies,
            "soak",
            "promote:applied:kill",
        );
        let ended = tokio::time::timeout(LIMIT, victim.wait()).await.unwrap();
        assert_eq!(ended.unwrap().signal(), Some(9), "{what}");
        dies.serving.abort();
        let _aborted = dies.serving.await;

        let control = Control::start(config(data.path(), &source.url(), &proxies), None)
            .await
            .unwrap();
        lives.is_open(what).await;
        assert_eq!(call(&source, &["SET", "after", "1"]).await, "OK");
        control.stop().await;
    }

    #[tokio::test]
    async fn hazard_10_a_commit_that_landed_although_it_was_said_to_have_failed_moves_nothing() {
        let what = "the commit landed and was undone";
        let data = tempfile::tempdir().unwrap();
        let (source, target) = (
            Server::bare(Version::Redis7_0_15).await.unwrap(),
            Server::bare(Version::Redis8_2_3).await.unwrap(),
        );
        let gate = Gate::new(&source.url()).await;
        let servers = [&source, &target];
        let mut victim = victim_of(
            data.path(),
            servers,
            &gate.url,
            "aborted",
            "commit:applied:error",
        );
        let ended = tokio::time::timeout(LIMIT, victim.wait()).await.unwrap();
        assert!(ended.unwrap().success(), "{what}");
        assert_eq!(gate.proxy.gate().backend, source.url(), "{what}");
        assert_eq!(call(&source, &["SET", "after", "1"]).await, "OK");

        let control = Control::start(config(data.path(), &source.url(), &gate.url), None)
            .await
            .unwrap();
        let start = format!("START p TO s1={} ACCEPT other-writers", target.url());
        let started = upgrade(&control, &start).await;
        assert!(started.is_ok(), "{what}: {started:?}");
        let soaks = upgrade(&control, "WAIT p soak 20000").await;
        assert!(soaks.is_ok(), "{what}: {soaks:?}");
        assert_eq!(call(&target, &["GET", "after"]).await, "1");
        control.stop().await;
    }

    /// A victim that stands still at its failpoint.
    async fn stopped(
        data: &Path,
        servers: [&Server; 2],
        gate: &Gate,
        end: &str,
        place: &str,
    ) -> tokio::process::Child {
        let victim = victim_of(data, servers, &gate.url, end, &format!("{place}:stop"));
        let process = victim.id().unwrap();
        let deadline = Instant::now() + LIMIT;
        let state = || {
            let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
            text.rsplit(") ").next().unwrap().chars().next()
        };
        while state() != Some('T') {
            assert!(Instant::now() < deadline, "{place} was not reached");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        victim
    }

    /// Lets it go on, to its end.
    async fn goes_on(victim: &mut tokio::process::Child) {
        let process = Pid::from_raw(victim.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(process, Signal::CONT).unwrap();
        let ended = tokio::time::timeout(LIMIT, victim.wait()).await.unwrap();
        assert!(ended.unwrap().success());
    }

    /// Somebody writes past the proxies while control stands still. An acknowledged write is where clients end up.
    async fn a_write_past_the_proxies_at(place: &str, lift: bool, expect: &str) {
        let data = tempfile::tempdir().unwrap();
        let (source, target) = (
            Server::bare(Version::Redis7_0_15).await.unwrap(),
            Server::bare(Version::Redis8_2_3).await.unwrap(),
        );
        let gate = Gate::new(&source.url()).await;
        let servers = [&source, &target];
        let mut victim = stopped(data.path(), servers, &gate, "soak", place).await;
        if lift {
            assert_eq!(call(&source, &["CLIENT", "UNPAUSE"]).await, "OK");
        }
        // Without UNPAUSE this is answered when the pause is over, which does not wait for control.
        let said = call(&source, &["SET", "past-the-proxies", "1"]).await;
        assert!(said.starts_with(expect), "{place}: {said}");
        goes_on(&mut victim).await;
        let serves = if gate.proxy.gate().backend == target.url() {
            &target
        } else {
            &source
        };
        let kept = call(serves, &["GET", "past-the-proxies"]).await;
        assert_eq!(kept == "1", expect == "OK", "{place}: {kept}");
        assert_eq!(call(serves, &["SET", "after", "1"]).await, "OK", "{place}");
    }

    #[tokio::test]
    async fn hazard_01_a_pause_that_ends_while_control_stands_still_loses_no_write() {
        for place in ["pause:applied", "prepare:applied", "fence:begun"] {
            a_write_past_the_proxies_at(place, false, "OK").await;
        }
        for place in ["fence:applied", "promote:applied", "unpark:applied"] {
            a_write_past_the_proxies_at(place, false, "READONLY").await;
        }
    }

    #[tokio::test]
    async fn hazard_02_a_pause_that_somebody_lifts_loses_no_write() {
        for place in ["pause:applied", "prepare:applied"] {
            a_write_past_the_proxies_at(place, true, "OK").await;
        }
    }

    #[tokio::test]
    async fn hazard_05_a_way_back_that_is_refused_undoes_the_cutover() {
        let data = tempfile::tempdir().unwrap();
        let (source, target) = (
            Server::bare(Version::Redis7_0_15).await.unwrap(),
            Server::bare(Version::Redis8_2_3).await.unwrap(),
        );
        assert_eq!(call(&source, &["SET", "before", "1"]).await, "OK");
        let gate = Gate::new(&source.url()).await;
        let servers = [&source, &target];
        let mut victim = stopped(data.path(), servers, &gate, "aborted", "promote:applied").await;
        // The target forgets the history that the source asks it to continue.
        assert_eq!(call(&target, &["DEBUG", "CHANGE-REPL-ID"]).await, "OK");
        goes_on(&mut victim).await;
        assert_eq!(gate.proxy.gate().backend, source.url());
        assert_eq!(gate.proxy.gate().state, "open");
        assert_eq!(call(&source, &["GET", "before"]).await, "1");
        assert_eq!(call(&source, &["SET", "after", "1"]).await, "OK");
    }

    #[tokio::test]
    async fn a_target_that_was_restarted_while_control_stood_still_is_not_committed() {
        let what = "the target was restarted before the commit";
        let data = tempfile::tempdir().unwrap();
        let (source, mut target) = (
            Server::bare(Version::Redis7_0_15).await.unwrap(),
            Server::bare(Version::Redis8_2_3).await.unwrap(),
        );
        assert_eq!(call(&source, &["SET", "before", "1"]).await, "OK");
        let gate = Gate::new(&source.url()).await;
        let servers = [&source, &target];
        let mut victim = stopped(data.path(), servers, &gate, "aborted", "unpark:applied").await;
        target.kill9().unwrap();
        // The copy that the full sync left.
        let _none = std::fs::remove_file(target.directory().join("dump.rdb"));
        target.restart().await.unwrap();
        assert_ne!(call(&target, &["GET", "before"]).await, "1", "it is empty");
        goes_on(&mut victim).await;
        assert_eq!(gate.proxy.gate().backend, source.url(), "{what}");
        assert_eq!(gate.proxy.gate().state, "open", "{what}");
        assert_eq!(call(&source, &["SET", "after", "1"]).await, "OK");
        assert_eq!(call(&source, &["GET", "before"]).await, "1");
    }

    #[tokio::test]
    async fn a_proxy_that_stood_still_through_the_undo_is_released_when_it_answers() {
        let what = "a proxy missed its release";
        let data = tempfile::tempdir().unwrap();
        let (source, target) = (
            Server::bare(Version::Redis7_0_15).await.unwrap(),
            Server::bare(Version::Redis8_2_3).await.unwrap(),
        );
        let gate = Gate::new(&source.url()).await;
        gate.proxy.refuse(Some(("PREPARE", "ERR the disk is full")));
        gate.proxy.mute(Some("RELEASE"));
        let control = Control::start(config(data.path(), &source.url(), &gate.url), None)
            .await
            .unwrap();
        let start = format!("START p TO s1={} ACCEPT other-writers", target.url());
        assert!(upgrade(&control, &start).await.is_ok());
        let aborted = upgrade(&control, "WAIT p aborted 30000").await;
        assert!(aborted.is_ok(), "{what}: {aborted:?}");
        assert_eq!(gate.proxy.gate().state, "held", "{what}");
        gate.proxy.mute(None);
        gate.is_open(what).await;
        control.stop().await;
    }

    async fn opens(gate: &Gate, most: Duration) -> bool {
        let deadline = Instant::now() + most;
        while gate.proxy.gate().state != "open" {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        true
    }
    async fn show(control: &Control) -> String {
        upgrade(control, "STATUS p")
            .await
            .as_str_lossy()
            .unwrap()
            .lines()
            .filter(|l| {
                ["phase", "error", "waiting", "by_hand", "warnings"]
                    .iter()
                    .any(|n| l.contains(&format!(".{n}:")))
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[tokio::test]
    async fn a_committed_shard_is_published_although_the_old_server_is_gone() {
        let data = tempfile::tempdir().unwrap();
        let (mut source, target) = (
            Server::bare(Version::Redis7_0_15).await.unwrap(),
            Server::bare(Version::Redis8_2_3).await.unwrap(),
        );
        let gate = Gate::new(&source.url()).await;
        let url = source.url();
        let mut victim = victim_of(
            data.path(),
            [&source, &target],
            &gate.url,
            "soak",
            "commit:applied:kill",
        );
        let ended = tokio::time::timeout(LIMIT, victim.wait()).await.unwrap();
        assert_eq!(ended.unwrap().signal(), Some(9));
        source.kill9().unwrap();
        let control = Control::start(config(data.path(), &url, &gate.url), None)
            .await
            .unwrap();
        let open = opens(&gate, Duration::from_secs(15)).await;
        assert!(
            open,
            "{:?}\n{}\ntarget {}",
            gate.proxy.gate(),
            show(&control).await,
            call(&target, &["ROLE"]).await
        );
    }

    #[tokio::test]
    async fn a_rollback_that_was_interrupted_is_undone_although_the_old_server_is_gone() {
        let data = tempfile::tempdir().unwrap();
        let (mut source, target) = (
            Server::bare(Version::Redis7_0_15).await.unwrap(),
            Server::bare(Version::Redis8_2_3).await.unwrap(),
        );
        let gate = Gate::new(&source.url()).await;
        let url = source.url();
        let mut victim = victim_of(
            data.path(),
            [&source, &target],
            &gate.url,
            "rolled_back",
            "fence:applied:kill:2",
        );
        let ended = tokio::time::timeout(LIMIT, victim.wait()).await.unwrap();
        assert_eq!(ended.unwrap().signal(), Some(9));
        source.kill9().unwrap();
        let control = Control::start(config(data.path(), &url, &gate.url), None)
            .await
            .unwrap();
        let open = opens(&gate, Duration::from_secs(25)).await;
        let set = call(&target, &["SET", "a", "1"]).await;
        assert!(
            open && set == "OK",
            "{:?} SET: {set}\n{}",
            gate.proxy.gate(),
            show(&control).await
        );
    }

    /// The commit is on disk and a client wrote at the target; then the servers changed their roles behind control's back.
    #[tokio::test]
    async fn nothing_is_to_be_done_by_hand_where_clients_have_moved_already() {
        let data = tempfile::tempdir().unwrap();
        let source = Server::bare(Version::Redis7_0_15).await.unwrap();
        let target = Server::bare(Version::Redis8_2_3).await.unwrap();
        let gate = Gate::new(&source.url()).await;
        let ends = ("soak", "switch:applied:kill");
        let mut victim = victim_of(data.path(), [&source, &target], &gate.url, ends.0, ends.1);
        let ended = tokio::time::timeout(LIMIT, victim.wait()).await.unwrap();
        assert_eq!(ended.unwrap().signal(), Some(9));
        assert_eq!(gate.proxy.gate().epoch, 1);
        assert_eq!(call(&target, &["SET", "acknowledged", "1"]).await, "OK");
        assert_eq!(call(&source, &["REPLICAOF", "NO", "ONE"]).await, "OK");
        let nowhere = ["REPLICAOF", "127.0.0.1", "1"];
        assert_eq!(call(&target, &nowhere).await, "OK");
        let control = Control::start(config(data.path(), &source.url(), &gate.url), None)
            .await
            .unwrap();
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            let status = upgrade(&control, "STATUS p").await.as_str_lossy().unwrap();
            if status.contains("recover --from-servers") {
                break status;
            }
            assert!(Instant::now() < deadline, "{status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(!status.contains("REPLICAOF"), "{status}");
        control.stop().await;
    }
}
