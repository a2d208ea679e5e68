//! A WebRTC client on str0m: a full ICE agent that sends Opus and counts what comes back.

use std::{
    io,
    net::{SocketAddr, UdpSocket as StdSocket},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use str0m::{
    Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig,
    change::{SdpAnswer, SdpPendingOffer},
    format::Codec,
    media::{Direction, MediaKind, Mid},
    net::{Protocol, Receive},
    rtp::RtpWrite,
};
use tokio::{
    net::UdpSocket,
    runtime::Runtime,
    sync::mpsc,
    task::AbortHandle,
    time::{self, MissedTickBehavior},
};

use crate::{pulse::Pulse, sdp::from_nowhere};

/// A packet leaves this often, and holds so much sound.
const TICK: Duration = Duration::from_millis(20);

/// 20 ms of silence in Opus, which an SFU may decode and encode again (RFC 6716 section 3.2.1).
const SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];

/// A session. Ends without a word when it is dropped.
pub(crate) struct WebRtc {
    pub(crate) pulse: Arc<Pulse>,
    local: Arc<Mutex<SocketAddr>>,
    orders: mpsc::UnboundedSender<Order>,
    task: AbortHandle,
}

/// What a client is told while it runs. The channels take what became of it.
enum Order {
    Move(StdSocket),
    /// Make an offer that restarts ICE.
    Offer(SyncSender<Result<String, String>>),
    /// Take the answer to it.
    Answer(String, SyncSender<Result<(), String>>),
}

/// A client that has made an offer.
pub(crate) struct Offering {
    /// To be sent to the SFU.
    pub(crate) offer: String,
    agent: Agent,
    pending: SdpPendingOffer,
}

impl Offering {
    pub(crate) fn new(runtime: &Runtime) -> Result<Self, String> {
        let _inside = runtime.enter();
        let socket = StdSocket::bind("127.0.0.1:0").map_err(text)?;
        let mut rtc = RtcConfig::new()
            .clear_codecs()
            .enable_opus(true, false)
            .set_rtp_mode(true)
            .build(Instant::now());
        let mut api = rtc.sdp_api();
        let mid = api.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None);
        let (offer, pending) = api.apply().ok_or("there is nothing to offer")?;
        let pulse = Arc::new(Pulse::default());
        let local = Arc::new(Mutex::new(socket.local_addr().map_err(text)?));
        let link = Link::new(socket).map_err(text)?;
        let mut agent = Agent { rtc, mid, link, pending: None, packets: 0, pulse, local };
        agent.rtc.add_local_candidate(candidate(agent.local()).map_err(text)?);
        Ok(Self { offer: from_nowhere(&offer.to_sdp_string())?, agent, pending })
    }

    /// Takes the answer, and begins.
    pub(crate) fn accept(mut self, runtime: &Runtime, answer: &str) -> Result<WebRtc, String> {
        let answer = SdpAnswer::from_sdp_string(answer).map_err(text)?;
        self.agent.rtc.sdp_api().accept_answer(self.pending, answer).map_err(text)?;
        let (orders, inbox) = mpsc::unbounded_channel();
        let (pulse, local) = (self.agent.pulse.clone(), self.agent.local.clone());
        let task = runtime.spawn(self.agent.run(inbox)).abort_handle();
        Ok(WebRtc { pulse, local, orders, task })
    }
}

impl WebRtc {
    /// The address of the socket in use.
    pub(crate) fn local(&self) -> SocketAddr {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on by a new socket, as a client does whose network is another: ICE checks it first.
    pub(crate) fn move_socket(&self) -> Result<(), String> {
        let socket = StdSocket::bind("127.0.0.1:0").map_err(text)?;
        self.orders.send(Order::Move(socket)).map_err(text)
    }

    /// An offer that restarts ICE in the same session.
    pub(crate) fn offer(&self) -> Result<String, String> {
        self.tell(Order::Offer)
    }

    /// Takes the answer to [`WebRtc::offer`].
    pub(crate) fn accept(&self, answer: &str) -> Result<(), String> {
        self.tell(|reply| Order::Answer(answer.to_owned(), reply))
    }

    fn tell<T>(
        &self,
        order: impl FnOnce(SyncSender<Result<T, String>>) -> Order,
    ) -> Result<T, String> {
        let (reply, answer) = sync_channel(1);
        self.orders.send(order(reply)).map_err(text)?;
        answer.recv().map_err(text)?
    }
}

impl Drop for WebRtc {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Agent {
    rtc: Rtc,
    mid: Mid,
    link: Link,
    pending: Option<SdpPendingOffer>,
    packets: u32,
    pulse: Arc<Pulse>,
    local: Arc<Mutex<SocketAddr>>,
}

impl Agent {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut tick = time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = vec![0; 2_048];
        while self.rtc.is_alive() {
            let due = self.drain();
            tokio::select! {
                Ok((len, from)) = self.link.reader.recv_from(&mut buffer) => self.receive(from, &buffer[..len]),
                _ = tick.tick() => self.send(),
                Some(order) = orders.recv() => self.obey(order),
                () = time::sleep_until(due.into()) => self.handle_time(),
            }
        }
        self.pulse.ended("the session has ended");
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Move(socket) => {
                if let Err(error) = self.use_socket(socket) {
                    self.pulse.ended(text(error));
                }
            }
            Order::Offer(reply) => {
                let _gone = reply.send(self.offer());
            }
            Order::Answer(answer, reply) => {
                let _gone = reply.send(self.accept(&answer));
            }
        }
    }

