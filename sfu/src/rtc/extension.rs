use std::sync::Arc;

use str0m::rtp::{ExtensionSerializer, ExtensionValues};

/// Says in each forwarded RTP packet which node forwarded it, to clients that offer the extension.
pub const NODE_EXTENSION_URI: &str = "urn:onevip:node";

/// The local number of the extension; what is sent bears the number of the client's offer.
pub const NODE_EXTENSION_ID: u8 = 12;

/// Longest value of a one-byte-form extension (RFC 8285, section 4.2), in bytes.
const VALUE_MAX: usize = 16;

/// The value: a node's name, cut to 16 bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeName(pub Arc<str>);

/// Reads and writes the extension.
#[derive(Debug)]
pub struct NodeNameSerializer;

impl ExtensionSerializer for NodeNameSerializer {
    fn write_to(&self, out: &mut [u8], values: &ExtensionValues) -> usize {
        let Some(NodeName(name)) = values.user_values.get::<NodeName>() else {
            return 0;
        };
        let name = name.as_bytes().get(..name.len().min(VALUE_MAX)).unwrap_or_default();
        match out.get_mut(..name.len()) {
            Some(room) => {
                room.copy_from_slice(name);
                name.len()
            }
            None => 0,
        }
    }

    fn parse_value(&self, value: &[u8], values: &mut ExtensionValues) -> bool {
        let Ok(name) = str::from_utf8(value) else {
            return false;
        };
        values.user_values.set(NodeName(name.into()));
        true
    }

    fn is_audio(&self) -> bool {
        true
    }

    fn is_video(&self) -> bool {
        true
    }
}
