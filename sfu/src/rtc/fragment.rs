//! Fragments of SDP about ICE alone (RFC 8840, section 9), as WHIP and WHEP clients send and get them.

use std::{io::Cursor, net::SocketAddr};

use sdp::{
    SessionDescription,
    description::{
        common::Attribute,
        media::{MediaDescription, MediaName, RangedPort},
    },
};
use str0m::{
    IceCreds,
    media::{MediaKind, Mid},
};

use super::sdp::candidates as candidate_lines;

/// What makes a description of a fragment.
const PREAMBLE: &str = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";

/// Fewest and most characters of a ufrag and of a password (RFC 8839, section 5.4).
const UFRAG_LEN: std::ops::RangeInclusive<usize> = 4..=256;
const PASSWORD_LEN: std::ops::RangeInclusive<usize> = 22..=256;

/// A fragment that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("the fragment cannot be used: {0}")]
pub struct InvalidFragment(pub(super) String);

impl InvalidFragment {
    /// A restart without what it is made of.
    pub(super) fn no_credentials() -> Self {
        Self("ICE is restarted with an ice-ufrag and ice-pwd, and it has none".to_owned())
    }
}

/// What a client's fragment says that a node wants to know. Its candidates are not among that: an
/// ICE-lite agent sends no checks.
#[derive(Debug)]
pub(super) struct Fragment {
    pub(super) credentials: Option<IceCreds>,
}

/// Reads a client's fragment.
pub(super) fn read(text: &str) -> Result<Fragment, InvalidFragment> {
    let invalid = |problem: &str| InvalidFragment(problem.to_owned());
    let description = description(text).map_err(|error| invalid(&error))?;
    if description.attributes.is_empty() && description.media_descriptions.is_empty() {
        return Err(invalid("it is empty"));
    }
    let credentials = match super::sdp::credentials(&description) {
        (None, None) => None,
        (Some(_), None) => return Err(invalid("it has an ice-ufrag, but no ice-pwd")),
        (None, Some(_)) => return Err(invalid("it has an ice-pwd, but no ice-ufrag")),
        (Some(ufrag), Some(pass)) => Some(IceCreds { ufrag, pass }),
    };
    if let Some(IceCreds { ufrag, pass }) = &credentials {
        for (key, value, len) in [("ufrag", ufrag, UFRAG_LEN), ("pwd", pass, PASSWORD_LEN)] {
            let is_ice = |byte: u8| byte.is_ascii_alphanumeric() || b"+/".contains(&byte);
            if !len.contains(&value.len()) || !value.bytes().all(is_ice) {
                let (least, most) = (len.start(), len.end());
                let rule = format!("{least} to {most} characters of A-Z a-z 0-9 + /");
                return Err(invalid(&format!("an ice-{key} has {rule}")));
            }
        }
    }
    Ok(Fragment { credentials })
}

/// Our side of a restart: credentials, and candidates in the first media line, as all are bundled.
pub(super) fn write(
    credentials: &IceCreds,
    first: Option<(Mid, MediaKind)>,
    candidates: &[SocketAddr],
) -> String {
    let attribute = |key: &str, value: String| Attribute::new(key.to_owned(), Some(value));
    // The preamble is ours, and right.
    let mut description = description("").unwrap_or_default();
    description.attributes.extend([
        Attribute::new("ice-lite".to_owned(), None),
        attribute("ice-ufrag", credentials.ufrag.clone()),
        attribute("ice-pwd", credentials.pass.clone()),
    ]);
    description.media_descriptions.extend(first.map(|(mid, kind)| {
        let mut attributes = vec![attribute("mid", mid.to_string())];
        attributes.extend(candidate_lines(candidates));
        attributes.push(Attribute::new("end-of-candidates".to_owned(), None));
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let name = MediaName {
            media: kind.to_string(),
            port: RangedPort { value: 9, range: None },
            protos: texts(&["UDP", "TLS", "RTP", "SAVPF"]),
            formats: texts(&["0"]),
        };
        MediaDescription { media_name: name, attributes, ..MediaDescription::default() }
    }));
    let text = description.marshal();
    text.strip_prefix(PREAMBLE).unwrap_or(&text).to_owned()
}

