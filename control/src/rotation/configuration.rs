use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fleet::Phase;

/// How many routing configurations there can be: 0 to 6.
pub const CONFIGS: u8 = 7;

/// One of the routing configurations as the store has it: the `[[routing]]` of a fleet file.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Its number.
    pub config: u8,
    /// Bytes of a server ID.
    #[serde(default = "four")]
    pub server_id_len: usize,
    /// Bytes of a nonce.
    #[serde(default = "twelve")]
    pub nonce_len: usize,
    /// Hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice_key: Option<String>,
    /// Absent: issuing, and never part of a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The revision in which the phase began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

const fn four() -> usize {
    4
}

const fn twelve() -> usize {
    12
}

impl Configuration {
    /// Where it is in a rotation.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase.unwrap_or_default()
    }

    /// The revision in which its phase began; 0 for one that was there from the beginning.
    #[must_use]
    pub fn since(&self) -> u64 {
        self.since.unwrap_or_default()
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There are keys in it.
        write!(f, "Configuration({} {:?} since {:?}, …)", self.config, self.phase, self.since)
    }
}
