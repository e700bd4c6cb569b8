//! ACL users over an upgrade, our own login among them: whatever is carried over, we can still do what an upgrade needs.

#[cfg(test)]
#[expect(dead_code, reason = "the crash tests use the rest of it")]
mod stub;

#[cfg(test)]
mod user_tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use understudy_config::{BackendUrl, Config, ListenAddress, Secret, User};
    use understudy_control::Control;
    use understudy_control::server::{ServerLink, rights_missing, rules_needed};
    use understudy_lab::{Server, Version};
    use understudy_net::{AdminHandler, AdminRequest};

    use crate::stub::StubProxy;

    const LIMIT: Duration = Duration::from_secs(10);
    /// What users are carried over with.
    const CARRYING: &str = "+acl|list +acl|setuser +acl|dryrun";

    struct Scene {
        source: Server,
        target: Server,
        admin: Arc<dyn AdminHandler>,
        _control: Control,
        _data: tempfile::TempDir,
    }

    async fn say(server: &Server, command: &str) {
        let words: Vec<&str> = command.split(' ').collect();
        let answer = server.call(&words).await.unwrap();
        assert!(
            answer == understudy_lab::wire::Reply::ok(),
            "{command}: {answer:?}"
        );
    }

    impl Scene {
        /// From 6.2 to 8.2, each with a user `app` who has what an upgrade needs there, and more at the source.
        async fn start(passwords: [&str; 2]) -> Scene {
            let rules = |major| format!("~* {} {CARRYING} +set", rules_needed(major).join(" "));
            let rules = [format!("{} +zadd", rules(6)), rules(8)];
            let versions = [Version::Redis6_2_14, Version::Redis8_2_3];
            Scene::with(versions, passwords, [&rules[0], &rules[1]]).await
        }

        /// Both servers have a user `app`, whom we are at both; what is two stands at the source and at the target.
        async fn with(versions: [Version; 2], passwords: [&str; 2], rules: [&str; 2]) -> Scene {
            let source = Server::bare(versions[0]).await.unwrap();
            let target = Server::bare(versions[1]).await.unwrap();
            for (server, password, rules) in [
                (&source, passwords[0], rules[0]),
                (&target, passwords[1], rules[1]),
            ] {
                say(server, &format!("ACL SETUSER app on >{password} {rules}")).await;
            }
            say(&source, "ACL SETUSER bob on >pw ~bob:* +get").await;
            say(&source, "SET k v PX 3600000").await;

            let data = tempfile::tempdir().unwrap();
            let login = format!("redis://app:{}@127.0.0.1:{}", passwords[0], source.port());
            let login: BackendUrl = login.parse().unwrap();
            let proxy = StubProxy::new(&login.to_string());
            let mut config = Config::embedded(ListenAddress::Tcp("127.0.0.1".to_owned(), 1), login);
            config.data_dir = data.path().to_owned();
            config.pools[0].name = "p".to_owned();
            config.pools[0].backend_users = vec![User {
                name: "app".to_owned(),
                password: Secret::new(passwords[1]),
            }];
            let control = Control::start(Arc::new(config), Some(proxy.admin()))
                .await
                .unwrap();
            Scene {
                source,
                target,
                admin: control.admin_handler(),
                _control: control,
                _data: data,
            }
        }

        async fn upgrade(&self, line: &str) -> String {
            let args = line
                .split(' ')
                .map(|word| Bytes::copy_from_slice(word.as_bytes()));
            let request = AdminRequest {
                args: args.collect(),
                user: "test".to_owned(),
            };
            let answer = self.admin.call(request).await;
            answer
                .as_str_lossy()
                .unwrap_or_else(|| format!("{answer:?}"))
        }

        async fn reaches(&self, phase: &str) {
            let reached = self.upgrade(&format!("WAIT p {phase} 30000")).await;
            assert_eq!(reached, "OK", "{}", self.upgrade("STATUS p").await);
        }

        /// The upgrade soaks; what REPORT says then.
        async fn soaks(&self) -> String {
            let target = format!("redis://app@127.0.0.1:{}", self.target.port());
            let started = self
                .upgrade(&format!("START p TO s1={target} ACCEPT other-writers"))
                .await;
            assert_eq!(started, "OK");
            self.reaches("soak").await;
            self.upgrade("REPORT p").await
        }

        /// A new connection to the target by the login that config has for it.
        async fn login(&self, password: &str) -> (BackendUrl, ServerLink) {
            let url = format!("redis://app:{password}@127.0.0.1:{}", self.target.port());
            let url: BackendUrl = url.parse().unwrap();
            let link = ServerLink::connect(&url, LIMIT).await.unwrap();
            (url, link)
        }
    }

    #[tokio::test]
    async fn our_own_login_is_carried_over_and_keeps_what_an_upgrade_needs() {
        let scene = Scene::start(["pw", "pw"]).await;
        let report = scene.soaks().await;
        assert!(report.contains("ACL user app was carried over"), "{report}");
        assert!(report.contains("ACL user bob was carried over"), "{report}");
        let (url, mut link) = scene.login("pw").await;
        assert_eq!(rights_missing(&url, 8, LIMIT).await.unwrap(), []);
        // What only the source granted: applications go by the same login.
        let added = link.raw(&["ZADD", "board", "1", "ann"]).await.unwrap();
        assert_eq!(added.as_i64(), Some(1), "{added:?}");
        assert_eq!(scene.upgrade("ROLLBACK p").await, "OK");
        scene.reaches("rolled_back").await;
        assert_eq!(scene.source.info("role").await.unwrap().unwrap(), "master");
    }

    #[tokio::test]
    async fn a_login_whose_password_differs_is_not_carried_over_and_we_are_not_locked_out() {
        let scene = Scene::start(["one", "two"]).await;
        let report = scene.soaks().await;
        assert!(
            report.contains("ACL user app is our login at the target and not the same at the source, and was not carried over"),
            "{report}"
        );
        assert!(report.contains("ACL user bob was carried over"), "{report}");
        let (url, _) = scene.login("two").await;
        assert_eq!(rights_missing(&url, 8, LIMIT).await.unwrap(), []);
    }

    /// 6.2 takes no rule about a word of a command that is allowed as a whole.
    #[tokio::test]
    async fn our_own_login_with_all_commands_is_carried_over_to_6_2() {
        let least = format!("~* {} +acl|list +acl|setuser", rules_needed(6).join(" "));
        let versions = [Version::Redis6_2_14, Version::Redis6_2_14];
        let scene = Scene::with(versions, ["pw", "pw"], ["~* +@all", &least]).await;
        let report = scene.soaks().await;
        assert!(report.contains("ACL user app was carried over"), "{report}");
        let (_, mut link) = scene.login("pw").await;
        let added = link.raw(&["ZADD", "board", "1", "ann"]).await.unwrap();
        assert_eq!(added.as_i64(), Some(1), "{added:?}");
    }

    #[tokio::test]
    async fn carrying_our_own_login_does_not_keep_others_from_being_carried() {
        let source = format!("~* {} +acl|list", rules_needed(7).join(" "));
        let versions = [Version::Redis7_0_15, Version::Redis8_2_3];
        let scene = Scene::with(versions, ["pw", "pw"], [&source, "~* +@all"]).await;
        let report = scene.soaks().await;
        assert!(report.contains("ACL user bob was carried over"), "{report}");
        assert!(report.contains("ACL user app was carried over"), "{report}");
    }
}
