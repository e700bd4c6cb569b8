//! This proxy's registration with control: says who it is and where it stands, and does what the answer brings.
//!
//! ```text
//!  every lease/3, over one kept connection:   UPGRADE REGISTER id:instance address [@pod] pool shard=epoch …
//!                                             <- lease, term, and of each shard: epoch, open | armed | wait
//!  workers get what it says as an order; the lease counts from the moment of the question, never from an order's arrival
//! ```
//! While no upgrade is armed nothing depends on control. While one is, its shard is served for as long as answers come:
//! docs/gate.md. What is believed lives in the gates; here is only when it was last heard.

mod answer;
mod home;
mod identity;

use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use understudy_config::{BackendUrl, Config, ListenAddress, Scheme};
use understudy_net::{Client, Endpoint, Value};

use self::answer::{Answer, Told};
use crate::orders::ANSWER_MAX;
use crate::proxy::Inner;
use crate::shared::{find, random_u64};
use crate::worker::{Ack, GatePosition, Lease, Order};

pub(crate) use identity::of as identity_of;

/// Longest wait for control at the start, before clients are served by what the disk and the config say. Default: 2 s.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// Longest wait for one answer, or a connection. A third of the lease where that is less.
const ASK_MAX: Duration = Duration::from_secs(2);

/// Between two questions while a shard serves nobody for want of an answer. Default: 200 ms.
const WAITING: Duration = Duration::from_millis(200);

/// Shortest wait before control is dialled again; doubles up to a third of the lease. Default: 100 ms.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// What became of a question.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error("{0}")]
    Unreachable(#[from] understudy_net::ClientError),
    #[error("no address of ours leads there; write control.announce")]
    NoAddress,
    #[error("it refused: {0}")]
    Refused(String),
    #[error("its answer is not understood: {0}")]
    Nonsense(String),
}

/// One proxy's registration.
pub(crate) struct Membership {
    id: String,
    /// The word for the Pod that we run in.
    home: Option<String>,
    control: BackendUrl,
    /// Where control dials our admin port; the host is missing where every address of ours will do.
    admin: BackendUrl,
    /// The same with its host, once the way to control is known: its name may not resolve at our start.
    address: OnceLock<String>,
    heard: Mutex<Heard>,
    /// Ask now: a gate was moved, or armed.
    ask: Notify,
    stop: watch::Sender<bool>,
}

/// What control last said.
struct Heard {
    /// Until when its last answer may be believed.
    until: Option<Instant>,
    lease: Duration,
    /// Shards whose gates have been told something that has not ended, and by how many marks.
    marked: HashMap<(String, String), u64>,
    /// The last complaint, so that it is logged once.
    complaint: Option<String>,
}

impl Heard {
    fn mark(&mut self, key: (String, String)) {
        *self.marked.entry(key).or_default() += 1;
    }
}

