use crate::{Malformed, reader::Reader};

/// One CRYPTO frame: `data` belongs at `offset` of the handshake stream, both in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Crypto<'a> {
    pub(super) offset: u64,
    pub(super) data: &'a [u8],
}

/// Walks the frames of an Initial packet's payload and hands out its CRYPTO frames. Other frames
/// that may stand there (RFC 9000, section 17.2.2: PADDING, PING, ACK, CONNECTION_CLOSE) are
/// passed over; any other type ends the walk, since its length is unknown.
pub(super) struct CryptoFrames<'a> {
    reader: Reader<'a>,
}

impl<'a> CryptoFrames<'a> {
    pub(super) const fn new(payload: &'a [u8]) -> Self {
        Self { reader: Reader::new(payload) }
    }

    fn advance(&mut self) -> Result<Option<Crypto<'a>>, Malformed> {
        while !self.reader.is_empty() {
            match self.reader.varint("frame type")? {
                // PADDING, by far the most frequent: datagrams with an Initial are 1200 bytes or more.
                0x00 => self.skip_padding(),
                0x01 => {}
                kind @ (0x02 | 0x03) => self.skip_ack(kind == 0x03)?,
                0x06 => {
                    let offset = self.reader.varint("CRYPTO offset")?;
                    let data = self.reader.varint_prefixed("CRYPTO data")?;
                    return Ok(Some(Crypto { offset, data }));
                }
                0x1c => {
                    self.reader.varint("CONNECTION_CLOSE error code")?;
                    self.reader.varint("CONNECTION_CLOSE frame type")?;
                    self.reader.varint_prefixed("CONNECTION_CLOSE reason")?;
                }
                _ => return Err(Malformed::Unexpected("frame type in an Initial packet")),
            }
        }
        Ok(None)
    }

    fn skip_padding(&mut self) {
        let rest = self.reader.rest();
        let zeros = rest.iter().position(|&byte| byte != 0).unwrap_or(rest.len());
        self.reader = Reader::new(rest.get(zeros..).unwrap_or_default());
    }

    fn skip_ack(&mut self, with_ecn: bool) -> Result<(), Malformed> {
        let reader = &mut self.reader;
        reader.varint("ACK largest acknowledged")?;
        reader.varint("ACK delay")?;
        let ranges = reader.varint("ACK range count")?;
        reader.varint("ACK first range")?;
        // A count beyond the payload fails at the first range that is not there.
        for _ in 0..ranges {
            reader.varint("ACK gap")?;
            reader.varint("ACK range")?;
        }
        if with_ecn {
            for field in ["ACK ECT0 count", "ACK ECT1 count", "ACK ECN-CE count"] {
                reader.varint(field)?;
            }
        }
        Ok(())
    }
}

impl<'a> Iterator for CryptoFrames<'a> {
    type Item = Result<Crypto<'a>, Malformed>;

    /// After an error the walk is over.
    fn next(&mut self) -> Option<Self::Item> {
        let frame = self.advance().transpose();
        if let Some(Err(_)) = frame {
            self.reader = Reader::new(&[]);
        }
        frame
    }
}
