//! A row that is decided in another way than it says would measure something else.

use decisions::{COUNTED, Row};
use lb::{DropReason, Route, Verdict};

/// What a verdict comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    To(Route),
    Return,
    Hold,
    Drop(DropReason),
    Reply,
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Forward(destination) => Self::To(destination.by),
            Verdict::Return { .. } => Self::Return,
            Verdict::Hold => Self::Hold,
            Verdict::Drop(reason) => Self::Drop(reason),
            Verdict::Reply => Self::Reply,
        }
    }
}

fn expected(row: Row) -> Answer {
    match row {
        Row::FlowHit | Row::ShortByHint | Row::HandshakeByHint => Answer::To(Route::Flow),
        Row::CidPlain
        | Row::CidSinglePass
        | Row::CidFourPasses
        | Row::CidByNat
        | Row::CidByNatNew
        | Row::InitialWithCid => Answer::To(Route::Cid),
        Row::Ufrag | Row::UfragWithIceKey => Answer::To(Route::Ufrag),
        Row::Session => Answer::To(Route::Session),
        Row::LearnedOneLength | Row::LearnedFourLengths => Answer::To(Route::Learned),
        Row::InitialWithSni | Row::InitialRepeated | Row::HelloCompleted => Answer::To(Route::Sni),
        Row::InitialWithoutSni
        | Row::InitialOfKnownClient
        | Row::HandshakeByChoice
        | Row::UnknownVersion => Answer::To(Route::Hash),
        Row::HelloHeld => Answer::Hold,
        Row::BackByTunnel | Row::BackByNat | Row::BackConfirming => Answer::Return,
        Row::NoFlow => Answer::Drop(DropReason::NoFlow),
        Row::UnknownUfrag => Answer::Drop(DropReason::UnknownUfrag),
        Row::Unauthenticated => Answer::Drop(DropReason::Unauthenticated),
        Row::UnknownCid | Row::UnknownCidHandshake => Answer::Drop(DropReason::UnknownCid),
        Row::NodeDown => Answer::Drop(DropReason::NodeDown),
        Row::Unclassified => Answer::Drop(DropReason::Unclassified),
        Row::MalformedStun | Row::MalformedLongHeader => Answer::Drop(DropReason::Malformed),
        Row::UnknownNode => Answer::Drop(DropReason::UnknownNode),
        Row::NoMapping => Answer::Drop(DropReason::NoMapping),
    }
}

#[test]
fn every_datagram_that_is_counted_is_decided_as_its_row_says() {
    let mut wrong = Vec::new();
    for &row in Row::ALL {
        let mut ready = row.ready();
        for number in 0..COUNTED {
            let answer = Answer::from(ready.decide_next());
            if answer != expected(row) {
                wrong.push(format!("{}: datagram {number} was {answer:?}", row.label()));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
