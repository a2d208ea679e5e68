//! Join tokens: whoever holds one may publish or play in one room for a while.
//!
//! A token says what it is for and is signed, so any control that knows the store's key can tell, and
//! nothing is kept for each. It is a JWT like those of an operator's own making
//! ([`jwt`](crate::jwt)), with HS256 and the store's key, which nothing else is signed with.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use sha2::Sha256;

use crate::{
    fleet::NodeId,
    hex,
    jwt::{Claims, Refused, Verifier},
    records::Parent,
};

/// How long a token is good for.
pub const LIFETIME: Duration = Duration::from_hours(1);

/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// Who says so.
const ISSUER: &str = "onevip";

/// Makes and knows tokens.
#[derive(Clone)]
pub struct Joins {
    secret: [u8; KEY_LEN],
    key: EncodingKey,
    verifier: Verifier,
}

/// What a token lets do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pass<'a> {
    /// In which room.
    pub room: &'a str,
    /// To publish.
    pub publish: bool,
    /// To play.
    pub subscribe: bool,
    /// For how long.
    pub lifetime: Duration,
}

impl<'a> Pass<'a> {
    /// To do all that can be done in a room, for [`LIFETIME`].
    #[must_use]
    pub const fn whole(room: &'a str) -> Self {
        Self { room, publish: true, subscribe: true, lifetime: LIFETIME }
    }
}

#[derive(Serialize)]
struct Signed<'a> {
    iss: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    scope: &'static str,
    room: &'a str,
    publish: bool,
    subscribe: bool,
    exp: u64,
}

impl std::fmt::Debug for Joins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Joins(…)")
    }
}

impl Joins {
    /// With the fleet's key.
    #[must_use]
    pub fn new(key: [u8; KEY_LEN]) -> Self {
        let verifier = Verifier::of_secret(&key, ISSUER, None);
        Self { secret: key, key: EncodingKey::from_secret(&key), verifier }
    }

    /// A token that lets do what `pass` says from `now`.
    #[must_use]
    pub fn issue(&self, pass: &Pass<'_>, now: SystemTime) -> String {
        self.sign(pass, None, now)
    }

    /// A token that only the cluster of that name takes, which it knows by its
    /// [`Joins::cluster_key`].
    #[must_use]
    pub fn issue_for(&self, cluster: &NodeId, pass: &Pass<'_>, now: SystemTime) -> String {
        Self::new(self.derive(cluster)).sign(pass, Some(cluster.as_str()), now)
    }

    /// What a cluster knows the tokens by that are made for it, in hex. Nothing else is signed with it.
    #[must_use]
    pub fn cluster_key(&self, cluster: &NodeId) -> String {
        hex::encode(&self.derive(cluster))
    }

    fn derive(&self, cluster: &NodeId) -> [u8; KEY_LEN] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes any key");
        mac.update(format!("cluster\n{cluster}").as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn sign(&self, pass: &Pass<'_>, aud: Option<&str>, now: SystemTime) -> String {
        let Pass { room, publish, subscribe, lifetime } = *pass;
        let exp = seconds(now + lifetime);
        let signed = Signed { iss: ISSUER, aud, scope: "join", room, publish, subscribe, exp };
        // HMAC takes any key, and the claims are texts and numbers, which JSON has words for.
        encode(&Header::new(Algorithm::HS256), &signed, &self.key).unwrap_or_default()
    }

    /// What a token lets do, if it is one of these.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn read(&self, token: &[u8], now: SystemTime) -> Result<Claims, Refused> {
        self.verifier.read(token, now)
    }
}

/// What a parent's token lets do in the cluster that the parent knows by that name and key.
///
/// # Errors
/// [`Refused`].
pub fn read_of_parent(parent: &Parent, token: &[u8], now: SystemTime) -> Result<Claims, Refused> {
    let key = hex::decode_key::<KEY_LEN>(&parent.key).map_err(|_| Refused::Signature)?;
    Verifier::of_secret(&key, ISSUER, Some(parent.name.as_str())).read(token, now)
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

    const NOW: SystemTime = UNIX_EPOCH;

    #[test]
    fn a_token_says_its_room_until_it_ends_and_nothing_to_other_fleets() {
        let joins = Joins::new([7; KEY_LEN]);
        let now = NOW + Duration::from_secs(1_000_000);
        let token = joins.issue(&Pass { publish: false, ..Pass::whole("lobby") }, now);
        let read = |token: &str, now| joins.read(token.as_bytes(), now);
        let claims = read(&token, now + LIFETIME - Duration::from_secs(1)).expect("still good");
        assert_eq!(claims.room.as_deref(), Some("lobby"));
        assert_eq!((claims.publish, claims.subscribe), (false, true));
        assert_eq!(read(&token, now + LIFETIME), Err(Refused::Ended));
        let other = Joins::new([8; KEY_LEN]);
        assert_eq!(other.read(token.as_bytes(), now), Err(Refused::Signature), "another fleet");
        let parts: Vec<_> = token.split('.').collect();
        let longer = joins.issue(&Pass::whole("lobby"), now + LIFETIME);
        let theirs: Vec<_> = longer.split('.').collect();
        let mixed = format!("{}.{}.{}", parts[0], theirs[1], parts[2]);
        assert_eq!(read(&mixed, now), Err(Refused::Signature), "a time that was changed");
        for wrong in ["", "v1", "a.b", "a.b.c", "..", "\u{fc}", &"x".repeat(100_000)] {
            assert_eq!(read(wrong, now), Err(Refused::Malformed), "{wrong:.9}");
        }
    }
}
