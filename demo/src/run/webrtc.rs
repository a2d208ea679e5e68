use std::time::Duration;

use super::{
    DemoError, PATIENCE,
    progress::Kind,
    runner::{Outcome, Runner, Walkers, hears},
};
use crate::{
    client::{AUDIO, Log, VIDEO, WebRtcClient, WebRtcOptions},
    measure::{Calm, Gap, Losses},
    moves::Change,
    switch::Switch,
};

/// Two clients in a room, who send each other audio and video. They move in turn.
struct Pair<'a> {
    clients: [WebRtcClient; 2],
    switch: &'a Switch,
}

impl Runner {
    pub(super) async fn webrtc_pair(self) -> Result<Outcome, DemoError> {
        let room = format!("demo-{}", self.index);
        let node = self.signalling()?;
        let vip = self.system.vip();
        let number = |half: usize| u32::try_from(1 + 2 * self.index + half).unwrap_or(u32::MAX);
        let first = WebRtcClient::join(node, vip, &room, WebRtcOptions::new(number(0))).await?;
        let second = WebRtcClient::join(node, vip, &room, WebRtcOptions::new(number(1))).await?;
        self.walk(Pair { clients: [first, second], switch: self.system.switch() }).await
    }
}

impl Pair<'_> {
    /// Each client, and who hears it.
    fn both_ways(&self) -> [(&WebRtcClient, &WebRtcClient); 2] {
        let [first, second] = &self.clients;
        [(first, second), (second, first)]
    }
}

impl Walkers for Pair<'_> {
    const KIND: Kind = Kind::WebRtc;

    /// A client checks its path every three seconds, and more often just after a change: pauses
    /// differ, so that changes fall anywhere in between.
    const PAUSE: (Duration, Duration) = (Duration::from_millis(150), Duration::from_millis(2_150));

    const SESSIONS: usize = 2;

    async fn connected(&self) -> bool {
        for (client, peer) in self.both_ways() {
            if !client.log().wait_connected(PATIENCE).await
                || !hears(client.log(), peer.number()).await
            {
                return false;
            }
        }
        true
    }

    /// First, second, first, second, and then the other way round: each has every sort of change in
    /// every eight turns.
    fn mover(turn: usize) -> usize {
        (turn + turn / 4) % 2
    }

    async fn change(&self, mover: usize, change: Change) -> Result<Option<Gap>, DemoError> {
        let (mover, peer) = self.both_ways()[mover];
        let (moved, since) = change.of(mover, self.switch).await?;
        let (up, down) = tokio::join!(
            peer.log().wait_media(PATIENCE, mover.number(), since),
            mover.log().wait_media(PATIENCE, peer.number(), since),
        );
        let (Some(up), Some(down)) = (up, down) else {
            return Ok(None);
        };
        let check = mover.log().read().checks.iter().find(|check| **check >= since).copied();
        Ok(Some(Gap {
            change,
            ip_changed: moved.ip_changed(),
            lb_changed: moved.lb_changed(),
            up: up.at - since,
            down: down.at - since,
            check: check.map(|check| check - since),
        }))
    }

    fn logs(&self) -> Vec<&Log> {
        self.clients.iter().map(|client| &**client.log()).collect()
    }

    fn losses(&self, calm: &[Calm]) -> (Losses, Losses) {
        let mut sum = (Losses::default(), Losses::default());
        for (sender, receiver) in self.both_ways() {
            let (sent, received) = (sender.log().read(), receiver.log().read());
            let of = |stream| Losses::between(&sent, (sender.number(), stream), &received, calm);
            sum = (sum.0.and(of(AUDIO)), sum.1.and(of(VIDEO)));
        }
        sum
    }
}
