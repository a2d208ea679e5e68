use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use str0m::{
    Candidate, Event, IceCreds, Input, Output, Rtc, RtcConfig,
    change::{SdpAnswer, SdpPendingOffer},
    format::Codec,
    media::{Direction, MediaKind, Mid, Simulcast, SimulcastLayer},
    net::{Protocol, Receive},
    rtp::{RtpPacket, RtpWrite},
};
use tokio::sync::Semaphore;
use wire::FiveTuple;

use crate::{
    RoomName,
    identity::tests::identity,
    metrics::{Drop, Metrics},
    rtc::{Joined, Path, Refused, Role, SessionId, Transmit, Updated, WebRtc},
};

/// The world is moved on by so much at a time.
const STEP: Duration = Duration::from_millis(5);

pub(crate) fn vip() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 1], 4433))
}

pub(super) fn room() -> RoomName {
    "room".parse().expect("a name")
}

/// A node, its clients, and a network without delay between them.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) node: WebRtc,
    pub(super) metrics: Arc<Metrics>,
    pub(super) candidates: Arc<ArcSwap<Vec<SocketAddr>>>,
    pub(super) places: Arc<Semaphore>,
    pub(super) clients: Vec<Client>,
}

impl World {
    pub(super) fn new() -> Self {
        let metrics = Arc::new(Metrics::default());
        let candidates = Arc::new(ArcSwap::from_pointee(vec![vip()]));
        let places = Arc::new(Semaphore::new(100));
        let node = WebRtc::new(
            Arc::new(identity("a")),
            metrics.clone(),
            candidates.clone(),
            places.clone(),
        );
        Self { now: Instant::now(), node, metrics, candidates, places, clients: Vec::new() }
    }

    /// A client joins, sending what `offer` adds. Gives back its index.
    pub(super) fn join(&mut self, offer: impl FnOnce(&mut Client)) -> usize {
        self.join_as(Role::Participant, offer)
    }

    /// The same in another role.
    pub(super) fn join_as(&mut self, role: Role, offer: impl FnOnce(&mut Client)) -> usize {
        let mut client = Client::new(self.now, self.clients.len());
        offer(&mut client);
        let (text, pending) = client.offer(|_| {});
        let joined = self.node.join(self.now, room(), role, &text).expect("is answered");
        client.accept(pending, &joined.answer);
        client.answer = joined.answer;
        client.tag = joined.tag;
        client.session = Some(joined.id);
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// The same with an offer of anybody's.
    pub(super) fn offer(&mut self, offer: &str) -> Result<Joined, Refused> {
        self.node.join(self.now, room(), Role::Participant, offer)
    }

    /// A client's further offer, and what it was answered.
    pub(super) fn update(&mut self, client: usize, restart: bool) -> Result<String, Refused> {
        let client = &mut self.clients[client];
        let (offer, pending) = client.offer(|api| {
            if restart {
                api.ice_restart(true);
            }
        });
        let session = client.session.clone().expect("joined");
        let Updated { answer, tag } = self.node.update(self.now, &session, None, &offer)?;
        client.accept(pending, &answer);
        client.answer.clone_from(&answer);
        client.tag = tag;
        Ok(answer)
    }

    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += STEP;
            for index in 0..self.clients.len() {
                if !self.clients[index].silent {
                    self.clients[index].handle(self.now, None);
                    self.carry(index);
                }
            }
            if self.node.poll_timeout().is_some_and(|due| due <= self.now) {
                self.node.handle_timeout(self.now);
            }
            self.deliver();
        }
    }

    /// Runs until something holds, for a minute at most.
    #[track_caller]
    pub(super) fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        for _ in 0..12_000 {
            if holds(self) {
                return;
            }
            self.run(STEP);
        }
        panic!("never: {what}");
    }

    fn carry(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let sent = std::mem::take(&mut client.sent);
        let path = Path { socket: 0, tuple: FiveTuple::new(client.address, vip()) };
        for datagram in sent {
            self.node.receive(self.now, path, &datagram);
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        while let Some(Transmit { path, contents }) = self.node.poll_transmit() {
            let to = path.tuple.client();
            let client = self.clients.iter().position(|client| client.address == to);
            if let Some(index) = client
                && !self.clients[index].silent
            {
                self.clients[index].handle(self.now, Some(&contents));
            }
        }
    }

    pub(super) fn dropped(&self, reason: Drop) -> u64 {
        self.metrics.drops_count(reason)
    }
}

