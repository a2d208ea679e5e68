//! Routing IDs and their carriers.

use proptest::{array::uniform, prelude::*};
use wire::{
    carrier::{self, IceKey},
    quic_lb::{Config, ConfigId, Configs, ConnectionId, Nonce, ServerId, Unroutable},
    stun::is_ice_char,
};

/// Every pair of lengths that a configuration may have.
fn lengths() -> impl Iterator<Item = (usize, usize)> {
    (1..=15).flat_map(|sid| (4..=18.min(19 - sid)).map(move |nonce| (sid, nonce)))
}

fn config_ids() -> impl Iterator<Item = ConfigId> {
    (0..).map_while(ConfigId::new)
}

#[test]
fn there_are_seven_configurations_and_the_draft_allows_so_many_lengths() {
    assert_eq!(config_ids().count(), 7);
    assert_eq!(lengths().count(), 120);
    for (server_id_len, nonce_len) in (0..20).flat_map(|sid| (0..20).map(move |nonce| (sid, nonce)))
    {
        let allowed = lengths().any(|pair| pair == (server_id_len, nonce_len));
        let id = ConfigId::new(0).expect("0 to 6");
        let config = Config::new(id, server_id_len, nonce_len, None);
        assert_eq!(config.is_ok(), allowed, "{server_id_len} and {nonce_len}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn ids_of_all_lengths_and_configurations_say_what_was_written(
        key in uniform::<_, 16>(any::<u8>()),
        server_id in uniform::<_, 15>(any::<u8>()),
        nonce in uniform::<_, 18>(any::<u8>()),
        behind in prop::collection::vec(any::<u8>(), 0..30),
        low_bits in 0..32_u8,
    ) {
        for (server_id_len, nonce_len) in lengths() {
            let server_id = ServerId::new(&server_id[..server_id_len]).expect("1 to 15");
            let nonce = Nonce::new(&nonce[..nonce_len]).expect("4 to 18");
            let mut plain = None;
            for (config_id, key) in config_ids().flat_map(|id| [(id, None), (id, Some(&key))]) {
                let config = Config::new(config_id, server_id_len, nonce_len, key).expect("allowed");
                let id = config.encode(&server_id, &nonce).expect("the right lengths");
                prop_assert_eq!(id.len(), 1 + server_id_len + nonce_len);
                let expected_first = usize::from(config_id.value()) << 5 | (id.len() - 1);
                prop_assert_eq!(usize::from(id[0]), expected_first);
                // A key makes a difference.
                if key.is_none() {
                    plain = Some(id);
                } else {
                    prop_assert_ne!(plain, Some(id));
                }

                let mut configs = Configs::new();
                configs.insert(config);
                for read in [configs.decode(&id), configs.decode_exact(&id)] {
                    let read = read.expect("ours");
                    prop_assert_eq!(read.config, config_id);
                    prop_assert_eq!(read.server_id, server_id);
                    prop_assert_eq!(read.nonce, nonce);
                }
                prop_assert_eq!(configs.server_id_exact(&id), Ok(server_id));

                // In a packet the ID runs on, and its five low bits are anybody's.
                let mut packet = [&id[..], &behind[..]].concat();
                packet[0] = packet[0] & 0xe0 | low_bits;
                prop_assert_eq!(configs.server_id(&packet), Ok(server_id));
                prop_assert_eq!(configs.decode(&packet).map(|read| read.nonce), Ok(nonce));
                prop_assert_eq!(configs.id_within(&packet), packet.get(..id.len()));
                let longer = matches!(configs.server_id_exact(&packet), Err(Unroutable::Long { .. }));
                prop_assert_eq!(longer, !behind.is_empty());
                for length in 0..id.len() {
                    prop_assert!(configs.server_id(&id[..length]).is_err());
                    prop_assert!(configs.decode(&id[..length]).is_err());
                }
                // Another number is another configuration, which is not in use.
                let mut other = packet.clone();
                other[0] ^= 0x20;
                prop_assert!(configs.server_id(&other).is_err());
            }
        }
    }

    #[test]
    fn another_nonce_gives_another_id_and_another_key_another_server(
        key in uniform::<_, 16>(any::<u8>()),
        one in uniform::<_, 12>(any::<u8>()),
        two in uniform::<_, 12>(any::<u8>()),
    ) {
        prop_assume!(one != two);
        let config = |key: &[u8; 16]| {
            let id = ConfigId::new(0).expect("0 to 6");
            Config::new(id, 4, 12, Some(key)).expect("allowed")
        };
        let server_id = ServerId::new(&[1, 2, 3, 4]).expect("4 bytes");
        let encode = |nonce: &[u8; 12]| config(&key).encode(&server_id, &Nonce::new(nonce).expect("12"));
        prop_assert_ne!(encode(&one), encode(&two));

        let mut other_key = key;
        other_key[15] ^= 1;
        let mut configs = Configs::new();
        configs.insert(config(&other_key));
        let id = encode(&one).expect("the right lengths");
        prop_assert_ne!(configs.server_id(&id), Ok(server_id));
    }
}

fn id() -> impl Strategy<Value = ConnectionId> {
    prop::collection::vec(any::<u8>(), 0..=20)
        .prop_map(|bytes| ConnectionId::new(&bytes).expect("at most 20"))
}

proptest! {
    #[test]
    fn every_id_survives_each_carrier(id in id(), upper in any::<u32>()) {
        let ufrag = carrier::encode_ufrag(&id);
        prop_assert!(ufrag.bytes().all(is_ice_char));
        prop_assert_eq!(ufrag.len(), (id.len() * 8).div_ceil(6));
        prop_assert_eq!(carrier::decode_ufrag(ufrag.as_bytes()), Some(id));

        let label = carrier::encode_label(&id);
        prop_assert!(label.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()));
        prop_assert_eq!(label.len(), (id.len() * 8).div_ceil(5));
        prop_assert_eq!(carrier::decode_label(label.as_bytes()), Some(id));
        let mixed: String = label
            .chars()
            .enumerate()
            .map(|(at, char)| if upper >> at & 1 == 1 { char.to_ascii_uppercase() } else { char })
            .collect();
        prop_assert_eq!(carrier::decode_label(mixed.as_bytes()), Some(id));
        for name in [format!("{mixed}.vip.example.com"), format!("{mixed}."), mixed.clone()] {
            prop_assert_eq!(carrier::decode_server_name(name.as_bytes()), Some(id));
        }
        let inner = format!("www.{mixed}.example.com");
        prop_assert_ne!(carrier::decode_server_name(inner.as_bytes()), Some(id));
    }

    /// No two texts name one ID: what decodes at all is what encoding it gives.
    #[test]
    fn what_reads_as_an_id_is_how_that_id_is_written(
        ufrag in "[A-Za-z0-9+/=_:.-]{0,28}",
        label in "[0-9a-xA-X=.-]{0,33}",
    ) {
        if let Some(id) = carrier::decode_ufrag(ufrag.as_bytes()) {
            prop_assert_eq!(carrier::encode_ufrag(&id).to_string(), ufrag);
        }
        if let Some(id) = carrier::decode_label(label.as_bytes()) {
            prop_assert_eq!(carrier::encode_label(&id).to_string(), label.to_ascii_lowercase());
        }
    }

    #[test]
    fn a_ufrag_with_one_character_changed_is_another_id_or_none(
        id in id(),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let mut ufrag = carrier::encode_ufrag(&id).as_bytes().to_vec();
        prop_assume!(!ufrag.is_empty());
        let at = at.index(ufrag.len());
        prop_assume!(ufrag[at] != to);
        ufrag[at] = to;
        prop_assert_ne!(carrier::decode_ufrag(&ufrag), Some(id));
    }

    #[test]
    fn a_password_is_32_ice_chars_and_belongs_to_one_key_and_one_ufrag(
        key in uniform::<_, 32>(any::<u8>()),
        id in id(),
        another in id(),
    ) {
        prop_assume!(id != another);
        let of = |key: &[u8; 32], id| {
            IceKey::new(key).password(carrier::encode_ufrag(id).as_bytes())
        };
        let password = of(&key, &id);
        prop_assert_eq!(password.len(), 32);
        prop_assert!(password.bytes().all(is_ice_char));
        prop_assert_eq!(password, of(&key, &id));
        prop_assert_ne!(password, of(&key, &another));
        let mut other_key = key;
        other_key[31] ^= 0x80;
        prop_assert_ne!(password, of(&other_key, &id));
    }
}
