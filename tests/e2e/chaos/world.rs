//! Servers, processes and relays that many tasks hurt at the same time, and what is written down about it.

use std::fmt::Display;
use std::sync::{Arc, Mutex as Locked, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Mutex;
use understudy_lab::wire::{Address, Reply, Wire};
use understudy_lab::{Cast, POOL, Process, Relay, Scene, Server, ServerOptions};

use super::probe::{Outside, Probe};
use super::schedule::{Schedule, Who};
use crate::stage::options;

/// How long a look at STATUS or a gate may take: control or a proxy may be dead or stand still.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// What a client suffers so long after a fault is not the fault's doing any more.
const AFTERMATH: Duration = Duration::from_secs(10);

/// Everything that is hurt. Who hurts a process or a server holds its lock for as long as that lasts.
pub(crate) struct World {
    /// Has no process and no server of its own any more: relays, configs and logs.
    pub(crate) scene: Scene,
    pub(crate) control: Mutex<Process>,
    pub(crate) proxies: Vec<Mutex<Process>>,
    pub(crate) sources: Vec<Mutex<Server>>,
    pub(crate) targets: Vec<Mutex<Server>>,
    pub(crate) outside: Vec<Outside>,
    pub(crate) began: Instant,
    admins: Vec<String>,
    diary: Locked<Vec<String>>,
    excuses: Locked<Vec<Excuse>>,
}

/// What clients may suffer because of a fault, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Excuse {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) for_what: Suffered,
}

/// What clients may suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suffered {
    /// A command may have been executed: a connection to a server was broken.
    Unknown,
    /// A command was not executed: its server could not be reached.
    Unreachable,
    /// Their connections ended with a proxy.
    Lost(usize),
}

impl World {
    /// Starts what the schedule wants; the probes too.
    pub(crate) async fn start(schedule: &Schedule) -> (Arc<World>, Vec<Probe>) {
        let mut wanted = options(schedule.from, schedule.to);
        wanted.shards = schedule.shards;
        wanted.workers = 2;
        wanted.relays = true;
        wanted.server = ServerOptions::new().set("save", "3600 1");
        wanted.cast = match schedule.registered {
            true => Cast::Registered {
                proxies: 2,
                lease: "2s",
            },
            false => Cast::Separate { proxies: 2 },
        };
        let mut scene = Scene::start(&wanted).await.unwrap();
        let control = scene.control.take().unwrap();
        let proxies = std::mem::take(&mut scene.proxies);
        let sources = std::mem::take(&mut scene.sources);
        let targets = std::mem::take(&mut scene.targets);
        let mut probes = Vec::new();
        for (source, target) in sources.iter().zip(&targets) {
            probes.push(Probe::start(source, target).await);
        }
        let admins = std::iter::once(&control).chain(&proxies);
        let world = World {
            admins: admins.map(|process| process.admin().to_owned()).collect(),
            outside: probes.iter().map(Probe::outside).collect(),
            control: Mutex::new(control),
            proxies: proxies.into_iter().map(Mutex::new).collect(),
            sources: sources.into_iter().map(Mutex::new).collect(),
            targets: targets.into_iter().map(Mutex::new).collect(),
            scene,
            began: Instant::now(),
            diary: Locked::default(),
            excuses: Locked::default(),
        };
        (Arc::new(world), probes)
    }

    /// Where clients connect.
    pub(crate) fn clients(&self) -> Vec<Address> {
        (0..self.proxies.len())
            .map(|number| self.scene.clients(number))
            .collect()
    }

    pub(crate) fn process(&self, who: Who) -> Option<&Mutex<Process>> {
        match who {
            Who::Control => Some(&self.control),
            Who::Proxy(number) => self.proxies.get(number),
            Who::Source(_) | Who::Target(_) => None,
        }
    }

    pub(crate) fn server(&self, who: Who) -> Option<&Mutex<Server>> {
        match who {
            Who::Source(shard) => self.sources.get(shard),
            Who::Target(shard) => self.targets.get(shard),
            Who::Control | Who::Proxy(_) => None,
        }
    }

    /// The relay before a server, or between control and a proxy.
    pub(crate) fn relay(&self, who: Who) -> Option<&Relay> {
        let relays = &self.scene.relays;
        match who {
            Who::Source(shard) => relays.sources.get(shard),
            Who::Target(shard) => relays.targets.get(shard),
            Who::Proxy(number) => relays.proxies.get(number),
            Who::Control => None,
        }
    }

