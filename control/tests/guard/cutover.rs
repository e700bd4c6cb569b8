//! The order of the cutover on real pairs: demote, compare, promote, unpark.

use understudy_control::guard::GuardState;
use understudy_control::server::{Probe, Role, ServerLink};
use understudy_lab::{Server, Version};
use understudy_net::Value;

use crate::pair::{Pair, demote, digest, installed, link, until, until_state};

async fn check(source: Version, target: Version) {
    if !installed(&[source, target]) {
        return;
    }
    let mut pair = Pair::start(source, target).await;
    let before = pair.target_link.observe().await.unwrap();
    pair.cut_over().await;
    let after = pair.target_link.observe().await.unwrap();
    assert_eq!(after.sync_full, before.sync_full, "no full copy was begun");
    assert_eq!(
        after.total_forks, before.total_forks,
        "the target did not fork"
    );
    assert_eq!(after.sync_partial_ok, before.sync_partial_ok + 1);
    let Role::Primary { replicas } = &after.role else {
        panic!("{:?}", after.role)
    };
    assert_eq!(
        replicas[0].port, 0,
        "nobody who asks the target finds the source past the guard"
    );

    for command in [
        "SET text:1 changed",
        "INCR counter",
        "DEL list:1",
        "EXPIRE text:2 500",
        "RPUSH new a b c",
    ] {
        pair.on_target(command).await;
    }
    pair.until_equal().await;
    assert_eq!(pair.on_source("GET text:1").await, Value::text("changed"));
    assert_eq!(
        pair.on_source("LRANGE new 0 -1").await,
        pair.on_target("LRANGE new 0 -1").await
    );
    assert!(pair.on_source("TTL text:2").await.as_i64().unwrap() > 400);
    assert_eq!(
        pair.source_link.observe().await.unwrap().keys,
        pair.target_link.observe().await.unwrap().keys
    );
    assert_eq!(
        pair.source_link.probe_write().await.unwrap(),
        Probe::ReadOnly
    );
    assert!(pair.guard.foreign().is_exact());
    let GuardState::Following {
        from_offset,
        relayed_bytes,
        ..
    } = pair.guard.states().borrow().clone()
    else {
        panic!("{:?}", pair.guard.states().borrow())
    };
    let seen = pair.target_link.observe().await.unwrap();
    assert_eq!(
        from_offset + relayed_bytes,
        seen.offset + 1,
        "the guard counts as the servers count"
    );

    // The way back: the same steps with the roles exchanged need no guard, since the old version's stream is known to
    // the new one. Here it is enough that the source still has a history that the target knows.
    let source = pair.source_link.observe().await.unwrap();
    assert_eq!(source.replid, seen.replid);
    pair.guard.stop().await;
}

#[tokio::test]
async fn redis_6_2_follows_redis_8_2() {
    check(Version::Redis6_2_14, Version::Redis8_2_3).await;
}

#[tokio::test]
async fn redis_7_0_follows_redis_8_2() {
    check(Version::Redis7_0_15, Version::Redis8_2_3).await;
}

#[tokio::test]
async fn redis_6_2_follows_valkey_8_1() {
    check(Version::Redis6_2_14, Version::Valkey8_1_8).await;
}

#[tokio::test]
async fn redis_6_2_follows_valkey_9_1() {
    check(Version::Redis6_2_14, Version::Valkey9_1_2).await;
}

#[tokio::test]
async fn undone_before_the_promotion_the_source_serves_on_and_the_target_follows_it_again() {
    for version in [Version::Redis6_2_14, Version::Redis7_0_15] {
        if !installed(&[version]) {
            continue;
        }
        let mut pair = Pair::start(version, Version::Redis8_2_3).await;
        let before = pair.source_link.observe().await.unwrap();
        demote(&mut pair.source_link, &pair.guard).await;
        until_state(&pair.guard, "parked", |state| {
            matches!(state, GuardState::Parked { .. })
        })
        .await;
        pair.source_link.promote().await.unwrap();
        until_state(&pair.guard, "left", |state| {
            matches!(state, GuardState::Lost { .. })
        })
        .await;
        assert_eq!(
            pair.source_link.probe_write().await.unwrap(),
            Probe::Accepted
        );
        pair.on_source("SET after undo").await;
        until("the target follows", async || {
            let (source, target) = (
                pair.source_link.observe().await.unwrap(),
                pair.target_link.observe().await.unwrap(),
            );
            (target.follows() && target.applied_offset() == source.offset).then_some(())
        })
        .await;
        let after = pair.source_link.observe().await.unwrap();
        assert_eq!(
            after.sync_full, before.sync_full,
            "the target came back by CONTINUE"
        );
        assert_eq!(pair.on_target("GET after").await, Value::text("undo"));
    }
}

