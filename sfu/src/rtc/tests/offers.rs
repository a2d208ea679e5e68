//! Offers: hostile ones, and restarts.

use std::{sync::Arc, time::Duration};

use str0m::{
    IceCreds,
    media::{Direction, MediaKind},
};

use super::world::{Client, World};
use crate::{
    identity::{Named, tests::identity},
    metrics::{Drop, Kind},
    rtc::Refused,
};

const SECOND: Duration = Duration::from_secs(1);

const SESSION: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
                       a=fingerprint:sha-256 11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:\
                       11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00\r\n";

/// A media line, with an ICE ufrag.
fn line(kind: &str, mid: usize, codec: &str, ufrag: &str) -> String {
    format!(
        "m={kind} 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=sendrecv\r\n\
         a=rtcp-mux\r\na=setup:actpass\r\na=rtpmap:96 {codec}\r\na=ice-ufrag:{ufrag}\r\n\
         a=ice-pwd:0123456789012345678901\r\n"
    )
}

/// One payload type for two codecs.
fn twice(ufrag: &str) -> String {
    let audio = line("audio", 0, "opus/48000/2", ufrag);
    format!("{SESSION}{audio}{}", line("video", 1, "VP8/90000", ufrag))
}

/// What an offer is refused with.
#[track_caller]
fn refused(answer: Result<impl std::fmt::Debug, Refused>) -> String {
    match answer {
        Err(Refused::Offer(problem)) => problem.to_string(),
        other => panic!("not refused as an offer: {other:?}"),
    }
}

#[test]
fn an_offer_that_makes_the_library_panic_is_refused_and_the_node_goes_on() {
    let mut world = World::new();
    let problem = refused(world.offer(&twice("abcd")));
    assert!(problem.contains("Pt locked multiple times: 96"), "{problem}");
    assert_eq!(world.metrics.sessions_count(Kind::Ice), 0);
    let client = world.join(|client| {
        client.line(MediaKind::Audio, Direction::SendOnly);
    });
    world.until("it connects", |world| world.clients[client].connected);
}

#[test]
fn an_update_that_makes_the_library_panic_ends_that_session_and_no_other() {
    let mut world = World::new();
    let offer = |client: &mut Client| {
        client.line(MediaKind::Audio, Direction::SendRecv);
    };
    let (doomed, other) = (world.join(offer), world.join(offer));
    world.until("both connect", |world| world.clients.iter().all(|client| client.connected));
    let session = world.clients[doomed].session.clone().expect("joined");
    // The line that it has, with the payload type that its client gave Opus, and another with it.
    let mid = world.clients[doomed].lines[0].to_string();
    let audio =
        line("audio", 0, "opus/48000/2", "abcd").replace("a=mid:0", &format!("a=mid:{mid}"));
    let session_part = SESSION.replace("BUNDLE 0 1", &format!("BUNDLE {mid} 1"));
    let offer = format!("{session_part}{audio}{}", line("video", 1, "VP8/90000", "abcd"));
    let offer = offer.replace("96", "111");
    let problem = refused(world.node.update(world.now, &session, None, &offer));
    assert!(problem.contains("Pt locked"), "{problem}");
    assert_eq!(world.metrics.sessions_count(Kind::Ice), 1);
    let gone = world.node.update(world.now, &session, None, &offer);
    assert!(matches!(gone, Err(Refused::NoSession)), "{gone:?}");
    let answer = world.update(other, true);
    assert!(answer.is_ok(), "{answer:?}");
}

#[test]
fn hostile_offers_are_refused_and_leave_nothing_behind() {
    let mut world = World::new();
    let opus = |ufrag| line("audio", 0, "opus/48000/2", ufrag);
    let many: String = (0..300).map(|mid| line("audio", mid, "opus/48000/2", "abcd")).collect();
    let cases = [
        ("nothing", String::new()),
        ("no SDP", "hello".to_owned()),
        ("no media", SESSION.to_owned()),
        (
            "no fingerprint",
            format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{}", opus("a")),
        ),
        ("no ICE", format!("{SESSION}{}", opus("abcd").replace("a=ice-", "a=nice-"))),
        ("an ICE-lite client", format!("{SESSION}a=ice-lite\r\n{}", opus("abcd"))),
        ("300 media lines", format!("{SESSION}{many}")),
        ("too long", format!("{SESSION}{}a=x:{}\r\n", opus("abcd"), "x".repeat(300_000))),
    ];
    for (what, offer) in cases {
        let problem = refused(world.offer(&offer));
        assert!(problem.starts_with("the offer cannot be answered: "), "{what}: {problem}");
    }
    assert_eq!(world.metrics.sessions_count(Kind::Ice), 0);
    let lines = refused(world.offer(&format!("{SESSION}{many}")));
    assert!(lines.ends_with("it has 300 media lines, more than 256"), "{lines}");
}

