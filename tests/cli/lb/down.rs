//! A node that is down: what the LB says in its place.

use kit::{Stun, sample, stun};
use wire::stun::{Message, MessageClass};

use super::world::{OPEN, ROUTING, SERVERS, World, fleet};
use crate::process::eventually;

#[test]
fn the_client_of_a_node_that_is_down_is_told_at_once_and_by_the_vip() {
    let world = World::start("");
    let [a, _] = SERVERS;
    let ufrag = ROUTING.ufrag(&a, 1);
    let password = ROUTING.password(&ufrag);
    let check = |transaction| stun::check(&format!("{ufrag}:cli"), &password, [transaction; 12]);
    world.reaches(0, &check(1));

    world.folder.write("fleet.toml", &fleet(&world.nodes, ["down", "serving"]));
    eventually("it is applied", || world.metric("onevip_lb_fleet_revision") == 2);
    for transaction in 2..5 {
        world.send(&check(transaction));
        let mut buffer = [0; 2_000];
        let (len, from) = world.client.recv_from(&mut buffer).expect("the client is told");
        assert_eq!(from, world.vip);
        let told = Message::parse(&buffer[..len]).expect("a STUN message");
        assert_eq!(told.class(), MessageClass::Error);
        let expected = Stun::new(stun::MessageClass::ErrorResponse, [transaction; 12])
            .error_code(400)
            .integrity(&password)
            .fingerprint();
        assert_eq!(&buffer[..len], expected.bytes());
    }
    assert_eq!(world.metric("onevip_lb_verdicts_total{verdict=\"reply\"}"), 3);
    // What cannot be verified, or asks for nothing, is dropped as ever.
    let open = OPEN.ufrag(&a, 1);
    world.is_dropped(&stun::check(&format!("{open}:cli"), "own", [9; 12]), "node_down");
    world.is_dropped(&sample::srtp(), "node_down");
    assert_eq!(world.drain(), 0, "nothing of it came to a node");

    world.folder.write("fleet.toml", &fleet(&world.nodes, ["serving", "serving"]));
    eventually("it is applied", || world.metric("onevip_lb_fleet_revision") == 3);
    world.reaches(0, &check(10));
}
