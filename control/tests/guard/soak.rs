//! After the cutover: links that break, servers that restart, a source that cannot keep up.

use understudy_config::{GuardAddress, HostPort};
use understudy_control::guard::{Guard, GuardState};
use understudy_lab::{ServerOptions, Version};
use understudy_net::Value;

use crate::pair::{Pair, digest, known_by, link, until, until_state, url};

#[tokio::test]
async fn a_source_that_loses_its_link_again_and_again_misses_nothing() {
    let mut pair = Pair::start(Version::Redis6_2_14, Version::Redis8_2_3).await;
    pair.cut_over().await;
    let before = pair.target_link.observe().await.unwrap();
    for round in 0..10 {
        let commands: Vec<Vec<String>> = (0..200)
            .map(|number| {
                vec![
                    "RPUSH".to_owned(),
                    "log".to_owned(),
                    format!("{round}:{number}"),
                ]
            })
            .collect();
        pair.target_link.pipeline(&commands).await.unwrap();
        pair.on_target("HEXPIRE hash:1 1000 FIELDS 1 field:1").await;
        pair.on_source("CLIENT KILL TYPE master").await;
        until_state(&pair.guard, "cut", |state| !state.is_following()).await;
        pair.on_target("INCR between").await;
        until_state(&pair.guard, "following again", GuardState::is_following).await;
    }
    pair.until_equal().await;
    assert_eq!(
        pair.on_source("LRANGE log 0 -1").await,
        pair.on_target("LRANGE log 0 -1").await
    );
    assert_eq!(pair.on_source("GET between").await, Value::text("10"));
    let after = pair.target_link.observe().await.unwrap();
    assert_eq!(
        (after.sync_full, after.total_forks),
        (before.sync_full, before.total_forks)
    );
    let foreign = pair.guard.foreign();
    assert_eq!(
        foreign.count, 10,
        "what was sent twice is counted once: {foreign:?}"
    );
    assert_eq!(
        foreign
            .keys
            .iter()
            .map(|key| (key.db, key.key.as_slice()))
            .collect::<Vec<_>>(),
        [(Some(0), &b"hash:1"[..])]
    );
}

#[tokio::test]
async fn a_target_that_restarts_with_its_history_is_followed_again() {
    let options = ServerOptions::new().set("save", "3600 1000000");
    let mut pair = Pair::start_with(Version::Redis6_2_14, Version::Redis8_2_3, options).await;
    pair.cut_over().await;
    pair.on_target("SET before restart").await;
    pair.until_equal().await;
    // Saved at SIGTERM, history included; its ping to replicas would move the offset past what was saved.
    pair.target.restart().await.unwrap();
    pair.target_link = link(&pair.target).await;
    until_state(&pair.guard, "following again", GuardState::is_following).await;
    pair.on_target("SET after restart").await;
    pair.until_equal().await;
    assert_eq!(pair.on_source("GET after").await, Value::text("restart"));
    assert_eq!(pair.target_link.observe().await.unwrap().sync_full, 0);
}

#[tokio::test]
async fn a_target_that_comes_back_empty_is_not_followed() {
    let mut pair = Pair::start(Version::Redis6_2_14, Version::Redis8_2_3).await;
    pair.cut_over().await;
    pair.on_target("SET before crash").await;
    pair.until_equal().await;
    let before = digest(&mut pair.source_link).await;
    pair.target.kill9().unwrap();
    until_state(&pair.guard, "cut", |state| !state.is_following()).await;
    until_state(&pair.guard, "refused", |state| {
        matches!(state, GuardState::Refused { .. })
    })
    .await;
    pair.target.restart().await.unwrap();
    pair.target_link = link(&pair.target).await;
    let another = |state: &GuardState| matches!(state, GuardState::Refused { why, passing: false } if why.contains("another history"));
    until_state(&pair.guard, "refused for its history", another).await;
    pair.until_asked_again(2).await;
    assert_eq!(digest(&mut pair.source_link).await, before);
    let seen = pair.target_link.observe().await.unwrap();
    assert_eq!((seen.total_forks, seen.sync_full), (0, 0));
}

