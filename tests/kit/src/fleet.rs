//! The text of a fleet file.

use std::{
    fmt::{self, Write},
    net::SocketAddr,
};

use crate::Routing;

/// A fleet file being put together. Its [`Display`](fmt::Display) is the file.
#[derive(Clone, Debug, Default)]
pub struct FleetText {
    routing: Vec<Routing>,
    nodes: Vec<Node>,
    sessions: Vec<Session>,
    without_hash_key: bool,
}

impl FleetText {
    /// A fleet that writes its IDs in these ways.
    #[must_use]
    pub fn new(routing: &[Routing]) -> Self {
        Self { routing: routing.to_vec(), ..Self::default() }
    }

    /// With one more node.
    #[must_use]
    pub fn node(mut self, node: Node) -> Self {
        self.nodes.push(node);
        self
    }

    /// With one more session.
    #[must_use]
    pub fn session(mut self, session: Session) -> Self {
        self.sessions.push(session);
        self
    }

    /// Without `hash_key`: no node may serve QUIC then.
    #[must_use]
    pub const fn without_hash_key(mut self) -> Self {
        self.without_hash_key = true;
        self
    }
}

/// A `[[node]]`: serving both protocols unless told otherwise.
#[derive(Clone, Debug)]
pub struct Node {
    id: String,
    address: SocketAddr,
    more: String,
}

impl Node {
    /// A node without a server ID.
    #[must_use]
    pub fn new(id: &str, address: SocketAddr) -> Self {
        Self { id: id.to_owned(), address, more: String::new() }
    }

    /// With this server ID.
    #[must_use]
    pub fn server_id(self, server_id: &[u8]) -> Self {
        let hex = server_id.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes all");
            hex
        });
        self.key("server_id", format_args!("{hex:?}"))
    }

    /// In this state: `serving`, `draining` or `down`.
    #[must_use]
    pub fn state(self, state: &str) -> Self {
        self.key("state", format_args!("{state:?}"))
    }

    /// Reached in this way: `tunnel` or `nat`.
    #[must_use]
    pub fn forward(self, forward: &str) -> Self {
        self.key("forward", format_args!("{forward:?}"))
    }

    /// Serving these protocols only: `ice`, `quic`.
    #[must_use]
    pub fn serves(self, protocols: &[&str]) -> Self {
        self.key("serves", format_args!("{protocols:?}"))
    }

    /// With this share of new connections.
    #[must_use]
    pub fn weight(self, weight: u32) -> Self {
        self.key("weight", format_args!("{weight}"))
    }

    /// With sessions at addresses of these networks.
    #[must_use]
    pub fn prefix(self, networks: &[&str]) -> Self {
        self.key("prefix", format_args!("{networks:?}"))
    }

    fn key(mut self, name: &str, value: fmt::Arguments<'_>) -> Self {
        writeln!(self.more, "{name} = {value}").expect("a string takes all");
        self
    }
}

/// A `[[session]]`.
#[derive(Clone, Debug)]
pub struct Session {
    ufrag: String,
    node: String,
    client_ufrag: Option<String>,
    address: Option<SocketAddr>,
}

impl Session {
    /// A session of a node.
    #[must_use]
    pub fn new(ufrag: &str, node: &str) -> Self {
        Self { ufrag: ufrag.to_owned(), node: node.to_owned(), client_ufrag: None, address: None }
    }

    /// Told from others with the same ufrag by the client's.
    #[must_use]
    pub fn client_ufrag(mut self, ufrag: &str) -> Self {
        self.client_ufrag = Some(ufrag.to_owned());
        self
    }

    /// At an address of its own.
    #[must_use]
    pub const fn address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }
}

impl fmt::Display for FleetText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.without_hash_key {
            writeln!(f, "hash_key = \"00112233445566778899aabbccddeeff\"")?;
        }
        self.routing.iter().try_for_each(|part| part.fmt(f))?;
        self.nodes.iter().try_for_each(|part| part.fmt(f))?;
        self.sessions.iter().try_for_each(|part| part.fmt(f))
    }
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[routing]]\nconfig = {}", self.config)?;
        writeln!(f, "server_id_len = {}", self.server_id_len)?;
        writeln!(f, "nonce_len = {}", self.nonce_len)?;
        let keys: [(&str, Option<&[u8]>); 2] = [
            ("key", self.key.as_ref().map(<[u8; 16]>::as_slice)),
            ("ice_key", self.ice_key.as_ref().map(<[u8; 32]>::as_slice)),
        ];
        for (name, key) in keys {
            if let Some(key) = key {
                write!(f, "{name} = \"")?;
                key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                writeln!(f, "\"")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, address, more } = self;
        write!(f, "[[node]]\nid = {id:?}\naddress = \"{address}\"\n{more}")
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[session]]\nufrag = {:?}", self.ufrag)?;
        writeln!(f, "node = {:?}", self.node)?;
        if let Some(ufrag) = &self.client_ufrag {
            writeln!(f, "client_ufrag = {ufrag:?}")?;
        }
        if let Some(address) = self.address {
            writeln!(f, "address = \"{address}\"")?;
        }
        Ok(())
    }
}
