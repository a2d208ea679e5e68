use std::{
    collections::BTreeSet,
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use sfu::rtc::{NODE_EXTENSION_ID, NODE_EXTENSION_URI, NodeNameSerializer};
use str0m::{
    Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig,
    change::{SdpAnswer, SdpPendingOffer},
    media::{Direction, KeyframeRequestKind, MediaKind, Mid},
    net::{Protocol, Receive},
    rtp::Extension,
};
use tokio::{
    sync::mpsc,
    time::{self, MissedTickBehavior},
};
use wire::stun;

use super::{
    ClientError, Command, Log, WebRtcOptions,
    media::Track,
    sockets::{Datagram, Sockets, To},
};

/// Audio packets leave this often; video packets half as often.
const TICK: Duration = Duration::from_millis(20);

/// The client's own task.
pub(super) struct Agent {
    pub(super) rtc: Rtc,
    pub(super) options: WebRtcOptions,
    pub(super) log: Arc<Log>,
    pub(super) sockets: Sockets,
    pub(super) tracks: Vec<Track>,
    /// Media lines that video has come by.
    pub(super) received_video: BTreeSet<Mid>,
    pending: Option<SdpPendingOffer>,
    pub(super) ticks: u32,
}

impl Agent {
    pub(super) fn new(
        vip: SocketAddr,
        options: WebRtcOptions,
        log: Arc<Log>,
    ) -> Result<Self, ClientError> {
        let socket = UdpSocket::bind((vip.ip(), 0))?;
        let extension = Extension::with_serializer(NODE_EXTENSION_URI, NodeNameSerializer);
        let rtc = RtcConfig::new()
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .set_extension(NODE_EXTENSION_ID, extension)
            .set_rtp_mode(true)
            .build(Instant::now());
        let mut agent = Self {
            rtc,
            options,
            log,
            sockets: Sockets::new(socket.local_addr()?),
            tracks: Vec::new(),
            received_video: BTreeSet::new(),
            pending: None,
            ticks: 0,
        };
        agent.use_socket(To::Fresh(socket))?;
        Ok(agent)
    }

    pub(super) fn first_offer(&mut self) -> Result<(String, SdpPendingOffer), ClientError> {
        let mut api = self.rtc.sdp_api();
        let kinds = [MediaKind::Audio, MediaKind::Video];
        let sent = match &self.options {
            WebRtcOptions { silent: true, .. } => 0,
            WebRtcOptions { video: true, .. } => 2,
            _ => 1,
        };
        for kind in kinds.into_iter().take(sent) {
            let mid = api.add_media(kind, Direction::SendOnly, None, None, None);
            self.tracks.push(Track { mid, kind, sequence: 0 });
        }
        for _ in 0..self.options.slots {
            for kind in kinds {
                api.add_media(kind, Direction::RecvOnly, None, None, None);
            }
        }
        let (offer, pending) = api
            .apply()
            .ok_or_else(|| ClientError::WebRtc("there is nothing to offer".to_owned()))?;
        Ok((offer.to_sdp_string(), pending))
    }

    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Command>) {
        let mut tick = time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = self.drain();
        while self.rtc.is_alive() {
            tokio::select! {
                Some(datagram) = self.sockets.receive() => self.receive(&datagram),
                _ = tick.tick() => self.send_media(),
                command = orders.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                () = time::sleep_until(due.into()) => {
                    let _reported = self.rtc.handle_input(Input::Timeout(Instant::now()));
                }
            }
            due = self.drain();
        }
        self.log.write(|record| {
            record.ended.get_or_insert_with(|| "the session has ended".to_owned());
        });
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Move(to, reply) => {
                let _gone = reply.send(self.use_socket(to));
            }
            Command::Offer { restart, more_slots, reply } => {
                let mut api = self.rtc.sdp_api();
                if restart {
                    api.ice_restart(true);
                }
                for _ in 0..more_slots {
                    for kind in [MediaKind::Audio, MediaKind::Video] {
                        api.add_media(kind, Direction::RecvOnly, None, None, None);
                    }
                }
                let offer = api.apply().map(|(offer, pending)| {
                    self.pending = Some(pending);
                    offer.to_sdp_string()
                });
                let _gone = reply.send(offer.ok_or_else(|| "there is nothing to offer".to_owned()));
            }
            Command::Answer(answer, reply) => {
                let taken = self.take_answer(&answer);
                let _gone = reply.send(taken);
            }
            Command::Keyframe => {
                for mid in &self.received_video {
                    if let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(*mid, None) {
                        stream.request_keyframe(KeyframeRequestKind::Pli);
                    }
                }
                let _reported = self.rtc.handle_input(Input::Timeout(Instant::now()));
            }
        }
    }

    fn take_answer(&mut self, answer: &str) -> Result<(), String> {
        let pending = self.pending.take().ok_or("no offer was made")?;
        self.accept(pending, answer)
    }

    /// Takes the answer to an offer.
    pub(super) fn accept(&mut self, pending: SdpPendingOffer, answer: &str) -> Result<(), String> {
        let answer = SdpAnswer::from_sdp_string(answer).map_err(|error| error.to_string())?;
        self.rtc.sdp_api().accept_answer(pending, answer).map_err(|error| error.to_string())
    }

    /// Moves to a socket. What the others had is over.
    fn use_socket(&mut self, to: To) -> io::Result<Instant> {
        let index = match to {
            To::Fresh(socket) => self.sockets.add(socket)?,
            To::Former(index) => index,
        };
        let candidate = |address| Candidate::host(address, "udp").map_err(io::Error::other);
        self.rtc.add_local_candidate(candidate(self.sockets.address(index)?)?);
        let former = self.sockets.choose(index)?;
        let since = Instant::now();
        if let Some(former) = former {
            self.rtc.direct_api().invalidate_candidate(&candidate(former)?);
            // Otherwise the first check would wait for its turn.
            let _reported = self.rtc.handle_input(Input::Timeout(since));
        }
        Ok(since)
    }

    fn receive(&mut self, datagram: &Datagram) {
        // A network that the client has left does not deliver any more.
        let Some(local) = self.sockets.current_is(datagram.socket) else {
            return;
        };
        let receive = Receive::new(Protocol::Udp, datagram.from, local, &datagram.bytes);
        if let Ok(receive) = receive {
            let _reported = self.rtc.handle_input(Input::Receive(Instant::now(), receive));
        }
    }

    /// Takes out all that str0m has to say; tells when it wants to be asked again.
    fn drain(&mut self) -> Instant {
        let now = Instant::now();
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(due)) if due <= now => {
                    if self.rtc.handle_input(Input::Timeout(now)).is_err() {
                        return now + TICK;
                    }
                }
                Ok(Output::Timeout(due)) => return due,
                Ok(Output::Transmit(transmit)) => {
                    if self.sockets.send(&transmit) && is_request(&transmit.contents) {
                        self.log.write(|record| record.checks.push(now));
                    }
                }
                Ok(Output::Event(event)) => self.note(event, now),
                Err(error) => {
                    self.log.write(|record| record.ended = Some(error.to_string()));
                    return now + TICK;
                }
            }
        }
    }

    fn note(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected => self.log.write(|record| record.connected = Some(now)),
            Event::RtpPacket(packet) => self.note_media(&packet, now),
            Event::KeyframeRequest(_) => self.log.write(|record| record.keyframe_requests += 1),
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                let reason = "ICE is disconnected".to_owned();
                self.log.write(|record| record.ended = Some(reason));
            }
            _ => {}
        }
    }
}

/// Whether a datagram is a connectivity check.
fn is_request(datagram: &[u8]) -> bool {
    stun::Message::parse(datagram)
        .is_ok_and(|message| message.class() == stun::MessageClass::Request)
}