    /// Writes a line with its time.
    pub(crate) fn note(&self, line: impl Display) {
        let at = self.began.elapsed().as_secs_f64();
        lock(&self.diary).push(format!("{at:9.3} {line}"));
    }

    pub(crate) fn diary(&self) -> String {
        lock(&self.diary).join("\n")
    }

    /// From now on, until [`World::excused`], clients may suffer this.
    pub(crate) fn excuse(&self, for_what: Suffered) -> usize {
        let mut excuses = lock(&self.excuses);
        excuses.push(Excuse {
            from: self.began.elapsed(),
            to: Duration::MAX,
            for_what,
        });
        excuses.len() - 1
    }

    pub(crate) fn excused(&self, number: usize) {
        lock(&self.excuses)[number].to = self.began.elapsed() + AFTERMATH;
    }

    pub(crate) fn is_excused(&self, at: Duration, what: impl Fn(Suffered) -> bool) -> bool {
        lock(&self.excuses)
            .iter()
            .any(|excuse| excuse.from <= at && at <= excuse.to && what(excuse.for_what))
    }

    /// One admin command to control, or why there was no answer.
    pub(crate) async fn ask_control(
        &self,
        words: &[&str],
        limit: Duration,
    ) -> Result<Reply, String> {
        ask(&self.admins[0], words, limit).await
    }

    pub(crate) async fn ask_proxy(&self, number: usize, words: &[&str]) -> Result<Reply, String> {
        ask(&self.admins[1 + number], words, LOOK_MAX).await
    }

    /// STATUS: `Ok(None)` when there never was an upgrade.
    pub(crate) async fn status(&self) -> Result<Option<Value>, String> {
        let words = ["UPGRADE", "STATUS", POOL, "JSON"];
        match self.ask_control(&words, LOOK_MAX).await? {
            Reply::Error(text) if text.starts_with("NOUPGRADE") => Ok(None),
            Reply::Error(text) => Err(text),
            reply => {
                let bytes = reply.into_bytes().unwrap_or_default();
                serde_json::from_slice(&bytes)
                    .map(Some)
                    .map_err(|error| error.to_string())
            }
        }
    }

    /// `UPGRADE START … TO` with these words behind it.
    pub(crate) fn start_words(&self, more: &[&str]) -> Vec<String> {
        let mut words: Vec<String> = ["UPGRADE", "START", POOL, "TO"].map(str::to_owned).into();
        for (shard, relay) in self.scene.relays.targets.iter().enumerate() {
            words.push(format!("s{}={}", shard + 1, relay.url()));
        }
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    }

    /// A field of a proxy's gate.
    pub(crate) async fn gate(&self, proxy: usize, shard: usize) -> Result<Gate, String> {
        let name = format!("s{}", shard + 1);
        let reply = self
            .ask_proxy(proxy, &["PROXY", "GATE", POOL, &name])
            .await?;
        let text = |reply: &Reply| match reply {
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Reply::Simple(text) => text.clone(),
            Reply::Integer(number) => number.to_string(),
            other => other.to_string(),
        };
        let Some(fields) = reply.clone().into_elements() else {
            return Err(reply.to_string());
        };
        let field = |name: &str| {
            fields
                .chunks(2)
                .find(|pair| text(&pair[0]) == name)
                .map(|pair| text(&pair[1]))
                .unwrap_or_default()
        };
        Ok(Gate {
            standing: field("gate"),
            epoch: field("epoch"),
            backend: field("backend"),
        })
    }
}

/// What a proxy says of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    pub(crate) standing: String,
    pub(crate) epoch: String,
    pub(crate) backend: String,
}

async fn ask<A: AsRef<[u8]>>(admin: &str, words: &[A], limit: Duration) -> Result<Reply, String> {
    let port = admin.rsplit(':').next().and_then(|port| port.parse().ok());
    let address = Address::local(port.unwrap_or(0));
    let asking = async {
        let mut wire = Wire::connect(&address, limit).await?;
        wire.call(words).await
    };
    match tokio::time::timeout(limit, asking).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer in {limit:?}")),
    }
}

pub(crate) fn lock<T>(locked: &Locked<T>) -> std::sync::MutexGuard<'_, T> {
    locked.lock().unwrap_or_else(PoisonError::into_inner)
}
