use std::time::Duration;

use super::{
    DemoError, PATIENCE,
    progress::Kind,
    runner::{Outcome, Runner, Walkers, hears},
};
use crate::{
    client::{AUDIO, Log, VIDEO, WebRtcClient},
    measure::{Calm, Gap, Losses},
    moves::Change,
    switch::Switch,
};

/// A client that publishes in a room by WHIP, and one that plays it by WHEP. They move in turn.
struct Pair<'a> {
    publisher: WebRtcClient,
    player: WebRtcClient,
    switch: &'a Switch,
}

impl Runner {
    pub(super) async fn webrtc_pair(self) -> Result<Outcome, DemoError> {
        let room = format!("demo-{}", self.index);
        let joined = self.system.join(&room).await?;
        let control = (self.system.control(), Some(joined.token.as_str()));
        let vip = self.system.vip();
        let number = |half: usize| u32::try_from(1 + 2 * self.index + half).unwrap_or(u32::MAX);
        let publisher = WebRtcClient::publish(control, vip, &room, number(0)).await?;
        let player = WebRtcClient::play(control, vip, &room, number(1), 1).await?;
        let switch = self.system.switch();
        self.walk(Pair { publisher, player, switch }, &joined.node).await
    }
}

impl Walkers for Pair<'_> {
    const KIND: Kind = Kind::WebRtc;

    /// A client checks its path every three seconds, and more often just after a change: pauses
    /// differ, so that changes fall anywhere in between.
    const PAUSE: (Duration, Duration) = (Duration::from_millis(150), Duration::from_millis(2_150));

    const SESSIONS: usize = 2;

    async fn connected(&self) -> bool {
        self.publisher.log().wait_connected(PATIENCE).await
            && self.player.log().wait_connected(PATIENCE).await
            && hears(self.player.log(), self.publisher.number()).await
    }

    /// First, second, first, second, and then the other way round: each has every sort of change in
    /// every eight turns.
    fn mover(turn: usize) -> usize {
        (turn + turn / 4) % 2
    }

    async fn change(&self, mover: usize, change: Change) -> Result<Option<Gap>, DemoError> {
        let publishes = mover == 0;
        let mover = if publishes { &self.publisher } else { &self.player };
        let (moved, since) = change.of(mover, self.switch).await?;
        let heard = self.player.log().wait_media(PATIENCE, self.publisher.number(), since).await;
        let Some(heard) = heard else { return Ok(None) };
        let check = mover.log().read().checks.iter().find(|check| **check >= since).copied();
        let gap = heard.at - since;
        Ok(Some(Gap {
            change,
            ip_changed: moved.ip_changed(),
            lb_changed: moved.lb_changed(),
            up: publishes.then_some(gap),
            down: (!publishes).then_some(gap),
            check: check.map(|check| check - since),
        }))
    }

    fn logs(&self) -> Vec<&Log> {
        vec![self.publisher.log(), self.player.log()]
    }

    fn losses(&self, calm: &[Calm]) -> (Losses, Losses) {
        let (sent, received) = (self.publisher.log().read(), self.player.log().read());
        let number = self.publisher.number();
        let of = |stream| Losses::between(&sent, (number, stream), &received, calm);
        (of(AUDIO), of(VIDEO))
    }
}
