use std::{
    any::Any,
    collections::VecDeque,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use str0m::{
    Candidate, IceCreds, Input, Output, Rtc, RtcConfig,
    media::{KeyframeRequestKind, MediaKind, Mid},
    net::{Protocol, Receive},
    rtp::Ssrc,
};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, error};
use wire::{Class, classify, stun};

use super::{
    Path, SessionId, Transmit,
    event::{Event, Incoming, MediaChange},
    fragment::{self, InvalidFragment},
    sdp::{self, InvalidOffer, Role},
    sources::Sources,
};

/// Rounds of timeouts handled in one drain; a session that wants more has gone wrong.
const ROUNDS_MAX: usize = 16;

/// One client's session.
pub(super) struct Session {
    id: SessionId,
    rtc: Box<Rtc>,
    /// The addresses that str0m takes for its own: those that the client was told when it came.
    candidates: Arc<Vec<SocketAddr>>,
    /// What its client may do in its room.
    role: Role,
    /// The media line that others are bundled with.
    first: Option<(Mid, MediaKind)>,
    /// One of the node's, until the session is dropped.
    _place: OwnedSemaphorePermit,
    /// When a request was last answered with success, or the session began.
    pub(super) last_check: Instant,
    /// Latched: str0m's own flag is false during an ICE restart.
    pub(super) connected: bool,
    /// Where its requests came from.
    pub(super) sources: Sources,
    /// Ours, the newest first: at most two, since requests to the former may be on their way.
    credentials: Vec<IceCreds>,
    remote: Option<IceCreds>,
    /// Where everything but STUN goes.
    path: Option<Path>,
    /// The request being handled, until its answer has come out.
    in_flight: Option<InFlight>,
    due: Instant,
    failed: bool,
}

#[derive(Clone, Copy)]
struct InFlight {
    transaction: stun::TransactionId,
    path: Path,
    nominates: bool,
}

/// str0m panicked in this session, which is over; with what it said.
#[derive(Debug)]
pub(super) struct Panicked(String);

/// The answer to an offer, and whether the session is called by other ufrags from now on.
pub(super) struct Answered {
    pub(super) sdp: String,
    pub(super) renamed: Option<Renamed>,
}

/// After a restart of ICE.
pub(super) struct Renamed {
    pub(super) new: String,
    /// The ufrag that is not known any more.
    pub(super) forgotten: Option<String>,
}

impl Session {
    pub(super) fn new(
        now: Instant,
        id: SessionId,
        template: &RtcConfig,
        role: Role,
        credentials: IceCreds,
        candidates: Arc<Vec<SocketAddr>>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let config = template.clone().set_local_ice_credentials(credentials.clone());
        let mut rtc = Box::new(config.build(now));
        for &address in candidates.iter() {
            match Candidate::host(address, "udp") {
                Ok(candidate) => {
                    rtc.add_local_candidate(candidate);
                }
                Err(problem) => error!("{address} cannot be an ICE candidate: {problem}"),
            }
        }
        Self {
            id,
            rtc,
            candidates,
            role,
            first: None,
            _place: place,
            last_check: now,
            connected: false,
            sources: Sources::new(),
            credentials: vec![credentials],
            remote: None,
            path: None,
            in_flight: None,
            due: now,
            failed: false,
        }
    }

    pub(super) const fn id(&self) -> &SessionId {
        &self.id
    }

    /// Ours, the newest first.
    pub(super) fn ufrags(&self) -> impl Iterator<Item = &str> {
        self.credentials.iter().map(|credentials| credentials.ufrag.as_str())
    }

    #[cfg(test)]
    pub(super) fn credentials(&self) -> IceCreds {
        self.credentials[0].clone()
    }

    /// Answers an offer, with the credentials that `fresh` gives if it restarts ICE.
    pub(super) fn answer(
        &mut self,
        offer: &str,
        candidates: &[SocketAddr],
        fresh: impl FnOnce() -> IceCreds,
    ) -> Result<Answered, InvalidOffer> {
        let (former, role) = (self.remote.clone(), self.role);
        let answer = self
            .guarded(|rtc| sdp::answer(rtc, former.as_ref(), offer, role, candidates, fresh))
            .map_err(|Panicked(problem)| InvalidOffer(problem))??;
        self.remote = Some(answer.remote);
        self.first = answer.first;
        let renamed = answer.restarted.map(|ours| {
            self.sources.restarted();
            self.rename(ours)
        });
        Ok(Answered { sdp: answer.sdp, renamed })
    }

    /// Restarts ICE without an offer. What str0m knows of the client's addresses stays, so they are not
    /// counted anew: an ICE-lite agent has no checks of its own to forget.
    pub(super) fn restart(
        &mut self,
        theirs: IceCreds,
        ours: IceCreds,
    ) -> Result<Renamed, InvalidFragment> {
        self.guarded(|rtc| {
            let mut api = rtc.direct_api();
            api.set_local_ice_credentials(ours.clone());
            api.set_remote_ice_credentials(theirs.clone());
        })
        .map_err(|Panicked(problem)| InvalidFragment(problem))?;
        self.remote = Some(theirs);
        Ok(self.rename(ours))
    }

