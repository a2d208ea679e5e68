//! SFUs and servers of other people behind the LB, and what becomes of their clients.
//!
//! `make interop` installs the peers, runs this and writes `docs/interop.md`. With
//! `ONEVIP_INTEROP=janus,quinn` only some are tried, and nothing is written.

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
    cells::try_all,
    peers::{Peer, aioquic::Aioquic, aiortc::Aiortc, janus::Janus, moq::Moq, quinn::Quinn},
    stage::Stage,
    table::{Row, markdown},
};

const PEERS: [&str; 6] = ["janus", "aiortc", "aioquic", "quinn", "quinn-greasing", "moq-relay"];

#[test]
#[ignore = "needs SFUs of other people: make interop"]
fn foreign_sfus_serve_their_clients_from_behind_the_lb() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = Arc::new(runtime.expect("a runtime"));
    let wanted = env::var("ONEVIP_INTEROP").ok();
    let is_wanted =
        |name| wanted.as_ref().is_none_or(|some| some.split(',').any(|each| each == name));
    let direct = env::var_os("ONEVIP_INTEROP_DIRECT").is_some();
    let mut rows = Vec::new();
    for name in PEERS.into_iter().filter(|name| is_wanted(*name)) {
        let (title, peer) = start(name, &runtime).unwrap_or_else(|why| panic!("{name}: {why}"));
        eprintln!("{title}");
        let mut stage = Stage::new(&runtime, peer.routing(), &peer.nodes(), !direct);
        let cells = try_all(peer.as_ref(), stage.as_mut().expect("a stage"));
        rows.push(Row { peer: title, cells });
    }
    println!("{}", markdown(&rows));
}

fn start(name: &str, runtime: &Runtime) -> Result<(String, Box<dyn Peer>), String> {
    Ok(match name {
        "janus" => (Janus::version()?, Box::new(Janus::start()?)),
        "aiortc" => (Aiortc::version()?, Box::new(Aiortc::start()?)),
        "aioquic" => (Aioquic::version()?, Box::new(Aioquic::start()?)),
        "quinn" => ("quinn".to_owned(), Box::new(Quinn::start(runtime, false)?)),
        "quinn-greasing" => ("quinn, greasing".to_owned(), Box::new(Quinn::start(runtime, true)?)),
        "moq-relay" => (Moq::version()?, Box::new(Moq::start()?)),
        _ => return Err("there is no such peer".to_owned()),
    })
}
