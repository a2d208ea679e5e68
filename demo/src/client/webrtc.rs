//! A WebRTC client: str0m as a full ICE agent with default timers, sending audio and video.

mod agent;
mod media;
mod sockets;
mod whip;

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};
use ureq::http::Method;

use self::{agent::Agent, media::VIDEO_LEN, sockets::To};
use super::{
    log::Log,
    signalling::{ClientError, ask},
};

pub use media::{AUDIO, VIDEO};

/// What a client sends and wants.
#[derive(Clone, Debug)]
pub struct WebRtcOptions {
    /// Its number, in all media it sends.
    pub number: u32,
    /// Whether it sends nothing, and is a player only.
    pub silent: bool,
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
        Self { number, silent: false, video: true, video_len: VIDEO_LEN, slots: 1, mirror: false }
    }
}

/// A WebRTC client. Its session ends without a word when it is dropped.
pub struct WebRtcClient {
    number: u32,
    log: Arc<Log>,
    node: SocketAddr,
    location: String,
    credentials: (String, String),
    /// The last answer.
    answer: Mutex<String>,
    own_ufrag: String,
    local: Arc<Mutex<SocketAddr>>,
    commands: mpsc::UnboundedSender<Command>,
    task: AbortHandle,
}

enum Command {
    /// To another socket.
    Move(To, oneshot::Sender<io::Result<Instant>>),
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
        let path = format!("/rooms/{room}/sessions?mirror={}", options.mirror);
        Self::begin((node, None), vip, path, options).await
    }

    async fn begin(
        (node, token): (SocketAddr, Option<&str>),
        vip: SocketAddr,
        path: String,
        options: WebRtcOptions,
    ) -> Result<Self, ClientError> {
        let log = Arc::new(Log::default());
        let mut agent = Agent::new(vip, options.clone(), log.clone())?;
        let (offer, pending) = agent.first_offer()?;
        let (own_ufrag, _) = credentials(&offer);
        let answer = ask(node, token, Method::POST, path, offer).await?;
        let location = answer.location.ok_or(ClientError::Ended)?;
        agent.accept(pending, &answer.body).map_err(ClientError::WebRtc)?;
        let local = agent.sockets.local();
        let (commands, orders) = mpsc::unbounded_channel();
        let task = tokio::spawn(agent.run(orders)).abort_handle();
        Ok(Self {
            number: options.number,
            log,
            node,
            location,
            credentials: credentials(&answer.body),
            answer: Mutex::new(answer.body),
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
        self.move_to(UdpSocket::bind((self.local_addr().ip(), 0))?).await?;
        Ok(self.local_addr())
    }

    /// Moves to a socket that it has not had before. Says since when it uses that.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn move_to(&self, socket: UdpSocket) -> Result<Instant, ClientError> {
        self.tell(|reply| Command::Move(To::Fresh(socket), reply))
            .await?
            .map_err(ClientError::Socket)
    }

    /// Moves back to one of its sockets, in the order of their making.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn return_to(&self, socket: usize) -> Result<SocketAddr, ClientError> {
        self.tell(|reply| Command::Move(To::Former(socket), reply))
            .await?
            .map_err(ClientError::Socket)?;
        Ok(self.local_addr())
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
        ask(self.node, None, Method::DELETE, self.location.clone(), String::new()).await.map(drop)
    }

    async fn offer(&self, restart: bool, more_slots: usize) -> Result<String, ClientError> {
        let offer = self.tell(|reply| Command::Offer { restart, more_slots, reply }).await?;
        let offer = offer.map_err(ClientError::WebRtc)?;
        let answer = ask(self.node, None, Method::PATCH, self.location.clone(), offer).await?.body;
        let taken = self.tell(|reply| Command::Answer(answer.clone(), reply)).await?;
        taken.map_err(ClientError::WebRtc)?;
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&answer);
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

/// The ufrag and password of an answer.
fn credentials(answer: &str) -> (String, String) {
    let find = |key| answer.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    (find("a=ice-ufrag:").to_owned(), find("a=ice-pwd:").to_owned())
}
