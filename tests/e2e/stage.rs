//! What every end-to-end test begins and ends with: a scene under load, and the ledger's verdict.

use std::num::NonZeroU32;
use std::time::Duration;

use understudy_lab::wire::Address;
use understudy_lab::{
    AuditOptions, Load, LoadOptions, Report, Scene, SceneOptions, Server, Version,
};

/// A whole upgrade of small data takes seconds; a loaded CI machine gets much more.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// Commands served between two acts.
const BETWEEN: u64 = 1_000;
/// Commands a second on each connection: the tests share two cores with the servers.
const RATE: u32 = 200;

/// The binary under test.
pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_understudy")
}

/// One pool of two shards, three workers.
pub(crate) fn options(from: Version, to: Version) -> SceneOptions {
    SceneOptions::new(binary(), from, to)
}

/// Starts the scene and a load on all its proxies, and waits until clients are served.
pub(crate) async fn under_load(options: &SceneOptions) -> (Scene, Load) {
    let scene = Scene::start(options).await.unwrap();
    let load_options = LoadOptions {
        rate: NonZeroU32::new(RATE),
        ..LoadOptions::default()
    };
    let load = Load::start(&scene.all_clients(), &load_options);
    served(&load).await;
    (scene, load)
}

/// Clients are served on.
pub(crate) async fn served(load: &Load) {
    assert!(
        load.served(BETWEEN, LIMIT).await,
        "clients are no longer served: {:?}",
        load.findings().first()
    );
}

/// Ends the load and reads every entry of its ledger on these servers.
pub(crate) async fn verdict(load: Load, primaries: &[&Server]) -> Report {
    served(&load).await;
    let addresses: Vec<Address> = primaries.iter().map(|server| server.address()).collect();
    load.stop()
        .await
        .audit(&addresses, &AuditOptions::default())
        .await
        .unwrap()
}

/// [`verdict`], and nothing may be wrong.
#[track_caller]
pub(crate) fn assert_clean(report: &Report) {
    assert!(
        report.is_clean(),
        "{}",
        serde_json::to_string_pretty(report).unwrap()
    );
}

/// All servers of a list, by reference.
pub(crate) fn all(servers: &[Server]) -> Vec<&Server> {
    servers.iter().collect()
}

/// No process of the scene logged a WARN or ERROR, but for lines that contain one of these texts.
#[track_caller]
pub(crate) fn assert_quiet(scene: &Scene, allowed: &[&str]) {
    for process in scene.proxies.iter().chain(&scene.control) {
        for line in process.log().lines() {
            // What is no JSON did not come from the log: a panic, say.
            let level = serde_json::from_str::<serde_json::Value>(line)
                .map_or_else(|_| "none".into(), |line| line["level"].clone());
            let odd = !matches!(level.as_str(), Some("INFO" | "DEBUG" | "TRACE"));
            assert!(
                !odd || allowed.iter().any(|text| line.contains(text)),
                "logged: {line}"
            );
        }
    }
}
