use std::{
    collections::VecDeque,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use str0m::{
    Candidate, IceCreds, Input, Output, Rtc, RtcConfig,
    media::{Direction, MediaKind, Mid},
    net::{Protocol, Receive},
    rtp::RtpPacket,
};
use tracing::{debug, error};
use wire::{Class, classify, stun};

use super::{
    Path, SessionId, Transmit,
    sdp::{self, Answer, InvalidOffer},
};
use crate::RoomName;

/// Paths that requests of one session may come by within [`SOURCES_WINDOW`]. str0m keeps a pair for
/// each, and a participant could make up as many as it likes.
const SOURCES_MAX: usize = 64;
const SOURCES_WINDOW: Duration = Duration::from_secs(15);

/// Rounds of timeouts handled in one drain; a session that wants more has gone wrong.
const ROUNDS_MAX: usize = 16;

/// One client's session.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) rtc: Box<Rtc>,
    /// When a request was last answered with success, or the session began.
    pub(super) last_check: Instant,
    /// Latched: str0m's own flag is false during an ICE restart.
    pub(super) connected: bool,
    room: RoomName,
    /// Ours, the newest first: at most two, since requests to the former may be on their way.
    ufrags: Vec<String>,
    remote: Option<IceCreds>,
    /// Where everything but STUN goes.
    path: Option<Path>,
    /// The request being handled, until its answer has come out.
    in_flight: Option<InFlight>,
    sources: VecDeque<(Path, Instant)>,
    due: Instant,
    failed: bool,
}

#[derive(Clone, Copy)]
struct InFlight {
    transaction: stun::TransactionId,
    path: Path,
    nominates: bool,
}

/// What happened in a session that concerns others.
pub(super) enum Event {
    /// A request that came by this path was answered with success.
    Proved {
        path: Path,
        /// It was a USE-CANDIDATE request.
        nominated: bool,
    },
    /// A media line is there, or has another direction.
    Media(MediaChange),
    /// A packet for the room.
    Packet(Box<RtpPacket>),
    /// The subscriber of this media line needs a keyframe.
    Keyframe(Mid),
}

/// A media line and where it points, seen from here.
#[derive(Clone, Copy, Debug)]
pub(super) struct MediaChange {
    pub(super) mid: Mid,
    pub(super) kind: MediaKind,
    pub(super) direction: Direction,
}

impl Session {
    pub(super) fn new(
        now: Instant,
        template: &RtcConfig,
        credentials: IceCreds,
        candidates: &[SocketAddr],
        room: RoomName,
    ) -> Self {
        let ufrags = vec![credentials.ufrag.clone()];
        let mut rtc = Box::new(template.clone().set_local_ice_credentials(credentials).build(now));
        for &address in candidates {
            match Candidate::host(address, "udp") {
                Ok(candidate) => {
                    rtc.add_local_candidate(candidate);
                }
                Err(problem) => error!("{address} cannot be an ICE candidate: {problem}"),
            }
        }
        Self {
            id: SessionId::from(String::new()),
            rtc,
            last_check: now,
            connected: false,
            room,
            ufrags,
            remote: None,
            path: None,
            in_flight: None,
            sources: VecDeque::new(),
            due: now,
            failed: false,
        }
    }

    pub(super) const fn room(&self) -> &RoomName {
        &self.room
    }

    pub(super) fn ufrags(&self) -> &[String] {
        &self.ufrags
    }

    pub(super) fn answer(
        &mut self,
        offer: &str,
        fresh: impl FnOnce() -> IceCreds,
    ) -> Result<Answer, InvalidOffer> {
        sdp::answer(&mut self.rtc, &mut self.remote, offer, fresh)
    }

    /// Notes a new ufrag; gives back the one that is forgotten for it.
    pub(super) fn ufrag_changed(&mut self, ufrag: String) -> Option<String> {
        self.ufrags.insert(0, ufrag);
        if self.ufrags.len() > 2 { self.ufrags.pop() } else { None }
    }

    /// Whether a request by this path may be looked at: from a known one, or there are not too many.
    pub(super) fn admits(&mut self, now: Instant, path: Path) -> bool {
        self.sources.retain(|(_, seen)| now.saturating_duration_since(*seen) < SOURCES_WINDOW);
        if let Some(known) = self.sources.iter_mut().find(|(known, _)| *known == path) {
            known.1 = now;
            return true;
        }
        if self.sources.len() >= SOURCES_MAX {
            return false;
        }
        self.sources.push_back((path, now));
        true
    }

    /// Notes the request that is about to be fed, so that its answer is recognised.
    pub(super) fn expect_answer(&mut self, request: &stun::Message<'_>, path: Path) {
        self.in_flight = Some(InFlight {
            transaction: request.transaction_id(),
            path,
            nominates: request.use_candidate(),
        });
    }

