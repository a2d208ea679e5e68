//! Publishers and players, and ICE restarts without an offer.

use std::{sync::Arc, time::Duration};

use str0m::{
    change::SdpPendingOffer,
    format::Codec,
    media::{Direction, MediaKind},
};

use super::world::{Client, World};
use crate::{
    identity::{Named, tests::identity},
    metrics::Drop,
    rtc::{IfMatch, Refused, Role, Trickled},
};

const STEP: Duration = Duration::from_millis(20);

fn video(direction: Direction) -> impl FnOnce(&mut Client) {
    move |client| {
        client.line(MediaKind::Video, direction);
    }
}

fn connect(world: &mut World) {
    world.until("all connect", |world| {
        world.clients.iter().all(|client| client.connected || client.silent)
    });
    world.run(STEP);
}

/// Sends until a client has it, or does not get it.
fn reaches(world: &mut World, from: usize, to: usize, payload: &[u8]) -> bool {
    for _ in 0..5 {
        let now = world.now;
        world.clients[from].send(now, 0, Codec::Vp8, payload);
        world.run(STEP);
    }
    world.clients[to].payloads().contains(payload)
}

#[test]
fn what_is_published_reaches_players_and_neither_is_sent_anything_else() {
    let mut world = World::new();
    let first = world.join_as(Role::Publisher, video(Direction::SendRecv));
    let second = world.join_as(Role::Publisher, video(Direction::SendRecv));
    let player = world.join_as(Role::Player, video(Direction::RecvOnly));
    connect(&mut world);
    assert!(reaches(&mut world, first, player, b"media"));
    assert!(!world.clients[second].payloads().contains(&b"media"[..]));
    for publisher in [first, second] {
        let answer = &world.clients[publisher].answer;
        assert!(answer.contains("a=recvonly\r\n"), "{answer}");
    }
    let player = &world.clients[player].answer;
    assert!(player.contains("a=sendonly\r\n"), "{player}");
    let mut stubborn = Client::new(world.now, 9);
    let (offer, _) = stubborn.line(MediaKind::Video, Direction::SendOnly).offer(|_| {});
    let room = super::world::room();
    let answer = world.node.join(world.now, room, Role::Player, &offer).expect("is answered");
    assert!(answer.answer.contains("a=inactive\r\n"), "{}", answer.answer);
}

#[test]
fn a_players_line_waits_for_a_track_and_is_free_for_the_next_when_its_publisher_goes() {
    let mut world = World::new();
    let player = world.join_as(Role::Player, |client| {
        client.line(MediaKind::Audio, Direction::RecvOnly);
        client.line(MediaKind::Video, Direction::RecvOnly);
    });
    connect(&mut world);
    let mut former: Option<usize> = None;
    for payload in [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()] {
        if let Some(former) = former {
            let client = &world.clients[former];
            let session = client.session.clone().expect("joined");
            world.node.leave(world.now, &session).expect("it is there");
            world.clients[former].silent = true;
        }
        let publisher = world.join_as(Role::Publisher, video(Direction::SendOnly));
        connect(&mut world);
        assert!(reaches(&mut world, publisher, player, &payload), "{payload:?}");
        assert!(world.clients[publisher].keyframes_asked > 0, "the player needs a keyframe");
        former = Some(publisher);
    }
}

/// A client restarts ICE on its side. What it sends of that, and what it waits with for the answer.
fn restart(client: &mut Client) -> (String, SdpPendingOffer) {
    let (offer, pending) = client.offer(|api| {
        api.ice_restart(true);
    });
    let kept = |line: &&str| line.starts_with("a=ice-ufrag:") || line.starts_with("a=ice-pwd:");
    let mut lines: Vec<_> = offer.lines().filter(kept).collect();
    lines.truncate(2);
    (format!("{}\r\n{}\r\n", lines[0], lines[1]), pending)
}

/// The client takes the node's fragment, as if it stood in an answer.
fn take(client: &mut Client, pending: SdpPendingOffer, fragment: &str) {
    let find = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).expect("it is there");
        line.to_owned()
    };
    let mut answer = client.answer.clone();
    for key in ["a=ice-ufrag:", "a=ice-pwd:"] {
        answer = answer.replace(&find(&answer, key), &find(fragment, key));
    }
    client.accept(pending, &answer);
    client.answer = answer;
}

fn connected() -> World {
    let mut world = World::new();
    world.join_as(Role::Publisher, video(Direction::SendOnly));
    world.join_as(Role::Player, video(Direction::RecvOnly));
    connect(&mut world);
    world
}