    fn rename(&mut self, ours: IceCreds) -> Renamed {
        let new = ours.ufrag.clone();
        self.credentials.insert(0, ours);
        let forgotten = self.credentials.drain(2..).next();
        Renamed { new, forgotten: forgotten.map(|credentials| credentials.ufrag) }
    }

    /// Names the present ICE session: our newest ufrag.
    pub(super) fn tag(&self) -> &str {
        &self.credentials[0].ufrag
    }

    /// Whether these are the client's credentials now.
    pub(super) fn is_with(&self, theirs: &IceCreds) -> bool {
        self.remote.as_ref() == Some(theirs)
    }

    /// What a client is told about the present ICE session, besides an answer.
    pub(super) fn fragment(&self, candidates: &[SocketAddr]) -> String {
        fragment::write(&self.credentials[0], self.first, candidates)
    }

    /// Whether a request was made by someone who knows the password that goes with this ufrag.
    pub(super) fn is_authentic(&self, ufrag: &[u8], request: &stun::Message<'_>) -> bool {
        let named = |ours: &&IceCreds| ours.ufrag.as_bytes() == ufrag;
        let ours = self.credentials.iter().find(named);
        ours.is_some_and(|ours| request.verify_integrity(ours.pass.as_bytes()))
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

    /// Takes in a datagram; false if the session has no address of the client's IP version.
    pub(super) fn receive(&mut self, now: Instant, path: Path, datagram: &[u8]) -> bool {
        let client = path.tuple.client();
        // str0m knows the addresses we told the client. Behind NATs and wildcards of ours, or when the
        // VIP has moved, what it was sent to may be written differently.
        let same_version = |address: &&SocketAddr| address.is_ipv4() == client.is_ipv4();
        let Some(&destination) = self.candidates.iter().find(same_version) else {
            return false;
        };
        self.change(|rtc| {
            let receive = Receive::new(Protocol::Udp, client, destination, datagram)?;
            rtc.handle_input(Input::Receive(now, receive))
        });
        true
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.change(|rtc| rtc.handle_input(Input::Timeout(now)));
    }

    pub(super) fn close(&mut self) {
        self.change(|rtc| rtc.close().map(drop));
    }

    /// Asks the client for a keyframe of one of its streams; false if there is no such stream.
    pub(super) fn ask_for_keyframe(&mut self, mid: Mid, stream: Option<Ssrc>) -> bool {
        let asked = self.guarded(|rtc| {
            let mut api = rtc.direct_api();
            let stream = match stream {
                Some(ssrc) => api.stream_rx(&ssrc),
                None => api.stream_rx_by_mid(mid, None),
            };
            stream.map(|stream| stream.request_keyframe(KeyframeRequestKind::Pli)).is_some()
        });
        asked.unwrap_or(false)
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
        while let Ok(output) = self.guarded(Rtc::poll_output) {
            match output {
                Ok(Output::Timeout(due)) if due <= now && rounds < ROUNDS_MAX => {
                    rounds += 1;
                    self.handle_timeout(now);
                }
                Ok(Output::Timeout(due)) => {
                    self.due = due;
                    break;
                }
                Ok(Output::Transmit(transmit)) => {
                    let contents = transmit.contents.to_vec();
                    let path = self.way_out(&contents, transmit.destination, events);
                    transmits.extend(path.map(|path| Transmit { path, contents }));
                }
                Ok(Output::Event(event)) => events.extend(self.event(event)),
                Err(problem) => {
                    debug!("{problem}");
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
                let (mid, direction) = (changed.mid, changed.direction);
                let kind = self.guarded(|rtc| Some(rtc.media(mid)?.kind())).ok()??;
                Some(Event::Media(MediaChange { mid, kind, direction }))
            }
            str0m::Event::RtpPacket(packet) => {
                let header = &packet.header;
                let found = self.guarded(|rtc| {
                    // By its stream, not by the extension, which is gone after the first report.
                    let mid = rtc.direct_api().stream_rx(&header.ssrc)?.mid();
                    let mut codecs = rtc.codec_config().iter();
                    Some((mid, *codecs.find(|params| params.pt() == header.payload_type)?))
                });
                let (mid, params) = found.ok()??;
                Some(Event::Packet(Box::new(Incoming { packet, mid, params })))
            }
            str0m::Event::KeyframeRequest(request) => Some(Event::Keyframe(request.mid)),
            _ => None,
        }
    }

    /// Changes something in str0m. An error is the peer's doing and ends the session only if str0m
    /// says so.
    fn change(&mut self, call: impl FnOnce(&mut Rtc) -> Result<(), str0m::RtcError>) {
        if let Ok(Err(problem)) = self.guarded(call) {
            debug!("{problem}");
        }
    }

    /// The only way into str0m: a panic, which some input can provoke, ends this session and no
    /// other. After one, nothing is called any more.
    pub(super) fn guarded<T>(&mut self, call: impl FnOnce(&mut Rtc) -> T) -> Result<T, Panicked> {
        if self.failed {
            return Err(Panicked("the session has failed".to_owned()));
        }
        let rtc = &mut self.rtc;
        catch_unwind(AssertUnwindSafe(|| call(rtc))).map_err(|cause| {
            self.failed = true;
            let problem = said(cause.as_ref());
            error!("a session was ended because the WebRTC library panicked in it: {problem}");
            Panicked(problem)
        })
    }
}

/// What a panic said.
fn said(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the WebRTC library failed".to_owned())
}
