//! Just enough TLS 1.3 to read a ClientHello's server name and protocols (RFC 8446, section 4.1.2;
//! RFC 6066, section 3; RFC 7301, section 3.1).
//!
//! A hello may arrive in pieces and its extensions in any order, so every reading answers one of
//! three things: found, not there, or not known until more has come.

use crate::{Malformed, reader::Reader};

const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const HOST_NAME: u8 = 0;

/// What a beginning of a ClientHello says of one of its fields.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found<T> {
    /// The field is there.
    Yes(T),
    /// The hello is complete and does not have it.
    No,
    /// What has come so far does not tell.
    NotYet,
}

/// The beginning of a ClientHello, as far as it has come.
#[derive(Clone, Copy, Debug)]
pub struct ClientHello<'a> {
    prefix: &'a [u8],
}

impl<'a> ClientHello<'a> {
    /// `prefix`: the handshake stream from its first byte, without gaps.
    #[must_use]
    pub const fn new(prefix: &'a [u8]) -> Self {
        Self { prefix }
    }

    /// The host name of the server_name extension, as sent: bytes without a trailing dot.
    /// Found as soon as its extension has come, whatever is still missing behind it.
    ///
    /// # Errors
    /// The bytes are no ClientHello.
    pub fn server_name(&self) -> Result<Found<&'a [u8]>, Malformed> {
        let data = match self.extension(SERVER_NAME)? {
            Found::Yes(data) => data,
            Found::No => return Ok(Found::No),
            Found::NotYet => return Ok(Found::NotYet),
        };
        let mut reader = Reader::new(data);
        let length = reader.u16("server name list length")?;
        let mut names = Reader::new(reader.bytes(length.into(), "server name list")?);
        while !names.is_empty() {
            let kind = names.u8("server name type")?;
            let length = names.u16("server name length")?;
            let name = names.bytes(length.into(), "server name")?;
            if kind == HOST_NAME {
                return Ok(Found::Yes(name));
            }
        }
        Ok(Found::No)
    }

    /// The protocols of the ALPN extension, in the client's order.
    ///
    /// # Errors
    /// The bytes are no ClientHello.
    pub fn protocols(&self) -> Result<Found<Protocols<'a>>, Malformed> {
        let data = match self.extension(ALPN)? {
            Found::Yes(data) => data,
            Found::No => return Ok(Found::No),
            Found::NotYet => return Ok(Found::NotYet),
        };
        let mut reader = Reader::new(data);
        let length = reader.u16("protocol list length")?;
        let list = reader.bytes(length.into(), "protocol list")?;
        Ok(Found::Yes(Protocols { list: Reader::new(list) }))
    }

    /// An extension's data, by walking what is there. Only a field cut off by the end of the
    /// prefix is "not yet"; one cut off by the hello's own lengths is malformed.
    fn extension(&self, wanted: u16) -> Result<Found<&'a [u8]>, Malformed> {
        let mut reader = Reader::new(self.prefix);
        let Ok(kind) = reader.u8("handshake type") else {
            return Ok(Found::NotYet);
        };
        if kind != CLIENT_HELLO {
            return Err(Malformed::Unexpected("handshake type"));
        }
        let Ok(length) = reader.u24("hello length") else {
            return Ok(Found::NotYet);
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let complete = reader.len() >= length;
        let body = reader.rest().get(..length).unwrap_or(reader.rest());

        match search(Reader::new(body), wanted) {
            Ok(Some(data)) => Ok(Found::Yes(data)),
            Ok(None) if complete => Ok(Found::No),
            // A list that ends exactly where the prefix ends may go on in what has not come.
            Ok(None) => Ok(Found::NotYet),
            Err(Malformed::Short { .. }) if !complete => Ok(Found::NotYet),
            Err(malformed) => Err(malformed),
        }
    }
}

/// Walks a ClientHello's body to the extension `wanted`. [`Malformed::Short`] where the bytes end.
fn search<'a>(mut body: Reader<'a>, wanted: u16) -> Result<Option<&'a [u8]>, Malformed> {
    body.bytes(2 + 32, "version and random")?;
    let length = body.u8("session ID length")?;
    body.bytes(length.into(), "session ID")?;
    let length = body.u16("cipher suites length")?;
    body.bytes(length.into(), "cipher suites")?;
    let length = body.u8("compression methods length")?;
    body.bytes(length.into(), "compression methods")?;
    if body.is_empty() {
        return Ok(None);
    }
    let length = usize::from(body.u16("extensions length")?);
    let cut = body.len() < length;
    let mut extensions = Reader::new(body.rest().get(..length).unwrap_or(body.rest()));
    while !extensions.is_empty() {
        let kind = extensions.u16("extension type")?;
        let length = extensions.u16("extension length")?;
        let data = extensions.bytes(length.into(), "extension data")?;
        if kind == wanted {
            return Ok(Some(data));
        }
    }
    if cut {
        return Err(Malformed::Short { field: "extensions", need: length, have: body.len() });
    }
    Ok(None)
}

/// The names in an ALPN extension.
#[derive(Clone)]
pub struct Protocols<'a> {
    list: Reader<'a>,
}

impl<'a> Iterator for Protocols<'a> {
    type Item = &'a [u8];

    /// Ends at the first name that does not fit.
    fn next(&mut self) -> Option<&'a [u8]> {
        let length = self.list.u8("protocol name length").ok()?;
        self.list.bytes(length.into(), "protocol name").ok()
    }
}
