//! Routing IDs in their three carriers, written by `wire`.

use wire::{
    carrier::{self, IceKey},
    quic_lb::{Config, ConfigId, ConnectionId, Nonce, ServerId},
};

/// A routing configuration, as a fleet file describes it.
#[derive(Clone, Copy, Debug)]
pub struct Routing {
    /// Its number, 0 to 6.
    pub config: u8,
    /// Bytes of a server ID.
    pub server_id_len: usize,
    /// Bytes of a nonce.
    pub nonce_len: usize,
    /// Encrypts IDs.
    pub key: Option<[u8; 16]>,
    /// Derives ICE passwords.
    pub ice_key: Option<[u8; 32]>,
}

impl Routing {
    /// Plain IDs of the default lengths, 17 bytes in all.
    #[must_use]
    pub const fn plain(config: u8) -> Self {
        Self { config, server_id_len: 4, nonce_len: 12, key: None, ice_key: None }
    }

    /// Encrypted IDs of the default lengths.
    #[must_use]
    pub const fn encrypted(config: u8) -> Self {
        Self { key: Some(*b"a key of 16 byte"), ..Self::plain(config) }
    }

    /// The same with other lengths.
    #[must_use]
    pub const fn lengths(self, server_id_len: usize, nonce_len: usize) -> Self {
        Self { server_id_len, nonce_len, ..self }
    }

    /// The same with a key for ICE passwords, so that LBs verify STUN requests.
    #[must_use]
    pub const fn verified(self) -> Self {
        Self { ice_key: Some(*b"thirty-two bytes make an ICE key"), ..self }
    }

    /// The codec.
    ///
    /// # Panics
    /// If the lengths are none a configuration may have.
    #[must_use]
    pub fn codec(&self) -> Config {
        let id = ConfigId::new(self.config).expect("0 to 6");
        Config::new(id, self.server_id_len, self.nonce_len, self.key.as_ref())
            .expect("lengths of a configuration")
    }

    /// An ID of a server. Other numbers give other nonces.
    ///
    /// # Panics
    /// If the server ID's length is not this configuration's.
    #[must_use]
    pub fn id(&self, server_id: &[u8], number: u64) -> ConnectionId {
        let nonce: Vec<u8> =
            (0..self.nonce_len).map(|at| number.to_le_bytes()[at % 8] ^ 0x5c).collect();
        let server_id = ServerId::new(server_id).expect("1 to 15 bytes");
        let nonce = Nonce::new(&nonce).expect("4 to 18 bytes");
        let id = self.codec().encode(&server_id, &nonce);
        id.expect("the lengths of this configuration")
    }

    /// [`Routing::id`] as a connection ID.
    #[must_use]
    pub fn cid(&self, server_id: &[u8], number: u64) -> Vec<u8> {
        self.id(server_id, number).to_vec()
    }

    /// [`Routing::id`] as an ICE user fragment.
    #[must_use]
    pub fn ufrag(&self, server_id: &[u8], number: u64) -> String {
        carrier::encode_ufrag(&self.id(server_id, number)).to_string()
    }

    /// [`Routing::id`] as a DNS label.
    #[must_use]
    pub fn label(&self, server_id: &[u8], number: u64) -> String {
        carrier::encode_label(&self.id(server_id, number)).to_string()
    }

    /// The password that goes with a ufrag: derived where there is an ICE key, the node's own
    /// business otherwise.
    #[must_use]
    pub fn password(&self, ufrag: &str) -> String {
        match &self.ice_key {
            Some(key) => IceKey::new(key).password(ufrag.as_bytes()).to_string(),
            None => format!("a password of the node's own for {ufrag}"),
        }
    }
}
