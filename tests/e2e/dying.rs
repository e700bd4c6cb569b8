//! A server of the shard dies in each phase, and comes back.
//!
//! Control is stopped at an effect of that phase, the server is killed, and control goes on: so each death is where it is
//! said to be. Servers write an AOF that is on disk before a reply: what a dead server acknowledged, it still has.

use std::time::Duration;

use serde_json::Value;
use understudy_lab::{Cast, FindingKind, Load, POOL, Scene, Server, ServerOptions, Version};

use crate::stage::{LIMIT, assert_clean, options, served, under_load, verdict};

/// Longer than every wait of a client; a server stays away for less.
const NOTICED: Duration = Duration::from_secs(30);
/// How an error begins that a dead server, and nothing else, causes.
const OF_A_DEAD_SERVER: [&str; 5] = [
    // Back, and longer at its AOF than a refused command is tried again (`limits.retry_max`).
    "LOADING",
    "ERR outcome unknown: the connection to the backend was lost",
    "ERR not executed: the backend is unavailable",
    "ERR not executed: the outcome of a command before it is unknown",
    "EXECABORT",
];
const HOLD: [&str; 2] = ["HOLD-MAX", "2000"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Source,
    Target,
}

impl Who {
    fn of(self, scene: &mut Scene) -> &mut Server {
        match self {
            Who::Source => &mut scene.sources[0],
            Who::Target => &mut scene.targets[0],
        }
    }
}

/// Servers that have on disk what they acknowledge, one proxy, and control in a process of its own.
async fn scene(failpoint: Option<&str>) -> (Scene, Load) {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    wanted.cast = Cast::Separate { proxies: 1 };
    wanted.server = ServerOptions::new()
        .set("appendonly", "yes")
        .set("appendfsync", "always");
    let failpoint = failpoint.map(|place| format!("{place}:stop"));
    wanted
        .environment
        .extend(failpoint.map(|failpoint| ("UNDERSTUDY_FAILPOINT".to_owned(), failpoint)));
    under_load(&wanted).await
}

/// Kills the server where control stands, lets control go on, and gives what STATUS says of it.
async fn dies_at(scene: &mut Scene, who: Who, place: &str) -> Value {
    // START may still be unanswered when control stops itself.
    let target = format!("s1={}", scene.targets[0].url());
    let mut admin = scene.admin().await.unwrap();
    let start = tokio::spawn(async move {
        let start = ["UPGRADE", "START", POOL, "TO", &target, "HOLD-MAX", "2000"];
        admin.call(&start).await
    });
    assert!(
        scene.control().is_frozen_within(LIMIT).await,
        "{place} was not reached: {:#?}",
        scene.status().await
    );
    who.of(scene).kill9().unwrap();
    scene.control().thaw().unwrap();
    let started = start.await.unwrap().unwrap();
    assert_eq!(started, understudy_lab::wire::Reply::ok(), "{place}");
    said(scene, &format!("{who:?} dead at {place}")).await
}

