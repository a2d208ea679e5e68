//! Offers and answers: str0m negotiates, this takes out of offers what is not served, and corrects
//! what answers say about ICE.

use std::{io::Cursor, net::SocketAddr};

use sdp::{
    SessionDescription,
    description::{common::Attribute, media::MediaDescription},
};
use str0m::{
    Candidate, IceCreds, Rtc,
    change::SdpOffer,
    media::{MediaKind, Mid},
};
use tracing::error;

/// Longest offer, in bytes: twenty tracks with all their codecs take about 42,000.
const OFFER_MAX: usize = 256 * 1024;

/// Media lines of one session. An offer repeats all that its session ever had, so this bounds both.
const LINES_MAX: usize = 256;

/// Attributes that are taken out of an offer:
///
/// - `candidate`: an ICE-lite agent sends no checks. Where a client is, its own checks say, and
///   str0m would keep a pair for every address that an offer makes up.
/// - `rid`, `simulcast` and the older `ssrc-group:SIM`: there is no choice of a layer yet. A client
///   whose answer has no simulcast sends one layer (RFC 8853, section 5.3.2).
fn is_served(attribute: &Attribute) -> bool {
    match attribute.key.as_str() {
        "candidate" | "rid" | "simulcast" => false,
        "ssrc-group" => !attribute.value.as_ref().is_some_and(|group| group.starts_with("SIM ")),
        _ => true,
    }
}

/// What a client may do in its room. Its media lines are answered accordingly.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Sends, and receives what the others send.
    Participant,
    /// The same, and it gets back what it sends.
    Mirrored,
    /// Sends (WHIP, RFC 9725).
    Publisher,
    /// Receives (WHEP).
    Player,
}

impl Role {
    /// What is left of a media line's direction, as the client sees it.
    fn narrow(self, direction: &str) -> &'static str {
        let (sends, receives) = match direction {
            "sendonly" => (true, false),
            "recvonly" => (false, true),
            "inactive" => (false, false),
            _ => (true, true),
        };
        match (sends && self != Self::Player, receives && self != Self::Publisher) {
            (true, true) => "sendrecv",
            (true, false) => "sendonly",
            (false, true) => "recvonly",
            (false, false) => "inactive",
        }
    }
}

/// An offer that gets no answer, and why.
#[derive(Debug, thiserror::Error)]
#[error("the offer cannot be answered: {0}")]
pub struct InvalidOffer(pub(super) String);

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) sdp: String,
    /// The credentials that the offer has.
    pub(super) remote: IceCreds,
    /// Those that the session has from now on, if the offer restarted ICE.
    pub(super) restarted: Option<IceCreds>,
    /// The media line that others are bundled with.
    pub(super) first: Option<(Mid, MediaKind)>,
}

/// Answers an offer, as far as `role` goes. If it restarts ICE, the answer carries the credentials that
/// `fresh` gives. The client is told `candidates`, whatever str0m takes for its addresses.
///
/// str0m makes up random credentials when an offer restarts ICE, and nothing can be put in their
/// place before; so they are replaced behind its back, before anything was sent with them, and in
/// the answer. When there is no answer, the former credentials are put back: a restart that failed
/// half-way leaves random ones, too. Media lines that stand in front of a wrong one may have been
/// changed by then.
pub(super) fn answer(
    rtc: &mut Rtc,
    former: Option<&IceCreds>,
    offer: &str,
    role: Role,
    candidates: &[SocketAddr],
    fresh: impl FnOnce() -> IceCreds,
) -> Result<Answer, InvalidOffer> {
    let invalid = |problem: &dyn std::fmt::Display| InvalidOffer(problem.to_string());
    if offer.len() > OFFER_MAX {
        return Err(invalid(&format_args!("it is longer than {OFFER_MAX} bytes")));
    }
    let mut description = parse(offer)?;
    let lines = description.media_descriptions.len();
    if lines > LINES_MAX {
        return Err(invalid(&format_args!("it has {lines} media lines, more than {LINES_MAX}")));
    }
    let remote = remote_credentials(&description)?;
    let first = first(&description);
    let served = SdpOffer::from_sdp_string(&served(&mut description, role))
        .map_err(|error| invalid(&error))?;
    let before = rtc.direct_api().local_ice_credentials();
    let accepted = rtc.sdp_api().accept_offer(served);
    let restarted = rtc.direct_api().local_ice_credentials() != before;
    let ours = if restarted { fresh() } else { before.clone() };
    let answer = accepted
        .map_err(|error| invalid(&error))
        .and_then(|answer| with_ice(&answer.to_sdp_string(), &ours, candidates));
    let mut api = rtc.direct_api();
    match answer {
        Ok(sdp) => {
            if restarted {
                api.set_local_ice_credentials(ours.clone());
            }
            Ok(Answer { sdp, remote, restarted: restarted.then_some(ours), first })
        }
        Err(problem) => {
            api.set_local_ice_credentials(before);
            if let Some(former) = former {
                api.set_remote_ice_credentials(former.clone());
            }
            Err(problem)
        }
    }
}

