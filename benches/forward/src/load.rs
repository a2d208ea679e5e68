//! What is sent: which datagrams, of how many flows, how, and which way.

use std::fmt;

use kit::{Routing, quic, stun};
use serde::{Deserialize, Serialize};

use crate::place::Seat;

/// How QUIC's connection IDs are written, but in the mix.
pub(crate) const PLAIN: Routing = Routing::plain(0);

/// How the mix writes its own: encrypted, and its STUN checks prove themselves.
pub(crate) const VERIFIED: Routing = Routing::encrypted(1).verified();

/// Datagrams of a train.
pub(crate) const TRAIN: usize = 8;

/// Which way.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// From clients to the node.
    ToNode,
    /// From the node to clients.
    ToClients,
}

impl Way {
    /// Where datagrams arrive.
    pub(crate) const fn end(self) -> Seat {
        match self {
            Self::ToNode => Seat::Nodes,
            Self::ToClients => Seat::Clients,
        }
    }
}

/// How the datagrams of a flow come.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shape {
    /// One of each flow in turn.
    Singles,
    /// Eight of a flow in one send (GSO), then eight of the next.
    Trains,
}

/// What the datagrams are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Traffic {
    /// Short-header QUIC, its connection ID plain.
    Quic,
    /// SRTP of flows that a STUN check has bound.
    Rtp,
    /// Half of the flows are WebRTC: SRTP, one in four of 200 bytes, and one in fifty each of DTLS and STUN
    /// checks. The others are QUIC with encrypted IDs.
    Mix,
    /// STUN checks alone, which bind their flows.
    Checks,
}

/// One load.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Load {
    pub(crate) way: Way,
    /// Bytes of a client's datagram.
    pub(crate) bytes: usize,
    pub(crate) flows: u32,
    pub(crate) shape: Shape,
    pub(crate) traffic: Traffic,
    /// Datagrams in a second; `None`: as many as can be sent.
    pub(crate) rate: Option<u64>,
    /// Nodes that the flows go to, in turn.
    pub(crate) nodes: u32,
}

impl Load {
    /// The one all others are compared with.
    pub(crate) const USUAL: Self = Self {
        way: Way::ToNode,
        bytes: 1_200,
        flows: 100,
        shape: Shape::Singles,
        traffic: Traffic::Quic,
        rate: None,
        nodes: 1,
    };
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { way, bytes, flows, shape, traffic, rate, nodes } = self;
        let way = match way {
            Way::ToNode => "to node",
            Way::ToClients => "to clients",
        };
        let shape = match shape {
            Shape::Singles => "singles",
            Shape::Trains => "trains",
        };
        let plural = if *flows == 1 { "" } else { "s" };
        write!(f, "{way}, {bytes} B, {flows} flow{plural}, {shape}")?;
        match traffic {
            Traffic::Quic => {}
            Traffic::Rtp => write!(f, ", SRTP")?,
            Traffic::Mix => write!(f, ", mix")?,
            Traffic::Checks => write!(f, ", checks")?,
        }
        if *nodes > 1 {
            write!(f, ", {nodes} nodes")?;
        }
        match rate {
            Some(rate) => write!(f, ", {} k/s", rate / 1_000),
            None => write!(f, ", all it can"),
        }
    }
}

/// What a datagram says of itself in its last bytes, whatever it is wrapped in.
///
/// ```text
/// magic 4 | flow 4 | number in its flow 4 | nanoseconds of the clock when it was sent 8
/// ```
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trailer {
    pub(crate) flow: u32,
    pub(crate) number: u32,
    pub(crate) nanoseconds: u64,
}

impl Trailer {
    pub(crate) const LEN: usize = 20;
    const MAGIC: [u8; 4] = *b"1vip";

