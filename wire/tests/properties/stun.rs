//! STUN, against what `stun_codec` writes.

use std::net::SocketAddr;

use hmac::{Hmac, KeyInit, Mac};
use kit::{
    Stun,
    stun::{self, MessageClass as Theirs},
};
use proptest::{prelude::*, sample::select};
use sha1::Sha1;
use wire::stun::{
    BINDING_ERROR_LEN, ErrorCode, IceUsername, Message, MessageClass, TransactionId, binding_error,
    is_stun,
};

fn class() -> impl Strategy<Value = (Theirs, MessageClass)> {
    select(vec![
        (Theirs::Request, MessageClass::Request),
        (Theirs::Indication, MessageClass::Indication),
        (Theirs::SuccessResponse, MessageClass::Success),
        (Theirs::ErrorResponse, MessageClass::Error),
    ])
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

/// An attribute that a message may hold before its integrity.
#[derive(Clone, Debug)]
enum Part {
    Username(String),
    Priority(u32),
    Controlling(u64),
    UseCandidate,
    Mapped(SocketAddr),
    Error(u16),
    /// One that nobody here knows, of any length, so with any padding.
    Unknown(u16, Vec<u8>),
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        "[ -~é☃]{0,60}".prop_map(Part::Username),
        "[A-Za-z0-9+/]{1,40}:[A-Za-z0-9+/]{0,40}".prop_map(Part::Username),
        any::<u32>().prop_map(Part::Priority),
        any::<u64>().prop_map(Part::Controlling),
        Just(Part::UseCandidate),
        address().prop_map(Part::Mapped),
        (300..600_u16).prop_map(Part::Error),
        (0x0030..0x8000_u16, prop::collection::vec(any::<u8>(), 0..50))
            .prop_map(|(kind, value)| Part::Unknown(kind, value)),
    ]
}

fn with(message: Stun, part: &Part) -> Stun {
    match part {
        Part::Username(username) => message.username(username),
        Part::Priority(priority) => message.priority(*priority),
        Part::Controlling(tie_breaker) => message.ice_controlling(*tie_breaker),
        Part::UseCandidate => message.use_candidate(),
        Part::Mapped(address) => message.xor_mapped_address(*address),
        Part::Error(code) => message.error_code(*code),
        Part::Unknown(kind, value) => message.attribute(*kind, value),
    }
}

/// The first of the parts that is of a kind: later ones do not count.
fn first<'a, T>(parts: &'a [Part], of: impl Fn(&'a Part) -> Option<T>) -> Option<T> {
    parts.iter().find_map(of)
}

