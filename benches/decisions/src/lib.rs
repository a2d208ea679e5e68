//! Every row of the decision table, ready to be decided: an engine that has seen what must come
//! before, and the datagrams of many clients. What a row costs is measured twice, in time by
//! `benches/engine.rs` and in instructions by this crate's own bench.
//!
//! Nothing here differs from one run to the next: seeds, addresses and the order of a hello's
//! extensions are fixed, and the time stands still.

mod ready;
mod rows;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Instant};

use control::fleet::Fleet;
use kit::{Connection, FleetText, Hello, Node, Routing, Session, stun};
use lb::{
    Engine, Table,
    engine::{Limits, Setup},
};
use wire::FiveTuple;

pub use ready::Ready;
pub use rows::Row;

const PLAIN: Routing = Routing::plain(0);
const ENCRYPTED: Routing = Routing::encrypted(1);
const VERIFIED: Routing = Routing::encrypted(2).verified();
const FOUR_PASS: Routing = Routing::encrypted(3).lengths(4, 8);

/// The server ID of [`node`] 1, to which most datagrams go.
const SERVER: [u8; 4] = [0, 0, 0, 1];

/// The server ID of [`foreign`].
const FOREIGN: [u8; 4] = [0xff; 4];

/// Clients, each with a flow.
pub const CLIENTS: u32 = 1_000;

/// Datagrams of one row whose instructions are counted: each is another client's.
pub const COUNTED: u32 = 64;

/// Nodes of the fleet that rows are decided by; it has one more that is reached by `nat`.
const NODES: u32 = 10;

/// A fleet of so many nodes behind the tunnel, and one that is reached by `nat`.
///
/// # Panics
/// If its text is not valid.
#[must_use]
pub fn fleet(nodes: u32) -> Arc<Fleet> {
    parsed(text(nodes, |node| node))
}

/// The fleet's text, with something more said of each node.
fn text(nodes: u32, more: impl Fn(Node) -> Node) -> FleetText {
    let routing = [PLAIN, ENCRYPTED, VERIFIED, FOUR_PASS];
    let text = (0..nodes).fold(FleetText::new(&routing), |text, number| {
        let node = Node::new(&format!("sfu-{number}"), node(number));
        text.node(more(node.server_id(&number.to_be_bytes())))
    });
    let foreign = Node::new("foreign", foreign()).server_id(&FOREIGN).forward("nat");
    text.node(foreign.serves(&["ice"]))
}

fn parsed(text: FleetText) -> Arc<Fleet> {
    let fleet = Fleet::parse(Path::new("fleet.toml"), &text.to_string());
    Arc::new(fleet.expect("valid").0)
}

/// The fleet with one registered session.
fn with_session() -> Arc<Fleet> {
    parsed(text(NODES, |node| node).session(Session::new("abcd", "sfu-1")))
}

/// The fleet without a node that could take anything.
fn all_down() -> Arc<Fleet> {
    parsed(text(NODES, |node| node.state("down")))
}

fn node(number: u32) -> SocketAddr {
    let [_, b, c, d] = number.to_be_bytes();
    SocketAddr::from(([10, b, c, d], 7_000))
}

/// A node that is reached by `nat`.
fn foreign() -> SocketAddr {
    kit::address("10.255.255.1:7000")
}

fn vip() -> SocketAddr {
    kit::address("192.0.2.1:4433")
}

/// The 5-tuple of a client.
#[must_use]
pub fn client(number: u32) -> FiveTuple {
    let [a, b, c, d] = number.to_be_bytes();
    FiveTuple::new(SocketAddr::from(([20 + a, b, c, d], 5_000)), vip())
}

/// An engine that has seen nothing yet.
#[must_use]
pub fn engine(now: Instant, sni: bool) -> Engine {
    engine_of(fleet(NODES), now, sni)
}

fn engine_of(fleet: Arc<Fleet>, now: Instant, sni: bool) -> Engine {
    let setup = Setup {
        limits: Limits { flows: 65_536, ..Limits::default() },
        sni,
        listeners: vec![vip()],
        seed: [7; 16],
    };
    Engine::new(Arc::new(Table::seeded(fleet, 1, 7)), setup, now)
}

/// A connectivity check that the fleet's key verifies.
fn verified_check() -> Vec<u8> {
    let ufrag = VERIFIED.ufrag(&SERVER, 1);
    stun::check(&format!("{ufrag}:c"), &VERIFIED.password(&ufrag), TRANSACTION)
}

/// A connectivity check that its node has to confirm.
fn open_check() -> Vec<u8> {
    stun::check(&format!("{}:c", ENCRYPTED.ufrag(&SERVER, 2)), "the node's", TRANSACTION)
}

const TRANSACTION: [u8; 12] = [1; 12];

/// A connection whose client has just made up its ID.
fn opening(number: u32) -> Connection {
    Connection::v1(&[b"dcid", &number.to_be_bytes()[..]].concat(), b"s")
}

/// So many first datagrams of new connections, each with the whole ClientHello and the name of a node
/// in it.
#[must_use]
pub fn initials(count: u32) -> Vec<Vec<u8>> {
    let hello = hello().bytes();
    (0..count).map(|number| opening(number).hello(&hello)).collect()
}

/// A ClientHello with the name of a node in it.
fn hello() -> Hello {
    Hello::named(&format!("{}.example.test", ENCRYPTED.label(&SERVER, 3)))
}
