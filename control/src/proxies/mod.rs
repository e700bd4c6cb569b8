//! All proxies of this control, told the same thing at the same time.
//!
//! An order goes to every proxy in parallel, each on its own connection with its own deadline. One missing
//! acknowledgement is a failure of the order: what the others did is undone by whoever gave it.

mod link;
mod registry;
mod reply;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use understudy_config::{self as config, BackendTls, BackendUrl, Scheme, User};
use understudy_net::AdminServer;

use crate::effect::Gate;
use link::ProxyAddress;
pub(crate) use link::{ProxyError, ProxyLink};
pub(crate) use registry::{Home, InTheWay, Key, Refused, Registration, Registry, Tenant};
pub(crate) use reply::{GateCode, GateReport, Pools, Stats};

/// A proxy answers an order that needs no drain within this time, or it counts as gone. Its fsync is in it.
const ORDER_TIMEOUT: Duration = Duration::from_secs(2);

/// What a proxy may need beyond the lease of a hold to say that it could not drain.
const HOLD_GRACE: Duration = Duration::from_secs(1);

/// Which processes serve a pool. When it changes between two looks, a proxy came, went or was restarted.
pub(crate) type Instances = BTreeSet<String>;

/// Where a shard stands, as all proxies agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) instances: Instances,
    /// The epoch, gate and term of the shard in each proxy that serves it.
    pub(crate) gates: Vec<(String, u64, String, u64)>,
    /// The backend that each of them names.
    pub(crate) backends: BTreeSet<String>,
}

impl Census {
    /// The epoch, when all proxies have the same.
    pub(crate) fn epoch(&self) -> Option<u64> {
        let (_, first, _, _) = self.gates.first()?;
        self.gates
            .iter()
            .all(|(_, epoch, _, _)| epoch == first)
            .then_some(*first)
    }

    /// The largest term that any proxy has seen.
    pub(crate) fn term(&self) -> u64 {
        self.gates
            .iter()
            .map(|(_, _, _, term)| *term)
            .max()
            .unwrap_or(0)
    }
}

/// Whether proxies answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Answered when last asked.
    Known,
    /// Could not be reached, or did not answer in time.
    Lost,
}

impl Presence {
    /// Its name, as metrics have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Presence::Known => "known",
            Presence::Lost => "lost",
        }
    }
}

/// Every proxy that control drives: those that the config names, and those that registered.
pub(crate) struct Proxies {
    links: Vec<Link>,
    /// Those that registered, by where they are dialled.
    registered: std::sync::Mutex<BTreeMap<String, Link>>,
    registry: std::sync::Mutex<Registry>,
    /// The admin ports that the config names.
    elsewhere: Vec<BackendUrl>,
    login: Option<User>,
    /// What every admin port must show.
    tls: Option<BackendTls>,
    /// How many did not answer when all were last asked.
    lost: AtomicUsize,
}

type Link = Arc<Mutex<ProxyLink>>;

/// The admin ports that a config names, with login and TLS.
pub(crate) fn admin_ports(config: &config::Control) -> Vec<BackendUrl> {
    let tls = config.proxy_tls.as_ref();
    let urls = config.proxies.iter().cloned();
    urls.map(|url| by_tls(url, tls)).collect()
}

/// Where `control.proxy_tls` is set, every port is dialed by TLS, whatever its address says.
fn by_tls(mut url: BackendUrl, tls: Option<&BackendTls>) -> BackendUrl {
    if tls.is_some() && url.scheme == Scheme::Redis {
        url.scheme = Scheme::Rediss;
    }
    url.with_tls(tls)
}

