use std::time::Duration;

use super::{
    DemoError, PATIENCE,
    progress::Kind,
    runner::{Outcome, Runner, Walkers, hears},
};
use crate::{
    client::{Log, WebTransportClient, WebTransportOptions},
    measure::{Calm, Gap, Losses},
    moves::Change,
    switch::Switch,
};

/// A client at a node's mirror.
struct Mirrored<'a> {
    client: WebTransportClient,
    switch: &'a Switch,
}

impl Runner {
    pub(super) async fn webtransport(self) -> Result<Outcome, DemoError> {
        let number = u32::try_from(1_000 + self.index).unwrap_or(u32::MAX);
        let joined = self.system.join(&format!("demo-wt-{}", self.index)).await?;
        // Half of the hellos take two datagrams, as browsers' do.
        let options = WebTransportOptions { number, post_quantum: self.index.is_multiple_of(2) };
        let client = WebTransportClient::connect(self.system.vip(), &joined.webtransport, options);
        let client = client.await?;
        self.walk(Mirrored { client, switch: self.system.switch() }, &joined.node).await
    }
}

impl Walkers for Mirrored<'_> {
    const KIND: Kind = Kind::WebTransport;

    const PAUSE: (Duration, Duration) = (Duration::from_millis(150), Duration::from_millis(450));

    const SESSIONS: usize = 1;

    async fn connected(&self) -> bool {
        hears(self.client.log(), self.client.number()).await
    }

    fn mover(_: usize) -> usize {
        0
    }

    async fn change(&self, _: usize, change: Change) -> Result<Option<Gap>, DemoError> {
        let (moved, since) = change.of(&self.client, self.switch).await?;
        let echo = self.client.log().wait_media(PATIENCE, self.client.number(), since).await;
        Ok(echo.map(|echo| Gap {
            change,
            ip_changed: moved.ip_changed(),
            lb_changed: moved.lb_changed(),
            up: Some(echo.at_node.unwrap_or(echo.at).saturating_duration_since(since)),
            down: Some(echo.at - since),
            check: None,
        }))
    }

    fn logs(&self) -> Vec<&Log> {
        vec![self.client.log()]
    }

    fn losses(&self, calm: &[Calm]) -> (Losses, Losses) {
        let record = self.client.log().read();
        let of = (self.client.number(), 0);
        (Losses::between(&record, of, &record, calm), Losses::default())
    }
}
