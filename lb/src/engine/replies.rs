//! What the LB answers itself: a check that names a node which is down.
//!
//! The node's clients would otherwise send checks into the void for half a minute before they give
//! up. An error 400, sealed with the session's own password as only someone who knows `ice_key` can,
//! ends the pair at once, and the client joins anew.
//!
//! Nobody is flooded by it: only a request that was verified is answered, with fewer bytes than it
//! has (`wire` holds that at compile time), and [`REPLIES_PER_SECOND`] bounds what replayed requests
//! under foreign addresses could bring about.

use std::time::Duration;

use wire::stun::{BINDING_ERROR_LEN, ErrorCode, TransactionId, binding_error};

use crate::clock::Tick;

/// Most answers of one engine within a second; what exceeds them is dropped, `rate_limited`.
pub const REPLIES_PER_SECOND: u32 = 1_000;

const WINDOW: Duration = Duration::from_secs(1);

pub(super) struct Replies {
    latest: [u8; BINDING_ERROR_LEN],
    /// The first answer of the current second, and how many there were since.
    window: Option<(Tick, u32)>,
}

impl Replies {
    pub(super) const fn new() -> Self {
        Self { latest: [0; BINDING_ERROR_LEN], window: None }
    }

    /// Makes the answer to a request that `password` has verified. False if there were too many.
    pub(super) fn refuse(
        &mut self,
        now: Tick,
        transaction: TransactionId,
        password: &[u8],
    ) -> bool {
        self.expire(now);
        let (_, count) = self.window.get_or_insert((now, 0));
        if *count == REPLIES_PER_SECOND {
            return false;
        }
        *count += 1;
        self.latest = binding_error(transaction, ErrorCode::BadRequest, password);
        true
    }

    /// The answer that was made last.
    pub(super) const fn latest(&self) -> &[u8] {
        &self.latest
    }

    /// Ends a second that is over. Called for every datagram, since ticks are not to be kept.
    pub(super) fn expire(&mut self, now: Tick) {
        self.window.take_if(|(begun, _)| begun.age(now) >= WINDOW);
    }
}
