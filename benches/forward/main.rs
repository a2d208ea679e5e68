//! What it costs to forward a datagram, system calls and all, beside the least it can cost (the floor), beside
//! other people's forwarders, and beside the kernel's routing without any, in one run.
//!
//! ```text
//! namespace gen               namespace lb                namespace node
//!   clients ───── veth ─── forwarder, a process ─── veth ───── nodes
//!   core 0                      core 1                core 0, or 2 if there is
//! ```
//!
//! Makes network namespaces, which takes root. `ONEVIP_BENCH_QUICK=1` takes a small part of the time and says
//! less. Arguments choose rows: `cargo bench --bench forward -- "1200 B 100 flows tunnel" floor` measures those
//! whose name has all words of one of them.

mod child;
mod floor;
mod forwarder;
mod generator;
mod load;
mod meter;
mod peers;
mod place;
mod run;
mod sink;

use std::time::Duration;

use clap::Parser;

use forwarder::{Driver, Forwarder, Lb, Mode};
use load::Load;
use place::Place;

/// What it costs to forward a datagram.
#[derive(Parser)]
struct Arguments {
    /// Only rows whose name has all words of one of these.
    rows: Vec<String>,
    /// Said by cargo.
    #[arg(long, hide = true)]
    bench: bool,
    /// Be a forwarder: said by this program to another of itself.
    #[arg(long, hide = true)]
    be: Option<String>,
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(order) = arguments.be {
        return child::be(&order);
    }
    let place = Place::new();
    let all = [
        Forwarder::Routing,
        Forwarder::Nft,
        Forwarder::Floor,
        Forwarder::FloorTrains,
        Forwarder::Nginx,
        Forwarder::Quilkin,
        Forwarder::Lb(Lb { window: false, ..Lb::new(Mode::Tunnel, Driver::Mmsg) }),
        Forwarder::Lb(Lb::new(Mode::Tunnel, Driver::Mmsg)),
        Forwarder::Lb(Lb::new(Mode::Tunnel, Driver::Uring)),
        Forwarder::Lb(Lb::new(Mode::Nat, Driver::Mmsg)),
    ];
    for rate in [Some(20_000), Some(130_000), None] {
        for way in [load::Way::ToNode, load::Way::ToClients] {
            for shape in [load::Shape::Singles, load::Shape::Trains] {
                let load = Load { way, shape, rate, ..Load::USUAL };
                for forwarder in all {
                    let name = format!("{load}: {forwarder}");
                    if !arguments.rows.is_empty()
                        && !arguments.rows.iter().any(|r| r.split(' ').all(|w| name.contains(w)))
                    {
                        continue;
                    }
                    let run = forwarder.start(&place, &load).and_then(|mut running| {
                        run::measure(&place, forwarder, &mut running, &load, Duration::from_secs(1))
                    });
                    match run {
                        Ok(run) => println!(
                            "{name}: sent {:.0} fwd {:.0} lost {:.3} cpu {:?} sys {:?} busy {:?} depth {:?}",
                            run.sent_per_s,
                            run.forwarded_per_s,
                            run.lost,
                            run.cpu_us,
                            run.system_us,
                            run.busy,
                            run.depth
                        ),
                        Err(problem) => println!("{name}: {problem}"),
                    }
                }
            }
        }
    }
}
