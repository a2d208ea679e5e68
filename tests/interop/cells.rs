//! What is tried with each peer, and what a cell of the table says of it.

use std::time::{Duration, Instant};

use demo::switch::Hop;

use crate::{
    peers::{Client, Peer},
    stage::{Counts, Stage, moved},
};

/// Echoes that prove that something works: 2 s of them.
const ECHOES: usize = 100;

/// Longer than any peer takes to find a client again that moved; then the client is lost.
const RECOVERY: Duration = Duration::from_secs(10);

/// What is tried, in this order, with one client as long as it lives.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Trial {
    Connect,
    BothWays,
    /// The client's NAT gives it another address; the client does not notice.
    Rebinding,
    /// The client goes on by another socket, and knows it.
    NewSocket,
    Restart,
}

impl Trial {
    pub(crate) const ALL: [Self; 5] =
        [Self::Connect, Self::BothWays, Self::Rebinding, Self::NewSocket, Self::Restart];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::BothWays => "both ways",
            Self::Rebinding => "address change: NAT rebinding",
            Self::NewSocket => "address change: the client's own",
            Self::Restart => "LB restart",
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// `None` where there is nothing to try.
    pub(crate) worked: Option<bool>,
    /// Whether another client could follow one that was lost.
    pub(crate) again: Option<bool>,
    pub(crate) text: String,
}

impl Cell {
    fn of(outcome: Result<String, String>) -> Self {
        match outcome {
            Ok(text) => Self { worked: Some(true), again: None, text: format!("ok: {text}") },
            Err(text) => Self { worked: Some(false), again: None, text: format!("lost: {text}") },
        }
    }

    fn not_tried(why: &str) -> Self {
        Self { worked: None, again: None, text: format!("– {why}") }
    }

    /// With what the LB counted meanwhile.
    fn with_counts(mut self, counts: &Counts) -> Self {
        let counts: Vec<_> =
            counts.iter().map(|(label, count)| format!("{label} {count}")).collect();
        if !counts.is_empty() && self.worked.is_some() {
            self.text.push_str(&format!(" ({})", counts.join(", ")));
        }
        self
    }

    /// Whether another client can take the place of the one that is lost.
    fn try_again(&mut self, peer: &dyn Peer, stage: &mut Stage) {
        let again = connect(peer, stage);
        self.again = Some(again.is_ok());
        self.text.push_str(&match again {
            Ok((_, text)) => format!("; a new session works, {text}"),
            Err(why) => format!("; nor does a new session: {why}"),
        });
    }
}

/// Tries everything with a peer. A client that is lost is followed by another.
pub(crate) fn try_all(peer: &dyn Peer, stage: &mut Stage) -> Vec<(Trial, Cell)> {
    let mut client = None;
    let mut cells = Vec::new();
    for trial in Trial::ALL {
        if client.is_none() && trial != Trial::Connect {
            client = connect(peer, stage).ok().map(|(client, _)| client);
        }
        let before = stage.counts();
        let cell = match (trial, client.as_mut()) {
            (Trial::Connect, _) => Cell::of(connect(peer, stage).map(|(fresh, text)| {
                client = Some(fresh);
                text
            })),
            (_, None) => Cell::not_tried("no client could connect"),
            (Trial::BothWays, Some(client)) => Cell::of(both_ways(peer, client.as_ref())),
            (Trial::Rebinding, Some(client)) => Cell::of(rebinding(client.as_mut(), stage)),
            (Trial::NewSocket, Some(client)) => new_socket(client.as_mut(), stage),
            (Trial::Restart, Some(_)) if !stage.has_lb() => Cell::not_tried("there is no LB"),
            (Trial::Restart, Some(client)) => Cell::of(restart(client.as_mut(), stage)),
        };
        // A process that has just started counts from 0.
        let before = if trial == Trial::Restart { Counts::new() } else { before };
        let mut cell = cell.with_counts(&moved(&before, &stage.counts()));
        if cell.worked == Some(false) {
            client = None;
            if trial != Trial::Connect {
                cell.try_again(peer, stage);
            }
        }
        eprintln!("  {}: {}", trial.title(), cell.text);
        cells.push((trial, cell));
    }
    cells
}

fn connect(peer: &dyn Peer, stage: &mut Stage) -> Result<(Box<dyn Client>, String), String> {
    let begin = Instant::now();
    let client = peer.join(stage)?;
    client.pulse().wait_connected(RECOVERY)?;
    client.pulse().wait_echoes(RECOVERY, begin, 1)?;
    Ok((client, format!("first echo after {} ms", begin.elapsed().as_millis())))
}

fn both_ways(peer: &dyn Peer, client: &dyn Client) -> Result<String, String> {
    let (begin, seen) = (Instant::now(), peer.seen());
    let sent = client.pulse().read().sent;
    client.pulse().wait_echoes(RECOVERY, begin, ECHOES)?;
    let record = client.pulse().read();
    let (sent, came) = (record.sent - sent, record.after(begin).len());
    drop(record);
    let seen = peer.seen().zip(seen).map(|(after, before)| after.saturating_sub(before));
    let seen = seen.map_or_else(String::new, |seen| format!(", the peer saw {seen}"));
    Ok(format!("{sent} sent{seen}, {came} came back"))
}

fn rebinding(client: &mut dyn Client, stage: &mut Stage) -> Result<String, String> {
    let begin = Instant::now();
    for local in client.local() {
        let _inside = stage.runtime.enter();
        stage.switch.rebind(local, Hop::Network).map_err(|error| error.to_string())?;
    }
    goes_on(client, stage, begin)
}

fn new_socket(client: &mut dyn Client, stage: &mut Stage) -> Cell {
    let begin = Instant::now();
    match client.move_socket(&stage.runtime) {
        None => Cell::not_tried("this client has no such command"),
        Some(Err(error)) => Cell::of(Err(error)),
        Some(Ok(())) => Cell::of(goes_on(client, stage, begin)),
    }
}

fn restart(client: &mut dyn Client, stage: &mut Stage) -> Result<String, String> {
    let begin = Instant::now();
    stage.restart_lb()?;
    let down = begin.elapsed();
    let told = goes_on(client, stage, begin)?;
    Ok(format!("{told}, {} ms of it without an LB", down.as_millis()))
}

/// Waits until echoes come again for a while. Where they do not, a WebRTC client restarts ICE.
fn goes_on(client: &mut dyn Client, stage: &mut Stage, since: Instant) -> Result<String, String> {
    let why = match echoes(client, since) {
        Ok(told) => return Ok(told),
        Err(why) => why,
    };
    let begin = Instant::now();
    match client.restart_ice(stage) {
        None => Err(why),
        Some(restarted) => {
            let told = restarted
                .and_then(|()| echoes(client, begin))
                .map_err(|error| format!("{why}, and after an ICE restart: {error}"))?;
            Ok(format!("after an ICE restart {told} ({why} without one)"))
        }
    }
}

fn echoes(client: &dyn Client, since: Instant) -> Result<String, String> {
    client.pulse().wait_echoes(RECOVERY, since, ECHOES)?;
    let gap = client.pulse().read().gap(since);
    Ok(format!("the same session goes on, longest gap {} ms", gap.as_millis()))
}
