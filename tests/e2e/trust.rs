//! Participants who lie about their address.

use std::time::Instant;

use demo::{
    client::{AUDIO, Record, WebRtcClient},
    switch::Place,
    system::{Shape, System},
};
use lb::DropReason;
use sfu::metrics::Drop;

use crate::support::{PATIENCE, dropped, eventually, join, pair, start, system};

/// A check of `attacker`'s own session, as its client would make it, that nominates its pair.
fn own_check(attacker: &WebRtcClient, transaction: u8) -> Vec<u8> {
    let (ufrag, password) = attacker.credentials();
    kit::Stun::request([transaction; 12])
        .username(&format!("{ufrag}:{}", attacker.own_ufrag()))
        .priority(0x7eff_ffff)
        .ice_controlling(1)
        .use_candidate()
        .integrity(password)
        .fingerprint()
        .bytes()
}

/// Requests that are forged in each attack, one after each packet of audio: what one of them stole
/// would be missing until the victim's next check, and those come less often than packets.
const FORGED: u64 = 25;

/// Audio packets that each victim sends after an attack and that are looked at: a second of them.
const PACKETS: usize = 50;

/// Somebody puts the address of the first of two victims, who send each other media, on requests of
/// its own.
struct Attack<'a> {
    system: &'a System,
    victims: &'a [WebRtcClient; 2],
    attacker: &'a WebRtcClient,
    place: Place,
    /// Before the first forged datagram.
    since: Instant,
}

impl<'a> Attack<'a> {
    async fn start(
        system: &'a System,
        victims: &'a [WebRtcClient; 2],
        attacker: &'a WebRtcClient,
    ) -> Self {
        let place = system.switch().place(victims[0].local_addr()).expect("it has sent");
        let this = Self { system, victims, attacker, place, since: Instant::now() };
        for transaction in 1..=FORGED {
            let packets = victims[0].log().read().sent.len();
            let sent = victims[0]
                .log()
                .wait(PATIENCE, |record| (record.sent.len() > packets).then_some(()));
            assert!(sent.await.is_some(), "the victim goes on sending");
            let transaction = u8::try_from(transaction).expect("small");
            let check = own_check(attacker, transaction);
            let forged = system.switch().forge(victims[0].local_addr(), &check).await;
            assert!(forged.expect("sent"), "the victim has an address to forge");
        }
        this
    }

    /// Nothing of the victims' media is missing, in either direction, from before the first forged
    /// datagram on; and the attacker has heard nothing.
    async fn is_in_vain(&self) {
        let [first, second] = self.victims;
        let refused = Instant::now();
        for (sender, receiver) in [(first, second), (second, first)] {
            // Nothing but media passes between them, in order, so what has not come before the last
            // of these packets never will.
            let last = receiver.log().wait(PATIENCE, |record| {
                let audio = audio_of(record, sender.number());
                audio.filter(|(_, sent)| *sent >= refused).map(|(number, _)| number).nth(PACKETS)
            });
            let last = last.await.expect("the victims' media goes on");
            let sent: Vec<_> = {
                let record = sender.log().read();
                let sent = record.sent.iter().filter(|sent| sent.stream == AUDIO);
                let sent = sent.filter(|sent| sent.at >= self.since && sent.sequence <= last);
                sent.map(|sent| sent.sequence).collect()
            };
            assert!(sent.len() > PACKETS, "the attack is among what was sent: {sent:?}");
            let came: Vec<_> = {
                let record = receiver.log().read();
                audio_of(&record, sender.number()).map(|(number, _)| number).collect()
            };
            let missing: Vec<_> = sent.iter().filter(|sent| !came.contains(sent)).collect();
            assert!(missing.is_empty(), "of {} packets {missing:?} never came", sent.len());
        }
        let place = self.system.switch().place(first.local_addr());
        assert_eq!(place, Some(self.place), "without moving");
        let record = self.attacker.log().read();
        assert_eq!(record.received.len(), 0, "the attacker, alone in its room, hears nobody");
        assert_eq!(record.ended, None);
    }
}

/// The audio of one client that has come: its number, and when it was sent.
fn audio_of(record: &Record, from: u32) -> impl Iterator<Item = (u32, Instant)> {
    let audio = record.received.iter();
    let audio = audio.filter(move |one| one.from == from && one.stream == AUDIO);
    audio.map(|one| (one.sequence, one.sent))
}

fn contended(system: &System) -> u64 {
    dropped(system, DropReason::Contended)
}

/// What comes to a node that does not have its session.
fn astray(system: &System, node: usize) -> u64 {
    let node = system.node(node).expect("runs");
    node.metrics().drops_count(Drop::NoSession) + node.metrics().drops_count(Drop::UnknownUfrag)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_of_another_node_that_spoofs_a_5_tuple_does_not_get_its_media() {
    let system = system().await;
    let victims = pair(&system, 0, 1).await;
    let attacker = join(&system, 1, "elsewhere", 9).await;
    let attack = Attack::start(&system, &victims, &attacker).await;
    eventually("the LB sees it", || contended(&system) == FORGED).await;
    attack.is_in_vain().await;
    assert_eq!(astray(&system, 1), 0, "nothing of the victim's came here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_of_the_same_node_that_spoofs_a_5_tuple_does_not_get_its_media() {
    let system = system().await;
    let victims = pair(&system, 0, 1).await;
    let attacker = join(&system, 0, "elsewhere", 9).await;
    let attack = Attack::start(&system, &victims, &attacker).await;
    let node = system.node(0).expect("runs");
    eventually("the node sees it", || node.metrics().drops_count(Drop::Contended) == FORGED).await;
    assert_eq!(contended(&system), 0, "for the LB it is one backend");
    attack.is_in_vain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_where_lbs_cannot_verify_requests() {
    let system = start(Shape { ice_key: false, ..Shape::default() }).await;
    let victims = pair(&system, 0, 1).await;
    let attacker = join(&system, 1, "elsewhere", 9).await;
    let attack = Attack::start(&system, &victims, &attacker).await;
    // The node answers with success, which comes back through the LB and would bind the flow.
    eventually("the LB sees it", || contended(&system) == FORGED).await;
    attack.is_in_vain().await;
    assert_eq!(astray(&system, 1), 0, "nothing of the victim's came here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_request_without_the_password_dies_at_the_edge() {
    let system = system().await;
    let victim = join(&system, 0, "alone", 1).await;
    let (ufrag, _) = victim.credentials();
    let forged = kit::stun::check(&format!("{ufrag}:evil"), "a guess of a password", [7; 12]);
    system.switch().forge(victim.local_addr(), &forged).await.expect("sent");
    let unauthenticated = || dropped(&system, DropReason::Unauthenticated);
    eventually("it is counted", || unauthenticated() == 1).await;
}
