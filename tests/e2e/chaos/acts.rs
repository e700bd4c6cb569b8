//! Does one act of a schedule, and says in the diary what came of it.

use std::sync::Arc;
use std::time::Duration;

use understudy_lab::POOL;

use super::probe::replication_id;
use super::schedule::{Act, Sabotage, Verb, Who};
use super::world::{Suffered, World};

/// How long a verb may take; an ABORT says after 60 s that it still goes on.
const VERB_MAX: Duration = Duration::from_secs(90);

/// How long control stands still where it stopped itself.
const STOPPED_FOR: Duration = Duration::from_millis(1_500);

/// How often a sabotage is done: control mends a fence, and a connection is idle at times.
const AGAIN: usize = 60;

/// All of it, healing included.
pub(crate) async fn perform(world: Arc<World>, number: usize, act: Act) {
    world.note(format!("{number}: {act:?}"));
    let came = match act {
        Act::Verb(verb) => speak(&world, verb).await,
        Act::HangUp(proxy) => {
            let process = world.proxies[proxy].lock().await;
            process.hang_up().map_err(|error| error.to_string()).err()
        }
        Act::Kill(who, down) => kill(&world, who, down).await,
        Act::Freeze(who, lasts) => freeze(&world, who, lasts).await,
        Act::Cut(who) => {
            let excuse = world.excuse(Suffered::Unknown);
            world.relay(who).inspect(|relay| relay.cut());
            world.excused(excuse);
            None
        }
        Act::Stall(who, lasts) => {
            let excuse = world.excuse(Suffered::Unreachable);
            if let Some(relay) = world.relay(who) {
                relay.stall(true);
                tokio::time::sleep(lasts).await;
                relay.stall(false);
            }
            world.excused(excuse);
            None
        }
        Act::CutOff {
            whom,
            from,
            lasts,
            late,
        } => cut_off(&world, whom, from, lasts, late).await,
        Act::KillClients(who) => kill_clients(&world, who).await,
        Act::Sleep(who, lasts) => sleep(&world, who, lasts).await,
        Act::Restart(who) => restart(&world, who).await,
        Act::Unpause(who) => unpause(&world, who).await,
        Act::Failpoint {
            effect,
            moment,
            act,
        } => failpoint(&world, &format!("{effect}:{moment}:{act}")).await,
        Act::Sabotage(what) => {
            sabotage(&world, what).await;
            None
        }
    };
    world.note(format!(
        "{number}: over{}",
        came.map(|text| format!(": {text}")).unwrap_or_default()
    ));
}

