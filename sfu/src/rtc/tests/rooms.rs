//! What reaches whom.

use std::time::Duration;

use str0m::{
    format::Codec,
    media::{Direction, MediaKind},
};

use super::world::{World, room};
use crate::{
    metrics::Drop,
    rtc::{Refused, Role, forward::PAYLOAD_MAX, rooms::PARTICIPANTS_MAX, sessions::Key},
};

/// A client that sends video and one that receives it, connected.
fn pair() -> World {
    let mut world = World::new();
    world.join(|client| {
        client.line(MediaKind::Video, Direction::SendOnly);
    });
    world.join(|client| {
        client.line(MediaKind::Video, Direction::RecvOnly);
    });
    world.until("both connect", |world| world.clients.iter().all(|client| client.connected));
    world.run(Duration::from_millis(100));
    world
}

/// Sends some packets; says what of each arrives.
fn carried(world: &mut World, codec: Codec, payload: &[u8]) -> bool {
    for _ in 0..3 {
        let now = world.now;
        world.clients[0].send(now, 0, codec, payload);
        world.run(Duration::from_millis(20));
    }
    world.clients[1].payloads().contains(payload)
}

#[test]
fn vp8_and_h264_are_passed_on_and_what_is_too_long_is_not() {
    let mut world = pair();
    assert!(carried(&mut world, Codec::Vp8, b"vp8"));
    assert!(carried(&mut world, Codec::H264, b"h264"));
    assert!(carried(&mut world, Codec::H264, &[7; PAYLOAD_MAX]));
    assert!(!carried(&mut world, Codec::Vp8, &[7; PAYLOAD_MAX + 1]));
    assert_eq!(world.dropped(Drop::TooLong), 3);
    let sequence: Vec<_> = world.clients[1].received.iter().map(|packet| *packet.seq_no).collect();
    assert!(sequence.is_sorted_by(|one, next| one + 1 == *next), "no gap: {sequence:?}");
}

#[test]
fn a_new_subscriber_makes_the_node_ask_for_a_keyframe() {
    let mut world = pair();
    assert!(carried(&mut world, Codec::Vp8, b"vp8"));
    let before = world.clients[0].keyframes_asked;
    world.run(Duration::from_secs(1));
    world.join(|client| {
        client.line(MediaKind::Video, Direction::RecvOnly);
    });
    world.until("it is asked", |world| world.clients[0].keyframes_asked > before);
}

#[test]
fn a_room_has_a_bound() {
    let mut world = World::new();
    let (offer, _) = {
        let client = world.join(|client| {
            client.line(MediaKind::Audio, Direction::SendOnly);
        });
        world.clients[client].line(MediaKind::Audio, Direction::SendOnly);
        world.clients[client].offer(|_| {})
    };
    // Members without sessions, which cost a millisecond each.
    for member in 1..PARTICIPANTS_MAX {
        let member = u64::try_from(member).expect("few");
        world.node.rooms.join(&room(), Key(1_000_000 + member), false);
    }
    let refused = world.offer(&offer);
    assert!(matches!(refused, Err(Refused::RoomFull)), "{refused:?}");
    let other = "other".parse().expect("a name");
    assert!(world.node.join(world.now, other, Role::Participant, &offer).is_ok());
}