fn description(fragment: &str) -> Result<SessionDescription, String> {
    let text = format!("{PREAMBLE}{fragment}");
    SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "0123456789012345678901";

    fn refused(text: &str) -> String {
        let problem = read(text).expect_err("it is wrong").to_string();
        let reason = problem.strip_prefix("the fragment cannot be used: ");
        reason.expect("said first").to_owned()
    }

    #[test]
    fn credentials_are_read_from_the_session_or_a_media_line_and_candidates_are_not() {
        let ours = format!("a=ice-ufrag:EsAw\r\na=ice-pwd:{PASSWORD}\r\n");
        let line = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n";
        let candidate = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=end-of-candidates\r\n";
        for text in [
            format!("{ours}{line}{candidate}"),
            format!("a=group:BUNDLE 0 1\r\n{line}{ours}{candidate}"),
            ours.replace("\r\n", "\n"),
        ] {
            let read = read(&text).expect("a fragment").credentials.expect("credentials");
            assert_eq!((read.ufrag.as_str(), read.pass.as_str()), ("EsAw", PASSWORD), "{text}");
        }
        let without = read(&format!("{line}{candidate}")).expect("a fragment");
        assert!(without.credentials.is_none());
    }

    #[test]
    fn a_fragment_that_is_none_is_refused_with_the_reason() {
        let line = |ufrag: &str, password: &str| {
            format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n")
        };
        let long = "x".repeat(257);
        let cases = [
            (String::new(), "it is empty"),
            ("a=ice-ufrag:EsAw\r\n".to_owned(), "it has an ice-ufrag, but no ice-pwd"),
            (format!("a=ice-pwd:{PASSWORD}\r\n"), "it has an ice-pwd, but no ice-ufrag"),
            (line("abc", PASSWORD), "an ice-ufrag has 4 to 256 characters of A-Z a-z 0-9 + /"),
            (line(&long, PASSWORD), "an ice-ufrag has 4 to 256 characters of A-Z a-z 0-9 + /"),
            (line("ab:d", PASSWORD), "an ice-ufrag has 4 to 256 characters of A-Z a-z 0-9 + /"),
            (line("abcd", "short"), "an ice-pwd has 22 to 256 characters of A-Z a-z 0-9 + /"),
            (line("abcd", &long), "an ice-pwd has 22 to 256 characters of A-Z a-z 0-9 + /"),
        ];
        for (text, reason) in cases {
            assert_eq!(refused(&text), reason, "{text}");
        }
        for text in ["hello", "v=0\r\n", "\0\r\n", "m=audio\r\n", "a=\u{fffd}\r\n=\r\n"] {
            assert!(!refused(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn a_nodes_fragment_has_its_credentials_and_candidates_and_no_more() {
        let ours = IceCreds { ufrag: "abcd".to_owned(), pass: PASSWORD.to_owned() };
        let vip = ["203.0.113.1:4433".parse().expect("an address")];
        let session = format!("a=ice-lite\r\na=ice-ufrag:abcd\r\na=ice-pwd:{PASSWORD}\r\n");
        assert_eq!(write(&ours, None, &vip), session);
        let text = write(&ours, Some(("v".into(), MediaKind::Video)), &vip);
        let (start, candidate) = text.split_once("a=candidate:").expect("a candidate");
        let line = "m=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:v\r\n";
        assert_eq!(start, format!("{session}{line}"));
        assert!(candidate.ends_with(" 203.0.113.1 4433 typ host\r\na=end-of-candidates\r\n"));
        assert_eq!(candidate.lines().count(), 2, "{candidate}");
    }
}
