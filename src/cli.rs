use std::path::PathBuf;

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
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a load balancer in the foreground
    ///
    /// SIGTERM: /readyz turns 503, forwarding goes on for [admin] drain, then exit 0. SIGHUP: the
    /// configuration and the fleet file are read again.
    Lb,
    /// Run an SFU node in the foreground
    ///
    /// SIGTERM: /readyz turns 503, sessions go on for [admin] drain, then exit 0. SIGHUP: the
    /// configuration and the fleet file are read again.
    Sfu,
    /// Validate a configuration file, and the fleet file it names, and say what it would do
    Check,
    /// Write and read routing IDs
    #[command(subcommand)]
    Id(IdCommand),
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
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "fleet",
        required_unless_present = "fleet"
    )]
    pub(crate) config_id: Option<u8>,

    /// Length of server IDs in bytes
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "fleet",
        required_unless_present = "fleet"
    )]
    pub(crate) server_id_len: Option<usize>,

    /// Length of nonces in bytes
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "fleet",
        required_unless_present = "fleet"
    )]
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