#[tokio::test]
async fn a_guard_that_is_started_again_is_found_again() {
    for version in [Version::Redis6_2_14, Version::Redis8_2_3] {
        let mut pair = Pair::start(version, Version::Redis8_2_3).await;
        pair.cut_over().await;
        pair.on_target("INCR a").await;
        let (host, port) = pair.guard.address();
        let earlier = pair.guard.foreign();
        let again = GuardAddress {
            listen: HostPort::new(host, port),
            ..GuardAddress::default()
        };
        pair.stop_guard().await;
        pair.on_target("INCR a").await;
        pair.guard = Guard::listen(&again, &url(&pair.target), known_by(version))
            .await
            .unwrap();
        pair.guard.remember(earlier);
        until_state(&pair.guard, "parked", |state| {
            matches!(state, GuardState::Parked { .. })
        })
        .await;
        pair.on_target("INCR a").await;
        pair.guard.unpark();
        pair.until_equal().await;
        assert_eq!(pair.on_source("GET a").await, Value::text("3"));
        assert!(pair.guard.foreign().is_exact());
    }
}

#[tokio::test]
async fn a_guard_that_stops_while_a_request_is_parked_leaves_the_source_its_history() {
    for version in [Version::Redis6_2_14, Version::Redis8_2_3] {
        let mut pair = Pair::start(version, Version::Redis8_2_3).await;
        pair.promote_with_the_source_parked().await;
        let (host, port) = pair.guard.address();
        let again = GuardAddress {
            listen: HostPort::new(host, port),
            ..GuardAddress::default()
        };
        pair.guard.stop().await;
        pair.guard = Guard::listen(&again, &url(&pair.target), known_by(version))
            .await
            .unwrap();
        pair.guard.unpark();
        until_state(&pair.guard, "following", GuardState::is_following).await;
    }
}

#[tokio::test]
async fn a_source_that_cannot_keep_up_fills_no_memory_of_ours_and_gets_everything() {
    let mut pair = Pair::start(Version::Redis6_2_14, Version::Redis8_2_3).await;
    pair.cut_over().await;
    pair.source.stop_signal().unwrap();
    let value = vec![b'v'; 4 * 1024 * 1024];
    let before = pair.target_link.observe().await.unwrap().offset;
    for number in 0..24 {
        let key = format!("big:{number}");
        pair.target_link
            .raw(&[b"SET".as_slice(), key.as_bytes(), &value])
            .await
            .unwrap()
            .into_ok()
            .unwrap();
    }
    let written = pair.target_link.observe().await.unwrap().offset - before;
    let relayed = |state: &GuardState| match state {
        GuardState::Following { relayed_bytes, .. } => *relayed_bytes,
        other => panic!("{other:?}"),
    };
    let mut last = 0;
    let stuck_at = until("the relay waits for the source", async || {
        let now = relayed(&pair.guard.states().borrow());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let stuck = now == last && now > 0;
        last = now;
        stuck.then_some(now)
    })
    .await;
    assert!(
        stuck_at < written / 2,
        "{stuck_at} of {written} bytes left the target for a source that reads nothing"
    );
    pair.source.cont().unwrap();
    pair.until_equal().await;
    assert_eq!(
        pair.on_source("STRLEN big:23").await,
        Value::Integer(value.len() as i64)
    );
    assert!(pair.guard.foreign().is_exact());
}

#[tokio::test]
async fn a_backlog_that_is_too_short_ends_the_way_back_and_not_the_data() {
    let mut pair = Pair::start(Version::Redis6_2_14, Version::Redis8_2_3).await;
    pair.cut_over().await;
    pair.target_link
        .config_set("repl-backlog-size", "16384")
        .await
        .unwrap();
    pair.guard.park();
    pair.on_source("CLIENT KILL TYPE master").await;
    until_state(&pair.guard, "parked", |state| {
        matches!(state, GuardState::Parked { .. })
    })
    .await;
    let before = digest(&mut pair.source_link).await;
    let value = "v".repeat(1024);
    for number in 0..1000 {
        pair.on_target(&format!("SET more:{number} {value}")).await;
    }
    let forks = pair.target_link.observe().await.unwrap().total_forks;
    pair.guard.unpark();
    let too_short = |state: &GuardState| matches!(state, GuardState::Refused { why, passing: false } if why.contains("backlog holds"));
    until_state(&pair.guard, "refused", too_short).await;
    pair.until_asked_again(1).await;
    assert_eq!(digest(&mut pair.source_link).await, before);
    assert_eq!(pair.target_link.observe().await.unwrap().total_forks, forks);
}
