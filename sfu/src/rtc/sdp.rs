//! Offers and answers: str0m negotiates, this corrects what its answers say about ICE.

use std::io::Cursor;

use sdp::SessionDescription;
use str0m::{IceCreds, Rtc, change::SdpOffer};

/// Longest offer, in bytes: twenty tracks with all their codecs take about 42,000.
const OFFER_MAX: usize = 256 * 1024;

/// An offer that gets no answer, and why.
#[derive(Debug, thiserror::Error)]
#[error("the offer cannot be answered: {0}")]
pub struct InvalidOffer(String);

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) sdp: String,
    /// The ufrag that the session has from now on, if the offer restarted ICE.
    pub(super) new_ufrag: Option<String>,
}

/// Answers an offer. If it restarts ICE, the answer carries the credentials that `fresh` gives.
///
/// str0m makes up random credentials when an offer restarts ICE, and nothing can be put in their
/// place before; so they are replaced behind its back, before anything was sent with them, and in
/// the answer. A restart that fails half-way leaves random credentials too, and is undone.
pub(super) fn answer(
    rtc: &mut Rtc,
    remote: &mut Option<IceCreds>,
    offer: &str,
    fresh: impl FnOnce() -> IceCreds,
) -> Result<Answer, InvalidOffer> {
    let invalid = |problem: &dyn std::fmt::Display| InvalidOffer(problem.to_string());
    if offer.len() > OFFER_MAX {
        return Err(invalid(&format_args!("it is longer than {OFFER_MAX} bytes")));
    }
    let theirs = remote_credentials(offer)?;
    let parsed = SdpOffer::from_sdp_string(offer).map_err(|error| invalid(&error))?;
    let before = rtc.direct_api().local_ice_credentials();
    let accepted = rtc.sdp_api().accept_offer(parsed);
    let minted = rtc.direct_api().local_ice_credentials();
    let restarted = minted != before;
    match accepted {
        Ok(answer) => {
            let ours = if restarted { fresh() } else { before };
            let new_ufrag = restarted.then(|| ours.ufrag.clone());
            if restarted {
                rtc.direct_api().set_local_ice_credentials(ours.clone());
            }
            *remote = Some(theirs);
            Ok(Answer { sdp: with_credentials(&answer.to_sdp_string(), &ours)?, new_ufrag })
        }
        Err(error) => {
            rtc.direct_api().set_local_ice_credentials(before);
            if let Some(remote) = remote {
                rtc.direct_api().set_remote_ice_credentials(remote.clone());
            }
            Err(invalid(&error))
        }
    }
}

fn parse(text: &str) -> Result<SessionDescription, InvalidOffer> {
    SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
        .map_err(|error| InvalidOffer(error.to_string()))
}

/// The credentials that an offer has, in the session or in its first media description.
fn remote_credentials(offer: &str) -> Result<IceCreds, InvalidOffer> {
    let description = parse(offer)?;
    let attributes = description
        .attributes
        .iter()
        .chain(description.media_descriptions.iter().flat_map(|media| &media.attributes));
    let find = |key: &str| attributes.clone().find(|attribute| attribute.key == key)?.value.clone();
    match (find("ice-ufrag"), find("ice-pwd")) {
        (Some(ufrag), Some(pass)) => Ok(IceCreds { ufrag, pass }),
        _ => Err(InvalidOffer("it has no ice-ufrag and ice-pwd".to_owned())),
    }
}

/// The answer with `credentials` everywhere. Candidates name a ufrag as well, which after a restart
/// is one that was replaced, so that is taken out.
fn with_credentials(answer: &str, credentials: &IceCreds) -> Result<String, InvalidOffer> {
    let mut description = parse(answer)?;
    let attributes = description
        .attributes
        .iter_mut()
        .chain(description.media_descriptions.iter_mut().flat_map(|media| &mut media.attributes));
    for attribute in attributes {
        let Some(value) = &mut attribute.value else {
            continue;
        };
        match attribute.key.as_str() {
            "ice-ufrag" => value.clone_from(&credentials.ufrag),
            "ice-pwd" => value.clone_from(&credentials.pass),
            "candidate" => {
                let named = value.find(" ufrag ").unwrap_or(value.len());
                value.truncate(named);
            }
            _ => {}
        }
    }
    Ok(description.marshal())
}
