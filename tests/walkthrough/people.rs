//! Who publishes and plays: WHIP and WHEP clients that come in by control, as the reader's would.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use control::{client::Client, http::Token};
use demo::{
    client::{AUDIO, VIDEO, WebRtcClient},
    measure::{Calm, Losses},
};
use kit::{Stun, stun};
use serde_json::Value;

/// Longer than anything here takes; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long an ICE agent waits before it repeats a check (RFC 8489, section 6.2.1).
const RETRANSMIT: Duration = Duration::from_millis(500);

/// The operator's, in the text.
const TOKEN: &str = "operator-0123456789abcdef";

/// One who publishes in a room and one who plays there.
pub(crate) struct People {
    publisher: WebRtcClient,
    player: WebRtcClient,
    /// Since when nothing may be lost.
    careful: Option<Instant>,
}

impl People {
    /// Both join, each with the token of a join, and media flows.
    pub(crate) async fn join(control: SocketAddr, room: &str, number: u32) -> Self {
        let token = Some(Token::try_from(TOKEN.to_owned()).expect("a token"));
        let operator = Client::new(&format!("http://{control}"), token).expect("a URL");
        let path = format!("/v1/rooms/{room}/join");
        let joined: Value = operator.post(&path).await.expect("control lets them in");
        let token = joined["token"].as_str().expect("a token");
        let near = (Ipv4Addr::LOCALHOST, 0).into();
        let by = (control, Some(token));
        let publisher = WebRtcClient::publish(by, near, room, number).await;
        let player = WebRtcClient::play(by, near, room, number + 1, 1).await;
        let publisher = publisher.expect("the node answers");
        let player = player.expect("the node answers");
        for client in [&publisher, &player] {
            assert!(client.log().wait_connected(PATIENCE).await, "ICE and DTLS succeed");
        }
        let people = Self { publisher, player, careful: None };
        people.media_goes_on().await;
        people
    }

    /// Audio and video that leave from now on arrive, in the session they have.
    pub(crate) async fn media_goes_on(&self) {
        let since = Instant::now();
        for stream in [AUDIO, VIDEO] {
            let came = self.player.log().wait(PATIENCE, |record| {
                let mut fresh = record.received.iter().rev().take_while(|one| one.sent >= since);
                let own =
                    fresh.any(|one| (one.from, one.stream) == (self.publisher.number(), stream));
                own.then_some(())
            });
            assert!(came.await.is_some(), "stream {stream} does not arrive");
        }
        for client in [&self.publisher, &self.player] {
            assert_eq!(client.log().read().ended, None);
        }
    }

    /// One ends its session.
    pub(crate) async fn publisher_leaves(&self) {
        self.publisher.leave().await.expect("the node answers");
    }

    /// The other does.
    pub(crate) async fn player_leaves(&self) {
        self.player.leave().await.expect("the node answers");
    }

    /// Whoever still asks is told by both LBs that the session is over: by an error 400 that only the
    /// session's password can have sealed. And their own agents give up.
    pub(crate) async fn are_told(&self, vip: [SocketAddr; 2]) {
        for client in [&self.publisher, &self.player] {
            let (ufrag, password) = client.credentials();
            let username = format!("{ufrag}:{}", client.own_ufrag());
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
            socket.set_read_timeout(Some(RETRANSMIT)).expect("not zero");
            for address in vip {
                let check = stun::check(&username, password, [7; 12]);
                let mut buffer = [0; 2_000];
                // An LB may hear a moment later than we that the node is down.
                let told = (0..60).find_map(|_| {
                    socket.send_to(&check, address).expect("sent");
                    socket.recv_from(&mut buffer).ok().filter(|(_, from)| *from == address)
                });
                let (len, _) = told.expect("it is told");
                let refusal = Stun::new(stun::MessageClass::ErrorResponse, [7; 12])
                    .error_code(400)
                    .integrity(password)
                    .fingerprint();
                assert_eq!(&buffer[..len], refusal.bytes());
            }
        }
        for client in [&self.publisher, &self.player] {
            let ended = client.log().wait(PATIENCE, |record| record.ended.clone()).await;
            assert!(ended.is_some(), "the client has not noticed");
        }
    }

    /// From now on each datagram of media must arrive.
    pub(crate) async fn be_careful(&mut self) {
        self.media_goes_on().await;
        self.careful = Some(Instant::now());
    }

    /// Each datagram that has left since has arrived; says how many there were.
    pub(crate) async fn lost_nothing(&mut self) -> usize {
        let since = self.careful.take().expect("said before");
        let calm = [Calm::between(since, Instant::now()).expect("some time has passed")];
        // What left before that has come by then, or never will.
        self.media_goes_on().await;
        let (sent, came) = (self.publisher.log().read(), self.player.log().read());
        let number = self.publisher.number();
        let losses =
            [AUDIO, VIDEO].map(|stream| Losses::between(&sent, (number, stream), &came, &calm));
        assert!(losses.iter().all(|losses| losses.judged > 20), "{losses:?}");
        assert!(losses.iter().all(|losses| losses.lost + losses.cut_off == 0), "{losses:?}");
        losses.iter().map(|losses| losses.judged).sum()
    }
}
