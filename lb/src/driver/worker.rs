mod nat;

use std::{
    io::{self, Read},
    net::SocketAddr,
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    },
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use socket2::Socket;
use wire::FiveTuple;

use super::{
    BATCH,
    batch::{Batch, Bytes},
    handle::{Command, FlowSample, Handle},
    lessons::Lessons,
    ports::{Lane, Ports},
    send::SendQueue,
    window::Window,
};
use crate::{
    engine::Engine,
    verdict::{Destination, Verdict},
};

/// Batches taken from one socket before the others get their turn.
const BATCHES_PER_TURN: usize = 4;

/// One worker's sockets.
pub(crate) struct Sockets {
    /// One for each listen address, with that address.
    pub(crate) listeners: Vec<(SocketAddr, Socket)>,
    /// One for each IP version in which nodes can be reached.
    pub(crate) tunnels: Vec<(SocketAddr, Socket)>,
}

/// Starts a worker.
pub(crate) fn spawn(
    number: usize,
    engine: Engine,
    sockets: Sockets,
    lessons: Lessons,
    window: Duration,
) -> io::Result<Handle> {
    let (commands, inbox) = mpsc::channel();
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let counters = engine.counters().clone();
    // Its fleet is applied from the first datagram on.
    engine.publish_gauges();
    let tunnels: Vec<_> = sockets.tunnels.iter().map(|(address, _)| *address).collect();
    let ports = Ports::new(&tunnels, engine.nat_ports_max())?;
    // Built on its own thread, so that its buffers are memory near the core that uses them.
    let window = Window::new(window);
    let run = move || Worker::new(engine, sockets, ports, lessons, inbox, woken, window).run();
    let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(run)?;
    Ok(Handle::new(commands, wake, counters, thread))
}

struct Worker {
    engine: Engine,
    sockets: Sockets,
    ports: Ports,
    lessons: Lessons,
    inbox: mpsc::Receiver<Command>,
    woken: UnixStream,
    batch: Batch,
    window: Window,
    /// One for each tunnel socket.
    to_nodes: Vec<SendQueue>,
    /// One for all `nat` ports.
    by_nat: SendQueue,
    /// One for each listener.
    to_clients: Vec<SendQueue>,
}

impl Worker {
    fn new(
        engine: Engine,
        sockets: Sockets,
        ports: Ports,
        lessons: Lessons,
        inbox: mpsc::Receiver<Command>,
        woken: UnixStream,
        window: Window,
    ) -> Self {
        Self {
            to_nodes: sockets.tunnels.iter().map(|_| SendQueue::new()).collect(),
            by_nat: SendQueue::new(),
            to_clients: sockets.listeners.iter().map(|_| SendQueue::new()).collect(),
            engine,
            sockets,
            ports,
            lessons,
            inbox,
            woken,
            batch: Batch::new(),
            window,
        }
    }

    fn run(mut self) {
        let mut ready = self.poll_set();
        Window::make_exact();
        loop {
            self.open_ports();
            let now = now();
            let timeout = self.engine.poll_timeout(now).map(|due| due - now);
            wait(&mut ready, timeout);
            // The wake-up pipe comes first, then listeners, tunnels, ports, as in `poll_set`.
            if ready[0].revents != 0 && !self.obey() {
                return;
            }
            self.window.deepen();
            for listener in 0..self.sockets.listeners.len() {
                if ready[1 + listener].revents != 0 {
                    self.turn(|worker| worker.serve_clients(listener));
                }
            }
            for tunnel in 0..self.sockets.tunnels.len() {
                if ready[1 + self.sockets.listeners.len() + tunnel].revents != 0 {
                    self.turn(|worker| worker.serve_nodes(tunnel));
                }
            }
            if ready.last().is_some_and(|ports| ports.revents != 0) {
                self.serve_ports();
            }
            self.on_timeout();
            self.engine.publish_gauges();
        }
    }

    fn poll_set(&self) -> Vec<libc::pollfd> {
        let listeners = self.sockets.listeners.iter().map(|(_, socket)| socket.as_raw_fd());
        let tunnels = self.sockets.tunnels.iter().map(|(_, socket)| socket.as_raw_fd());
        std::iter::once(self.woken.as_raw_fd())
            .chain(listeners)
            .chain(tunnels)
            .chain([self.ports.readable().as_raw_fd()])
            .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
            .collect()
    }

