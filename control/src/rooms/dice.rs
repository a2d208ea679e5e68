//! Random numbers of the system, many at a time.

use std::sync::{Mutex, PoisonError};

/// How many are asked for at once.
const BATCH: usize = 64;

/// Numbers that were not used yet.
#[derive(Debug, Default)]
pub(super) struct Dice(Mutex<Vec<[u8; 8]>>);

impl Dice {
    /// A number below `below`; the first problem is noted, and is then for the caller to see.
    pub(super) fn draw(&self, below: u64, failed: &mut Option<getrandom::Error>) -> u64 {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if left.is_empty() {
            let mut bytes = [0; 8 * BATCH];
            if let Err(error) = getrandom::fill(&mut bytes) {
                failed.get_or_insert(error);
                return 0;
            }
            left.extend(bytes.as_chunks().0);
        }
        let number = left.pop().map_or(0, u64::from_le_bytes);
        number % below.max(1)
    }
}
