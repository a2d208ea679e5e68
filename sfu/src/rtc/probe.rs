use std::net::SocketAddr;

use bytecodec::EncodeExt;
use stun_codec::{
    Message, MessageClass, MessageEncoder, TransactionId,
    rfc5389::{Attribute, attributes::XorMappedAddress, methods::BINDING},
};
use wire::stun;

/// The success that answers a Binding request without USERNAME: the node is alive.
pub(super) fn success(request: &stun::Message<'_>, client: SocketAddr) -> Option<Vec<u8>> {
    let transaction = TransactionId::new(request.transaction_id().0);
    let mut message =
        Message::<Attribute>::new(MessageClass::SuccessResponse, BINDING, transaction);
    message.add_attribute(XorMappedAddress::new(client));
    MessageEncoder::new().encode_into_bytes(message).ok()
}
