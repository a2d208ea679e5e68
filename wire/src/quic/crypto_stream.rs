use core::ops::Range;

/// Bytes of handshake kept: a ClientHello with a post-quantum key share and ECH is about 2,000.
const CAPACITY: usize = 8 * 1024;
const WORDS: usize = CAPACITY / 64;

/// A CRYPTO frame that ends beyond what is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("handshake data at offset {offset} does not fit in {CAPACITY} bytes")]
pub struct Overflow {
    /// Where the frame's data begins, in bytes.
    pub offset: u64,
}

/// Puts the handshake stream together from frames in any order, repeated and overlapping.
///
/// Browsers shuffle on purpose: Chrome's first Initial holds the first bytes *and the last* of its
/// ClientHello, the second the middle. One bit per byte says what has come, so there is no number
/// of fragments that could be too many:
///
/// ```text
/// bytes    ClientHello.............        ....tail    (room for 8 KiB)
/// come     1111111111111111111111110000000011111111000
///          └──── prefix(): readable ────┘
/// ```
#[derive(Clone)]
pub struct CryptoStream {
    bytes: [u8; CAPACITY],
    come: [u64; WORDS],
    /// Bytes before this one have all come.
    prefix: usize,
    /// No byte at or after this one has come: what must be wiped before reuse.
    high: usize,
}

impl CryptoStream {
    /// Most bytes a stream keeps.
    pub const CAPACITY: usize = CAPACITY;

    /// An empty stream.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; CAPACITY], come: [0; WORDS], prefix: 0, high: 0 }
    }

    /// Forgets everything; costs what was written, not the capacity.
    pub fn clear(&mut self) {
        let words = self.high.div_ceil(64);
        if let Some(used) = self.come.get_mut(..words) {
            used.fill(0);
        }
        self.prefix = 0;
        self.high = 0;
    }

    /// Takes over what `other` holds; costs what was written.
    pub fn copy_from(&mut self, other: &Self) {
        self.clear();
        let words = other.high.div_ceil(64);
        if let (Some(to), Some(from)) = (self.come.get_mut(..words), other.come.get(..words)) {
            to.copy_from_slice(from);
        }
        if let (Some(to), Some(from)) =
            (self.bytes.get_mut(..other.high), other.bytes.get(..other.high))
        {
            to.copy_from_slice(from);
        }
        self.prefix = other.prefix;
        self.high = other.high;
    }

    /// Puts `data` at `offset`.
    ///
    /// # Errors
    /// [`Overflow`] when it ends beyond [`CryptoStream::CAPACITY`]; nothing is written then.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Overflow> {
        let range = place(offset, data).ok_or(Overflow { offset })?;
        let slots = self.bytes.get_mut(range.clone()).ok_or(Overflow { offset })?;
        slots.copy_from_slice(data);
        self.high = self.high.max(range.end);
        self.mark(range);
        self.extend_prefix();
        Ok(())
    }

    /// Whether [`CryptoStream::write`] would take this.
    #[must_use]
    pub fn fits(&self, offset: u64, data: &[u8]) -> bool {
        place(offset, data).is_some_and(|range| range.end <= self.bytes.len())
    }

    /// The stream's beginning, as far as it has no gap.
    #[must_use]
    pub fn prefix(&self) -> &[u8] {
        self.bytes.get(..self.prefix).unwrap_or_default()
    }

    fn mark(&mut self, range: Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let (word, bit) = (at / 64, at % 64);
            let count = (64 - bit).min(range.end - at);
            if let Some(word) = self.come.get_mut(word) {
                *word |= (u64::MAX >> (64 - count)) << bit;
            }
            at += count;
        }
    }

    fn extend_prefix(&mut self) {
        while let Some(word) = self.come.get(self.prefix / 64) {
            let bit = self.prefix % 64;
            let run = (!(word >> bit)).trailing_zeros() as usize;
            let run = run.min(64 - bit);
            self.prefix += run;
            if run < 64 - bit {
                break;
            }
        }
    }
}

/// Where in a stream this belongs.
fn place(offset: u64, data: &[u8]) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    Some(start..start.checked_add(data.len())?)
}

impl Default for CryptoStream {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::{CAPACITY, CryptoStream, Overflow};

    #[test]
    fn a_frame_that_ends_beyond_the_capacity_is_refused_whole() {
        let mut stream = CryptoStream::new();
        let offset = CAPACITY as u64 - 1;
        assert_eq!(stream.write(offset, &[1, 2]), Err(Overflow { offset }));
        assert_eq!(stream.write(u64::MAX, &[1]), Err(Overflow { offset: u64::MAX }));
        assert_eq!(stream.write(0, &[7; CAPACITY - 1]), Ok(()));
        assert_eq!(stream.prefix().len(), CAPACITY - 1, "the refused byte left no trace");
        assert_eq!(stream.write(offset, &[9]), Ok(()));
        assert_eq!(stream.prefix().len(), CAPACITY);
    }

    proptest! {
        /// The obvious model: an optional byte per position.
        #[test]
        fn any_order_of_any_fragments_reads_as_an_array_of_optional_bytes(
            writes in prop::collection::vec((0_usize..600, prop::collection::vec(any::<u8>(), 0..200)), 0..40),
            before in prop::collection::vec((0_usize..600, 0_usize..200), 0..5),
        ) {
            let mut stream = CryptoStream::new();
            for (offset, length) in before {
                stream.write(offset as u64, &std::vec![0xaa; length]).expect("fits");
            }
            stream.clear();
            let mut copy = stream.clone();

            let mut model = std::vec![None; 1024];
            for (offset, data) in writes {
                for (slot, byte) in model[offset..].iter_mut().zip(&data) {
                    *slot = Some(*byte);
                }
                stream.write(offset as u64, &data).expect("fits");
                let expected: Vec<u8> = model.iter().map_while(|byte| *byte).collect();
                prop_assert_eq!(stream.prefix(), expected);
            }
            copy.copy_from(&stream);
            prop_assert_eq!(copy.prefix(), stream.prefix());
            copy.write(0, &[0x55; 700]).expect("fits");
            prop_assert!(copy.prefix().len() >= 700, "the copy goes on by itself");
        }
    }
}
