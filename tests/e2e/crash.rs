//! Control dies or stands still between any two effects: nothing is lost, no client notices, and the upgrade goes on.
//!
//! The cases are not chosen by hand: every effect there is, before and after it is applied. All the while a probe writes
//! directly to both servers, past the proxies: at no instant may both accept a write.

use std::time::Duration;

use understudy_control::EFFECTS;
use understudy_lab::{Cast, Load, POOL, Scene, SceneOptions, Version};

use crate::probe::Probe;
use crate::stage::{LIMIT, assert_clean, options, served, under_load, verdict};

/// Effects that an upgrade which succeeds does not perform: those of the undo.
const UNDO: [&str; 2] = ["demote", "unfence"];
/// What makes an attempt be undone when it had done everything but its commit.
const UNDONE: &str = "unpark:applied:error";
/// How long the failpoint may take to be reached.
pub(crate) const REACHED: Duration = Duration::from_secs(60);
/// Longer than every lease, pause and deadline of an attempt.
const PAST_EVERY_DEADLINE: Duration = Duration::from_secs(4);

async fn scene_with(failpoint: String) -> (Scene, Load, Probe) {
    let (scene, load) = under_load(&wanted_with(failpoint)).await;
    let probe = Probe::start(&scene.sources[0], &scene.targets[0]).await;
    (scene, load, probe)
}

/// Two proxies and control, each a process of its own, and one shard.
pub(crate) fn wanted_with(failpoint: String) -> SceneOptions {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    wanted.cast = Cast::Separate { proxies: 2 };
    wanted
        .environment
        .push(("UNDERSTUDY_FAILPOINT".to_owned(), failpoint));
    wanted
}

/// UPGRADE START, of which the probe is a known writer beside the proxies. Control may die before it answers.
pub(crate) async fn start(scene: &Scene, case: &str) -> bool {
    match scene
        .start_upgrade(&["HOLD-MAX", "2000", "ACCEPT", "other-writers"])
        .await
    {
        Ok(()) => true,
        Err(error) => {
            assert!(!error.to_string().contains("BLOCKED"), "{case}: {error}");
            false
        }
    }
}

/// Brings the upgrade to its end, whatever state it is found in, and reads the ledger.
pub(crate) async fn finish(scene: Scene, load: Load, probe: Probe, case: &str) {
    let status = scene
        .wait_until("an end of the attempt", LIMIT, |status| {
            let phase = status["phase"].as_str().unwrap_or_default();
            matches!(phase, "soak" | "aborted" | "finalized")
        })
        .await
        .unwrap_or_else(|error| panic!("{case}: {error}"));
    served(&load).await;
    if status["phase"] == "aborted" {
        scene
            .start_upgrade(&["HOLD-MAX", "2000", "REPLACE", "ACCEPT", "other-writers"])
            .await
            .unwrap_or_else(|error| panic!("{case}: {error}"));
    }
    if status["phase"] != "finalized" {
        scene
            .wait_for("soak", LIMIT)
            .await
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        scene.call(&["UPGRADE", "FINALIZE", POOL]).await.unwrap();
        scene
            .wait_for("finalized", LIMIT)
            .await
            .unwrap_or_else(|error| panic!("{case}: {error}"));
    }
    probe.assert_one_primary_at_a_time(case).await;
    let report = verdict(load, &[&scene.targets[0]]).await;
    assert!(
        report.is_clean(),
        "{case}: {}",
        serde_json::to_string_pretty(&report).unwrap()
    );
    assert_clean(&report);
}

/// The failpoint, and what leads to it where an upgrade that succeeds does not.
fn with_cause(effect: &str, failpoint: String) -> String {
    match UNDO.contains(&effect) {
        true => format!("{UNDONE},{failpoint}"),
        false => failpoint,
    }
}

async fn killed_at(effect: &str, moment: &str) {
    let case = with_cause(effect, format!("{effect}:{moment}:kill"));
    let (mut scene, load, probe) = scene_with(case.clone()).await;
    let started = start(&scene, &case).await;
    let at_the_end = matches!(effect, "retire" | "disarm" | "release-snapshot");
    if at_the_end && started {
        // These come after the soak.
        if scene.wait_for("soak", LIMIT).await.is_ok() {
            scene.call(&["UPGRADE", "FINALIZE", POOL]).await.ok();
        }
    }
    let ended = scene.control_mut().wait_for_end(REACHED).await.unwrap();
    if ended.is_none() {
        not_reached(&scene, &case).await;
    }
    scene
        .control_mut()
        .restart(&[])
        .await
        .unwrap_or_else(|error| panic!("{case}: {error}"));
    finish(scene, load, probe, &case).await;
}

async fn frozen_at(effect: &str, moment: &str) {
    frozen(with_cause(effect, format!("{effect}:{moment}:stop:1"))).await;
}

async fn frozen(case: String) {
    let (scene, load, probe) = scene_with(case.clone()).await;
    start(&scene, &case).await;
    if !scene.control().is_frozen_within(REACHED).await {
        not_reached(&scene, &case).await;
    }
    // Every lease and pause of the attempt runs out meanwhile; that is the point.
    tokio::time::sleep(PAST_EVERY_DEADLINE).await;
    scene.control().thaw().unwrap();
    finish(scene, load, probe, &case).await;
}

pub(crate) async fn not_reached(scene: &Scene, case: &str) -> ! {
    let status = scene.status().await;
    let log = scene.control().log();
    let lines: Vec<&str> = log.lines().rev().take(30).collect();
    panic!("{case}: the failpoint was not reached: {status:#?}\nlog, newest first: {lines:#?}");
}

/// Effects on the way from START to FINALIZE.
fn on_the_way() -> impl Iterator<Item = &'static str> {
    EFFECTS.into_iter().filter(|effect| !UNDO.contains(effect))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_may_be_killed_before_any_effect() {
    for effect in on_the_way() {
        killed_at(effect, "begun").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_may_be_killed_after_any_effect() {
    for effect in on_the_way() {
        killed_at(effect, "applied").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_may_stand_still_in_the_middle_of_a_cutover() {
    for effect in [
        "hold", "pause", "prepare", "fence", "promote", "unpark", "commit", "switch", "release",
    ] {
        frozen_at(effect, "applied").await;
    }
}

/// Before and after each of them, and with proxies that are stubs: `control/tests/crash.rs`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_may_be_killed_in_the_middle_of_an_undo() {
    for effect in UNDO {
        killed_at(effect, "applied").await;
    }
}

/// Roles are half undone meanwhile, and nobody serves: clients wait, and are served as soon as it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_may_stand_still_in_the_middle_of_an_undo() {
    for effect in UNDO {
        for moment in ["begun", "applied"] {
            frozen_at(effect, moment).await;
        }
    }
    for moment in ["begun", "applied"] {
        frozen(format!("{UNDONE},release:{moment}:stop:1")).await;
    }
}
