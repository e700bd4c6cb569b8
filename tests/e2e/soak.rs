//! What may happen to a shard while its way back is open: servers restart, proxies restart, commands come that the old
//! server does not know. STATUS says what is so.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use understudy_lab::wire::{Reply, Wire};
use understudy_lab::{Cast, POOL, Scene, SceneOptions, Server, ServerOptions, Version};

use crate::stage::{LIMIT, all, assert_clean, options, served, under_load, verdict};

/// STATUS matches the truth within this time; a look takes half a second, a machine that compiles beside it some more.
const KNOWN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

fn one_shard(cast: Cast) -> SceneOptions {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    wanted.cast = cast;
    wanted
}

/// A shard in soak, without a load.
async fn soaking(wanted: &SceneOptions) -> Scene {
    let scene = Scene::start(wanted).await.unwrap();
    scene.sources[0].call(&["SET", "a", "1"]).await.unwrap();
    scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    way_back(&scene, "exact").await;
    scene
}

/// Waits until STATUS says so of the way back.
async fn way_back(scene: &Scene, wanted: &str) -> Value {
    said(scene, wanted, |shard| shard["way_back"] == wanted).await
}

async fn said(scene: &Scene, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + KNOWN;
    loop {
        let status = scene.status().await.unwrap();
        if wanted(&status["shards"][0]) {
            return status["shards"][0].clone();
        }
        assert!(
            Instant::now() < deadline,
            "{what} is not said: {status:#}\n{}",
            scene.control().log()
        );
        tokio::time::sleep(LOOK).await;
    }
}

async fn client(scene: &Scene) -> Wire {
    Wire::connect(&scene.clients(0), KNOWN).await.unwrap()
}

/// Whether the source follows the target: what was just written there arrives.
async fn arrives(scene: &Scene) -> bool {
    let written = scene.targets[0].call(&["INCR", "arrives"]).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        let found = scene.sources[0].call(&["GET", "arrives"]).await;
        let found = found.ok().and_then(Reply::into_bytes);
        if found.as_deref()
            == written
                .as_integer()
                .map(|n| n.to_string().into_bytes())
                .as_deref()
        {
            return true;
        }
        tokio::time::sleep(LOOK).await;
    }
    false
}

/// What an old server has, also while it answers nobody because its link is down.
async fn kept(old: &Server, key: &str) -> Reply {
    let serve_stale = ["CONFIG", "SET", "replica-serve-stale-data"];
    let set = async |value| {
        let set = old.call(&[&serve_stale[..], &[value]].concat()).await;
        assert_eq!(set.unwrap(), Reply::ok());
    };
    set("yes").await;
    let kept = old.call(&["GET", key]).await.unwrap();
    set("no").await;
    kept
}

/// Waits until STATUS has made up its mind, and compares it with what is so.
async fn status_matches_the_truth(scene: &Scene, case: &str) {
    let shard = said(scene, "whether there is a way back", |shard| {
        shard["way_back"] == "exact" || shard["way_back"] == "gone"
    })
    .await;
    let follows = arrives(scene).await;
    let shard = if follows == (shard["way_back"] == "exact") {
        shard
    } else {
        // A look that was under way when the server came back.
        said(scene, "the truth", |shard| {
            follows == (shard["way_back"] == "exact")
        })
        .await
    };
    eprintln!("{case}: {} {}", shard["way_back"], shard["way_back_reason"]);
    // A key that was there before is never wiped from the source.
    let kept = kept(&scene.sources[0], "a").await;
    assert_eq!(kept, Reply::bulk("1"), "{case}");
    let written = scene.sources[0].call(&["SET", "a", "2"]).await.unwrap();
    assert!(
        matches!(&written, Reply::Error(text) if text.starts_with("READONLY")),
        "{case}: the source takes writes: {written:?}"
    );
}

