//! A proxy that is killed without a word: control asks the API server for its Pod, and waits for nobody who is gone.
//!
//! The API server is a few lines here: it has Pods, and answers nothing else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use understudy_lab::wire::{Reply, Wire};
use understudy_lab::{Cast, POOL, Scene, SceneOptions, Version};

use crate::proxies::known_until;
use crate::stage::{LIMIT, options};

/// The Pods that are there: `proxy-0` runs container `proxy`.
type Pods = Arc<Mutex<BTreeSet<String>>>;

/// An API server with these Pods in namespace `shop`, and the kubeconfig that leads to it.
async fn api_server(pods: Pods) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, pods.clone()));
        }
    });
    format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"Config\", \"current-context\": \"here\",
  \"clusters\": [{{\"name\": \"here\", \"cluster\": {{\"server\": \"http://{address}\"}}}}],
  \"users\": [{{\"name\": \"here\", \"user\": {{}}}}],
  \"contexts\": [{{\"name\": \"here\", \"context\": {{\"cluster\": \"here\", \"user\": \"here\", \"namespace\": \"shop\"}}}}]}}"
    )
}

async fn answer(stream: TcpStream, pods: Pods) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut request, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            match stream.read_line(&mut line).await {
                Ok(read) if read > 0 => request.push_str(&line),
                _ => return,
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let name = path.strip_prefix("/api/v1/namespaces/shop/pods/");
        let there = name.filter(|name| pods.lock().unwrap().contains(*name));
        let (status, body) = match (there, name) {
            (Some(name), _) => ("200 OK", pod(name)),
            (None, Some(_)) => ("404 Not Found", refusal(404, "NotFound", &path)),
            (None, None) => ("403 Forbidden", refusal(403, "Forbidden", &path)),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        if stream.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}

fn pod(name: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": "shop", "name": name, "uid": format!("uid-of-{name}") },
        "spec": { "nodeName": "n1", "containers": [{ "name": "proxy" }] },
        "status": { "phase": "Running", "containerStatuses": [{ "name": "proxy", "restartCount": 0, "state": { "running": {} } }] },
    })
    .to_string()
}

fn refusal(code: u16, reason: &str, path: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": format!("{path}: {reason}"),
    })
    .to_string()
}

struct Stage {
    scene: Scene,
    pods: Pods,
    _kubeconfig: tempfile::TempDir,
}

impl Stage {
    /// Two proxies in Pods, which control has seen there.
    async fn start() -> Stage {
        let names = ["proxy-0", "proxy-1"];
        let pods: Pods = Arc::new(Mutex::new(names.map(str::to_owned).into()));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kubeconfig");
        std::fs::write(&file, api_server(pods.clone()).await).unwrap();
        let mut wanted: SceneOptions = options(Version::Redis6_2_14, Version::Redis8_2_3);
        wanted.shards = 1;
        wanted.cast = Cast::Registered {
            proxies: 2,
            lease: "2s",
        };
        wanted.extra_config = format!("kubernetes: {{ kubeconfig: \"{}\" }}\n", file.display());
        wanted.proxy_environment = names.map(environment).into();
        let scene = Scene::start(&wanted).await.unwrap();
        let stage = Stage {
            scene,
            pods,
            _kubeconfig: folder,
        };
        stage.until_seen(2).await;
        stage
    }

    /// Until control has seen so many Pods.
    async fn until_seen(&self, pods: usize) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let journal = self.scene.call(&["UPGRADE", "JOURNAL"]).await.unwrap();
            let journal = String::from_utf8(journal.into_bytes().unwrap()).unwrap();
            if journal.matches("pod_seen").count() == pods {
                return;
            }
            assert!(Instant::now() < deadline, "{journal}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn delete_pod(&self, name: &str) {
        assert!(self.pods.lock().unwrap().remove(name));
    }

    async fn verified(&self) {
        let start = self.scene.start_upgrade(&["CUTOVER", "manual"]).await;
        start.unwrap();
        let waits =
            |status: &serde_json::Value| status["shards"][0]["waiting"] == "UPGRADE CUTOVER";
        self.scene
            .wait_until("verified", LIMIT, waits)
            .await
            .unwrap();
    }

    async fn cut_over(&self) {
        let cutover = self.scene.call(&["UPGRADE", "CUTOVER", POOL]).await;
        assert_eq!(cutover.unwrap(), Reply::ok());
    }

    /// The upgrade has gone through with the proxy that is left, and nobody said FORGET.
    async fn went_through(&self) {
        self.scene.wait_for("soak", LIMIT).await.unwrap();
        known_until(&self.scene, |lines| lines.len() == 1).await;
        let mut client = Wire::connect(&self.scene.clients(0), LIMIT).await.unwrap();
        assert_eq!(
            client.call(&["SET", "k", "new"]).await.unwrap(),
            Reply::ok()
        );
        let there = self.scene.targets[0].call(&["GET", "k"]).await.unwrap();
        assert_eq!(there, Reply::bulk("new"));
        let log = self.scene.control().log();
        let told = "its Pod shop/proxy-1 is not there any more";
        assert!(
            log.contains("is forgotten by itself") && log.contains(told),
            "{log}"
        );
    }
}

fn environment(name: &str) -> Vec<(String, String)> {
    let uid = format!("uid-of-{name}");
    let variables = [
        ("UNDERSTUDY_POD_NAMESPACE", "shop"),
        ("UNDERSTUDY_POD_NAME", name),
        ("UNDERSTUDY_POD_UID", &uid),
        ("UNDERSTUDY_CONTAINER", "proxy"),
    ];
    variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_proxy_whose_pod_is_gone_does_not_keep_an_attempt_from_going_through() {
    let mut stage = Stage::start().await;
    stage.verified().await;
    stage.scene.proxies[1].kill().unwrap();
    stage.delete_pod("proxy-1");
    // Its lease still runs: the attempt is undone, and made again when it has ended.
    stage.cut_over().await;
    stage.went_through().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_proxy_whose_pod_is_there_is_named_with_it_until_the_pod_is_gone() {
    let mut stage = Stage::start().await;
    stage.verified().await;
    stage.scene.proxies[1].kill().unwrap();
    stage.cut_over().await;
    let aborted = |status: &serde_json::Value| status["phase"] == "aborted";
    let status = stage
        .scene
        .wait_until("aborted", LIMIT, aborted)
        .await
        .unwrap();
    let error = status["shards"][0]["error"].as_str().unwrap_or_default();
    let told =
        "its Pod shop/proxy-1 is there, container proxy running, restarts 0 on node n1; see why";
    assert!(error.contains(told), "{status:#}");
    // It stays in the way for as long as its Pod is there, and says so.
    known_until(&stage.scene, |lines| {
        lines
            .iter()
            .any(|line| line.contains("lease=lapsed pod=shop/proxy-1"))
    })
    .await;
    let refused = stage
        .scene
        .start_upgrade(&[])
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("it was last heard") && refused.contains(told),
        "{refused}"
    );
    stage.delete_pod("proxy-1");
    known_until(&stage.scene, |lines| lines.len() == 1).await;
    stage.scene.start_upgrade(&["REPLACE"]).await.unwrap();
    stage.went_through().await;
}
