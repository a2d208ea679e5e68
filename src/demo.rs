//! `onevip demo`: the whole system in one process, and clients that change networks.

use std::io::{IsTerminal, Write, stdout};

use ::demo::{
    Demo, DemoError, Options, Report, StoreKind, Told,
    moves::Cause,
    report::{KindReport, LbCounts},
    system::node_name,
};
use serde_json::json;

use crate::{
    cli::{DemoArguments, Output, Store},
    error::Error,
};

pub(crate) async fn run(arguments: &DemoArguments, output: Option<Output>) -> Result<(), Error> {
    let options = Options {
        vip: arguments.vip,
        nodes: arguments.nodes.into(),
        seconds: arguments.seconds,
        rotate: arguments.rotate,
        store: match (arguments.store, arguments.kill_store) {
            (Store::Memory, false) => StoreKind::Memory,
            (Store::Memory, true) => {
                let problem =
                    "--kill-store needs --store etcd: what this process keeps dies with it";
                return Err(Error::Usage(problem.to_owned()));
            }
            (Store::Etcd, killed) => StoreKind::Etcd { killed },
        },
    };
    let demo = Demo::start(options).await?;
    let quiet = output == Some(Output::Json);
    if !quiet {
        println!("{}", addresses(&demo));
        println!(
            "Clients join now, send media, and change their address over and over: half of the time \
             their NAT\nrebinds them silently, half of the time they open a new socket; half of the \
             time the port alone\nchanges, half of the time the IP address too. Either may land on \
             the other LB.\n"
        );
    }
    let report = demo
        .run(|told| match told {
            Told::Progress(line) if !quiet => progress(line),
            Told::Event(sentence) if !quiet => event(sentence),
            Told::Progress(_) | Told::Event(_) => {}
        })
        .await?;
    if quiet {
        println!("{:#}", summary(&report));
    } else {
        progress_end();
        println!("\n{report}");
    }
    if !arguments.headless {
        println!("Still serving, until Ctrl-C:\n\n{}", addresses(&demo));
        tokio::signal::ctrl_c().await.map_err(Error::Runtime)?;
    }
    verdict(&report)
}

/// Good, or one sentence that says what is not.
fn verdict(report: &Report) -> Result<(), Error> {
    let faults = report.faults();
    if faults.is_empty() { Ok(()) } else { Err(DemoError::Faulty(faults.join("; ")).into()) }
}

/// One line that is written over, or where nobody watches, one line a second.
fn progress(line: &str) {
    if stdout().is_terminal() {
        print!("\r{line}\x1b[K");
        let _closed = stdout().flush();
    } else {
        println!("{line}");
    }
}

/// A line that stays.
fn event(sentence: &str) {
    if stdout().is_terminal() {
        println!("\r{sentence}\x1b[K");
    } else {
        println!("{sentence}");
    }
}

fn progress_end() {
    if stdout().is_terminal() {
        println!();
    }
}

fn addresses(demo: &Demo) -> String {
    let system = &demo.system;
    let (control, token) = (system.control(), system.operator_token());
    let mut lines = vec![
        format!("VIP            {} (UDP)", system.vip()),
        format!("control        http://{control}   token {token}"),
    ];
    let etcd = demo.etcd();
    if !etcd.is_empty() {
        lines.push(format!("etcd           {}", etcd.join(" ")));
    }
    for (index, admin) in system.lb_admins().enumerate() {
        lines.push(format!("LB {}           metrics http://{admin}/metrics", index + 1));
    }
    for (index, node) in system.nodes().enumerate() {
        lines.push(format!(
            "node {:<9} signalling http://{}   metrics http://{}/metrics",
            node_name(index),
            node.signalling(),
            node.admin()
        ));
    }
    lines.push(format!(
        "\nTry:  export ONEVIP_CONTROL=http://{control} ONEVIP_TOKEN={token}\n      \
         onevip node list; onevip room list; onevip lb list\n      \
         curl -X POST -H \"authorization: Bearer $ONEVIP_TOKEN\" $ONEVIP_CONTROL/v1/rooms/lobby/join\n      \
         curl -X POST -H \"authorization: Bearer $ONEVIP_TOKEN\" -H 'content-type: application/sdp' \\\n        \
         --data-binary @offer.sdp $ONEVIP_CONTROL/whip/lobby\n"
    ));
    lines.join("\n")
}

fn summary(report: &Report) -> serde_json::Value {
    let kind = |kind: &KindReport, misrouted: u64| {
        json!({
            "sessions": kind.sessions,
            "changes": kind.gaps.len(),
            "changes_of_one_session_at_least": kind.changes_of_one(),
            "ip_changes": kind.ip_changes(),
            "lb_changes": kind.lb_changes(),
            "judged": kind.sent_once.judged,
            "lost_later_than_100ms_after_recovery": kind.sent_once.lost,
            "cut_off_by_a_change": kind.sent_once.cut_off,
            "judged_after_repair": kind.repaired.judged,
            "lost_after_repair": kind.repaired.lost,
            "sessions_lost": kind.lost,
            "wrong_node": kind.wrong_node,
            "misrouted": misrouted,
            "gaps_ms": kind.gaps.iter().map(|gap| json!({
                "change": match gap.change.cause {
                    Cause::Rebinding => "rebinding",
                    Cause::NewSocket => "new_socket",
                },
                "ip_changed": gap.ip_changed,
                "lb_changed": gap.lb_changed,
                "up": gap.up.map(|up| up.as_secs_f64() * 1e3),
                "down": gap.down.map(|down| down.as_secs_f64() * 1e3),
                "check": gap.check.map(|check| check.as_secs_f64() * 1e3),
            })).collect::<Vec<_>>(),
        })
    };
    let lb = |lb: &LbCounts| {
        json!({
            "received": lb.received,
            "no_flow": lb.no_flow,
            "unknown_ufrag": lb.unknown_ufrag,
            "unknown_cid": lb.unknown_cid,
            "other_drops": lb.others,
        })
    };
    let nodes = &report.nodes;
    json!({
        "webrtc": kind(&report.webrtc, nodes.misrouted_ice),
        "webtransport": kind(&report.webtransport, nodes.misrouted_quic),
        "nodes": { "no_session": nodes.no_session, "unknown_ufrag": nodes.unknown_ufrag },
        "lbs": report.lbs.iter().map(lb).collect::<Vec<_>>(),
        "rotations": { "asked": report.rotations.asked, "done": report.rotations.done },
        "faults": report.faults(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_shows_nothing_fails_in_one_sentence_that_says_so() {
        let error = verdict(&Report::default()).expect_err("nothing was shown");
        let sentence = error.to_string();
        assert!(
            sentence.starts_with("the demo has failed: there was no WebRTC session"),
            "{error}"
        );
        assert_eq!(sentence.lines().count(), 1);
    }
}
