//! A connection that breaks in the middle of a change before the hold is made again, and a server that stays away is named.
//!
//! Real servers, each behind a relay that ends control's connection at one command of one step: before the server has that
//! command, or when it has done it and control does not know.

#[cfg(test)]
#[expect(dead_code, reason = "the crash tests use the rest of it")]
mod stub;

#[cfg(test)]
mod patience_tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use understudy_config::{Config, ListenAddress};
    use understudy_control::Control;
    use understudy_lab::wire::Reply;
    use understudy_lab::{AfterCut, CutAt, Relay, RelayMode, Server, Version};
    use understudy_net::{AdminHandler, AdminRequest, Value};

    use crate::stub::StubProxy;

    /// What arming changes, and an abort puts back.
    const ARMED: [&str; 5] = [
        "replica-priority",
        "repl-backlog-size",
        "repl-backlog-ttl",
        "maxmemory-policy",
        "min-replicas-to-write",
    ];
    /// Of `CONFIG SET replica-priority`, which is neither the first nor the last setting of an arming.
    const ARMING: &str = "SET\r\n$16\r\nreplica-priority\r\n$1\r\n0";
    const FOLLOWING: &str = "REPLICAOF\r\n$9\r\n127.0.0.1";
    const SETTING: &str = "SET\r\n$15\r\nslowlog-max-len";
    /// The second of three.
    const USER: &str = "SETUSER\r\n$3\r\nbob";
    const USERS: &str = "ACL\r\n$4\r\nLIST";
    const SCRIPT: &str = "LOAD\r\n$8\r\nreturn 7";
    const COMPARING: &str = "MULTI\r\n*1\r\n$4\r\nTIME";
    /// The script that the stub says clients have run: `return 7`.
    const RETURNS_7: &str = "59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9";

    #[derive(Clone, Copy, Debug)]
    enum Side {
        Source,
        Target,
    }

    struct Scene {
        source: Server,
        target: Server,
        relays: [Relay; 2],
        admin: Arc<dyn AdminHandler>,
        _control: Control,
        _proxy: Arc<StubProxy>,
        _data: tempfile::TempDir,
    }

    impl Scene {
        async fn start() -> Scene {
            let data = tempfile::tempdir().unwrap();
            let source = Server::bare(Version::Redis6_2_14).await.unwrap();
            let target = Server::bare(Version::Redis8_2_3).await.unwrap();
            let relay = async |server: &Server| {
                let address = server.address().to_string();
                Relay::start(&address, RelayMode::Bytes).await.unwrap()
            };
            let relays = [relay(&source).await, relay(&target).await];
            let proxy = StubProxy::new(&relays[0].url());
            let listen = ListenAddress::Tcp("127.0.0.1".to_owned(), 1);
            let mut config = Config::embedded(listen, relays[0].url().parse().unwrap());
            config.data_dir = data.path().to_owned();
            config.pools[0].name = "p".to_owned();
            let control = Control::start(Arc::new(config), Some(proxy.admin()))
                .await
                .unwrap();
            let scene = Scene {
                source,
                target,
                relays,
                admin: control.admin_handler(),
                _control: control,
                _proxy: proxy,
                _data: data,
            };
            for key in 0..50 {
                scene.tell(&["SET", &format!("k{key}"), "v"]).await;
            }
            for name in ["alice", "bob", "carol"] {
                let user = ["ACL", "SETUSER", name, "on", ">pw", "~*", "+@read"];
                scene.tell(&user).await;
            }
            scene
                .tell(&["CONFIG", "SET", "slowlog-max-len", "77"])
                .await;
            scene
        }

        async fn tell(&self, command: &[&str]) {
            self.source.call(command).await.unwrap();
        }

        fn relay(&self, side: Side) -> &Relay {
            match side {
                Side::Source => &self.relays[0],
                Side::Target => &self.relays[1],
            }
        }

        async fn upgrade(&self, line: &str) -> Value {
            let words = line.split(' ');
            let args = words.map(|word| Bytes::copy_from_slice(word.as_bytes()));
            let request = AdminRequest {
                args: args.collect(),
                user: "test".to_owned(),
            };
            self.admin.call(request).await
        }

        async fn start_upgrade(&self, options: &str) {
            let url = self.relays[1].url();
            let line = format!("START p TO s1={url} ACCEPT other-writers {options}");
            let answer = self.upgrade(line.trim()).await;
            assert!(answer.is_ok(), "{answer:?}");
        }

        async fn shard(&self) -> serde_json::Value {
            let text = self.upgrade("STATUS p JSON").await.as_str_lossy().unwrap();
            let status: serde_json::Value = serde_json::from_str(&text).unwrap();
            status["shards"][0].clone()
        }

        async fn wait(&self, what: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
            let deadline = std::time::Instant::now() + Duration::from_secs(60);
            loop {
                let shard = self.shard().await;
                if what(&shard) {
                    return shard;
                }
                assert!(std::time::Instant::now() < deadline, "{shard:#}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }

        async fn settings(&self) -> Vec<Reply> {
            let mut found = Vec::new();
            for server in [&self.source, &self.target] {
                for name in ARMED {
                    found.push(server.call(&["CONFIG", "GET", name]).await.unwrap());
                }
            }
            found
        }
    }

    /// The upgrade soaks, and the target has what was to be carried.
    async fn carries_all(side: Side, text: &str, at: CutAt) {
        let scene = Scene::start().await;
        let case = format!("{side:?} {text:?} {at:?}");
        scene.relay(side).cut_at(text, at, AfterCut::Back);
        scene.start_upgrade("").await;
        let end =
            |shard: &serde_json::Value| shard["phase"] == "soak" || shard["phase"] == "aborted";
        let shard = scene.wait(end).await;
        assert_eq!(shard["phase"], "soak", "{case}: {shard:#}");
        assert_eq!(scene.relay(side).cuts_at(), 1, "{case}: nothing was cut");
        let report = scene.upgrade("REPORT p").await.as_str_lossy().unwrap();
        assert!(report.contains("tried again: "), "{case}: {report}");
        assert!(!report.contains("not carried over: "), "{case}: {report}");
        for name in ["alice", "bob", "carol"] {
            let user = scene.target.call(&["ACL", "GETUSER", name]).await.unwrap();
            assert!(matches!(user, Reply::Array(_)), "{case}: {name}");
        }
        let length = ["CONFIG", "GET", "slowlog-max-len"];
        let carried = scene.target.call(&length).await.unwrap();
        assert_eq!(carried, scene.source.call(&length).await.unwrap(), "{case}");
        let script = scene.target.call(&["EVALSHA", RETURNS_7, "0"]).await;
        assert_eq!(script.unwrap(), Reply::Integer(7), "{case}");
    }

    #[tokio::test]
    async fn a_connection_that_breaks_while_a_server_is_armed_is_made_again_and_old_values_are_kept()
     {
        for side in [Side::Source, Side::Target] {
            for at in [CutAt::Before, CutAt::Behind] {
                let scene = Scene::start().await;
                let case = format!("{side:?} {at:?}");
                let before = scene.settings().await;
                scene.relay(side).cut_at(ARMING, at, AfterCut::Back);
                scene.start_upgrade("CUTOVER manual").await;
                let verified = |shard: &serde_json::Value| {
                    assert_ne!(shard["phase"], "aborted", "{case}: {shard:#}");
                    shard["waiting"] == "UPGRADE CUTOVER"
                };
                scene.wait(verified).await;
                assert_eq!(scene.relay(side).cuts_at(), 1, "{case}: nothing was cut");
                assert_ne!(scene.settings().await, before, "{case}: it is armed");
                assert!(scene.upgrade("ABORT p").await.is_ok(), "{case}");
                assert_eq!(scene.settings().await, before, "{case}: it is put back");
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_breaks_while_a_target_is_told_whom_to_follow_is_made_again() {
        for at in [CutAt::Before, CutAt::Behind] {
            carries_all(Side::Target, FOLLOWING, at).await;
        }
    }

    #[tokio::test]
    async fn a_connection_that_breaks_while_settings_users_and_scripts_are_carried_is_made_again() {
        for at in [CutAt::Before, CutAt::Behind] {
            for text in [SETTING, USER, SCRIPT] {
                carries_all(Side::Target, text, at).await;
            }
            carries_all(Side::Source, USERS, at).await;
        }
    }

    #[tokio::test]
    async fn a_connection_that_breaks_while_servers_are_compared_is_made_again() {
        for side in [Side::Source, Side::Target] {
            carries_all(side, COMPARING, CutAt::Behind).await;
        }
    }

    #[tokio::test]
    async fn a_server_that_is_away_while_the_operator_is_waited_for_is_a_warning_until_it_is_back()
    {
        let scene = Scene::start().await;
        scene.start_upgrade("CUTOVER manual").await;
        scene
            .wait(|shard| shard["waiting"] == "UPGRADE CUTOVER")
            .await;
        let relay = scene.relay(Side::Target);
        relay.refuse(true);
        relay.cut();
        let warned = |shard: &serde_json::Value| {
            let warnings = shard["warnings"].to_string();
            warnings.contains("the target does not answer")
        };
        scene.wait(warned).await;
        relay.refuse(false);
        let shard = scene.wait(|shard| !warned(shard)).await;
        assert_eq!(shard["phase"], "cutover", "{shard:#}");
    }

    #[tokio::test]
    async fn a_server_that_stays_away_while_it_is_armed_or_carried_to_ends_the_upgrade_by_name() {
        for (side, text) in [
            (Side::Source, ARMING),
            (Side::Target, ARMING),
            (Side::Target, SETTING),
            (Side::Target, USER),
        ] {
            let scene = Scene::start().await;
            scene
                .relay(side)
                .cut_at(text, CutAt::Behind, AfterCut::Away);
            scene.start_upgrade("").await;
            let server = scene.relay(side).url();
            let waits = |shard: &serde_json::Value| {
                let waiting = shard["waiting"].as_str().unwrap_or_default();
                waiting.contains(&server)
            };
            scene.wait(waits).await;
            let shard = scene.wait(|shard| shard["phase"] == "aborted").await;
            let error = shard["error"].as_str().unwrap_or_default();
            let named = error.contains(&server) && error.contains("tried for 10 s");
            assert!(named, "{side:?} {text:?}: {shard:#}");
            let role = scene.source.info("role").await.unwrap();
            assert_eq!(role.as_deref(), Some("master"));
        }
    }
}