impl Proxies {
    /// The proxy of this process when the config names no others.
    pub(crate) fn new(config: &config::Control, here: Option<Arc<AdminServer>>) -> Proxies {
        let urls = admin_ports(config);
        let elsewhere = urls.iter().cloned().map(ProxyAddress::There);
        let addresses: Vec<ProxyAddress> = match (config.proxies.is_empty(), here) {
            (true, Some(server)) => vec![ProxyAddress::Here(server)],
            (true, None) | (false, _) => elsewhere.collect(),
        };
        Proxies {
            elsewhere: urls,
            links: addresses
                .into_iter()
                .map(|address| Arc::new(Mutex::new(ProxyLink::new(address))))
                .collect(),
            registered: std::sync::Mutex::default(),
            registry: std::sync::Mutex::new(Registry::new(config.proxy_lease, Instant::now())),
            login: config.login.clone(),
            tls: config.proxy_tls.clone(),
            lost: AtomicUsize::new(0),
        }
    }

    /// Who registered, and what is armed.
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections to those that registered and serve a pool, or to all.
    fn registered(&self, pool: Option<&str>) -> Vec<Link> {
        let (wanted, known) = {
            let registry = self.registry();
            (registry.addresses(pool), registry.addresses(None))
        };
        let mut links = self
            .registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        links.retain(|address, _| known.contains(address));
        let mut found = Vec::new();
        for address in wanted {
            let Ok(url) = address.parse::<BackendUrl>() else {
                continue;
            };
            let link = links.entry(address).or_insert_with(|| {
                let there = ProxyAddress::There(self.with_login(url));
                Arc::new(Mutex::new(ProxyLink::new(there)))
            });
            found.push(link.clone());
        }
        found
    }

    fn with_login(&self, mut url: BackendUrl) -> BackendUrl {
        if let (None, Some(login)) = (&url.password, &self.login) {
            url.username = Some(login.name.clone());
            url.password = Some(login.password.clone());
        }
        by_tls(url, self.tls.as_ref())
    }

    /// The admin ports of all proxies in processes of their own, with login and TLS.
    pub(crate) fn admin_ports(&self) -> Vec<BackendUrl> {
        let registered = self.registry().addresses(None);
        let registered = registered.iter().filter_map(|url| url.parse().ok());
        let mut ports = self.elsewhere.clone();
        ports.extend(registered.map(|url| self.with_login(url)));
        ports
    }

    /// Connections to all that serve a pool, or to all.
    fn links(&self, pool: Option<&str>) -> Vec<Link> {
        self.links
            .iter()
            .cloned()
            .chain(self.registered(pool))
            .collect()
    }

    /// ARM: those that registered serve the shard only for as long as we answer them.
    pub(crate) async fn arm(&self, gate: &Gate) -> Result<usize, ProxyError> {
        let words = Self::words("ARM", gate, &[]);
        let links = self.registered(Some(&gate.pool));
        let answers = Self::ask_all(links, |link| {
            let words = words.clone();
            async move { link.lock().await.order(&words, ORDER_TIMEOUT).await }
        })
        .await;
        let armed = answers
            .into_iter()
            .collect::<Result<Vec<GateReport>, ProxyError>>()?;
        Ok(armed.len())
    }

    /// How many answer and how many do not, as of the last question to all. Asks nobody: a scrape must not stand before a HOLD.
    pub(crate) fn presence(&self) -> [(Presence, usize); 2] {
        let lost = self.lost.load(Ordering::Relaxed);
        [
            (Presence::Known, self.count().saturating_sub(lost)),
            (Presence::Lost, lost),
        ]
    }

    /// How many serve a pool.
    pub(crate) fn serve(&self, pool: &str) -> usize {
        self.links(Some(pool)).len()
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.links.len() + self.registry().addresses(None).len()
    }

    /// Asks every proxy of a pool, or every proxy, the same.
    async fn each<T, F, Asking>(&self, pool: Option<&str>, ask: F) -> Vec<Result<T, ProxyError>>
    where
        T: Send + 'static,
        F: Fn(Link) -> Asking,
        Asking: Future<Output = Result<T, ProxyError>> + Send + 'static,
    {
        let answers = Self::ask_all(self.links(pool), ask).await;
        let unreachable =
            |answer: &&Result<T, ProxyError>| matches!(answer, Err(ProxyError::Unreachable { .. }));
        let lost = answers.iter().filter(unreachable).count();
        self.lost.store(lost, Ordering::Relaxed);
        answers
    }

