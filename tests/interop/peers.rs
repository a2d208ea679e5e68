//! The SFUs and servers of other people, each behind the same few questions.

pub(crate) mod aioquic;
pub(crate) mod aiortc;
pub(crate) mod janus;
pub(crate) mod moq;
pub(crate) mod quinn;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use kit::{Node, Routing};
use tokio::runtime::Runtime;

use crate::{pulse::Pulse, quic::Quic, stage::Stage, webrtc::WebRtc};

/// A peer that runs.
pub(crate) trait Peer {
    /// How the fleet file names its nodes' IDs, where it writes any that an LB can read.
    fn routing(&self) -> Option<Routing> {
        None
    }

    /// Its nodes, for the fleet file.
    fn nodes(&self) -> Vec<Node>;

    /// A new client of it, through the stage. Known to the LB when it begins.
    fn join(&self, stage: &mut Stage) -> Result<Box<dyn Client>, String>;

    /// Whether clients can be tried at it directly, to compare.
    fn works_without_lb(&self) -> bool {
        true
    }

    /// Messages that it has seen of the last client, in its own count.
    fn seen(&self) -> Option<u64> {
        None
    }
}

/// A client of a peer.
pub(crate) trait Client {
    fn pulse(&self) -> &Arc<Pulse>;

    /// The addresses of its sockets, as the switch sees them.
    fn local(&self) -> Vec<SocketAddr>;

    /// Goes on by a new socket, and knows it. `None` where the client cannot.
    fn move_socket(&mut self, runtime: &Runtime) -> Option<Result<(), String>>;

    /// What a client does by its signalling when nothing comes any more: it restarts ICE. `None` where
    /// there is no such thing.
    fn restart_ice(&mut self, _stage: &mut Stage) -> Option<Result<(), String>> {
        None
    }
}

impl Client for WebRtc {
    fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    fn local(&self) -> Vec<SocketAddr> {
        vec![Self::local(self)]
    }

    fn move_socket(&mut self, _runtime: &Runtime) -> Option<Result<(), String>> {
        Some(Self::move_socket(self))
    }
}

impl Client for Quic {
    fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    fn local(&self) -> Vec<SocketAddr> {
        vec![Self::local(self)]
    }

    fn move_socket(&mut self, runtime: &Runtime) -> Option<Result<(), String>> {
        Some(Self::move_socket(self, runtime))
    }
}

/// Where `make interop` puts what it builds.
pub(crate) fn installed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop").join(path)
}

/// A file of these tests.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/peers/python").join(name)
}
