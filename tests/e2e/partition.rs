//! Control is cut off from the source, the target or a proxy at an effect of a cutover; everybody else is not.
//!
//! Control stops itself at the effect, its connections to that peer stand still in both directions, and it goes on. Once it
//! has said what is wrong, or has come to an end without that peer, the partition ends: by a reset, or by delivering late
//! what was on its way. A probe writes to both servers past everything; the ledger judges what clients were told.

use understudy_lab::{AfterCut, Cast, CutAt, Relay, Scene, Version};

use crate::crash::{REACHED, finish, not_reached, start, wanted_with};
use crate::probe::Probe;
use crate::stage::{LIMIT, options, under_load};

#[derive(Clone, Copy, Debug)]
enum Peer {
    Source,
    Target,
    Proxy,
}

/// How the partition ends.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// What was on its way is lost, and its connections with it.
    Reset,
    /// What was on its way arrives late, on connections that control has given up.
    Late,
}

impl Peer {
    fn of(self, scene: &Scene) -> &Relay {
        match self {
            Peer::Source => &scene.relays.sources[0],
            Peer::Target => &scene.relays.targets[0],
            Peer::Proxy => &scene.relays.proxies[0],
        }
    }
}

async fn cut_off_at(place: &str, peer: Peer, then: Then) {
    let case = format!("{peer:?} at {place}, then {then:?}");
    let mut wanted = wanted_with(format!("{place}:stop"));
    wanted.relays = true;
    let (scene, load) = under_load(&wanted).await;
    let probe = Probe::start(&scene.sources[0], &scene.targets[0]).await;
    start(&scene, &case).await;
    if !scene.control().is_frozen_within(REACHED).await {
        not_reached(&scene, &case).await;
    }
    let relay = peer.of(&scene);
    relay.cut_off(Some(scene.control().pid()));
    scene.control().thaw().unwrap();
    let status = scene
        .wait_until("noticed", LIMIT, |status| {
            status["error"].is_string()
                || matches!(status["phase"].as_str(), Some("soak" | "aborted"))
        })
        .await
        .unwrap_or_else(|error| panic!("{case}: {error}"));
    eprintln!("{case}: {}: {}", status["phase"], status["error"]);
    if matches!(then, Then::Reset) {
        relay.cut();
    }
    relay.cut_off(None);
    finish(scene, load, probe, &case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_may_be_cut_off_from_the_source() {
    cut_off_at("pause:applied", Peer::Source, Then::Reset).await;
    cut_off_at("fence:begun", Peer::Source, Then::Late).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_may_be_cut_off_from_the_target() {
    cut_off_at("promote:begun", Peer::Target, Then::Late).await;
    cut_off_at("unpark:applied", Peer::Target, Then::Reset).await;
    cut_off_at("commit:applied", Peer::Target, Then::Late).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_may_be_cut_off_from_a_proxy() {
    cut_off_at("prepare:begun", Peer::Proxy, Then::Late).await;
    cut_off_at("switch:begun", Peer::Proxy, Then::Reset).await;
}

/// Once for each of what arming and carrying say to a server: it has done it, and control does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_before_the_hold_ends_no_upgrade() {
    let priority = "SET\r\n$16\r\nreplica-priority\r\n$1\r\n0";
    let user = "SETUSER\r\n$5\r\nalice";
    // The load's own; the plan tries the command with another.
    let script = "LOAD\r\n$152\r\nlocal n = ";
    for (peer, text) in [
        (Peer::Source, priority),
        (Peer::Target, priority),
        (Peer::Target, user),
        (Peer::Target, script),
    ] {
        let case = format!("{peer:?} at {text:?}");
        let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
        wanted.shards = 1;
        wanted.relays = true;
        wanted.cast = Cast::Separate { proxies: 2 };
        let (scene, load) = under_load(&wanted).await;
        let probe = Probe::start(&scene.sources[0], &scene.targets[0]).await;
        let alice = ["ACL", "SETUSER", "alice", "on", ">pw", "~*", "+@read"];
        scene.sources[0].call(&alice).await.unwrap();
        peer.of(&scene).cut_at(text, CutAt::Behind, AfterCut::Back);
        assert!(start(&scene, &case).await, "{case}");
        let status = scene.wait_for("soak", LIMIT).await;
        assert!(status.is_ok(), "{case}: {status:?}");
        assert_eq!(peer.of(&scene).cuts_at(), 1, "{case}: nothing was cut");
        finish(scene, load, probe, &case).await;
    }
}
