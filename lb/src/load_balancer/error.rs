use std::{io, net::SocketAddr};

use crate::driver::SocketError;

/// Why an LB could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The fleet asks for something this LB cannot do.
    #[error(transparent)]
    Fleet(#[from] Unsupported),
    /// The system has no `io_uring` that serves, or does not let this process use it.
    #[error("io.driver = \"uring\" is not available here: {0}")]
    Uring(io::Error),
    /// The system refused something else.
    #[error("a worker cannot be started: {0}")]
    Worker(#[from] io::Error),
}

/// A fleet that this LB cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Unsupported {
    /// The tunnel sockets speak one IP version, and the node or a session of it another.
    #[error(
        "node {node} has address {address}, which cannot be reached from io.tunnel = \"{tunnel}\""
    )]
    OtherIpVersion {
        /// The node's name.
        node: String,
        /// Its address.
        address: SocketAddr,
        /// The tunnel address.
        tunnel: SocketAddr,
    },
    /// There are `nat` nodes, and more ports for them than the process may have files open.
    #[error(
        "limits.nat_ports = {ports} needs up to {needed} open files, and the system allows {allowed}"
    )]
    Ports {
        /// The ports of each IP version.
        ports: usize,
        /// All files of the process.
        needed: u64,
        /// What it may have: the hard limit of `RLIMIT_NOFILE`.
        allowed: u64,
    },
    /// No node at all, while there is a fleet that works.
    #[error("the fleet has no node")]
    Empty,
}

/// Why the number of workers stays what it is.
#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    /// Nobody but the kernel knows which worker a client's datagrams come to.
    #[error("the system did not take a rule by which clients are spread over workers")]
    NotSteered,
    /// There cannot be so many, or none.
    #[error("there cannot be {0} workers")]
    Count(usize),
    /// A new one could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There are `nat` nodes, and not enough files for the ports of so many workers.
    #[error(transparent)]
    Ports(#[from] Unsupported),
    /// There are more flows than so few workers keep.
    #[error(
        "{flows} flows are here, and {workers} workers keep {room}: limits.flows is shared by as many as there were \
         at the start"
    )]
    Flows {
        /// As asked for.
        workers: usize,
        /// Those that are here, of which some may be counted twice for seconds behind another change.
        flows: u64,
        /// Those that there would be room for.
        room: u64,
    },
    /// Flows could not be handed over in time.
    #[error("a worker did not hand its flows over within {} s", .0.as_secs())]
    Late(std::time::Duration),
    /// The system refused the rule for another number.
    #[error("the system does not spread clients over another number of workers: {0}")]
    Steering(io::Error),
}
