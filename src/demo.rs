//! `onevip demo`: the whole system in one process, and clients that change networks.

use std::{
    io::{IsTerminal, Write, stdout},
    net::SocketAddr,
};

use ::demo::{Demo, Options, Report, measure::Change, report::KindReport, system::node_name};
use serde_json::json;

use crate::{
    cli::{DemoArguments, Output},
    error::Error,
};

pub(crate) async fn run(arguments: &DemoArguments, output: Option<Output>) -> Result<(), Error> {
    let options =
        Options { vip: arguments.vip, nodes: arguments.nodes.into(), seconds: arguments.seconds };
    let demo = Demo::start(options).await?;
    let quiet = output == Some(Output::Json);
    if !quiet {
        println!("{}", addresses(&demo));
        println!(
            "Clients join now, send media, and change their address over and over: half of the time \
             their NAT\nrebinds them silently, half of the time they open a new socket. Either may \
             land on the other LB.\n"
        );
    }
    let report = demo
        .run(|line| {
            if !quiet {
                progress(line)
            }
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
    if report.is_good() { Ok(()) } else { Err(Error::Demo) }
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

fn progress_end() {
    if stdout().is_terminal() {
        println!();
    }
}

fn addresses(demo: &Demo) -> String {
    let system = &demo.system;
    let mut lines = vec![format!("VIP            {} (UDP)", system.vip())];
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
    let signalling: Option<SocketAddr> = system.nodes().next().map(sfu::Node::signalling);
    if let Some(node) = signalling {
        lines.push(format!(
            "\nTry:  curl -X POST http://{node}/rooms/lobby/webtransport\n      \
             curl -X POST -H 'content-type: application/sdp' --data-binary @offer.sdp \
             http://{node}/rooms/lobby/sessions\n"
        ));
    }
    lines.join("\n")
}

fn summary(report: &Report) -> serde_json::Value {
    let kind = |kind: &KindReport| {
        json!({
            "sessions": kind.sessions,
            "changes": kind.gaps.len(),
            "changes_of_one_session_at_least": kind.changes.iter().min(),
            "lb_changes": kind.gaps.iter().filter(|gap| gap.lb_changed).count(),
            "judged": kind.losses.judged,
            "lost_later_than_100ms_after_recovery": kind.losses.lost,
            "sessions_lost": kind.lost,
            "wrong_node": kind.wrong_node,
            "misrouted": kind.misrouted,
            "gaps_ms": kind.gaps.iter().map(|gap| json!({
                "change": match gap.change {
                    Change::Rebinding => "rebinding",
                    Change::NewSocket => "new_socket",
                },
                "lb_changed": gap.lb_changed,
                "up": gap.up.as_secs_f64() * 1e3,
                "down": gap.down.as_secs_f64() * 1e3,
                "check": gap.check.map(|check| check.as_secs_f64() * 1e3),
            })).collect::<Vec<_>>(),
        })
    };
    json!({ "webrtc": kind(&report.webrtc), "webtransport": kind(&report.webtransport) })
}