    /// A request was answered; true if the session has moved to another address by this.
    pub(super) fn proved(&mut self, now: Instant, path: Path, nominated: bool) -> bool {
        self.last_check = now;
        if nominated || self.path.is_none() {
            let before = self.path.replace(path);
            return before.is_some_and(|before| before.tuple.client() != path.tuple.client());
        }
        false
    }

    pub(super) fn receive(
        &mut self,
        now: Instant,
        candidates: &[SocketAddr],
        path: Path,
        datagram: &[u8],
    ) {
        let client = path.tuple.client();
        // str0m knows the addresses we told the client. Behind NATs and wildcards of ours, what it
        // was sent to may be written differently.
        let same_version = |address: &&SocketAddr| address.is_ipv4() == client.is_ipv4();
        let Some(&destination) = candidates.iter().find(same_version) else {
            return;
        };
        let Ok(receive) = Receive::new(Protocol::Udp, client, destination, datagram) else {
            return;
        };
        self.guarded(|rtc| rtc.handle_input(Input::Receive(now, receive)));
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.guarded(|rtc| rtc.handle_input(Input::Timeout(now)));
    }

    pub(super) fn close(&mut self) {
        self.guarded(|rtc| rtc.close().map(drop));
    }

    /// When the session wants to be woken.
    pub(super) fn due(&self, now: Instant) -> Instant {
        self.due.max(now + Duration::from_micros(100))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.failed || !self.rtc.is_alive()
    }

    /// Takes out all that str0m has to say. Must follow every change to the session.
    pub(super) fn drain(
        &mut self,
        now: Instant,
        transmits: &mut VecDeque<Transmit>,
        events: &mut Vec<Event>,
    ) {
        let mut rounds = 0;
        while !self.failed {
            let mut output = None;
            self.guarded(|rtc| {
                output = Some(rtc.poll_output()?);
                Ok(())
            });
            match output {
                Some(Output::Timeout(due)) if due <= now && rounds < ROUNDS_MAX => {
                    rounds += 1;
                    self.handle_timeout(now);
                }
                Some(Output::Timeout(due)) => {
                    self.due = due;
                    break;
                }
                Some(Output::Transmit(transmit)) => {
                    let contents = transmit.contents.to_vec();
                    let path = self.way_out(&contents, transmit.destination, events);
                    transmits.extend(path.map(|path| Transmit { path, contents }));
                }
                Some(Output::Event(event)) => events.extend(self.event(event)),
                None => {
                    self.due = now + Duration::from_secs(1);
                    break;
                }
            }
        }
        self.in_flight = None;
    }

    /// Where a datagram of str0m's goes: an answer to where its request came from, everything else
    /// to where the client is, whatever address str0m has in mind.
    fn way_out(
        &mut self,
        contents: &[u8],
        destination: SocketAddr,
        events: &mut Vec<Event>,
    ) -> Option<Path> {
        if classify(contents) != Class::Stun {
            return self.path;
        }
        let in_flight = self.in_flight?;
        let message = stun::Message::parse(contents).ok()?;
        if message.transaction_id() != in_flight.transaction
            || destination != in_flight.path.tuple.client()
        {
            return None;
        }
        if message.class() == stun::MessageClass::Success {
            let nominated = in_flight.nominates;
            events.push(Event::Proved { path: in_flight.path, nominated });
        }
        Some(in_flight.path)
    }

    fn event(&mut self, event: str0m::Event) -> Option<Event> {
        match event {
            str0m::Event::Connected => {
                self.connected = true;
                None
            }
            str0m::Event::MediaAdded(added) => Some(Event::Media(MediaChange {
                mid: added.mid,
                kind: added.kind,
                direction: added.direction,
            })),
            str0m::Event::MediaChanged(changed) => {
                let kind = self.rtc.media(changed.mid)?.kind();
                let (mid, direction) = (changed.mid, changed.direction);
                Some(Event::Media(MediaChange { mid, kind, direction }))
            }
            str0m::Event::RtpPacket(packet) => Some(Event::Packet(Box::new(packet))),
            str0m::Event::KeyframeRequest(request) => Some(Event::Keyframe(request.mid)),
            _ => None,
        }
    }

    /// Calls into str0m. An error is the peer's doing and ends the session only if str0m says so; a
    /// panic, which some input can provoke, ends this session and no other.
    fn guarded(&mut self, call: impl FnOnce(&mut Rtc) -> Result<(), str0m::RtcError>) {
        if self.failed {
            return;
        }
        let rtc = &mut self.rtc;
        match catch_unwind(AssertUnwindSafe(|| call(rtc))) {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => debug!("{problem}"),
            Err(_) => {
                error!("a session was ended because the WebRTC library panicked in it");
                self.failed = true;
            }
        }
    }
}
