/// Shortest ICE user fragment (RFC 8445, section 5.3).
pub const UFRAG_MIN: usize = 4;

/// Longest ICE user fragment a receiver must take (RFC 8445, section 5.3; senders stop at 32).
pub const UFRAG_MAX: usize = 256;

/// Whether a byte may stand in a user fragment or password: `A-Z a-z 0-9 + /` (RFC 8839, section
/// 5.4), which is the base64 alphabet.
#[must_use]
pub const fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// The USERNAME of a connectivity check: the receiver's fragment first, then the sender's
/// (RFC 8445, section 7.2.2). Of a client's request, `server` says where it belongs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IceUsername<'a> {
    /// The receiver's fragment: [`UFRAG_MIN`] to [`UFRAG_MAX`] ice-chars.
    pub server: &'a [u8],
    /// The sender's fragment, unchecked: routing does not need it.
    pub client: &'a [u8],
}

impl<'a> IceUsername<'a> {
    /// Splits at the first colon. `None` when there is none, or what stands before it cannot be a
    /// user fragment: then this is no ICE check, whatever else it may be.
    #[must_use]
    pub fn parse(username: &'a [u8]) -> Option<Self> {
        let colon = username.iter().position(|&byte| byte == b':')?;
        let (server, client) = username.split_at_checked(colon)?;
        let (_, client) = client.split_first()?;
        let fits = (UFRAG_MIN..=UFRAG_MAX).contains(&server.len());
        (fits && server.iter().copied().all(is_ice_char)).then_some(Self { server, client })
    }
}