/// Undoes a cutover after the promotion: the target is demoted first, then the source serves again. Gives how many full
/// copies the source had to give for it.
async fn undo(pair: &mut Pair) -> u64 {
    let (host, port) = ("127.0.0.1", pair.source.port());
    pair.target_link.replicate_from(host, port).await.unwrap();
    assert_eq!(
        pair.target_link.probe_write().await.unwrap(),
        Probe::ReadOnly
    );
    let before = pair.source_link.observe().await.unwrap();
    pair.source_link.promote().await.unwrap();
    assert_eq!(
        pair.source_link.probe_write().await.unwrap(),
        Probe::Accepted
    );
    until("the target follows", async || {
        let (source, target) = (
            pair.source_link.observe().await.unwrap(),
            pair.target_link.observe().await.unwrap(),
        );
        (target.follows() && target.applied_offset() == source.offset).then_some(())
    })
    .await;
    pair.source_link.observe().await.unwrap().sync_full - before.sync_full
}

#[tokio::test]
async fn undone_after_the_promotion_nothing_of_the_source_has_changed_and_the_target_copies_it_again()
 {
    let mut pair = Pair::start(Version::Redis6_2_14, Version::Redis8_2_3).await;
    let before = digest(&mut pair.source_link).await;
    pair.promote_with_the_source_parked().await;
    // The promotion gave the target a history of its own, which the source never heard of.
    assert_eq!(undo(&mut pair).await, 1);
    assert_eq!(digest(&mut pair.source_link).await, before);
}

#[tokio::test]
async fn undone_after_continue_the_target_comes_back_by_continue_too() {
    let mut pair = Pair::start(Version::Redis6_2_14, Version::Redis8_2_3).await;
    let before = digest(&mut pair.source_link).await;
    pair.cut_over().await;
    pair.until_equal().await;
    // With +CONTINUE the source has learnt the target's new history.
    assert_eq!(undo(&mut pair).await, 0);
    assert_eq!(digest(&mut pair.source_link).await, before);
}

/// Counts until it is refused; gives how often it was acknowledged.
async fn count_until_fenced(mut link: ServerLink, key: &str) -> i64 {
    let mut acknowledged = 0;
    loop {
        match link.raw(&["INCR", key]).await.unwrap() {
            Value::Integer(count) => acknowledged = count,
            Value::Error(text) => {
                assert!(text.starts_with("READONLY "), "{text}");
                return acknowledged;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Hazards 1, 6 and 7: writers that bypass every proxy, and a standing replica whose pings move the source's offset.
async fn check_under_load(version: Version) {
    if !installed(&[version]) {
        return;
    }
    let mut pair = Pair::start(version, Version::Redis8_2_3).await;
    let standing = Server::bare(version).await.unwrap();
    standing.follow(&pair.source).await.unwrap();
    pair.source_link
        .config_set("repl-ping-replica-period", "1")
        .await
        .unwrap();
    let first = tokio::spawn(count_until_fenced(link(&pair.source).await, "first"));
    let second = tokio::spawn(count_until_fenced(link(&pair.source).await, "second"));
    until("both write", async || {
        let counts = pair
            .on_source("MGET first second")
            .await
            .into_vec()
            .unwrap();
        counts
            .iter()
            .all(|count| count.as_i64() > Some(300))
            .then_some(())
    })
    .await;
    pair.promote_with_the_source_parked().await;
    pair.guard.unpark();
    until_state(&pair.guard, "following", GuardState::is_following).await;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(pair.on_target("GET first").await.as_i64(), Some(first));
    assert_eq!(pair.on_target("GET second").await.as_i64(), Some(second));
    pair.on_target("INCR first").await;
    pair.until_equal().await;
    assert_eq!(pair.on_source("GET first").await.as_i64(), Some(first + 1));
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_under_load_with_a_standing_replica() {
    for _ in 0..3 {
        check_under_load(Version::Redis6_2_14).await;
        check_under_load(Version::Redis7_0_15).await;
    }
}
