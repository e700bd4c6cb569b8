//! What an operator asks and changes while clients are served.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use understudy_config::{Config, ListenAddress};
use understudy_lab::Server;
use understudy_lab::wire::Reply;
use understudy_proxy::ConfigSource;

use crate::stage::{POOL, Stage, call, config, directory, flat, new, old, until};

async fn http(stage: &Stage, path: &str) -> String {
    let Some(ListenAddress::Tcp(host, port)) = stage.proxy.http_address() else {
        panic!("TCP")
    };
    let mut stream = TcpStream::connect((host.as_str(), *port)).await.unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn metrics_health_and_readiness_are_served() {
    let (server, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&server])).await;
    let mut wire = stage.client().await;
    for _ in 0..10 {
        call(&mut wire, "INCR n").await;
    }
    assert!(http(&stage, "/healthz").await.starts_with("HTTP/1.1 200 "));
    until("ready", async || {
        http(&stage, "/readyz").await.starts_with("HTTP/1.1 200 ")
    })
    .await;
    let metrics = http(&stage, "/metrics").await;
    for line in [
        "understudy_shard_commands_total{pool=\"p\",shard=\"s1\"} 10",
        "understudy_command_seconds_count{pool=\"p\",shard=\"s1\",class=\"write\"} 10",
        "understudy_sessions_opened_total 1",
        "understudy_backend_up{pool=\"p\",shard=\"s1\"} 1",
        "understudy_worker_panics_total 0",
        "understudy_holds_lapsed_total{pool=\"p\",shard=\"s1\",reason=\"lease\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(http(&stage, "/other").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn every_list_answers() {
    let (server, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&server])).await;
    let mut wire = stage.client().await;
    call(&mut wire, "CLIENT SETNAME tester").await;
    call(&mut wire, "EVAL return'once' 0").await;
    let pools: serde_json::Value =
        serde_json::from_str(&stage.ask("PROXY POOLS JSON").await.as_str_lossy().unwrap()).unwrap();
    assert_eq!(pools["workers"], 2);
    assert_eq!(pools["instance"], stage.proxy.instance());
    let shard = &pools["pools"][0]["shards"][0];
    assert_eq!(shard["gate"], "open");
    assert_eq!(shard["backend"], server.url());
    let sessions = stage.ask("PROXY SESSIONS").await.as_str_lossy().unwrap();
    assert!(
        sessions.contains(" pool=p ") && sessions.contains(" name=tester "),
        "{sessions}"
    );
    assert!(flat(&stage.ask("PROXY ROUTE p").await).starts_with("shard=s1 epoch=0 backend="));
    assert_eq!(flat(&stage.ask("PROXY SCRIPTS p").await), "return'once'");
    assert_eq!(
        flat(&stage.ask("PROXY INSTANCE").await),
        stage.proxy.instance()
    );
    let explained = flat(&stage.ask("PROXY EXPLAIN MGET a b").await);
    assert!(
        explained.starts_with("command=mget class=split keys=2 pool=p shard=s1 epoch=0"),
        "{explained}"
    );
    assert!(flat(&stage.ask("PROXY POOLS").await).contains("pool=p shard=s1 gate=open epoch=0 "));
    until("the backend was asked", async || {
        flat(&stage.ask("PROXY BACKENDS").await).contains("state=up")
    })
    .await;
    let help = flat(&stage.ask("PROXY HELP").await);
    assert!(
        help.contains("PROXY HOLD pool shard epoch term lease-ms"),
        "{help}"
    );
    let info = stage.ask("INFO").await.as_str_lossy().unwrap();
    assert!(info.contains("proxy_instance:"), "{info}");
    assert!(flat(&stage.ask("PROXY HOLD p").await).starts_with("-ERR wrong number of arguments"));
    assert!(
        flat(&stage.ask("PROXY HOLD p s1 x 1 1").await)
            .starts_with("-ERR epoch is not a whole number")
    );
    assert!(flat(&stage.ask("PROXY DANCE").await).starts_with("-ERR unknown subcommand"));
}

fn yaml(data: &std::path::Path, server: &Server, more: &str) -> String {
    format!(
        "data_dir: {}\nworkers: 2\nhttp: off\npools:\n  - name: {POOL}\n    listen: 127.0.0.1:0\n    shards:\n      - \
         {{ name: s1, primary: \"{}\" }}\n{more}",
        data.display(),
        server.url()
    )
}

