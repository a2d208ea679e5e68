//! Metrics as a scraper reads them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use tokio::task::spawn_blocking;

/// Samples: their labels by their names, all values that each label has.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    families: BTreeSet<String>,
    samples: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

impl Metrics {
    /// Takes in what an endpoint tells.
    pub(super) fn take(&mut self, text: &str) {
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, _) = kind.split_once(' ').expect("a name and its kind");
                self.families.insert(name.to_owned());
            } else if !line.starts_with('#') {
                let (sample, _) = line.rsplit_once(' ').expect("a value");
                let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
                let of = self.samples.entry(name.to_owned()).or_default();
                // No value that a system has of its own has a quote in it.
                let mut rest = labels.trim_end_matches('}');
                while let Some((label, value)) = rest.split_once("=\"") {
                    let (value, further) = value.split_once('"').expect("its end");
                    of.entry(label.to_owned()).or_default().insert(value.to_owned());
                    rest = further.trim_start_matches(',');
                }
            }
        }
    }

    /// What all metrics are called.
    pub(super) fn families(&self) -> impl Iterator<Item = &str> {
        self.families.iter().map(String::as_str)
    }

    /// Whether there is a metric of which samples have this name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.families.contains(name) || self.samples.contains_key(name)
    }

    /// Whether samples of this name have that label. Of what has no sample now it is not known.
    pub(super) fn has(&self, name: &str, label: &str) -> bool {
        self.samples.get(name).is_none_or(|labels| labels.contains_key(label))
    }

    /// The labels that samples of this name have. `None`: there is no sample now.
    pub(super) fn labels(&self, name: &str) -> Option<BTreeSet<String>> {
        self.samples.get(name).map(|labels| labels.keys().cloned().collect())
    }

    /// The values that it has.
    pub(super) fn values(&self, name: &str, label: &str) -> Option<&BTreeSet<String>> {
        self.samples.get(name)?.get(label)
    }
}

/// The metric that samples of this name are of.
pub(super) fn family(sample: &str) -> &str {
    let parts = ["_bucket", "_sum", "_count"].into_iter();
    parts.filter_map(|part| sample.strip_suffix(part)).next().unwrap_or(sample)
}

/// What stands between two marks, wherever they are.
pub(super) fn named<'a>(text: &'a str, before: &'a str, behind: &str) -> Vec<&'a str> {
    let parts = text.split(before).skip(1);
    parts.map(|part| part.split_once(behind).map_or(part, |(name, _)| name)).collect()
}

/// Status and body of a GET.
pub(super) async fn get(endpoint: SocketAddr, path: &'static str) -> (u16, String) {
    let asking = move || {
        let mut answer = agent().get(format!("http://{endpoint}{path}")).call().expect("answers");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
    };
    spawn_blocking(asking).await.expect("ran")
}

/// Status of a POST of some content, with its type.
pub(super) async fn post(
    endpoint: SocketAddr,
    path: &'static str,
    token: &str,
    (kind, body): (&'static str, &'static str),
) -> u16 {
    let bearer = format!("Bearer {token}");
    let asking = move || {
        let request = agent().post(format!("http://{endpoint}{path}"));
        let request = request.header("authorization", bearer).content_type(kind);
        request.send(body).expect("answers").status().as_u16()
    };
    spawn_blocking(asking).await.expect("ran")
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}
