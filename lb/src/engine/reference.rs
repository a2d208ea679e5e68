//! The decision table, said slowly.
//!
//! [`Reference`] answers as [`Engine`](super::Engine) must, and is written to be read beside the
//! architecture's table, not to be fast: it searches vectors from end to end, keeps whole keys and
//! plain instants, copies what it holds and reads every hello from its beginning. It has no bounds
//! but those that the table itself speaks of, those of held datagrams.
//!
//! Where the table leaves something open, the answer is a rule with a name here: look for "Open:".

mod learned;
mod memory;
mod nat;
mod places;
mod quic;
mod stun;
mod waiting;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use control::fleet::{Fleet, Forward, State};
use wire::{
    Class, FiveTuple, classify,
    stun::{BINDING, Message, MessageClass},
    tunnel,
};

use crate::verdict::{DropReason, Route, Verdict};
use memory::Memory;
use nat::Mappings;
use places::{Place, Places};
use waiting::Waiting;

/// One worker's decisions, slowly.
#[derive(Clone)]
pub struct Reference {
    places: Places,
    listeners: Vec<SocketAddr>,
    sni: bool,
    memory: Memory,
    mappings: Mappings,
    waiting: Waiting,
    released: VecDeque<Released>,
    /// When the answers of the current second were made.
    replies: Vec<Instant>,
    counts: Counts,
}

/// What becomes of a datagram, in words that do not depend on how backends are numbered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// To a node, or to one of its sessions.
    Forward {
        /// Where that is.
        address: SocketAddr,
        /// What said so.
        by: Route,
    },
    /// To a client.
    Return {
        /// Index of the listener it leaves from.
        listener: usize,
        /// Which one, and from which of the VIP's addresses.
        tuple: FiveTuple,
    },
    /// Answered here.
    Reply,
    /// Later.
    Hold,
    /// Nowhere.
    Drop(DropReason),
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Forward(to) => Self::Forward { address: to.address, by: to.by },
            Verdict::Return { listener, tuple } => Self::Return { listener, tuple },
            Verdict::Reply => Self::Reply,
            Verdict::Hold => Self::Hold,
            Verdict::Drop(reason) => Self::Drop(reason),
        }
    }
}

/// A held datagram on its way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Released {
    /// Who sent it, and to which VIP address.
    pub tuple: FiveTuple,
    /// Where it goes.
    pub address: SocketAddr,
    /// What said so.
    pub by: Route,
    /// The datagram as it came.
    pub datagram: Vec<u8>,
}

/// How often everything happened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Datagrams on their way to a node, by what said so.
    pub routes: BTreeMap<&'static str, u64>,
    /// Datagrams dropped, and verified requests refused the flow, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// Clients' datagrams in which a routing ID named a node, by the ID's configuration.
    pub config_uses: BTreeMap<u8, u64>,
    /// Flows bound to another backend than before.
    pub flow_moves: u64,
    /// Held connections that made room for another.
    pub holds_evicted: u64,
}

/// A place to go, or why there is none.
type Decision = Result<To, DropReason>;

#[derive(Clone, Debug)]
struct To {
    place: Place,
    address: SocketAddr,
    by: Route,
}

impl Reference {
    /// A worker that remembers nothing yet.
    #[must_use]
    pub fn new(
        fleet: Arc<Fleet>,
        flow_idle: Duration,
        sni: bool,
        listeners: Vec<SocketAddr>,
    ) -> Self {
        Self {
            places: Places::new(fleet),
            listeners,
            sni,
            memory: Memory::new(flow_idle),
            mappings: Mappings::default(),
            waiting: Waiting::default(),
            released: VecDeque::new(),
            replies: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Replaces the fleet. Whatever points to a place that is no more, will never again: the next of
    /// that name is another one.
    pub fn apply(&mut self, fleet: Arc<Fleet>) {
        self.places = Places::new(fleet);
        let places = &self.places;
        self.memory.forget_places(|place| places.find(place).is_none());
    }

    /// Whether new ClientHellos are read, from now on.
    pub fn set_sni(&mut self, sni: bool) {
        self.sni = sni;
    }

    /// How often everything happened, released datagrams included once they were polled.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Flows by 5-tuple: the node's name, the time since the client's last datagram, and since the
    /// last verification or confirmation.
    #[must_use]
    pub fn flows(&self, now: Instant) -> Vec<(FiveTuple, Option<String>, Duration, Duration)> {
        let mut flows: Vec<_> = (self.memory.flows.iter())
            .filter(|flow| now - flow.used < self.memory.flow_idle)
            .map(|flow| {
                let node = flow.place.as_ref().map(|place| place.node.clone());
                (flow.tuple, node, now - flow.used, now - flow.proved)
            })
            .collect();
        flows.sort();
        flows
    }

    /// Decides about a client's datagram.
    pub fn from_client(&mut self, now: Instant, tuple: FiveTuple, datagram: &[u8]) -> Answer {
        self.memory.forget_what_is_over(now);
        let decision = match classify(datagram) {
            Class::Stun => match self.stun(now, tuple, datagram) {
                Some(decision) => decision,
                None => return Answer::Reply,
            },
            Class::Dtls | Class::Rtp | Class::Rtcp => self.flow(now, tuple),
            Class::QuicLong => match self.quic_long(now, tuple, datagram) {
                Some(decision) => decision,
                None => return Answer::Hold,
            },
            Class::QuicShort => self.quic_short(now, tuple, datagram),
            Class::Zrtp | Class::Unassigned => Err(DropReason::Unclassified),
        };
        self.count(&decision);
        match decision {
            Ok(To { address, by, .. }) => Answer::Forward { address, by },
            Err(reason) => Answer::Drop(reason),
        }
    }

    /// Decides about a node's datagram.
    pub fn from_node(&mut self, now: Instant, sender: SocketAddr, datagram: &[u8]) -> Answer {
        self.memory.forget_what_is_over(now);
        let answer = self.returned(now, sender, datagram);
        self.count_return(answer)
    }

    /// The next held datagram that is to leave, in the order of arrival.
    pub fn poll_release(&mut self) -> Option<Released> {
        self.released.pop_front()
    }

    /// When the first of what is held will have waited for 3 s.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.due()
    }

    /// Lets go of what has waited for 3 s, by hash.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.memory.forget_what_is_over(now);
        while let Some(connection) = self.waiting.overdue(now) {
            self.let_go(now, &connection);
        }
    }

