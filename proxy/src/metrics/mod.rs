//! What the proxy counts, in Prometheus' form.
//!
//! Workers count in plain integers; a scrape asks each for a copy and adds them up. Names and label values come from
//! enums and from the configuration's names of pools and shards, never from clients. Every series is there from the start.

mod families;
mod series;

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

use self::families::Families;
use crate::orders::Crew;
use crate::shared::Known;
use crate::worker::Counters;

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
}

impl Collector for ProxyCollector {
    /// None: the families follow from the pools, which a reload changes.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Families::default();
        series::series(&mut out, &self.known, &last.counters, &last.sessions);
        out.families
    }
}
