//! Which loads go through which forwarders.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use crate::{
    forwarder::{Driver, Forwarder, Lb, Mode},
    load::{Load, Shape, Traffic, Way},
    place::Place,
    run::{self, Run},
};

/// How much is measured, and how long.
pub(crate) struct Plan {
    pub(crate) quick: bool,
    /// Only rows whose name has all words of one of these; all, if there is none.
    pub(crate) wanted: Vec<String>,
}

impl Plan {
    pub(crate) fn wants(&self, name: &str) -> bool {
        let words = |text: &str| -> BTreeSet<String> {
            text.split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect()
        };
        let name = words(name);
        let all_words = |wanted: &String| words(wanted.trim()).is_subset(&name);
        self.wanted.is_empty() || self.wanted.iter().any(all_words)
    }

    pub(crate) const fn rounds(&self) -> usize {
        if self.quick { 1 } else { 3 }
    }

    pub(crate) const fn time(&self) -> Duration {
        Duration::from_millis(if self.quick { 400 } else { 1_200 })
    }
}

/// Loads that are compared with each other, and who forwards them.
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) loads: Vec<Load>,
    pub(crate) forwarders: Vec<Forwarder>,
}

const DRIVERS: [Driver; 2] = [Driver::Mmsg, Driver::Uring];

/// Ours, under each driver.
fn ours(mode: Mode) -> impl Iterator<Item = Forwarder> {
    DRIVERS.into_iter().map(move |driver| Forwarder::Lb(Lb::new(mode, driver)))
}

fn without_window() -> impl Iterator<Item = Forwarder> {
    DRIVERS
        .into_iter()
        .map(|driver| Forwarder::Lb(Lb { window: false, ..Lb::new(Mode::Tunnel, driver) }))
}

/// All, in the order in which they are measured.
pub(crate) fn groups(plan: &Plan) -> Vec<Group> {
    use Forwarder::{Floor, FloorTrains, Nft, Nginx, Quilkin, Routing};
    let rates = |rates: &[Option<u64>], load: Load| -> Vec<_> {
        let rates = rates.iter().filter(|rate| !plan.quick || rate.is_none());
        rates.map(|&rate| Load { rate, ..load }).collect()
    };
    let usual = Load::USUAL;
    let trains = Load { shape: Shape::Trains, ..usual };
    let back = Load { way: Way::ToClients, ..usual };
    let back_trains = Load { way: Way::ToClients, ..trains };
    let others = [Routing, Nft, Floor, Nginx, Quilkin];
    let few = [Floor, Nginx];
    let both = || ours(Mode::Tunnel).chain(ours(Mode::Nat));
    let busy = &[Some(130_000), None];
    let sizes =
        [Load { bytes: 200, ..usual }, Load { flows: 1, ..usual }, Load { flows: 10_000, ..usual }];
    let mix = Load { traffic: Traffic::Mix, ..usual };
    vec![
        Group {
            title: "Clients to node, single datagrams",
            loads: rates(&[Some(20_000), Some(130_000), None], usual),
            forwarders: others.into_iter().chain(without_window()).chain(both()).collect(),
        },
        Group {
            title: "Clients to node, trains of 8",
            loads: rates(busy, trains),
            forwarders: others.into_iter().chain([FloorTrains]).chain(both()).collect(),
        },
        Group {
            title: "Node to clients, single datagrams",
            loads: rates(busy, back),
            forwarders: others.into_iter().chain(both()).collect(),
        },
        Group {
            title: "Node to clients, trains of 8",
            loads: rates(busy, back_trains),
            forwarders: others.into_iter().chain([FloorTrains]).chain(both()).collect(),
        },
        Group {
            title: "Other sizes and other numbers of flows",
            loads: sizes.into(),
            forwarders: few.into_iter().chain(both()).collect(),
        },
        Group {
            title: "STUN, DTLS, SRTP and QUIC, mixed",
            loads: rates(busy, mix),
            forwarders: [Floor].into_iter().chain(both()).collect(),
        },
    ]
}

/// What is not on this machine, and why: said once.
#[derive(Default)]
pub(crate) struct Absent(BTreeMap<String, String>);

impl Absent {
    /// Says that a forwarder is left out from now on.
    pub(crate) fn note(&mut self, forwarder: Forwarder, why: &str) {
        let needs = forwarder.needs();
        if let Entry::Vacant(vacant) = self.0.entry(needs) {
            println!("- {} is left out: {why}", vacant.key());
            vacant.insert(why.to_owned());
        }
    }

    /// Whether it is.
    pub(crate) fn has(&self, forwarder: Forwarder) -> bool {
        self.0.contains_key(&forwarder.needs())
    }

    /// Each with its reason.
    pub(crate) fn sentences(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(what, why)| format!("{what}: {why}"))
    }
}

/// Measures what a plan wants of a group. Rounds go over all forwarders before the next begins: what is slow for a
/// while is slow for all of them.
pub(crate) fn measure(place: &Place, plan: &Plan, group: &Group, absent: &mut Absent) -> Vec<Run> {
    let mut typical = Vec::new();
    for load in &group.loads {
        let mut all = Vec::new();
        for _ in 0..plan.rounds() {
            for &forwarder in &group.forwarders {
                let name = forwarder.to_string();
                if !plan.wants(&format!("{load}: {name}")) || absent.has(forwarder) {
                    continue;
                }
                let mut running = match forwarder.start(place, load) {
                    Ok(running) => running,
                    Err(why) => {
                        absent.note(forwarder, &why);
                        continue;
                    }
                };
                match run::measure(place, forwarder, &mut running, load, plan.time()) {
                    Ok(run) => {
                        // For whoever waits: the table comes at the end.
                        eprintln!("{load}: {name}: {:.2} \u{b5}s", run.cost());
                        all.push(run);
                    }
                    Err(why) => println!("- {load}: {name}: {why}"),
                }
            }
        }
        let of = |forwarder: &Forwarder| {
            typical_of(all.iter().filter(|run| run.forwarder == *forwarder).copied().collect())
        };
        typical.extend(group.forwarders.iter().filter_map(of));
    }
    typical
}

/// The median by what it cost, of those at their rate if there are any: others on the machine make a run
/// dearer, or, where batches get deeper by that, cheaper.
pub(crate) fn typical_of(mut runs: Vec<Run>) -> Option<Run> {
    if runs.iter().any(Run::is_at_its_rate) {
        runs.retain(Run::is_at_its_rate);
    }
    runs.sort_by(|one, other| one.cost().total_cmp(&other.cost()));
    runs.get(runs.len() / 2).copied()
}
