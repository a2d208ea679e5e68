//! How much later a datagram arrives for having been forwarded. Each carries the time when it was sent; the kernel
//! stamps it when it reaches the node's socket, so that it does not matter when the node gets to read it.

use std::{
    io::IoSliceMut,
    os::fd::AsRawFd,
    sync::{Arc, Mutex, atomic::Ordering},
    thread,
    time::Duration,
};

use nix::{
    cmsg_space,
    sys::{
        socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt},
        time::TimeSpec,
    },
};
use serde::Serialize;

use crate::{
    forwarder::{Driver, Forwarder, Lb, Mode, Running},
    load::{self, Load, Trailer, Way},
    meter,
    place::Place,
    rows::{Absent, Plan},
    run::{self, flow},
    sink::{self, Arriving},
};

/// What is thrown away at the beginning.
const WARM_UP: Duration = Duration::from_millis(300);

/// How long a forwarder delays, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) forwarder: Forwarder,
    pub(crate) load: Load,
    pub(crate) samples: usize,
    /// Share of the datagrams sent that did not arrive: of them it says nothing.
    pub(crate) lost: f64,
    /// As of a run.
    pub(crate) kept_waiting: Option<f64>,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

/// Measures all at one rate: half of what the floor would forward if it had its core to the full.
pub(crate) fn measure(
    place: &Place,
    plan: &Plan,
    floor_us: Option<f64>,
    absent: &mut Absent,
) -> Vec<Latency> {
    let ours = [Driver::Mmsg, Driver::Uring].into_iter().flat_map(|driver| {
        [false, true].map(|window| Forwarder::Lb(Lb { window, ..Lb::new(Mode::Tunnel, driver) }))
    });
    let all = [Forwarder::Routing, Forwarder::Nft, Forwarder::Floor, Forwarder::Nginx];
    let all = all.into_iter().chain([Forwarder::Quilkin]).chain(ours);
    let wanted = |forwarder: &Forwarder| plan.wants(&format!("latency: {forwarder}"));
    let all: Vec<_> = all.filter(wanted).collect();
    if all.is_empty() {
        return Vec::new();
    }
    let floor_us = floor_us.or_else(|| {
        let mut running = Forwarder::Floor.start(place, &Load::USUAL).ok()?;
        let time = plan.time();
        let run = run::measure(place, Forwarder::Floor, &mut running, &Load::USUAL, time).ok()?;
        run.cpu_us
    });
    let Some(rate) = floor_us.map(|cpu| load::whole(1e6 / cpu / 2.0)) else { return Vec::new() };
    let load = Load { rate: Some(rate), ..Load::USUAL };
    let time = if plan.quick { plan.time() } else { Duration::from_secs(3) };
    let mut least: Vec<Latency> = Vec::new();
    for _ in 0..plan.rounds() {
        for &forwarder in &all {
            if absent.has(forwarder) {
                continue;
            }
            let running = match forwarder.start(place, &load) {
                Ok(running) => running,
                Err(why) => {
                    absent.note(forwarder, &why);
                    continue;
                }
            };
            match one(place, forwarder, &running, &load, time) {
                Ok(latency) => keep_least(&mut least, latency),
                Err(why) => println!("- latency: {forwarder}: {why}"),
            }
        }
    }
    least
}

/// Others on the machine delay, and never hasten.
fn keep_least(least: &mut Vec<Latency>, latency: Latency) {
    match least.iter_mut().find(|other| other.forwarder == latency.forwarder) {
        Some(other) if latency.p99_us < other.p99_us => *other = latency,
        Some(_) => {}
        None => least.push(latency),
    }
}

fn one(
    place: &Place,
    forwarder: Forwarder,
    running: &Running,
    load: &Load,
    time: Duration,
) -> Result<Latency, String> {
    let route = run::introduce(place, forwarder, load)?;
    let taken = Arc::new(Mutex::new(Vec::new()));
    let flowing = flow(place, load, route, true, {
        let taken = taken.clone();
        move |arriving| {
            *taken.lock().expect("nobody panicked") = take(arriving);
        }
    });
    let kept_waiting = || meter::kept_waiting(&running.pids);
    let before = kept_waiting();
    thread::sleep(WARM_UP + time);
    let kept_waiting = kept_waiting().saturating_sub(before).div_duration_f64(WARM_UP + time);
    let sending = flowing.sending.clone();
    flowing.stop();
    let sent = sending.sent.load(Ordering::Relaxed) as f64;
    let mut delays = std::mem::take(&mut *taken.lock().expect("nobody panicked"));
    let lost = (1.0 - delays.len() as f64 / sent.max(1.0)).max(0.0);
    let warm = delays.len() * WARM_UP.as_millis() as usize / (WARM_UP + time).as_millis() as usize;
    delays.drain(..warm);
    if delays.is_empty() {
        return Err("nothing arrived".to_owned());
    }
    delays.sort_unstable();
    let at = |per_mille: usize| delays[(delays.len() - 1) * per_mille / 1_000] as f64 / 1e3;
    Ok(Latency {
        forwarder,
        load: *load,
        samples: delays.len(),
        lost,
        kept_waiting: (!running.pids.is_empty()).then_some(kept_waiting),
        p50_us: at(500),
        p99_us: at(990),
        p999_us: at(999),
    })
}

/// Nanoseconds that each datagram was under way.
fn take(arriving: &Arriving) -> Vec<u64> {
    let socket = sink::socket(Way::ToNode);
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).expect("the kernel stamps");
    setsockopt(&socket, sockopt::UdpGroSegment, &true).expect("the kernel takes trains");
    let mut delays = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while !arriving.stop.load(Ordering::Relaxed) {
        let mut control = cmsg_space!(TimeSpec, i32);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let got = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags);
        let Ok(message) = got else {
            thread::sleep(sink::LOOK);
            continue;
        };
        let (mut arrived, mut each) = (None, message.bytes);
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::ScmTimestampns(time) => arrived = Some(Duration::from(time)),
                ControlMessageOwned::UdpGroSegments(bytes) => {
                    each = usize::try_from(bytes).unwrap_or(each);
                }
                _ => {}
            }
        }
        let bytes = message.bytes;
        let Some(arrived) = arrived.and_then(|time| u64::try_from(time.as_nanos()).ok()) else {
            continue;
        };
        let trailers = buffer[..bytes].chunks(each.max(1)).filter_map(Trailer::read);
        delays.extend(trailers.map(|trailer| arrived.saturating_sub(trailer.nanoseconds)));
    }
    delays
}