impl Membership {
    /// The registration that this configuration asks for: `control.address` is set.
    pub(crate) fn of(config: &Config, id: String) -> Option<Membership> {
        let control = config.control.address.clone()?;
        Some(Membership {
            id,
            home: home::of_environment(),
            admin: admin(config),
            address: OnceLock::new(),
            control,
            heard: Mutex::new(Heard {
                until: None,
                lease: config.control.proxy_lease,
                marked: HashMap::new(),
                complaint: None,
            }),
            ask: Notify::new(),
            stop: watch::Sender::new(false),
        })
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long what control last said may still be believed. `None`: it may not.
    pub(crate) fn believed(&self) -> Option<Duration> {
        let left = self.heard().until?.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    /// A shard is armed now: its lease is looked after.
    pub(crate) fn mark(&self, pool: &str, shard: &str) {
        self.heard().mark((pool.to_owned(), shard.to_owned()));
        self.ask.notify_one();
    }

    /// Something moved: control is told soon.
    pub(crate) fn moved(&self) {
        self.ask.notify_one();
    }

    /// The first registration, before clients are accepted. Control may be away: then they are served by what is known.
    pub(crate) async fn begin(&self, inner: &Inner) {
        let mut client = None;
        let first = tokio::time::timeout(START_PATIENCE, self.round(inner, &mut client)).await;
        if !matches!(first, Ok(true)) {
            tracing::warn!(
                control = %self.control,
                "control does not answer: clients are served as data_dir and the config say, until it does"
            );
        }
    }

    /// Registers until it is told to leave.
    pub(crate) async fn run(&self, inner: &Inner) {
        let (mut client, mut failures) = (None, 0_u32);
        let mut stop = self.stop.subscribe();
        loop {
            let closed = match self.round(inner, &mut client).await {
                true => {
                    failures = 0;
                    self.serves_nobody(inner).await
                }
                false => {
                    failures = failures.saturating_add(1);
                    false
                }
            };
            let third = self.heard().lease / 3;
            let wait = match (failures, closed) {
                (0, false) => third,
                (0, true) => WAITING.min(third),
                (failures, _) => BACKOFF_MIN.saturating_mul(1 << failures.min(10)).min(third),
            };
            tokio::select! {
                () = sleep(jittered(wait)) => {}
                () = self.ask.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Ends `run`, behind the question that is under way.
    pub(crate) fn end(&self) {
        self.stop.send_replace(true);
    }

    /// Tells control that this proxy serves nobody any more. Called when its last session and `run` have ended.
    pub(crate) async fn leave(&self, inner: &Inner) {
        let instance = self.instance(inner);
        let gone = async {
            let mut client = Client::connect(&Endpoint::from(&self.control), ASK_MAX).await?;
            client.set_timeout(ASK_MAX);
            client.call(&["UPGRADE", "LEAVE", &instance]).await
        };
        match gone.await {
            Ok(answer) if answer.is_ok() => tracing::info!(id = self.id, "left control"),
            Ok(answer) => tracing::warn!(answer = answer.as_error(), "leave control"),
            Err(cause) => {
                tracing::warn!(%cause, "leave control: it will wait for this proxy, or for UPGRADE FORGET");
            }
        }
    }

    /// One question, and what its answer brings. False when there was none.
    async fn round(&self, inner: &Inner, client: &mut Option<Client>) -> bool {
        let asked = Instant::now();
        match self.question(inner, client).await {
            Ok(answer) => {
                let until = asked + answer.lease;
                let back = {
                    let mut heard = self.heard();
                    heard.lease = answer.lease.max(Duration::from_millis(1));
                    heard.until = Some(until);
                    heard.complaint.take()
                };
                if back.is_some() {
                    tracing::info!(control = %self.control, "control answers again");
                }
                self.take(inner, &answer, until).await;
                true
            }
            Err(unheard) => {
                *client = None;
                let text = unheard.to_string();
                let new = {
                    let mut heard = self.heard();
                    heard
                        .complaint
                        .replace(text.clone())
                        .is_none_or(|last| last != text)
                };
                if new {
                    tracing::warn!(control = %self.control, cause = text, "register with control");
                }
                false
            }
        }
    }

    async fn question(
        &self,
        inner: &Inner,
        client: &mut Option<Client>,
    ) -> Result<Answer, Unheard> {
        let limit = ASK_MAX.min(self.heard().lease / 3);
        let usable = client.take().filter(Client::is_usable);
        let asked = match usable {
            Some(usable) => client.insert(usable),
            None => client.insert(Client::connect(&Endpoint::from(&self.control), limit).await?),
        };
        asked.set_timeout(limit);
        let address = self.address()?;
        let answer: Value = asked.call(&self.words(inner, address)).await?;
        if let Some(text) = answer.as_error() {
            return Err(Unheard::Refused(text.to_owned()));
        }
        Answer::read(&answer).map_err(Unheard::Nonsense)
    }

    /// The id over all starts, and the name of this one.
    fn instance(&self, inner: &Inner) -> String {
        format!("{}:{}", self.id, inner.known.instance)
    }

    /// Asked for with a connection in hand, so that control's name resolves.
    fn address(&self) -> Result<&str, Unheard> {
        if let Some(known) = self.address.get() {
            return Ok(known);
        }
        let address = address(&self.admin, &self.control).ok_or(Unheard::NoAddress)?;
        Ok(self.address.get_or_init(|| address))
    }

    fn words(&self, inner: &Inner, address: &str) -> Vec<String> {
        let mut words = vec![
            "UPGRADE".to_owned(),
            "REGISTER".to_owned(),
            self.instance(inner),
            address.to_owned(),
        ];
        words.extend(self.home.clone());
        for pool in &inner.known.routes.load().pools {
            words.push(pool.name.clone());
            let shards = pool.shards.iter();
            words.extend(shards.map(|shard| format!("{}={}", shard.name, shard.epoch)));
        }
        words
    }

    /// Tells the workers what concerns them. A shard of which nothing was ever said is left alone.
    async fn take(&self, inner: &Inner, answer: &Answer, until: Instant) {
        for told in &answer.shards {
            let key = (told.pool.clone(), told.shard.clone());
            let Some((pool, shard, epoch)) = place(inner, told) else {
                continue;
            };
            let behind = told.epoch.is_some_and(|holds| holds > epoch);
            let marks = self.heard().marked.get(&key).copied();
            if told.lease == Lease::Over && !behind && marks.is_none() {
                continue;
            }
            if behind && marks.is_none() {
                tracing::warn!(
                    pool = told.pool,
                    shard = told.shard,
                    epoch,
                    holds = told.epoch,
                    "this proxy is behind: it serves nobody there until control has told it the route"
                );
            }
            let left = until.saturating_duration_since(Instant::now());
            let asked = inner.crew.post(&Order::Lease {
                pool,
                shard,
                epoch: told.epoch,
                term: answer.term,
                lease: told.lease,
                left,
            });
            let acks = asked.gather(ANSWER_MAX).await;
            let plain = told.lease == Lease::Over
                && acks.iter().all(|(_, ack)| {
                    matches!(ack, Ok(Ack::Gate(status)) if status.state != GatePosition::Lapsed)
                });
            let mut heard = self.heard();
            if !plain {
                heard.mark(key);
            } else if heard.marked.get(&key).copied() == marks {
                // Nobody armed it meanwhile.
                heard.marked.remove(&key);
            }
        }
    }

    /// Whether some shard serves nobody for want of an answer.
    async fn serves_nobody(&self, inner: &Inner) -> bool {
        let marked: Vec<(String, String)> = self.heard().marked.keys().cloned().collect();
        for (pool, shard) in marked {
            let status = inner.gates.read(&pool, &shard).await;
            if status.is_ok_and(|status| status.state == GatePosition::Lapsed) {
                return true;
            }
        }
        false
    }
}

/// Where a shard is in the tables, and its epoch there.
fn place(
    inner: &Inner,
    told: &Told,
) -> Option<(crate::route::PoolIndex, crate::route::ShardIndex, u64)> {
    let routes = inner.known.routes.load();
    let (pool, shard) = find(&routes, &told.pool, &told.shard)?;
    let epoch = routes.pool(pool)?.shards.get(usize::from(shard.0))?.epoch;
    Some((pool, shard, epoch))
}

/// A tenth more or less, so that many proxies do not ask in step.
fn jittered(wait: Duration) -> Duration {
    let tenths = 900 + u32::try_from(random_u64() % 200).unwrap_or(100);
    wait * tenths / 1_000
}

/// Where control dials our admin port: as announced, or where it listens, without a host where that is everywhere.
fn admin(config: &Config) -> BackendUrl {
    let tls = config.admin.tls.is_some();
    let scheme = if tls { Scheme::Rediss } else { Scheme::Redis };
    let at = |host: &str, port| BackendUrl {
        scheme,
        ..BackendUrl::tcp(host, port)
    };
    match (&config.control.announce, &config.admin.listen) {
        (Some(place), _) => at(&place.host, place.port),
        (None, ListenAddress::Unix(path, _)) => BackendUrl::unix(path),
        (None, ListenAddress::Tcp(host, port)) => match host.as_str() {
            "0.0.0.0" | "::" => at("", *port),
            host => at(host, *port),
        },
    }
}

/// The same with the address of ours from which control is reached. `None` while none is.
fn address(admin: &BackendUrl, control: &BackendUrl) -> Option<String> {
    let mut url = admin.clone();
    if url.host.is_empty() && url.scheme != Scheme::Unix {
        url.host = local_host(control)?;
    }
    Some(url.to_string())
}

/// The address of ours that is used towards control. Nothing is sent.
fn local_host(control: &BackendUrl) -> Option<String> {
    ["0.0.0.0:0", "[::]:0"].into_iter().find_map(|any| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect((control.host.as_str(), control.port)).ok()?;
        Some(socket.local_addr().ok()?.ip().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_is_told_an_address_that_it_can_dial() {
        let control = BackendUrl::tcp("127.0.0.1", 7380);
        let mut config = Config::embedded(
            "127.0.0.1:7379".parse().unwrap(),
            "redis://127.0.0.1:6001".parse().unwrap(),
        );
        let told = |config: &Config| address(&admin(config), &control);
        assert_eq!(told(&config).unwrap(), "redis://127.0.0.1:7380");
        config.admin.listen = "0.0.0.0:7390".parse().unwrap();
        assert_eq!(told(&config).unwrap(), "redis://127.0.0.1:7390");
        // A name that does not resolve yet: nothing wrong is announced.
        let nowhere = BackendUrl::tcp("control.invalid", 7380);
        assert_eq!(address(&admin(&config), &nowhere), None);
        config.control.announce = Some("proxy-3.example:7391".parse().unwrap());
        assert_eq!(told(&config).unwrap(), "redis://proxy-3.example:7391");
        assert!(address(&admin(&config), &nowhere).is_some());
    }
}
