//! What is counted of use: IDs by configuration, and flows and datagrams by node.

use kit::{Connection, FleetText, Routing, quic};
use lb::Route;
use wire::quic_lb::ConfigId;

use crate::world::{A, B, C, Lb, Sfu, VERIFIED, client, fleet_of, hello, secs, to};

/// Another configuration beside the first, as during a rotation of keys.
const NEXT: Routing = Routing::encrypted(1).verified();

fn rotating() -> FleetText {
    let fleet = FleetText::new(&[VERIFIED, NEXT]);
    [A, B, C].iter().fold(fleet, |fleet, sfu| fleet.node(sfu.node()))
}

impl Lb {
    fn uses(&self) -> [u64; 2] {
        let uses = |config| self.engine.counters().config_uses(config).value();
        [0, 1].map(|config| uses(ConfigId::new(config).expect("a number")))
    }

    /// Flows of a node, and datagrams that were forwarded to it.
    fn traffic(&self, sfu: Sfu) -> (u64, u64) {
        let table = self.engine.table();
        let is_its = |backend| {
            table.backend(backend).is_some_and(|found| table.node_name(found) == sfu.name)
        };
        let its = self.engine.traffic().filter(|traffic| is_its(traffic.backend));
        its.fold((0, 0), |sum, traffic| (sum.0 + traffic.flows, sum.1 + traffic.forwarded))
    }
}

#[test]
fn an_id_that_names_a_node_counts_for_its_configuration_whatever_carries_it() {
    let mut lb = Lb::new(&rotating());
    assert_eq!(lb.uses(), [0, 0]);
    lb.client(client(1), &A.check(&NEXT, 1)).is(to(A, Route::Ufrag));
    assert_eq!(lb.uses(), [0, 1]);
    lb.client(client(2), &quic::short(&B.cid(&VERIFIED, 7), b"payload")).is(to(B, Route::Cid));
    assert_eq!(lb.uses(), [1, 1]);
    let known = Connection::v1(&B.cid(&NEXT, 8), b"client");
    lb.client(client(2), &known.handshake(b"handshake")).is(to(B, Route::Cid));
    assert_eq!(lb.uses(), [1, 2]);
    let opening = Connection::v1(&[0xe7; 8], b"client");
    lb.client(client(3), &opening.hello(&hello(&C.host(&NEXT)))).is(to(C, Route::Sni));
    assert_eq!(lb.uses(), [1, 3]);
    // What follows a flow bears no ID.
    lb.follows(client(1), A);
    assert_eq!(lb.uses(), [1, 3]);
}

#[test]
fn what_names_nobody_or_is_forged_keeps_no_configuration_in_use() {
    let mut lb = Lb::new(&rotating());
    let stranger = NEXT.cid(&[9; 4], 1);
    let _dropped = lb.client(client(1), &quic::short(&stranger, b"payload"));
    let ufrag = NEXT.ufrag(&A.server_id, 1);
    let forged = kit::stun::check(&format!("{ufrag}:client"), "no password of it", [1; 12]);
    let _dropped = lb.client(client(1), &forged);
    assert_eq!(lb.uses(), [0, 0]);
}

#[test]
fn a_nodes_flows_are_counted_until_they_have_idled_moved_or_made_room() {
    let mut lb = Lb::with_room(&fleet_of(&VERIFIED), 2);
    lb.bind(client(1), A, &VERIFIED);
    lb.bind(client(2), A, &VERIFIED);
    assert_eq!((lb.traffic(A).0, lb.traffic(B).0), (2, 0));
    // One moves, when its guard is over.
    let _idle = lb.wait(secs(9));
    let moves = lb.client(client(1), &B.check(&VERIFIED, 9)).and("flow_moves");
    moves.is(to(B, Route::Ufrag));
    assert_eq!((lb.traffic(A).0, lb.traffic(B).0), (1, 1));
    // A third makes the longest unused one go.
    let third = lb.client(client(3), &C.check(&VERIFIED, 9)).and("evictions flows");
    third.is(to(C, Route::Ufrag));
    assert_eq!((lb.traffic(A).0, lb.traffic(B).0, lb.traffic(C).0), (0, 1, 1));
    let _idle = lb.wait(secs(61));
    assert_eq!((lb.traffic(B).0, lb.traffic(C).0), (0, 0));
}

#[test]
fn datagrams_that_leave_no_flow_are_seen_at_their_node_as_well() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    assert_eq!(lb.traffic(B), (0, 0));
    lb.client(client(2), &quic::short(&B.cid(&VERIFIED, 7), b"payload")).is(to(B, Route::Cid));
    assert_eq!(lb.traffic(B), (0, 1));
    // Those that were held count when they leave.
    let opening = Connection::v1(&[0xe7; 8], b"client");
    let parts = opening.split_hello(&hello(&C.host(&VERIFIED)), &[60]);
    for part in &parts {
        let _step = lb.client(client(3), part);
    }
    assert_eq!(lb.traffic(C), (0, parts.len() as u64));
    // Another node of the name, after it was gone, begins anew.
    let without =
        [A, B].iter().fold(FleetText::new(&[VERIFIED]), |fleet, sfu| fleet.node(sfu.node()));
    lb.apply(&without);
    lb.apply(&fleet_of(&VERIFIED));
    assert_eq!(lb.traffic(C), (0, 0));
}
