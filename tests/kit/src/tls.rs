//! ClientHellos, written by `rustls`.

use std::{cell::Cell, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, GetRandomFailed, SecureRandom, aws_lc_rs},
    pki_types::ServerName,
    quic::{ClientConnection, Version},
    version::TLS13,
};

/// A ClientHello to be made, for WebTransport (ALPN `h3`).
#[derive(Clone, Debug)]
pub struct Hello {
    name: Option<String>,
    post_quantum: bool,
    order: u64,
}

impl Hello {
    /// For a server of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: Some(name.to_owned()), post_quantum: false, order: 0 }
    }

    /// Without a server name.
    #[must_use]
    pub fn nameless() -> Self {
        Self { name: None, post_quantum: false, order: 0 }
    }

    /// With a key share for X25519MLKEM768, as browsers send it: the hello then needs two datagrams.
    #[must_use]
    pub fn post_quantum(mut self) -> Self {
        self.post_quantum = true;
        self
    }

    /// Another order of the extensions, which are shuffled on purpose.
    #[must_use]
    pub const fn order(mut self, order: u64) -> Self {
        self.order = order;
        self
    }

    /// The handshake message: about 300 bytes, or 1,500 with the post-quantum key share.
    ///
    /// # Panics
    /// If the name is no DNS name.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        STATE.set(self.order);
        let mut config = ClientConfig::builder_with_provider(Arc::new(self.provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider does TLS 1.3")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h3".to_vec()];
        config.enable_sni = self.name.is_some();
        let name = self.name.as_deref().unwrap_or("nameless.invalid");
        let name = ServerName::try_from(name.to_owned()).expect("a DNS name");
        let mut connection = ClientConnection::new(
            Arc::new(config),
            Version::V1,
            name,
            TRANSPORT_PARAMETERS.to_vec(),
        )
        .expect("a client begins by itself");
        let mut bytes = Vec::new();
        let keys = connection.write_hs(&mut bytes);
        assert!(keys.is_none(), "the hello is all a client says unasked");
        bytes
    }

    fn provider(&self) -> CryptoProvider {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = if self.post_quantum {
            vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519]
        } else {
            vec![aws_lc_rs::kx_group::X25519]
        };
        provider.secure_random = &Seeded;
        provider
    }
}

/// `max_idle_timeout`, `initial_max_data` and `max_datagram_frame_size`, as a client would send.
const TRANSPORT_PARAMETERS: &[u8] = &[
    0x01, 0x04, 0x80, 0x00, 0x75, 0x30, 0x04, 0x04, 0x80, 0x10, 0x00, 0x00, 0x20, 0x04, 0x80, 0x00,
    0xff, 0xff,
];

/// Numbers for tests, so that a hello of one order always has the same shape. Key shares are random
/// all the same: they come from elsewhere, and nobody reads them.
#[derive(Debug)]
struct Seeded;

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(0) };
}

impl SecureRandom for Seeded {
    /// SplitMix64.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        for chunk in buffer.chunks_mut(8) {
            let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            STATE.set(state);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}
