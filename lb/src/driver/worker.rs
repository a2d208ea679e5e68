//! What a worker does with what it receives, whatever brings it.

mod chores;
mod kernel;
mod mmsg;
mod uring;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::{fd::AsFd, unix::net::UnixStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use socket2::Socket;
use wire::{FiveTuple, tunnel};

use super::{
    DriverKind,
    handle::{Command, Handle, Inbox},
    lessons::Lessons,
    mmsg as receive_mmsg, pin,
    pool::{Arrival, Bytes, Pool},
    ports::{Lane, Ports},
    send::{Outgoing, SendQueue},
    spin::Spin,
    uring::{self as receive_uring, Source},
    window::Window,
};
use crate::{
    engine::Engine,
    verdict::{Destination, Verdict},
};
use chores::Sweep;
use kernel::{Errors, Overflows};

/// One worker's sockets.
pub(crate) struct Sockets {
    /// One for each listen address, with that address.
    pub(crate) listeners: Vec<(SocketAddr, Socket)>,
    /// One for each IP version in which nodes can be reached.
    pub(crate) tunnels: Vec<(SocketAddr, Socket)>,
}

/// How a worker moves datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    pub(crate) kind: DriverKind,
    /// Longest wait to deepen a batch under load.
    pub(crate) window: Duration,
    /// How long a worker looks for more before it sleeps.
    pub(crate) busy_poll: Duration,
    /// Whether each worker stays on one core.
    pub(crate) pin: bool,
}

/// Starts a worker.
///
/// # Errors
/// The system refuses what it needs; nothing is left running then.
pub(crate) fn spawn(
    number: usize,
    engine: Engine,
    sockets: Sockets,
    lessons: Lessons,
    means: Means,
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
    let cores = if means.pin { Some(pin::cores()) } else { None };
    let (begun, has_begun) = mpsc::channel();
    // Built on its own thread, so that its buffers are memory near the core that uses them, and its ring
    // is its own.
    let run = move || {
        if let Some(cores) = cores {
            pin::keep(number, cores);
        }
        let begin = |pool_len| {
            let pool = Pool::new(pool_len)?;
            Ok(Worker::new(number, engine, sockets, ports, lessons, inbox, woken, pool, means))
        };
        let run = match means.kind {
            DriverKind::Mmsg => begin(receive_mmsg::RECEIVE).map(|worker| (worker, None)),
            DriverKind::Uring => begin(receive_uring::RECEIVE).and_then(|worker| {
                let ring = receive_uring::Ring::new(&worker.pool)?;
                Ok((worker, Some(ring)))
            }),
        };
        let (worker, ring) = match run {
            Ok(run) => run,
            Err(problem) => return drop(begun.send(Err(problem))),
        };
        let _spawner_waits = begun.send(Ok(()));
        Window::make_exact();
        match ring {
            Some(ring) => worker.run_uring(ring),
            None => worker.run_mmsg(),
        }
    };
    let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(run)?;
    has_begun.recv().unwrap_or_else(|_| Err(io::Error::other("a worker's thread ended")))?;
    Ok(Handle::new(Inbox::new(commands, wake), counters, thread))
}

struct Worker {
    number: usize,
    engine: Engine,
    sockets: Sockets,
    ports: Ports,
    lessons: Lessons,
    inbox: mpsc::Receiver<Command>,
    woken: UnixStream,
    pool: Pool,
    /// There may be more in the inbox, although nobody wakes.
    has_more: bool,
    /// What is being handed over.
    sweep: Option<Sweep>,
    window: Window,
    spin: Spin,
    /// One for each tunnel socket.
    to_nodes: Vec<SendQueue>,
    /// One for all `nat` ports.
    by_nat: SendQueue,
    /// One for each listener.
    to_clients: Vec<SendQueue>,
    overflows: Overflows,
    errors: Errors,
}

impl Worker {
    #[expect(clippy::too_many_arguments, reason = "each is one of its fields")]
    fn new(
        number: usize,
        engine: Engine,
        sockets: Sockets,
        ports: Ports,
        lessons: Lessons,
        inbox: mpsc::Receiver<Command>,
        woken: UnixStream,
        pool: Pool,
        means: Means,
    ) -> Self {
        Self {
            to_nodes: sockets.tunnels.iter().map(|_| SendQueue::new()).collect(),
            by_nat: SendQueue::new(),
            to_clients: sockets.listeners.iter().map(|_| SendQueue::new()).collect(),
            number,
            engine,
            sockets,
            ports,
            lessons,
            inbox,
            woken,
            pool,
            has_more: false,
            sweep: None,
            window: Window::new(means.window),
            spin: Spin::new(means.busy_poll),
            overflows: Overflows::default(),
            errors: Errors::new(),
        }
    }

    /// Opens the ports that the next batch may need, so that no datagram waits for one.
    fn open_ports(&mut self) {
        let wanted = self.engine.nat_ports();
        self.ports.open_first(wanted);
        self.engine.counters().nat_ports().set(self.ports.open() as u64);
    }

    /// Notes that so many datagrams, or trains, were taken at once.
    fn count_batch(&mut self, received: usize) {
        self.window.count(received);
        if received > 0 {
            self.engine.counters().batches().add(1);
        }
    }