/// What comes of a fragment from the first client.
fn trickle(world: &mut World, meant: &IfMatch, fragment: &str) -> Result<Trickled, Refused> {
    let session = world.clients[0].session.clone().expect("joined");
    world.node.trickle(world.now, &session, meant, fragment)
}

#[test]
fn ice_is_restarted_by_a_fragment_under_another_ufrag_of_this_node_and_media_goes_on() {
    let mut world = connected();
    let mut tags = vec![world.clients[0].tag.clone()];
    for round in 0..3_u8 {
        let (fragment, pending) = restart(&mut world.clients[0]);
        let restarted = trickle(&mut world, &IfMatch::Any, &fragment).expect("it restarts");
        let Trickled::Restarted { fragment: ours, tag } = restarted else {
            panic!("not restarted");
        };
        assert_eq!(identity("a").named_by_ufrag(tag.as_bytes()), Named::Me);
        assert!(ours.contains(&format!("a=ice-ufrag:{tag}\r\n")), "{ours}");
        assert!(ours.contains(" 203.0.113.1 4433 typ host\r\n"), "{ours}");
        assert!(!tags.contains(&tag));
        tags.push(tag);
        // Until the client has the answer, it goes on as before.
        assert!(reaches(&mut world, 0, 1, &[round, 0]));
        take(&mut world.clients[0], pending, &ours);
        world.run(Duration::from_secs(40));
        assert!(world.clients[0].rtc.is_connected(), "for longer than consent lasts");
        assert!(reaches(&mut world, 0, 1, &[round, 1]));
    }
    assert_eq!(world.dropped(Drop::UnknownUfrag), 0, "requests to the former one are known");
    assert_eq!(world.dropped(Drop::Unauthenticated), 0);
    let answer = world.update(0, true).expect("and an offer restarts it as well");
    assert!(!answer.contains(&tags[3]), "{answer}");
    world.run(Duration::from_secs(40));
    assert!(reaches(&mut world, 0, 1, b"after"));
}

#[test]
fn a_restart_that_is_asked_for_again_gets_the_same_answer() {
    let mut world = connected();
    let (fragment, _pending) = restart(&mut world.clients[0]);
    let first = trickle(&mut world, &IfMatch::Any, &fragment).expect("it restarts");
    let again = trickle(&mut world, &IfMatch::Any, &fragment).expect("the first may be lost");
    assert_eq!(first, again);
}

#[test]
fn a_fragment_for_an_ice_session_that_is_over_is_refused_and_candidates_change_nothing() {
    let mut world = connected();
    let tag = |world: &World| IfMatch::Tags(vec![world.clients[0].tag.clone()]);
    let before = tag(&world);
    let candidates = "m=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
                      a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";
    let noted = trickle(&mut world, &before, candidates).expect("candidates");
    assert_eq!(noted, Trickled::Noted);
    let refused = trickle(&mut world, &IfMatch::Any, candidates);
    assert!(matches!(refused, Err(Refused::Fragment(_))), "{refused:?}");
    let garbage = trickle(&mut world, &before, "hello");
    assert!(matches!(garbage, Err(Refused::Fragment(_))), "{garbage:?}");
    world.update(0, true).expect("is answered");
    let now = tag(&world);
    assert_ne!(before, now);
    for meant in [before.clone(), IfMatch::Tags(Vec::new())] {
        let stale = trickle(&mut world, &meant, candidates);
        assert!(matches!(stale, Err(Refused::Stale)), "{stale:?}");
    }
    let session = world.clients[0].session.clone().expect("joined");
    let stale = world.node.update(world.now, &session, Some(&before), "v=0");
    assert!(matches!(stale, Err(Refused::Stale)), "{stale:?}");
    assert_eq!(trickle(&mut world, &now, candidates).expect("candidates"), Trickled::Noted);
    world.run(Duration::from_secs(1));
    assert!(reaches(&mut world, 0, 1, b"all the same"));
}

#[test]
fn a_restart_tells_where_the_vip_is_by_then() {
    let mut world = connected();
    world.candidates.store(Arc::new(vec!["203.0.113.9:443".parse().expect("an address")]));
    let told = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("a=candidate:")).expect("one");
        assert!(line.contains(" 203.0.113.9 443 typ host"), "{line}");
    };
    let answer = world.update(0, true).expect("is answered");
    told(&answer);
    let (fragment, _pending) = restart(&mut world.clients[0]);
    let restarted = trickle(&mut world, &IfMatch::Any, &fragment).expect("it restarts");
    let Trickled::Restarted { fragment, .. } = restarted else {
        panic!("not restarted");
    };
    told(&fragment);
}
