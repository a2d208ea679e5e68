//! Join tokens: whoever holds one may publish and play in one room for a while.
//!
//! A token says what it is for and carries a MAC over it, so any control that knows the store's key
//! can tell, and nothing is kept for each. The form is nobody's business but ours:
//! `v1.<seconds since 1970, hex>.<HMAC-SHA256, base64url>`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How long a token is good for.
pub const LIFETIME: Duration = Duration::from_hours(1);

/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// Makes and knows tokens.
#[derive(Clone)]
pub struct Joins {
    key: [u8; KEY_LEN],
}

impl std::fmt::Debug for Joins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Joins(…)")
    }
}

impl Joins {
    /// With the fleet's key.
    #[must_use]
    pub const fn new(key: [u8; KEY_LEN]) -> Self {
        Self { key }
    }

    /// A token for a room, good for [`LIFETIME`] from `now`.
    #[must_use]
    pub fn issue(&self, room: &str, now: SystemTime) -> String {
        let until = format!("{:x}", seconds(now + LIFETIME));
        let tag = self.mac(room, &until).finalize().into_bytes();
        format!("v1.{until}.{}", BASE64URL_NOPAD.encode(&tag))
    }

    /// Whether a token is for a room, and still good.
    #[must_use]
    pub fn admits(&self, token: &[u8], room: &str, now: SystemTime) -> bool {
        let Ok(token) = std::str::from_utf8(token) else { return false };
        let Some((until, tag)) = token.strip_prefix("v1.").and_then(|rest| rest.split_once('.'))
        else {
            return false;
        };
        let Ok(tag) = BASE64URL_NOPAD.decode(tag.as_bytes()) else { return false };
        self.mac(room, until).verify_slice(&tag).is_ok()
            && u64::from_str_radix(until, 16).is_ok_and(|until| seconds(now) < until)
    }

    fn mac(&self, room: &str, until: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes any key");
        // Neither has a line feed in it, so no two pairs are the same text.
        mac.update(format!("join\n{until}\n{room}").as_bytes());
        mac
    }
}

/// The time that tokens end by.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "a token must end by the same clock on every control"
)]
pub fn now() -> SystemTime {
    SystemTime::now()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_admits_to_its_room_until_it_ends_and_to_nothing_else() {
        let joins = Joins::new([7; KEY_LEN]);
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let token = joins.issue("lobby", now);
        let admits = |token: &str, room: &str, now| joins.admits(token.as_bytes(), room, now);
        assert!(admits(&token, "lobby", now + LIFETIME - Duration::from_secs(1)));
        assert!(!admits(&token, "lobby", now + LIFETIME), "it has ended");
        assert!(!admits(&token, "lobby2", now), "another room");
        assert!(!Joins::new([8; KEY_LEN]).admits(token.as_bytes(), "lobby", now), "another fleet");
        let longer = token.replacen("v1.", "v1.f", 1);
        assert!(!admits(&longer, "lobby", now), "a time that was changed");
        for wrong in ["", "v1", "v1.", "v1..", "v1.f4240.", "v1.zz.AAAA", "v2.f4240.AAAA", "\u{fc}"]
        {
            assert!(!admits(wrong, "lobby", now), "{wrong:?}");
        }
    }
}
