//! What forwarding is meant to cost, beside what was measured.

use serde::Serialize;

use crate::{
    forwarder::{Driver, Forwarder, Lb, Mode},
    latency::Latency,
    load::{Load, Shape, Way},
    run::Run,
    tables::{Compared, Memory},
};

/// One of them. Which way it went is never corrected by hand.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) at_most: f64,
    pub(crate) measured: f64,
    pub(crate) met: bool,
}

impl Target {
    fn new(what: String, at_most: f64, measured: f64) -> Self {
        Self { what, at_most, measured, met: measured <= at_most }
    }

    pub(crate) const fn met(&self) -> bool {
        self.met
    }
}

/// The window's default, in microseconds.
const WINDOW_US: f64 = 50.0;

/// Those for which there are measurements.
pub(crate) fn all(
    runs: &[Run],
    latencies: &[Latency],
    memory: &[Memory],
    compared: &[Compared],
) -> Vec<Target> {
    let mut targets = Vec::new();
    for driver in [Driver::Mmsg, Driver::Uring] {
        of_runs(runs, driver, &mut targets);
        of_latencies(latencies, driver, &mut targets);
    }
    for compared in compared {
        let what = format!("{}: {}", compared.small.forwarder, compared.what);
        let ratio = compared.large.cost() / compared.small.cost();
        targets.push(Target::new(what, compared.target, ratio));
    }
    for memory in memory {
        if let Some(bytes) = memory.with_1_m {
            let what = format!("{}: MB resident with 1 M flows", memory.forwarder);
            targets.push(Target::new(what, 120.0, bytes as f64 / 1e6));
        }
    }
    targets
}

fn of_runs(runs: &[Run], driver: Driver, targets: &mut Vec<Target>) {
    use Forwarder::{Floor, Nginx, Quilkin, Routing};
    let find = |forwarder, load: &Load| {
        runs.iter().find(|run| run.forwarder == forwarder && run.load == *load)
    };
    let cpu = |forwarder, load: &Load| find(forwarder, load)?.cpu_us;
    let tunnel = Forwarder::Lb(Lb::new(Mode::Tunnel, driver));
    let nat = Forwarder::Lb(Lb::new(Mode::Nat, driver));
    let mut compare = |ours: Forwarder, load: &Load, other: Forwarder, others: &Load, most| {
        if let (Some(cost), Some(beside)) = (cpu(ours, load), cpu(other, others)) {
            let what = format!("{ours}: {load}: CPU to {other}");
            let what = if load == others { what } else { format!("{what}, {others}") };
            targets.push(Target::new(what, most, cost / beside));
        }
    };
    for rate in [Some(130_000), None] {
        let to_node = Load { rate, ..Load::USUAL };
        let to_clients = Load { way: Way::ToClients, ..to_node };
        let as_trains = |load: Load| Load { shape: Shape::Trains, ..load };
        compare(tunnel, &to_node, Floor, &to_node, 0.45);
        compare(tunnel, &to_node, Nginx, &to_node, 0.22);
        compare(tunnel, &to_node, Quilkin, &to_node, 0.1);
        compare(tunnel, &as_trains(to_node), Floor, &to_node, 0.2);
        compare(tunnel, &to_clients, Floor, &to_clients, 0.8);
        compare(tunnel, &as_trains(to_clients), Floor, &to_clients, 0.25);
        for load in [to_node, to_clients] {
            compare(nat, &load, Floor, &load, 1.1);
            compare(nat, &load, Nginx, &load, 0.6);
        }
    }
    let load = Load { rate: Some(130_000), ..Load::USUAL };
    let system = |forwarder| find(forwarder, &load)?.system_us;
    if let (Some(ours), Some(routing)) = (system(tunnel), system(Routing)) {
        let what = format!("{tunnel}: {load}: whole-system CPU to plain routing");
        targets.push(Target::new(what, 1.0, ours / routing));
    }
}

fn of_latencies(latencies: &[Latency], driver: Driver, targets: &mut Vec<Target>) {
    let find = |forwarder| latencies.iter().find(|latency| latency.forwarder == forwarder);
    let ours = |window| find(Forwarder::Lb(Lb { window, ..Lb::new(Mode::Tunnel, driver) }));
    let (Some(routing), Some(floor)) = (find(Forwarder::Routing), find(Forwarder::Floor)) else {
        return;
    };
    for (name, of, ratio) in [
        ("p50", (|latency| latency.p50_us) as fn(&Latency) -> f64, 1.2),
        ("p99", |latency| latency.p99_us, 1.5),
    ] {
        let added = |latency: &Latency| of(latency) - of(routing);
        if let Some(at_once) = ours(false) {
            let what = format!("{}: latency added, {name}, to the floor's", at_once.forwarder);
            targets.push(Target::new(what, ratio, added(at_once) / added(floor)));
        }
        if let Some(waiting) = ours(true) {
            let what = format!("{}: latency added, {name}, µs", waiting.forwarder);
            targets.push(Target::new(what, WINDOW_US + 50.0, added(waiting)));
        }
    }
}
