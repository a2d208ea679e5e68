//! A WebRTC client: str0m as a full ICE agent with default timers, sending audio and video.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sfu::rtc::{NODE_EXTENSION_ID, NODE_EXTENSION_URI, NodeName, NodeNameSerializer};
use str0m::{
    Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig,
    change::SdpAnswer,
    format::Codec,
    media::{Direction, KeyframeRequestKind, MediaKind, Mid},
    net::{Protocol, Receive},
    rtp::{Extension, RtpPacket, RtpWrite},
};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinSet},
    time::{self, MissedTickBehavior},
};
use ureq::http::Method;
use wire::stun;

use super::{
    log::{Log, Sent, media, read_media},
    signalling::{ClientError, ask},
};

/// Audio packets leave this often; video packets half as often.
const TICK: Duration = Duration::from_millis(20);

/// Bytes of an audio and of a video payload.
const AUDIO_LEN: usize = 120;
const VIDEO_LEN: usize = 1_000;

/// Numbers of a client's streams.
const AUDIO: u8 = 0;
const VIDEO: u8 = 1;

/// Datagrams of one client on their way from its sockets.
const QUEUE: usize = 1_024;

/// What a client sends and wants.
#[derive(Clone, Debug)]
pub struct WebRtcOptions {
    /// Its number, in all media it sends.
    pub number: u32,
    /// Whether it sends video too.
    pub video: bool,
    /// Bytes of a video payload.
    pub video_len: usize,
    /// Tracks of others that it can receive, of each kind.
    pub slots: usize,
    /// Whether its own tracks come back to it.
    pub mirror: bool,
}

impl WebRtcOptions {
    /// A client that sends audio and video, and receives those of one other.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self { number, video: true, video_len: VIDEO_LEN, slots: 1, mirror: false }
    }
}

/// A WebRTC client. Its session ends without a word when it is dropped.
pub struct WebRtcClient {
    number: u32,
    log: Arc<Log>,
    node: SocketAddr,
    location: String,
    credentials: (String, String),
    own_ufrag: String,
    local: Arc<Mutex<SocketAddr>>,
    commands: mpsc::UnboundedSender<Command>,
    task: AbortHandle,
}

enum Command {
    /// To another socket: a new one, or one it had before.
    Move(Option<usize>, oneshot::Sender<io::Result<SocketAddr>>),
    /// Make an offer that restarts ICE, or asks for more slots.
    Offer { restart: bool, more_slots: usize, reply: oneshot::Sender<Result<String, String>> },
    /// Take the answer to it.
    Answer(String, oneshot::Sender<Result<(), String>>),
    /// Ask for a keyframe of whatever is received.
    Keyframe,
}

impl WebRtcClient {
    /// Joins a room on a node, through the VIP that the node's answer names.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn join(
        node: SocketAddr,
        vip: SocketAddr,
        room: &str,
        options: WebRtcOptions,
    ) -> Result<Self, ClientError> {
        let log = Arc::new(Log::default());
        let mut agent = Agent::new(vip, options.clone(), log.clone()).await?;
        let (offer, pending) = agent.first_offer()?;
        let (own_ufrag, _) = credentials(&offer);
        let path = format!("/rooms/{room}/sessions?mirror={}", options.mirror);
        let answer = ask(node, Method::POST, path, offer).await?;
        let location = answer.location.ok_or(ClientError::Ended)?;
        let parsed = SdpAnswer::from_sdp_string(&answer.body)
            .map_err(|error| ClientError::WebRtc(error.to_string()))?;
        agent
            .rtc
            .sdp_api()
            .accept_answer(pending, parsed)
            .map_err(|error| ClientError::WebRtc(error.to_string()))?;
        let local = agent.local.clone();
        let (commands, orders) = mpsc::unbounded_channel();
        let task = tokio::spawn(agent.run(orders)).abort_handle();
        Ok(Self {
            number: options.number,
            log,
            node,
            location,
            credentials: credentials(&answer.body),
            own_ufrag,
            local,
            commands,
            task,
        })
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// What happened to it.
    #[must_use]
    pub const fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The address of the socket it uses.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves to a new socket, as a client does that has noticed a change of network. The former one
    /// is dead to it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn new_socket(&self) -> Result<SocketAddr, ClientError> {
        self.tell(|reply| Command::Move(None, reply)).await?.map_err(ClientError::Socket)
    }

    /// Moves back to one of its sockets, in the order of their making.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn return_to(&self, socket: usize) -> Result<SocketAddr, ClientError> {
        self.tell(|reply| Command::Move(Some(socket), reply)).await?.map_err(ClientError::Socket)
    }

    /// Restarts ICE. Says which ufrag and password the node has from then on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn restart_ice(&self) -> Result<(String, String), ClientError> {
        self.offer(true, 0).await.map(|answer| credentials(&answer))
    }

    /// The ufrag and password that the node gave at first.
    #[must_use]
    pub const fn credentials(&self) -> &(String, String) {
        &self.credentials
    }

    /// The ufrag that the client gave at first.
    #[must_use]
    pub fn own_ufrag(&self) -> &str {
        &self.own_ufrag
    }

    /// Offers to receive so many more tracks of each kind.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn more_slots(&self, slots: usize) -> Result<(), ClientError> {
        self.offer(false, slots).await.map(drop)
    }

    /// Asks for a keyframe of the video it receives.
    pub fn request_keyframe(&self) {
        let _ended = self.commands.send(Command::Keyframe);
    }

    /// Ends the session at the node.
    ///
    /// # Errors
    /// [`ClientError::Signalling`].
    pub async fn leave(&self) -> Result<(), ClientError> {
        ask(self.node, Method::DELETE, self.location.clone(), String::new()).await.map(drop)
    }

    async fn offer(&self, restart: bool, more_slots: usize) -> Result<String, ClientError> {
        let offer = self.tell(|reply| Command::Offer { restart, more_slots, reply }).await?;
        let offer = offer.map_err(ClientError::WebRtc)?;
        let answer = ask(self.node, Method::PATCH, self.location.clone(), offer).await?.body;
        let taken = self.tell(|reply| Command::Answer(answer.clone(), reply)).await?;
        taken.map_err(ClientError::WebRtc)?;
        Ok(answer)
    }

    async fn tell<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| ClientError::Ended)?;
        answer.await.map_err(|_| ClientError::Ended)
    }
}

