//! One measurement: a load through a forwarder, for a while.

use std::{
    net::SocketAddrV4,
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    forwarder::{Forwarder, Running, Told},
    generator::{Generator, Route, Sending},
    load::{Load, Shape, Traffic, Way},
    meter,
    place::{Place, Seat},
    sink::{self, Arriving, Sink},
    spinning::Spinning,
};

/// How long a load is there before it is measured.
const WARM_UP: Duration = Duration::from_millis(300);

/// How often each flow is introduced, since some may be lost.
const INTRODUCTIONS: u64 = 4;

/// Datagrams in a second that introduce flows: what any forwarder takes, and each of a flow some time after the
/// one before, so that they are not lost together.
fn introduced_per_s(load: &Load) -> u64 {
    (u64::from(load.flows) * 10).clamp(2_000, 40_000)
}

/// What became of a load.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) load: Load,
    pub(crate) forwarder: Forwarder,
    pub(crate) seconds: f64,
    pub(crate) sent_per_s: f64,
    pub(crate) forwarded_per_s: f64,
    /// Share of the datagrams sent that did not arrive.
    pub(crate) lost: f64,
    /// Of them, what the receiving end had no room for: no fault of the forwarder.
    pub(crate) lost_at_end: f64,
    /// Microseconds of the forwarder's processes for each datagram; none where the kernel forwards.
    pub(crate) cpu_us: Option<f64>,
    /// Microseconds of all that takes part for each datagram; none where many were lost, since what is sent in
    /// vain costs too, and none where something spins beside the forwarder.
    pub(crate) system_us: Option<f64>,
    /// Share of the time that the forwarder was on the CPU.
    pub(crate) busy: Option<f64>,
    /// Share of the time that it could have run, and others had its core: a row where this is much says
    /// little.
    pub(crate) kept_waiting: Option<f64>,
    /// Datagrams of a receive call, where they are counted.
    pub(crate) depth: Option<f64>,
}

/// Most of a load that may be lost for whole-system CPU to mean anything.
const LOST_MAX: f64 = 0.01;

/// Most that a rate may be missed by.
const OFF_MAX: f64 = 0.01;

/// A load on its way.
pub(crate) struct Flowing {
    pub(crate) sending: Arc<Sending>,
    pub(crate) arriving: Arc<Arriving>,
    generating: JoinHandle<Vec<u32>>,
    sinking: JoinHandle<()>,
}

impl Flowing {
    /// Ends it; says how many each flow sent.
    pub(crate) fn stop(self) -> Vec<u32> {
        self.sending.stop.store(true, Ordering::Relaxed);
        let sent = self.generating.join().expect("no panic");
        self.arriving.stop.store(true, Ordering::Relaxed);
        self.sinking.join().expect("no panic");
        sent
    }
}

/// Sends a load to a forwarder that knows its flows.
pub(crate) fn flow(
    place: &Place,
    load: &Load,
    route: Route,
    stamped: bool,
    sinking: impl FnOnce(&Arriving) + Send + 'static,
) -> Flowing {
    let from = match load.way {
        Way::ToNode => Seat::Clients,
        Way::ToClients => Seat::Nodes,
    };
    let arriving = Arc::new(Arriving::default());
    let sinking = place.inside(load.way.end(), "sink", {
        let arriving = arriving.clone();
        move || sinking(&arriving)
    });
    let sending = Arc::new(Sending::default());
    sending.rate.store(load.rate.unwrap_or(0), Ordering::Relaxed);
    sending.stamped.store(stamped, Ordering::Relaxed);
    let generating = place.inside(from, "generator", {
        let (sending, load) = (sending.clone(), *load);
        move || Generator::new(&load, route).run(&sending)
    });
    Flowing { sending, arriving, generating, sinking }
}

/// Makes flows known that have to be: SRTP's by STUN checks, and all that have an address of their own on the way
/// back. Says how to send the load.
pub(crate) fn introduce(place: &Place, forwarder: Forwarder, load: &Load) -> Result<Route, String> {
    if matches!(load.traffic, Traffic::Rtp | Traffic::Mix) {
        let checks = Load { way: Way::ToNode, traffic: Traffic::Checks, ..*load };
        send_once(place, forwarder, &checks, INTRODUCTIONS, introduced_per_s(load));
    }
    match forwarder.route(load) {
        Route::Bare { .. } => {
            let peers = learn(place, forwarder, load).ok_or("not all flows reach the node")?;
            Ok(Route::Bare { peers })
        }
        route @ Route::FromClients { .. } => {
            // Whoever keeps something of each flow has it before it is measured; others forward these.
            let _peers = learn(place, forwarder, load);
            Ok(route)
        }
        route => Ok(route),
    }
}

/// Sends some datagrams of each flow, so many in a second.
pub(crate) fn send_once(place: &Place, forwarder: Forwarder, load: &Load, rounds: u64, per_s: u64) {
    let load = Load { shape: Shape::Singles, ..*load };
    let sending = place.inside(Seat::Clients, "introducer", move || {
        Generator::new(&load, forwarder.route(&load)).run_rounds(rounds, per_s);
    });
    sending.join().expect("no panic");
}

