//! Metrics as Prometheus scrapes them (text format 0.0.4), from numbers that live elsewhere.
//!
//! The packet path counts in plain per-worker integers; nothing is registered anywhere. A scrape
//! reads them and writes them down.

use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

/// The content type of what [`Exposition::render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics on their way to a scraper.
#[derive(Default)]
pub struct Exposition {
    families: Vec<MetricFamily>,
}

/// How often something was how large.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Upper bounds of the buckets, ascending.
    pub bounds: Vec<f64>,
    /// What is within each bound and beyond the one before; the last is of what is beyond all.
    pub counts: Vec<u64>,
    /// The sum of all.
    pub sum: f64,
}

/// Names and values of a sample's labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a counter; call [`Family::sample`] on what it returns for each of its label sets.
    pub fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, MetricType::COUNTER)
    }

    /// Adds a gauge.
    pub fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, MetricType::GAUGE)
    }

    /// Adds a histogram; call [`Family::distribution`] on what it returns.
    pub fn histogram(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, MetricType::HISTOGRAM)
    }

    fn family(&mut self, name: &str, help: &str, kind: MetricType) -> Family<'_> {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        self.families.push(family);
        Family { families: &mut self.families, kind }
    }

    /// Writes everything down. A metric that has no sample now is there by its name and kind.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        for family in &self.families {
            if family.get_metric().is_empty() {
                // The encoder takes none of these.
                let (name, help) = (family.name(), family.help());
                let kind = match family.get_field_type() {
                    MetricType::COUNTER => "counter",
                    MetricType::HISTOGRAM => "histogram",
                    _ => "gauge",
                };
                text.extend(["# HELP ", name, " ", help, "\n"]);
                text.extend(["# TYPE ", name, " ", kind, "\n"]);
                continue;
            }
            TextEncoder::new()
                .encode_utf8(std::slice::from_ref(family), &mut text)
                .expect("writing to a string, with a name and a sample in every family");
        }
        text
    }
}

/// One metric of an [`Exposition`].
pub struct Family<'a> {
    families: &'a mut Vec<MetricFamily>,
    kind: MetricType,
}

impl Family<'_> {
    /// Adds a value under some labels. Exact up to 2⁵³.
    pub fn sample(self, labels: Labels<'_>, value: u64) -> Self {
        let mut metric = labelled(labels);
        #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floating point")]
        let value = value as f64;
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.push(metric)
    }

    /// Adds a distribution under some labels.
    pub fn distribution(self, labels: Labels<'_>, of: &Histogram) -> Self {
        let mut histogram = prometheus::proto::Histogram::default();
        let mut count = 0;
        let buckets = of.bounds.iter().zip(&of.counts).map(|(bound, within)| {
            count += within;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(of.counts.iter().sum());
        histogram.set_sample_sum(of.sum);
        let mut metric = labelled(labels);
        metric.set_histogram(histogram);
        self.push(metric)
    }

    fn push(self, metric: Metric) -> Self {
        if let Some(family) = self.families.last_mut() {
            family.mut_metric().push(metric);
        }
        self
    }

    /// Adds a value for each of `items`.
    pub fn samples<T>(
        self,
        label: &str,
        items: impl IntoIterator<Item = T>,
        read: impl Fn(&T) -> (&str, u64),
    ) -> Self {
        items.into_iter().fold(self, |family, item| {
            let (name, value) = read(&item);
            family.sample(&[(label, name)], value)
        })
    }
}

fn labelled(labels: Labels<'_>) -> Metric {
    let labels = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    Metric::from_label(labels.collect())
}

#[cfg(test)]
mod tests {
    use super::{Exposition, Histogram};

    #[test]
    fn a_scrape_reads_as_the_text_format_says() {
        let mut exposition = Exposition::new();
        exposition
            .counter("onevip_lb_drops_total", "Datagrams dropped.")
            .sample(&[("reason", "no_flow")], 3)
            .sample(&[("reason", "malformed")], 0);
        exposition.gauge("onevip_lb_flows", "Flows now.").sample(&[], 1_000_000);
        exposition.gauge("onevip_lb_node_up", "No node, no sample.");
        let times = Histogram { bounds: vec![0.25, 1.0], counts: vec![1, 2, 4], sum: 9.5 };
        let times_by_kind = exposition.histogram("onevip_lb_seconds", "How long it took.");
        times_by_kind.distribution(&[("kind", "slow")], &times);
        assert_eq!(
            exposition.render(),
            "# HELP onevip_lb_drops_total Datagrams dropped.\n\
             # TYPE onevip_lb_drops_total counter\n\
             onevip_lb_drops_total{reason=\"no_flow\"} 3\n\
             onevip_lb_drops_total{reason=\"malformed\"} 0\n\
             # HELP onevip_lb_flows Flows now.\n\
             # TYPE onevip_lb_flows gauge\n\
             onevip_lb_flows 1000000\n\
             # HELP onevip_lb_node_up No node, no sample.\n\
             # TYPE onevip_lb_node_up gauge\n\
             # HELP onevip_lb_seconds How long it took.\n\
             # TYPE onevip_lb_seconds histogram\n\
             onevip_lb_seconds_bucket{kind=\"slow\",le=\"0.25\"} 1\n\
             onevip_lb_seconds_bucket{kind=\"slow\",le=\"1\"} 3\n\
             onevip_lb_seconds_bucket{kind=\"slow\",le=\"+Inf\"} 7\n\
             onevip_lb_seconds_sum{kind=\"slow\"} 9.5\n\
             onevip_lb_seconds_count{kind=\"slow\"} 7\n"
        );
    }
}