async fn restarts(aof: bool) {
    let mut wanted = one_shard(Cast::Embedded);
    wanted.server = ServerOptions::new().set("save", "3600 1");
    if aof {
        wanted.server = wanted.server.set("appendonly", "yes");
    }
    for who in ["source", "target"] {
        let case = format!("{who} restarted, AOF {aof}");
        let mut scene = soaking(&wanted).await;
        let server = match who {
            "source" => &mut scene.sources[0],
            _ => &mut scene.targets[0],
        };
        server.restart().await.unwrap();
        if who == "target" {
            said(&scene, "the target's restart", |shard| {
                shard["warnings"].to_string().contains("restarted")
            })
            .await;
        }
        status_matches_the_truth(&scene, &case).await;
        let mut client = client(&scene).await;
        assert_eq!(
            client.call(&["SET", "b", "1"]).await.unwrap(),
            Reply::ok(),
            "{case}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_the_way_back_after_restarts_with_an_aof() {
    restarts(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_the_way_back_after_restarts_without_an_aof() {
    restarts(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_server_in_soak_is_named_until_it_is_back() {
    let mut wanted = one_shard(Cast::Embedded);
    wanted.server = ServerOptions::new()
        .set("appendonly", "yes")
        .set("appendfsync", "always");
    let mut scene = soaking(&wanted).await;
    scene.sources[0].kill9().unwrap();
    said(&scene, "the dead source", |shard| {
        shard["warnings"]
            .to_string()
            .contains("source does not answer")
            && shard["way_back"] != "exact"
    })
    .await;
    let mut client = client(&scene).await;
    assert_eq!(client.call(&["SET", "b", "1"]).await.unwrap(), Reply::ok());
    scene.sources[0].restart().await.unwrap();
    status_matches_the_truth(&scene, "source killed").await;

    scene.targets[0].kill9().unwrap();
    said(&scene, "the dead target", |shard| {
        shard["warnings"]
            .to_string()
            .contains("target does not answer")
            && shard["way_back"] != "exact"
    })
    .await;
    let answer = client.call(&["SET", "b", "2"]).await.unwrap();
    assert!(matches!(&answer, Reply::Error(_)), "{answer:?}");
    scene.targets[0].restart().await.unwrap();
    assert_eq!(client.call(&["SET", "b", "3"]).await.unwrap(), Reply::ok());
    status_matches_the_truth(&scene, "target killed").await;
}

/// A server without persistence comes back empty, and nobody can tell by its answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_24_a_target_that_came_back_empty_is_named_with_what_to_do() {
    let mut scene = soaking(&one_shard(Cast::Embedded)).await;
    let mut writer = client(&scene).await;
    for number in 0..20 {
        let key = format!("key{number}");
        let answer = writer.call(&["SET", &key, "1"]).await.unwrap();
        assert_eq!(answer, Reply::ok());
    }
    status_matches_the_truth(&scene, "written").await;
    scene.targets[0].kill9().unwrap();
    scene.targets[0].restart().await.unwrap();
    let url = scene.targets[0].url();
    let lost = |shard: &Value| {
        let warnings = shard["warnings"].to_string();
        warnings.contains("without most of its keys")
            && warnings.contains(&format!("{url} SHUTDOWN NOSAVE"))
            && shard["way_back"] != "exact"
    };
    said(&scene, "the loss", lost).await;
    // The old server was not made to follow the empty one.
    let kept = kept(&scene.sources[0], "key7").await;
    assert_eq!(kept, Reply::bulk("1"));
}

/// Somebody sets the old server free, or it comes back without what the fence wrote down: it is fenced again, and what it
/// took meanwhile is nobody's data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_12_a_source_that_is_a_primary_again_in_soak_is_fenced_again() {
    let scene = soaking(&one_shard(Cast::Embedded)).await;
    let source = &scene.sources[0];
    let freed = source.call(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    assert_eq!(freed, Reply::ok());
    said(&scene, "the fence", |shard| {
        shard["warnings"].to_string().contains("it is fenced again")
    })
    .await;
    let refused = source.call(&["SET", "a", "stray"]).await.unwrap();
    assert!(
        matches!(&refused, Reply::Error(text) if text.starts_with("READONLY")),
        "{refused:?}"
    );
    status_matches_the_truth(&scene, "freed by hand").await;
    let mut client = client(&scene).await;
    assert_eq!(client.call(&["GET", "a"]).await.unwrap(), Reply::bulk("1"));
    assert_eq!(client.call(&["SET", "b", "1"]).await.unwrap(), Reply::ok());
}

/// A field of INFO as a number.
async fn counter(server: &Server, section: &str, field: &str) -> u64 {
    let text = server.call(&["INFO", section]).await.unwrap();
    let text = text.into_bytes().unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let found = text.lines().find_map(|line| line.strip_prefix(field));
    found
        .and_then(|rest| rest.strip_prefix(':')?.trim().parse().ok())
        .unwrap_or_else(|| panic!("INFO {section} has no {field}: {text}"))
}

/// Writes so many values of 64 KiB; answers the first error.
async fn fill(client: &mut Wire, prefix: &str, count: usize) -> Option<String> {
    let value = "x".repeat(64 << 10);
    for number in 0..count {
        let key = format!("{prefix}{number}");
        match client.call(&["SET", &key, &value]).await.unwrap() {
            Reply::Error(text) => return Some(text),
            answer => assert_eq!(answer, Reply::ok()),
        }
    }
    None
}

/// A cache with a limit: what its new server evicted while the way back is open would be evicted from the old one, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_23_nothing_is_evicted_while_the_way_back_is_open() {
    const FULL: usize = 512; // 32 MiB, of which 16 are allowed.
    let scene = Scene::start(&one_shard(Cast::Embedded)).await.unwrap();
    let (source, target) = (&scene.sources[0], &scene.targets[0]);
    for (name, value) in [("maxmemory", "16mb"), ("maxmemory-policy", "allkeys-lru")] {
        let set = target.call(&["CONFIG", "SET", name, value]).await.unwrap();
        assert_eq!(set, Reply::ok());
    }
    source.call(&["SET", "a", "1"]).await.unwrap();
    scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    let mut client = client(&scene).await;
    let refused = fill(&mut client, "soak", FULL).await;
    assert!(
        refused.as_ref().is_some_and(|text| text.starts_with("OOM")),
        "a full server that may not evict refuses: {refused:?}"
    );
    assert_eq!(counter(target, "stats", "evicted_keys").await, 0);
    status_matches_the_truth(&scene, "full").await;
    scene.call(&["UPGRADE", "FINALIZE", POOL]).await.unwrap();
    scene.wait_for("finalized", LIMIT).await.unwrap();
    assert_eq!(fill(&mut client, "later", FULL).await, None);
    assert!(counter(target, "stats", "evicted_keys").await > 0);
}

/// On 6.2 neither HEXPIRE nor `EXPIRE … GT` exists; a transaction with one of them is dropped there as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_old_server_does_not_know_is_counted_by_key() {
    let scene = soaking(&one_shard(Cast::Embedded)).await;
    let mut client = client(&scene).await;
    client.call(&["HSET", "h", "f", "v"]).await.unwrap();
    client
        .call(&["HEXPIRE", "h", "1000", "FIELDS", "1", "f"])
        .await
        .unwrap();
    way_back(&scene, "exact except 1 keys").await;
    client.call(&["MULTI"]).await.unwrap();
    client.call(&["INCR", "money"]).await.unwrap();
    client
        .call(&["EXPIRE", "money", "100", "NX"])
        .await
        .unwrap();
    client.call(&["RPUSH", "list", "x"]).await.unwrap();
    let executed = client.call(&["EXEC"]).await.unwrap();
    assert!(matches!(executed, Reply::Array(_)), "{executed:?}");
    let shard = said(&scene, "three keys", |shard| {
        shard["way_back"] == "exact except 3 keys"
    })
    .await;
    for key in ["h", "money", "list"] {
        assert!(
            shard["way_back_keys"]
                .to_string()
                .contains(&format!(":{key}\"")),
            "{key} is not named: {shard:#}"
        );
    }
    for (more, begins) in [(&[][..], "BLOCKED"), (&["ACCEPT-LOSS", "2"][..], "BLOCKED")] {
        let mut command = vec!["UPGRADE", "ROLLBACK", POOL];
        command.extend(more);
        let answer = scene.call(&command).await.unwrap();
        assert!(
            matches!(&answer, Reply::Error(text) if text.starts_with(begins)),
            "{answer:?}"
        );
    }
    let accepted = ["UPGRADE", "ROLLBACK", POOL, "ACCEPT-LOSS", "3"];
    assert_eq!(scene.call(&accepted).await.unwrap(), Reply::ok());
    scene
        .wait_until("rolled back", LIMIT, |status| {
            status["phase"] == "rolled_back"
        })
        .await
        .unwrap();
    assert_eq!(client.call(&["GET", "a"]).await.unwrap(), Reply::bulk("1"));
    assert_eq!(client.call(&["SET", "b", "1"]).await.unwrap(), Reply::ok());
    let on_source = scene.sources[0].call(&["GET", "b"]).await.unwrap();
    assert_eq!(on_source, Reply::bulk("1"));
}

/// Everything the source was told by clients, since its counters were reset.
async fn writes_on(server: &understudy_lab::Server) -> Vec<String> {
    let text = server.call(&["INFO", "commandstats"]).await.unwrap();
    let text = text.into_bytes().unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .filter(|line| line.starts_with("cmdstat_set:") || line.starts_with("cmdstat_incr:"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_restarted_never_asks_the_old_server() {
    let mut scene = soaking(&one_shard(Cast::Separate { proxies: 1 })).await;
    for finalized in [false, true] {
        if finalized {
            scene.call(&["UPGRADE", "FINALIZE", POOL]).await.unwrap();
            scene.wait_for("finalized", LIMIT).await.unwrap();
        }
        // What the target replicates to it counts as well, so the target is written to through nobody meanwhile.
        scene.proxies[0].kill().unwrap();
        scene.proxies[0].restart(&[]).await.unwrap();
        let backends = backends_of(&scene).await;
        assert!(
            backends.contains(&scene.targets[0].url())
                && !backends.contains(&scene.sources[0].url()),
            "{backends}"
        );
        let mut client = client(&scene).await;
        assert_eq!(
            client.call(&["INCR", "n"]).await.unwrap().as_integer(),
            Some(1 + i64::from(finalized))
        );
        assert!(
            scene.proxies[0].log().contains("primary"),
            "which line to change is not said"
        );
    }
    // After FINALIZE nothing is replicated: whatever the source counts was sent to it.
    scene.sources[0]
        .call(&["CONFIG", "RESETSTAT"])
        .await
        .unwrap();
    scene.proxies[0].kill().unwrap();
    scene.proxies[0].restart(&[]).await.unwrap();
    let mut client = client(&scene).await;
    assert_eq!(client.call(&["SET", "c", "1"]).await.unwrap(), Reply::ok());
    assert_eq!(writes_on(&scene.sources[0]).await, Vec::<String>::new());
}

async fn backends_of(scene: &Scene) -> String {
    let port = scene.proxies[0]
        .admin()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let mut wire = Wire::connect(&understudy_lab::wire::Address::local(port), KNOWN)
        .await
        .unwrap();
    let pools = wire.call(&["PROXY", "POOLS"]).await.unwrap().into_bytes();
    String::from_utf8_lossy(&pools.unwrap_or_default()).into_owned()
}

/// Its data_dir gone, a proxy knows only its YAML. The old server is fenced: nothing can be lost, and control brings the
/// proxy to where the shard is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_lost_its_data_dir_is_brought_to_the_new_server() {
    for finalized in [false, true] {
        let mut scene = soaking(&one_shard(Cast::Separate { proxies: 1 })).await;
        if finalized {
            scene.call(&["UPGRADE", "FINALIZE", POOL]).await.unwrap();
            scene.wait_for("finalized", LIMIT).await.unwrap();
        }
        scene.proxies[0].kill().unwrap();
        std::fs::remove_dir_all(scene.directory().join("proxy-0")).unwrap();
        scene.proxies[0].restart(&[]).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut client = client(&scene).await;
            let answer = client.call(&["SET", "b", "1"]).await.unwrap();
            if answer == Reply::ok() {
                break;
            }
            assert!(
                matches!(&answer, Reply::Error(text) if text.starts_with("ERR not executed")),
                "{answer:?}"
            );
            assert!(
                Instant::now() < deadline,
                "finalized {finalized}: {answer:?}\n{}\n{}",
                scene.proxies[0].log(),
                scene.control().log()
            );
        }
        let on_target = scene.targets[0].call(&["GET", "b"]).await.unwrap();
        assert_eq!(on_target, Reply::bulk("1"));
        assert!(
            scene.control().log().contains("does not know the route"),
            "{}",
            scene.control().log()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_killed_in_soak_costs_its_clients_their_connections_and_nothing_else() {
    let (mut scene, load) = under_load(&one_shard(Cast::Separate { proxies: 2 })).await;
    scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    scene.proxies[1].kill().unwrap();
    scene.proxies[1].restart(&[]).await.unwrap();
    served(&load).await;
    let report = verdict(load, &all(&scene.targets)).await;
    assert!(
        report.is_true() && report.client_errors == 0,
        "{}",
        serde_json::to_string_pretty(&report).unwrap()
    );
}

/// By the clients' own watch: what STATUS says is not better than what they saw.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_ms_is_not_lower_than_the_longest_gap_that_clients_saw() {
    /// Between a proxy's write to a socket and a client's clock on a machine with two cores.
    const NOISE_MS: f64 = 10.0;
    let (scene, load) = under_load(&one_shard(Cast::Embedded)).await;
    scene
        .start_upgrade(&["CUTOVER", "manual", "HOLD-MAX", "2000"])
        .await
        .unwrap();
    scene
        .wait_until("verified", LIMIT, |status| {
            status["shards"][0]["waiting"] == "UPGRADE CUTOVER"
        })
        .await
        .unwrap();
    let from = std::time::Instant::now();
    scene.call(&["UPGRADE", "CUTOVER", POOL]).await.unwrap();
    let status = scene.wait_for("soak", LIMIT).await.unwrap();
    let to = std::time::Instant::now();
    let seen = load.longest_gap(from, to).unwrap();
    let seen_ms = seen.waited.as_secs_f64() * 1_000.0;
    let hold_ms = status["shards"][0]["hold_ms"].as_f64().unwrap();
    assert!(
        hold_ms + NOISE_MS >= seen_ms,
        "STATUS says {hold_ms} ms, a client waited {seen_ms} ms"
    );
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}
