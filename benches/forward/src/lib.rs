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
//! less. Arguments choose rows: `cargo bench -p forward -- "1200 B 100 flows tunnel" floor` measures those
//! whose name has all words of one of them. What is found goes to `target/bench-forward`, as text, JSON and plots;
//! with `ONEVIP_BENCH_DOCS=1` to `docs/bench`.

mod child;
mod floor;
mod forwarder;
mod generator;
mod latency;
mod load;
mod meter;
mod overload;
mod pace;
mod peers;
mod place;
mod plots;
mod report;
mod rows;
mod run;
mod sink;
mod spinning;
mod tables;
mod targets;

use std::{process::ExitCode, thread};

use clap::Parser;
use tokio::signal::{
    ctrl_c,
    unix::{SignalKind, signal},
};

use forwarder::Forwarder;
use load::Load;
use place::Place;
use report::{Machine, Part, Report};
use rows::{Absent, Plan};

/// What it costs to forward a datagram.
#[derive(Parser)]
struct Arguments {
    /// Only rows whose name has all words of one of these.
    rows: Vec<String>,
    /// Instead: an LB under twice the load that one core forwards, for so many minutes.
    #[arg(long, num_args = 0..=1, default_missing_value = "10", value_name = "MINUTES")]
    overload: Option<u64>,
    /// Said by cargo.
    #[arg(long, hide = true)]
    bench: bool,
    /// Be a forwarder: said by this program to another of itself.
    #[arg(long, hide = true)]
    be: Option<String>,
}

/// Measures what its arguments ask for, and says what came out.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(order) = arguments.be {
        child::be(&order);
        return ExitCode::SUCCESS;
    }
    let quick = std::env::var_os("ONEVIP_BENCH_QUICK").is_some();
    if report::for_docs() && (quick || !arguments.rows.is_empty()) {
        println!(
            "docs/bench has whole runs: ONEVIP_BENCH_DOCS goes with no rows and without ONEVIP_BENCH_QUICK"
        );
        return ExitCode::FAILURE;
    }
    clean_up_when_interrupted();
    let place = Place::new();
    let mut absent = Absent::default();
    if let Some(minutes) = arguments.overload {
        return overload::run(&place, minutes, &mut absent);
    }
    let plan = Plan { quick, wanted: arguments.rows };
    let report = measure(&place, &plan, &mut absent);
    println!("{}", report.text());
    match report.save() {
        Ok(directory) => {
            println!("Written to {}.", directory.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("Nothing is written: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(place: &Place, plan: &Plan, absent: &mut Absent) -> Report {
    let parts: Vec<_> = rows::groups(plan)
        .iter()
        .map(|group| Part { title: group.title, runs: rows::measure(place, plan, group, absent) })
        .collect();
    let floor = parts
        .iter()
        .flat_map(|part| &part.runs)
        .find(|run| run.forwarder == Forwarder::Floor && run.load == Load::USUAL)
        .and_then(|run| run.cpu_us);
    let latencies = latency::measure(place, plan, floor, absent);
    let tables = tables::measure(place, plan, absent);
    Report::new(Machine::this(plan.quick), absent, parts, latencies, tables)
}

/// Namespaces and processes outlive this one: whoever interrupts it wants them gone too.
fn clean_up_when_interrupted() {
    let wait = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let signals = async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hangup = signal(SignalKind::hangup())?;
            tokio::select! {
                interrupted = ctrl_c() => interrupted,
                _ = terminate.recv() => Ok(()),
                _ = hangup.recv() => Ok(()),
            }
        };
        if runtime.expect("a runtime").block_on(signals).is_ok() {
            peers::end_all(|| {
                place::remove(&place::names());
                std::process::exit(130);
            });
        }
    };
    thread::Builder::new().name("interrupted".to_owned()).spawn(wait).expect("a thread");
}
