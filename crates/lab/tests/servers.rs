//! Real servers start, answer, stand still, die, come back and leave nothing behind.

use std::time::Duration;

use understudy_lab::wire::Reply;
use understudy_lab::{LabError, Server, ServerOptions, Version};

#[tokio::test]
async fn every_installed_version_starts_and_says_which_it_is() {
    for version in Version::ALL {
        let server = match Server::bare(version).await {
            Err(LabError::NotInstalled { .. }) if version == Version::Redis7_0_15 => {
                println!("skipped {version}: this distribution has no redis-server 7.x");
                continue;
            }
            started => started.unwrap(),
        };
        let (major, minor, patch) = version.number();
        let field = if version.to_string().starts_with("valkey") {
            "valkey_version"
        } else {
            "redis_version"
        };
        let said = server.info(field).await.unwrap().unwrap();
        if version != Version::Redis7_0_15 {
            assert_eq!(said, format!("{major}.{minor}.{patch}"));
        }
    }
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_what_it_saved() {
    let mut server = Server::bare(Version::Redis6_2_14).await.unwrap();
    let (port, pid) = (server.port(), server.pid());
    server.call(&["SET", "k", "saved"]).await.unwrap();
    server.call(&["SAVE"]).await.unwrap();
    server.call(&["SET", "k", "not saved"]).await.unwrap();
    server.kill9().unwrap();
    assert!(server.wire().await.is_err() || !server.is_running());
    server.restart().await.unwrap();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert_eq!(
        server.call(&["GET", "k"]).await.unwrap(),
        Reply::bulk("saved")
    );
}

#[tokio::test]
async fn a_rewritten_config_survives_a_restart() {
    let mut server = Server::bare(Version::Valkey9_1_2).await.unwrap();
    server
        .call(&["CONFIG", "SET", "maxmemory", "64mb"])
        .await
        .unwrap();
    assert_eq!(
        server.call(&["CONFIG", "REWRITE"]).await.unwrap(),
        Reply::ok()
    );
    server.restart().await.unwrap();
    let answer = server.call(&["CONFIG", "GET", "maxmemory"]).await.unwrap();
    assert_eq!(
        answer,
        Reply::Array(vec![Reply::bulk("maxmemory"), Reply::bulk("67108864")])
    );
}

#[tokio::test]
async fn a_stopped_server_answers_only_after_cont() {
    let server = Server::bare(Version::Redis8_2_3).await.unwrap();
    let mut wire = server.wire().await.unwrap();
    server.stop_signal().unwrap();
    let silent = tokio::time::timeout(Duration::from_millis(100), wire.call(&["PING"])).await;
    assert!(silent.is_err(), "answered while stopped");
    server.cont().unwrap();
    assert_eq!(
        wire.reply().await.unwrap(),
        Reply::Simple("PONG".to_owned())
    );
}

#[tokio::test]
async fn a_dropped_server_is_gone_with_its_directory() {
    let server = Server::bare(Version::Redis6_2_14).await.unwrap();
    let (address, directory) = (server.address(), server.directory().to_owned());
    drop(server);
    assert!(
        understudy_lab::wire::Wire::connect(&address, Duration::from_secs(1))
            .await
            .is_err()
    );
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_the_end_of_its_log() {
    let error = Server::start(
        Version::Redis6_2_14,
        ServerOptions::new().set("no-such-setting", "1"),
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("no-such-setting"), "{error}");
}

#[tokio::test]
async fn a_password_and_a_socket_are_kept() {
    let options = ServerOptions::new().password("secret").unix_socket();
    let server = Server::start(Version::Valkey8_1_8, options).await.unwrap();
    assert_eq!(
        server.call(&["PING"]).await.unwrap(),
        Reply::Simple("PONG".to_owned())
    );
    let by_socket =
        understudy_lab::wire::Address::unix(server.unix_socket()).with_password("secret");
    let mut wire = understudy_lab::wire::Wire::connect(&by_socket, Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(
        wire.call(&["PING"]).await.unwrap(),
        Reply::Simple("PONG".to_owned())
    );
}

#[tokio::test]
async fn a_newer_server_follows_an_older_one() {
    let source = Server::bare(Version::Redis6_2_14).await.unwrap();
    source.call(&["SET", "k", "v"]).await.unwrap();
    let target = Server::bare(Version::Redis8_2_3).await.unwrap();
    target.follow(&source).await.unwrap();
    assert_eq!(target.call(&["GET", "k"]).await.unwrap(), Reply::bulk("v"));
}
