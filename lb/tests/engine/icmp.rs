//! What the network says of datagrams that did not arrive: counted for the node that they were for, or from,
//! and nothing else.

use control::fleet::Forward;
use kit::{Connection, quic, sample};
use lb::{
    Route,
    counters::{IcmpLabel, Side, SocketLabel, TableLabel},
};

use crate::world::{A, B, C, Lb, Sfu, VERIFIED, at_vip, client, fleet_of, hello, to};

use IcmpLabel::{Other, TooBig, Unreachable};

impl Lb {
    /// Errors about what was for a node, or for its clients.
    fn undelivered(&self, sfu: Sfu, side: Side, why: IcmpLabel) -> u64 {
        let table = self.engine.table();
        let is_its = |backend| {
            table.backend(backend).is_some_and(|found| table.node_name(found) == sfu.name)
        };
        let its = self.engine.traffic().filter(|traffic| is_its(traffic.backend));
        its.map(|traffic| traffic.undelivered.count(side, why)).sum()
    }

    /// Errors about datagrams for clients, of each node.
    fn undelivered_of_each(&self) -> [u64; 3] {
        [A, B, C].map(|sfu| self.undelivered(sfu, Side::Client, Unreachable))
    }
}

#[test]
fn an_error_about_what_was_for_a_node_counts_for_the_node_that_has_the_address() {
    let foreign = B.node().forward("nat");
    let fleet = kit::FleetText::new(&[VERIFIED]).node(A.node()).node(foreign);
    let mut lb = Lb::new(&fleet);
    lb.engine.undelivered_to_node(Forward::Tunnel, A.address, TooBig);
    lb.engine.undelivered_to_node(Forward::Nat, B.address, Unreachable);
    // Nobody's, and a node that nothing leaves for in that way.
    lb.engine.undelivered_to_node(Forward::Tunnel, C.address, Other);
    lb.engine.undelivered_to_node(Forward::Tunnel, B.address, Other);
    let counters = lb.engine.counters();
    assert_eq!(counters.icmp(SocketLabel::Tunnel, TooBig).value(), 1);
    assert_eq!(counters.icmp(SocketLabel::Nat, Unreachable).value(), 1);
    assert_eq!(counters.icmp(SocketLabel::Tunnel, Other).value(), 2);
    assert_eq!(lb.undelivered(A, Side::Node, TooBig), 1);
    assert_eq!(lb.undelivered(B, Side::Node, Unreachable), 1);
    assert_eq!(lb.undelivered(B, Side::Node, Other), 0);
}

#[test]
fn an_error_about_what_was_for_a_client_counts_for_the_node_of_its_flow() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    lb.bind(client(1), A, &VERIFIED);
    for quoted in [&sample::srtp()[..], &sample::dtls(), &[]] {
        lb.engine.undelivered_to_client(&client(1), quoted, Unreachable);
    }
    assert_eq!(lb.undelivered_of_each(), [3, 0, 0]);
    // Of somebody else, and at another of the VIP's addresses.
    let elsewhere = at_vip("198.51.100.1:50000", "192.0.2.2:4433");
    for tuple in [client(2), elsewhere] {
        lb.engine.undelivered_to_client(&tuple, &sample::srtp(), Unreachable);
    }
    assert_eq!(lb.undelivered_of_each(), [3, 0, 0]);
    assert_eq!(lb.engine.counters().icmp(SocketLabel::Listener, Unreachable).value(), 5);
}

#[test]
fn a_quoted_id_of_a_node_beats_the_flow_and_the_hint_of_that_address() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    lb.bind(client(1), A, &VERIFIED);
    let handshake = |scid: &[u8]| Connection::v1(b"client", scid).handshake(&[0; 40]);
    // A routing ID; cut off behind it, as networks do.
    let mut quoted = handshake(&B.cid(&VERIFIED, 1));
    quoted.truncate(40);
    lb.engine.undelivered_to_client(&client(1), &quoted, Unreachable);
    assert_eq!(lb.undelivered_of_each(), [0, 1, 0]);
    // One that its server made up, which was learned.
    let own = [0xe5; 11];
    lb.node(C.address, client(9), &handshake(&own)).returns();
    lb.engine.undelivered_to_client(&client(1), &handshake(&own), Unreachable);
    assert_eq!(lb.undelivered_of_each(), [0, 1, 1]);
    // A short header names its client only: the hint, which that QUIC has, beats what WebRTC has.
    let opening = Connection::v1(&[0xe7; 8], b"client").hello(&hello(&B.host(&VERIFIED)));
    lb.client(client(1), &opening).is(to(B, Route::Sni));
    let short = quic::short(b"client", &[0; 40]);
    lb.engine.undelivered_to_client(&client(1), &short, Unreachable);
    assert_eq!(lb.undelivered_of_each(), [0, 2, 1]);
}

#[test]
fn no_number_of_errors_ends_or_moves_or_keeps_a_flow() {
    let mut lb = Lb::new(&fleet_of(&VERIFIED));
    lb.bind(client(1), A, &VERIFIED);
    let forged = Connection::v1(b"client", &B.cid(&VERIFIED, 1)).handshake(&[0; 40]);
    for why in [Unreachable, TooBig, Other] {
        for quoted in [&forged[..], &sample::srtp()] {
            lb.engine.undelivered_to_client(&client(1), quoted, why);
        }
        lb.engine.undelivered_to_node(Forward::Tunnel, A.address, why);
    }
    assert_eq!(lb.entries(TableLabel::Flows), 1);
    lb.follows(client(1), A);
    // Nor does one count as a use.
    let idle = lb::engine::Limits::default().flow_idle;
    let _nothing_due = lb.wait(idle / 2);
    lb.engine.undelivered_to_client(&client(1), &sample::srtp(), Unreachable);
    let _expired = lb.wait(idle / 2);
    assert_eq!(lb.entries(TableLabel::Flows), 0);
}