fn parse(text: &str) -> Result<SessionDescription, InvalidOffer> {
    SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
        .map_err(|error| InvalidOffer(error.to_string()))
}

/// The offer without what is not served, and with media lines that go where the client's role allows.
fn served(description: &mut SessionDescription, role: Role) -> String {
    description.attributes.retain(is_served);
    // A direction in the session is that of every line without one (RFC 8866, section 6.7).
    let general = direction(&description.attributes).unwrap_or("sendrecv");
    for media in &mut description.media_descriptions {
        media.attributes.retain(is_served);
        if ["audio", "video"].contains(&media.media_name.media.as_str()) {
            let narrowed = role.narrow(direction(&media.attributes).unwrap_or(general));
            media.attributes.retain(|attribute| !is_direction(attribute));
            media.attributes.push(Attribute::new(narrowed.to_owned(), None));
        }
    }
    description.marshal()
}

fn is_direction(attribute: &Attribute) -> bool {
    direction(std::slice::from_ref(attribute)).is_some()
}

/// The direction that is among these attributes.
fn direction(attributes: &[Attribute]) -> Option<&'static str> {
    let directions = ["sendrecv", "sendonly", "recvonly", "inactive"];
    attributes
        .iter()
        .find_map(|attribute| directions.into_iter().find(|direction| attribute.key == *direction))
}

/// The first media line of sound or pictures, which bears the candidates.
fn first(description: &SessionDescription) -> Option<(Mid, MediaKind)> {
    description.media_descriptions.iter().find_map(|media| {
        let kind = match media.media_name.media.as_str() {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            _ => return None,
        };
        let mid = media.attributes.iter().find(|attribute| attribute.key == "mid")?;
        Some((mid.value.as_deref()?.into(), kind))
    })
}

/// The credentials that an offer has, in the session or in its first media description.
fn remote_credentials(description: &SessionDescription) -> Result<IceCreds, InvalidOffer> {
    match credentials(description) {
        (Some(ufrag), Some(pass)) => Ok(IceCreds { ufrag, pass }),
        _ => Err(InvalidOffer("it has no ice-ufrag and ice-pwd".to_owned())),
    }
}

/// The first ufrag and password that a description has.
pub(super) fn credentials(description: &SessionDescription) -> (Option<String>, Option<String>) {
    let attributes = description
        .attributes
        .iter()
        .chain(description.media_descriptions.iter().flat_map(|media| &media.attributes));
    let find = |key: &str| attributes.clone().find(|attribute| attribute.key == key)?.value.clone();
    (find("ice-ufrag"), find("ice-pwd"))
}

