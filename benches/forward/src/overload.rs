//! What becomes of an LB that is sent twice what one core forwards, for minutes: whether it lives, how much memory
//! it takes, how fair its losses are, and how long they go on once the load has gone.

use std::{
    hint,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    forwarder::{Driver, Forwarder, Lb, Mode},
    load::{self, Load, Traffic, Way},
    meter,
    place::{Place, Seat},
    rows::Absent,
    run::{self, Flowing, flow},
    sink::Sink,
};

/// Most that memory may grow after the first minute.
const GROWTH_MAX: f64 = 0.10;

/// When memory has settled.
const SETTLED: Duration = Duration::from_secs(60);

/// Most time that losses may go on after the load's end.
const RECOVERY_MAX: Duration = Duration::from_secs(1);

/// How long it is watched for them.
const WATCHED: Duration = Duration::from_secs(10);

/// Runs it under each driver there is.
pub(crate) fn run(place: &Place, minutes: u64, absent: &mut Absent) -> ExitCode {
    let mut verdicts = Vec::new();
    for driver in [Driver::Mmsg, Driver::Uring] {
        let forwarder = Forwarder::Lb(Lb::new(Mode::Tunnel, driver));
        if let Err(why) = forwarder.start(place, &Load::USUAL) {
            absent.note(forwarder, &why);
            continue;
        }
        println!("## Overload, {minutes} min: {forwarder}\n");
        match one(place, forwarder, Duration::from_secs(60 * minutes)) {
            Ok(verdict) => verdicts.push(verdict),
            Err(why) => {
                println!("- {why}\n");
                verdicts.push(false);
            }
        }
    }
    let passed = !verdicts.is_empty() && verdicts.into_iter().all(|passed| passed);
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How much of what a generator could send at most is asked of it.
const CAREFUL: f64 = 0.9;

/// Threads that take the LB's core from it, each an equal share, where nobody here can send twice as much as the
/// whole of it forwards.
struct Spinning {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Spinning {
    fn new(place: &Place, count: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spin = |_| {
            let stop = stop.clone();
            place.inside(Seat::Forwarder, "spinner", move || {
                while !stop.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            })
        };
        let threads = (0..count).map(spin).collect();
        Self { stop, threads }
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

/// What the nodes' end knows of each flow, and when it last found one missing.
struct Seen {
    arrived: Vec<u32>,
    newest: Vec<u32>,
    begin: Instant,
    /// Microseconds after the beginning.
    last_gap: Arc<AtomicU64>,
}

impl Seen {
    fn new(flows: u32, begin: Instant, last_gap: Arc<AtomicU64>) -> Self {
        let zeros = vec![0; flows as usize];
        Self { arrived: zeros.clone(), newest: zeros, begin, last_gap }
    }

    fn see(&mut self, flow: u32, number: u32) {
        let at = flow as usize;
        let (Some(arrived), Some(newest)) = (self.arrived.get_mut(at), self.newest.get_mut(at))
        else {
            return;
        };
        *arrived += 1;
        if number != *newest + 1 {
            let now = u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.last_gap.store(now, Ordering::Relaxed);
        }
        *newest = number.max(*newest);
    }
}

fn one(place: &Place, forwarder: Forwarder, time: Duration) -> Result<bool, String> {
    let load = Load { flows: 1_000, traffic: Traffic::Mix, ..Load::USUAL };
    let mut running = forwarder.start(place, &load)?;
    let alone = run::measure(place, forwarder, &mut running, &load, Duration::from_secs(2))?;
    let one_core = alone.cpu_us.map_or(alone.forwarded_per_s, |cpu| 1e6 / cpu);
    let others = (2.0 * one_core / (CAREFUL * alone.sent_per_s)).ceil().max(1.0) - 1.0;
    let rate = load::whole(2.0 * one_core / (others + 1.0));
    println!(
        "- one core forwards {one_core:.0}/s of this mix, and {:.0}/s can be sent",
        alone.sent_per_s
    );
    println!("- {others} threads that only spin are on its core too; it is sent {rate}/s");
    let _spinning = Spinning::new(place, load::whole(others));
    let load = Load { rate: Some(rate), ..load };
    let begin = Instant::now();
    let last_gap = Arc::new(AtomicU64::new(0));
    let seen = Arc::new(Mutex::new(Seen::new(load.flows, begin, last_gap.clone())));
    let flowing = flow(place, &load, forwarder.route(&load), false, {
        let seen = seen.clone();
        move |arriving| {
            let mut seen = seen.lock().expect("nobody panicked");
            Sink::new(Way::ToNode)
                .look(arriving, |trailer, _| seen.see(trailer.flow, trailer.number));
        }
    });
    let pid = *running.pids.first().ok_or("no process")?;
    let refused =
        || [Seat::Forwarder, Seat::Nodes].map(|seat| meter::refused_by_sockets(place, seat));
    let refused_before = refused();
    let (mut alive, mut settled, mut most) = (true, None, 0);
    let settled_after = SETTLED.min(time / 2);
    while alive && begin.elapsed() < time {
        thread::sleep(Duration::from_secs(1));
        alive = running.is_alive();
        let Some(bytes) = meter::resident(pid) else { continue };
        if begin.elapsed() < settled_after {
            continue;
        }
        settled = settled.or(Some(bytes));
        most = most.max(bytes);
    }
    let offered =
        flowing.sending.sent.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    let forwarded =
        flowing.arriving.arrived.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    flowing.sending.rate.store(rate / 10, Ordering::Relaxed);
    let fell = begin.elapsed();
    let recovery = recovery(begin, fell, &last_gap);
    let dropped = running.ask().map(|told| told.dropped);
    alive &= running.is_alive();
    let Flowing { sending, arriving, .. } = &flowing;
    let (sending, arriving) = (sending.clone(), arriving.clone());
    let sent = flowing.stop();
    let missing = sending.sent.load(Ordering::Relaxed) - arriving.arrived.load(Ordering::Relaxed);
    let refused_after = refused();
    let [by_lb, by_nodes] = [0, 1].map(|at: usize| refused_after[at] - refused_before[at]);
    let seen = seen.lock().expect("nobody panicked");
    let (jain, least, greatest) = fairness(&sent, &seen.arrived);
    let growth = settled.map_or(0.0, |settled| most as f64 / settled as f64 - 1.0);
    let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "- sent {offered:.0}/s, {:.1} times what was forwarded: {forwarded:.0}/s",
        offered / forwarded
    );
    println!(
        "- {missing} did not arrive: the LB's sockets had no room for {by_lb}, the LB dropped {}, the node's \
         socket had no room for {by_nodes}",
        dropped.map_or("?".to_owned(), |dropped| dropped.to_string())
    );
    println!(
        "- memory: {:.1} MiB after {} s, then {:.1} MiB at most ({:+.1} %, allowed {:+.0} %)",
        megabytes(settled.unwrap_or_default()),
        settled_after.as_secs(),
        megabytes(most),
        100.0 * growth,
        100.0 * GROWTH_MAX
    );
    println!(
        "- share of its datagrams that a flow gets through: {least:.3} to {greatest:.3}, Jain's index {jain:.4}"
    );
    match recovery {
        Some(recovery) => println!(
            "- losses end {} ms after the load has fallen to a tenth (allowed {})",
            recovery.as_millis(),
            RECOVERY_MAX.as_millis()
        ),
        None => println!("- losses do not end within {} s", WATCHED.as_secs()),
    }
    println!("- it {}\n", if alive { "lives" } else { "died" });
    let recovered = recovery.is_some_and(|recovery| recovery <= RECOVERY_MAX);
    Ok(alive && growth <= GROWTH_MAX && recovered)
}

/// How long after the load fell something was last missing; `None` if no second goes by without a loss.
fn recovery(begin: Instant, fell: Duration, last_gap: &AtomicU64) -> Option<Duration> {
    while begin.elapsed() < fell + WATCHED {
        thread::sleep(Duration::from_millis(50));
        let last = Duration::from_micros(last_gap.load(Ordering::Relaxed)).max(fell);
        if begin.elapsed() > last + Duration::from_secs(1) {
            return Some(last - fell);
        }
    }
    None
}

/// Jain's index of the shares that flows get of what they sent (1: all the same), the least and the greatest share.
fn fairness(sent: &[u32], arrived: &[u32]) -> (f64, f64, f64) {
    let shares: Vec<_> = sent
        .iter()
        .zip(arrived)
        .filter(|(sent, _)| **sent > 0)
        .map(|(sent, arrived)| f64::from(*arrived) / f64::from(*sent))
        .collect();
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    let jain = sum * sum / (shares.len() as f64 * squares).max(f64::MIN_POSITIVE);
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = shares.iter().copied().fold(0.0, f64::max);
    (jain, least, greatest)
}
