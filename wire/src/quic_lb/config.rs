use core::fmt;

use super::{
    ConfigId, ConnectionId, Nonce, ServerId,
    cipher::{AES_KEY_LEN, BLOCK_LEN, BODY_LEN, Body, FourPass, PLAINTEXT_MAX, SinglePass},
};

/// How the IDs of one configuration are written.
#[derive(Clone)]
pub struct Config {
    id: ConfigId,
    server_id_len: u8,
    nonce_len: u8,
    cipher: Cipher,
}

/// Key schedules are computed once, here, and not per datagram.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "a table has seven at most; there is no heap here")]
enum Cipher {
    Plain,
    SinglePass(SinglePass),
    FourPass(FourPass),
}

/// Lengths that no configuration may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The server ID must be 1..=15 bytes.
    #[error("server_id_len must be 1 to 15 bytes, not {0}")]
    ServerIdLen(usize),
    /// The nonce must be 4..=18 bytes.
    #[error("nonce_len must be 4 to 18 bytes, not {0}")]
    NonceLen(usize),
    /// Together they must fit in a connection ID behind its first byte.
    #[error("server_id_len and nonce_len together must be at most 19 bytes, not {0}")]
    Sum(usize),
}

/// Why an ID names no server. Not an error in the datagram: clients choose their first connection
/// ID at random, and configurations retire.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unroutable {
    /// There are no bytes.
    #[error("it is empty")]
    Empty,
    /// Its configuration bits are 7: made to be unroutable.
    #[error("its configuration bits are 7, which marks an ID as unroutable")]
    Reserved,
    /// Its configuration is not in use.
    #[error("its configuration {0} is not in use")]
    NoConfig(ConfigId),
    /// It is shorter than its configuration's IDs.
    #[error("it has {have} bytes and configuration {config} has {need}")]
    Short {
        /// The configuration.
        config: ConfigId,
        /// Bytes an ID of it has.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// It is longer than its configuration's IDs, in a carrier that may not be.
    #[error("it has {have} bytes and configuration {config} has {need}")]
    Long {
        /// The configuration.
        config: ConfigId,
        /// Bytes an ID of it has.
        need: usize,
        /// Bytes there are.
        have: usize,
    },
}

/// What an ID says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decoded {
    /// The configuration it was made with.
    pub config: ConfigId,
    /// The server it names.
    pub server_id: ServerId,
    /// What makes it unique.
    pub nonce: Nonce,
}

impl Config {
    /// A configuration. Lengths are in bytes. With a key, IDs are encrypted: in a single pass of AES
    /// when both lengths add up to 16 bytes, in four passes otherwise. Without, they are plain.
    ///
    /// # Errors
    /// [`ConfigError`] where a length is out of bounds.
    pub fn new(
        id: ConfigId,
        server_id_len: usize,
        nonce_len: usize,
        key: Option<&[u8; AES_KEY_LEN]>,
    ) -> Result<Self, ConfigError> {
        let sid = bounded(server_id_len, ServerId::LEN_MIN, ServerId::LEN_MAX)
            .ok_or(ConfigError::ServerIdLen(server_id_len))?;
        let nonce = bounded(nonce_len, Nonce::LEN_MIN, Nonce::LEN_MAX)
            .ok_or(ConfigError::NonceLen(nonce_len))?;
        let sum = server_id_len + nonce_len;
        if sum > PLAINTEXT_MAX {
            return Err(ConfigError::Sum(sum));
        }
        let cipher = match key {
            None => Cipher::Plain,
            Some(key) if sum == BLOCK_LEN => Cipher::SinglePass(SinglePass::new(key)),
            Some(key) => Cipher::FourPass(FourPass::new(key, sid + nonce)),
        };
        Ok(Self { id, server_id_len: sid, nonce_len: nonce, cipher })
    }

    /// The number that the IDs' first three bits carry.
    #[must_use]
    pub const fn id(&self) -> ConfigId {
        self.id
    }

