use std::{fmt::Write, net::SocketAddr, path::Path};

use control::{
    fleet::{Fleet, State},
    hex,
};

use super::SystemError;

/// The fleet, as it would stand in a file.
#[derive(Clone)]
pub(super) struct FleetText {
    pub(super) hash_key: [u8; 16],
    pub(super) key: [u8; 16],
    pub(super) ice_key: Option<[u8; 32]>,
    pub(super) nodes: Vec<(String, SocketAddr, State)>,
}

impl FleetText {
    fn render(&self) -> String {
        let mut text = format!(
            "hash_key = \"{}\"\n[[routing]]\nconfig = 0\nkey = \"{}\"\n",
            hex::encode(&self.hash_key),
            hex::encode(&self.key)
        );
        if let Some(ice_key) = &self.ice_key {
            let _ = writeln!(text, "ice_key = \"{}\"", hex::encode(ice_key));
        }
        for (index, (name, address, state)) in self.nodes.iter().enumerate() {
            let state = match state {
                State::Serving => "serving",
                State::Draining => "draining",
                State::Down => "down",
            };
            let _ = writeln!(
                text,
                "[[node]]\nid = \"{name}\"\nserver_id = \"{:08x}\"\naddress = \"{address}\"\n\
                 state = \"{state}\"",
                index + 10
            );
        }
        text
    }

    pub(super) fn parse(&self) -> Result<Fleet, SystemError> {
        Fleet::parse(Path::new("fleet.toml"), &self.render())
            .map(|(fleet, _)| fleet)
            .map_err(|error| SystemError::Fleet(error.to_string()))
    }
}
