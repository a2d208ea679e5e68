//! A process of this bench that forwards: an LB, or the floor.

use std::{
    io::{self, BufRead, Write},
    sync::Arc,
    thread,
};

use control::fleet::Fleet;
use kit::{FleetText, Node};
use lb::{
    Config, DropReason, LoadBalancer,
    counters::{ClassLabel, Direction, TableLabel},
};

use crate::{
    floor::{self, Depth},
    forwarder::{Driver, Forwarder, Lb, Mode, Order, READY, Told},
    load::{Load, PLAIN, VERIFIED, server_id},
    place::{self, OUT, VIP},
};

/// Does what it is told until its input ends.
pub(crate) fn be(order: &str) {
    let Order { forwarder, load } = serde_json::from_str(order).expect("as it was written");
    match forwarder {
        Forwarder::Lb(how) => match start(how, &load) {
            Ok(lb) => answer(|| of_lb(&lb)),
            Err(refusal) => println!("{refusal}"),
        },
        Forwarder::Floor | Forwarder::FloorTrains => {
            let depth = Arc::new(Depth::default());
            let counted = depth.clone();
            let trains = forwarder == Forwarder::FloorTrains;
            let sockets = floor::sockets(&load);
            let forward = move || floor::forward(&sockets, &load, &counted, trains);
            thread::Builder::new().name("floor".to_owned()).spawn(forward).expect("a thread");
            answer(|| depth.told());
        }
        other => println!("{other} is none of ours"),
    }
}

/// Says that it forwards, and then what it has counted, as often as it is asked.
fn answer(told: impl Fn() -> Told) {
    let mut out = io::stdout().lock();
    // Whoever asked may be gone.
    let _asker_left = writeln!(out, "{READY}").and_then(|()| out.flush());
    for _question in io::stdin().lock().lines() {
        let told = serde_json::to_string(&told()).expect("plain data");
        let _asker_left = writeln!(out, "{told}").and_then(|()| out.flush());
    }
}

/// By the configuration file that an operator would write, which also tells whether there is such a driver.
fn start(how: Lb, load: &Load) -> Result<LoadBalancer, String> {
    let driver = match how.driver {
        Driver::Mmsg => "mmsg",
        Driver::Uring => "uring",
    };
    let window = if how.window { "" } else { "batch_window = \"0\"\n" };
    let ports = 1_024.max(load.flows * 5 / 4).min(60_000);
    let text = format!(
        "[listen]\nudp = [\"{VIP}\"]\n\
         [io]\ndriver = \"{driver}\"\nworkers = 1\ntunnel = \"{OUT}\"\n{window}\
         [limits]\nflows = {}\nflow_idle = \"30m\"\nnat_ports = {ports}\n",
        how.flows_max
    );
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = directory.path().join("lb.toml");
    std::fs::write(&file, text).map_err(|error| error.to_string())?;
    // The file's name says nothing to whoever reads the refusal.
    let config = Config::read(&file).map_err(|error| {
        let name = format!("{}: ", file.display());
        error.to_string().replace(&name, "")
    })?;
    LoadBalancer::start(&config, fleet(how)).map_err(|error| error.to_string())
}

fn fleet(how: Lb) -> Fleet {
    let text = (0..how.nodes).fold(FleetText::new(&[PLAIN, VERIFIED]), |text, number| {
        let node = Node::new(&format!("sfu-{number}"), place::any(place::node(number)));
        let node = node.server_id(&server_id(number));
        text.node(match how.mode {
            Mode::Tunnel => node,
            Mode::Nat => node.forward("nat"),
        })
    });
    Fleet::parse("fleet.toml".as_ref(), &text.to_string()).expect("valid").0
}

fn of_lb(lb: &LoadBalancer) -> Told {
    let mut told = Told::default();
    for counters in lb.counters() {
        for (direction, class) in Direction::ALL
            .iter()
            .flat_map(|direction| ClassLabel::ALL.iter().map(move |class| (*direction, *class)))
        {
            told.received += counters.datagrams(direction, class).value();
        }
        *told.receive_calls.get_or_insert_default() += counters.batches().value();
        told.dropped +=
            DropReason::ALL.iter().map(|reason| counters.drops(*reason).value()).sum::<u64>();
        told.flows += counters.entries(TableLabel::Flows).value();
    }
    told
}
