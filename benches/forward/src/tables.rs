//! What large tables cost: memory of a million flows, and CPU per datagram with them, or with thousands of nodes.

use serde::Serialize;

use crate::{
    forwarder::{Driver, Forwarder, Lb, Mode, Running},
    load::{Load, Traffic},
    meter,
    place::Place,
    rows::{self, Absent, Plan},
    run::{self, Run},
};

/// Checks in a second that bind flows.
const CHECKS_PER_S: u64 = 150_000;

/// How often flows are bound before it is believed that some cannot be.
const ATTEMPTS: u64 = 6;

/// Share of the flows that must be there: a table's bound may make a few give way.
const BOUND_MIN: f64 = 0.999;

/// Bytes of memory that an LB has in use, by flows.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) forwarder: Forwarder,
    pub(crate) without_flows: u64,
    pub(crate) with_100_k: u64,
    /// In a quick run it is not filled so far.
    pub(crate) with_1_m: Option<u64>,
}

/// The same traffic through a small table and a large one.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Compared {
    pub(crate) what: &'static str,
    pub(crate) small: Run,
    pub(crate) large: Run,
    /// Most that the large may cost of the small.
    pub(crate) target: f64,
}

#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) memory: Vec<Memory>,
    pub(crate) compared: Vec<Compared>,
}

pub(crate) fn measure(place: &Place, plan: &Plan, absent: &mut Absent) -> Tables {
    let mut tables = Tables::default();
    for driver in [Driver::Mmsg, Driver::Uring] {
        let how = Lb::new(Mode::Tunnel, driver);
        let forwarder = Forwarder::Lb(how);
        if absent.has(forwarder) {
            continue;
        }
        if let Err(why) = forwarder.start(place, &Load::USUAL) {
            absent.note(forwarder, &why);
            continue;
        }
        if plan.wants(&format!("flows in memory: {forwarder}"))
            && let Err(why) = flows(place, plan, how, &mut tables)
        {
            println!("- flows in memory: {forwarder}: {why}");
        }
        if plan.wants(&format!("nodes configured: {forwarder}")) {
            match nodes(place, plan, how) {
                Ok(compared) => tables.compared.push(compared),
                Err(why) => println!("- nodes configured: {forwarder}: {why}"),
            }
        }
    }
    tables
}

fn flows(place: &Place, plan: &Plan, how: Lb, tables: &mut Tables) -> Result<(), String> {
    let forwarder = Forwarder::Lb(how);
    let small = Load { flows: 1_000, traffic: Traffic::Rtp, ..Load::USUAL };
    let large = Load { flows: 1_000_000, ..small };
    let mut running = forwarder.start(place, &small)?;
    let without_flows = resident(&running)?;
    bind(place, forwarder, &mut running, &small)?;
    let with_few = typical(place, plan, forwarder, &mut running, &small)?;
    bind(place, forwarder, &mut running, &Load { flows: 100_000, ..small })?;
    let with_100_k = resident(&running)?;
    if plan.quick {
        tables.memory.push(Memory { forwarder, without_flows, with_100_k, with_1_m: None });
        return Ok(());
    }
    bind(place, forwarder, &mut running, &large)?;
    let with_1_m = Some(resident(&running)?);
    tables.memory.push(Memory { forwarder, without_flows, with_100_k, with_1_m });
    let with_many = typical(place, plan, forwarder, &mut running, &small)?;
    let of_many = typical(place, plan, forwarder, &mut running, &large)?;
    let target = 1.3;
    for (what, large) in [
        ("1 M flows against 1 k, traffic of the same 1 k", with_many),
        ("1 M flows against 1 k, traffic of all", of_many),
    ] {
        tables.compared.push(Compared { what, small: with_few, large, target });
    }
    Ok(())
}

fn nodes(place: &Place, plan: &Plan, how: Lb) -> Result<Compared, String> {
    let load = Load { nodes: 10, ..Load::USUAL };
    let cost = |nodes| {
        let forwarder = Forwarder::Lb(Lb { nodes, ..how });
        let mut running = forwarder.start(place, &load)?;
        typical(place, plan, forwarder, &mut running, &load)
    };
    let what = "10,000 nodes configured against 10, traffic to 10";
    Ok(Compared { what, small: cost(10)?, large: cost(10_000)?, target: 1.05 })
}

/// Several rounds, the typical one of them.
fn typical(
    place: &Place,
    plan: &Plan,
    forwarder: Forwarder,
    running: &mut Running,
    load: &Load,
) -> Result<Run, String> {
    let mut one = || {
        let route = forwarder.route(load);
        run::measure_known(place, forwarder, running, load, route, plan.time())
    };
    let runs: Vec<_> = (0..plan.rounds()).map(|_| one()).collect::<Result<_, _>>()?;
    rows::typical_of(runs).ok_or_else(|| "no round".to_owned())
}

/// Has checks bind all flows of a load.
fn bind(
    place: &Place,
    forwarder: Forwarder,
    running: &mut Running,
    load: &Load,
) -> Result<(), String> {
    let checks = Load { traffic: Traffic::Checks, ..*load };
    let mut flows = 0;
    for _ in 0..ATTEMPTS {
        run::send_once(place, forwarder, &checks, 1, CHECKS_PER_S);
        flows = running.ask().ok_or("it does not answer")?.flows;
        if flows as f64 >= f64::from(load.flows) * BOUND_MIN {
            return Ok(());
        }
    }
    Err(format!("{flows} of {} flows are bound", load.flows))
}

fn resident(running: &Running) -> Result<u64, String> {
    let pid = running.pids.first().ok_or("no process")?;
    meter::resident(*pid).ok_or_else(|| "it has no memory".to_owned())
}
