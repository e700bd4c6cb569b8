//! A private authority: control reaches servers by `rediss://` with the pool's `backend_tls`, proxies with
//! `control.proxy_tls`, and servers reach its guard by `control.guard.tls`. The server is Debian's 7.0.15, the one of the lab's that is built with TLS.

#[cfg(test)]
#[expect(dead_code, reason = "the other tests use the rest of it")]
mod stub;

#[cfg(test)]
mod tls_tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use bytes::Bytes;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    use tempfile::TempDir;
    use understudy_config::{BackendTls, BackendUrl, Config, ListenAddress, TlsFiles};
    use understudy_control::Control;
    use understudy_control::snapshot::{Level, Logins, Quiesce, quiesce};
    use understudy_lab::wire::Reply;
    use understudy_lab::{Server, ServerOptions, ServerTls, Version};
    use understudy_net::{Acceptor, AdminRequest, Listener, Value};

    use crate::stub::StubProxy;

    struct Authority {
        directory: TempDir,
    }

    impl Authority {
        fn new() -> Authority {
            let directory = TempDir::new().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
            // Another name than the authority's: OpenSSL would take it for one that signed itself.
            params.distinguished_name.push(DnType::CommonName, "server");
            let certificate = params.signed_by(&key, &issuer).unwrap();
            for (name, text) in [
                ("ca.pem", issuer.pem()),
                ("cert.pem", certificate.pem()),
                ("key.pem", key.serialize_pem()),
            ] {
                std::fs::write(directory.path().join(name), text).unwrap();
            }
            Authority { directory }
        }

        fn file(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn shown(&self) -> TlsFiles {
            TlsFiles {
                certificate: self.file("cert.pem"),
                key: self.file("key.pem"),
                client_ca: Some(self.file("ca.pem")),
            }
        }

        fn believed(&self) -> BackendTls {
            BackendTls {
                ca: self.file("ca.pem"),
                identity: None,
                server_name: None,
            }
        }

        /// A server with a plain port for the test, and one with TLS for everybody else.
        async fn server(&self, replication: &str) -> (Server, String) {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let path = |name: &str| self.file(name).display().to_string();
            let options = ServerOptions::new()
                .set("tls-port", &port.to_string())
                .set("tls-cert-file", &path("cert.pem"))
                .set("tls-key-file", &path("key.pem"))
                .set("tls-ca-cert-file", &path("ca.pem"))
                .set("tls-auth-clients", "no")
                .set("tls-replication", replication);
            let server = Server::start(Version::Redis7_0_15, options).await.unwrap();
            (server, format!("rediss://127.0.0.1:{port}"))
        }

        /// A server without a plain port.
        async fn tls_only(&self) -> Server {
            let options = ServerOptions::new().tls_only(ServerTls {
                certificate: self.file("cert.pem"),
                key: self.file("key.pem"),
                authority: self.file("ca.pem"),
                mutual: false,
            });
            Server::start(Version::Redis7_0_15, options).await.unwrap()
        }
    }

    fn config(authority: &Authority, data: &TempDir, source: &str) -> Config {
        let listen = ListenAddress::Tcp("127.0.0.1".to_owned(), 1);
        let source: BackendUrl = source.parse().unwrap();
        let mut config = Config::embedded(listen, source);
        config.data_dir = data.path().to_owned();
        config.pools[0].name = "p".to_owned();
        config.pools[0].backend_tls = Some(authority.believed());
        config.control.guard.tls = Some(authority.shown());
        config
    }

    /// The blockers of PLAN, as `code: what`.
    async fn planned(config: Config, proxy: &Arc<StubProxy>, target: &str) -> Vec<String> {
        let control = Control::start(Arc::new(config), Some(proxy.admin()))
            .await
            .unwrap();
        let answer = upgrade(
            &control,
            &format!("PLAN p TO s1={target} ACCEPT other-writers"),
        )
        .await;
        let lines = answer.into_vec().unwrap();
        let lines = lines.iter().filter_map(Value::as_str_lossy);
        lines
            .filter_map(|line| Some(line.split_once("BLOCKED ")?.1.to_owned()))
            .collect()
    }

    async fn upgrade(control: &Control, line: &str) -> Value {
        let words = line.split(' ');
        let args = words.map(|word| Bytes::copy_from_slice(word.as_bytes()));
        let request = AdminRequest {
            args: args.collect(),
            user: "test".to_owned(),
        };
        control.admin_handler().call(request).await
    }

    #[tokio::test]
    async fn servers_behind_a_private_authority_are_upgraded_through_an_admin_port_with_tls() {
        let authority = Authority::new();
        let (source, source_url) = authority.server("yes").await;
        let (target, target_url) = authority.server("yes").await;
        source.call(&["SET", "k", "v"]).await.unwrap();
        let proxy = StubProxy::new(&source_url);
        let any = ListenAddress::Tcp("127.0.0.1".to_owned(), 0);
        let acceptor = Acceptor::from_files(&TlsFiles {
            certificate: authority.file("cert.pem"),
            key: authority.file("key.pem"),
            client_ca: None,
        });
        let listener = Listener::bind(&any)
            .await
            .unwrap()
            .with_tls(acceptor.unwrap());
        let admin = listener.local_address().to_string();
        let serving = tokio::spawn(proxy.admin().serve(listener, std::future::pending()));

        let data = TempDir::new().unwrap();
        let mut config = config(&authority, &data, &source_url);
        // The address alone says nothing about TLS; the setting does.
        config.control.proxies = vec![format!("redis://{admin}").parse().unwrap()];
        config.control.proxy_tls = Some(authority.believed());
        let control = Control::start(Arc::new(config), None).await.unwrap();
        let line = format!("START p TO s1={target_url} ACCEPT other-writers");
        let answer = upgrade(&control, &line).await;
        assert!(answer.is_ok(), "{answer:?}");
        let answer = upgrade(&control, "WAIT p soak 30000").await;
        let status = upgrade(&control, "STATUS p").await;
        assert!(answer.is_ok(), "{answer:?} {status:?}");
        assert_eq!(proxy.gate().backend, target_url);
        let found = target.call(&["GET", "k"]).await.unwrap();
        assert!(format!("{found:?}").contains('v') || format!("{found:?}").contains("118"));
        let answer = upgrade(&control, "FINALIZE p").await;
        assert!(answer.is_ok(), "{answer:?}");
        serving.abort();
    }

    #[tokio::test]
    async fn plan_names_every_link_between_servers_that_could_not_come_up() {
        let authority = Authority::new();
        let only = authority.tls_only().await;
        let (both, both_url) = authority.server("no").await;
        let (target, target_url) = authority.server("yes").await;
        let plain = Server::bare(Version::Redis7_0_15).await.unwrap();
        let copy = |what: &str| format!("tls-replication (shard s1): {what}");
        let back = |what: &str| format!("guard-tls (shard s1): the {what}");
        let cases = [
            // Without control.guard.tls neither could follow through the guard.
            (
                only.url(),
                &target_url,
                false,
                vec![back("source dials"), back("target dials")],
            ),
            (only.url(), &target_url, true, vec![]),
            // A source without a plain port, and a target that would dial it in the clear.
            (
                only.url(),
                &plain.url(),
                true,
                vec![copy("the source's port speaks TLS"), back("target dials")],
            ),
            // A source that has both, called by either.
            (both_url, &target_url, true, vec![back("source dials")]),
            (
                both.url(),
                &target_url,
                false,
                vec![copy("the target would dial"), back("target dials")],
            ),
            (both.url(), &plain.url(), false, vec![]),
            (
                both.url(),
                &plain.url(),
                true,
                vec![back("source dials"), back("target dials")],
            ),
        ];
        for (source, target, guard, expect) in cases {
            let data = TempDir::new().unwrap();
            let mut config = config(&authority, &data, &source);
            if !guard {
                config.control.guard.tls = None;
            }
            let found = planned(config, &StubProxy::new(&source), target).await;
            let fits = found.len() == expect.len()
                && found
                    .iter()
                    .zip(&expect)
                    .all(|(found, start)| found.starts_with(start));
            assert!(
                fits,
                "{source} {target} {guard}: {found:#?}, not {expect:#?}"
            );
        }
        drop(target);
    }

    #[tokio::test]
    async fn a_guard_that_the_source_does_not_believe_undoes_the_cutover_and_says_why() {
        let (authority, other) = (Authority::new(), Authority::new());
        let (source, target) = (authority.tls_only().await, authority.tls_only().await);
        let proxy = StubProxy::new(&source.url());
        let data = TempDir::new().unwrap();
        let mut config = config(&authority, &data, &source.url());
        config.control.guard.tls = Some(other.shown());
        let control = Control::start(Arc::new(config), Some(proxy.admin()))
            .await
            .unwrap();
        let line = format!("START p TO s1={} ACCEPT other-writers", target.url());
        let answer = upgrade(&control, &line).await;
        assert!(answer.is_ok(), "{answer:?}");
        let answer = upgrade(&control, "WAIT p soak 60000").await;
        let text = answer.as_error().unwrap_or_default();
        let status = upgrade(&control, "STATUS p").await;
        assert!(
            text.contains("could not come in: TLS handshake"),
            "{text} {status:?}"
        );
        assert_eq!(proxy.gate().backend, source.url());
        let written = source.call(&["SET", "k", "v"]).await.unwrap();
        assert_eq!(written, Reply::ok());
    }

    #[tokio::test]
    async fn a_guard_without_its_files_keeps_control_from_starting() {
        let authority = Authority::new();
        let data = TempDir::new().unwrap();
        let mut config = config(&authority, &data, "redis://127.0.0.1:1");
        std::fs::remove_file(authority.file("key.pem")).unwrap();
        config.control.proxies = vec!["redis://127.0.0.1:1".parse().unwrap()];
        let error = Control::start(Arc::new(config), None).await.err().unwrap();
        assert_eq!(error.to_string(), "read control.guard.tls");
    }

    #[tokio::test]
    async fn an_authority_that_is_not_ours_is_not_believed() {
        let (theirs, ours) = (Authority::new(), Authority::new());
        let (_server, url) = theirs.server("no").await;
        let data = TempDir::new().unwrap();
        for (authority, reached) in [(&theirs, true), (&ours, false)] {
            let logins = Logins::new(Arc::new(config(authority, &data, &url)));
            let endpoint = logins.endpoint("p", "s1", &url).unwrap();
            let what = Quiesce {
                endpoint: &endpoint,
                server: "the server",
                run: "r",
                level: Level::Crash,
                notes: data.path(),
                patience: std::time::Duration::from_secs(5),
            };
            let seen = quiesce(what, &|_| ()).await;
            assert_eq!(seen.is_ok(), reached, "{seen:?}");
        }
    }
}
