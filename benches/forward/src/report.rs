//! What a run found, as text, as JSON and as plots.

use std::{
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use procfs::{CpuInfo, Current};
use serde::Serialize;

use crate::{
    forwarder::Forwarder,
    generator,
    latency::Latency,
    load::{Load, Shape, Way},
    plots,
    rows::Absent,
    run::Run,
    tables::{Compared, Memory, Tables},
    targets::{self, Target},
};

/// Where, on what and when.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    date: String,
    kernel: String,
    cpu: String,
    cores: usize,
    quick: bool,
}

impl Machine {
    pub(crate) fn this(quick: bool) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpus = CpuInfo::current().ok();
        let name = cpus.as_ref().and_then(|cpus| cpus.model_name(0)).unwrap_or("unknown");
        let now = UNIX_EPOCH + Duration::from_nanos(generator::now());
        Self {
            date: humantime::format_rfc3339_seconds(now).to_string(),
            kernel: kernel.trim().to_owned(),
            cpu: name.to_owned(),
            cores: cpus.map_or(1, |cpus| cpus.num_cores()),
            quick,
        }
    }
}

/// One part of the table.
#[derive(Serialize)]
pub(crate) struct Part {
    pub(crate) title: &'static str,
    pub(crate) runs: Vec<Run>,
}

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// What was not measured, and why.
    pub(crate) absent: Vec<String>,
    pub(crate) parts: Vec<Part>,
    pub(crate) latencies: Vec<Latency>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) compared: Vec<Compared>,
    pub(crate) targets: Vec<Target>,
}

impl Report {
    pub(crate) fn new(
        machine: Machine,
        absent: &Absent,
        parts: Vec<Part>,
        latencies: Vec<Latency>,
        tables: Tables,
    ) -> Self {
        let Tables { memory, compared } = tables;
        let runs: Vec<_> = parts.iter().flat_map(|part| &part.runs).copied().collect();
        let targets = targets::all(&runs, &latencies, &memory, &compared);
        let absent = absent.sentences().collect();
        Self { machine, absent, parts, latencies, memory, compared, targets }
    }

    /// All of it, as Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a string takes all");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Machine { date, kernel, cpu, cores, quick } = &self.machine;
        writeln!(text, "{HEAD}\n")?;
        writeln!(text, "Measured {date} on Linux {kernel}, {cores} cores of {cpu}.")?;
        if *quick {
            writeln!(text, "A quick run, which says little.")?;
        }
        if !self.absent.is_empty() {
            writeln!(text, "\nNot measured: {}.", self.absent.join("; "))?;
        }
        for part in self.parts.iter().filter(|part| !part.runs.is_empty()) {
            writeln!(text, "\n## {}", part.title)?;
            for same_load in part.runs.chunk_by(|one, other| one.load == other.load) {
                writeln!(text, "\n{}:\n\n{COLUMNS}", same_load[0].load)?;
                same_load.iter().try_for_each(|run| write_run(text, run, same_load))?;
            }
        }
        if !self.latencies.is_empty() {
            write_latencies(text, &self.latencies)?;
        }
        write_tables(text, &self.memory, &self.compared)?;
        if !self.targets.is_empty() {
            writeln!(
                text,
                "\n## Targets\n\n| what | target | measured | |\n| --- | --- | --- | --- |"
            )?;
        }
        for target in &self.targets {
            let met = if target.met() { "met" } else { "short" };
            let Target { what, at_most, measured, .. } = target;
            writeln!(text, "| {what} | ≤ {at_most} | {measured:.2} | {met} |")?;
        }
        Ok(())
    }

    /// Writes everything where it belongs; says where that is.
    pub(crate) fn save(&self) -> io::Result<PathBuf> {
        // This package is two folders below.
        let mut root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let root = root.nth(2).ok_or(io::ErrorKind::NotFound)?;
        let directory = if for_docs() { "docs/bench" } else { "target/bench-forward" };
        let directory = root.join(directory);
        fs::create_dir_all(&directory)?;
        let mut text = self.text();
        for (file, title) in plots::all(self, &directory).map_err(io::Error::other)? {
            text.push_str(&format!("\n![{title}]({file})\n"));
        }
        fs::write(directory.join("forward.md"), text)?;
        let json = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        fs::write(directory.join("forward.json"), json + "\n")?;
        Ok(directory)
    }
}

/// Whether what is found goes to the documentation.
pub(crate) fn for_docs() -> bool {
    std::env::var_os("ONEVIP_BENCH_DOCS").is_some()
}

const HEAD: &str = "# What forwarding costs

Written by `make bench-docs`, not by hand. Again: `make bench-docs` as root, some sixteen minutes; one row:
`cargo bench -p forward -- \"1200 130 singles tunnel\"`.

Clients, forwarder and nodes are in network namespaces of one machine, joined by veth. *CPU* is that of the
forwarder's processes for each datagram that arrived, with what the kernel does inside their system calls. *Whole
system* is everybody's, the kernel's deferred work (`ksoftirqd`) included; what it has over plain routing is what it
costs, or spares, to have that forwarder at all. It is left out where more than 1 % was lost. *One core* is what a
core carries by that CPU time; *busy* is how much of its core it took. *All it can*: as fast
as the generator sends, while a thread that only spins has an equal share of the forwarder's core. So half a core is
the bound, which forwards less than is sent; the forwarder never rests, and its batches are as deep as they get. There
*busy* and *kept waiting* are about a half each, and nothing is said of the whole system.
*Lost* says in brackets what the receiving end had no room for, where that is some (a train counts as one): no fault
of the forwarder. *Kept waiting* is for how much of the time others had its core while it could have run: where that
is not near 0 otherwise, the machine was not quiet, and losses and latencies say little.
*Depth* is datagrams that are taken between two looks for more, where that is counted: of the floor in a call, of
ours in a turn over all sockets. Each row is the typical one of several rounds over all forwarders.