    // Places.

    /// To what an ID names; from a node that is down, to a live one.
    fn named(&mut self, place: Place, by: Route, id: &[u8], cid: &[u8]) -> Decision {
        self.used(id);
        match self.places.find(&place) {
            Some((_, State::Down)) => self.hash(cid),
            _ => self.go(place, by, DropReason::UnknownCid),
        }
    }

    /// Open: when nobody may be chosen, it is as if the only choice were down.
    fn hash(&self, cid: &[u8]) -> Decision {
        let place = self.places.by_hash(cid).ok_or(DropReason::NodeDown)?;
        self.go(place, Route::Hash, DropReason::NodeDown)
    }

    fn go(&self, place: Place, by: Route, gone: DropReason) -> Decision {
        match self.places.find(&place) {
            None => Err(gone),
            Some((_, State::Down)) => Err(DropReason::NodeDown),
            Some((address, _)) => Ok(To { place, address, by }),
        }
    }

    /// A routing ID has named somebody, and was not made up where that can be told. Its configuration is in
    /// the first three bits.
    fn used(&mut self, id: &[u8]) {
        *self.counts.config_uses.entry(id[0] >> 5).or_default() += 1;
    }

    fn count(&mut self, decision: &Decision) {
        *match decision {
            Ok(to) => self.counts.routes.entry(to.by.label()),
            Err(reason) => self.counts.drops.entry(reason.label()),
        }
        .or_default() += 1;
    }

    // The way back.

    fn count_return(&mut self, answer: Answer) -> Answer {
        if let Answer::Drop(reason) = answer {
            *self.counts.drops.entry(reason.label()).or_default() += 1;
        }
        answer
    }

    fn returned(&mut self, now: Instant, sender: SocketAddr, datagram: &[u8]) -> Answer {
        let Some(place) = self.places.of_sender(sender, Forward::Tunnel) else {
            return Answer::Drop(DropReason::UnknownNode);
        };
        let Ok((tuple, payload)) = tunnel::decode(datagram) else {
            return Answer::Drop(DropReason::Malformed);
        };
        self.hand_back(now, tuple, &place, payload)
    }

    fn hand_back(
        &mut self,
        now: Instant,
        tuple: FiveTuple,
        place: &Place,
        payload: &[u8],
    ) -> Answer {
        let Some(listener) = self.listener(tuple.vip()) else {
            return Answer::Drop(DropReason::UnknownVip);
        };
        self.learn(now, place, payload);
        if let Ok(message) = Message::parse(payload)
            && message.class() == MessageClass::Success
            && message.method() == BINDING
            && self.memory.was_expected(tuple, message.transaction_id(), place)
            && self.places.find(place).is_some_and(|(_, state)| state != State::Down)
        {
            self.bind(now, tuple, place);
        }
        Answer::Return { listener, tuple }
    }

    fn listener(&self, vip: SocketAddr) -> Option<usize> {
        let wildcard = |listener: &SocketAddr| {
            let same_family = listener.is_ipv4() == vip.is_ipv4();
            listener.ip().is_unspecified() && same_family && listener.port() == vip.port()
        };
        let exact = self.listeners.iter().position(|listener| *listener == vip);
        exact.or_else(|| self.listeners.iter().position(wildcard))
    }
}
