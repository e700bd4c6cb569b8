//! What our login at the servers needs, and no more: an upgrade, a rollback and the way to the end with exactly that.

use std::collections::BTreeSet;

use understudy_control::server::rules_needed;
use understudy_lab::wire::{Reply, Wire};
use understudy_lab::{POOL, SceneOptions, Server, Version};

use crate::stage::{LIMIT, all, assert_clean, options, served, under_load, verdict};

/// What the load's clients send, whose commands go by the same login.
const APPLICATIONS: &str = "+append +eval +expire +get +hget +hgetall +hincrby +hset +incr +incrby +llen +lpop +lrange +mget \
     +mset +persist +rpush +sadd +set +sismember +smembers +srem +strlen +type +unlink +zadd +zrange +zrank +zscore";

/// What is done without, as docs/upgrade.md says; 6.2 names only the command before the `|`.
const GOOD_TO_HAVE: [&str; 9] = [
    "acl",
    "acl|dryrun",
    "acl|list",
    "client",
    "client|no-evict",
    "client|no-touch",
    "function|list",
    "memory",
    "memory|usage",
];

fn one_shard() -> SceneOptions {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    wanted
}

/// Somebody at a server whose rights do not change.
async fn boss(server: &Server) -> Wire {
    let mut wire = server.wire().await.unwrap();
    say(&mut wire, "ACL SETUSER boss on >pw ~* &* +@all").await;
    say(&mut wire, "AUTH boss pw").await;
    wire
}

async fn say(wire: &mut Wire, command: &str) -> Reply {
    let words: Vec<&str> = command.split(' ').collect();
    let answer = wire.call(&words).await.unwrap();
    assert!(!matches!(answer, Reply::Error(_)), "{command}: {answer:?}");
    answer
}

/// Takes everything from the login, and grants this.
async fn restrict(wire: &mut Wire, rules: &str) {
    say(
        wire,
        &format!("ACL SETUSER default reset on nopass {rules}"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_with_no_more_than_it_needs_upgrades_and_goes_back() {
    let (scene, load) = under_load(&one_shard()).await;
    let mut bosses = [boss(&scene.sources[0]).await, boss(&scene.targets[0]).await];
    let rules = [6, 8].map(|major| format!("~* {APPLICATIONS} {}", rules_needed(major).join(" ")));

    let without = rules[0]
        .replace(" +client|unpause", "")
        .replace(" +dump", "");
    restrict(&mut bosses[0], &without).await;
    let refused = scene.start_upgrade(&[]).await.unwrap_err().to_string();
    assert!(
        refused.contains("our login at the source may not use: CLIENT UNPAUSE, DUMP; grant them: ACL SETUSER … +client|unpause +dump"),
        "{refused}"
    );

    for (wire, rules) in bosses.iter_mut().zip(&rules) {
        restrict(wire, rules).await;
        say(wire, "ACL LOG RESET").await;
    }
    // The boss is one.
    let start = ["HOLD-MAX", "2000", "ACCEPT", "other-writers"];
    scene.start_upgrade(&start).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    served(&load).await;
    scene.call(&["UPGRADE", "ROLLBACK", POOL]).await.unwrap();
    scene.wait_for("rolled_back", LIMIT).await.unwrap();
    served(&load).await;
    scene.start_upgrade(&start).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    scene.call(&["UPGRADE", "FINALIZE", POOL]).await.unwrap();
    scene.wait_for("finalized", LIMIT).await.unwrap();
    served(&load).await;
    for wire in &mut bosses {
        let denied = denied(wire).await;
        let needed: Vec<_> = (denied.iter())
            .filter(|command| !GOOD_TO_HAVE.contains(&command.as_str()))
            .collect();
        assert!(needed.is_empty(), "needed, and not in the list: {needed:?}");
        restrict(wire, "~* &* +@all").await;
    }
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

/// The commands that a server refused to somebody, by its own account.
async fn denied(wire: &mut Wire) -> BTreeSet<String> {
    let entries = say(wire, "ACL LOG").await.into_elements().unwrap();
    let object = |entry: Reply| {
        let mut fields = entry.into_elements().unwrap().into_iter();
        fields.find(|field| *field == Reply::bulk("object"))?;
        String::from_utf8(fields.next()?.into_bytes()?).ok()
    };
    entries.into_iter().filter_map(object).collect()
}