impl Drop for WebRtcClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The client's own task.
struct Agent {
    rtc: Rtc,
    vip: SocketAddr,
    options: WebRtcOptions,
    log: Arc<Log>,
    sockets: Vec<Arc<UdpSocket>>,
    local: Arc<Mutex<SocketAddr>>,
    /// The socket in use.
    current: usize,
    inbox: (mpsc::Sender<Datagram>, mpsc::Receiver<Datagram>),
    readers: JoinSet<()>,
    tracks: Vec<Track>,
    /// Media lines that video has come by.
    received_video: BTreeSet<Mid>,
    pending: Option<str0m::change::SdpPendingOffer>,
    ticks: u32,
}

struct Datagram {
    socket: usize,
    from: SocketAddr,
    bytes: Vec<u8>,
}

/// A track that the client sends.
struct Track {
    mid: Mid,
    kind: MediaKind,
    sequence: u32,
}

impl Agent {
    async fn new(
        vip: SocketAddr,
        options: WebRtcOptions,
        log: Arc<Log>,
    ) -> Result<Self, ClientError> {
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
            vip,
            options,
            log,
            sockets: Vec::new(),
            local: Arc::new(Mutex::new(vip)),
            current: 0,
            inbox: mpsc::channel(QUEUE),
            readers: JoinSet::new(),
            tracks: Vec::new(),
            received_video: BTreeSet::new(),
            pending: None,
            ticks: 0,
        };
        agent.use_socket(None).await?;
        Ok(agent)
    }

    fn first_offer(&mut self) -> Result<(String, str0m::change::SdpPendingOffer), ClientError> {
        let mut api = self.rtc.sdp_api();
        let kinds = [MediaKind::Audio, MediaKind::Video];
        for kind in kinds.into_iter().take(if self.options.video { 2 } else { 1 }) {
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

    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Command>) {
        let mut tick = time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = self.drain();
        while self.rtc.is_alive() {
            tokio::select! {
                Some(datagram) = self.inbox.1.recv() => self.receive(&datagram),
                _ = tick.tick() => self.send_media(),
                command = orders.recv() => match command {
                    Some(command) => self.obey(command).await,
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

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Move(socket, reply) => {
                let _gone = reply.send(self.use_socket(socket).await);
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
        let answer = SdpAnswer::from_sdp_string(answer).map_err(|error| error.to_string())?;
        self.rtc.sdp_api().accept_answer(pending, answer).map_err(|error| error.to_string())
    }

    /// Moves to a socket: a new one, or the one of this index. What the others had is over.
    async fn use_socket(&mut self, socket: Option<usize>) -> io::Result<SocketAddr> {
        let index = match socket {
            Some(index) if index < self.sockets.len() => index,
            Some(index) => return Err(io::Error::other(format!("there is no socket {index}"))),
            None => self.open_socket().await?,
        };
        let candidate = |socket: &UdpSocket| -> io::Result<Candidate> {
            Candidate::host(socket.local_addr()?, "udp").map_err(io::Error::other)
        };
        let new = candidate(&self.sockets[index])?;
        self.rtc.add_local_candidate(new);
        if index != self.current {
            let old = candidate(&self.sockets[self.current])?;
            self.rtc.direct_api().invalidate_candidate(&old);
            // Otherwise the first check would wait for its turn.
            let _reported = self.rtc.handle_input(Input::Timeout(Instant::now()));
        }
        self.current = index;
        let address = self.sockets[index].local_addr()?;
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = address;
        Ok(address)
    }

    async fn open_socket(&mut self) -> io::Result<usize> {
        let socket = Arc::new(UdpSocket::bind((self.vip.ip(), 0)).await?);
        // Until the runtime has seen it ready, what is sent without waiting would be lost.
        socket.writable().await?;
        let index = self.sockets.len();
        self.sockets.push(socket.clone());
        let inbox = self.inbox.0.clone();
        self.readers.spawn(async move {
            let mut buffer = vec![0; 2_048];
            loop {
                let Ok((len, from)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                let bytes = buffer[..len].to_vec();
                if inbox.send(Datagram { socket: index, from, bytes }).await.is_err() {
                    return;
                }
            }
        });
        Ok(index)
    }

    fn receive(&mut self, datagram: &Datagram) {
        // A network that the client has left does not deliver any more.
        if datagram.socket != self.current {
            return;
        }
        let Ok(local) = self.sockets[datagram.socket].local_addr() else {
            return;
        };
        let receive = Receive::new(Protocol::Udp, datagram.from, local, &datagram.bytes);
        if let Ok(receive) = receive {
            let _reported = self.rtc.handle_input(Input::Receive(Instant::now(), receive));
        }
    }

    /// Writes what is due of each track.
    fn send_media(&mut self) {
        let now = Instant::now();
        if self.log.read().connected.is_none() {
            return;
        }
        self.ticks += 1;
        for track in &mut self.tracks {
            let (stream, codec, length, clock) = match track.kind {
                MediaKind::Audio => (AUDIO, Codec::Opus, AUDIO_LEN, 960),
                MediaKind::Video => (VIDEO, Codec::Vp8, self.options.video_len, 1_800),
            };
            if track.kind == MediaKind::Video && self.ticks % 2 == 1 {
                continue;
            }
            let params = self.rtc.codec_config().find(|params| params.spec().codec == codec);
            let Some(payload_type) = params.map(|params| params.pt()) else {
                continue;
            };
            let mut api = self.rtc.direct_api();
            let Some(tx) = api.stream_tx_by_mid(track.mid, None) else {
                continue;
            };
            let sent = Sent { stream, sequence: track.sequence, at: now };
            let payload = media(self.options.number, &sent, length);
            let timestamp = self.ticks.wrapping_mul(clock);
            tx.write_rtp(
                RtpWrite::new(
                    payload_type,
                    u64::from(track.sequence).into(),
                    timestamp,
                    now,
                    payload,
                )
                .marker(track.kind == MediaKind::Video)
                .nackable(track.kind == MediaKind::Video),
            );
            track.sequence += 1;
            self.log.write(|record| record.sent.push(sent));
        }
        let _reported = self.rtc.handle_input(Input::Timeout(now));
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
                    let socket = &self.sockets[self.current];
                    let is_current =
                        socket.local_addr().is_ok_and(|address| address == transmit.source);
                    if is_current {
                        if is_request(&transmit.contents) {
                            self.log.write(|record| record.checks.push(now));
                        }
                        let _lost = socket.try_send_to(&transmit.contents, transmit.destination);
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

    fn note_media(&mut self, packet: &RtpPacket, now: Instant) {
        let name = packet.header.ext_vals.user_values.get::<NodeName>();
        let received = read_media(&packet.payload, now, None);
        if received.is_some_and(|received| received.stream == VIDEO) {
            let stream = self.rtc.direct_api().stream_rx(&packet.header.ssrc).map(|rx| rx.mid());
            self.received_video.extend(stream);
        }
        self.log.write(|record| {
            match name {
                Some(NodeName(name)) => *record.nodes.entry(name.to_string()).or_default() += 1,
                None => record.unnamed += 1,
            }
            record.received.extend(received);
        });
    }
}

/// The ufrag and password of an answer.
fn credentials(answer: &str) -> (String, String) {
    let find = |key| answer.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    (find("a=ice-ufrag:").to_owned(), find("a=ice-pwd:").to_owned())
}

/// Whether a datagram is a connectivity check.
fn is_request(datagram: &[u8]) -> bool {
    stun::Message::parse(datagram)
        .is_ok_and(|message| message.class() == stun::MessageClass::Request)
}
