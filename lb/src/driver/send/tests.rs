use std::{net::UdpSocket, os::fd::AsFd, time::Duration};

use super::*;
use crate::driver::{error_queue, socket::in_trains};

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket takes it");
    socket
}

/// A pool with datagrams of these lengths, each filled with its number.
fn pool(lengths: &[usize]) -> (Pool, Vec<Outgoing>) {
    let datagrams: Vec<_> = (0..).zip(lengths).map(|(number, len)| vec![number; *len]).collect();
    let (pool, bytes) = Pool::holding(&datagrams);
    (pool, bytes.into_iter().map(Outgoing::from).collect())
}

fn received(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 64 * 1024];
    let len = socket.recv(&mut buffer).expect("there in time");
    buffer.truncate(len);
    buffer
}

/// What was sent together may be handed over in parts, in its order.
fn arrives(socket: &UdpSocket, expected: &[u8]) {
    let mut all = Vec::new();
    while all.len() < expected.len() {
        all.extend(received(socket));
    }
    assert_eq!(all, expected);
}

#[test]
fn what_goes_to_one_address_leaves_as_one_train_and_arrives_as_it_was() {
    let (pool, datagrams) = pool(&[500, 500, 500, 20, 500, 300]);
    let (one, other, sender) = (socket(), socket(), socket());
    in_trains(one.as_fd()).expect("the system has it");
    let mut queue = SendQueue::new();
    let to = |socket: &UdpSocket| socket.local_addr().expect("bound");
    for (number, datagram) in datagrams.iter().enumerate() {
        let way = if number == 3 { &other } else { &one };
        queue.push(*datagram, to(way), None);
    }
    assert_eq!(queue.flush(sender.as_fd(), &pool).refused, 0);
    let parts = [[0; 500], [1; 500], [2; 500], [4; 500]].concat();
    arrives(&one, &[parts, vec![5; 300]].concat());
    assert_eq!(received(&other), [3; 20]);
    // Behind headers that stand elsewhere.
    for number in [0, 1] {
        let header = Some([number as u8 + 7; tunnel::HEADER_LEN]);
        queue.push(Outgoing { header, ..datagrams[number] }, to(&one), None);
    }
    assert_eq!(queue.flush(sender.as_fd(), &pool).refused, 0);
    let expected = [&[7; 38][..], &[0; 500], &[8; 38], &[1; 500]].concat();
    arrives(&one, &expected);
    // To who knows nothing of trains, each is one again; and from an address that is said.
    queue.push(datagrams[0], to(&other), Some([127, 0, 0, 9].into()));
    queue.push(datagrams[1], to(&other), Some([127, 0, 0, 9].into()));
    let wildcard = UdpSocket::bind("0.0.0.0:0").expect("a port");
    assert_eq!(queue.flush(wildcard.as_fd(), &pool).refused, 0);
    let mut buffer = [0; 1_000];
    for number in [0, 1] {
        let (len, from) = other.recv_from(&mut buffer).expect("there in time");
        assert_eq!((&buffer[..len], from.ip()), (&[number; 500][..], [127, 0, 0, 9].into()));
    }
}

#[test]
fn what_is_refused_together_is_tried_apart_and_counted() {
    // A socket without a checksum cannot send trains at all.
    let (pool, datagrams) = pool(&[500; 3]);
    let (to, sender) = (socket(), socket());
    let off: libc::c_int = 1;
    // SAFETY: `off` is a live `int` of that length, which is what the option takes.
    let set = unsafe {
        libc::setsockopt(
            sender.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const off).cast(),
            mem::size_of_val(&off) as u32,
        )
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
    let mut queue = SendQueue::new();
    for _ in 0..2 {
        for (number, datagram) in datagrams.iter().enumerate() {
            // One is in two pieces.
            let header = (number == 1).then_some([9; tunnel::HEADER_LEN]);
            let bytes = if number == 1 { datagram.bytes.behind_header() } else { datagram.bytes };
            queue.push(Outgoing { header, bytes }, to.local_addr().expect("bound"), None);
        }
        assert_eq!(queue.flush(sender.as_fd(), &pool).refused, 0);
        assert_eq!(received(&to), [0; 500]);
        assert_eq!(received(&to), [&[9; 38][..], &[1; 462]].concat());
        assert_eq!(received(&to), [2; 500]);
    }
    // And where each of them is refused, each counts.
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    (0..3).for_each(|slot| queue.push(datagrams[slot], nowhere, None));
    assert_eq!(queue.flush(socket().as_fd(), &pool), Sent { refused: 3, stopped: true });
}

#[test]
fn an_error_of_an_earlier_datagram_costs_no_later_one_and_no_train_its_length() {
    let (pool, datagrams) = pool(&[500; 4]);
    let (to, sender) = (socket(), socket());
    in_trains(to.as_fd()).expect("the system has it");
    error_queue::listen(&sender, true).expect("the system has it");
    let closed = socket().local_addr().expect("bound");
    let mut queue = SendQueue::new();
    let address = to.local_addr().expect("bound");
    for count in [1, 3] {
        // On loopback the answer is there before this returns.
        sender.send_to(b"to nobody", closed).expect("sent");
        datagrams[..count].iter().for_each(|datagram| queue.push(*datagram, address, None));
        let sent = queue.flush(sender.as_fd(), &pool);
        assert_eq!(sent, Sent { refused: 0, stopped: true }, "{count}");
        let expected: Vec<u8> = (0..count as u8).flat_map(|number| [number; 500]).collect();
        assert_eq!(received(&to), expected, "whole, in one piece");
        queue.push(datagrams[3], address, None);
        assert_eq!(queue.flush(sender.as_fd(), &pool), Sent::default());
        assert_eq!(received(&to), [3; 500]);
    }
    // One behind the first of a call is as good as the others.
    queue.push(datagrams[0], closed, None);
    queue.push(datagrams[1], address, None);
    queue.push(datagrams[2], closed, None);
    assert_eq!(queue.flush(sender.as_fd(), &pool), Sent { refused: 0, stopped: true });
    assert_eq!(received(&to), [1; 500]);
}
