//! `understudy sidecar` without a cluster: registration by TLS and token, probes, its end, and a mounted ConfigMap.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use understudy_config::{BackendTls, BackendUrl, Secret};
use understudy_lab::wire::{Address, Reply, Wire};
use understudy_lab::{Server, ServerOptions, Version, free_port};
use understudy_net::{Client, Endpoint, Value};

use crate::stage::{LIMIT, binary};

const LOOK: Duration = Duration::from_millis(50);
/// What the certificate of the admin ports is made out to: no host has this name.
const NAME: &str = "understudy.internal";

/// A folder with an authority, a certificate and a token, and the processes that use them.
struct House {
    home: TempDir,
    running: Vec<Running>,
}

struct Running {
    child: Child,
    log: PathBuf,
    admin: u16,
    clients: u16,
    http: u16,
}

impl Running {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    async fn ended(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it still runs: {}", self.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn logged(&self, text: &str) {
        until(text, async || self.log().contains(text)).await;
    }

    /// Status code of a probe.
    async fn probe(&self, path: &str) -> u16 {
        let mut socket = TcpStream::connect(("127.0.0.1", self.http)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    async fn client(&self) -> Wire {
        let address: Address = format!("127.0.0.1:{}", self.clients).parse().unwrap();
        Wire::connect(&address, LIMIT).await.unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for running in &mut self.running {
            // Most have ended.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so().await {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

impl House {
    fn new() -> House {
        let home = TempDir::new().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, NAME);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        for (name, text) in [
            ("ca.crt", issuer.pem()),
            ("tls.crt", certificate.pem()),
            ("tls.key", key.serialize_pem()),
            ("token", "a-long-token\n".to_owned()),
        ] {
            std::fs::write(home.path().join(name), text).unwrap();
        }
        House {
            home,
            running: Vec::new(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// As the chart writes it.
    fn config(&self, ports: [u16; 3], name: &str, server: &str, control: &Json) -> Json {
        let [clients, admin, http] = ports;
        let user = json!({"name": "operator", "password_file": self.file("token")});
        let mut config = json!({
            "data_dir": self.file(name),
            "admin": {
                "listen": format!("0.0.0.0:{admin}"), "users": [user],
                "tls": {"certificate": self.file("tls.crt"), "key": self.file("tls.key")},
            },
            "http": {"listen": format!("127.0.0.1:{http}")},
            "control": {"login": user, "proxy_tls": {"ca": self.file("ca.crt"), "server_name": NAME}},
            "pools": [{
                "name": "p", "listen": format!("127.0.0.1:{clients}"),
                "shards": [{"name": "s1", "primary": server}],
            }],
        });
        for (key, value) in control.as_object().unwrap() {
            config["control"][key] = value.clone();
        }
        config
    }

    fn spawn(&mut self, subcommand: &str, name: &str, config: &Path, ports: [u16; 3]) -> usize {
        let log = self.file(&format!("{name}.log"));
        let [clients, admin, http] = ports;
        let child = Command::new(binary())
            .args([subcommand, "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        self.running.push(Running {
            child,
            log,
            admin,
            clients,
            http,
        });
        self.running.len() - 1
    }

    fn start(&mut self, subcommand: &str, name: &str, server: &str, control: &Json) -> usize {
        let ports = [(); 3].map(|()| free_port().unwrap());
        let config = self.config(ports, name, server, control);
        let file = self.file(&format!("{name}.yaml"));
        std::fs::write(&file, config.to_string()).unwrap();
        self.spawn(subcommand, name, &file, ports)
    }

    /// Asks an admin port as an operator does: by TLS, with the token.
    async fn ask(&self, number: usize, words: &[&str]) -> Option<Value> {
        let url = BackendUrl {
            username: Some("operator".to_owned()),
            password: Some(Secret::new("a-long-token")),
            ..format!("rediss://127.0.0.1:{}", self.running[number].admin)
                .parse()
                .unwrap()
        };
        let tls = BackendTls {
            ca: self.file("ca.crt"),
            identity: None,
            server_name: Some(NAME.to_owned()),
        };
        let endpoint = Endpoint::from(&url.with_tls(Some(&tls)));
        let mut client = Client::connect(&endpoint, LIMIT).await.ok()?;
        client.set_timeout(LIMIT);
        client.call(words).await.ok()
    }

    /// `UPGRADE PROXIES`.
    async fn registered(&self, control: usize) -> Vec<String> {
        let answer = self.ask(control, &["UPGRADE", "PROXIES"]).await;
        let lines = answer
            .as_ref()
            .and_then(Value::as_slice)
            .unwrap_or_default();
        let lines = lines.iter().map(|line| line.as_str_lossy().unwrap());
        lines.collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_register_by_tls_and_token_are_upgraded_and_one_ends_behind_its_application() {
    let source = Server::start(Version::Redis6_2_14, ServerOptions::new()).await;
    let target = Server::start(Version::Redis8_2_3, ServerOptions::new()).await;
    let (source, target) = (source.unwrap(), target.unwrap());
    let mut house = House::new();
    let control = house.start("control", "control", &source.url(), &json!({}));
    let port = house.running[control].admin;
    let address = json!({"address": format!("rediss://127.0.0.1:{port}")});
    let proxy = house.start("proxy", "proxy", &source.url(), &address);
    let sidecar = house.start("sidecar", "sidecar", &source.url(), &address);
    until("two registrations", async || {
        let lines = house.registered(control).await;
        let whole = |line: &String| {
            line.contains("address=rediss://127.0.0.1:") && line.contains("lease=valid")
        };
        lines.len() == 2 && lines.iter().all(whole)
    })
    .await;

    // Control dials both where they said, believes their certificate by its name, and moves them.
    let to = format!("s1={}", target.url());
    let start = ["UPGRADE", "START", "p", "TO", &to, "SNAPSHOT", "none"];
    let answer = house.ask(control, &start).await.unwrap();
    assert!(answer.as_error().is_none(), "{answer:?}");
    let wait = ["UPGRADE", "WAIT", "p", "soak", "120000"];
    let answer = house.ask(control, &wait).await.unwrap();
    assert!(answer.as_error().is_none(), "{answer:?}");
    let mut application = house.running[sidecar].client().await;
    let set = application.call(&["SET", "k", "1"]).await;
    assert_eq!(set.unwrap(), Reply::ok());
    let mut other = house.running[proxy].client().await;
    assert_eq!(other.call(&["GET", "k"]).await.unwrap(), Reply::bulk("1"));

    // Without `kubernetes` there is no agent, and the verb is not there.
    let recipes = house.ask(sidecar, &["SNAPSHOT", "RECIPES"]).await;
    assert!(recipes.unwrap().as_error().is_some());

    let running = &house.running[sidecar];
    until("ready", async || running.probe("/readyz").await == 200).await;
    running.signal(Signal::TERM);
    until("not ready", async || running.probe("/readyz").await == 503).await;
    assert_eq!(running.probe("/healthz").await, 200);
    // Its application goes on, and may even connect anew.
    assert_eq!(
        application.call(&["INCR", "k"]).await.unwrap(),
        Reply::Integer(2)
    );
    let mut late = running.client().await;
    assert_eq!(late.call(&["GET", "k"]).await.unwrap(), Reply::bulk("2"));
    drop((application, late));
    let status = house.running[sidecar].ended().await;
    assert!(status.success(), "{}", house.running[sidecar].log());
    until("it has left", async || {
        house.registered(control).await.len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mounted_config_is_followed_and_a_wrong_one_changes_nothing() {
    let server = Server::start(Version::Redis8_2_3, ServerOptions::new()).await;
    let server = server.unwrap();
    let mut house = House::new();
    let ports = [(); 3].map(|()| free_port().unwrap());
    let config = house.config(ports, "data", &server.url(), &json!({}));
    // As the kubelet mounts it: understudy.yaml -> ..data/understudy.yaml, and ..data is swapped.
    let mount = house.file("mount");
    let publish = |version: &str, text: &str| {
        let folder = mount.join(version);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("understudy.yaml"), text).unwrap();
        let half = mount.join("..data_tmp");
        std::os::unix::fs::symlink(version, &half).unwrap();
        std::fs::rename(&half, mount.join("..data")).unwrap();
    };
    publish("..1", &config.to_string());
    let file = mount.join("understudy.yaml");
    std::os::unix::fs::symlink("..data/understudy.yaml", &file).unwrap();
    let sidecar = house.spawn("sidecar", "sidecar", &file, ports);
    let running = &house.running[sidecar];
    running.logged("\"ready\"").await;

    let mut changed = config.clone();
    changed["pools"][0]["timeout"] = json!("3s");
    publish("..2", &changed.to_string());
    running.logged("pools[p].timeout: nothing becomes 3s").await;

    changed["pools"][0]["timeout"] = json!("soon");
    publish("..3", &changed.to_string());
    running.logged("the old config stays in force").await;
    changed["pools"][0]["timeout"] = json!("4s");
    publish("..4", &changed.to_string());
    running.logged("3s becomes 4s").await;
    assert_eq!(running.log().matches("not reloaded").count(), 1);
    let mut client = running.client().await;
    let set = client.call(&["SET", "k", "1"]).await;
    assert_eq!(set.unwrap(), Reply::ok());
    running.signal(Signal::TERM);
    drop(client);
    let status = house.running[sidecar].ended().await;
    assert!(status.success(), "{}", house.running[sidecar].log());
}
