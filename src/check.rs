//! `onevip check`: reads a configuration as the role would, and says what the role would do.

use std::path::Path;

use control::{
    config::{StoreConfig, StoreKind},
    fleet::{Fleet, State, Warning},
    toml_file,
};
use serde_json::json;

use crate::{cli::Output, error::Error, say::say};

pub(crate) fn run(file: &Path, output: Option<Output>) -> Result<(), Error> {
    let report = match kind(file)? {
        Kind::Lb => lb(file)?,
        Kind::Sfu => sfu(file)?,
        Kind::Control => control(file)?,
        Kind::Fleet => {
            let (fleet, warnings) = Fleet::read(file)?;
            Report { lines: describe(&fleet), warnings }
        }
    };
    report.print(file, output);
    Ok(())
}

enum Kind {
    Lb,
    Sfu,
    Control,
    Fleet,
}

/// What a file is for, told by the keys it has. An LB's come first, so that one that strayed into its
/// file is refused there and does not make it another's.
fn kind(file: &Path) -> Result<Kind, Error> {
    let table: toml::Table = toml_file::read(file)?;
    let has = |keys: &[&str]| keys.iter().any(|key| table.contains_key(*key));
    let is_array = |value: &toml::Value| {
        value.as_array().is_some_and(|items| items.iter().any(toml::Value::is_table))
    };
    Ok(if has(&["listen", "io", "quic", "limits"]) {
        Kind::Lb
    } else if has(&["hash_key"]) || table.values().any(is_array) {
        Kind::Fleet
    } else if has(&["tunnel", "ice", "webtransport", "signalling", "keys", "udp"]) {
        Kind::Sfu
    } else if has(&[
        "store",
        "http",
        "nodes",
        "resolve",
        "dns",
        "overflow",
        "webhooks",
        "federation",
    ]) {
        Kind::Control
    } else {
        Kind::Lb
    })
}

fn sfu(file: &Path) -> Result<Report, Error> {
    let (config, beginning, warnings) = sfu::service::load(file)?;
    let mut lines = Vec::new();
    if let Some(tunnel) = &config.tunnel {
        let mut lbs: Vec<_> = tunnel.lbs.iter().map(ToString::to_string).collect();
        if config.fleet.url.is_some() {
            lbs.push("the fleet".to_owned());
        }
        lines.push(format!(
            "node {} would take datagrams from LBs in {} at {}",
            config.name,
            lbs.join(" and "),
            tunnel.listen
        ));
    }
    if let Some(udp) = &config.udp {
        lines.push(format!("clients without an LB would be served at {}", udp.listen));
    }
    let candidates: Vec<_> = config.ice.candidates.iter().map(ToString::to_string).collect();
    if !candidates.is_empty() {
        lines.push(format!("clients would be told to send to {}", candidates.join(" and ")));
    }
    lines.push(match beginning {
        sfu::service::Beginning::File(begun) => format!(
            "it would issue IDs of {} bytes, and follow the fleet in {}",
            begun.1.cid_len(),
            begun.0.path().display()
        ),
        sfu::service::Beginning::Line(line) => {
            format!("it would register with {}, and follow the fleet there", line.name())
        }
    });
    lines.push(format!(
        "signalling would be at http://{}, health and metrics at http://{}",
        config.signalling.listen, config.admin.listen
    ));
    Ok(Report { lines, warnings })
}

/// What keeps a control's fleet.
fn kept_in(store: &StoreConfig, file: &Path) -> Result<String, Error> {
    Ok(match (store.kind, &store.path) {
        (StoreKind::Etcd, _) => store.etcd().store(file)?.to_string(),
        (StoreKind::Embedded, Some(path)) => path.display().to_string(),
        (StoreKind::Embedded, None) => "memory".to_owned(),
    })
}

fn control(file: &Path) -> Result<Report, Error> {
    let (config, routing, warnings) = control::service::load(file)?;
    let scheme = if config.http.tls.is_some() { "https" } else { "http" };
    let mut lines = vec![
        format!(
            "control {} would keep the fleet in {}",
            config.name,
            kept_in(&config.store, file)?,
        ),
        format!("API, health and metrics would be at {scheme}://{}", config.http.listen),
        format!("nodes would be taken for gone {:?} after their last call", config.nodes.ttl),
        format!(
            "a routing configuration that retires would go when nobody had used it for {:?}",
            config.routing.quiet
        ),
    ];
    if let Some(jwt) = &config.http.jwt {
        let key = jwt.key_file.display();
        lines.push(format!(
            "it would know tokens that are signed with {:?} by {key}",
            jwt.algorithm
        ));
    }
    if let Some(dns) = &config.dns {
        lines.push(format!("it would answer DNS for {} at {}", dns.zone, dns.listen));
    }
    if !config.overflow.clusters.is_empty() {
        let clusters = config.overflow.clusters.join(" and ");
        lines.push(format!("rooms that no node takes would be sent to {clusters}"));
    }
    if !config.webhooks.urls.is_empty() {
        let count = config.webhooks.urls.len();
        lines.push(format!("{count} webhooks would be told what happens to nodes and rooms"));
    }
    if let Some(federation) = &config.federation {
        let (name, parent) = (&federation.name, &federation.parent);
        lines.push(format!("it would be {name} in the cluster of {parent}"));
    }
    if let (Some(_), Some(path)) = (routing, &config.fleet.path) {
        lines.push(format!("a store without routing would be given that of {}", path.display()));
    }
    Ok(Report { lines, warnings })
}

