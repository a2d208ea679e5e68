//! The responder's sockets: one of UDP, and connections of TCP, of which there are only so many.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time,
};
use tracing::debug;

use super::Responder;
use crate::resolve::Locator;

/// Most connections at once; a newcomer beyond them is closed at once.
const CONNECTIONS_MAX: usize = 128;

/// How long a connection may be silent, or an answer take.
const IDLE: Duration = Duration::from_secs(5);

/// Longest question, in bytes: a name, its type and a few options.
const QUESTION_MAX: usize = 4096;

/// How long to wait after the system refused something.
const REFUSED: Duration = Duration::from_millis(20);

/// How often the system may choose a port that is free for UDP alone.
const CHOICES: usize = 32;

/// Both sockets of an address, on one port, also where the system chooses it.
///
/// # Errors
/// The system's reason.
pub async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut choices = if address.port() == 0 { CHOICES } else { 1 };
    loop {
        choices -= 1;
        let udp = UdpSocket::bind(address).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(taken) if choices > 0 && taken.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}

/// Answers until it is dropped. `locator` says where clients are, as it is configured now.
pub async fn serve(
    responder: Responder,
    (udp, tcp): (UdpSocket, TcpListener),
    locator: impl Fn() -> Locator + Clone + Send + Sync + 'static,
) {
    tokio::join!(datagrams(&responder, &udp, &locator), connections(&responder, &tcp, &locator));
}

async fn datagrams(responder: &Responder, udp: &UdpSocket, locator: &impl Fn() -> Locator) {
    let mut buffer = vec![0; QUESTION_MAX];
    loop {
        let (length, from) = match udp.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                debug!("no DNS question can be read: {error}");
                time::sleep(REFUSED).await;
                continue;
            }
        };
        let question = buffer.get(..length).unwrap_or_default();
        // From nowhere nobody asks; such an answer could only do harm.
        if from.port() == 0 {
            continue;
        }
        if let Some(answer) = responder.answer(question, from.ip(), &locator(), true) {
            let _lost = udp.send_to(&answer, from).await;
        }
    }
}

async fn connections(
    responder: &Responder,
    tcp: &TcpListener,
    locator: &(impl Fn() -> Locator + Clone + Send + Sync + 'static),
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = tcp.accept() => accepted,
            Some(_ended) = tasks.join_next() => continue,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!("no DNS connection can be accepted: {error}");
                time::sleep(REFUSED).await;
                continue;
            }
        };
        let Ok(place) = room.clone().try_acquire_owned() else { continue };
        let (responder, locator) = (responder.clone(), locator.clone());
        tasks.spawn(async move {
            let _ended = questions(&responder, stream, from, &locator).await;
            drop(place);
        });
    }
}

/// Questions of one connection, each with its length in front (RFC 1035, section 4.2.2).
async fn questions(
    responder: &Responder,
    mut stream: TcpStream,
    from: SocketAddr,
    locator: &impl Fn() -> Locator,
) -> io::Result<()> {
    let mut question = Vec::new();
    loop {
        let length = usize::from(time::timeout(IDLE, stream.read_u16()).await??);
        if length > QUESTION_MAX {
            return Ok(());
        }
        question.resize(length, 0);
        time::timeout(IDLE, stream.read_exact(&mut question)).await??;
        let Some(answer) = responder.answer(&question, from.ip(), &locator(), false) else {
            return Ok(());
        };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        time::timeout(IDLE, stream.write_all(&framed)).await??;
    }
}