/// Waits for the one line that says what is wrong.
async fn said(scene: &Scene, case: &str) -> Value {
    let deadline = tokio::time::Instant::now() + NOTICED;
    loop {
        let status = scene.status().await.unwrap();
        if let Some(error) = status["error"].as_str() {
            assert!(!error.contains('\n'), "{case}: {error}");
            eprintln!("{case}: {error}");
            return status;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{case}: nothing is said: {status:#}\n{}",
            scene.control().log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The attempt ends by itself, and clients are served where they were.
async fn ends_aborted(scene: &Scene, load: &Load, case: &str) {
    scene
        .wait_until("aborted", LIMIT, |status| status["phase"] == "aborted")
        .await
        .unwrap_or_else(|error| panic!("{case}: {error}"));
    served(load).await;
}

/// What a dead server itself caused is an error that says so; nothing else is wrong.
fn only_the_dead_server_is_felt(report: &understudy_lab::Report, case: &str) {
    assert!(
        report.is_true() && report.connections_lost == 0,
        "{case}: {}",
        serde_json::to_string_pretty(report).unwrap()
    );
    for finding in &report.findings {
        assert_eq!(finding.kind, FindingKind::ClientError, "{case}: {finding}");
        assert!(
            OF_A_DEAD_SERVER
                .iter()
                .any(|text| finding.found.starts_with(text)),
            "{case}: {finding}"
        );
    }
}

async fn source_dies_at(place: &str) {
    let case = format!("source dead at {place}");
    let (mut scene, load) = scene(Some(place)).await;
    dies_at(&mut scene, Who::Source, place).await;
    scene.sources[0].restart().await.unwrap();
    ends_aborted(&scene, &load, &case).await;
    only_the_dead_server_is_felt(&verdict(load, &[&scene.sources[0]]).await, &case);
}

async fn target_dies_at(place: &str) {
    let case = format!("target dead at {place}");
    let (mut scene, load) = scene(Some(place)).await;
    dies_at(&mut scene, Who::Target, place).await;
    ends_aborted(&scene, &load, &case).await;
    let report = verdict(load, &[&scene.sources[0]]).await;
    assert_clean(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_dies_before_the_cutover_ends_the_attempt_and_nothing_else() {
    for place in [
        "take-snapshot:begun",
        "attach:applied",
        "carry-scripts:applied",
    ] {
        source_dies_at(place).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_dies_inside_the_hold_serves_again_when_it_is_back() {
    for place in ["pause:applied", "fence:applied", "promote:applied"] {
        source_dies_at(place).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_dies_before_the_cutover_is_no_clients_business() {
    for place in [
        "take-snapshot:begun",
        "attach:applied",
        "carry-scripts:applied",
    ] {
        target_dies_at(place).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_dies_inside_the_hold_is_no_clients_business() {
    for place in [
        "prepare:applied",
        "fence:applied",
        "promote:applied",
        "unpark:applied",
    ] {
        target_dies_at(place).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_dies_at_the_commit_is_waited_for() {
    let case = "target dead at the commit";
    let (scene, load) = dies_at_the_commit(Who::Target).await;
    only_the_dead_server_is_felt(&verdict(load, &[&scene.targets[0]]).await, case);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_dies_at_the_commit_is_no_clients_business() {
    let (scene, load) = dies_at_the_commit(Who::Source).await;
    assert_clean(&verdict(load, &[&scene.targets[0]]).await);
}

/// Dies once the commit is on disk and before any proxy was told, and is started again; the shard goes on.
async fn dies_at_the_commit(who: Who) -> (Scene, Load) {
    let (mut scene, load) = scene(Some("commit:applied")).await;
    let target = format!("s1={}", scene.targets[0].url());
    let mut start = vec!["UPGRADE", "START", POOL, "TO", &target];
    start.extend(HOLD);
    scene.call(&start).await.unwrap();
    assert!(scene.control().is_frozen_within(LIMIT).await);
    who.of(&mut scene).kill9().unwrap();
    scene.control().thaw().unwrap();
    who.of(&mut scene).restart().await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    served(&load).await;
    (scene, load)
}

/// So many keys that comparing them takes a second or more.
const KEYS: &str = "30000";

/// Dies when some keys were compared and most were not.
async fn dies_while_compared(who: Who) -> (Scene, Load, String) {
    let case = format!("{who:?} dead inside the comparison");
    let (mut scene, load) = scene(None).await;
    let fill = ["DEBUG", "POPULATE", KEYS, "filler", "16"];
    scene.sources[0].call(&fill).await.unwrap();
    scene.start_upgrade(&HOLD).await.unwrap();
    let inside = |status: &Value| {
        let shard = &status["shards"][0];
        let compared = shard["keys_verified"].as_u64().unwrap_or(0);
        shard["phase"] == "verify"
            && compared > 0
            && compared < shard["keys_total"].as_u64().unwrap_or(0) / 2
    };
    scene.wait_until(&case, LIMIT, inside).await.unwrap();
    scene.control().freeze().unwrap();
    who.of(&mut scene).kill9().unwrap();
    scene.control().thaw().unwrap();
    said(&scene, &case).await;
    (scene, load, case)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_dies_inside_the_comparison_is_no_clients_business() {
    let (mut scene, load, case) = dies_while_compared(Who::Target).await;
    ends_aborted(&scene, &load, &case).await;
    // Back, it is as empty or as full as it likes: it is ours, and may be tried again.
    scene.targets[0].restart().await.unwrap();
    let again = ["HOLD-MAX", "2000", "REPLACE"];
    scene.start_upgrade(&again).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    assert_clean(&verdict(load, &[&scene.targets[0]]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_dies_inside_the_comparison_ends_the_attempt_and_nothing_else() {
    let (mut scene, load, case) = dies_while_compared(Who::Source).await;
    scene.sources[0].restart().await.unwrap();
    ends_aborted(&scene, &load, &case).await;
    only_the_dead_server_is_felt(&verdict(load, &[&scene.sources[0]]).await, &case);
}

/// Both ways, while the operator has not said CUTOVER.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_while_cutover_is_awaited_makes_it_verify_again() {
    for who in [Who::Target, Who::Source] {
        let case = format!("{who:?} dead while CUTOVER is awaited");
        let (mut scene, load) = scene(None).await;
        scene
            .start_upgrade(&["CUTOVER", "manual", "HOLD-MAX", "2000"])
            .await
            .unwrap();
        waits_for_cutover(&scene).await;
        let before = runs(&scene).await;
        who.of(&mut scene).kill9().unwrap();
        // CUTOVER with a dead server must not get through.
        let _whatever_it_says = scene.call(&["UPGRADE", "CUTOVER", POOL]).await;
        said(&scene, &case).await;
        who.of(&mut scene).restart().await.unwrap();
        assert_ne!(before, runs(&scene).await);
        served(&load).await;
        let status = scene.status().await.unwrap();
        if status["phase"] == "aborted" {
            scene
                .start_upgrade(&["HOLD-MAX", "2000", "REPLACE"])
                .await
                .unwrap_or_else(|error| panic!("{case}: {error}"));
        } else {
            waits_for_cutover(&scene).await;
            scene.call(&["UPGRADE", "CUTOVER", POOL]).await.unwrap();
        }
        scene
            .wait_for("soak", LIMIT)
            .await
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        only_the_dead_server_is_felt(&verdict(load, &[&scene.targets[0]]).await, &case);
    }
}

async fn waits_for_cutover(scene: &Scene) {
    scene
        .wait_until("verified", LIMIT, |status| {
            status["shards"][0]["waiting"] == "UPGRADE CUTOVER"
        })
        .await
        .unwrap();
}

/// Which processes the two servers are.
async fn runs(scene: &Scene) -> [Option<String>; 2] {
    [
        scene.sources[0].info("run_id").await.ok().flatten(),
        scene.targets[0].info("run_id").await.ok().flatten(),
    ]
}