/// A client: a full ICE agent of str0m's.
pub(super) struct Client {
    pub(super) rtc: Rtc,
    pub(super) address: SocketAddr,
    pub(super) session: Option<SessionId>,
    /// The last answer, and what names the ICE session.
    pub(super) answer: String,
    pub(super) tag: String,
    /// Says and hears nothing.
    pub(super) silent: bool,
    pub(super) connected: bool,
    pub(super) received: Vec<RtpPacket>,
    pub(super) keyframes_asked: usize,
    pub(super) lines: Vec<Mid>,
    sent: Vec<Vec<u8>>,
    wanted: Vec<(MediaKind, Direction, Option<Simulcast>)>,
    sequence: u64,
}

impl Client {
    pub(super) fn new(now: Instant, index: usize) -> Self {
        let config = RtcConfig::new()
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .enable_h264(true);
        let mut rtc = config.build(now);
        let port = 10_000 + u16::try_from(index).expect("few");
        let address = SocketAddr::from(([198, 51, 100, 7], port));
        rtc.add_local_candidate(Candidate::host(address, "udp").expect("an address"));
        Self {
            rtc,
            address,
            session: None,
            answer: String::new(),
            tag: String::new(),
            silent: false,
            connected: false,
            received: Vec::new(),
            keyframes_asked: 0,
            lines: Vec::new(),
            sent: Vec::new(),
            wanted: Vec::new(),
            sequence: 1,
        }
    }

    /// Sends or receives by one more media line.
    pub(super) fn line(&mut self, kind: MediaKind, direction: Direction) -> &mut Self {
        self.wanted.push((kind, direction, None));
        self
    }

    /// Sends video in layers.
    pub(super) fn simulcast(&mut self) -> &mut Self {
        let mut simulcast = Simulcast::new();
        for rid in ["h", "l"] {
            simulcast.add_send_layer(SimulcastLayer::new(rid));
        }
        self.wanted.push((MediaKind::Video, Direction::SendOnly, Some(simulcast)));
        self
    }

    pub(super) fn offer(
        &mut self,
        change: impl FnOnce(&mut str0m::change::SdpApi<'_>),
    ) -> (String, SdpPendingOffer) {
        let mut api = self.rtc.sdp_api();
        for (kind, direction, simulcast) in self.wanted.drain(..) {
            self.lines.push(api.add_media(kind, direction, None, None, simulcast));
        }
        change(&mut api);
        let (offer, pending) = api.apply().expect("something to offer");
        (offer.to_sdp_string(), pending)
    }

    pub(super) fn accept(&mut self, pending: SdpPendingOffer, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).expect("an answer");
        self.rtc.sdp_api().accept_answer(pending, answer).expect("is accepted");
    }

    pub(super) fn credentials(&mut self) -> IceCreds {
        self.rtc.direct_api().local_ice_credentials()
    }

    /// Sends a packet of one codec by one line.
    pub(super) fn send(&mut self, now: Instant, line: usize, codec: Codec, payload: &[u8]) {
        let params = self.rtc.codec_config().find(|params| params.spec().codec == codec);
        let payload_type = params.expect("enabled").pt();
        let sequence = self.sequence.into();
        #[expect(clippy::cast_possible_truncation, reason = "far from 2^32")]
        let timestamp = (self.sequence * 3_000) as u32;
        self.sequence += 1;
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(self.lines[line], None).expect("it sends");
        stream.write_rtp(RtpWrite::new(payload_type, sequence, timestamp, now, payload.to_vec()));
    }

    fn handle(&mut self, now: Instant, datagram: Option<&[u8]>) {
        let input = match datagram {
            None => Input::Timeout(now),
            Some(datagram) => {
                let receive = Receive::new(Protocol::Udp, vip(), self.address, datagram);
                Input::Receive(now, receive.expect("a datagram of a known protocol"))
            }
        };
        self.rtc.handle_input(input).expect("a client of our own");
        loop {
            match self.rtc.poll_output().expect("a client of our own") {
                Output::Timeout(due) if due <= now => {
                    self.rtc.handle_input(Input::Timeout(now)).expect("a client of our own");
                }
                Output::Timeout(_) => return,
                Output::Transmit(transmit) => self.sent.push(transmit.contents.to_vec()),
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::RtpPacket(packet)) => self.received.push(packet),
                Output::Event(Event::KeyframeRequest(_)) => self.keyframes_asked += 1,
                Output::Event(_) => {}
            }
        }
    }

    /// The payloads that it received.
    pub(super) fn payloads(&self) -> BTreeSet<Vec<u8>> {
        self.received.iter().map(|packet| packet.payload.to_vec()).collect()
    }
}
