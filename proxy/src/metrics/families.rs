//! Metric families by hand: the form that a collector answers in.

use std::collections::HashMap;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as Distribution, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::worker::Histogram;

/// Upper bounds of the latency buckets, in microseconds.
const BOUNDS_US: [u64; 14] = [
    63, 127, 255, 511, 1_023, 2_047, 4_095, 8_191, 16_383, 32_767, 131_071, 524_287, 2_097_151,
    8_388_607,
];

/// Families in the order of their first series.
#[derive(Default)]
pub(super) struct Families {
    pub(super) families: Vec<MetricFamily>,
    places: HashMap<&'static str, usize>,
}

/// Names and values.
pub(super) type Labels<'a> = &'a [(&'static str, String)];

impl Families {
    pub(super) fn counter(
        &mut self,
        name: &'static str,
        help: &str,
        labels: Labels<'_>,
        value: u64,
    ) {
        let mut counter = Counter::default();
        counter.set_value(value as f64);
        let mut metric = labelled(labels);
        metric.set_counter(counter);
        self.push(name, help, MetricType::COUNTER, metric);
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &str, labels: Labels<'_>, value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = labelled(labels);
        metric.set_gauge(gauge);
        self.push(name, help, MetricType::GAUGE, metric);
    }

    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &str,
        labels: Labels<'_>,
        from: &Histogram,
    ) {
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