proptest! {
    #[test]
    fn a_message_says_what_it_was_given(
        (theirs, class) in class(),
        method in 0..16_u16,
        transaction in any::<[u8; 12]>(),
        parts in prop::collection::vec(part(), 0..8),
        password in prop::option::of("[A-Za-z0-9+/]{1,80}"),
        guess in "[A-Za-z0-9+/]{1,80}",
        fingerprint in any::<bool>(),
    ) {
        let mut message = Stun::of_method(theirs, method, transaction);
        for part in &parts {
            message = with(message, part);
        }
        if let Some(password) = &password {
            message = message.integrity(password);
        }
        if fingerprint {
            message = message.fingerprint();
        }
        let bytes = message.bytes();
        prop_assert!(is_stun(&bytes));
        let read = Message::parse(&bytes).expect("well-formed");

        prop_assert_eq!(read.class(), class);
        prop_assert_eq!(read.method(), method);
        prop_assert_eq!(read.transaction_id(), TransactionId(transaction));
        let username = first(&parts, |part| match part {
            Part::Username(username) => Some(username.as_bytes()),
            _ => None,
        });
        prop_assert_eq!(read.username(), username);
        prop_assert_eq!(read.ice_username(), username.and_then(IceUsername::parse));
        prop_assert_eq!(
            read.use_candidate(),
            parts.iter().any(|part| matches!(part, Part::UseCandidate))
        );
        let mapped = first(&parts, |part| match part {
            Part::Mapped(address) => Some(*address),
            _ => None,
        });
        prop_assert_eq!(read.xor_mapped_address(), mapped);
        prop_assert_eq!(read.verify_fingerprint(), fingerprint);
        let key = password.as_deref().unwrap_or_default();
        prop_assert_eq!(read.verify_integrity(key.as_bytes()), password.is_some());
        prop_assert_eq!(read.verify_integrity(guess.as_bytes()), password.as_ref() == Some(&guess));
        prop_assert!(!read.verify_integrity_sha256(key.as_bytes()));
    }

    #[test]
    fn what_stands_behind_the_integrity_is_ignored_and_does_not_break_it(
        before in prop::collection::vec(part(), 0..4),
        behind in prop::collection::vec(part(), 1..6),
        fingerprint in any::<bool>(),
    ) {
        let begun = before.iter().fold(Stun::request([7; 12]), with);
        let without = begun.integrity("secret");
        let mut message = behind.iter().fold(without.clone(), with);
        if fingerprint {
            message = message.fingerprint();
        }
        let (without, with) = (without.bytes(), message.bytes());
        let without = Message::parse(&without).expect("well-formed");
        let with = Message::parse(&with).expect("well-formed");
        prop_assert_eq!(with.username(), without.username());
        prop_assert_eq!(with.use_candidate(), without.use_candidate());
        prop_assert_eq!(with.xor_mapped_address(), without.xor_mapped_address());
        prop_assert!(with.verify_integrity(b"secret"));
        prop_assert!(!with.verify_integrity(b"guess"));
        prop_assert_eq!(with.verify_fingerprint(), fingerprint);
    }

    #[test]
    fn a_second_integrity_does_not_make_up_for_the_first(password in "[a-z]{1,20}") {
        let bytes = Stun::request([7; 12])
            .username("abcd:efgh")
            .attribute(0x0008, &[0; 20])
            .integrity(&password)
            .fingerprint()
            .bytes();
        let message = Message::parse(&bytes).expect("well-formed");
        prop_assert!(!message.verify_integrity(password.as_bytes()));
    }

    /// RFC 8489 lets nobody shorten it, so that nobody can guess a short one.
    #[test]
    fn an_integrity_that_is_right_but_cut_short_does_not_verify(length in 0..20_usize) {
        let begun = Stun::request([7; 12]).username("abcd:efgh");
        let mut covered = begun.bytes();
        let reach = u16::try_from(covered.len() - 20 + 4 + length).expect("short");
        covered[2..4].copy_from_slice(&reach.to_be_bytes());
        let mac = <Hmac<Sha1> as KeyInit>::new_from_slice(b"secret").expect("any length");
        let mac = mac.chain_update(&covered).finalize().into_bytes();
        let bytes = begun.attribute(0x0008, &mac[..length]).bytes();
        let message = Message::parse(&bytes).expect("well-formed");
        prop_assert!(!message.verify_integrity(b"secret"));
    }

    #[test]
    fn a_check_damaged_anywhere_is_refused_by_one_of_its_two_seals(
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let mut bytes = stun::check("abcd:efgh", "secret", [7; 12]);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let accepted = Message::parse(&bytes).is_ok_and(|message| {
            message.verify_fingerprint() && message.verify_integrity(b"secret")
        });
        prop_assert!(!accepted, "byte {} ^ {:#04x}", at, flip);
    }

    #[test]
    fn a_message_cut_short_or_with_more_behind_it_is_none(
        length in any::<prop::sample::Index>(),
        behind in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let bytes = stun::check("abcd:efgh", "secret", [7; 12]);
        prop_assert!(!is_stun(&bytes[..length.index(bytes.len())]));
        prop_assert!(!is_stun(&[bytes, behind].concat()));
    }

    #[test]
    fn a_username_is_split_at_its_first_colon_if_a_ufrag_stands_before_it(
        server in "[A-Za-z0-9+/_ é-]{0,12}",
        client in "[ -~]{0,40}",
    ) {
        let username = format!("{server}:{client}");
        let fits = (4..=256).contains(&server.len())
            && server.chars().all(|char| char.is_ascii_alphanumeric() || "+/".contains(char));
        let split = IceUsername::parse(username.as_bytes());
        let parts = split.map(|split| (split.server, split.client));
        prop_assert_eq!(parts, fits.then_some((server.as_bytes(), client.as_bytes())));
        prop_assert_eq!(IceUsername::parse(server.as_bytes()), None);
    }

    /// Byte for byte: neither leaves anything open.
    #[test]
    fn an_error_response_is_what_stun_codec_writes(
        transaction in any::<[u8; 12]>(),
        password in "[A-Za-z0-9+/]{1,80}",
        guess in "[A-Za-z0-9+/]{1,80}",
    ) {
        let ours =
            binding_error(TransactionId(transaction), ErrorCode::BadRequest, password.as_bytes());
        let theirs = Stun::new(Theirs::ErrorResponse, transaction)
            .error_code(400)
            .integrity(&password)
            .fingerprint()
            .bytes();
        prop_assert_eq!(&ours[..], &theirs[..]);
        prop_assert_eq!(ours.len(), BINDING_ERROR_LEN);
        let read = Message::parse(&ours).expect("well-formed");
        prop_assert_eq!(read.class(), MessageClass::Error);
        prop_assert_eq!(read.transaction_id(), TransactionId(transaction));
        prop_assert!(read.verify_fingerprint() && read.verify_integrity(password.as_bytes()));
        prop_assert_eq!(read.verify_integrity(guess.as_bytes()), guess == password);
    }
}
