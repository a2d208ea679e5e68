//! Nodes that do not answer this LB's probes.

use std::{collections::BTreeSet, sync::Arc};

use kit::{Connection, FleetText, quic};
use lb::Route;

use crate::world::{A, B, Lb, OPEN, Sfu, client, fleet_of, hashed, hello, to};

fn avoid(lb: &mut Lb, sfus: &[Sfu]) {
    let fleet = lb.engine.table().fleet();
    let silent: BTreeSet<_> = (fleet.nodes.iter())
        .filter(|node| sfus.iter().any(|sfu| sfu.address == node.address))
        .map(|node| node.id.clone())
        .collect();
    assert_eq!(silent.len(), sfus.len());
    let table = lb.engine.table().avoiding(silent);
    lb.engine.apply(Arc::new(table));
}

fn openings() -> impl Iterator<Item = (u8, Vec<u8>)> {
    let opening = |number| Connection::v1(&[number; 8], &[number]).hello(&hello("example.com"));
    (1..40).map(move |number| (number, opening(number)))
}

/// Where connections go that this LB has not seen; which ones it gives to nobody else.
fn spread(lb: &mut Lb) -> Vec<Sfu> {
    openings().map(|(n, opening)| hashed(lb.client(client(n), &opening))).collect()
}

#[test]
fn a_silent_node_takes_no_new_connection_and_keeps_all_that_names_it() {
    let mut lb = Lb::new(&fleet_of(&OPEN));
    lb.bind(client(200), A, &OPEN);
    avoid(&mut lb, &[A]);
    assert!(!spread(&mut lb).contains(&A));
    lb.follows(client(200), A);
    lb.client(client(201), &quic::short(&A.cid(&OPEN, 1), &[0; 30])).is(to(A, Route::Cid));
    let named = Connection::v1(&[0xaa; 8], &[]).hello(&hello(&A.host(&OPEN)));
    lb.client(client(202), &named).is(to(A, Route::Sni));
    lb.bind(client(203), A, &OPEN);
}

#[test]
fn who_is_silent_stays_so_in_the_next_fleet_and_comes_back_with_an_answer() {
    let both = || FleetText::new(&[OPEN]).node(A.node()).node(B.node());
    let mut lb = Lb::new(&both());
    avoid(&mut lb, &[A]);
    lb.apply(&both());
    assert!(spread(&mut lb).iter().all(|sfu| *sfu == B));
    let mut lb = Lb::new(&both());
    avoid(&mut lb, &[A]);
    avoid(&mut lb, &[]);
    assert!(spread(&mut lb).contains(&A));
}

#[test]
fn where_nobody_answers_connections_go_as_if_all_did() {
    let both = FleetText::new(&[OPEN]).node(A.node()).node(B.node());
    let usual = spread(&mut Lb::new(&both));
    let mut lb = Lb::new(&both);
    avoid(&mut lb, &[A, B]);
    assert_eq!(spread(&mut lb), usual);
    // A node that takes nothing new is no reason to send all to the silent.
    let mut lb = Lb::new(&FleetText::new(&[OPEN]).node(A.node()).node(B.node().weight(0)));
    avoid(&mut lb, &[A]);
    assert!(spread(&mut lb).iter().all(|sfu| *sfu == A));
}