    /// Bytes of a server ID.
    #[must_use]
    pub fn server_id_len(&self) -> usize {
        self.server_id_len.into()
    }

    /// Bytes of a nonce.
    #[must_use]
    pub fn nonce_len(&self) -> usize {
        self.nonce_len.into()
    }

    /// Bytes of an ID, its first byte included.
    #[must_use]
    pub fn cid_len(&self) -> usize {
        1 + self.plaintext_len()
    }

    /// Whether IDs are encrypted.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        !matches!(self.cipher, Cipher::Plain)
    }

    fn plaintext_len(&self) -> usize {
        usize::from(self.server_id_len) + usize::from(self.nonce_len)
    }

    /// Writes an ID. `None` when a length is not this configuration's.
    #[must_use]
    pub fn encode(&self, server_id: &ServerId, nonce: &Nonce) -> Option<ConnectionId> {
        if server_id.len() != self.server_id_len() || nonce.len() != self.nonce_len() {
            return None;
        }
        let mut body: Body = [0; BODY_LEN];
        for (slot, byte) in body.iter_mut().zip(server_id.iter().chain(nonce.iter())) {
            *slot = *byte;
        }
        match &self.cipher {
            Cipher::Plain => {}
            Cipher::SinglePass(cipher) => {
                let block = body.first_chunk_mut::<BLOCK_LEN>()?;
                *block = cipher.encrypt(*block);
            }
            Cipher::FourPass(cipher) => cipher.encrypt(&mut body),
        }
        let mut bytes = [0; 1 + PLAINTEXT_MAX];
        let first = self.id.value() << 5 | (self.server_id_len + self.nonce_len);
        for (slot, byte) in bytes.iter_mut().zip(core::iter::once(first).chain(body)) {
            *slot = byte;
        }
        ConnectionId::new(bytes.get(..self.cid_len())?).ok()
    }

    /// Reads the whole of an ID whose first byte names this configuration. Bytes behind it are
    /// left unread: short headers do not say where an ID ends.
    fn decode(&self, cid: &[u8]) -> Result<Decoded, Unroutable> {
        let body = self.plaintext(cid, true)?;
        let (server_id, nonce) = body
            .get(..self.plaintext_len())
            .and_then(|body| body.split_at_checked(self.server_id_len()))
            .and_then(|(sid, nonce)| Some((ServerId::new(sid).ok()?, Nonce::new(nonce).ok()?)))
            .ok_or_else(|| self.short(cid))?;
        Ok(Decoded { config: self.id, server_id, nonce })
    }

    /// Reads the server ID only: one AES call less where the nonce is the longer part.
    #[inline]
    fn server_id(&self, cid: &[u8]) -> Result<ServerId, Unroutable> {
        let body = self.plaintext(cid, self.nonce_len < self.server_id_len)?;
        body.first_chunk()
            .and_then(|block| ServerId::first_of(block, self.server_id_len()))
            .ok_or_else(|| self.short(cid))
    }

    /// Server ID and nonce. What is behind them means nothing.
    #[inline]
    fn plaintext(&self, cid: &[u8], whole: bool) -> Result<Body, Unroutable> {
        let sealed = cid.get(1..self.cid_len()).ok_or_else(|| self.short(cid))?;
        // A copy of a fixed length is a few instructions, and there are as many bytes in a packet.
        let mut body = match cid.get(1..).and_then(<[u8]>::first_chunk) {
            Some(body) => *body,
            None => padded(sealed),
        };
        match &self.cipher {
            Cipher::Plain => {}
            Cipher::SinglePass(cipher) => {
                if let Some(block) = body.first_chunk_mut::<BLOCK_LEN>() {
                    *block = cipher.decrypt(*block);
                }
            }
            Cipher::FourPass(cipher) => cipher.decrypt(&mut body, whole),
        }
        Ok(body)
    }

    fn short(&self, cid: &[u8]) -> Unroutable {
        Unroutable::Short { config: self.id, need: self.cid_len(), have: cid.len() }
    }
}

