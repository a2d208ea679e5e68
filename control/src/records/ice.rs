//! What stands in a store of an ICE session.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::fleet::NodeId;

/// An ICE session of a foreign SFU.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The SFU's user fragment.
    pub ufrag: String,
    /// The node.
    pub node: NodeId,
    /// The client's user fragment, where it tells sessions apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ufrag: Option<String>,
    /// The session's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// The room that it is of, and who it is there, for whoever looks: nothing is decided by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// See `room`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant: Option<String>,
    /// The SFU's own candidates, as its SDP said them: UDP, component 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<SocketAddr>,
}

impl Session {
    /// What LBs decide by: the `[[session]]` of a fleet file.
    pub(crate) fn spec(&self) -> Value {
        let mut spec = json!({ "ufrag": self.ufrag, "node": self.node });
        if let Some(client_ufrag) = &self.client_ufrag {
            spec["client_ufrag"] = json!(client_ufrag);
        }
        if let Some(address) = self.address {
            spec["address"] = json!(address);
        }
        spec
    }
}