    pub(crate) fn write(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&Self::MAGIC);
        bytes[4..8].copy_from_slice(&self.flow.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.number.to_be_bytes());
        bytes[12..].copy_from_slice(&self.nanoseconds.to_be_bytes());
        bytes
    }

    /// `None` if it has none: a STUN check.
    pub(crate) fn read(datagram: &[u8]) -> Option<Self> {
        let (_, bytes) = datagram.split_last_chunk::<{ Self::LEN }>()?;
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (flow, rest) = rest.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<4>()?;
        let (nanoseconds, _) = rest.split_first_chunk::<8>()?;
        (*magic == Self::MAGIC).then_some(Self {
            flow: u32::from_be_bytes(*flow),
            number: u32::from_be_bytes(*number),
            nanoseconds: u64::from_be_bytes(*nanoseconds),
        })
    }
}

/// How a datagram begins, how many bytes of no meaning follow, and whether a [`Trailer`] ends it.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) head: Vec<u8>,
    pub(crate) filler: usize,
    pub(crate) trailer: bool,
}

impl Template {
    fn new(head: &[u8], bytes: usize) -> Self {
        let filler = bytes.checked_sub(head.len() + Trailer::LEN).expect("bytes enough");
        Self { head: head.to_vec(), filler, trailer: true }
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.filler + if self.trailer { Trailer::LEN } else { 0 }
    }
}

/// What one flow sends, again and again from the beginning.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    templates: Vec<Template>,
    /// Index of the template for each turn.
    turns: &'static [u8],
}

/// STUN, DTLS, then SRTP, one in four short.
const WEBRTC: [u8; 50] = {
    let mut turns = [2; 50];
    let mut turn = 3;
    while turn < turns.len() {
        turns[turn] = 3;
        turn += 4;
    }
    turns[0] = 0;
    turns[25] = 1;
    turns
};

impl Script {
    /// What the flows of a load send: the first flow the first of these, and so on in turn.
    pub(crate) fn all(load: &Load) -> Vec<Self> {
        let others = match load.traffic {
            Traffic::Quic | Traffic::Mix => load.flows,
            // Nothing in them is of their flow, and there may be a million.
            Traffic::Rtp | Traffic::Checks => load.nodes,
        };
        (0..others).map(|flow| Self::of(load, flow)).collect()
    }

    fn of(load: &Load, flow: u32) -> Self {
        let server = server_id(flow % load.nodes);
        let quic = |routing: Routing| quic::short(&routing.cid(&server, flow.into()), &[]);
        let rtp = [0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
        let check = || {
            let ufrag = VERIFIED.ufrag(&server, 1);
            let head = stun::check(&format!("{ufrag}:c"), &VERIFIED.password(&ufrag), [1; 12]);
            Template { head, filler: 0, trailer: false }
        };
        let always = |template| Self { templates: vec![template], turns: &[0] };
        match load.traffic {
            Traffic::Quic => always(Template::new(&quic(PLAIN), load.bytes)),
            Traffic::Rtp => always(Template::new(&rtp, load.bytes)),
            Traffic::Checks => always(check()),
            Traffic::Mix if flow.is_multiple_of(2) => {
                always(Template::new(&quic(VERIFIED), load.bytes))
            }
            Traffic::Mix => {
                let dtls = Template::new(&[23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 187], 200);
                let media = [Template::new(&rtp, load.bytes), Template::new(&rtp, 200)];
                let templates = [check(), dtls].into_iter().chain(media).collect();
                Self { templates, turns: &WEBRTC }
            }
        }
    }

    pub(crate) fn at(&self, turn: usize) -> &Template {
        &self.templates[usize::from(self.turns[turn % self.turns.len()])]
    }
}

/// The server ID of a node.
pub(crate) const fn server_id(node: u32) -> [u8; 4] {
    (node + 1).to_be_bytes()
}

/// A rate or a count, without what is behind the point.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it saturates, and none is negative or near the end of the range"
)]
pub(crate) const fn whole(value: f64) -> u64 {
    value as u64
}
