//! Connectivity checks: who may make them, and what happens without.

use std::time::Duration;

use bytecodec::EncodeExt;
use str0m::media::{Direction, MediaKind};
use stun_codec::{
    Message, MessageClass, MessageEncoder, TransactionId,
    rfc5389::{
        Attribute,
        attributes::{MessageIntegrity, Username},
        methods::BINDING,
    },
};

use super::{path, world::World};
use crate::metrics::{Drop, Kind};

fn connected() -> World {
    let mut world = World::new();
    world.join(|client| {
        client.line(MediaKind::Audio, Direction::SendOnly);
    });
    world.until("it connects", |world| world.clients[0].connected);
    world
}

/// A request to the session's ufrag by someone with this password.
fn request(world: &mut World, class: MessageClass, password: &str) -> Vec<u8> {
    let ours = world.node.sessions.only().expect("one session");
    let theirs = world.clients[0].credentials().ufrag;
    let transaction = TransactionId::new([7; 12]);
    let mut message = Message::<Attribute>::new(class, BINDING, transaction);
    let username = Username::new(format!("{}:{theirs}", ours.ufrag));
    message.add_attribute(username.expect("short"));
    let password = if password.is_empty() { ours.pass } else { password.to_owned() };
    let seal = MessageIntegrity::new_short_term_credential(&message, &password);
    message.add_attribute(seal.expect("sealed"));
    MessageEncoder::new().encode_into_bytes(message).expect("encoded")
}

#[test]
fn a_stranger_who_knows_the_ufrag_does_not_use_up_the_sessions_addresses() {
    let mut world = connected();
    let forged = request(&mut world, MessageClass::Request, "a guess that is wrong");
    for port in 0..500 {
        world.node.receive(world.now, path(port), &forged);
    }
    assert_eq!(world.dropped(Drop::Unauthenticated), 500);
    assert_eq!(world.dropped(Drop::TooManyAddresses), 0);
    let own = request(&mut world, MessageClass::Request, "");
    for port in 0..500 {
        world.node.receive(world.now, path(port), &own);
    }
    assert_eq!(world.dropped(Drop::TooManyAddresses), 500 - 63, "with its own there are 64");
    assert_eq!(world.dropped(Drop::Unauthenticated), 500);
}

#[test]
fn what_is_no_request_or_comes_by_another_ip_version_is_counted() {
    let mut world = connected();
    let indication = request(&mut world, MessageClass::Indication, "");
    world.node.receive(world.now, path(1), &indication);
    assert_eq!(world.dropped(Drop::OtherStun), 1);
    let mut path = path(1);
    let v6 = |text: &str| text.parse().expect("an address");
    path.tuple = wire::FiveTuple::new(v6("[2001:db8::1]:5"), v6("[2001:db8::2]:5"));
    let own = request(&mut world, MessageClass::Request, "");
    world.node.receive(world.now, path, &own);
    assert_eq!(world.dropped(Drop::NoCandidate), 1, "there is no IPv6 candidate");
}

#[test]
fn a_session_whose_client_fell_silent_ends_when_its_consent_has_expired() {
    let mut world = connected();
    world.run(Duration::from_secs(60));
    assert_eq!(world.metrics.sessions_count(Kind::Ice), 1, "its client checks");
    world.clients[0].silent = true;
    world.run(Duration::from_secs(20));
    assert_eq!(world.metrics.sessions_count(Kind::Ice), 1, "consent lasts 30 s");
    world.run(Duration::from_secs(12));
    assert_eq!(world.metrics.sessions_count(Kind::Ice), 0);
    assert_eq!(world.node.poll_timeout().filter(|due| *due <= world.now), None);
}

#[test]
fn a_session_whose_client_never_came_ends_too() {
    let mut world = World::new();
    world.join(|client| {
        client.line(MediaKind::Audio, Direction::SendOnly);
        client.silent = true;
    });
    world.run(Duration::from_secs(32));
    assert_eq!(world.metrics.sessions_count(Kind::Ice), 0);
}

#[test]
fn only_a_request_without_any_username_is_a_probe_and_gets_an_answer() {
    let mut world = World::new();
    let mut answers = |request: &[u8]| {
        world.node.receive(world.now, path(1), request);
        std::iter::from_fn(|| world.node.poll_transmit()).count()
    };
    assert_eq!(answers(&kit::Stun::request([7; 12]).fingerprint().bytes()), 1);
    for username in ["", "no colon", "ab-d:client", ":client"] {
        let request = kit::Stun::request([7; 12]).username(username).bytes();
        assert_eq!(answers(&request), 0, "{username:?}");
    }
    assert_eq!(world.dropped(Drop::UnknownUfrag), 4);
}
