//! What becomes of an LB that is sent twice what one core forwards, for minutes: whether it lives, how much memory
//! it takes, how fair its losses are, and how long they go on once the load has gone.

mod outcome;

use std::{
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use outcome::{Outcome, Shares};

use crate::{
    forwarder::{Driver, Forwarder, Lb, Mode, Running},
    load::{self, Load, Traffic, Way},
    meter,
    place::{Place, Seat},
    rows::Absent,
    run::{self, Flowing, flow},
    sink::Sink,
    spinning::Spinning,
};

/// When memory has settled.
const SETTLED: Duration = Duration::from_secs(60);

/// How long losses are watched for.
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
    let watching = Watching { place, running: &mut running, flowing, begin, last_gap: &last_gap };
    let outcome = watching.until(time, rate);
    let seen = seen.lock().expect("nobody panicked");
    let outcome = outcome.map(|(outcome, sent)| outcome.with_shares(&sent, &seen.arrived))?;
    println!("{outcome}");
    Ok(outcome.is_good())
}

/// An LB under load, and how it bears that.
struct Watching<'a> {
    place: &'a Place,
    running: &'a mut Running,
    flowing: Flowing,
    begin: Instant,
    last_gap: &'a AtomicU64,
}

impl Watching<'_> {
    /// Watches for a while, and how it recovers when a tenth of the rate is left. Says how many each flow sent,
    /// too.
    fn until(mut self, time: Duration, rate: u64) -> Result<(Outcome, Vec<u32>), String> {
        let before = self.counts();
        let settled_after = SETTLED.min(time / 2);
        let memory = self.memory(time, settled_after);
        let per_s = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let took = self.begin.elapsed().as_secs_f64();
        let offered = per_s(&self.flowing.sending.sent) / took;
        let forwarded = per_s(&self.flowing.arriving.arrived) / took;
        self.flowing.sending.rate.store(rate / 10, Ordering::Relaxed);
        let recovery = recovery(self.begin, self.begin.elapsed(), self.last_gap);
        let is_alive = self.running.is_alive();
        let (sending, arriving) = (self.flowing.sending.clone(), self.flowing.arriving.clone());
        let after = self.counts();
        let sent = self.flowing.stop();
        let missing =
            sending.sent.load(Ordering::Relaxed) - arriving.arrived.load(Ordering::Relaxed);
        let [by_lb, dropped, by_nodes] = [0, 1, 2].map(|at: usize| after[at] - before[at]);
        let (settled, most) = memory.ok_or("its memory cannot be read")?;
        let shares = Shares::default();
        let outcome = Outcome {
            is_alive,
            offered,
            forwarded,
            missing,
            by_lb,
            dropped,
            by_nodes,
            settled_after,
            settled,
            most,
            recovery,
            shares,
        };
        Ok((outcome, sent))
    }

    /// What the LB's sockets had no room for, what it dropped itself, and what the nodes' socket had no room for.
    fn counts(&mut self) -> [u64; 3] {
        let refused = |seat| meter::refused_by_sockets(self.place, seat);
        let [by_lb, by_nodes] = [Seat::Forwarder, Seat::Nodes].map(refused);
        [by_lb, self.running.ask().map_or(0, |told| told.dropped), by_nodes]
    }

    /// Bytes in use once that has settled, and most after that.
    fn memory(&mut self, time: Duration, settled_after: Duration) -> Option<(u64, u64)> {
        let pid = *self.running.pids.first()?;
        let mut memory: Option<(u64, u64)> = None;
        while self.running.is_alive() && self.begin.elapsed() < time {
            thread::sleep(Duration::from_secs(1));
            if let Some(bytes) = meter::resident(pid)
                && self.begin.elapsed() >= settled_after
            {
                let (settled, most) = memory.unwrap_or((bytes, bytes));
                memory = Some((settled, most.max(bytes)));
            }
        }
        memory
    }
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
