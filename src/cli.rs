use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// One UDP address for a whole fleet of SFUs.
///
/// A WebRTC or WebTransport client is pinned to its SFU by what its datagrams say (ICE ufrag, QUIC
/// connection ID), not by where they come from.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// The role's configuration file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// How results are printed
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) output: Option<Output>,

    /// How logs are written to stderr; RUST_LOG takes levels, as in `info,lb=debug`
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "ONEVIP_LOG_FORMAT",
        default_value = "text"
    )]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole system in one process, with clients that change networks
    ///
    /// Two LBs on one VIP, three SFU nodes, and WebRTC and WebTransport clients whose addresses
    /// change over and over. Shows what happens while it runs, then a closing table, and goes on
    /// serving.
    Demo(DemoArguments),
    /// Run a load balancer in the foreground; `lb list` shows those of a fleet
    ///
    /// SIGTERM: /readyz turns 503, forwarding goes on for `admin.drain`, then exit 0. SIGHUP: the
    /// configuration and the fleet file are read again.
    Lb(Lb),
    /// Run an SFU node in the foreground
    ///
    /// SIGTERM: /readyz turns 503, sessions go on for `admin.drain`, then exit 0. SIGHUP: the
    /// configuration and the fleet file are read again.
    Sfu,
    /// Run a fleet's control in the foreground: registry of nodes and rooms, and its HTTP API
    ///
    /// SIGTERM: /readyz turns 503, calls are answered for `admin.drain`, then exit 0. SIGHUP: the
    /// configuration and the token file are read again. What is kept is in `store.path`; LBs and
    /// nodes go on without it while it is away.
    Control,
    /// Validate a configuration file, and the fleet file it names, and say what it would do
    Check,
    /// Write and read routing IDs
    #[command(subcommand)]
    Id(IdCommand),
    /// See and drain the nodes of a fleet, through its control
    Node(Operate<NodeCommand>),
    /// See and place the rooms of a fleet, through its control
    Room(Operate<RoomCommand>),
    /// Register ICE sessions of SFUs that are not ours, through control
    Session(Operate<SessionCommand>),
    /// See how a fleet writes its IDs and rotate their keys, through its control
    Routing(Operate<RoutingCommand>),
}

/// The control that is meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct At {
    /// Where the control is
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "ONEVIP_CONTROL",
        default_value = "http://127.0.0.1:8000"
    )]
    pub(crate) control: String,

    /// What it must be told to change something
    #[arg(long, global = true, value_name = "TOKEN", env = "ONEVIP_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,

    /// The same, in a file
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,

    /// PEM file of the authority that its certificate is from; by default the system's
    #[arg(long, global = true, value_name = "FILE", env = "ONEVIP_CA")]
    pub(crate) ca: Option<PathBuf>,
}

/// What is asked of a control.
#[derive(Debug, Args)]
pub(crate) struct Operate<C: Subcommand> {
    #[command(subcommand)]
    pub(crate) command: C,

    #[command(flatten)]
    pub(crate) at: At,
}

#[derive(Debug, Args)]
pub(crate) struct Lb {
    #[command(subcommand)]
    pub(crate) command: Option<LbCommand>,