fn learn(place: &Place, forwarder: Forwarder, load: &Load) -> Option<Vec<SocketAddrV4>> {
    let arriving = Arc::new(Arriving::default());
    let learning = place.inside(Seat::Nodes, "learner", {
        let (arriving, flows) = (arriving.clone(), load.flows);
        move || sink::learn(flows, &arriving)
    });
    let greeting = Load { way: Way::ToNode, ..*load };
    // Its socket may not be open yet for the first.
    thread::sleep(Duration::from_millis(50));
    send_once(place, forwarder, &greeting, INTRODUCTIONS, introduced_per_s(load));
    thread::sleep(Duration::from_millis(100));
    arriving.stop.store(true, Ordering::Relaxed);
    learning.join().expect("no panic")
}

/// Measures a load through a forwarder that runs.
pub(crate) fn measure(
    place: &Place,
    forwarder: Forwarder,
    running: &mut Running,
    load: &Load,
    time: Duration,
) -> Result<Run, String> {
    let route = introduce(place, forwarder, load)?;
    measure_known(place, forwarder, running, load, route, time)
}

/// The same, where its flows are known already.
pub(crate) fn measure_known(
    place: &Place,
    forwarder: Forwarder,
    running: &mut Running,
    load: &Load,
    route: Route,
    time: Duration,
) -> Result<Run, String> {
    let way = load.way;
    let of_process = !running.pids.is_empty();
    let _beside = (of_process && load.rate.is_none()).then(|| Spinning::new(place, 1));
    let flowing = flow(place, load, route, false, move |arriving| Sink::new(way).count(arriving));
    thread::sleep(WARM_UP);
    let deferred = meter::deferred();
    // What takes a while to be read comes first.
    let mut snap = || Snap {
        refused: meter::refused_by_sockets(place, load.way.end()),
        told: running.ask(),
        sent: flowing.sending.sent.load(Ordering::Relaxed),
        arrived: flowing.arriving.arrived.load(Ordering::Relaxed),
        at: Instant::now(),
        cpu: meter::cpu(&running.pids),
        kept_waiting: meter::kept_waiting(&running.pids),
        rest: meter::rest(&deferred)
            .saturating_sub(Duration::from_nanos(flowing.sending.waited.load(Ordering::Relaxed))),
    };
    let before = snap();
    thread::sleep(time);
    let after = snap();
    flowing.stop();
    if !running.is_alive() {
        return Err("it died".to_owned());
    }
    Ok(Run::between(forwarder, load, of_process, &before, &after))
}

/// All that can be read at a moment.
struct Snap {
    told: Option<Told>,
    at: Instant,
    sent: u64,
    arrived: u64,
    /// By the receiving end's socket.
    refused: u64,
    /// Of the forwarder's processes.
    cpu: Duration,
    kept_waiting: Duration,
    /// Of everybody else who takes part, waiting left out.
    rest: Duration,
}

impl Run {
    fn between(
        forwarder: Forwarder,
        load: &Load,
        of_process: bool,
        before: &Snap,
        after: &Snap,
    ) -> Self {
        let took = (after.at - before.at).as_secs_f64();
        let (sent, arrived) =
            ((after.sent - before.sent) as f64, (after.arrived - before.arrived) as f64);
        let (cpu, rest) = (
            after.cpu.saturating_sub(before.cpu).as_secs_f64(),
            after.rest.saturating_sub(before.rest).as_secs_f64(),
        );
        let kept_waiting = after.kept_waiting.saturating_sub(before.kept_waiting);
        let lost = (1.0 - arrived / sent.max(1.0)).max(0.0);
        // What spins beside a forwarder is of this process.
        let in_vain = lost > LOST_MAX || of_process && load.rate.is_none();
        let depth = before.told.as_ref().zip(after.told.as_ref()).and_then(|(before, after)| {
            let calls = after.receive_calls? - before.receive_calls?;
            Some((after.received - before.received) as f64 / calls.max(1) as f64)
        });
        Self {
            load: *load,
            forwarder,
            seconds: took,
            sent_per_s: sent / took,
            forwarded_per_s: arrived / took,
            lost,
            lost_at_end: (after.refused - before.refused) as f64 / sent.max(1.0),
            cpu_us: of_process.then_some(cpu * 1e6 / arrived.max(1.0)),
            system_us: (!in_vain).then_some((cpu + rest) * 1e6 / arrived.max(1.0)),
            busy: of_process.then_some(cpu / took),
            kept_waiting: of_process.then_some(kept_waiting.as_secs_f64() / took),
            depth,
        }
    }

    /// By what runs of one kind are told apart.
    pub(crate) fn cost(&self) -> f64 {
        self.cpu_us.or(self.system_us).unwrap_or(f64::INFINITY)
    }

    /// Whether as much was sent as was meant to be.
    pub(crate) fn is_at_its_rate(&self) -> bool {
        let of_rate = |rate: u64| (self.sent_per_s / rate as f64 - 1.0).abs();
        self.load.rate.is_none_or(|rate| of_rate(rate) <= OFF_MAX)
    }
}
