//! The closing table.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use crate::measure::{Change, Gap, Losses, quantile};

/// What a demo found out.
#[derive(Debug)]
pub struct Report {
    /// Of the WebRTC sessions.
    pub webrtc: KindReport,
    /// Of the WebTransport sessions.
    pub webtransport: KindReport,
}

/// What was found out of one kind of sessions.
#[derive(Debug, Default)]
pub struct KindReport {
    /// How many there were.
    pub sessions: usize,
    /// Every change of address.
    pub gaps: Vec<Gap>,
    /// How many each session had.
    pub changes: Vec<usize>,
    /// What was sent later than 100 ms after a recovery, and did not arrive.
    pub losses: Losses,
    /// Sessions that ended, or did not recover.
    pub lost: usize,
    /// Media that another node than the session's put its name on.
    pub wrong_node: u64,
    /// Datagrams that came to a node although their ID names another, by the nodes' own count.
    pub misrouted: u64,
}

impl KindReport {
    fn lb_changes(&self) -> usize {
        self.gaps.iter().filter(|gap| gap.lb_changed).count()
    }

    fn of(&self, change: Change) -> impl Iterator<Item = &Gap> {
        self.gaps.iter().filter(move |gap| gap.change == change)
    }
}

impl Report {
    /// Whether every session kept its node to the end.
    #[must_use]
    pub fn is_good(&self) -> bool {
        [&self.webrtc, &self.webtransport]
            .iter()
            .all(|kind| kind.lost == 0 && kind.wrong_node == 0 && kind.misrouted == 0)
    }
}

/// p50 and p99, in milliseconds.
fn gap(gaps: impl Iterator<Item = Duration>) -> String {
    let gaps: Vec<_> = gaps.collect();
    let milliseconds = |share| {
        quantile(gaps.clone(), share)
            .map_or_else(|| "-".to_owned(), |gap| format!("{:.1}", gap.as_secs_f64() * 1_000.0))
    };
    format!("{} / {}", milliseconds(0.5), milliseconds(0.99))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [&self.webrtc, &self.webtransport];
        let mut row = |name: &str, value: &dyn Fn(&KindReport) -> String| {
            let [webrtc, webtransport] = kinds.map(value);
            writeln!(f, "  {name:<52} {webrtc:>18} {webtransport:>18}")
        };
        row("", &|kind| {
            let name = if std::ptr::eq(kind, kinds[0]) { "WebRTC" } else { "WebTransport" };
            name.to_owned()
        })?;
        row("sessions", &|kind| kind.sessions.to_string())?;
        row("address changes", &|kind| kind.gaps.len().to_string())?;
        row("  by silent NAT rebinding / by a new socket", &|kind| {
            let [silent, new] =
                [Change::Rebinding, Change::NewSocket].map(|change| kind.of(change).count());
            format!("{silent} / {new}")
        })?;
        row("  of one session, at least", &|kind| {
            kind.changes.iter().min().copied().unwrap_or(0).to_string()
        })?;
        row("LB changes with them", &|kind| kind.lb_changes().to_string())?;
        for (change, name) in
            [(Change::Rebinding, "silent rebinding"), (Change::NewSocket, "new socket")]
        {
            let mut title = String::new();
            write!(title, "gap after a {name}, ms, p50 / p99")?;
            row(&title, &|_| String::new())?;
            row("  client to node", &|kind| gap(kind.of(change).map(|gap| gap.up)))?;
            row("  node to client", &|kind| gap(kind.of(change).map(|gap| gap.down)))?;
            row("  of which: until the client's next STUN check", &|kind| {
                gap(kind.of(change).filter_map(|gap| gap.check))
            })?;
            row("  of which: ours, the network's and the media's pace", &|kind| {
                gap(kind
                    .of(change)
                    .filter_map(|gap| Some(gap.up.max(gap.down).saturating_sub(gap.check?))))
            })?;
        }
        row("sent later than 100 ms after recovery", &|kind| kind.losses.judged.to_string())?;
        row("  of these lost", &|kind| kind.losses.lost.to_string())?;
        row("sessions lost", &|kind| kind.lost.to_string())?;
        row("media from a wrong node (judged by the clients)", &|kind| {
            kind.wrong_node.to_string()
        })?;
        row("datagrams misrouted (judged by the nodes)", &|kind| kind.misrouted.to_string())
    }
}
