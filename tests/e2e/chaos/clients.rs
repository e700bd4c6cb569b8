//! Clients that do what the ledger's load does not: huge values, keys that expire, blocking pops, WATCH, and hanging up
//! in the middle of a command. Each knows what it may be answered.
//!
//! A command whose reply is an error or never came has an unknown outcome; it may even be executed later. So nothing that
//! it wrote to is used again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use understudy_lab::Random;
use understudy_lab::wire::{Address, Reply, Wire, encode};

use super::world::World;

/// A reply that takes longer is a finding: no fault lasts that long.
const REPLY_MAX: Duration = Duration::from_secs(45);
/// Between two commands of one of these clients.
const PAUSE: Duration = Duration::from_millis(10);
/// Time to live of keys that expire.
const TTL: Duration = Duration::from_millis(300);

/// What one client found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// What cannot be.
    pub(crate) wrong: Vec<String>,
    /// Error replies, and when.
    pub(crate) errors: Vec<(Duration, String)>,
    /// Ends of connections: when, and to which proxy.
    pub(crate) lost: Vec<(Duration, usize, String)>,
    /// Commands answered.
    pub(crate) answered: u64,
}

/// All of them.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Found>>,
}

/// A connection to one of the proxies, and to the other when that one is gone.
struct Client {
    world: Arc<World>,
    stop: Arc<AtomicBool>,
    addresses: Vec<(usize, Address)>,
    wire: Option<Wire>,
    found: Found,
}

impl Clients {
    pub(crate) fn start(world: &Arc<World>) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |first: usize| {
            let mut addresses: Vec<(usize, Address)> =
                world.clients().into_iter().enumerate().collect();
            addresses.rotate_left(first);
            Client {
                world: Arc::clone(world),
                stop: Arc::clone(&stop),
                addresses,
                wire: None,
                found: Found::default(),
            }
        };
        let tasks = vec![
            tokio::spawn(huge(client(0))),
            tokio::spawn(expire(client(1))),
            tokio::spawn(queue(client(0), client(1))),
            tokio::spawn(watch(client(0), client(1))),
            tokio::spawn(hang_up(client(1))),
        ];
        Clients { stop, tasks }
    }

    pub(crate) async fn stop(self) -> Found {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Found::default();
        for task in self.tasks {
            all.add(task.await.unwrap());
        }
        all
    }
}

impl Found {
    fn add(&mut self, other: Found) {
        self.wrong.extend(other.wrong);
        self.errors.extend(other.errors);
        self.lost.extend(other.lost);
        self.answered += other.answered;
    }
}

impl Client {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// The reply, or `None` when the outcome is unknown; the reason is written down.
    async fn call<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Option<Reply> {
        if self.wire.is_none() {
            self.wire = Wire::connect(&self.addresses[0].1, REPLY_MAX).await.ok();
            if self.wire.is_none() {
                self.addresses.rotate_left(1);
                tokio::time::sleep(PAUSE).await;
                return None;
            }
        }
        let wire = self.wire.as_mut()?;
        let answer = tokio::time::timeout(REPLY_MAX, wire.call(words)).await;
        let at = self.world.began.elapsed();
        let why = match answer {
            Ok(Ok(Reply::Error(text))) => {
                self.found.errors.push((at, text));
                return None;
            }
            Ok(Ok(reply)) => {
                self.found.answered += 1;
                return Some(reply);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                let command = String::from_utf8_lossy(words[0].as_ref()).into_owned();
                let late = format!("{command}: no reply in {REPLY_MAX:?}");
                self.found.wrong.push(late.clone());
                late
            }
        };
        self.found.lost.push((at, self.addresses[0].0, why));
        self.wire = None;
        None
    }

    fn wrong(&mut self, what: &str) {
        let at = self.world.began.elapsed();
        self.found.wrong.push(format!("at {at:?}: {what}"));
    }
}

