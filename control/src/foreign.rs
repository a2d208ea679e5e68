//! SDP of SFUs that are not ours: what it says about ICE, and the same with the VIP's addresses.

use std::{io::Cursor, net::SocketAddr};

use sdp::{
    SessionDescription,
    description::{
        common::{Address, Attribute, ConnectionInformation},
        media::RangedPort,
    },
};

/// Longest description, in bytes.
pub const SDP_MAX: usize = 256 * 1024;

/// Most media descriptions.
const MEDIA_MAX: usize = 256;

/// What one media description says about ICE.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IceSession {
    /// The SFU's user fragment.
    pub ufrag: String,
    /// Its UDP candidates of component 1, in their order; those behind names are left out.
    pub candidates: Vec<SocketAddr>,
}

/// Why a description cannot be used, in one sentence.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("sdp: {0}")]
pub struct InvalidSdp(String);

/// Reads a description.
///
/// # Errors
/// [`InvalidSdp`].
pub fn parse(text: &str) -> Result<SessionDescription, InvalidSdp> {
    if text.len() > SDP_MAX {
        return Err(InvalidSdp(format!("it is longer than {SDP_MAX} bytes")));
    }
    let description = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
        .map_err(|error| InvalidSdp(error.to_string()))?;
    match description.media_descriptions.len() {
        0 => Err(InvalidSdp("it has no media description".to_owned())),
        1..=MEDIA_MAX => Ok(description),
        more => Err(InvalidSdp(format!("it has {more} media descriptions, more than {MEDIA_MAX}"))),
    }
}

/// The ICE sessions of a description, each user fragment once.
///
/// # Errors
/// [`InvalidSdp`] where a media description has no user fragment.
pub fn ice_sessions(description: &SessionDescription) -> Result<Vec<IceSession>, InvalidSdp> {
    let find = |attributes: &[Attribute]| {
        let found = attributes.iter().find(|attribute| attribute.key == "ice-ufrag");
        found.and_then(|attribute| attribute.value.clone())
    };
    let common = find(&description.attributes);
    let mut sessions: Vec<IceSession> = Vec::new();
    for media in &description.media_descriptions {
        let Some(ufrag) = find(&media.attributes).or_else(|| common.clone()) else {
            return Err(InvalidSdp("it has no ice-ufrag".to_owned()));
        };
        let candidates = media.attributes.iter().filter(|attribute| attribute.key == "candidate");
        let candidates = candidates.filter_map(|attribute| candidate(attribute.value.as_deref()?));
        match sessions.iter_mut().find(|session| session.ufrag == ufrag) {
            Some(session) => session.candidates.extend(candidates),
            None => sessions.push(IceSession { ufrag, candidates: candidates.collect() }),
        }
    }
    Ok(sessions)
}

/// The address of a UDP candidate of component 1 (RFC 8839, section 5.1):
/// `foundation component transport priority address port …`.
fn candidate(value: &str) -> Option<SocketAddr> {
    let mut fields = value.split_ascii_whitespace();
    let (component, transport) = (fields.nth(1)?, fields.next()?);
    let (address, port) = (fields.nth(1)?, fields.next()?);
    (component == "1" && transport.eq_ignore_ascii_case("udp"))
        .then(|| Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?)))
        .flatten()
}

/// The description with no other candidates than `vip`, and no other address in it.
#[must_use]
pub fn with_candidates(mut description: SessionDescription, vip: &[SocketAddr]) -> String {
    let is_ice = |key: &str| key == "candidate" || key == "end-of-candidates";
    description.attributes.retain(|attribute| !is_ice(&attribute.key));
    let first = vip.first();
    description.connection_information = None;
    for media in &mut description.media_descriptions {
        media.attributes.retain(|attribute| !is_ice(&attribute.key) && attribute.key != "rtcp");
        // A line that was refused stays so.
        if media.media_name.port.value != 0
            && let Some(first) = first
        {
            media.media_name.port =
                RangedPort { value: isize::try_from(first.port()).unwrap_or(9), range: None };
        }
        media.connection_information = first.map(|first| ConnectionInformation {
            network_type: "IN".to_owned(),
            address_type: if first.is_ipv4() { "IP4" } else { "IP6" }.to_owned(),
            address: Some(Address { address: first.ip().to_string(), ttl: None, range: None }),
        });
        for (index, address) in vip.iter().enumerate() {
            // RFC 8445, section 5.1.2: host candidates of one component, those said first preferred.
            let preference = 65_535 - u32::try_from(index).unwrap_or(u32::MAX).min(65_535);
            let priority = (126 << 24) | (preference << 8) | 255;
            let (ip, port) = (address.ip(), address.port());
            let value = format!("{} 1 udp {priority} {ip} {port} typ host", index + 1);
            media.attributes.push(Attribute::new("candidate".to_owned(), Some(value)));
        }
        media.attributes.push(Attribute::new("end-of-candidates".to_owned(), None));
    }
    description.marshal()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\n\
        a=group:BUNDLE 0\r\nm=audio 20002 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 10.0.0.9\r\n\
        a=mid:0\r\na=ice-ufrag:aB+/\r\na=ice-pwd:0123456789012345678901\r\n\
        a=candidate:1 1 udp 2015363327 10.0.0.9 20002 typ host\r\n\
        a=candidate:2 1 tcp 2015363327 10.0.0.9 9 typ host\r\n\
        a=candidate:3 2 UDP 1 10.0.0.9 20003 typ host\r\n\
        a=candidate:4 1 UDP 1 x.local 20003 typ host\r\na=end-of-candidates\r\n";

    #[test]
    fn of_a_description_only_udp_candidates_of_component_1_count() {
        let description = parse(ANSWER).expect("it is valid");
        let sessions = ice_sessions(&description).expect("it has one");
        let address = "10.0.0.9:20002".parse().expect("an address");
        assert_eq!(sessions, [IceSession { ufrag: "aB+/".to_owned(), candidates: vec![address] }]);
    }

    #[test]
    fn a_client_is_told_the_vip_and_nothing_of_the_sfus_own_addresses() {
        let vip = ["203.0.113.1:4433", "[2001:db8::1]:4433"].map(|a| a.parse().expect("one"));
        let text = with_candidates(parse(ANSWER).expect("it is valid"), &vip);
        let of_media = text.split_once("m=").expect("a media line").1;
        assert!(!of_media.contains("10.0.0.9"), "{text}");
        assert!(text.contains("m=audio 4433 "), "{text}");
        let again = ice_sessions(&parse(&text).expect("it still is valid")).expect("one");
        assert_eq!(again[0].candidates, vip);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        let said = |text: &str| parse(text).map(drop).expect_err("refused").to_string();
        assert!(said("hello").starts_with("sdp: "), "{}", said("hello"));
        let none = said("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n");
        assert_eq!(none, "sdp: it has no media description");
        let mute = parse(&ANSWER.replace("a=ice-ufrag:aB+/\r\n", "")).expect("it is SDP");
        let problem = ice_sessions(&mute).expect_err("it says nothing of ICE").to_string();
        assert_eq!(problem, "sdp: it has no ice-ufrag");
    }
}