    #[command(flatten)]
    pub(crate) at: At,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LbCommand {
    /// All LBs: where they send from, what they have applied, whom they cannot reach
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// All nodes, and what they are to the fleet
    List,
    /// Let a node take nothing new, and wait until it is empty
    ///
    /// It keeps its sessions. Progress goes to stderr; the node stays drained, also when this is
    /// interrupted or the node comes back.
    Drain {
        /// Its name
        id: String,
        /// Say so and be done, whatever it still has
        #[arg(long)]
        no_wait: bool,
        /// Give up waiting after so many seconds, with exit 1
        #[arg(long, value_name = "SECONDS", conflicts_with = "no_wait")]
        timeout: Option<u64>,
    },
    /// Let a node take new sessions again
    Undrain {
        /// Its name
        id: String,
    },
    /// Forget a node whose lease has ended
    Remove {
        /// Its name
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoomCommand {
    /// All rooms, and where they are
    List,
    /// Where a room is
    Show {
        /// Its name
        room: String,
    },
    /// Place a room, if it is not placed yet
    Place {
        /// Its name
        room: String,
        /// Only on nodes of this pool
        #[arg(long, value_name = "NAME", default_value = "")]
        pool: String,
        /// On nodes of this region before all others
        #[arg(long, value_name = "NAME", default_value = "")]
        region: String,
    },
    /// End a room
    Remove {
        /// Its name
        room: String,
        /// Only if its home has not changed since
        #[arg(long, value_name = "N")]
        epoch: Option<u64>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// All registered sessions
    List,
    /// Register a session, by its SDP or by its ufrag
    ///
    /// With an SDP, that with the VIP's candidates is printed, for the client.
    Add(AddSession),
    /// Forget a session
    Remove {
        /// The SFU's ufrag
        ufrag: String,
        /// The client's ufrag it was registered with
        #[arg(long, value_name = "UFRAG")]
        client_ufrag: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddSession {
    /// The SFU
    #[arg(long, value_name = "NODE")]
    pub(crate) node: String,
    /// The SFU's offer or answer, in a file; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "ufrag", required_unless_present = "ufrag")]
    pub(crate) sdp: Option<PathBuf>,
    /// The SFU's ufrag
    #[arg(long, value_name = "UFRAG")]
    pub(crate) ufrag: Option<String>,
    /// The client's ufrag, where equal ones of the SFU's must be told apart
    #[arg(long, value_name = "UFRAG")]
    pub(crate) client_ufrag: Option<String>,
    /// The session's own address, inside the node's prefix
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) address: Option<SocketAddr>,
    /// The room that it is of, for whoever looks
    #[arg(long, value_name = "ROOM")]
    pub(crate) room: Option<String>,
    /// Who it is there, for whoever looks
    #[arg(long, value_name = "NAME")]
    pub(crate) participant: Option<String>,
    /// How long it is known, in seconds [default: a day]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ttl: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoutingCommand {
    /// The routing configurations without their keys, who has applied and who uses them
    Show,
    /// Rotate keys: publish a new configuration, which nodes issue by when every LB has applied it
    ///
    /// The steps behind it are taken by control. The former configuration is kept while anything uses it.
    Rotate {
        /// Print what happens, until all nodes issue by the new configuration
        #[arg(long)]
        wait: bool,
        /// The same, until the former configuration is gone: WebRTC sessions may use it for hours
        #[arg(long)]
        until_removed: bool,
        /// Give up waiting after so many seconds, with exit 1; the rotation goes on
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// Take back a configuration that is only published
    Abort,
}

/// What keeps a demo's fleet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Store {
    Memory,
    Etcd,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// End after the closing table: 0 if every session moved and was found again, and nothing was
    /// lost or reached a wrong node; else 1, and why
    #[arg(long)]
    pub(crate) headless: bool,

    /// How long clients move about, at least: each session moves once
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(crate) seconds: u64,

    /// How many SFU nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=26))]
    pub(crate) nodes: u8,

    /// Rotate the keys of routing IDs so many times meanwhile
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) rotate: u8,

    /// What keeps the fleet; for `etcd`, a cluster of three members is started
    #[arg(long, value_name = "STORE", default_value = "memory")]
    pub(crate) store: Store,

    /// Kill every etcd member half-way: those who are there must not notice
    #[arg(long)]
    pub(crate) kill_store: bool,

    /// The VIP
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:4433", value_parser = vip)]
    pub(crate) vip: SocketAddr,
}

/// Clients are told the VIP, so it must be an address.
fn vip(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| format!("{text:?} is not ADDR:PORT"))?;
    if address.ip().is_unspecified() {
        return Err("clients are told this address, so it cannot be a wildcard".to_owned());
    }
    Ok(address)
}

#[derive(Debug, Subcommand)]
pub(crate) enum IdCommand {
    /// Write one routing ID in every carrier: connection ID, ufrag and SNI label
    Encode(Encode),
    /// Read a routing ID from a carrier; exit 1 if it is none of ours
    Decode(Decode),
}

#[derive(Debug, Args)]
pub(crate) struct Encode {
    /// Configuration number, 0 to 6
    #[arg(long, value_name = "N")]
    pub(crate) config_id: u8,

    /// The node's server ID
    #[arg(long, value_name = "HEX")]
    pub(crate) server_id: String,

    /// What makes the ID unique [default: random]
    #[arg(long, value_name = "HEX")]
    pub(crate) nonce: Option<String>,

    /// Length of a random nonce in bytes [default: 12, or what fits]
    #[arg(long, value_name = "N", conflicts_with = "nonce")]
    pub(crate) nonce_len: Option<usize>,

    /// AES-128 key [default: the ID is not encrypted]
    #[arg(long, value_name = "HEX")]
    pub(crate) key: Option<String>,

    /// Also derive the ICE password, with this key of 32 bytes
    #[arg(long, value_name = "HEX")]
    pub(crate) ice_key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Decode {
    /// What the value is
    #[arg(long = "as", value_name = "CARRIER")]
    pub(crate) carrier: Carrier,

    /// A connection ID in hex, a ufrag, or an SNI label or host name
    pub(crate) value: String,

    /// Take the routing configurations and nodes from this fleet file
    #[arg(long, value_name = "FILE")]
    pub(crate) fleet: Option<PathBuf>,

    /// Configuration number, 0 to 6
    #[arg(long, value_name = "N", conflicts_with = "fleet", required_unless_present = "fleet")]
    pub(crate) config_id: Option<u8>,

    /// Length of server IDs in bytes
    #[arg(long, value_name = "N", conflicts_with = "fleet", required_unless_present = "fleet")]
    pub(crate) server_id_len: Option<usize>,

    /// Length of nonces in bytes
    #[arg(long, value_name = "N", conflicts_with = "fleet", required_unless_present = "fleet")]
    pub(crate) nonce_len: Option<usize>,

    /// AES-128 key [default: the ID is not encrypted]
    #[arg(long, value_name = "HEX", conflicts_with = "fleet")]
    pub(crate) key: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Carrier {
    Cid,
    Ufrag,
    Label,
}
