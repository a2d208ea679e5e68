use core::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
};

/// Too few or too many bytes for an ID.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{have} bytes, where {least} to {most} belong")]
pub struct InvalidId {
    /// Fewest bytes allowed.
    pub least: usize,
    /// Most bytes allowed.
    pub most: usize,
    /// Bytes given.
    pub have: usize,
}

/// `MIN` to `MAX` bytes, held inline. What lies beyond the length is zero, so that whole arrays
/// compare.
#[derive(Clone, Copy, Eq, PartialEq, Ord, PartialOrd)]
pub struct InlineBytes<const MIN: usize, const MAX: usize> {
    bytes: [u8; MAX],
    len: u8,
}

/// A QUIC connection ID of version 1 or 2, and the bytes of every routing ID: 0..=20.
pub type ConnectionId = InlineBytes<0, 20>;

/// Names a node to every LB: 1..=15 bytes.
pub type ServerId = InlineBytes<1, 15>;

/// Makes IDs of one server differ: 4..=18 bytes. Must never repeat under one key.
pub type Nonce = InlineBytes<4, 18>;

impl<const MIN: usize, const MAX: usize> InlineBytes<MIN, MAX> {
    /// Fewest bytes.
    pub const LEN_MIN: usize = MIN;
    /// Most bytes.
    pub const LEN_MAX: usize = MAX;

    /// Takes the bytes over.
    ///
    /// # Errors
    /// [`InvalidId`] when there are too few or too many.
    pub fn new(from: &[u8]) -> Result<Self, InvalidId> {
        let invalid = InvalidId { least: MIN, most: MAX, have: from.len() };
        if from.len() < MIN {
            return Err(invalid);
        }
        let mut bytes = [0; MAX];
        bytes.get_mut(..from.len()).ok_or(invalid)?.copy_from_slice(from);
        let len = u8::try_from(from.len()).map_err(|_| invalid)?;
        Ok(Self { bytes, len })
    }
}

impl ServerId {
    /// The first `len` bytes of a block: a mask, where a copy of so many bytes would be a call.
    #[inline]
    pub(super) fn first_of(block: &[u8; 16], len: usize) -> Option<Self> {
        if !(Self::LEN_MIN..=Self::LEN_MAX).contains(&len) {
            return None;
        }
        let kept = u128::from_le_bytes(*block) & !(u128::MAX << (8 * len));
        let bytes = *kept.to_le_bytes().first_chunk()?;
        Some(Self { bytes, len: u8::try_from(len).ok()? })
    }
}

impl<const MIN: usize, const MAX: usize> Deref for InlineBytes<MIN, MAX> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// As hex, the one way IDs are written for people.
impl<const MIN: usize, const MAX: usize> fmt::Display for InlineBytes<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const MIN: usize, const MAX: usize> fmt::Debug for InlineBytes<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whole words, and the same number of them for every length: IDs are looked up per datagram.
impl<const MIN: usize, const MAX: usize> Hash for InlineBytes<MIN, MAX> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Behind the bytes, where a word of its own is not needed for it, stands the length.
        let mut padded = [[0; 16]; 2];
        let all = padded.as_flattened_mut();
        if let Some(bytes) = all.first_chunk_mut::<MAX>() {
            *bytes = self.bytes;
        }
        if let Some(last) = all.get_mut(MAX) {
            *last = self.len;
        }
        for word in padded.iter().take((MAX + 1).div_ceil(16)) {
            state.write_u128(u128::from_le_bytes(*word));
        }
    }
}

/// Which of the seven configurations an ID was made with: 0..=6. The eighth value of the three
/// bits marks an ID as unroutable on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub struct ConfigId(u8);

impl ConfigId {
    /// How many there are.
    pub const COUNT: usize = 7;

    /// `None` for 7 and above.
    #[must_use]
    pub const fn new(id: u8) -> Option<Self> {
        if (id as usize) < Self::COUNT { Some(Self(id)) } else { None }
    }

    /// The configuration a first byte names.
    #[must_use]
    pub const fn from_first_byte(first: u8) -> Option<Self> {
        Self::new(first >> 5)
    }

    /// The number, 0..=6.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl fmt::Display for ConfigId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
