//! Offers and answers: str0m negotiates, this takes out of offers what is not served, and corrects
//! what answers say about ICE.

use std::io::Cursor;

use sdp::SessionDescription;
use str0m::{IceCreds, Rtc, change::SdpOffer};

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
const NOT_SERVED: [&str; 4] = ["a=candidate:", "a=rid:", "a=simulcast:", "a=ssrc-group:SIM "];

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
}

/// Answers an offer. If it restarts ICE, the answer carries the credentials that `fresh` gives.
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
    fresh: impl FnOnce() -> IceCreds,
) -> Result<Answer, InvalidOffer> {
    let invalid = |problem: &dyn std::fmt::Display| InvalidOffer(problem.to_string());
    if offer.len() > OFFER_MAX {
        return Err(invalid(&format_args!("it is longer than {OFFER_MAX} bytes")));
    }
    let description = parse(offer)?;
    let lines = description.media_descriptions.len();
    if lines > LINES_MAX {
        return Err(invalid(&format_args!("it has {lines} media lines, more than {LINES_MAX}")));
    }
    let remote = remote_credentials(&description)?;
    let served = SdpOffer::from_sdp_string(&served(offer)).map_err(|error| invalid(&error))?;
    let before = rtc.direct_api().local_ice_credentials();
    let accepted = rtc.sdp_api().accept_offer(served);
    let restarted = rtc.direct_api().local_ice_credentials() != before;
    let ours = if restarted { fresh() } else { before.clone() };
    let answer = accepted
        .map_err(|error| invalid(&error))
        .and_then(|answer| with_credentials(&answer.to_sdp_string(), &ours));
    let mut api = rtc.direct_api();
    match answer {
        Ok(sdp) => {
            if restarted {
                api.set_local_ice_credentials(ours.clone());
            }
            Ok(Answer { sdp, remote, restarted: restarted.then_some(ours) })
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

/// The offer without what is not served.
fn served(offer: &str) -> String {
    let kept = |line: &&str| !NOT_SERVED.iter().any(|attribute| line.starts_with(attribute));
    offer.split_inclusive('\n').filter(kept).collect()
}

/// The credentials that an offer has, in the session or in its first media description.
fn remote_credentials(description: &SessionDescription) -> Result<IceCreds, InvalidOffer> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_served_is_taken_out_of_an_offer_and_nothing_else() {
        let offer = "v=0\r\na=candidate:1 1 UDP 1 192.0.2.1 9 typ host\r\na=mid:0\r\na=rid:h send\r\n\
                     a=ssrc-group:FID 1 2\r\na=ssrc-group:SIM 1 3\r\na=simulcast:send h;l\r\n\
                     a=x:a=rid:\r\na=ssrc:1 cname:c";
        let left = "v=0\r\na=mid:0\r\na=ssrc-group:FID 1 2\r\na=x:a=rid:\r\na=ssrc:1 cname:c";
        assert_eq!(served(offer), left);
    }
}
