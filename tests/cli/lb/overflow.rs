//! Datagrams that the kernel has no room for.

use kit::quic;

use super::world::{ROUTING, SERVERS, World};
use crate::process::{Signal, eventually};

#[test]
fn each_datagram_that_comes_while_an_lb_stands_still_is_received_or_counted_as_the_kernels_drop() {
    let world = World::start("");
    let datagram = quic::short(&ROUTING.cid(&SERVERS[0], 1), &[7; 1_000]);
    let listener = "onevip_lb_kernel_drops_total{socket=\"listener\"}";
    let received = "onevip_lb_datagrams_total{direction=\"client\",class=\"quic_short\"}";
    let sent = 20_000;
    for round in 1..=2 {
        world.lb.signal(Signal::STOP);
        (0..sent).for_each(|_| world.send(&datagram));
        world.lb.signal(Signal::CONT);
        eventually("all are accounted for", || {
            let dropped = world.metric(listener);
            dropped > 0 && world.metric(received) + dropped == round * sent
        });
    }
    for socket in ["tunnel", "nat"] {
        let line = format!("onevip_lb_kernel_drops_total{{socket=\"{socket}\"}}");
        assert_eq!(world.metric(&line), 0);
    }
}