/// Values over the size at which they go in pieces.
async fn huge(mut client: Client) -> Found {
    let mut random = Random::new(1);
    let (mut key, mut number) = (0_u64, 0_u64);
    let mut there: Option<Vec<u8>> = None;
    while client.goes_on() {
        number += 1;
        let name = format!("chaos:huge:{key}");
        let length = 200_000 + random.below(600_000);
        let value = format!("{number:09};").repeat(length / 10).into_bytes();
        match client.call(&[b"SET", name.as_bytes(), &value]).await {
            Some(reply) if reply == Reply::ok() => there = Some(value),
            Some(reply) => client.wrong(&format!("SET {name} gave {reply}")),
            None => (key, there) = (key + 1, None),
        }
        if let Some(expected) = &there {
            match client.call(&["GET", &format!("chaos:huge:{key}")]).await {
                Some(Reply::Bulk(found)) if found == *expected => {}
                Some(reply) => {
                    let start = String::from_utf8_lossy(&expected[..20]).into_owned();
                    client.wrong(&format!("GET chaos:huge:{key} gave {reply}, not {start}…"));
                }
                None => {}
            }
        }
        tokio::time::sleep(PAUSE * 10).await;
    }
    client.found
}

/// A key is there until its time has come, and is gone some time later.
async fn expire(mut client: Client) -> Found {
    let mut number = 0_u64;
    while client.goes_on() {
        number += 1;
        let name = format!("chaos:expire:{number}");
        let millis = TTL.as_millis().to_string();
        let sent = Instant::now();
        if client.call(&["SET", &name, "v", "PX", &millis]).await != Some(Reply::ok()) {
            continue;
        }
        loop {
            match client.call(&["GET", &name]).await {
                Some(Reply::Null) if sent.elapsed() < TTL => {
                    client.wrong(&format!("{name} was gone after {:?}", sent.elapsed()));
                    break;
                }
                Some(Reply::Null) => break,
                Some(reply) if reply == Reply::bulk("v") && sent.elapsed() < REPLY_MAX => {}
                Some(reply) => {
                    client.wrong(&format!(
                        "GET {name} gave {reply} after {:?}",
                        sent.elapsed()
                    ));
                    break;
                }
                None => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    client.found
}

/// One pushes numbers, one pops them and blocks: none twice, none out of order, none lost.
async fn queue(mut pusher: Client, mut popper: Client) -> Found {
    const NAME: &str = "chaos:queue";
    let pushing = async {
        let (mut number, mut unknown) = (0_u64, BTreeSet::new());
        while pusher.goes_on() {
            number += 1;
            if pusher
                .call(&["RPUSH", NAME, &number.to_string()])
                .await
                .is_none()
            {
                unknown.insert(number);
            }
            // Slow, so that the popper blocks.
            tokio::time::sleep(PAUSE * 3).await;
        }
        (number, unknown, pusher)
    };
    let stop = Arc::clone(&popper.stop);
    let popping = async {
        let (mut popped, mut unknown) = (Vec::new(), 0_usize);
        loop {
            let last = stop.load(Ordering::Relaxed);
            let asked = popper.call(&["BLPOP", NAME, "1"]).await;
            match asked {
                Some(Reply::Array(parts)) => {
                    let text = parts.into_iter().next_back().and_then(Reply::into_bytes);
                    let text = String::from_utf8(text.unwrap_or_default());
                    popped.push(text.unwrap_or_default().parse::<u64>().unwrap_or(0));
                }
                Some(Reply::Null) if last => break,
                Some(Reply::Null) => {}
                Some(reply) => popper.wrong(&format!("BLPOP gave {reply}")),
                None => unknown += 1,
            }
        }
        (popped, unknown, popper)
    };
    let ((pushed, unsure, mut pusher), (popped, unknown, popper)) = tokio::join!(pushing, popping);
    pusher.found.add(popper.found);
    let mut seen = BTreeSet::new();
    for number in &popped {
        if !seen.insert(*number) {
            pusher.wrong(&format!("number {number} was popped twice"));
        }
    }
    let sure: Vec<u64> = popped
        .iter()
        .copied()
        .filter(|number| !unsure.contains(number))
        .collect();
    if let Some(pair) = sure.windows(2).find(|pair| pair[0] > pair[1]) {
        pusher.wrong(&format!("{} was popped before {}", pair[0], pair[1]));
    }
    let missing: Vec<u64> = (1..=pushed)
        .filter(|number| !seen.contains(number) && !unsure.contains(number))
        .collect();
    if missing.len() > unknown {
        pusher.wrong(&format!(
            "{unknown} pops have an unknown outcome, and these were pushed and never popped: {missing:?}"
        ));
    }
    pusher.found
}

/// Two add to one number, each only when nobody has changed it since it looked.
async fn watch(one: Client, other: Client) -> Found {
    async fn adding(mut client: Client) -> (i64, i64, Client) {
        let (mut added, mut unknown) = (0, 0);
        while client.goes_on() {
            tokio::time::sleep(PAUSE).await;
            if client.call(&["WATCH", "chaos:watched"]).await.is_none() {
                continue;
            }
            let number = match client.call(&["GET", "chaos:watched"]).await {
                Some(Reply::Bulk(text)) => String::from_utf8_lossy(&text).parse().unwrap_or(0),
                Some(Reply::Null) => 0,
                // Whatever is watched here ends with the connection.
                _ => {
                    client.wire = None;
                    continue;
                }
            };
            let next = (number + 1_i64).to_string();
            let queued = client.call(&["MULTI"]).await.is_some()
                && client
                    .call(&["SET", "chaos:watched", &next])
                    .await
                    .is_some();
            if !queued {
                client.wire = None;
                continue;
            }
            match client.call(&["EXEC"]).await {
                Some(Reply::Array(_)) => added += 1,
                Some(Reply::Null) => {}
                Some(reply) => client.wrong(&format!("EXEC gave {reply}")),
                None => {
                    unknown += 1;
                    client.wire = None;
                }
            }
        }
        (added, unknown, client)
    }
    let (first, second) = tokio::join!(adding(one), adding(other));
    let (added, unknown) = (first.0 + second.0, first.1 + second.1);
    let (mut client, other) = (first.2, second.2);
    client.found.add(other.found);
    let found = loop {
        match client.call(&["GET", "chaos:watched"]).await {
            Some(Reply::Bulk(text)) => break String::from_utf8_lossy(&text).parse().unwrap_or(-1),
            Some(_) => break 0,
            None => {}
        }
    };
    if found < added || found > added + unknown {
        client.wrong(&format!(
            "chaos:watched is {found}: {added} additions were acknowledged, {unknown} are unknown"
        ));
    }
    client.found
}

/// Connects, sends a part of a command, and goes. None of it may be executed.
async fn hang_up(mut client: Client) -> Found {
    let mut random = Random::new(2);
    let mut number = 0_u64;
    while client.goes_on() {
        number += 1;
        tokio::time::sleep(PAUSE).await;
        let Ok(mut wire) = Wire::connect(&client.addresses[0].1, REPLY_MAX).await else {
            client.addresses.rotate_left(1);
            continue;
        };
        client.addresses.rotate_left(1);
        let mut frame = Vec::new();
        let length = if random.once_in(4) { 400_000 } else { 100 };
        let name = format!("chaos:half:{}", number % 8);
        encode(
            &mut frame,
            &[b"SET", name.as_bytes(), "x".repeat(length).as_bytes()],
        );
        let part = 1 + random.below(frame.len() - 1);
        // A proxy that was killed meanwhile takes nothing, which is as good.
        wire.send(&frame[..part]).await.ok();
        tokio::time::sleep(Duration::from_millis(random.below(150) as u64)).await;
    }
    for number in 0..8 {
        let name = format!("chaos:half:{number}");
        if let Some(reply) = client.call(&["EXISTS", &name]).await
            && reply != Reply::Integer(0)
        {
            client.wrong(&format!("{name}, never sent to its end, is there: {reply}"));
        }
    }
    client.found
}