/// The answer with `credentials` everywhere, and with `candidates` in place of str0m's: those have a
/// ufrag that is not ours after a restart, and are of the time when the session began.
fn with_ice(
    answer: &str,
    ours: &IceCreds,
    candidates: &[SocketAddr],
) -> Result<String, InvalidOffer> {
    let mut description = parse(answer)?;
    write_credentials(&mut description.attributes, ours);
    for MediaDescription { attributes, .. } in &mut description.media_descriptions {
        write_credentials(attributes, ours);
        // In the first of bundled lines only, which is where str0m has put its own.
        if let Some(place) = attributes.iter().position(Attribute::is_ice_candidate) {
            attributes.retain(|attribute| !attribute.is_ice_candidate());
            attributes.splice(place..place, self::candidates(candidates));
        }
    }
    Ok(description.marshal())
}

fn write_credentials(attributes: &mut [Attribute], credentials: &IceCreds) {
    for attribute in attributes {
        let ours = match attribute.key.as_str() {
            "ice-ufrag" => &credentials.ufrag,
            "ice-pwd" => &credentials.pass,
            _ => continue,
        };
        attribute.value = Some(ours.clone());
    }
}

/// Addresses as attributes.
pub(super) fn candidates(addresses: &[SocketAddr]) -> impl Iterator<Item = Attribute> {
    addresses.iter().filter_map(|address| match Candidate::host(*address, "udp") {
        Ok(candidate) => {
            let text = candidate.to_sdp_string();
            let value = text.strip_prefix("candidate:").unwrap_or(&text).to_owned();
            Some(Attribute::new("candidate".to_owned(), Some(value)))
        }
        Err(problem) => {
            error!("{address} cannot be an ICE candidate: {problem}");
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";

    fn served_of(offer: &str, role: Role) -> String {
        served(&mut parse(offer).expect("SDP"), role)
    }

    #[test]
    fn what_is_not_served_is_taken_out_of_an_offer_and_nothing_else() {
        let media = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\nb=AS:300\r\n";
        let offer = format!(
            "{SESSION}a=candidate:1 1 UDP 1 192.0.2.1 9 typ host\r\n{media}a=mid:0\r\n\
             a=rid:h send\r\na=ssrc-group:FID 1 2\r\na=ssrc-group:SIM 1 3\r\n\
             a=simulcast:send h;l\r\na=x:a=rid:\r\na=ssrc:1 cname:c\r\na=sendrecv\r\n"
        );
        let left = format!(
            "{SESSION}{media}a=mid:0\r\na=ssrc-group:FID 1 2\r\na=x:a=rid:\r\n\
             a=ssrc:1 cname:c\r\na=sendrecv\r\n"
        );
        assert_eq!(served_of(&offer, Role::Participant), left);
    }

    #[test]
    fn a_publisher_only_sends_and_a_player_only_receives_whatever_they_offer() {
        let directions = ["sendrecv", "sendonly", "recvonly", "inactive", ""];
        let cases = [
            (Role::Participant, ["sendrecv", "sendonly", "recvonly", "inactive", "recvonly"]),
            (Role::Publisher, ["sendonly", "sendonly", "inactive", "inactive", "inactive"]),
            (Role::Player, ["recvonly", "inactive", "recvonly", "inactive", "recvonly"]),
        ];
        let line = |direction: &&str| match *direction {
            "" => "m=audio 9 UDP/TLS/RTP/SAVPF 96\r\n".to_owned(),
            direction => format!("m=audio 9 UDP/TLS/RTP/SAVPF 96\r\na={direction}\r\n"),
        };
        // What a line without a direction has.
        let session = format!("{SESSION}a=recvonly\r\n");
        let offer: String = directions.iter().map(line).collect();
        for (role, narrowed) in cases {
            let narrowed: String = narrowed.iter().map(line).collect();
            let served = served_of(&format!("{session}{offer}"), role);
            assert_eq!(served, format!("{session}{narrowed}"), "{role:?}");
        }
        let neither = served_of(&format!("{SESSION}{}", line(&"")), Role::Publisher);
        assert!(neither.ends_with("a=sendonly\r\n"), "without any it is sendrecv: {neither}");
        let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n";
        let data = format!("{SESSION}{data}");
        assert_eq!(served_of(&data, Role::Publisher), data);
    }
}
