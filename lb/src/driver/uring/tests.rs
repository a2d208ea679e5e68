use std::{net::UdpSocket, os::fd::AsFd};

use super::*;

/// Datagrams that each socket has: more than there are buffers for all.
const BACKLOG: usize = 2 * BUFFERS as usize;

#[test]
fn where_buffers_run_out_every_socket_has_its_turn() {
    let pool = Pool::new(RECEIVE).expect("memory");
    let mut ring = Ring::new(&pool).expect("the system has io_uring");
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let sockets: Vec<_> =
        (0..8).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port is free")).collect();
    for socket in &sockets {
        let address = socket.local_addr().expect("bound");
        (0..BACKLOG).for_each(|_| {
            sender.send_to(b"datagram", address).expect("sent");
        });
    }
    let watch = |ring: &mut Ring, source| {
        if let Source::Port(number) = source {
            ring.watch(source, sockets[number as usize].as_fd());
        }
    };
    (0..8).for_each(|number| watch(&mut ring, Source::Port(number)));
    let mut received = [0; 8];
    for turn in 0..8 {
        assert!(ring.wait(None, Some(Duration::from_secs(5))), "nothing comes in turn {turn}");
        while let Some(event) = ring.next(&pool) {
            if let Event::Received { source: Source::Port(number), .. } = event {
                received[number as usize] += 1;
            }
        }
        assert!(ring.has_run_out(), "there is more than fits");
        ring.give_back(&pool);
        while let Some((source, failed)) = ring.poll_ended() {
            assert!(!failed);
            watch(&mut ring, source);
        }
    }
    let least = received.iter().min().copied().unwrap_or_default();
    // An equal share of what eight turns bring is as many as there are buffers.
    assert!(2 * least >= usize::from(BUFFERS), "uneven: {received:?}");
}
