//! SFUs and servers of other people behind the LB, and what becomes of their clients.
//!
//! `make interop` installs the peers, runs this and writes `docs/interop.md`. With
//! `ONEVIP_INTEROP=janus,quinn` only some are tried, and nothing is written.
//!
//! | module | is |
//! | --- | --- |
//! | [`peers`] | how each peer is started, and how a client joins it |
//! | [`webrtc`], [`quic`] | the clients: every 20 ms something leaves, and comes back |
//! | [`stage`] | the LB, its fleet file, and a NAT in front of it |
//! | [`cells`] | what is tried with each peer |
//! | [`table`] | the page that tells of it |

mod cells;
mod peers;
mod program;
mod pulse;
mod quic;
mod sdp;
mod stage;
mod table;
mod webrtc;

use std::{env, sync::Arc};

use tokio::runtime::{Builder, Runtime};

use self::{
    cells::{
        Trial::{self, BothWays, Connect, NewSocket, Rebinding, Restart},
        try_all,
    },
    peers::{Peer, aioquic::Aioquic, aiortc::Aiortc, janus::Janus, moq::Moq, quinn::Quinn},
    stage::Stage,
    table::{Row, markdown, page},
};

/// The peers, and what must work with each. A QUIC server whose connection IDs the LB can only learn
/// loses clients that use one it has not seen, or that it has forgotten: those must come back by a new
/// session.
const PEERS: [(&str, &[Trial]); 8] = [
    ("janus", &[Connect, BothWays, Rebinding, NewSocket, Restart]),
    ("janus-lite", &[Connect, BothWays, Rebinding, NewSocket, Restart]),
    ("aiortc", &[Connect, BothWays, Rebinding, NewSocket, Restart]),
    ("moq-relay", &[Connect, BothWays, Rebinding, Restart]),
    ("aioquic", &[Connect, BothWays, Rebinding]),
    ("quinn", &[Connect, BothWays, Rebinding]),
    // Half of what such clients send is lost. Whether a session lives with that is chance.
    ("moq-relay-greased", &[]),
    ("quinn-greased", &[]),
];

#[test]
#[ignore = "needs SFUs of other people: make interop"]
fn foreign_sfus_serve_their_clients_from_behind_the_lb() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = Arc::new(runtime.expect("a runtime"));
    let wanted = env::var("ONEVIP_INTEROP").ok();
    let is_wanted =
        |name: &str| wanted.as_ref().is_none_or(|some| some.split(',').any(|each| each == name));
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for (name, must_work) in PEERS.into_iter().filter(|(name, _)| is_wanted(name)) {
        let (title, peer) = start(name, &runtime).unwrap_or_else(|why| panic!("{name}: {why}"));
        if peer.works_without_lb() {
            rows.push(row(&runtime, format!("{title}, *without an LB*"), peer.as_ref(), false));
        }
        let row = row(&runtime, title, peer.as_ref(), true);
        wrong.extend(row.cells.iter().filter_map(|(trial, cell)| {
            let fails = must_work.contains(trial) && cell.worked != Some(true);
            let gone = !must_work.is_empty() && cell.again == Some(false);
            (fails || gone).then(|| format!("{name}: {}", cell.text))
        }));
        rows.push(row);
    }
    println!("{}", markdown(&rows));
    if wanted.is_none() {
        page(&rows).expect("docs/interop.md is written");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Tries everything with a peer, on a stage of its own.
fn row(runtime: &Arc<Runtime>, peer: String, running: &dyn Peer, lb: bool) -> Row {
    eprintln!("{peer}");
    let stage = Stage::new(runtime, running.routing(), &running.nodes(), lb);
    let mut stage = stage.unwrap_or_else(|why| panic!("{peer}: {why}"));
    Row { cells: try_all(running, &mut stage), peer }
}

fn start(name: &str, runtime: &Runtime) -> Result<(String, Box<dyn Peer>), String> {
    Ok(match name {
        "janus" => (Janus::version()?, Box::new(Janus::start(false)?)),
        "janus-lite" => (format!("{}, ICE-lite", Janus::version()?), Box::new(Janus::start(true)?)),
        "aiortc" => (Aiortc::version()?, Box::new(Aiortc::start()?)),
        "moq-relay" => {
            let title = format!("{}, clients that do not grease", Moq::version()?);
            (title, Box::new(Moq::start(false)?))
        }
        "moq-relay-greased" => {
            (format!("{}, clients that grease", Moq::version()?), Box::new(Moq::start(true)?))
        }
        "aioquic" => (Aioquic::version()?, Box::new(Aioquic::start()?)),
        "quinn" => {
            let title = format!("{}, `grease_quic_bit(false)`", Quinn::version()?);
            (title, Box::new(Quinn::start(runtime, false)?))
        }
        "quinn-greased" => {
            (format!("{}, as it comes", Quinn::version()?), Box::new(Quinn::start(runtime, true)?))
        }
        _ => return Err("there is no such peer".to_owned()),
    })
}