    /// Decides about what a client sent to a listener, and queues what is to leave.
    fn take_from_client(
        &mut self,
        now: Instant,
        listener: usize,
        client: SocketAddr,
        destination: Option<IpAddr>,
        arrival: Arrival,
    ) {
        let tuple = FiveTuple::new(client, self.vip(listener, destination));
        let mut has_headroom = true;
        for datagram in arrival.datagrams() {
            let verdict = self.engine.from_client(now, &tuple, self.pool.bytes(datagram));
            self.queue_released();
            match verdict {
                Verdict::Forward(destination) => {
                    let outgoing = match destination.port {
                        Some(_) => datagram.into(),
                        // Nothing that is still to be read stands in front of the first.
                        None if has_headroom => self.pool.with_header(datagram, &tuple).into(),
                        None => Outgoing { header: Some(tunnel::encode(&tuple)), bytes: datagram },
                    };
                    self.queue_to_node(&destination, outgoing);
                }
                Verdict::Reply => {
                    let bytes = self.pool.in_place_of(datagram, self.engine.reply());
                    self.queue_to_client(listener, bytes, client, destination);
                }
                Verdict::Return { .. } | Verdict::Hold | Verdict::Drop(_) => {}
            }
            has_headroom = false;
        }
    }

    /// The address of a listener. One on a wildcard, and no other, has told a local address.
    fn vip(&self, listener: usize, told: Option<IpAddr>) -> SocketAddr {
        let address = self.sockets.listeners[listener].0;
        SocketAddr::new(told.unwrap_or(address.ip()), address.port())
    }

    /// Decides about what came to a tunnel socket.
    fn take_from_node(&mut self, now: Instant, node: SocketAddr, arrival: Arrival) {
        for datagram in arrival.datagrams() {
            let verdict = self.engine.from_node(now, node, self.pool.bytes(datagram));
            self.queue_returned(&verdict, datagram.behind_header());
        }
    }

    /// Decides about what came to a `nat` port.
    fn take_from_port(&mut self, now: Instant, lane: Lane, node: SocketAddr, arrival: Arrival) {
        for datagram in arrival.datagrams() {
            let verdict = self.engine.from_nat(now, lane.port, node, self.pool.bytes(datagram));
            self.queue_returned(&verdict, datagram);
        }
    }

    fn queue_returned(&mut self, verdict: &Verdict, bytes: Bytes) {
        if let Verdict::Return { listener, tuple } = *verdict {
            let wildcard = self.sockets.listeners[listener].0.ip().is_unspecified();
            let from = wildcard.then(|| tuple.vip().ip());
            self.queue_to_client(listener, bytes, tuple.client(), from);
        }
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
            if !self.pool.has_spare() {
                self.flush_to_nodes();
            }
            let Some(release) = self.engine.poll_release() else { break };
            let destination = release.destination;
            let bytes = self.pool.spare(&release.tuple, release.datagram);
            let bytes = if destination.port.is_some() { bytes.behind_header() } else { bytes };
            self.queue_to_node(&destination, bytes.into());
        }
    }

    /// Queues a client's datagram, behind a header where it leaves from a tunnel socket.
    fn queue_to_node(&mut self, destination: &Destination, datagram: Outgoing) {
        let node = destination.address;
        match destination.port {
            Some(port) => {
                let lane = Lane::to(node, port);
                self.ports.ensure(lane);
                if self.by_nat.is_full() {
                    self.flush_ports();
                }
                self.by_nat.push_to(lane.number(), datagram, node);
            }
            None => match tunnel_to(&self.sockets, node) {
                Some(tunnel) => {
                    if self.to_nodes[tunnel].is_full() {
                        self.flush_tunnels();
                    }
                    self.to_nodes[tunnel].push(datagram, node, None);
                }
                None => self.engine.send_failed(),
            },
        }
    }

    fn queue_to_client(
        &mut self,
        listener: usize,
        bytes: Bytes,
        client: SocketAddr,
        from: Option<IpAddr>,
    ) {
        if self.to_clients[listener].is_full() {
            self.flush_to_clients();
        }
        self.to_clients[listener].push(bytes.into(), client, from);
    }

    fn flush_to_nodes(&mut self) {
        self.flush_tunnels();
        self.flush_ports();
        self.pool.clear_spares();
    }

    fn flush_tunnels(&mut self) {
        let tunnels = self.sockets.tunnels.iter().zip(&mut self.to_nodes);
        for (number, ((_, socket), queue)) in (0..).zip(tunnels) {
            let sent = queue.flush(socket.as_fd(), &self.pool);
            self.errors.note_sent(Source::Tunnel(number), sent, &self.engine);
        }
        self.heed_errors();
    }

    fn flush_ports(&mut self) {
        let Self { ports, errors, .. } = self;
        let stopped = |lane| errors.note(Source::Port(lane));
        let refused = self.by_nat.flush_lanes(|lane| ports.socket(lane), stopped, &self.pool);
        count_refused(&self.engine, refused);
        self.heed_errors();
    }

    fn flush_to_clients(&mut self) {
        self.lessons.tell(&mut self.engine);
        let listeners = self.sockets.listeners.iter().zip(&mut self.to_clients);
        for (number, ((_, socket), queue)) in (0..).zip(listeners) {
            let sent = queue.flush(socket.as_fd(), &self.pool);
            self.errors.note_sent(Source::Listener(number), sent, &self.engine);
        }
        self.heed_errors();
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
