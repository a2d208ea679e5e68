//! What is read from an SFU's SDP, and what the VIP puts into it.

use std::{io::Cursor, net::SocketAddr};

use sdp::{
    SessionDescription,
    description::{common::Attribute, media::MediaDescription},
};

const CANDIDATE: &str = "candidate";
const END: &str = "end-of-candidates";

/// The port where nobody listens (RFC 863).
pub(crate) const DISCARD: u16 = 9;

/// An SFU's answer, with what the LB must know of it.
pub(crate) struct Answer {
    /// The SFU's ufrag.
    pub(crate) ufrag: String,
    /// Where it listens for this session.
    pub(crate) address: SocketAddr,
    /// The answer with the VIP as its only candidate.
    pub(crate) sdp: String,
}

impl Answer {
    /// Reads an answer whose media are bundled.
    pub(crate) fn read(text: &str, vip: SocketAddr) -> Result<Self, String> {
        let mut answer = parse(text)?;
        let media = answer.media_descriptions.first().ok_or("the answer has no media")?;
        let ufrag = media
            .attribute("ice-ufrag")
            .flatten()
            .or(answer.attribute("ice-ufrag").map(String::as_str));
        let ufrag = ufrag.ok_or("the answer has no ufrag")?.to_owned();
        let candidate = |attribute: &Attribute| address(attribute.value.as_deref()?);
        let address = media
            .attributes
            .iter()
            .filter(|attribute| attribute.key == CANDIDATE)
            .find_map(candidate);
        let address = address.ok_or_else(|| format!("the answer has no UDP candidate: {text}"))?;
        answer.media_descriptions.iter_mut().for_each(|media| only_candidate(media, vip));
        Ok(Self { ufrag, address, sdp: answer.marshal() })
    }
}

/// A client's offer as it leaves a browser: its only candidate leads nowhere, as the mDNS names do
/// that browsers give away. An SFU learns from the checks where the client is. Without any candidate
/// Janus would not begin.
pub(crate) fn from_nowhere(text: &str) -> Result<String, String> {
    let mut offer = parse(text)?;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], DISCARD));
    offer.media_descriptions.iter_mut().for_each(|media| only_candidate(media, nowhere));
    Ok(offer.marshal())
}

fn parse(text: &str) -> Result<SessionDescription, String> {
    SessionDescription::unmarshal(&mut Cursor::new(text))
        .map_err(|error| format!("{error}: {text}"))
}

fn only_candidate(media: &mut MediaDescription, address: SocketAddr) {
    media.attributes.retain(|attribute| !matches!(attribute.key.as_str(), CANDIDATE | END));
    let (ip, port) = (address.ip(), address.port());
    let value = format!("1 1 udp 2130706431 {ip} {port} typ host");
    media.attributes.push(Attribute::new(CANDIDATE.to_owned(), Some(value)));
    media.attributes.push(Attribute::new(END.to_owned(), None));
}

/// The address of a UDP candidate, which has the fields of RFC 8839 section 5.1.
fn address(candidate: &str) -> Option<SocketAddr> {
    let mut fields = candidate.split(' ').skip(2);
    fields.next().filter(|transport| transport.eq_ignore_ascii_case("udp"))?;
    let mut fields = fields.skip(1);
    Some(SocketAddr::new(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
