//! The closing table.

use std::{fmt, time::Duration};

use super::{KindReport, LbCounts, Report, Rotations};
use crate::{
    measure::{Gap, quantile},
    moves::Cause,
};

/// p50 and p99, in milliseconds.
fn gap(gaps: impl Iterator<Item = Duration>) -> String {
    let gaps: Vec<_> = gaps.collect();
    let milliseconds = |share| {
        quantile(gaps.clone(), share)
            .map_or_else(|| "-".to_owned(), |gap| format!("{:.1}", gap.as_secs_f64() * 1_000.0))
    };
    format!("{} / {}", milliseconds(0.5), milliseconds(0.99))
}

/// Gaps that are looked at together: what they come after, and which they are.
type Group = (&'static str, fn(&Gap) -> bool);

const GROUPS: [Group; 4] = [
    ("a silent rebinding", |gap| matches!(gap.change.cause, Cause::Rebinding)),
    ("a new socket", |gap| matches!(gap.change.cause, Cause::NewSocket)),
    ("a change of the port alone", |gap| !gap.ip_changed),
    ("a change of the IP address too", |gap| gap.ip_changed),
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "", "WebRTC", "WebTransport")?;
        let kinds = [&self.webrtc, &self.webtransport];
        let row =
            |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn Fn(&KindReport) -> String| {
                let [webrtc, webtransport] = kinds.map(value);
                line(f, name, &webrtc, &webtransport)
            };
        row(f, "sessions", &|kind| kind.sessions.to_string())?;
        row(f, "address changes", &|kind| kind.gaps.len().to_string())?;
        row(f, "  by silent NAT rebinding / by a new socket", &|kind| {
            let [silent, new] =
                [Cause::Rebinding, Cause::NewSocket].map(|cause| kind.by(cause).count());
            format!("{silent} / {new}")
        })?;
        row(f, "  of the port alone / of the IP address too", &|kind| {
            format!("{} / {}", kind.gaps.len() - kind.ip_changes(), kind.ip_changes())
        })?;
        row(f, "  of one session, at least", &|kind| kind.changes_of_one().to_string())?;
        row(f, "LB changes with them", &|kind| kind.lb_changes().to_string())?;
        for (name, is_one) in GROUPS {
            let of = |kind: &KindReport, part: fn(&Gap) -> Option<Duration>| {
                gap(kind.gaps.iter().filter(|gap| is_one(gap)).filter_map(part))
            };
            row(f, &format!("gap after {name}, ms, p50 / p99"), &|_| String::new())?;
            row(f, "  client to node", &|kind| of(kind, |gap| gap.up))?;
            row(f, "  node to client", &|kind| of(kind, |gap| gap.down))?;
            row(f, "  of which: until the client's next STUN check", &|kind| {
                of(kind, |gap| gap.check)
            })?;
            row(f, "  of which: ours, the network's and the media's pace", &|kind| {
                of(kind, |gap| Some(gap.longest()?.saturating_sub(gap.check?)))
            })?;
        }
        row(f, "sent once, later than 100 ms after recovery", &|kind| {
            kind.sent_once.judged.to_string()
        })?;
        row(f, "  of these lost", &|kind| kind.sent_once.lost.to_string())?;
        row(f, "  besides, left just before a change and cut off", &|kind| {
            kind.sent_once.cut_off.to_string()
        })?;
        let repaired = |kind: &KindReport, count: usize| {
            if kind.repaired.judged == 0 { "-".to_owned() } else { count.to_string() }
        };
        row(f, "video, sent again when missed (NACK), likewise", &|kind| {
            repaired(kind, kind.repaired.judged)
        })?;
        row(f, "  of these never arrived, after repair", &|kind| {
            repaired(kind, kind.repaired.lost)
        })?;
        row(f, "sessions lost", &|kind| kind.lost.to_string())?;
        row(f, "media from a wrong node (judged by the clients)", &|kind| {
            kind.wrong_node.to_string()
        })?;
        let nodes = &self.nodes;
        let count = |f: &mut fmt::Formatter<'_>, name: &str, webrtc: u64, quic: Option<u64>| {
            let quic = quic.map_or_else(|| "-".to_owned(), |quic| quic.to_string());
            line(f, name, &webrtc.to_string(), &quic)
        };
        count(
            f,
            "datagrams misrouted (judged by the nodes)",
            nodes.misrouted_ice,
            Some(nodes.misrouted_quic),
        )?;
        count(f, "media at a node without its session (no_session)", nodes.no_session, None)?;
        count(f, "checks at a node without their session", nodes.unknown_ufrag, None)?;
        if self.rotations.asked > 0 {
            let Rotations { asked, done } = self.rotations;
            let done = format!("{done} of {asked}");
            line(f, "rotations of keys meanwhile, done", &done, &done)?;
        }
        writeln!(f)?;
        self.lbs(f)
    }
}

impl Report {
    fn lbs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: &dyn Fn(usize, &LbCounts) -> String| {
            write!(f, "  {name:<52}")?;
            for (number, lb) in (1..).zip(&self.lbs) {
                write!(f, " {:>18}", value(number, lb))?;
            }
            writeln!(f)
        };
        row("", &|number, _| format!("LB {number}"))?;
        row("clients' datagrams", &|_, lb| lb.received.to_string())?;
        row("  dropped: media until the client's next check", &|_, lb| lb.no_flow.to_string())?;
        row("  dropped: names nobody (ufrag / connection ID)", &|_, lb| {
            format!("{} / {}", lb.unknown_ufrag, lb.unknown_cid)
        })?;
        row("  dropped: all else", &|_, lb| lb.others.to_string())
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, webrtc: &str, webtransport: &str) -> fmt::Result {
    let line = format!("  {name:<52} {webrtc:>18} {webtransport:>18}");
    writeln!(f, "{}", line.trim_end())
}
