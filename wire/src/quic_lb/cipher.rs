//! The two encrypted forms (draft-ietf-quic-load-balancers-21, sections 5.4 and 5.5).
//!
//! A half of the four-pass form is at most ten bytes, so it lives in the *high* bytes of a `u128`,
//! where the block for AES needs it, and "first" and "last bits" are masks:
//!
//! ```text
//! 7 bytes   70 40 b8 1b 55 cc f3        the middle byte is shared when the length is odd
//! left_0    70 40 b8 1_ 00 00 ...       & left_mask:  last 4 bits of the half cleared
//! right_0   _b 55 cc f3 00 00 ...       & right_mask: first 4 bits cleared
//! for AES   <half> 00 ... 00 length pass
//! ```

use aes::{
    Aes128Dec, Aes128Enc,
    cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit},
};

/// Bytes of a routing-ID key: AES-128.
pub const AES_KEY_LEN: usize = 16;

/// Bytes that one AES block holds.
pub(super) const BLOCK_LEN: usize = 16;

/// Most bytes of server ID and nonce together.
pub(super) const PLAINTEXT_MAX: usize = 19;

/// Bytes of a [`Body`].
pub(super) const BODY_LEN: usize = 32;

/// Server ID and nonce, and room behind them, so that both halves of the longest can be read and
/// written as whole blocks.
pub(super) type Body = [u8; BODY_LEN];

// The right half begins in the middle, at most.
const _: () = assert!(PLAINTEXT_MAX / 2 + BLOCK_LEN <= BODY_LEN);

/// The cipher for a server ID and nonce that fill one block.
#[derive(Clone)]
pub(super) struct SinglePass {
    encrypt: Aes128Enc,
    decrypt: Aes128Dec,
}

impl SinglePass {
    pub(super) fn new(key: &[u8; AES_KEY_LEN]) -> Self {
        let key = Array::from(*key);
        Self { encrypt: Aes128Enc::new(&key), decrypt: Aes128Dec::new(&key) }
    }

    pub(super) fn encrypt(&self, plaintext: [u8; BLOCK_LEN]) -> [u8; BLOCK_LEN] {
        let mut block = Array::from(plaintext);
        self.encrypt.encrypt_block(&mut block);
        block.0
    }

    pub(super) fn decrypt(&self, ciphertext: [u8; BLOCK_LEN]) -> [u8; BLOCK_LEN] {
        let mut block = Array::from(ciphertext);
        self.decrypt.decrypt_block(&mut block);
        block.0
    }
}

/// The cipher for every other length: a four-round Feistel network around AES.
#[derive(Clone)]
pub(super) struct FourPass {
    aes: Aes128Enc,
    /// Bytes of server ID and nonce together, 5..=19.
    length: u8,
    left_mask: u128,
    right_mask: u128,
}

/// The two halves of a plaintext, in the high bytes.
#[derive(Clone, Copy)]
struct Halves {
    left: u128,
    right: u128,
}

impl FourPass {
    pub(super) fn new(key: &[u8; AES_KEY_LEN], length: u8) -> Self {
        let whole = !(u128::MAX >> (8 * u32::from(length.div_ceil(2))));
        let (left_mask, right_mask) = if length.is_multiple_of(2) {
            (whole, whole)
        } else {
            (whole << 4, whole & (u128::MAX >> 4))
        };
        Self { aes: Aes128Enc::new(&Array::from(*key)), length, left_mask, right_mask }
    }

    pub(super) fn encrypt(&self, bytes: &mut Body) {
        let mut halves = self.split(bytes);
        halves.right ^= self.round(1, halves.left) & self.right_mask;
        halves.left ^= self.round(2, halves.right) & self.left_mask;
        halves.right ^= self.round(3, halves.left) & self.right_mask;
        halves.left ^= self.round(4, halves.right) & self.left_mask;
        self.merge(halves, bytes);
    }

    /// The plaintext. Without `whole`, only its first half comes out right, one AES call sooner:
    /// enough when the server ID is no longer than the nonce.
    pub(super) fn decrypt(&self, bytes: &mut Body, whole: bool) {
        let mut halves = self.split(bytes);
        halves.left ^= self.round(4, halves.right) & self.left_mask;
        halves.right ^= self.round(3, halves.left) & self.right_mask;
        halves.left ^= self.round(2, halves.right) & self.left_mask;
        if whole {
            halves.right ^= self.round(1, halves.left) & self.right_mask;
        }
        self.merge(halves, bytes);
    }

    /// expand() and one AES call; the caller truncates by masking.
    fn round(&self, pass: u8, half: u128) -> u128 {
        let block = half | u128::from(self.length) << 8 | u128::from(pass);
        let mut block = Array::from(block.to_be_bytes());
        self.aes.encrypt_block(&mut block);
        u128::from_be_bytes(block.0)
    }

    /// How many bytes the right half begins behind the left one.
    fn right_at(&self) -> usize {
        usize::from(self.length / 2)
    }

    fn split(&self, bytes: &Body) -> Halves {
        Halves {
            left: load(bytes, 0) & self.left_mask,
            right: load(bytes, self.right_at()) & self.right_mask,
        }
    }

    fn merge(&self, halves: Halves, bytes: &mut Body) {
        *bytes = [0; BODY_LEN];
        for (half, at) in [(halves.left, 0), (halves.right, self.right_at())] {
            let both = half | load(bytes, at);
            if let Some(block) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                *block = both.to_be_bytes();
            }
        }
    }
}

/// Sixteen bytes from `at`, first byte highest.
fn load(bytes: &Body, at: usize) -> u128 {
    let half = bytes.get(at..).and_then(<[u8]>::first_chunk).copied();
    u128::from_be_bytes(half.unwrap_or_default())
}
