//! What is ready to be decided, and the ways to make it so.

use std::{hint::black_box, net::SocketAddr, rc::Rc, time::Instant};

use kit::{Connection, quic};
use lb::{Engine, NatPort, Verdict};
use wire::FiveTuple;

use crate::{
    CLIENTS, COUNTED, ENCRYPTED, FOREIGN, PLAIN, SERVER, client, engine, foreign, hello, initials,
    node, opening, verified_check,
};

/// A row that is ready to be decided.
pub struct Ready {
    /// What decides, warmed up.
    pub(super) engine: Engine,
    /// Always the same: time passes nowhere in a row.
    pub(super) now: Instant,
    pub(super) arrivals: Vec<Arrival>,
    next: usize,
}

/// A datagram, and where it comes in.
pub(super) struct Arrival {
    pub(super) from: From,
    datagram: Rc<[u8]>,
}

#[derive(Clone, Copy)]
pub(super) enum From {
    Client(FiveTuple),
    Node(SocketAddr),
    Nat(NatPort, SocketAddr),
}

impl Ready {
    /// The next datagram's verdict: there are [`COUNTED`] or more, and then they come again. What it
    /// releases is taken, as a driver takes it.
    pub fn decide_next(&mut self) -> Verdict {
        let arrival = &self.arrivals[self.next];
        self.next = if self.next + 1 == self.arrivals.len() { 0 } else { self.next + 1 };
        let datagram = black_box(&*arrival.datagram);
        match &arrival.from {
            From::Client(tuple) => {
                let verdict = self.engine.from_client(self.now, tuple, datagram);
                while black_box(self.engine.poll_release()).is_some() {}
                verdict
            }
            From::Node(sender) => self.engine.from_node(self.now, *sender, datagram),
            From::Nat(port, sender) => self.engine.from_nat(self.now, *port, *sender, datagram),
        }
    }

    /// After each of the datagrams was there once.
    pub(super) fn warmed(mut self) -> Self {
        for _ in 0..self.arrivals.len() {
            self.decide_next();
        }
        self
    }

    /// Lets each client send another datagram first.
    pub(super) fn after_each(&mut self, datagram: &[u8]) {
        for arrival in &self.arrivals {
            if let From::Client(tuple) = &arrival.from {
                self.engine.from_client(self.now, tuple, datagram);
            }
        }
    }
}

/// An engine with a flow of each client.
fn with_flows(now: Instant) -> Engine {
    let mut engine = engine(now, true);
    let check = verified_check();
    for number in 0..CLIENTS {
        engine.from_client(now, &client(number), &check);
    }
    engine
}

/// A datagram of all clients, which have flows and have sent it before.
pub(super) fn known(datagram: &[u8]) -> Ready {
    let now = Instant::now();
    of_all(with_flows(now), now, datagram).warmed()
}

/// The same where a node has made up IDs of these lengths.
pub(super) fn known_and_learned(lengths: &[u8], datagram: &[u8]) -> Ready {
    let now = Instant::now();
    let mut engine = with_flows(now);
    for length in lengths {
        let id = vec![0xe0 | (length & 0x1f); (*length).into()];
        let answer = kit::tunnelled(&client(0), &Connection::v1(b"", &id).handshake(&[0; 40]));
        engine.from_node(now, node(1), &answer);
    }
    of_all(engine, now, datagram).warmed()
}

/// A datagram of all clients, of which the engine knows none.
pub(super) fn new(datagram: &[u8]) -> Ready {
    let now = Instant::now();
    of_all(engine(now, true), now, datagram)
}

/// A datagram of all clients, whose last Initial had a routing ID.
pub(super) fn hinted(datagram: &[u8]) -> Ready {
    let mut ready = new(datagram);
    let own = Connection::v1(&ENCRYPTED.cid(&SERVER, 6), b"s");
    ready.after_each(&own.hello(&hello().bytes()));
    ready.warmed()
}

/// A first datagram of each of so many new connections, from as many new clients.
pub(super) fn new_connections(sni: bool) -> Ready {
    let now = Instant::now();
    each(engine(now, sni), now, initials(COUNTED))
}

/// What follows the first datagram of a connection.
pub(super) fn after_initials(sni: bool, datagram: impl Fn(u32) -> Vec<u8>) -> Ready {
    let opened = new_connections(sni).warmed();
    each(opened.engine, opened.now, (0..COUNTED).map(datagram).collect()).warmed()
}

/// One half of hellos that fill two datagrams. The first is held, the second releases it.
pub(super) fn halves(which: usize) -> Ready {
    let hello = hello().post_quantum().bytes();
    let (first, second): (Vec<_>, Vec<_>) = (0..COUNTED)
        .map(|number| {
            let [ends, middle] = opening(number).chrome_hello(&hello, 60);
            (ends, middle)
        })
        .unzip();
    let now = Instant::now();
    let first = each(engine(now, true), now, first);
    if which == 0 {
        return first;
    }
    each(first.warmed().engine, now, second)
}

/// What a node sends to one client after another.
pub(super) fn back(payload: Vec<u8>) -> Ready {
    let now = Instant::now();
    let arrivals = (0..CLIENTS).map(|number| Arrival {
        from: From::Node(node(1)),
        datagram: kit::tunnelled(&client(number), &payload).into(),
    });
    Ready { engine: with_flows(now), now, arrivals: arrivals.collect(), next: 0 }
}

/// The same of a node that is reached by `nat`, where each client has a port.
pub(super) fn back_by_nat(payload: Vec<u8>) -> Ready {
    let mut ready = new(&quic::short(&PLAIN.cid(&FOREIGN, 1), &[0; 1_000]));
    let payload: Rc<[u8]> = payload.into();
    for _ in 0..ready.arrivals.len() {
        let at = ready.next;
        let Verdict::Forward(destination) = ready.decide_next() else {
            panic!("a client of the foreign node is forwarded");
        };
        let port = destination.port.expect("each client has one");
        ready.arrivals[at] =
            Arrival { from: From::Nat(port, foreign()), datagram: payload.clone() };
    }
    ready
}

/// One datagram, of all clients.
pub(super) fn of_all(engine: Engine, now: Instant, datagram: &[u8]) -> Ready {
    let datagram: Rc<[u8]> = datagram.into();
    let arrivals = (0..CLIENTS)
        .map(|number| Arrival { from: From::Client(client(number)), datagram: datagram.clone() });
    Ready { engine, now, arrivals: arrivals.collect(), next: 0 }
}

/// One datagram of each client. They are of different networks, of which each may have so much held
/// and no more.
pub(super) fn each(engine: Engine, now: Instant, datagrams: Vec<Vec<u8>>) -> Ready {
    let arrivals = (0..).zip(datagrams).map(|(number, datagram)| Arrival {
        from: From::Client(client(number << 8)),
        datagram: datagram.into(),
    });
    Ready { engine, now, arrivals: arrivals.collect(), next: 0 }
}
