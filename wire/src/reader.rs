use crate::Malformed;

/// A bounds-checked cursor: every read either yields bytes and moves on, or names the field that
/// did not fit and stays where it was.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is left.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) const fn len(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn bytes(
        &mut self,
        count: usize,
        field: &'static str,
    ) -> Result<&'a [u8], Malformed> {
        match self.rest.split_at_checked(count) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(Malformed::Short { field, need: count, have: self.rest.len() }),
        }
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<&'a [u8; N], Malformed> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(Malformed::Short { field, need: N, have: self.rest.len() }),
        }
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        self.array::<1>(field).map(|&[byte]| byte)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        self.array(field).copied().map(u16::from_be_bytes)
    }

    pub(crate) fn u24(&mut self, field: &'static str) -> Result<u32, Malformed> {
        self.array(field).map(|&[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        self.array(field).copied().map(u32::from_be_bytes)
    }

    /// A QUIC variable-length integer: the two high bits of the first byte give its length, 1, 2,
    /// 4 or 8 bytes (RFC 9000, section 16).
    pub(crate) fn varint(&mut self, field: &'static str) -> Result<u64, Malformed> {
        let mut ahead = *self;
        let first = ahead.u8(field)?;
        let more = (1_usize << (first >> 6)) - 1;
        let tail = ahead.bytes(more, field)?;
        let value = tail
            .iter()
            .fold(u64::from(first & 0x3f), |value, &byte| (value << 8) | u64::from(byte));
        *self = ahead;
        Ok(value)
    }

    /// Bytes behind a varint length.
    pub(crate) fn varint_prefixed(&mut self, field: &'static str) -> Result<&'a [u8], Malformed> {
        let mut ahead = *self;
        let length = ahead.varint(field)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = ahead.bytes(length, field)?;
        *self = ahead;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Reader;

    #[test]
    fn varints_of_rfc_9000_appendix_a_read_as_printed() {
        let cases: [(&[u8], u64); 5] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ];
        for (bytes, expected) in cases {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.varint("varint"), Ok(expected));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn a_varint_cut_short_leaves_the_cursor_where_it_was() {
        let mut reader = Reader::new(&[0xc2, 0x19]);
        assert!(reader.varint("varint").is_err());
        assert_eq!(reader.rest(), &[0xc2, 0x19]);
    }

    #[test]
    fn a_prefixed_field_longer_than_the_rest_names_itself() {
        let mut reader = Reader::new(&[0x05, 1, 2]);
        let error = reader.varint_prefixed("token").expect_err("5 bytes do not fit in 2");
        assert_eq!(std::format!("{error}"), "token needs 5 bytes, has 2");
        assert_eq!(reader.len(), 3);
    }
}
