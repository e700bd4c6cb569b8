//! Control in a process of its own: driving two proxies of one pool that it is told of, and proxies that register.

use std::time::{Duration, Instant};

use understudy_lab::wire::{Reply, Wire, encode};
use understudy_lab::{Cast, POOL, Process, Scene, SceneOptions, Version};

use crate::stage::{LIMIT, all, assert_clean, options, served, under_load, verdict};

fn two_proxies() -> SceneOptions {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.cast = Cast::Separate { proxies: 2 };
    wanted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_proxies_of_one_pool_switch_together() {
    let (scene, load) = under_load(&two_proxies()).await;
    scene.start_upgrade(&[]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_stands_still_aborts_the_attempt_and_nothing_else() {
    let (scene, load) = under_load(&two_proxies()).await;
    scene.start_upgrade(&["CUTOVER", "manual"]).await.unwrap();
    scene
        .wait_until("verified", LIMIT, |status| {
            status["shards"][0]["phase"] == "cutover"
        })
        .await
        .unwrap();
    scene.proxies[1].freeze().unwrap();
    scene
        .call(&["UPGRADE", "CUTOVER", understudy_lab::POOL])
        .await
        .ok();
    scene
        .wait_until("aborted", LIMIT, |status| status["phase"] == "aborted")
        .await
        .unwrap();
    scene.proxies[1].thaw().unwrap();
    served(&load).await;
    assert_clean(&verdict(load, &all(&scene.sources)).await);
}

/// How long a registered proxy may be silent.
const LEASE: Duration = Duration::from_secs(2);

/// Proxies of which control's config says nothing.
fn registered(proxies: usize, shards: usize) -> SceneOptions {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = shards;
    wanted.cast = Cast::Registered {
        proxies,
        lease: "2s",
    };
    wanted
}

/// `UPGRADE PROXIES`: each line as its fields.
async fn known(scene: &Scene) -> Vec<String> {
    let Reply::Array(lines) = scene.call(&["UPGRADE", "PROXIES"]).await.unwrap() else {
        panic!("no list of proxies");
    };
    let text = |line: Reply| String::from_utf8(line.into_bytes().unwrap()).unwrap();
    lines.into_iter().map(text).collect()
}

/// Waits until the list of proxies is as wanted.
pub(crate) async fn known_until(scene: &Scene, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let lines = known(scene).await;
        if wanted(&lines) {
            return lines;
        }
        assert!(Instant::now() < deadline, "{lines:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The id of the proxy whose admin port this process has.
fn id_of(lines: &[String], process: &Process) -> String {
    let address = format!("address=redis://{} ", process.admin());
    let line = lines.iter().find(|line| line.contains(&address)).unwrap();
    let id = line.strip_prefix("id=").unwrap().split(' ').next();
    id.unwrap().to_owned()
}

async fn connect(scene: &Scene, proxy: usize) -> Wire {
    Wire::connect(&scene.clients(proxy), LIMIT).await.unwrap()
}

fn bulk(text: &str) -> Reply {
    Reply::bulk(text)
}

async fn waits_for_cutover(scene: &Scene) {
    scene
        .wait_until("verified", LIMIT, |status| {
            status["shards"][0]["waiting"] == "UPGRADE CUTOVER"
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_that_only_register_are_upgraded_and_one_that_comes_later_is_brought_along() {
    let wanted = registered(2, 2);
    let (mut scene, load) = under_load(&wanted).await;
    known_until(&scene, |lines| lines.len() == 2).await;
    scene.start_upgrade(&[]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    let report = verdict(load, &all(&scene.targets)).await;
    assert_clean(&report);
    // Its file names the old servers, and it has no data_dir.
    scene.add_proxy(&wanted).await.unwrap();
    let mut late = connect(&scene, 2).await;
    assert_eq!(late.call(&["SET", "k", "1"]).await.unwrap(), Reply::ok());
    let mut early = connect(&scene, 0).await;
    assert_eq!(early.call(&["GET", "k"]).await.unwrap(), bulk("1"));
    known_until(&scene, |lines| {
        let there = |line: &String| line.contains("s1=1") && line.contains("s2=1");
        lines.len() == 3 && lines.iter().all(there)
    })
    .await;
    // One that ends takes its leave.
    scene.proxies[2].terminate(LIMIT).await.unwrap();
    known_until(&scene, |lines| lines.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_15_a_proxy_that_registers_in_the_middle_of_an_attempt_aborts_it() {
    let mut wanted = registered(1, 1);
    let failpoint = "hold:applied:stop:1".to_owned();
    let named = "UNDERSTUDY_FAILPOINT".to_owned();
    wanted.environment.push((named, failpoint));
    let (scene, load) = under_load(&wanted).await;
    known_until(&scene, |lines| lines.len() == 1).await;
    let mut stranger = scene.admin().await.unwrap();
    scene.start_upgrade(&["HOLD-MAX", "10000"]).await.unwrap();
    assert!(scene.control().is_frozen_within(LIMIT).await);
    // Somebody registers while clients are held. It is dialled where the other one is, so that it answers orders.
    let address = format!("redis://{}", scene.proxies[0].admin());
    let mut frame = Vec::new();
    encode(
        &mut frame,
        &["UPGRADE", "REGISTER", "stranger:1", &address, POOL, "s1=0"],
    );
    stranger.send(&frame).await.unwrap();
    scene.control().thaw().unwrap();
    let Reply::Array(told) = stranger.reply().await.unwrap() else {
        panic!("not registered");
    };
    assert_eq!(told[1], bulk("sessions s1 epoch 0 wait"));
    let deadline = Instant::now() + LIMIT;
    while !scene
        .control()
        .log()
        .contains("registered during the attempt")
    {
        assert!(Instant::now() < deadline, "{}", scene.control().log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left = stranger.call(&["UPGRADE", "LEAVE", "stranger:1"]).await;
    assert_eq!(left.unwrap(), Reply::ok());
    scene.wait_for("soak", LIMIT).await.unwrap();
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_14_a_proxy_that_slept_through_the_cutover_and_was_forgotten_serves_nothing_old() {
    let mut wanted = registered(2, 1);
    let failpoint = "arm-proxies:applied:stop:1".to_owned();
    let named = "UNDERSTUDY_FAILPOINT".to_owned();
    wanted.environment.push((named, failpoint));
    let scene = Scene::start(&wanted).await.unwrap();
    let lines = known_until(&scene, |lines| lines.len() == 2).await;
    let sleeper = id_of(&lines, &scene.proxies[1]);
    let (mut awake, mut asleep) = (connect(&scene, 0).await, connect(&scene, 1).await);
    assert_eq!(awake.call(&["SET", "k", "old"]).await.unwrap(), Reply::ok());
    assert_eq!(asleep.call(&["GET", "k"]).await.unwrap(), bulk("old"));
    let accept = ["CUTOVER", "manual", "HOLD-MAX", "1000"];
    scene.start_upgrade(&accept).await.unwrap();
    waits_for_cutover(&scene).await;
    let cutover = ["UPGRADE", "CUTOVER", POOL];
    assert_eq!(scene.call(&cutover).await.unwrap(), Reply::ok());
    // It has been armed, and never hears of the rest.
    assert!(scene.control().is_frozen_within(LIMIT).await);
    scene.proxies[1].freeze().unwrap();
    scene.control().thaw().unwrap();
    scene
        .wait_until("an attempt that ended", LIMIT, |status| {
            status["shards"][0]["error"].is_string()
                && status["shards"][0]["waiting"] == "UPGRADE CUTOVER"
        })
        .await
        .unwrap();
    // It is named with what to do, and not forgotten as long as it may live.
    let lapsed = format!("id={sleeper} ");
    known_until(&scene, |lines| {
        let line = lines.iter().find(|line| line.starts_with(&lapsed));
        line.is_some_and(|line| line.contains("lease=lapsed"))
    })
    .await;
    assert_eq!(scene.call(&cutover).await.unwrap(), Reply::ok());
    scene
        .wait_until("a refusal that names it", LIMIT, |status| {
            let error = status["shards"][0]["error"].as_str().unwrap_or_default();
            error.contains(&format!("UPGRADE FORGET {sleeper}"))
        })
        .await
        .unwrap();
    let forget = ["UPGRADE", "FORGET", &sleeper];
    let deadline = Instant::now() + LIMIT;
    while scene.call(&forget).await.unwrap() != Reply::ok() {
        assert!(Instant::now() < deadline, "it is not forgotten");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    waits_for_cutover(&scene).await;
    assert_eq!(scene.call(&cutover).await.unwrap(), Reply::ok());
    scene.wait_for("soak", LIMIT).await.unwrap();
    let ended = scene.call(&["UPGRADE", "FINALIZE", POOL]).await.unwrap();
    assert_eq!(ended, Reply::ok());
    // From here on the old server learns nothing.
    assert_eq!(awake.call(&["SET", "k", "new"]).await.unwrap(), Reply::ok());
    let mut frame = Vec::new();
    encode(&mut frame, &["GET", "k"]);
    asleep.send(&frame).await.unwrap();
    scene.proxies[1].thaw().unwrap();
    assert_eq!(asleep.reply().await.unwrap(), bulk("new"));
    known_until(&scene, |lines| lines.len() == 2).await;
}

/// How many reads the old server has refused.
async fn refused_reads(scene: &Scene) -> u64 {
    let stats = scene.sources[0].call(&["INFO", "commandstats"]).await;
    let stats = String::from_utf8(stats.unwrap().into_bytes().unwrap()).unwrap();
    let line = stats.lines().find(|line| line.starts_with("cmdstat_get:"));
    let count = line.and_then(|line| line.split("rejected_calls=").nth(1));
    count.map_or(0, |count| count.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_14_a_proxy_that_was_never_armed_was_forgotten_and_is_cut_off_reads_nothing_old() {
    let scene = Scene::start(&registered(2, 1)).await.unwrap();
    let lines = known_until(&scene, |lines| lines.len() == 2).await;
    let sleeper = id_of(&lines, &scene.proxies[1]);
    let (mut awake, mut asleep) = (connect(&scene, 0).await, connect(&scene, 1).await);
    assert_eq!(awake.call(&["SET", "k", "old"]).await.unwrap(), Reply::ok());
    assert_eq!(asleep.call(&["GET", "k"]).await.unwrap(), bulk("old"));
    scene.proxies[1].freeze().unwrap();
    let forget = ["UPGRADE", "FORGET", &sleeper];
    let deadline = Instant::now() + LIMIT;
    while scene.call(&forget).await.unwrap() != Reply::ok() {
        assert!(Instant::now() < deadline, "it is not forgotten");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // It is seen to use the source, as a stranger now.
    let refused = scene.start_upgrade(&[]).await.unwrap_err().to_string();
    assert!(refused.contains("BLOCKED other-writers"), "{refused}");
    let accept = ["ACCEPT", "other-writers"];
    scene.start_upgrade(&accept).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    let ended = scene.call(&["UPGRADE", "FINALIZE", POOL]).await.unwrap();
    assert_eq!(ended, Reply::ok());
    assert_eq!(awake.call(&["SET", "k", "new"]).await.unwrap(), Reply::ok());
    // It lives on, with the connection to the old server that it has, and nobody tells it anything.
    scene.control().freeze().unwrap();
    let mut frame = Vec::new();
    encode(&mut frame, &["GET", "k"]);
    asleep.send(&frame).await.unwrap();
    scene.proxies[1].thaw().unwrap();
    let deadline = Instant::now() + LIMIT;
    while refused_reads(&scene).await == 0 {
        assert!(Instant::now() < deadline, "the old server was not asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    scene.control().thaw().unwrap();
    let said = asleep.reply().await.unwrap();
    assert_ne!(said, bulk("old"));
    known_until(&scene, |lines| {
        lines.iter().all(|line| line.contains("s1=1")) && lines.len() == 2
    })
    .await;
    assert_eq!(asleep.call(&["GET", "k"]).await.unwrap(), bulk("new"));
}

/// They ask every third of a lease: nobody has to be forgotten, nor to try again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_right_behind_a_restart_of_control_waits_for_its_proxies_to_register_again() {
    let mut wanted = registered(2, 1);
    wanted.cast = Cast::Registered {
        proxies: 2,
        lease: "9s",
    };
    let mut scene = Scene::start(&wanted).await.unwrap();
    known_until(&scene, |lines| lines.len() == 2).await;
    scene.control_mut().kill().unwrap();
    scene.control_mut().restart(&[]).await.unwrap();
    scene.start_upgrade(&["CUTOVER", "manual"]).await.unwrap();
    let heard = |line: &String| line.contains("lease=valid");
    assert!(known(&scene).await.iter().all(heard));
    waits_for_cutover(&scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_that_is_down_costs_clients_nothing_and_it_forgets_no_proxy() {
    let (mut scene, load) = under_load(&registered(2, 1)).await;
    known_until(&scene, |lines| lines.len() == 2).await;
    scene.control_mut().kill().unwrap();
    let down = Instant::now();
    while down.elapsed() < 2 * LEASE {
        served(&load).await;
    }
    scene.control_mut().restart(&[]).await.unwrap();
    assert_eq!(known(&scene).await.len(), 2, "remembered");
    known_until(&scene, |lines| {
        lines.iter().all(|line| line.contains("lease=valid"))
    })
    .await;
    scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}
