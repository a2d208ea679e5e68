//! The mirror: says which node serves a client, and when its datagram arrived there.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use web_transport_quinn::{RecvStream, SendStream, Session, SessionError};

/// Bytes read from a stream at a time.
const CHUNK: usize = 16 * 1024;

/// Streams mirrored at a time for one client.
const STREAMS_MAX: usize = 16;

/// What comes back for a datagram.
///
/// ```text
/// bytes   0     1        1+N                   9+N
///         N     name     microseconds since    the datagram
///                        1970, big-endian
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Echoed<'a> {
    /// The node that mirrored it.
    pub node: &'a str,
    /// When it arrived there, in microseconds since 1970.
    pub received_us: u64,
    /// What was sent.
    pub payload: &'a [u8],
}

impl<'a> Echoed<'a> {
    /// Reads a mirrored datagram. `None` for anything else.
    #[must_use]
    pub fn decode(datagram: &'a [u8]) -> Option<Self> {
        let (&len, rest) = datagram.split_first()?;
        let (node, rest) = rest.split_at_checked(len.into())?;
        let (received_us, payload) = rest.split_first_chunk::<8>()?;
        Some(Self {
            node: str::from_utf8(node).ok()?,
            received_us: u64::from_be_bytes(*received_us),
            payload,
        })
    }
}

/// The name as it stands in front of what is mirrored.
fn signature(node: &str) -> Vec<u8> {
    let name = node.as_bytes().get(..node.len().min(255)).unwrap_or_default();
    let mut signature = Vec::with_capacity(1 + name.len());
    signature.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
    signature.put_slice(name);
    signature
}

#[expect(clippy::disallowed_methods, reason = "told to the client, not used to decide anything")]
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Mirrors datagrams and streams until the session ends.
pub(super) async fn serve(session: &Session, node: &str) {
    let signature = signature(node);
    tokio::select! {
        () = datagrams(session, &signature) => {}
        () = streams(session, &signature) => {}
    }
}

async fn datagrams(session: &Session, signature: &[u8]) {
    loop {
        match session.read_datagram().await {
            Ok(datagram) => {
                let mut answer = BytesMut::with_capacity(signature.len() + 8 + datagram.len());
                answer.put_slice(signature);
                answer.put_u64(now_us());
                answer.put_slice(&datagram);
                // Too long with the name in front, or no room: lost, as datagrams may be.
                let _lost = session.send_datagram(answer.freeze());
            }
            // One datagram of another session is not the end of this one.
            Err(SessionError::WebTransportError(_)) if session.close_reason().is_none() => {}
            Err(_) => return,
        }
    }
}

async fn streams(session: &Session, signature: &[u8]) {
    let mut running = tokio::task::JoinSet::new();
    loop {
        while running.len() >= STREAMS_MAX {
            running.join_next().await;
        }
        let (send, receive) = tokio::select! {
            stream = session.accept_bi() => match stream {
                Ok((send, receive)) => (send, receive),
                Err(_) => return,
            },
            stream = session.accept_uni() => {
                let Ok(receive) = stream else { return };
                let Ok(send) = session.open_uni().await else { return };
                (send, receive)
            }
        };
        running.spawn(mirror(Bytes::copy_from_slice(signature), send, receive));
    }
}

async fn mirror(signature: Bytes, mut send: SendStream, mut receive: RecvStream) {
    if send.write_chunk(signature).await.is_err() {
        return;
    }
    while let Ok(Some(chunk)) = receive.read_chunk(CHUNK, true).await {
        if send.write_chunk(chunk.bytes).await.is_err() {
            return;
        }
    }
    let _reset = send.finish();
}