#[test]
fn clients_are_told_what_the_vip_is_when_they_ask_and_those_that_are_there_go_on() {
    let mut world = World::new();
    let client = world.join(|client| {
        client.line(MediaKind::Audio, Direction::SendOnly);
    });
    world.until("it connects", |world| world.clients[client].connected);
    world.candidates.store(Arc::new(vec!["203.0.113.9:443".parse().expect("an address")]));
    let (offer, _) = {
        let mut other = Client::new(world.now, 1);
        other.line(MediaKind::Audio, Direction::SendOnly).offer(|_| {})
    };
    let answer = world.offer(&offer).expect("is answered").answer;
    let told: Vec<_> = answer.lines().filter(|line| line.starts_with("a=candidate:")).collect();
    assert_eq!(told.len(), 1, "{answer}");
    assert!(told[0].contains(" 203.0.113.9 443 typ host"), "{}", told[0]);
    world.run(SECOND * 60);
    assert!(world.clients[client].rtc.is_connected(), "its checks are answered still");
    world.candidates.store(Arc::new(Vec::new()));
    let refused = world.offer(&offer);
    assert!(matches!(refused, Err(Refused::NoCandidates)), "{refused:?}");
}

#[test]
fn a_session_takes_one_of_the_nodes_places_for_as_long_as_it_lasts() {
    let mut world = World::new();
    let _taken = world.places.clone().try_acquire_many_owned(98).expect("there are 100");
    let offer = |client: &mut Client| {
        client.line(MediaKind::Audio, Direction::SendOnly);
    };
    let first = world.join(offer);
    world.join(offer);
    let (text, _) = {
        let mut other = Client::new(world.now, 2);
        other.line(MediaKind::Audio, Direction::SendOnly).offer(|_| {})
    };
    let refused = world.offer(&text);
    assert!(matches!(refused, Err(Refused::Full)), "{refused:?}");
    let session = world.clients[first].session.clone().expect("joined");
    world.node.leave(world.now, &session).expect("it is there");
    assert!(world.offer(&text).is_ok());
    assert!(world.offer("").is_err());
    assert_eq!(world.places.available_permits(), 0, "what is refused takes none");
}

#[test]
fn simulcast_is_not_agreed_to() {
    let mut world = World::new();
    let mut client = Client::new(world.now, 0);
    let (offer, _) = client.simulcast().offer(|_| {});
    assert!(offer.contains("a=simulcast:send") && offer.contains("a=rid:"), "{offer}");
    let answer = world.offer(&offer).expect("is answered").answer;
    assert!(!answer.contains("a=simulcast") && !answer.contains("a=rid"), "{answer}");
    assert!(answer.contains("a=recvonly"), "{answer}");
}

#[test]
fn a_restart_is_answered_with_a_fresh_ufrag_of_this_node() {
    let mut world = World::new();
    let client = world.join(|client| {
        client.line(MediaKind::Audio, Direction::SendOnly);
    });
    world.until("it connects", |world| world.clients[client].connected);
    let ufrag = |answer: &str| {
        let line = answer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:"));
        line.expect("an answer has one").to_owned()
    };
    let mut seen = Vec::new();
    for _ in 0..3 {
        let answer = world.update(client, true).expect("is answered");
        let ufrag = ufrag(&answer);
        assert_eq!(identity("a").named_by_ufrag(ufrag.as_bytes()), Named::Me);
        assert!(!answer.contains(" ufrag "), "candidates name none: {answer}");
        assert!(!seen.contains(&ufrag));
        seen.push(ufrag);
        let checked = world.now;
        world.run(SECOND * 4);
        assert!(world.clients[client].rtc.is_connected(), "since {checked:?}");
    }
    assert_eq!(world.dropped(Drop::UnknownUfrag), 0, "requests to the former one are known");
    world.clients[client].line(MediaKind::Video, Direction::SendOnly);
    let answer = world.update(client, false).expect("is answered");
    assert_eq!(ufrag(&answer), seen[2], "one that restarts nothing keeps it");
}

#[test]
fn after_a_restart_that_fails_the_session_goes_on_with_what_it_had() {
    let mut world = World::new();
    let client = world.join(|client| {
        client.line(MediaKind::Audio, Direction::SendOnly);
    });
    world.until("it connects", |world| world.clients[client].connected);
    let session = world.clients[client].session.clone().expect("joined");
    // Its one line under another name, where there is one already.
    let session_part = SESSION.replace("BUNDLE 0 1", "BUNDLE 7");
    let offer = format!("{session_part}{}", line("audio", 7, "opus/48000/2", "abcd"));
    let problem = refused(world.node.update(world.now, &session, None, &offer));
    assert!(problem.contains("Changed order"), "{problem}");
    let IceCreds { ufrag, .. } = world.clients[client].credentials();
    assert_ne!(ufrag, "abcd");
    world.run(SECOND * 60);
    assert!(world.clients[client].rtc.is_connected(), "its checks are answered still");
    assert_eq!(world.metrics.sessions_count(Kind::Ice), 1, "for longer than consent lasts");
}
