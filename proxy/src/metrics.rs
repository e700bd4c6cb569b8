//! What the proxy counts, in Prometheus' form.
//!
//! Workers count in plain integers; a scrape asks each for a copy and adds them up. Names and label values come from
//! enums and from the configuration's names of pools and shards, never from clients. Every series is there from the start.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as Distribution, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Registry, TextEncoder};

use crate::backends::HealthState;
use crate::orders::Crew;
use crate::shared::Known;
use crate::worker::{CloseReason, Counters, Histogram, LatencyClass, ShardCounters};

/// Upper bounds of the latency buckets, in microseconds.
const BOUNDS_US: [u64; 14] = [
    63, 127, 255, 511, 1_023, 2_047, 4_095, 8_191, 16_383, 32_767, 131_071, 524_287, 2_097_151,
    8_388_607,
];

/// The proxy's part of /metrics, and the registry that others may add theirs to.
pub(crate) struct Metrics {
    registry: Registry,
    last: Arc<Mutex<Gathered>>,
}

/// What the workers said at the last scrape.
#[derive(Default)]
struct Gathered {
    counters: Vec<(u16, Counters)>,
    sessions: Vec<usize>,
}

impl Metrics {
    pub(crate) fn new(known: Known) -> Metrics {
        let last = Arc::new(Mutex::new(Gathered::default()));
        let registry = Registry::new();
        let collector = Box::new(ProxyCollector {
            known,
            last: Arc::clone(&last),
            descs: Vec::new(),
        });
        if let Err(cause) = registry.register(collector) {
            tracing::error!(%cause, "register the proxy's metrics");
        }
        Metrics { registry, last }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Asks the workers and writes everything down.
    pub(crate) async fn scrape(&self, crew: &Crew) -> Result<String, prometheus::Error> {
        let counters = crew.counters().await;
        let sessions = crew
            .addresses()
            .iter()
            .map(crate::thread::Address::sessions)
            .collect();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Gathered { counters, sessions };
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Turns the last copy into families.
struct ProxyCollector {
    known: Known,
    last: Arc<Mutex<Gathered>>,
    /// None: the families follow from the pools, which a reload changes.
    descs: Vec<Desc>,
}

impl Collector for ProxyCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Families::default();
        whole(&mut out, &last.counters);
        let panics = self.known.panics.load(Ordering::Relaxed);
        out.counter(
            "understudy_worker_panics_total",
            "Workers rebuilt after a panic.",
            &[],
            panics,
        );
        for (worker, sessions) in last.sessions.iter().enumerate() {
            let labels = [("worker", worker.to_string())];
            out.gauge(
                "understudy_worker_sessions",
                "Sessions of a worker now.",
                &labels,
                *sessions as f64,
            );
        }
        self.shards(&mut out, &last.counters);
        out.families
    }
}

/// What is not counted by shard.
fn whole(out: &mut Families, counters: &[(u16, Counters)]) {
    let sum = |field: fn(&Counters) -> u64| {
        counters
            .iter()
            .map(|(_, counters)| field(counters))
            .sum::<u64>()
    };
    out.counter(
        "understudy_sessions_opened_total",
        "Client sessions opened.",
        &[],
        sum(|it| it.sessions_opened),
    );
    for (at, reason) in CloseReason::ALL.into_iter().enumerate() {
        let closed = counters
            .iter()
            .map(|(_, counters)| counters.sessions_closed[at])
            .sum();
        let labels = [("reason", reason.name().to_owned())];
        out.counter(
            "understudy_sessions_closed_total",
            "Client sessions closed, by reason.",
            &labels,
            closed,
        );
    }
    out.counter(
        "understudy_sessions_refused_total",
        "Client sessions refused at a limit.",
        &[],
        sum(|it| it.sessions_refused),
    );
    out.counter(
        "understudy_commands_local_total",
        "Commands answered by the proxy itself.",
        &[],
        sum(|it| it.commands_local),
    );
    out.counter(
        "understudy_commands_refused_total",
        "Commands refused by name, arity or keys.",
        &[],
        sum(|it| it.commands_refused),
    );
    out.counter(
        "understudy_commands_split_total",
        "Commands split, or sent to all shards.",
        &[],
        sum(|it| it.commands_split),
    );
    out.counter(
        "understudy_commands_resent_total",
        "Commands sent again, since they cannot have been executed.",
        &[],
        sum(|it| it.commands_resent),
    );
    out.counter(
        "understudy_commands_unknown_total",
        "Commands answered with an unknown outcome.",
        &[],
        sum(|it| it.outcomes_unknown),
    );
    out.counter(
        "understudy_scripts_healed_total",
        "EVALSHA that became EVAL after NOSCRIPT.",
        &[],
        sum(|it| it.scripts_healed),
    );
    out.counter(
        "understudy_replies_swallowed_total",
        "Replies to sessions that were gone.",
        &[],
        sum(|it| it.replies_swallowed),
    );
    let direction = |word: &str| [("direction", word.to_owned())];
    let bytes = "Bytes from and to clients.";
    out.counter(
        "understudy_client_bytes_total",
        bytes,
        &direction("in"),
        sum(|it| it.client_bytes_in),
    );
    out.counter(
        "understudy_client_bytes_total",
        bytes,
        &direction("out"),
        sum(|it| it.client_bytes_out),
    );
    let bytes = "Bytes from and to backends.";
    out.counter(
        "understudy_backend_bytes_total",
        bytes,
        &direction("in"),
        sum(|it| it.backend_bytes_in),
    );
    out.counter(
        "understudy_backend_bytes_total",
        bytes,
        &direction("out"),
        sum(|it| it.backend_bytes_out),
    );
    out.counter(
        "understudy_backend_writes_total",
        "Writes to backends; commands per write is how well lanes batch.",
        &[],
        sum(|it| it.backend_writes),
    );
    out.counter(
        "understudy_lanes_dialled_total",
        "Lanes dialled.",
        &[],
        sum(|it| it.lanes_dialled),
    );
    out.counter(
        "understudy_lanes_opened_total",
        "Lanes opened.",
        &[],
        sum(|it| it.lanes_opened),
    );
    out.counter(
        "understudy_lanes_closed_total",
        "Lanes closed or lost.",
        &[],
        sum(|it| it.lanes_closed),
    );
    out.counter(
        "understudy_dials_failed_total",
        "Dials that failed.",
        &[],
        sum(|it| it.dials_failed),
    );
}

impl ProxyCollector {
    fn shards(&self, out: &mut Families, counters: &[(u16, Counters)]) {
        let routes = self.known.routes.load();
        let mut sums: HashMap<(u16, u16), Vec<&ShardCounters>> = HashMap::new();
        for shard in counters.iter().flat_map(|(_, counters)| &counters.shards) {
            sums.entry((shard.pool.0, shard.shard.0))
                .or_default()
                .push(shard);
        }
        for (pool_at, pool) in (0_u16..).zip(&routes.pools) {
            for (shard_at, shard) in (0_u16..).zip(&pool.shards) {
                let labels = [("pool", pool.name.clone()), ("shard", shard.name.clone())];
                let up = self
                    .known
                    .backends
                    .health(&shard.backend_url)
                    .is_some_and(|health| health.state == HealthState::Up);
                out.gauge(
                    "understudy_backend_up",
                    "Whether the shard's backend answered when last asked.",
                    &labels,
                    f64::from(u8::from(up)),
                );
                out.gauge(
                    "understudy_shard_epoch",
                    "Number of the shard's route.",
                    &labels,
                    shard.epoch as f64,
                );
                one_shard(
                    out,
                    &labels,
                    sums.get(&(pool_at, shard_at)).map_or(&[], Vec::as_slice),
                );
            }
        }
    }
}

fn one_shard(out: &mut Families, labels: &[(&'static str, String)], workers: &[&ShardCounters]) {
    let sum =
        |field: fn(&ShardCounters) -> u64| workers.iter().map(|worker| field(worker)).sum::<u64>();
    let with = |name: &'static str, value: &str| [labels, &[(name, value.to_owned())]].concat();
    out.counter(
        "understudy_shard_commands_total",
        "Commands sent to the shard's backends.",
        labels,
        sum(|it| it.commands),
    );
    out.counter(
        "understudy_shard_errors_total",
        "Error replies about the shard.",
        labels,
        sum(|it| it.errors),
    );
    out.counter(
        "understudy_holds_total",
        "Holds begun.",
        labels,
        sum(|it| it.holds),
    );
    let ended = "Holds that ended by themselves, by what ended them.";
    out.counter(
        "understudy_holds_lapsed_total",
        ended,
        &with("reason", "lease"),
        sum(|it| it.holds_lapsed),
    );
    out.counter(
        "understudy_holds_lapsed_total",
        ended,
        &with("reason", "sessions"),
        sum(|it| it.holds_over_sessions),
    );
    out.counter(
        "understudy_holds_lapsed_total",
        ended,
        &with("reason", "bytes"),
        sum(|it| it.holds_over_bytes),
    );
    out.counter(
        "understudy_commands_not_executed_total",
        "Commands that a prepared gate kept too long.",
        labels,
        sum(|it| it.not_executed),
    );
    out.gauge(
        "understudy_commands_in_flight",
        "Commands in flight now.",
        labels,
        sum(|it| it.in_flight_now) as f64,
    );
    out.gauge(
        "understudy_held_sessions",
        "Sessions that wait for the gate now.",
        labels,
        sum(|it| it.held_sessions_now) as f64,
    );
    let gap = workers
        .iter()
        .map(|worker| worker.longest_gap_us)
        .max()
        .unwrap_or_default();
    out.gauge(
        "understudy_longest_gap_seconds",
        "Longest wait of a command since the last hold.",
        labels,
        gap as f64 / 1e6,
    );
    for (at, class) in LatencyClass::ALL.into_iter().enumerate() {
        let mut latency = Histogram::default();
        workers
            .iter()
            .for_each(|worker| latency.add(&worker.latency[at]));
        let labels = with("class", class.name());
        out.histogram(
            "understudy_command_seconds",
            "From a command's arrival to its reply.",
            &labels,
            &latency,
        );
    }
}

/// Families in the order of their first series.
#[derive(Default)]
struct Families {
    families: Vec<MetricFamily>,
    places: HashMap<&'static str, usize>,
}

type Labels<'a> = &'a [(&'static str, String)];

impl Families {
    fn counter(&mut self, name: &'static str, help: &str, labels: Labels<'_>, value: u64) {
        let mut counter = Counter::default();
        counter.set_value(value as f64);
        let mut metric = labelled(labels);
        metric.set_counter(counter);
        self.push(name, help, MetricType::COUNTER, metric);
    }

    fn gauge(&mut self, name: &'static str, help: &str, labels: Labels<'_>, value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = labelled(labels);
        metric.set_gauge(gauge);
        self.push(name, help, MetricType::GAUGE, metric);
    }

    fn histogram(&mut self, name: &'static str, help: &str, labels: Labels<'_>, from: &Histogram) {
        let buckets = BOUNDS_US.map(|bound_us| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound((bound_us + 1) as f64 / 1e6);
            let within =
                (0..Histogram::BUCKETS).take_while(|at| Histogram::upper_us(*at) <= bound_us);
            bucket.set_cumulative_count(within.map(|at| from.buckets[at]).sum());
            bucket
        });
        let mut distribution = Distribution::default();
        distribution.set_bucket(buckets.to_vec());
        distribution.set_sample_count(from.count());
        distribution.set_sample_sum(from.sum_us as f64 / 1e6);
        let mut metric = labelled(labels);
        metric.set_histogram(distribution);
        self.push(name, help, MetricType::HISTOGRAM, metric);
    }

    fn push(&mut self, name: &'static str, help: &str, kind: MetricType, metric: Metric) {
        let at = *self.places.entry(name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            family.set_field_type(kind);
            self.families.push(family);
            self.families.len() - 1
        });
        self.families[at].mut_metric().push(metric);
    }
}

fn labelled(labels: Labels<'_>) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.clone());
        pair
    });
    Metric::from_label(pairs.collect())
}
