//! What the network says of datagrams that could not be delivered (ICMP), and whose they were.
//!
//! Anybody can write such a message: it need only quote a 5-tuple that may be guessed. So it is counted, for
//! operators, and decides nothing: no flow ends by it, none moves, and no size changes.
//!
//! ```text
//! to a node     its address says which
//! to a client   SCID of a quoted long header  ──► the node that wrote it      an ID beats an address
//!               5-tuple                       ──► flow, or hint of a QUIC connection
//! ```
//!
//! Source: draft-ietf-quic-load-balancers-21, "ICMP Processing"; RFC 9000, section 14.4.1.

use std::net::SocketAddr;

use control::fleet::Forward;
use wire::{Class, FiveTuple, classify, quic::LongHeader};

use super::{Engine, learned::is_greased};
use crate::{
    counters::{IcmpLabel, Side, SocketLabel},
    table::BackendRef,
};

/// What came back of a datagram for a client, that does not say itself who sent it.
#[derive(Clone, Copy, Debug)]
pub struct Undeliverable {
    /// The client, and the VIP address that it was sent from.
    tuple: FiveTuple,
    of_quic: bool,
    why: IcmpLabel,
}

impl Engine {
    /// Counts that a datagram did not reach a node's address.
    pub fn undelivered_to_node(&mut self, way: Forward, node: SocketAddr, why: IcmpLabel) {
        let socket = match way {
            Forward::Tunnel => SocketLabel::Tunnel,
            Forward::Nat => SocketLabel::Nat,
        };
        self.counters.icmp(socket, why).add(1);
        if let Some(backend) = self.table.sender(node, way) {
            self.flows.traffic.undelivered(backend, Side::Node, why);
        }
    }

    /// Counts that a datagram did not reach a client: `quoted` is how it begins, as far as the network
    /// says. What is to be asked of other engines of this process, since this one does not know whose it was.
    pub fn undelivered_to_client(
        &mut self,
        tuple: &FiveTuple,
        quoted: &[u8],
        why: IcmpLabel,
    ) -> Option<Undeliverable> {
        self.counters.icmp(SocketLabel::Listener, why).add(1);
        let class = classify(quoted);
        let of_quic = matches!(class, Class::QuicLong | Class::QuicShort) || is_greased(quoted);
        let undelivered = Undeliverable { tuple: *tuple, of_quic, why };
        let named = if of_quic { self.named_by_scid(quoted) } else { None };
        match named {
            Some(backend) => {
                self.flows.traffic.undelivered(backend, Side::Client, why);
                None
            }
            None => (!self.undelivered_by_another(&undelivered)).then_some(undelivered),
        }
    }

    /// Counts what an engine of this process was told, if this one knows by the 5-tuple whose it was; says
    /// whether it does. Nothing is used by this.
    pub fn undelivered_by_another(&mut self, undelivered: &Undeliverable) -> bool {
        let Undeliverable { tuple, of_quic, why } = *undelivered;
        let (flow, hint) = (self.flows.peek(&tuple), self.connections.hint(&tuple));
        let sender = if of_quic { hint.or(flow) } else { flow.or(hint) };
        if let Some(backend) = sender {
            self.flows.traffic.undelivered(backend, Side::Client, why);
        }
        sender.is_some()
    }

    /// Which backend wrote the ID that a datagram of QUIC bears as its source.
    fn named_by_scid(&self, quoted: &[u8]) -> Option<BackendRef> {
        let scid = LongHeader::parse(quoted).ok()?.scid;
        let named = self.table.named_by_cid(scid).map(|named| named.backend);
        named.or_else(|| self.learned.peek(scid))
    }
}
