use lb::{
    DropReason, LoadBalancer,
    counters::{ClassLabel, Direction},
};
use sfu::{
    Node,
    metrics::{Drop, Kind},
};

/// What nodes counted that must not happen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NodeCounts {
    /// STUN whose ufrag names another node.
    pub misrouted_ice: u64,
    /// QUIC whose connection ID names another node.
    pub misrouted_quic: u64,
    /// DTLS and SRTP that came to a node which does not have the session of their 5-tuple. They say
    /// nothing of their node themselves, so what goes astray of them is seen here only. No session
    /// ends while clients move about, and none sends media by a new address before its node has
    /// answered there.
    pub no_session: u64,
    /// STUN whose ufrag is of no session of the node.
    pub unknown_ufrag: u64,
}

/// What an LB counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LbCounts {
    /// Datagrams of clients.
    pub received: u64,
    /// Dropped since nothing says where they belong: media from an address whose first check is
    /// still to come. This is what a silent rebinding costs, and no mistake.
    pub no_flow: u64,
    /// Dropped since their ufrag names nobody.
    pub unknown_ufrag: u64,
    /// Dropped since their connection ID names nobody.
    pub unknown_cid: u64,
    /// Dropped for any other reason, and flows that two sessions claimed.
    pub others: u64,
}

impl NodeCounts {
    /// Since a node was started.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let metrics = node.metrics();
        Self {
            misrouted_ice: metrics.misrouted_count(Kind::Ice),
            misrouted_quic: metrics.misrouted_count(Kind::Quic),
            no_session: metrics.drops_count(Drop::NoSession),
            unknown_ufrag: metrics.drops_count(Drop::UnknownUfrag),
        }
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            misrouted_ice: self.misrouted_ice + other.misrouted_ice,
            misrouted_quic: self.misrouted_quic + other.misrouted_quic,
            no_session: self.no_session + other.no_session,
            unknown_ufrag: self.unknown_ufrag + other.unknown_ufrag,
        }
    }

    /// All that came to a node it does not belong to.
    #[must_use]
    pub const fn astray(&self) -> u64 {
        self.misrouted_ice + self.misrouted_quic + self.no_session + self.unknown_ufrag
    }

    pub(crate) const fn since(self, begin: Self) -> Self {
        Self {
            misrouted_ice: self.misrouted_ice - begin.misrouted_ice,
            misrouted_quic: self.misrouted_quic - begin.misrouted_quic,
            no_session: self.no_session - begin.no_session,
            unknown_ufrag: self.unknown_ufrag - begin.unknown_ufrag,
        }
    }
}

impl LbCounts {
    /// Since an LB was started.
    #[must_use]
    pub fn of(lb: &LoadBalancer) -> Self {
        let mut counts = Self::default();
        for counters in lb.counters() {
            let classes = ClassLabel::ALL.iter();
            let received =
                classes.map(|class| counters.datagrams(Direction::Client, *class).value());
            counts.received += received.sum::<u64>();
            for &reason in DropReason::ALL {
                let count = match reason {
                    DropReason::NoFlow => &mut counts.no_flow,
                    DropReason::UnknownUfrag => &mut counts.unknown_ufrag,
                    DropReason::UnknownCid => &mut counts.unknown_cid,
                    _ => &mut counts.others,
                };
                *count += counters.drops(reason).value();
            }
        }
        counts
    }

    pub(crate) const fn since(self, begin: Self) -> Self {
        Self {
            received: self.received - begin.received,
            no_flow: self.no_flow - begin.no_flow,
            unknown_ufrag: self.unknown_ufrag - begin.unknown_ufrag,
            unknown_cid: self.unknown_cid - begin.unknown_cid,
            others: self.others - begin.others,
        }
    }
}
