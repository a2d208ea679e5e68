//! Every row of the decision table, with what must have happened before it applies.

use std::time::Duration;

use kit::{Connection, Hello, Stun, quic, sample, stun};
use lb::{DropReason, NAT_IDLE_MIN, Route, engine::HELD_FOR};

use super::script::{
    A, Answer, B, DOWN, Deed, FLOW_IDLE, FOREIGN, FOUR_PASS, HASHED, OPEN, Step, VERIFIED,
    a_answers, address_of, sends, then, to, vip,
};

/// A row: what it is, and the steps that show it.
pub(super) type Row = (&'static str, Vec<Step>);

fn dropped(reason: DropReason) -> Answer {
    Answer::Drop(reason)
}

const TRANSACTION: [u8; 12] = [1; 12];

/// A check that the fleet's key verifies.
fn verified(node: [u8; 4]) -> Vec<u8> {
    let ufrag = VERIFIED.ufrag(&node, 1);
    stun::check(&format!("{ufrag}:c"), &VERIFIED.password(&ufrag), TRANSACTION)
}

/// A check that nothing verifies.
fn unverified(node: [u8; 4]) -> Vec<u8> {
    stun::check(&format!("{}:c", OPEN.ufrag(&node, 2)), "any", TRANSACTION)
}

fn success() -> Vec<u8> {
    stun::success(kit::address("10.0.0.9:1"), "any", TRANSACTION)
}

/// What follows the flow of its 5-tuple.
fn followers() -> Vec<Vec<u8>> {
    let [(_, dtls), (_, srtp), (_, srtcp)] = sample::media();
    let unnamed = Stun::request([4; 12]).fingerprint().bytes();
    vec![dtls, srtp, srtcp, stun::indication([2; 12]), success(), unnamed]
}

/// `first`, and then all that follows a flow, with the same answer.
fn followed(first: Vec<Step>, answer: Answer) -> Vec<Step> {
    let follow = followers().into_iter().map(|datagram| sends(&datagram, answer));
    first.into_iter().chain(follow).collect()
}

/// STUN, and what follows its flows.
pub(super) fn ice() -> Vec<Row> {
    let check = |username: &str, password: &str| stun::check(username, password, TRANSACTION);
    let bind = || sends(&verified(A), to(A, Route::Ufrag));
    // A header that promises an attribute of 100 bytes, and 4 of them.
    let mut broken = vec![0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42];
    broken.extend([[3; 12].as_slice(), &[0, 6, 0, 100, 1, 1, 1, 1]].concat());
    vec![
        ("a verified check", vec![bind()]),
        (
            "a forged check",
            vec![sends(
                &check(&format!("{}:c", VERIFIED.ufrag(&A, 1)), "wrong"),
                dropped(DropReason::Unauthenticated),
            )],
        ),
        ("a check that is not verified", vec![sends(&unverified(A), to(A, Route::Ufrag))]),
        ("a check of a session", vec![sends(&check("abcd:c", "any"), to(A, Route::Session))]),
        (
            "a check for nobody",
            vec![sends(&check("nobody:c", "any"), dropped(DropReason::UnknownUfrag))],
        ),
        (
            "a check for a node that is down",
            vec![
                sends(&verified(DOWN), Answer::Reply),
                sends(&unverified(DOWN), dropped(DropReason::NodeDown)),
            ],
        ),
        ("broken STUN", vec![sends(&broken, dropped(DropReason::Malformed))]),
        ("media and other STUN without a flow", followed(vec![], dropped(DropReason::NoFlow))),
        ("with a flow", followed(vec![bind()], to(A, Route::Flow))),
        (
            "with a check that nobody has answered",
            followed(vec![sends(&unverified(A), to(A, Route::Ufrag))], dropped(DropReason::NoFlow)),
        ),
        (
            "with a flow that the node's success confirms",
            followed(
                vec![sends(&unverified(A), to(A, Route::Ufrag)), a_answers(&success())],
                to(A, Route::Flow),
            ),
        ),
        (
            "with a flow that another session claims: contended",
            followed(vec![bind(), sends(&verified(B), to(B, Route::Ufrag))], to(A, Route::Flow)),
        ),
        (
            "with a flow that another session claims when the guard has lapsed",
            followed(
                vec![
                    bind(),
                    then(Deed::Wait(Duration::from_secs(9)), None),
                    sends(&verified(B), to(B, Route::Ufrag)),
                ],
                to(B, Route::Flow),
            ),
        ),
        (
            "with a flow that has lain idle",
            followed(vec![bind(), then(Deed::Wait(FLOW_IDLE), None)], dropped(DropReason::NoFlow)),
        ),
        ("with a flow to a node that has gone down", {
            let down = vec![bind(), then(Deed::AllDown(true), None)];
            let mut steps = followed(down, dropped(DropReason::NodeDown));
            steps.push(then(Deed::AllDown(false), None));
            steps
        }),
        ("what belongs to nobody", {
            let noise = [sample::zrtp(), vec![], vec![0x05; 100]];
            noise.iter().map(|noise| sends(noise, dropped(DropReason::Unclassified))).collect()
        }),
    ]
}

/// QUIC packets of connections that a node has answered, or that say nothing of one.
pub(super) fn quic() -> Vec<Row> {
    let own = Connection::v1(&OPEN.cid(&A, 6), b"s");
    let stranger = Connection::v1(&[0xe5; 20], b"s");
    let hinting = || sends(&own.hello(&hello("x")), to(A, Route::Cid));
    let unknown = dropped(DropReason::UnknownCid);
    let short = |cid: &[u8]| quic::short(cid, b"payload");
    vec![
        ("a short header", vec![sends(&short(&VERIFIED.cid(&A, 5)), to(A, Route::Cid))]),
        (
            "a short header, four passes",
            vec![sends(&short(&FOUR_PASS.cid(&A, 5)), to(A, Route::Cid))],
        ),
        (
            "a short header for a node that is down",
            vec![sends(&short(&VERIFIED.cid(&DOWN, 5)), HASHED)],
        ),
        ("a short header for nobody", vec![sends(&short(&[0xe5; 20]), unknown)]),
        ("a short header by hint", vec![hinting(), sends(&short(&[0xe5; 20]), to(A, Route::Flow))]),
        ("a Handshake", vec![sends(&own.handshake(b"payload"), to(A, Route::Cid))]),
        ("a Handshake for nobody", vec![sends(&stranger.handshake(b"payload"), unknown)]),
        (
            "a Handshake by hint",
            vec![hinting(), sends(&stranger.handshake(b"payload"), to(A, Route::Flow))],
        ),
        (
            "IDs that a node makes up, of three lengths",
            vec![
                a_answers(&Connection::v1(b"s", &[0xe6; 4]).retry(b"token")),
                a_answers(&Connection::v1(b"s", &[0xe7; 8]).handshake(b"payload")),
                a_answers(&Connection::v1(b"s", &[0xe8; 20]).of_version(0x1a2a_3a4a, b"payload")),
                sends(&short(&[0xe6; 20]), to(A, Route::Learned)),
                sends(&short(&[0xe7; 20]), to(A, Route::Learned)),
                sends(&short(&[0xe8; 20]), to(A, Route::Learned)),
                sends(&short(&[0xe9; 20]), to(A, Route::Flow)),
                sends(
                    &Connection::v1(&[0xe7; 8], b"s").handshake(b"payload"),
                    to(A, Route::Learned),
                ),
                sends(
                    &Connection::v1(&[0xe7; 8], b"s").initial().ping().datagram(),
                    to(A, Route::Learned),
                ),
            ],
        ),
        ("a Retry by hint", vec![hinting(), sends(&stranger.retry(b"token"), to(A, Route::Flow))]),
        (
            "an unknown version",
            vec![
                sends(&stranger.of_version(0x1a2a_3a4a, b"payload"), HASHED),
                sends(&stranger.of_version(0x1a2a_3a4a, b"again"), HASHED),
                sends(&own.of_version(0x1a2a_3a4a, b"payload"), to(A, Route::Cid)),
            ],
        ),
        (
            "a malformed long header",
            vec![sends(&[0xc0, 0, 0, 0, 1, 0xff], dropped(DropReason::Malformed))],
        ),
    ]
}

fn hello(name: &str) -> Vec<u8> {
    Hello::named(name).bytes()
}

fn label(node: [u8; 4]) -> String {
    format!("{}.example.test", VERIFIED.label(&node, 3))
}

/// Two datagrams, of which neither shows the server name by itself.
pub(super) fn halves(connection: &Connection, name: &str) -> [Vec<u8>; 2] {
    connection.chrome_hello(&Hello::named(name).post_quantum().bytes(), 60)
}

/// First flights of new QUIC connections.
pub(super) fn first_flights() -> Vec<Row> {
    let fresh = || Connection::v1(b"original", b"source");
    let by_name = || sends(&fresh().hello(&hello(&label(A))), to(A, Route::Sni));
    let [ends, middle] = halves(&fresh(), &label(A));
    let early = fresh().zero_rtt(b"early");
    let hold = |datagram: &[u8]| sends(datagram, Answer::Hold);
    let waited = || then(Deed::Wait(HELD_FOR), None);
    let mut damaged = fresh().hello(&hello("x"));
    damaged[600] ^= 1;
    vec![
        (
            "an Initial with a routing ID",
            vec![sends(
                &Connection::v1(&OPEN.cid(&A, 7), b"s").hello(&hello("x")),
                to(A, Route::Cid),
            )],
        ),
        ("an Initial with a label", vec![by_name()]),
        (
            "an Initial with the label of a node that is down",
            vec![sends(&fresh().hello(&hello(&label(DOWN))), HASHED)],
        ),
        (
            "an Initial of version 2",
            vec![sends(
                &Connection::v2(b"original", b"source").hello(&hello(&label(B))),
                to(B, Route::Sni),
            )],
        ),
        (
            "what belongs to an earlier choice",
            vec![
                by_name(),
                sends(&damaged, to(A, Route::Sni)),
                sends(&fresh().handshake(b"payload"), to(A, Route::Sni)),
                sends(&early, to(A, Route::Sni)),
            ],
        ),
        ("an Initial with another name", vec![sends(&fresh().hello(&hello("a.b")), HASHED)]),
        (
            "an Initial without a name",
            vec![sends(&fresh().hello(&Hello::nameless().bytes()), HASHED)],
        ),
        ("an Initial that does not open", vec![sends(&damaged, HASHED)]),
        (
            "an Initial, early data where hellos are not read",
            vec![
                then(Deed::Sni(false), None),
                sends(&fresh().hello(&hello(&label(A))), HASHED),
                sends(&Connection::v1(b"another-one", b"").zero_rtt(b"early"), HASHED),
                then(Deed::Sni(true), None),
            ],
        ),
        (
            "an Initial when nobody serves",
            vec![
                then(Deed::AllDown(true), None),
                sends(&fresh().hello(&hello(&label(A))), dropped(DropReason::NodeDown)),
                then(Deed::AllDown(false), None),
            ],
        ),
        (
            "a held hello that the rest completes",
            vec![hold(&ends), sends(&middle, to(A, Route::Sni)).releasing(&[to(A, Route::Sni)])],
        ),
        (
            "early data and a hello in the wrong order",
            vec![
                hold(&early),
                hold(&middle),
                sends(&ends, to(A, Route::Sni)).releasing(&[to(A, Route::Sni); 2]),
            ],
        ),
        (
            "a held hello that never completes",
            vec![
                hold(&ends),
                hold(&early),
                waited().releasing(&[HASHED; 2]),
                // What was decided for the flight holds for its rest.
                sends(&middle, HASHED),
            ],
        ),
        (
            "a held hello when nobody serves any more",
            vec![
                hold(&ends),
                then(Deed::AllDown(true), None),
                waited(),
                then(Deed::AllDown(false), None),
            ],
        ),
        ("more datagrams of one connection than are held", {
            let mut steps = vec![hold(&early); 16];
            steps.push(sends(&early, HASHED).releasing(&[HASHED; 16]));
            steps
        }),
    ]
}

/// What comes to a tunnel socket.
pub(super) fn from_nodes() -> Vec<Row> {
    let a = address_of(A);
    let stranger = kit::address("10.9.9.9:9");
    let datagrams = [success(), sample::dtls(), sample::srtp(), quic::short(&[1; 8], b"payload")];
    let from = |sender, vip, reason| {
        let step = |datagram: &Vec<u8>| {
            then(Deed::Node(sender, vip, datagram.clone()), Some(dropped(reason)))
        };
        datagrams.iter().map(step).collect()
    };
    vec![
        ("a node's datagrams", datagrams.iter().map(|datagram| a_answers(datagram)).collect()),
        ("a stranger's", from(stranger, vip(), DropReason::UnknownNode)),
        ("for another VIP", from(a, kit::address("192.0.2.2:4433"), DropReason::UnknownVip)),
        (
            "without a header",
            vec![then(Deed::Bare(a, vec![0; 20]), Some(dropped(DropReason::Malformed)))],
        ),
    ]
}

/// Both ways of a node that is reached by `nat`.
pub(super) fn by_nat() -> Vec<Row> {
    let answers = |datagram: Vec<u8>| then(Deed::Answer(datagram), Some(Answer::Return));
    let short = || quic::short(&OPEN.cid(&FOREIGN, 5), b"payload");
    let by_id = || sends(&short(), to(FOREIGN, Route::Cid));
    vec![
        (
            "by nat, with a mapping that has lain idle",
            vec![
                by_id(),
                then(Deed::Wait(NAT_IDLE_MIN), None),
                then(Deed::Answer(short()), Some(dropped(DropReason::NoMapping))),
                by_id(),
                answers(short()),
            ],
        ),
        ("by nat, both ways", vec![by_id(), answers(sample::srtp()), by_id(), answers(short())]),
        (
            "by nat, with a flow that the node's success confirms",
            followed(
                vec![sends(&unverified(FOREIGN), to(FOREIGN, Route::Ufrag)), answers(success())],
                to(FOREIGN, Route::Flow),
            ),
        ),
    ]
}