fn lb(file: &Path) -> Result<Report, Error> {
    let (config, beginning) = lb::service::load(file)?;
    let mut warnings = config.warnings();
    let addresses: Vec<_> = config.listen.udp.iter().map(ToString::to_string).collect();
    let mut lines = vec![
        format!(
            "LB {} would forward datagrams sent to {} with {} workers (driver mmsg), to nodes from \
             {}",
            config.name,
            addresses.join(" and "),
            config.workers(),
            config.io.tunnel
        ),
        format!(
            "it would keep at most {} flows, idle ones for {:?}, and {} for an SNI label",
            config.limits.flows,
            config.limits.flow_idle,
            if config.quic.sni { "read ClientHellos" } else { "not read ClientHellos" },
        ),
        format!(
            "nat nodes would see at most {} ports of each IP version, for at most {} mappings",
            config.limits.nat_ports, config.limits.nat_mappings
        ),
        format!("health and metrics would be at http://{}", config.admin.listen),
    ];
    match beginning {
        lb::service::Beginning::File(begun) => {
            let (fleet_file, fleet, fleet_warnings) = *begun;
            let path = fleet_file.path().display();
            lines.push(format!("the fleet would be followed in {path}:"));
            lines.extend(describe(&fleet));
            warnings.extend(fleet_warnings);
        }
        lb::service::Beginning::Line(line) => {
            lines.push(format!("the fleet would be that of {}", line.name()));
        }
    }
    Ok(Report { lines, warnings })
}

fn describe(fleet: &Fleet) -> Vec<String> {
    let mut lines = Vec::new();
    for routing in &fleet.routing {
        let config = &routing.config;
        lines.push(format!(
            "routing configuration {}: IDs of {} bytes, server ID {} and nonce {}, {}; STUN {}",
            config.id(),
            config.cid_len(),
            config.server_id_len(),
            config.nonce_len(),
            if config.is_encrypted() { "encrypted" } else { "plain" },
            if routing.ice_key.is_some() { "is verified" } else { "is not verified" },
        ));
    }
    for node in &fleet.nodes {
        let serves = [(node.serves.ice, "ICE"), (node.serves.quic, "QUIC")];
        let serves: Vec<_> =
            serves.into_iter().filter_map(|(serves, name)| serves.then_some(name)).collect();
        lines.push(format!(
            "node {}: {} by {}, server ID {}, serves {}, weight {}, {}",
            node.id,
            node.address,
            match node.forward {
                control::fleet::Forward::Tunnel => "tunnel",
                control::fleet::Forward::Nat => "nat",
            },
            node.server_id.map_or_else(|| "none".to_owned(), |id| id.to_string()),
            if serves.is_empty() { "nothing new".to_owned() } else { serves.join(" and ") },
            node.weight,
            match node.state {
                State::Serving => "takes new sessions",
                State::Draining => "keeps its sessions, takes no new ones",
                State::Down => "is down",
            },
        ));
    }
    if !fleet.sessions.is_empty() {
        lines.push(format!("{} registered sessions", fleet.sessions.len()));
    }
    lines
}

struct Report {
    lines: Vec<String>,
    warnings: Vec<Warning>,
}

impl Report {
    fn print(&self, file: &Path, output: Option<Output>) {
        if output == Some(Output::Json) {
            let warnings: Vec<_> = self.warnings.iter().map(ToString::to_string).collect();
            let answer = json!({
                "file": file.display().to_string(),
                "valid": true,
                "would": self.lines,
                "warnings": warnings,
            });
            say(format_args!("{answer:#}"));
            return;
        }
        say(format_args!("{} is valid", file.display()));
        for line in &self.lines {
            say(format_args!("  {line}"));
        }
        for warning in &self.warnings {
            say(format_args!("  warning: {warning}"));
        }
    }
}
