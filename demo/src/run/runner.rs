//! What both kinds of sessions have in common: calm, a change, a recovery, and again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time;

use super::{
    DemoError, PATIENCE,
    progress::{Kind, Progress},
};
use crate::{
    client::Log,
    measure::{Calm, Gap, Losses, SETTLING},
    moves::Change,
    system::System,
};

/// What is on its way at the end still arrives within this.
const LAST_ARRIVALS: Duration = Duration::from_millis(500);

/// Clients that move about: one, or several in turn.
pub(super) trait Walkers {
    /// Which kind of sessions they have.
    const KIND: Kind;

    /// Calm between a recovery and the next change: the least and the most.
    const PAUSE: (Duration, Duration);

    /// How many there are.
    const SESSIONS: usize;

    /// Waits until media flows. False when it does not.
    async fn connected(&self) -> bool;

    /// Which of them moves in this turn. All do in the first [`Walkers::SESSIONS`] turns.
    fn mover(turn: usize) -> usize;

    /// Moves it, and waits until media flows again. `None` when it does not.
    async fn change(&self, mover: usize, change: Change) -> Result<Option<Gap>, DemoError>;

    /// Where they wrote down what they sent and received.
    fn logs(&self) -> Vec<&Log>;

    /// What was lost in calm times: of what is sent once, and of what is sent again when its
    /// receiver asks.
    fn losses(&self, calm: &[Calm]) -> (Losses, Losses);
}

/// What one runner measured.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) sessions: usize,
    pub(super) gaps: Vec<Gap>,
    /// Changes of each of its sessions.
    pub(super) changes: Vec<usize>,
    pub(super) sent_once: Losses,
    pub(super) repaired: Losses,
    pub(super) lost: usize,
    pub(super) wrong_node: u64,
}

/// Where some clients are at home, and until when they move about.
pub(super) struct Runner {
    pub(super) index: usize,
    pub(super) deadline: Instant,
    pub(super) system: Arc<System>,
    pub(super) progress: Arc<Progress>,
}

impl Runner {
    /// Lets clients move about until the deadline, and until each has moved once, one of their kind to
    /// another LB.
    /// `node` is where they are at home.
    pub(super) async fn walk<W: Walkers>(
        &self,
        walkers: W,
        node: &str,
    ) -> Result<Outcome, DemoError> {
        let mut outcome =
            Outcome { sessions: W::SESSIONS, changes: vec![0; W::SESSIONS], ..Outcome::default() };
        if !walkers.connected().await {
            outcome.lost = W::SESSIONS;
            return Ok(outcome);
        }
        self.progress.connected(W::SESSIONS);

        let mut calm = Vec::new();
        let mut recovered = Instant::now();
        for turn in 0.. {
            time::sleep(pause(W::PAUSE, self.index, turn)).await;
            let shown = turn >= W::SESSIONS && self.progress.both_lbs(W::KIND);
            if shown && Instant::now() >= self.deadline {
                break;
            }
            calm.extend(Calm::between(recovered, Instant::now()));
            let mover = W::mover(turn);
            // Runners begin with different changes, so that even a short run shows all of them.
            let gap = walkers.change(mover, Change::nth(turn + self.index));
            let Some(gap) = self.progress.counted(W::KIND, gap).await? else {
                outcome.lost += 1;
                return Ok(outcome);
            };
            outcome.gaps.push(gap);
            outcome.changes[mover] += 1;
            recovered = Instant::now();
        }
        calm.extend(Calm::between(recovered, Instant::now()));
        time::sleep(LAST_ARRIVALS).await;

        (outcome.sent_once, outcome.repaired) = walkers.losses(&calm);
        for log in walkers.logs() {
            outcome.wrong_node += wrong_node(log, node);
            outcome.lost += usize::from(log.read().ended.is_some());
        }
        Ok(outcome)
    }
}

/// Whether something that `from` sends from now on comes to a client.
pub(super) async fn hears(log: &Log, from: u32) -> bool {
    log.wait_media(PATIENCE, from, Instant::now()).await.is_some()
}

/// Spreads pauses evenly between two lengths, the same in every run.
fn pause((least, most): (Duration, Duration), index: usize, turn: usize) -> Duration {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let share = ((turn as f64) * GOLDEN + (index as f64) * GOLDEN * GOLDEN).fract();
    SETTLING + least + (most - least).mul_f64(share)
}

/// Datagrams that another node put its name on, or none.
fn wrong_node(log: &Log, name: &str) -> u64 {
    let record = log.read();
    let others = record.nodes.iter().filter(|(node, _)| *node != name).map(|(_, count)| count);
    others.sum::<u64>() + record.unnamed
}