#[tokio::test]
async fn a_reload_takes_over_what_it_can_and_drops_no_client() {
    let (server, second, data) = (old().await, new().await, directory());
    let path = data.path().join("understudy.yaml");
    std::fs::write(&path, yaml(data.path(), &server, "")).unwrap();
    let stage = Stage::from(
        Config::load(&path).unwrap(),
        ConfigSource::File(path.clone()),
    )
    .await;
    let mut wire = stage.client().await;
    assert_eq!(call(&mut wire, "SET k 1").await, Reply::ok());
    let added = format!(
        "  - name: q\n    listen: 127.0.0.1:0\n    shards:\n      - {{ name: s1, primary: \"{}\" }}\n",
        second.url()
    );
    std::fs::write(&path, yaml(data.path(), &server, &added)).unwrap();
    assert_eq!(
        flat(&stage.ask("PROXY RELOAD").await),
        "changed pools[q]: added"
    );
    let Some(ListenAddress::Tcp(_, port)) = stage.proxy.pool_address("q") else {
        panic!("q listens")
    };
    let mut other = understudy_lab::wire::Wire::connect(
        &understudy_lab::wire::Address::local(port),
        crate::stage::SOON,
    )
    .await
    .unwrap();
    assert_eq!(call(&mut other, "SET k 2").await, Reply::ok());
    assert_eq!(second.call(&["GET", "k"]).await.unwrap(), Reply::bulk("2"));
    assert_eq!(
        call(&mut wire, "GET k").await,
        Reply::bulk("1"),
        "the old session was not touched"
    );
    std::fs::write(&path, "pools: 7\nnonsense: 1\n").unwrap();
    assert!(flat(&stage.ask("PROXY RELOAD").await).starts_with("-ERR nothing changed"));
    assert_eq!(call(&mut wire, "GET k").await, Reply::bulk("1"));
    std::fs::write(&path, yaml(data.path(), &second, &added)).unwrap();
    let said = flat(&stage.ask("PROXY RELOAD").await);
    assert!(
        said.starts_with("needs a restart: pools[p].shards[s1].primary"),
        "{said}"
    );
    for _ in 0..50 {
        stage.proxy.reload().await.unwrap();
        assert_eq!(call(&mut wire, "GET k").await, Reply::bulk("1"));
    }
}

#[tokio::test]
async fn a_reload_keeps_a_shard_that_was_switched_where_it_is() {
    let (source, target, data) = (old().await, new().await, directory());
    let path = data.path().join("understudy.yaml");
    std::fs::write(&path, yaml(data.path(), &source, "")).unwrap();
    let stage = Stage::from(
        Config::load(&path).unwrap(),
        ConfigSource::File(path.clone()),
    )
    .await;
    stage.ask("PROXY HOLD p s1 0 1 1000").await;
    stage.ask("PROXY PREPARE p s1 0 1").await;
    stage
        .ask(&format!("PROXY SWITCH p s1 0 1 1 {}", target.url()))
        .await;
    stage.proxy.reload().await.unwrap();
    Stage::expect(
        &stage.ask("PROXY GATE p s1").await,
        "gate switched epoch 1 term 1",
    );
    stage.ask("PROXY RELEASE p s1 1 1").await;
    stage.proxy.reload().await.unwrap();
    assert_eq!(
        call(&mut stage.client().await, "SET k 1").await,
        Reply::ok()
    );
    assert_eq!(target.call(&["GET", "k"]).await.unwrap(), Reply::bulk("1"));
}

#[tokio::test]
async fn a_pool_takes_no_more_sessions_than_it_may() {
    let (server, data) = (old().await, directory());
    let mut file = config(data.path(), 1, &[&server]);
    file.pools[0].sessions_max = Some(2.try_into().unwrap());
    let stage = Stage::start(file).await;
    let (mut one, mut two) = (stage.client().await, stage.client().await);
    call(&mut one, "PING").await;
    call(&mut two, "PING").await;
    let mut third = stage.client().await;
    let refused = third.reply().await.unwrap();
    assert_eq!(
        refused,
        Reply::Error("ERR max number of clients reached".into())
    );
    drop(one);
    until("a place is free again", async || {
        let mut next = stage.client().await;
        next.call(&["PING"])
            .await
            .is_ok_and(|reply| reply == Reply::Simple("PONG".into()))
    })
    .await;
}