    /// All at once; the answers in the order of the links.
    async fn ask_all<T, F, Asking>(links: Vec<Link>, ask: F) -> Vec<Result<T, ProxyError>>
    where
        T: Send + 'static,
        F: Fn(Link) -> Asking,
        Asking: Future<Output = Result<T, ProxyError>> + Send + 'static,
    {
        let mut asked = JoinSet::new();
        let mut answers: Vec<Option<Result<T, ProxyError>>> = links.iter().map(|_| None).collect();
        for (index, link) in links.into_iter().enumerate() {
            let asking = ask(link);
            asked.spawn(async move { (index, asking.await) });
        }
        while let Some(joined) = asked.join_next().await {
            if let Ok((index, answer)) = joined {
                answers[index] = Some(answer);
            }
        }
        let ended = || ProxyError::Unreachable {
            proxy: "?".to_owned(),
            cause: "the asking task ended".to_owned(),
        };
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|| Err(ended())))
            .collect()
    }

    async fn order(
        &self,
        gate: &Gate,
        words: Vec<String>,
        timeout: Duration,
    ) -> Vec<Result<GateReport, ProxyError>> {
        self.each(Some(&gate.pool), |link| {
            let words = words.clone();
            async move { link.lock().await.order(&words, timeout).await }
        })
        .await
    }

    fn words(verb: &str, gate: &Gate, rest: &[String]) -> Vec<String> {
        let mut words = vec![
            verb.to_owned(),
            gate.pool.clone(),
            gate.shard.clone(),
            gate.epoch.to_string(),
            gate.term.to_string(),
        ];
        words.extend_from_slice(rest);
        words
    }

    /// HOLD: every gate is held and drained, or the first reason why not.
    pub(crate) async fn hold(
        &self,
        gate: &Gate,
        lease_ms: u64,
    ) -> Result<Vec<GateReport>, ProxyError> {
        let words = Self::words("HOLD", gate, &[lease_ms.to_string()]);
        let answers = self
            .order(gate, words, Duration::from_millis(lease_ms) + HOLD_GRACE)
            .await;
        all_at(answers, "held", gate.epoch)
    }

    /// PREPARE: no proxy opens by itself any more.
    pub(crate) async fn prepare(&self, gate: &Gate) -> Result<Vec<GateReport>, ProxyError> {
        let answers = self
            .order(gate, Self::words("PREPARE", gate, &[]), ORDER_TIMEOUT)
            .await;
        all_at(answers, "prepared", gate.epoch)
    }

    /// SWITCH: tells every proxy; each answer on its own, since after the commit there is no way back.
    pub(crate) async fn switch(
        &self,
        gate: &Gate,
        url: &str,
    ) -> Vec<Result<GateReport, ProxyError>> {
        self.switch_to(gate, gate.epoch + 1, url).await
    }

    /// SWITCH to any later epoch, for a proxy that missed several.
    pub(crate) async fn switch_to(
        &self,
        gate: &Gate,
        next_epoch: u64,
        url: &str,
    ) -> Vec<Result<GateReport, ProxyError>> {
        self.order(
            gate,
            Self::words("SWITCH", gate, &[next_epoch.to_string(), url.to_owned()]),
            ORDER_TIMEOUT,
        )
        .await
    }

    /// RELEASE: tells every proxy; each answer on its own.
    pub(crate) async fn release(&self, gate: &Gate) -> Vec<Result<GateReport, ProxyError>> {
        self.order(gate, Self::words("RELEASE", gate, &[]), ORDER_TIMEOUT)
            .await
    }

    /// What every proxy of a pool serves, or every proxy.
    pub(crate) async fn pools(&self, pool: Option<&str>) -> Vec<Result<Pools, ProxyError>> {
        self.each(pool, |link| async move { link.lock().await.pools().await })
            .await
    }

    /// Where a shard stands in the proxies that answer, and what is wrong with the first that does not.
    pub(crate) async fn gates(
        &self,
        pool: &str,
        shard: &str,
    ) -> (Vec<(String, u64, String, u64)>, Option<ProxyError>) {
        let (mut gates, mut silent) = (Vec::new(), None);
        for answer in self.pools(Some(pool)).await {
            match answer {
                Ok(pools) => gates.extend(pools.shard(pool, shard).map(|report| {
                    let (epoch, gate, term) = (report.epoch, report.gate.clone(), report.term);
                    (pools.instance.clone(), epoch, gate, term)
                })),
                Err(error) => silent = silent.or(Some(error)),
            }
        }
        (gates, silent)
    }

    /// Where a shard stands; any proxy that does not answer, or does not serve it, is an error.
    pub(crate) async fn census(&self, pool: &str, shard: &str) -> Result<Census, ProxyError> {
        let mut census = Census {
            instances: Instances::new(),
            gates: Vec::new(),
            backends: BTreeSet::new(),
        };
        for answer in self.pools(Some(pool)).await {
            let pools = answer?;
            let Some(report) = pools.shard(pool, shard) else {
                let cause = format!("it does not serve shard '{shard}' of pool '{pool}'");
                return Err(ProxyError::Nonsense {
                    proxy: pools.instance,
                    cause,
                });
            };
            census.gates.push((
                pools.instance.clone(),
                report.epoch,
                report.gate.clone(),
                report.term,
            ));
            census.backends.insert(report.backend.clone());
            census.instances.insert(pools.instance);
        }
        Ok(census)
    }

    /// How a shard was served lately, over all proxies that answer.
    pub(crate) async fn stats(&self, pool: &str, shard: &str) -> Stats {
        let (pool, shard) = (pool.to_owned(), shard.to_owned());
        let answers = self
            .each(Some(&pool), |link| {
                let (pool, shard) = (pool.clone(), shard.clone());
                async move { link.lock().await.stats(&pool, &shard).await }
            })
            .await;
        answers
            .into_iter()
            .filter_map(Result::ok)
            .fold(Stats::default(), Stats::and)
    }

    /// Every script that any client used, once each.
    pub(crate) async fn scripts(&self, pool: &str) -> Result<Vec<Vec<u8>>, ProxyError> {
        let pool = pool.to_owned();
        let answers = self
            .each(Some(&pool), |link| {
                let pool = pool.clone();
                async move { link.lock().await.scripts(&pool).await }
            })
            .await;
        let mut scripts: Vec<Vec<u8>> = Vec::new();
        let mut seen = BTreeSet::new();
        for answer in answers {
            for script in answer? {
                if seen.insert(script.clone()) {
                    scripts.push(script);
                }
            }
        }
        Ok(scripts)
    }
}

/// All acknowledgements, each of the gate and epoch that was asked for.
fn all_at(
    answers: Vec<Result<GateReport, ProxyError>>,
    gate: &str,
    epoch: u64,
) -> Result<Vec<GateReport>, ProxyError> {
    let reports = answers
        .into_iter()
        .collect::<Result<Vec<GateReport>, ProxyError>>()?;
    for report in &reports {
        if report.gate != gate || report.epoch != epoch {
            let cause = format!(
                "asked for {gate} at epoch {epoch}, it says {} at {}",
                report.gate, report.epoch
            );
            return Err(ProxyError::Nonsense {
                proxy: report.instance.clone().unwrap_or_default(),
                cause,
            });
        }
    }
    if reports.is_empty() {
        return Err(ProxyError::Nonsense {
            proxy: "?".to_owned(),
            cause: "no proxy is configured".to_owned(),
        });
    }
    Ok(reports)
}
