//! Waits until nothing goes on by itself, and compares what everybody says: STATUS, gates, servers, clients, `recover`.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;
use understudy_lab::wire::Address;
use understudy_lab::{FindingKind, POOL, Report};

use super::clients::Found;
use super::schedule::{Until, Who};
use super::world::{Suffered, World};
use crate::stage::binary;

/// No wait of control is as long: an upgrade that goes on by itself has ended, or says what it waits for.
const SETTLED_MAX: Duration = Duration::from_secs(120);
/// How long a schedule waits before it does the next thing in whatever state it finds.
const READY_MAX: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// So many looks one after the other must say the same: an attempt may be between two steps at one of them.
const LOOKS: usize = 6;

/// What a schedule waits for. `Err` is a finding.
pub(crate) async fn wait(
    world: &World,
    until: Until,
    acts: &mut JoinSet<()>,
) -> Result<(), String> {
    let limit = match until {
        Until::Ready => READY_MAX,
        Until::Settled => {
            while let Some(act) = acts.join_next().await {
                act.map_err(|error| error.to_string())?;
            }
            SETTLED_MAX
        }
    };
    let deadline = Instant::now() + limit;
    let mut same = 0;
    let mut last = Err("no look yet".to_owned());
    while same < LOOKS {
        last = world.status().await;
        let settled = last.as_ref().is_ok_and(|status| settled(status.as_ref()));
        same = if settled { same + 1 } else { 0 };
        if Instant::now() > deadline {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    world.note(format!("{until:?}: {}", summary(&last)));
    if same < LOOKS && until == Until::Settled {
        return Err(format!("stuck: {last:#?}"));
    }
    Ok(())
}

/// One line of STATUS.
fn summary(status: &Result<Option<Value>, String>) -> String {
    let status = match status {
        Ok(Some(status)) => status,
        Ok(None) => return "never an upgrade".to_owned(),
        Err(why) => return why.clone(),
    };
    let shards = status["shards"].as_array().cloned().unwrap_or_default();
    let lines: Vec<String> = shards
        .iter()
        .map(|shard| {
            format!(
                "{} {} epoch {} waiting {} error {} way back {} {}",
                shard["shard"],
                shard["phase"],
                shard["epoch"],
                shard["waiting"],
                shard["error"],
                shard["way_back"],
                shard["way_back_reason"],
            )
        })
        .collect();
    lines.join(" | ")
}

/// Whether nothing goes on by itself.
fn settled(status: Option<&Value>) -> bool {
    let Some(shards) = status.and_then(|status| status["shards"].as_array()) else {
        return true;
    };
    let mut before_waits = false;
    shards.iter().all(|shard| {
        let waits = shard["waiting"] == "UPGRADE CUTOVER";
        let behind = before_waits && shard["phase"] == "plan";
        before_waits |= waits;
        match shard["phase"].as_str() {
            Some("aborted" | "finalized" | "rolled_back") => true,
            Some("soak") => shard["rolling_back"] == false && shard["way_back"] != "unknown",
            Some("cutover") => waits,
            _ => behind,
        }
    })
}

/// The servers that serve, by what the proxies' gates say; and every disagreement about it.
pub(crate) async fn agreement(world: &World, found: &mut Vec<String>) -> Vec<Who> {
    let status = world.status().await;
    let status = status.unwrap_or_default().unwrap_or_default();
    let mut serving = Vec::new();
    for shard in 0..world.sources.len() {
        let mut gates = Vec::new();
        for proxy in 0..world.proxies.len() {
            match world.gate(proxy, shard).await {
                Ok(gate) => gates.push(gate),
                Err(why) => found.push(format!("proxy {proxy} tells no gate: {why}")),
            }
        }
        if gates
            .iter()
            .any(|gate| gate.standing != "open" || *gate != gates[0])
        {
            found.push(format!("shard {shard}: the gates are {gates:?}"));
        }
        let said = &status["shards"][shard];
        let epoch = gates.first().map(|gate| gate.epoch.clone());
        let (Some(gate), false) = (gates.first(), said.is_null()) else {
            // There never was an upgrade.
            serving.push(Who::Source(shard));
            continue;
        };
        if epoch != said["epoch"].as_u64().map(|epoch| epoch.to_string()) {
            found.push(format!("shard {shard}: {gate:?}, but STATUS says {said:#}"));
        }
        let moved = matches!(said["phase"].as_str(), Some("soak" | "finalized"));
        let (one, other) = match moved {
            true => (Who::Target(shard), Who::Source(shard)),
            false => (Who::Source(shard), Who::Target(shard)),
        };
        let port = world.relay(one).map(|relay| format!(":{}", relay.port()));
        if !port.is_some_and(|port| gate.backend.ends_with(&port)) {
            found.push(format!("shard {shard}: {gate:?} is not {one:?}: {said:#}"));
        }
        roles(world, one, other, said, found).await;
        serving.push(one);
    }
    recover(world, &serving, found).await;
    serving
}

/// The one is a primary; the other is none, unless no attempt has ever touched it.
async fn roles(world: &World, one: Who, other: Who, said: &Value, found: &mut Vec<String>) {
    for (who, wanted) in [(one, "master"), (other, "slave")] {
        let Some(server) = world.server(who) else {
            continue;
        };
        let server = server.lock().await;
        let role = server.info("role").await.ok().flatten().unwrap_or_default();
        let id = super::probe::replication_id(&server).await;
        let outside = match who {
            Who::Target(shard) => world.outside[shard].lock().await.contains(&id),
            _ => false,
        };
        if role != wanted && !(outside && wanted == "slave") {
            found.push(format!("{who:?} is a {role}, but STATUS says {said:#}"));
        }
    }
}

/// `understudy recover --from-servers` names the same servers.
async fn recover(world: &World, serving: &[Who], found: &mut Vec<String>) {
    let config = std::fs::read_dir(world.scene.directory())
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("control-") && name.ends_with(".yaml")
        });
    let mut command = Command::new(binary());
    command
        .args(["recover", "--from-servers", "-c"])
        .arg(config.unwrap());
    for (shard, relay) in world.scene.relays.targets.iter().enumerate() {
        command.arg(format!("{POOL}/s{}={}", shard + 1, relay.url()));
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for (shard, who) in serving.iter().enumerate() {
        let Some(relay) = world.relay(*who) else {
            continue;
        };
        // Two primaries are right where the target was never used: the one that is asked for is named all the same.
        let named = text.contains(&format!("{} serves", relay.url()))
            || !world.outside[shard].lock().await.is_empty();
        if !named {
            found.push(format!(
                "recover does not say that {who:?} ({}) serves:\n{text}{}",
                relay.url(),
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
}

/// Addresses of these servers, directly.
pub(crate) async fn addresses(world: &World, serving: &[Who]) -> Vec<Address> {
    let mut addresses = Vec::new();
    for who in serving {
        if let Some(server) = world.server(*who) {
            addresses.push(server.lock().await.address());
        }
    }
    addresses
}

/// What clients suffered and no fault explains, and everything that nothing can explain.
pub(crate) fn judge(world: &World, report: &Report, clients: Found, found: &mut Vec<String>) {
    for finding in &report.findings {
        let at = Duration::from_millis(finding.at_ms);
        let explained = match finding.kind {
            FindingKind::ClientError => error_is_explained(world, at, &finding.found),
            FindingKind::ConnectionLost => {
                let proxy = world
                    .clients()
                    .iter()
                    .position(|address| finding.found.ends_with(&format!("at {address}")));
                !finding.found.contains("no reply in") && loss_is_explained(world, at, proxy)
            }
            _ => false,
        };
        if !explained {
            found.push(format!("at {at:?}: {finding}"));
        }
    }
    found.extend(clients.wrong);
    for (at, text) in clients.errors {
        if !error_is_explained(world, at, &text) {
            found.push(format!("at {at:?}: a client got {text}"));
        }
    }
    for (at, proxy, why) in clients.lost {
        if !loss_is_explained(world, at, Some(proxy)) {
            found.push(format!(
                "at {at:?}: a client of proxy {proxy} was lost: {why}"
            ));
        }
    }
}

fn error_is_explained(world: &World, at: Duration, text: &str) -> bool {
    let excused = |what| world.is_excused(at, |suffered| suffered == what);
    let broken = excused(Suffered::Unknown);
    if text.starts_with("ERR outcome unknown")
        || text.starts_with("ERR not executed: the outcome of a command before it is unknown")
    {
        return broken;
    }
    text.starts_with("ERR not executed: the backend is unavailable")
        && (broken || excused(Suffered::Unreachable))
}

fn loss_is_explained(world: &World, at: Duration, proxy: Option<usize>) -> bool {
    world.is_excused(
        at,
        |suffered| matches!(suffered, Suffered::Lost(number) if Some(number) == proxy),
    )
}
