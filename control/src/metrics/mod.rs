//! What control shows of itself in Prometheus' form, and its pages on the HTTP port.
//!
//! Gauges are read off the board at each scrape: nothing is shown that STATUS would not say. Cutovers and holds are counted where they
//! end. Labels are names of the config and words of enums, and every series is there from the start.

mod series;

use std::pin::Pin;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};
use understudy_net::http::{Answer, Pages};

use crate::status::Board;
use crate::world::World;

/// Upper bounds of a hold, in seconds. A cutover on one machine takes about 20 ms; 100 ms is the default of HOLD-MAX.
const HOLD_BOUNDS: [f64; 10] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// How an attempt ended. A rehearsal is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutoverResult {
    /// The shard is on its target.
    Committed,
    /// It was undone; the shard is where it was.
    Aborted,
    /// The shard is on its source again.
    RolledBack,
}

impl CutoverResult {
    pub(super) const ALL: [CutoverResult; 3] = [
        CutoverResult::Committed,
        CutoverResult::Aborted,
        CutoverResult::RolledBack,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            CutoverResult::Committed => "committed",
            CutoverResult::Aborted => "aborted",
            CutoverResult::RolledBack => "rolled_back",
        }
    }
}

/// What drivers count since this process began.
pub(crate) struct CutoverMetrics {
    attempts: IntCounterVec,
    holds: HistogramVec,
}

impl CutoverMetrics {
    pub(crate) fn new() -> Result<CutoverMetrics, prometheus::Error> {
        let attempts = Opts::new(
            "understudy_upgrade_cutovers_total",
            "Attempts to move a shard, by how they ended.",
        );
        let holds = HistogramOpts::new(
            "understudy_upgrade_hold_seconds",
            "Longest gap that clients of a shard saw at a move of it.",
        );
        Ok(CutoverMetrics {
            attempts: IntCounterVec::new(attempts, &["pool", "shard", "result"])?,
            holds: HistogramVec::new(holds.buckets(HOLD_BOUNDS.to_vec()), &["pool", "shard"])?,
        })
    }

    /// Makes the series of a shard, at zero.
    fn begin(&self, pool: &str, shard: &str) {
        for result in CutoverResult::ALL {
            let _at_zero = self
                .attempts
                .with_label_values(&[pool, shard, result.name()]);
        }
        let _at_zero = self.holds.with_label_values(&[pool, shard]);
    }

    /// An attempt has ended.
    pub(crate) fn ended(&self, pool: &str, shard: &str, result: CutoverResult) {
        let labels = [pool, shard, result.name()];
        self.attempts.with_label_values(&labels).inc();
    }

    /// Clients of a shard were held this long.
    pub(crate) fn held(&self, pool: &str, shard: &str, held_ms: f64) {
        let labels = [pool, shard];
        self.holds.with_label_values(&labels).observe(held_ms / 1e3);
    }
}

/// Gathers everything that control shows.
pub(crate) struct ControlCollector {
    pub(crate) world: Arc<World>,
    pub(crate) board: Arc<Board>,
}

impl Collector for ControlCollector {
    /// Those of what is counted; the gauges follow from the pools and from the journal. A registry tells collectors apart by these.
    fn desc(&self) -> Vec<&Desc> {
        let counted = &self.world.metrics;
        [counted.attempts.desc(), counted.holds.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counted = &self.world.metrics;
        let shards = series::shards(&self.world, &self.board);
        for shard in &shards {
            counted.begin(&shard.pool, &shard.shard);
        }
        let mut families = series::gauges(&self.world, &shards).unwrap_or_else(|cause| {
            tracing::error!(%cause, "gather control's metrics");
            Vec::new()
        });
        families.extend(counted.attempts.collect());
        families.extend(counted.holds.collect());
        families
    }
}

/// The pages of a control that has a process of its own.
pub(crate) struct ControlPages {
    registry: Registry,
    board: Arc<Board>,
}

impl ControlPages {
    pub(crate) fn new(collector: ControlCollector) -> Result<ControlPages, prometheus::Error> {
        let (registry, board) = (Registry::new(), collector.board.clone());
        registry.register(Box::new(collector))?;
        Ok(ControlPages { registry, board })
    }
}

impl Pages for ControlPages {
    fn page<'a>(
        &'a self,
        path: &'a str,
    ) -> Pin<Box<dyn Future<Output = Option<Answer>> + Send + 'a>> {
        let metrics = || TextEncoder::new().encode_to_string(&self.registry.gather());
        let answer = match path {
            "/metrics" => Some(metrics().map_or_else(
                |cause| Answer::text("500 Internal Server Error", format!("{cause}\n")),
                Answer::metrics,
            )),
            "/healthz" => Some(Answer::text("200 OK", "ok\n")),
            "/readyz" => Some(Answer::readiness(&self.board.not_recovered())),
            _ => None,
        };
        Box::pin(std::future::ready(answer))
    }
}
