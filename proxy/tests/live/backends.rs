//! Servers that die, come back, want a password, or answer too late.

use std::time::{Duration, Instant};

use understudy_lab::wire::Reply;
use understudy_lab::{Server, ServerOptions, Version};

use crate::stage::{Stage, call, config, config_of, directory, new, old, until};

#[tokio::test]
async fn a_dead_backend_is_an_error_soon_and_served_again_when_it_is_back() {
    let (mut server, data) = (old().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&server])).await;
    let mut wire = stage.client().await;
    assert_eq!(call(&mut wire, "SET k 1").await, Reply::ok());
    until("ready", async || stage.proxy.is_ready()).await;
    server.kill9().unwrap();
    let began = Instant::now();
    let answer = call(&mut wire, "GET k").await;
    assert!(matches!(&answer, Reply::Error(_)), "{answer}");
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        call(&mut wire, "PING").await,
        Reply::Simple("PONG".into()),
        "the session lives on"
    );
    until("not ready", async || !stage.proxy.is_ready()).await;
    server.restart().await.unwrap();
    until("it is served again", async || {
        call(&mut wire, "SET k 2").await == Reply::ok()
    })
    .await;
    until("ready again", async || stage.proxy.is_ready()).await;
}

#[tokio::test]
async fn one_dead_shard_does_not_hurt_the_other() {
    let (mut one, two, data) = (old().await, old().await, directory());
    let stage = Stage::start(config(data.path(), 1, &[&one, &two])).await;
    let mut wire = stage.client().await;
    one.kill9().unwrap();
    let mut served = 0;
    for number in 0..20 {
        let answer = call(&mut wire, &format!("SET k{number} v")).await;
        served += usize::from(answer == Reply::ok());
    }
    let keys = two.call(&["DBSIZE"]).await.unwrap().as_integer().unwrap();
    assert!(served > 0 && served < 20, "{served} were served");
    assert_eq!(i64::try_from(served).unwrap(), keys);
}

#[tokio::test]
async fn a_reply_that_does_not_come_in_time_is_an_error() {
    let (server, data) = (old().await, directory());
    let mut file = config(data.path(), 1, &[&server]);
    file.pools[0].timeout = Some(Duration::from_millis(200));
    let stage = Stage::start(file).await;
    let mut wire = stage.client().await;
    assert_eq!(call(&mut wire, "SET k 1").await, Reply::ok());
    server.stop_signal().unwrap();
    let began = Instant::now();
    let answer = call(&mut wire, "INCR k").await;
    assert!(matches!(&answer, Reply::Error(_)), "{answer}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    server.cont().unwrap();
    until("it is served again", async || {
        call(&mut wire, "GET k").await == Reply::bulk("2")
    })
    .await;
}

#[tokio::test]
async fn case_25_backends_that_want_a_password_get_it_also_behind_a_switch() {
    let with_password = || ServerOptions::new().password("sesame");
    let source = Server::start(Version::Redis6_2_14, with_password())
        .await
        .unwrap();
    let target = Server::start(Version::Redis8_2_3, with_password())
        .await
        .unwrap();
    let data = directory();
    let stage = Stage::start(config(data.path(), 2, &[&source])).await;
    let mut wire = stage.client().await;
    assert_eq!(call(&mut wire, "SET k 1").await, Reply::ok());
    stage.ask("PROXY HOLD p s1 0 1 1000").await;
    stage.ask("PROXY PREPARE p s1 0 1").await;
    let url = format!("redis://127.0.0.1:{}", target.port());
    Stage::expect(
        &stage.ask(&format!("PROXY SWITCH p s1 0 1 1 {url}")).await,
        "gate switched",
    );
    stage.ask("PROXY RELEASE p s1 1 1").await;
    assert_eq!(call(&mut wire, "SET k 2").await, Reply::ok());
    assert_eq!(target.call(&["GET", "k"]).await.unwrap(), Reply::bulk("2"));
    let file = std::fs::read_to_string(data.path().join("routes.json")).unwrap();
    assert!(!file.contains("sesame"), "{file}");
    for list in [
        "PROXY POOLS JSON",
        "PROXY BACKENDS",
        "PROXY ROUTE p",
        "PROXY GATE p s1",
    ] {
        let said = format!("{:?}", stage.ask(list).await);
        assert!(!said.contains("sesame"), "{list}: {said}");
    }
}

#[tokio::test]
async fn our_connections_carry_our_name() {
    let (server, data) = (new().await, directory());
    let stage = Stage::start(config(data.path(), 2, &[&server])).await;
    let mut wire = stage.client().await;
    assert_eq!(call(&mut wire, "SET k 1").await, Reply::ok());
    let name = format!("name=understudy:{}", stage.proxy.instance());
    let list = server
        .call(&["CLIENT", "LIST"])
        .await
        .unwrap()
        .into_bytes()
        .unwrap();
    assert!(String::from_utf8_lossy(&list).contains(&name));
}

#[tokio::test]
async fn a_backend_on_a_unix_socket_is_served() {
    let server = Server::start(Version::Redis8_2_3, ServerOptions::new().unix_socket())
        .await
        .unwrap();
    let data = directory();
    let url = format!("unix://{}", server.unix_socket().display());
    let stage = Stage::start(config_of(data.path(), 1, &[url])).await;
    assert_eq!(
        call(&mut stage.client().await, "SET k 1").await,
        Reply::ok()
    );
    assert_eq!(server.call(&["GET", "k"]).await.unwrap(), Reply::bulk("1"));
}
