//! Metrics as Prometheus scrapes them (text format 0.0.4), from numbers that live elsewhere.
//!
//! The packet path counts in plain per-worker integers; nothing is registered anywhere. A scrape
//! reads them and writes them down.

use prometheus::{
    TextEncoder,
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

/// The content type of what [`Exposition::render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics on their way to a scraper.
#[derive(Default)]
pub struct Exposition {
    families: Vec<MetricFamily>,
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

    fn family(&mut self, name: &str, help: &str, kind: MetricType) -> Family<'_> {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        self.families.push(family);
        Family { families: &mut self.families, kind }
    }

    /// Writes everything down.
    #[must_use]
    pub fn render(&self) -> String {
        let families: Vec<_> = self
            .families
            .iter()
            .filter(|family| !family.get_metric().is_empty())
            .cloned()
            .collect();
        let mut text = String::new();
        TextEncoder::new()
            .encode_utf8(&families, &mut text)
            .expect("writing to a string, with a name and a sample in every family");
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
        let labels = labels.iter().map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut metric = Metric::from_label(labels.collect());
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

#[cfg(test)]
mod tests {
    use super::Exposition;

    #[test]
    fn a_scrape_reads_as_the_text_format_says() {
        let mut exposition = Exposition::new();
        exposition
            .counter("onevip_lb_drops_total", "Datagrams dropped.")
            .sample(&[("reason", "no_flow")], 3)
            .sample(&[("reason", "malformed")], 0);
        exposition.gauge("onevip_lb_flows", "Flows now.").sample(&[], 1_000_000);
        exposition.gauge("onevip_lb_node_up", "No node, no line.");
        assert_eq!(
            exposition.render(),
            "# HELP onevip_lb_drops_total Datagrams dropped.\n\
             # TYPE onevip_lb_drops_total counter\n\
             onevip_lb_drops_total{reason=\"no_flow\"} 3\n\
             onevip_lb_drops_total{reason=\"malformed\"} 0\n\
             # HELP onevip_lb_flows Flows now.\n\
             # TYPE onevip_lb_flows gauge\n\
             onevip_lb_flows 1000000\n"
        );
    }
}
