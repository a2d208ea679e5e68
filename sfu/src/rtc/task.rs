//! Gives [`WebRtc`] a clock, sockets, and commands from the HTTP side.

use std::{sync::Arc, time::Instant};

use tokio::{
    sync::{mpsc, oneshot},
    time,
};
use wire::FiveTuple;

use super::{IfMatch, Joined, Path, Refused, Role, SessionId, Trickled, Updated, WebRtc};
use crate::{
    RoomName,
    metrics::{Drop, Metrics},
    tunnel::Socket,
};

/// Datagrams that wait for the sessions; when there are more, the newest are dropped.
pub const INBOX_MAX: usize = 4096;

/// Datagrams handled before commands and timers get their turn.
const DATAGRAMS_PER_TURN: usize = 64;

/// Commands that wait.
const COMMANDS_MAX: usize = 64;

/// A datagram on its way from a socket to a session.
#[derive(Debug)]
pub struct Received {
    /// By which way it came.
    pub path: Path,
    /// What came.
    pub datagram: Vec<u8>,
}

impl Received {
    /// A datagram that came by the socket of this index.
    #[must_use]
    pub fn new(socket: usize, tuple: FiveTuple, datagram: &[u8]) -> Self {
        Self { path: Path { socket, tuple }, datagram: datagram.to_vec() }
    }
}

enum Command {
    Join {
        room: RoomName,
        role: Role,
        offer: String,
        reply: oneshot::Sender<Result<Joined, Refused>>,
    },
    Update {
        id: SessionId,
        meant: Option<IfMatch>,
        offer: String,
        reply: oneshot::Sender<Result<Updated, Refused>>,
    },
    Trickle {
        id: SessionId,
        meant: IfMatch,
        fragment: String,
        reply: oneshot::Sender<Result<Trickled, Refused>>,
    },
    Leave {
        id: SessionId,
        reply: oneshot::Sender<Result<(), Refused>>,
    },
}

/// The sessions, seen from another task.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
}

impl Handle {
    /// See [`WebRtc::join`].
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn join(&self, room: RoomName, role: Role, offer: String) -> Result<Joined, Refused> {
        self.ask(|reply| Command::Join { room, role, offer, reply }).await
    }

    /// See [`WebRtc::update`].
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn update(
        &self,
        id: SessionId,
        meant: Option<IfMatch>,
        offer: String,
    ) -> Result<Updated, Refused> {
        self.ask(|reply| Command::Update { id, meant, offer, reply }).await
    }

    /// See [`WebRtc::trickle`].
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn trickle(
        &self,
        id: SessionId,
        meant: IfMatch,
        fragment: String,
    ) -> Result<Trickled, Refused> {
        self.ask(|reply| Command::Trickle { id, meant, fragment, reply }).await
    }

    /// See [`WebRtc::leave`].
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn leave(&self, id: SessionId) -> Result<(), Refused> {
        self.ask(|reply| Command::Leave { id, reply }).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Refused>>) -> Command,
    ) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        // Either end is gone only when the task is.
        self.commands.send(command(reply)).await.map_err(|_| Refused::Stopped)?;
        answer.await.map_err(|_| Refused::Stopped)?
    }

    /// Whether the task is there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.commands.is_closed()
    }
}

/// The sessions, and the task that serves them: it ends when the sender of `inbox` is dropped.
pub fn serve(
    webrtc: WebRtc,
    sockets: Vec<Arc<Socket>>,
    inbox: mpsc::Receiver<Received>,
    metrics: Arc<Metrics>,
) -> (Handle, impl Future<Output = ()> + Send + 'static) {
    let (commands, orders) = mpsc::channel(COMMANDS_MAX);
    (Handle { commands }, Task { webrtc, sockets, inbox, orders, metrics }.run())
}

struct Task {
    webrtc: WebRtc,
    sockets: Vec<Arc<Socket>>,
    inbox: mpsc::Receiver<Received>,
    orders: mpsc::Receiver<Command>,
    metrics: Arc<Metrics>,
}

impl Task {
    async fn run(mut self) {
        let mut received = Vec::with_capacity(DATAGRAMS_PER_TURN);
        loop {
            let due = self.webrtc.poll_timeout().map(time::Instant::from_std);
            let timeout = async {
                match due {
                    Some(due) => time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                count = self.inbox.recv_many(&mut received, DATAGRAMS_PER_TURN) => {
                    if count == 0 {
                        return;
                    }
                    for Received { path, datagram } in received.drain(..) {
                        self.webrtc.receive(Instant::now(), path, &datagram);
                        self.send();
                    }
                }
                Some(command) = self.orders.recv() => self.obey(command),
                () = timeout => {}
            }
            self.webrtc.handle_timeout(Instant::now());
            self.send();
            tokio::task::yield_now().await;
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        // Who asked may have gone; the session is ended then by its missing requests.
        match command {
            Command::Join { room, role, offer, reply } => {
                let _gone = reply.send(self.webrtc.join(now, room, role, &offer));
            }
            Command::Update { id, meant, offer, reply } => {
                let _gone = reply.send(self.webrtc.update(now, &id, meant.as_ref(), &offer));
            }
            Command::Trickle { id, meant, fragment, reply } => {
                let _gone = reply.send(self.webrtc.trickle(now, &id, &meant, &fragment));
            }
            Command::Leave { id, reply } => {
                let _gone = reply.send(self.webrtc.leave(now, &id));
            }
        }
    }

    fn send(&mut self) {
        while let Some(transmit) = self.webrtc.poll_transmit() {
            let Some(socket) = self.sockets.get(transmit.path.socket) else {
                continue;
            };
            // Lost, as in any queue on the way. Media does not wait.
            if socket.send(&transmit.path.tuple, &transmit.contents, None).is_err() {
                self.metrics.dropped(Drop::SendFull);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_asks_a_task_that_has_ended_is_told_so() {
        let (commands, orders) = mpsc::channel(COMMANDS_MAX);
        let handle = Handle { commands };
        assert!(handle.is_running());
        drop(orders);
        assert!(!handle.is_running());
        let refused = handle.leave(SessionId::from(String::new())).await;
        assert!(matches!(refused, Err(Refused::Stopped)), "{refused:?}");
    }
}