    fn offer(&mut self) -> Result<String, String> {
        let mut api = self.rtc.sdp_api();
        api.ice_restart(true);
        let (offer, pending) = api.apply().ok_or("there is nothing to offer")?;
        self.pending = Some(pending);
        from_nowhere(&offer.to_sdp_string())
    }

    fn accept(&mut self, answer: &str) -> Result<(), String> {
        let pending = self.pending.take().ok_or("no offer was made")?;
        let answer = SdpAnswer::from_sdp_string(answer).map_err(text)?;
        self.rtc.sdp_api().accept_answer(pending, answer).map_err(text)
    }

    /// Moves to a socket. The former one is gone.
    fn use_socket(&mut self, socket: StdSocket) -> io::Result<()> {
        let fresh = socket.local_addr()?;
        let former = self.local();
        self.link = Link::new(socket)?;
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        self.rtc.add_local_candidate(candidate(fresh)?);
        self.rtc.direct_api().invalidate_candidate(&candidate(former)?);
        // Otherwise the first check would wait for its turn.
        self.handle_time();
        Ok(())
    }

    fn local(&self) -> SocketAddr {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        if let Ok(receive) = Receive::new(Protocol::Udp, from, self.local(), datagram) {
            let _reported = self.rtc.handle_input(Input::Receive(Instant::now(), receive));
        }
    }

    fn handle_time(&mut self) {
        let _reported = self.rtc.handle_input(Input::Timeout(Instant::now()));
    }

    fn send(&mut self) {
        if self.pulse.read().connected.is_none() {
            return;
        }
        let params = self.rtc.codec_config().find(|params| params.spec().codec == Codec::Opus);
        let Some(payload_type) = params.map(str0m::format::PayloadParams::pt) else { return };
        let mut api = self.rtc.direct_api();
        let Some(tx) = api.stream_tx_by_mid(self.mid, None) else { return };
        let (number, timestamp) = (u64::from(self.packets), self.packets.wrapping_mul(960));
        tx.write_rtp(RtpWrite::new(
            payload_type,
            number.into(),
            timestamp,
            Instant::now(),
            SILENCE.to_vec(),
        ));
        self.packets += 1;
        self.pulse.sent();
        self.handle_time();
    }

    /// Takes out all that str0m has to say; tells when it wants to be asked again.
    fn drain(&mut self) -> Instant {
        let now = Instant::now();
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(due)) if due <= now => self.handle_time(),
                Ok(Output::Timeout(due)) => return due,
                Ok(Output::Transmit(transmit)) => {
                    if transmit.source == self.local() {
                        let _lost =
                            self.link.sender.send_to(&transmit.contents, transmit.destination);
                    }
                }
                Ok(Output::Event(Event::Connected)) => self.pulse.connected(),
                Ok(Output::Event(Event::RtpPacket(_))) => self.pulse.came(),
                Ok(Output::Event(Event::IceConnectionStateChange(
                    IceConnectionState::Disconnected,
                ))) => {
                    self.pulse.ended("the client's ICE gave up");
                }
                Ok(Output::Event(_)) => {}
                Err(error) => {
                    self.pulse.ended(text(error));
                    return now + TICK;
                }
            }
        }
    }
}

/// A socket, to send by at once: tokio would first have to see that a new one can be written to.
struct Link {
    sender: StdSocket,
    reader: UdpSocket,
}

impl Link {
    fn new(sender: StdSocket) -> io::Result<Self> {
        sender.set_nonblocking(true)?;
        let reader = UdpSocket::from_std(sender.try_clone()?)?;
        Ok(Self { sender, reader })
    }
}

fn candidate(address: SocketAddr) -> io::Result<Candidate> {
    Candidate::host(address, "udp").map_err(io::Error::other)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
