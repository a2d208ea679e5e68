//! What the engine can answer.

use std::net::SocketAddr;

use wire::FiveTuple;

use crate::{
    nat::NatPort,
    table::{Backend, BackendRef},
};

/// What becomes of one datagram. The engine decides, a driver acts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Send it to a node, behind a tunnel header or from a `nat` port.
    Forward(Destination),
    /// Send a node's datagram, without its tunnel header if it has one, to a client.
    Return {
        /// Index of the listener it must leave from, in the order given to the engine.
        listener: usize,
        /// Which client, and from which of the VIP's addresses.
        tuple: FiveTuple,
    },
    /// Send [`Engine::reply`](crate::Engine::reply) back to the client, from the address that it sent
    /// to.
    Reply,
    /// The engine has copied it and will hand it out later.
    Hold,
    /// Forget it.
    Drop(DropReason),
}

/// Where a client's datagram goes, and what said so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Destination {
    /// Names the backend across fleet changes.
    pub backend: BackendRef,
    /// The backend's address now.
    pub address: SocketAddr,
    /// Which row of the decision table answered.
    pub by: Route,
    /// The port it leaves from, as it is: the node is reached by `nat`. `None`: it leaves from a
    /// tunnel socket, behind a header.
    pub port: Option<NatPort>,
}

impl Destination {
    /// To a backend that was found. Its port is settled when the datagram leaves.
    pub(crate) const fn new(backend: BackendRef, found: &Backend, by: Route) -> Self {
        Self { backend, address: found.address, by, port: None }
    }
}

/// A place to go, or why there is none.
pub(crate) type Decision = Result<Destination, DropReason>;

impl From<Decision> for Verdict {
    fn from(decision: Decision) -> Self {
        match decision {
            Ok(destination) => Self::Forward(destination),
            Err(reason) => Self::Drop(reason),
        }
    }
}

/// A family of labels that each have a counter.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every one of them, in order.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The metric label. Holds nothing of any peer, so there are as many as there are here.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }
        }
    };
}
pub(crate) use labels;

labels! {
    /// What decided a route.
    Route {
        /// The client's 5-tuple, bound by STUN; or a QUIC connection without an ID, by its hint.
        Flow = "flow",
        /// The routing ID in a QUIC connection ID.
        Cid = "cid",
        /// The routing ID in an ICE ufrag.
        Ufrag = "ufrag",
        /// A registered session.
        Session = "session",
        /// The routing ID in a TLS server name.
        Sni = "sni",
        /// Consistent hashing.
        Hash = "hash",
        /// A connection ID seen on its way from a node.
        Learned = "learned",
        /// A node that answered a probe.
        Probe = "probe",
    }
}

labels! {
    /// Why a datagram was dropped.
    DropReason {
        /// Its class is clear, its content is broken; or a tunnel header is.
        Malformed = "malformed",
        /// It belongs to no protocol that is carried here.
        Unclassified = "unclassified",
        /// It can only follow its flow, and there is none.
        NoFlow = "no_flow",
        /// Its ufrag names no node and no session.
        UnknownUfrag = "unknown_ufrag",
        /// Its connection ID names no node and nothing else tells.
        UnknownCid = "unknown_cid",
        /// The node it names is down, or no serving node is left to take it.
        NodeDown = "node_down",
        /// A STUN request to a routing ufrag without the integrity that the fleet's key asks for.
        Unauthenticated = "unauthenticated",
        /// Not a datagram's drop: a request that was verified, or confirmed by its node's success, but
        /// was refused the flow of its 5-tuple, which another backend's session holds.
        Contended = "contended",
        /// A rate limit was reached.
        RateLimited = "rate_limited",
        /// A table was full and its policy keeps the entries it has.
        TableFull = "table_full",
        /// The operating system refused to send it.
        SendFailed = "send_failed",
        /// It came to a tunnel socket or a `nat` port, but not from a node of the fleet that is reached
        /// in this way.
        UnknownNode = "unknown_node",
        /// It came from a node to a `nat` port that stands for none of its clients, or not any more.
        NoMapping = "no_mapping",
        /// A node sent it from an address that is none of this LB's listeners.
        UnknownVip = "unknown_vip",
    }
}
