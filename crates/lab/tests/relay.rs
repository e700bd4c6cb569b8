//! The relay does what it is asked and nothing else.

use std::time::{Duration, Instant};

use understudy_lab::wire::{Reply, Wire, encode};
use understudy_lab::{AfterCut, CutAt, Relay, RelayMode, Server, Version};

const LIMIT: Duration = Duration::from_secs(10);

async fn scene(mode: RelayMode) -> (Server, Relay, Wire) {
    let server = Server::bare(Version::Redis6_2_14)
        .await
        .expect("a server starts");
    let relay = Relay::start(&server.address().to_string(), mode)
        .await
        .expect("a relay starts");
    let wire = Wire::connect(&relay.address(), LIMIT)
        .await
        .expect("the relay listens");
    (server, relay, wire)
}

fn pong() -> Reply {
    Reply::Simple("PONG".to_owned())
}

#[tokio::test]
async fn bytes_pass_unchanged_in_both_modes() {
    for mode in [RelayMode::Bytes, RelayMode::Frames] {
        let (_server, _relay, mut wire) = scene(mode).await;
        let large = vec![b'\n'; 300_000];
        assert_eq!(
            wire.call(&[b"SET".as_slice(), b"k", &large]).await.unwrap(),
            Reply::ok()
        );
        assert_eq!(wire.call(&["GET", "k"]).await.unwrap(), Reply::Bulk(large));
    }
}

#[tokio::test]
async fn a_delay_holds_each_direction_and_keeps_the_order() {
    let (_server, relay, mut wire) = scene(RelayMode::Bytes).await;
    relay.delay(Duration::from_millis(20));
    let mut frames = Vec::new();
    for _ in 0..3 {
        encode(&mut frames, &["INCR", "n"]);
    }
    let since = Instant::now();
    wire.send(&frames).await.unwrap();
    for due in 1..=3 {
        assert_eq!(wire.reply().await.unwrap(), Reply::Integer(due));
    }
    assert!(
        since.elapsed() >= Duration::from_millis(40),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test]
async fn a_partition_closes_nothing_and_ends() {
    let (_server, relay, mut wire) = scene(RelayMode::Bytes).await;
    relay.stall(true);
    let silent = tokio::time::timeout(Duration::from_millis(50), wire.call(&["PING"])).await;
    assert!(silent.is_err(), "{silent:?}");
    relay.stall(false);
    assert_eq!(wire.reply().await.unwrap(), pong());
}

#[tokio::test]
async fn a_process_is_cut_off_alone() {
    let (_server, relay, mut wire) = scene(RelayMode::Bytes).await;
    relay.cut_off(Some(std::os::unix::process::parent_id()));
    assert_eq!(wire.call(&["PING"]).await.unwrap(), pong());
    relay.cut_off(Some(std::process::id()));
    let silent = tokio::time::timeout(Duration::from_millis(50), wire.call(&["PING"])).await;
    assert!(silent.is_err(), "{silent:?}");
    relay.cut_off(None);
    assert_eq!(wire.reply().await.unwrap(), pong());
}

#[tokio::test]
async fn a_cut_closes_what_is_open_and_welcomes_what_comes() {
    let (_server, relay, mut wire) = scene(RelayMode::Bytes).await;
    assert_eq!(wire.call(&["PING"]).await.unwrap(), pong());
    relay.cut();
    assert!(wire.reply().await.is_err());
    let mut next = Wire::connect(&relay.address(), LIMIT).await.unwrap();
    assert_eq!(next.call(&["PING"]).await.unwrap(), pong());
    relay.refuse(true);
    let mut refused = Wire::connect(&relay.address(), LIMIT).await.unwrap();
    assert!(refused.call(&["PING"]).await.is_err());
}

#[tokio::test]
async fn a_byte_budget_cuts_in_the_middle_of_a_command() {
    let (server, relay, mut wire) = scene(RelayMode::Bytes).await;
    let mut whole = Vec::new();
    encode(&mut whole, &["INCR", "n"]);
    relay.cut_after(u32::try_from(whole.len()).unwrap() + 5);
    wire.send(&[whole.as_slice(), &whole].concat())
        .await
        .unwrap();
    while wire.reply().await.is_ok() {}
    assert_eq!(server.call(&["GET", "n"]).await.unwrap(), Reply::bulk("1"));
}

#[tokio::test]
async fn a_doubled_command_answers_once() {
    let (server, relay, mut wire) = scene(RelayMode::Frames).await;
    relay.double_next("incr", "");
    assert_eq!(wire.call(&["INCR", "n"]).await.unwrap(), Reply::Integer(1));
    assert_eq!(wire.call(&["PING"]).await.unwrap(), pong());
    assert_eq!(server.call(&["GET", "n"]).await.unwrap(), Reply::bulk("2"));
    assert_eq!(relay.doubled(), 1);
}

#[tokio::test]
async fn only_neighbouring_replies_that_differ_are_swapped() {
    let (_server, relay, mut wire) = scene(RelayMode::Frames).await;
    relay.swap_next_replies();
    assert_eq!(
        wire.call(&["PING"]).await.unwrap(),
        pong(),
        "a single reply has no neighbour"
    );
    let mut frames = Vec::new();
    for word in ["PING", "PING", "TIME", "PING"] {
        encode(&mut frames, &[word]);
    }
    wire.send(&frames).await.unwrap();
    let mut replies = Vec::new();
    for _ in 0..4 {
        replies.push(wire.reply().await.unwrap());
    }
    let places: Vec<usize> = (0..4).filter(|at| replies[*at] != pong()).collect();
    assert_eq!((places, relay.swapped()), (vec![1], 1), "{replies:?}");
}

#[tokio::test]
async fn a_cut_at_a_text_ends_one_connection_before_the_server_or_behind_it() {
    let (server, relay, mut wire) = scene(RelayMode::Bytes).await;
    let mut other = Wire::connect(&relay.address(), LIMIT).await.unwrap();
    assert_eq!(other.call(&["PING"]).await.unwrap(), pong());
    relay.cut_at("wanted", CutAt::Before, AfterCut::Back);
    assert_eq!(
        wire.call(&["INCR", "n"]).await.unwrap(),
        Reply::Integer(1),
        "what does not contain it passes"
    );
    assert!(wire.call(&["SET", "wanted", "1"]).await.is_err());
    assert_eq!(
        server.call(&["EXISTS", "wanted"]).await.unwrap(),
        Reply::Integer(0)
    );
    relay.cut_at("wanted", CutAt::Behind, AfterCut::Away);
    let mut next = Wire::connect(&relay.address(), LIMIT).await.unwrap();
    assert!(next.call(&["SET", "wanted", "1"]).await.is_err());
    assert_eq!(
        server.call(&["EXISTS", "wanted"]).await.unwrap(),
        Reply::Integer(1)
    );
    assert_eq!(relay.cuts_at(), 2);
    assert!(other.call(&["PING"]).await.is_err(), "it is away");
}