/// Keys stay out of logs.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("id", &self.id)
            .field("server_id_len", &self.server_id_len)
            .field("nonce_len", &self.nonce_len)
            .field("encrypted", &self.is_encrypted())
            .finish()
    }
}

/// A few bytes, and zeros behind them. Those of a whole block are copied as one.
fn padded(bytes: &[u8]) -> Body {
    let mut body = [0; BODY_LEN];
    let (blocks, rest) = bytes.as_chunks::<BLOCK_LEN>();
    let (to_blocks, _) = body.as_chunks_mut::<BLOCK_LEN>();
    for (to, from) in to_blocks.iter_mut().zip(blocks) {
        *to = *from;
    }
    for (to, from) in body.iter_mut().skip(blocks.as_flattened().len()).zip(rest) {
        *to = *from;
    }
    body
}

fn bounded(length: usize, least: usize, most: usize) -> Option<u8> {
    u8::try_from(length).ok().filter(|_| (least..=most).contains(&length))
}

/// The configurations in use, at most one per [`ConfigId`].
#[derive(Clone, Debug, Default)]
pub struct Configs {
    by_id: [Option<Config>; ConfigId::COUNT],
}

impl Configs {
    /// None in use.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a configuration into use; gives back the one it replaces.
    pub fn insert(&mut self, config: Config) -> Option<Config> {
        let slot = self.by_id.get_mut(usize::from(config.id.value()))?;
        slot.replace(config)
    }

    /// The configuration with this number.
    #[inline]
    #[must_use]
    pub fn find(&self, id: ConfigId) -> Option<&Config> {
        self.by_id.get(usize::from(id.value()))?.as_ref()
    }

    /// All in use, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Config> {
        self.by_id.iter().flatten()
    }

    /// The server that a connection ID names. `cid` may run on into the packet.
    ///
    /// # Errors
    /// [`Unroutable`] and why. Whether there is a server of that name is another question.
    #[inline]
    pub fn server_id(&self, cid: &[u8]) -> Result<ServerId, Unroutable> {
        self.of(cid)?.server_id(cid)
    }

    /// All that a connection ID says. `cid` may run on into the packet.
    ///
    /// # Errors
    /// [`Unroutable`] and why.
    pub fn decode(&self, cid: &[u8]) -> Result<Decoded, Unroutable> {
        self.of(cid)?.decode(cid)
    }

    /// [`Configs::server_id`] for a carrier that holds the ID and nothing else.
    ///
    /// # Errors
    /// [`Unroutable`] and why, one of them being that there are more bytes than the ID has.
    #[inline]
    pub fn server_id_exact(&self, id: &[u8]) -> Result<ServerId, Unroutable> {
        self.of_exact(id)?.server_id(id)
    }

    /// [`Configs::decode`] for a carrier that holds the ID and nothing else.
    ///
    /// # Errors
    /// [`Unroutable`] and why.
    pub fn decode_exact(&self, id: &[u8]) -> Result<Decoded, Unroutable> {
        self.of_exact(id)?.decode(id)
    }

    /// The bytes of `cid` that are its ID, by the configuration its first byte names.
    #[must_use]
    pub fn id_within<'a>(&self, cid: &'a [u8]) -> Option<&'a [u8]> {
        cid.get(..self.of(cid).ok()?.cid_len())
    }

    /// The configuration that an ID's first byte names.
    ///
    /// # Errors
    /// [`Unroutable`] where it names none in use.
    #[inline]
    pub fn of(&self, cid: &[u8]) -> Result<&Config, Unroutable> {
        let first = *cid.first().ok_or(Unroutable::Empty)?;
        let id = ConfigId::from_first_byte(first).ok_or(Unroutable::Reserved)?;
        self.find(id).ok_or(Unroutable::NoConfig(id))
    }

    #[inline]
    fn of_exact(&self, id: &[u8]) -> Result<&Config, Unroutable> {
        let config = self.of(id)?;
        let need = config.cid_len();
        if id.len() > need {
            return Err(Unroutable::Long { config: config.id, need, have: id.len() });
        }
        Ok(config)
    }
}
