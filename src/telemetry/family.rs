//! A metric family while it is being built at a scrape: labels beside values, turned into Prometheus' own types.
//!
//! It knows no family by name.

use std::collections::HashMap;

use prometheus::core::Desc;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::cells::Durations;

/// What a family's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A family and its series.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: Vec<&'static str>,
    series: Vec<Metric>,
}

impl Family {
    /// Without series yet; one without any is not shown.
    pub(super) fn of(name: &'static str, kind: Kind, help: &'static str, labels: &[&'static str]) -> Self {
        Self { name, kind, help, labels: labels.to_vec(), series: Vec::new() }
    }

    /// One series that has no labels.
    pub(super) fn single(name: &'static str, kind: Kind, help: &'static str, value: f64) -> Self {
        let mut family = Self::of(name, kind, help, &[]);
        family.push(&[], value);
        family
    }

    /// And this series.
    pub(super) fn with(mut self, values: &[&str], value: u64) -> Self {
        self.add(values, value);
        self
    }

    /// Adds a series of a counter or a gauge.
    pub(super) fn add(&mut self, values: &[&str], value: u64) {
        self.push(values, value as f64);
    }

    /// Adds a series of a histogram, once it has an observation.
    pub(super) fn observe(&mut self, values: &[&str], durations: &Durations) {
        let Some(observed) = durations.observed() else { return };
        let bucket = |(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_bucket(observed.buckets.into_iter().map(bucket).collect());
        histogram.set_sample_count(observed.count);
        histogram.set_sample_sum(observed.sum);
        let mut metric = self.metric(values);
        metric.set_histogram(histogram);
        self.series.push(metric);
    }

    /// What the registry wants to know at registration.
    pub(super) fn desc(&self) -> Desc {
        let labels = self.labels.iter().map(|label| (*label).to_owned()).collect();
        Desc::new(self.name.to_owned(), self.help.to_owned(), labels, HashMap::new())
            .expect("names, labels and help are constants that a test registers")
    }

    /// Prometheus' own type.
    pub(super) fn into_proto(self) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(match self.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(self.series);
        family
    }

    /// Adds a series of a gauge that may be a fraction.
    pub(super) fn push(&mut self, values: &[&str], value: f64) {
        let mut metric = self.metric(values);
        if self.kind == Kind::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.series.push(metric);
    }

    fn metric(&self, values: &[&str]) -> Metric {
        debug_assert_eq!(self.labels.len(), values.len(), "{}", self.name);
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        Metric::from_label(self.labels.iter().zip(values).map(pair).collect())
    }
}