    /// Carries out what came in; false to end.
    fn obey(&mut self) -> bool {
        let mut drain = [0; 64];
        while self.woken.read(&mut drain).is_ok_and(|read| read > 0) {}
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Apply(table) => self.engine.apply(table),
                Command::SetSni(sni) => self.engine.set_sni(sni),
                Command::SetFlowIdle(idle) => self.engine.set_flow_idle(idle),
                Command::SampleFlows(most, reply) => {
                    let flows = self.engine.flows(now()).take(most);
                    let sample = flows.map(|flow| FlowSample {
                        client: flow.tuple.client(),
                        vip: flow.tuple.vip(),
                        backend: flow.backend,
                        idle: flow.idle,
                        proved: flow.proved,
                    });
                    let _asker_left = reply.send(sample.collect());
                }
                Command::CountTraffic(reply) => {
                    let _asker_left = reply.send(self.engine.traffic().collect());
                }
                Command::Stop => return false,
            }
        }
        true
    }

    /// Serves a socket until it is empty, or long enough.
    fn turn(&mut self, mut serve: impl FnMut(&mut Self) -> io::Result<usize>) {
        for _ in 0..BATCHES_PER_TURN {
            match serve(self) {
                Ok(received) if received == BATCH => self.window.count(received),
                Ok(received) => return self.window.count(received),
                // Empty, or an error that an earlier datagram of ours brought back (ICMP): neither
                // is a reason to stop serving.
                Err(_) => return,
            }
        }
    }

    fn serve_clients(&mut self, listener: usize) -> io::Result<usize> {
        let (address, socket) = &self.sockets.listeners[listener];
        let received = self.batch.receive(socket.as_fd())?;
        let address = *address;
        let now = now();
        self.lessons.take(&mut self.engine, now);
        for slot in 0..received {
            let Some(client) = self.batch.sender(slot) else {
                continue;
            };
            let ip =
                if address.ip().is_unspecified() { self.batch.destination(slot) } else { None };
            let vip = SocketAddr::new(ip.unwrap_or(address.ip()), address.port());
            let tuple = FiveTuple::new(client, vip);
            let verdict = self.engine.from_client(now, &tuple, self.batch.datagram(slot));
            self.queue_released();
            match verdict {
                Verdict::Forward(destination) => {
                    let bytes = match destination.port {
                        None => self.batch.with_header(slot, &tuple),
                        Some(_) => self.batch.whole(slot),
                    };
                    self.queue_to_node(&destination, bytes);
                }
                Verdict::Reply => {
                    let bytes = self.batch.in_place_of(slot, self.engine.reply());
                    self.to_clients[listener].push(bytes, client, ip);
                }
                Verdict::Return { .. } | Verdict::Hold | Verdict::Drop(_) => {}
            }
        }
        self.flush_to_nodes();
        self.flush_to_clients();
        Ok(received)
    }

    fn serve_nodes(&mut self, tunnel: usize) -> io::Result<usize> {
        let (_, socket) = &self.sockets.tunnels[tunnel];
        let received = self.batch.receive(socket.as_fd())?;
        let now = now();
        for slot in 0..received {
            let Some(node) = self.batch.sender(slot) else {
                continue;
            };
            let verdict = self.engine.from_node(now, node, self.batch.datagram(slot));
            self.queue_to_client(&verdict, self.batch.whole(slot).behind_header());
        }
        self.flush_to_clients();
        Ok(received)
    }

    fn on_timeout(&mut self) {
        let now = now();
        if self.engine.poll_timeout(now).is_some_and(|due| due <= now) {
            self.engine.handle_timeout(now);
            self.queue_released();
            self.flush_to_nodes();
        }
    }

    /// Queues what was held and is decided: ahead of the datagram that decided it.
    fn queue_released(&mut self) {
        loop {
            if !self.batch.has_spare() {
                self.flush_to_nodes();
            }
            let Some(release) = self.engine.poll_release() else { break };
            let destination = release.destination;
            let bytes = self.batch.spare(&release.tuple, release.datagram);
            let bytes = if destination.port.is_some() { bytes.behind_header() } else { bytes };
            self.queue_to_node(&destination, bytes);
        }
    }

    /// Queues a client's datagram, behind a header where it leaves from a tunnel socket.
    fn queue_to_node(&mut self, destination: &Destination, bytes: Bytes) {
        let node = destination.address;
        match destination.port {
            Some(port) => {
                let lane = Lane::to(node, port);
                self.ports.ensure(lane);
                self.by_nat.push_to(lane.number(), bytes, node);
            }
            None => match tunnel_to(&self.sockets, node) {
                Some(tunnel) => self.to_nodes[tunnel].push(bytes, node, None),
                None => self.engine.send_failed(),
            },
        }
    }

    fn queue_to_client(&mut self, verdict: &Verdict, bytes: Bytes) {
        if let Verdict::Return { listener, tuple } = *verdict {
            let wildcard = self.sockets.listeners[listener].0.ip().is_unspecified();
            let from = wildcard.then(|| tuple.vip().ip());
            self.to_clients[listener].push(bytes, tuple.client(), from);
        }
    }

    fn flush_to_nodes(&mut self) {
        for ((_, socket), queue) in self.sockets.tunnels.iter().zip(&mut self.to_nodes) {
            count_refused(&self.engine, queue.flush(socket.as_fd(), &self.batch));
        }
        let ports = &self.ports;
        let refused = self.by_nat.flush_lanes(|lane| ports.socket(lane), &self.batch);
        count_refused(&self.engine, refused);
        self.batch.clear_spares();
    }

    fn flush_to_clients(&mut self) {
        self.lessons.tell(&mut self.engine);
        for ((_, socket), queue) in self.sockets.listeners.iter().zip(&mut self.to_clients) {
            count_refused(&self.engine, queue.flush(socket.as_fd(), &self.batch));
        }
    }
}

fn count_refused(engine: &Engine, refused: usize) {
    for _ in 0..refused {
        engine.send_failed();
    }
}

/// Index of the tunnel socket that speaks the node's IP version.
fn tunnel_to(sockets: &Sockets, node: SocketAddr) -> Option<usize> {
    sockets.tunnels.iter().position(|(address, _)| address.is_ipv4() == node.is_ipv4())
}

#[expect(clippy::disallowed_methods, reason = "a driver is where the time comes from")]
fn now() -> Instant {
    Instant::now()
}

/// Sleeps until a descriptor is readable or the time is up.
fn wait(ready: &mut [libc::pollfd], timeout: Option<Duration>) {
    let milliseconds = match timeout {
        None => -1,
        // Rounded up, so that the wake-up is not too early; bounded, so that it fits.
        Some(timeout) => i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
    };
    // SAFETY: `ready` is a live array of that many `pollfd`, whose descriptors are open for as long
    // as the worker owns its sockets.
    let result =
        unsafe { libc::poll(ready.as_mut_ptr(), ready.len() as libc::nfds_t, milliseconds) };
    if result < 0 {
        // Interrupted: nothing is ready.
        ready.iter_mut().for_each(|entry| entry.revents = 0);
    }
}