async fn speak(world: &World, verb: Verb) -> Option<String> {
    let upgrade = |verb: &str| ["UPGRADE", verb, POOL].map(str::to_owned).to_vec();
    let start = |cutover: &str| {
        world.start_words(&[
            "CUTOVER",
            cutover,
            "HOLD-MAX",
            "2000",
            "REPLACE",
            "ACCEPT",
            "other-writers",
        ])
    };
    let words = match verb {
        Verb::StartAuto => start("auto"),
        Verb::StartManual => start("manual"),
        Verb::Cutover => upgrade("CUTOVER"),
        Verb::Rehearse => upgrade("REHEARSE"),
        Verb::Abort => upgrade("ABORT"),
        Verb::Rollback => upgrade("ROLLBACK"),
        Verb::Finalize => upgrade("FINALIZE"),
        Verb::Reload(proxy) => {
            let answer = world.ask_proxy(proxy, &["PROXY", "RELOAD"]).await;
            return Some(format!("{answer:?}"));
        }
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Some(match world.ask_control(&words, VERB_MAX).await {
        Ok(reply) => reply.to_string(),
        Err(why) => why,
    })
}

async fn kill(world: &World, who: Who, down: Duration) -> Option<String> {
    let mut process = world.process(who)?.lock().await;
    let excuse = match who {
        Who::Proxy(number) => Some(world.excuse(Suffered::Lost(number))),
        _ => None,
    };
    process.kill().unwrap();
    tokio::time::sleep(down).await;
    let back = process.restart(&[]).await;
    if let Some(excuse) = excuse {
        world.excused(excuse);
    }
    back.err().map(|error| {
        let why = format!("FINDING {who:?} does not start again: {error}");
        why
    })
}

async fn freeze(world: &World, who: Who, lasts: Duration) -> Option<String> {
    if let Some(process) = world.process(who) {
        let process = process.lock().await;
        process.freeze().ok();
        tokio::time::sleep(lasts).await;
        process.thaw().ok();
    }
    if let Some(server) = world.server(who) {
        let server = server.lock().await;
        let excuse = world.excuse(Suffered::Unreachable);
        server.stop_signal().ok();
        tokio::time::sleep(lasts).await;
        server.cont().ok();
        world.excused(excuse);
    }
    None
}

async fn cut_off(
    world: &World,
    whom: Who,
    from: Who,
    lasts: Duration,
    late: bool,
) -> Option<String> {
    // Only control calls a proxy's admin port.
    let whom = match from {
        Who::Proxy(_) => Who::Control,
        _ => whom,
    };
    let pid = world.process(whom)?.lock().await.pid();
    let relay = world.relay(from)?;
    let broken = world.excuse(Suffered::Unknown);
    let silent = world.excuse(Suffered::Unreachable);
    relay.cut_off(Some(pid));
    tokio::time::sleep(lasts).await;
    if !late {
        relay.cut();
    }
    relay.cut_off(None);
    world.excused(broken);
    world.excused(silent);
    None
}

async fn kill_clients(world: &World, who: Who) -> Option<String> {
    let server = world.server(who)?.lock().await;
    let excuse = world.excuse(Suffered::Unknown);
    let mut killed = Vec::new();
    for kind in ["normal", "replica"] {
        let answer = server.call(&["CLIENT", "KILL", "TYPE", kind]).await;
        killed.push(answer.map_or_else(|error| error.to_string(), |reply| reply.to_string()));
    }
    world.excused(excuse);
    Some(killed.join(" "))
}

async fn unpause(world: &World, who: Who) -> Option<String> {
    let server = world.server(who)?.lock().await;
    let answer = server.call(&["CLIENT", "UNPAUSE"]).await;
    answer.err().map(|error| error.to_string())
}

async fn failpoint(world: &World, text: &str) -> Option<String> {
    let mut control = world.control.lock().await;
    control.kill().unwrap();
    let back = control.restart(&[("UNDERSTUDY_FAILPOINT", text)]).await;
    // One that is met while it starts ends it before it answers; the watchman starts it again.
    back.err().map(|_| "met at once".to_owned())
}

/// Brings control back that a failpoint has ended or stopped.
pub(crate) async fn watch_control(world: Arc<World>) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut control = world.control.lock().await;
        if let Ok(Some(status)) = control.wait_for_end(Duration::ZERO).await {
            world.note(format!(
                "control has ended ({status}), and is started again"
            ));
            if !status.to_string().contains("signal: 9") {
                world.note("FINDING control has ended by itself");
            }
            if let Err(error) = control.restart(&[]).await {
                world.note(format!("FINDING control does not start: {error}"));
            }
        } else if control.is_frozen_within(Duration::from_millis(1)).await {
            world.note("control has stopped itself");
            tokio::time::sleep(STOPPED_FOR).await;
            control.thaw().ok();
            world.note("control goes on");
        }
    }
}

async fn sleep(world: &World, who: Who, lasts: Duration) -> Option<String> {
    let server = world.server(who)?.lock().await;
    let excuse = world.excuse(Suffered::Unreachable);
    let seconds = format!("{:.3}", lasts.as_secs_f64());
    let slept = server.call(&["DEBUG", "SLEEP", &seconds]).await;
    world.excused(excuse);
    slept.err().map(|error| error.to_string())
}

async fn restart(world: &World, who: Who) -> Option<String> {
    let mut server = world.server(who)?.lock().await;
    let broken = world.excuse(Suffered::Unknown);
    let silent = world.excuse(Suffered::Unreachable);
    let back = server.restart().await;
    world.excused(broken);
    world.excused(silent);
    if let Err(error) = back {
        return Some(format!("FINDING {who:?} did not come back: {error}"));
    }
    let role = server.info("role").await.ok().flatten().unwrap_or_default();
    if let Who::Target(shard) = who
        && role == "master"
        && !serves(world, who, shard).await
    {
        // It follows nobody yet and no client is routed to it: no server of the shard.
        let id = replication_id(&server).await;
        world.outside[shard].lock().await.insert(id);
        return Some("a primary, outside the shard".to_owned());
    }
    Some(role)
}

/// What the verdict has to find.
async fn sabotage(world: &World, what: Sabotage) {
    let (server, words): (_, &[&str]) = match what {
        Sabotage::LiftFence(shard) => (&world.sources[shard], &["REPLICAOF", "NO", "ONE"]),
        Sabotage::LoseWrite(shard) => (&world.targets[shard], &["DEL", "lab:shared:number:0"]),
        Sabotage::Errors(shard) => (&world.targets[shard], &["CLIENT", "KILL", "TYPE", "normal"]),
    };
    let server = server.lock().await;
    for _ in 0..AGAIN {
        server.call(words).await.ok();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a proxy routes to it.
async fn serves(world: &World, who: Who, shard: usize) -> bool {
    let Some(relay) = world.relay(who) else {
        return false;
    };
    for proxy in 0..world.proxies.len() {
        let gate = world.gate(proxy, shard).await;
        if gate.is_ok_and(|gate| gate.backend.ends_with(&format!(":{}", relay.port()))) {
            return true;
        }
    }
    false
}
