//! What a demo found out, and whether that is good.

mod counts;
mod table;

use crate::{
    measure::{Gap, Losses},
    moves::Cause,
};

pub use counts::{LbCounts, NodeCounts};

/// What a demo found out.
#[derive(Debug, Default)]
pub struct Report {
    /// Of the WebRTC sessions.
    pub webrtc: KindReport,
    /// Of the WebTransport sessions.
    pub webtransport: KindReport,
    /// By the nodes' own count.
    pub nodes: NodeCounts,
    /// By each LB's own count.
    pub lbs: Vec<LbCounts>,
    /// Of the keys of routing IDs.
    pub rotations: Rotations,
}

/// How often keys were rotated.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rotations {
    /// As many were asked for.
    pub asked: u8,
    /// As many came as far as that all nodes issue by the new keys.
    pub done: u8,
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
    /// What was sent once, later than 100 ms after a recovery, and did not arrive.
    pub sent_once: Losses,
    /// The same of what is sent again when its receiver asks for it, and never arrived at all.
    pub repaired: Losses,
    /// Sessions that ended, or did not recover.
    pub lost: usize,
    /// Media that another node than the session's put its name on.
    pub wrong_node: u64,
}

/// So many changes of address never all keep to one LB by chance.
pub(crate) const SURELY_BOTH_LBS: usize = 20;

impl KindReport {
    /// How many changes led to another LB.
    #[must_use]
    pub fn lb_changes(&self) -> usize {
        self.gaps.iter().filter(|gap| gap.lb_changed).count()
    }

    /// How many changes were of the IP address, not of the port alone.
    #[must_use]
    pub fn ip_changes(&self) -> usize {
        self.gaps.iter().filter(|gap| gap.ip_changed).count()
    }

    /// How many changes of one session there were at least.
    #[must_use]
    pub fn changes_of_one(&self) -> usize {
        self.changes.iter().min().copied().unwrap_or(0)
    }

    fn by(&self, cause: Cause) -> impl Iterator<Item = &Gap> {
        self.gaps.iter().filter(move |gap| gap.change.cause == cause)
    }

    fn faults(&self, name: &str, faults: &mut Vec<String>) {
        let mut fault = |is: bool, what: String| {
            if is {
                faults.push(what);
            }
        };
        let sessions = self.sessions;
        fault(sessions == 0, format!("there was no {name} session"));
        fault(self.lost > 0, format!("{} of {sessions} {name} sessions were lost", self.lost));
        fault(
            self.wrong_node > 0,
            format!("{} datagrams of {name} media came from a wrong node", self.wrong_node),
        );
        // A session that is lost does not move any more.
        fault(
            self.lost == 0 && self.changes_of_one() == 0,
            format!("a {name} session never changed its address"),
        );
        fault(
            self.gaps.len() >= SURELY_BOTH_LBS && self.lb_changes() == 0,
            format!("none of {} {name} address changes led to another LB", self.gaps.len()),
        );
        fault(self.sent_once.judged == 0, format!("no {name} datagram was judged"));
        for (losses, how) in [(self.sent_once, ""), (self.repaired, ", sent again when missed,")] {
            let Losses { judged, lost, .. } = losses;
            fault(
                lost > 0,
                format!(
                    "{lost} of {judged} {name} datagrams{how} that were sent later than 100 ms \
                     after a recovery never arrived"
                ),
            );
        }
    }
}

impl Report {
    /// All that speaks against the demo: nothing, if every session moved, kept its node to the end
    /// and lost nothing once it had recovered.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        self.webrtc.faults("WebRTC", &mut faults);
        self.webtransport.faults("WebTransport", &mut faults);
        let astray = self.nodes.astray();
        if astray > 0 {
            faults.push(format!("{astray} datagrams came to a node they do not belong to"));
        }
        let Rotations { asked, done } = self.rotations;
        if done < asked {
            faults.push(format!("{done} of {asked} rotations of keys were done"));
        }
        for (lb, counts) in (1..).zip(&self.lbs) {
            if counts.received == 0 {
                faults.push(format!("LB {lb} had nothing to do"));
            }
            let dropped = counts.unknown_ufrag + counts.unknown_cid + counts.others;
            if dropped > 0 {
                faults.push(format!("LB {lb} dropped {dropped} datagrams without need"));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{moves::Change, switch::Hop};

    fn gap(lb_changed: bool) -> Gap {
        let ms = Duration::from_millis;
        let change = Change { cause: Cause::Rebinding, hop: Hop::Port };
        Gap {
            change,
            ip_changed: false,
            lb_changed,
            up: Some(ms(1)),
            down: Some(ms(2)),
            check: None,
        }
    }

    fn good() -> Report {
        let kind = || KindReport {
            sessions: 6,
            gaps: (0..24).map(|turn| gap(turn % 2 == 0)).collect(),
            changes: vec![4; 6],
            sent_once: Losses { judged: 100, lost: 0, cut_off: 0 },
            repaired: Losses { judged: 100, lost: 0, cut_off: 0 },
            ..KindReport::default()
        };
        // What media loses until the next check is no fault.
        let lb = LbCounts { received: 1_000, no_flow: 100, ..LbCounts::default() };
        Report { webrtc: kind(), webtransport: kind(), lbs: vec![lb; 2], ..Report::default() }
    }

    #[test]
    fn a_run_in_which_all_moved_and_nothing_was_lost_is_good() {
        assert_eq!(good().faults(), Vec::<String>::new());
    }

    #[test]
    fn each_fault_alone_is_said_and_a_run_that_shows_nothing_is_none_to_be_proud_of() {
        type Break = fn(&mut Report);
        let cases: [(&str, Break); 17] = [
            ("1 of 2 rotations of keys were done", |report| {
                report.rotations = Rotations { asked: 2, done: 1 };
            }),
            ("there was no WebRTC session", |report| report.webrtc.sessions = 0),
            ("1 of 6 WebRTC sessions were lost", |report| report.webrtc.lost = 1),
            ("2 datagrams of WebTransport media", |report| report.webtransport.wrong_node = 2),
            ("a WebRTC session never changed", |report| report.webrtc.changes[5] = 0),
            ("a WebTransport session never changed", |report| report.webtransport.changes.clear()),
            ("none of 24 WebRTC address changes", |report| {
                report.webrtc.gaps.iter_mut().for_each(|gap| gap.lb_changed = false);
            }),
            ("no WebRTC datagram was judged", |report| report.webrtc.sent_once.judged = 0),
            ("1 of 100 WebRTC datagrams that", |report| report.webrtc.sent_once.lost = 1),
            ("1 of 100 WebRTC datagrams, sent again", |report| report.webrtc.repaired.lost = 1),
            ("1 datagrams came to a node", |report| report.nodes.misrouted_ice = 1),
            ("2 datagrams came to a node", |report| report.nodes.misrouted_quic = 2),
            ("3 datagrams came to a node", |report| report.nodes.no_session = 3),
            ("4 datagrams came to a node", |report| report.nodes.unknown_ufrag = 4),
            ("LB 2 had nothing to do", |report| report.lbs[1].received = 0),
            ("LB 1 dropped 5 datagrams", |report| report.lbs[0].unknown_cid = 5),
            ("LB 2 dropped 6 datagrams", |report| report.lbs[1].others = 6),
        ];
        for (sentence, break_it) in cases {
            let mut report = good();
            break_it(&mut report);
            let faults = report.faults();
            assert!(
                faults.len() == 1 && faults[0].starts_with(sentence),
                "{sentence:?} is not all of {faults:?}"
            );
        }
        assert!(Report::default().faults().len() >= 4, "an empty run");
    }
}