The end where datagrams arrive looks for them twice in a millisecond and never waits at its socket, so that no
forwarder is charged for waking it up. A node sends what goes through the tunnel in trains of eight: eight clients'
datagrams, where they are said to be single. The floor takes up to 64 datagrams, or trains, in a call, waiting for the
first alone, and sends them in another; it has the buffers of ours (4 MiB), and so has nginx, which takes all there is
when it wakes (`multi_accept`). Flows that somebody keeps are there before they are measured.";

const COLUMNS: &str = "| forwarder | forwarded/s | lost | CPU, µs | to the floor | to nginx | one core, k/s | busy | kept waiting | depth | whole system, µs | over routing, µs |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

fn write_run(text: &mut String, run: &Run, same_load: &[Run]) -> std::fmt::Result {
    let beside = |forwarder: Forwarder| same_load.iter().find(|other| other.forwarder == forwarder);
    let to = |forwarder| {
        let other = beside(forwarder)?;
        Some(run.cpu_us? / other.cpu_us?)
    };
    let over = beside(Forwarder::Routing)
        .and_then(|routing| Some(run.system_us? - routing.system_us?))
        .filter(|_| run.forwarder != Forwarder::Routing);
    writeln!(
        text,
        "| {} | {:.0} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        run.forwarder,
        run.forwarded_per_s,
        lost(run),
        number(run.cpu_us),
        number(to(Forwarder::Floor)),
        number(to(Forwarder::Nginx)),
        run.cpu_us.map_or("–".to_owned(), |cpu| format!("{:.0}", 1e3 / cpu)),
        number(run.busy),
        number(run.kept_waiting),
        run.depth.map_or("–".to_owned(), |depth| format!("{depth:.1}")),
        number(run.system_us),
        over.map_or("–".to_owned(), |over| format!("{over:+.2}")),
    )
}

fn lost(run: &Run) -> String {
    let (all, at_end) = (100.0 * run.lost, 100.0 * run.lost_at_end);
    if at_end < 0.05 {
        return format!("{all:.1} %");
    }
    format!("{all:.1} % (at the end {at_end:.1})")
}

fn number(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.2}"))
}

fn write_latencies(text: &mut String, latencies: &[Latency]) -> std::fmt::Result {
    let routing = latencies.iter().find(|latency| latency.forwarder == Forwarder::Routing);
    let rate = latencies.first().and_then(|latency| latency.load.rate).unwrap_or_default();
    writeln!(
        text,
        "\n## Latency at half of what the floor forwards\n\n\
         {rate}/s, one at a time, from before it is sent to when it is at the node's socket, in µs; and in brackets \
         what that is over plain routing. What was lost is in none of it. Of several rounds the one with the least \
         p99: others on the machine delay, and never hasten.\n\n\
         | forwarder | p50 | p99 | p99.9 | lost | kept waiting |\n| --- | --- | --- | --- | --- | --- |"
    )?;
    for latency in latencies {
        let with_added = |of: fn(&Latency) -> f64| match routing {
            Some(routing) => format!("{:.1} ({:+.1})", of(latency), of(latency) - of(routing)),
            None => format!("{:.1}", of(latency)),
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {:.1} % | {} |",
            latency.forwarder,
            with_added(|latency| latency.p50_us),
            with_added(|latency| latency.p99_us),
            with_added(|latency| latency.p999_us),
            100.0 * latency.lost,
            number(latency.kept_waiting),
        )?;
    }
    Ok(())
}

fn write_tables(text: &mut String, memory: &[Memory], compared: &[Compared]) -> std::fmt::Result {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    if !memory.is_empty() {
        writeln!(
            text,
            "\n## Memory\n\nResident, by flows that STUN checks bound; `limits.flows` is 1 M.\n\n\
             | forwarder | no flow, MiB | 100 k, MiB | 1 M, MiB | bytes of a flow |\n\
             | --- | --- | --- | --- | --- |"
        )?;
    }
    for memory in memory {
        let most = memory.with_1_m.unwrap_or(memory.with_100_k);
        let flows = if memory.with_1_m.is_some() { 1e6 } else { 1e5 };
        writeln!(
            text,
            "| {} | {:.1} | {:.1} | {} | {:.0} |",
            memory.forwarder,
            mib(memory.without_flows),
            mib(memory.with_100_k),
            memory.with_1_m.map_or("–".to_owned(), |bytes| format!("{:.1}", mib(bytes))),
            most.saturating_sub(memory.without_flows) as f64 / flows,
        )?;
    }
    if !compared.is_empty() {
        writeln!(
            text,
            "\n## Small tables and large\n\n| what | forwarder | CPU, µs: small | large | ratio |\n\
             | --- | --- | --- | --- | --- |"
        )?;
    }
    for Compared { what, small, large, .. } in compared {
        let ratio = large.cost() / small.cost();
        let (few, many, who) = (small.cost(), large.cost(), small.forwarder);
        writeln!(text, "| {what} | {who} | {few:.2} | {many:.2} | {ratio:.2} |")?;
    }
    Ok(())
}

/// Whether a load is of single datagrams of the usual kind, that way.
pub(crate) fn is_usual(load: &Load, way: Way, shape: Shape) -> bool {
    *load == Load { way, shape, rate: load.rate, ..Load::USUAL }
}
