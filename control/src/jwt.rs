//! Signed tokens (RFC 7519): what somebody else says of who calls, and how that is known to be true.
//!
//! A [`Verifier`] takes one algorithm and one key of its kind, so a token cannot choose how it is
//! checked. Times are compared here, by a clock that the caller reads once.

use std::{
    fmt, fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{
    Algorithm as Alg, DecodingKey, TokenData, Validation, decode, errors::ErrorKind,
};
use serde::Deserialize;

use crate::{
    fleet::is_name,
    toml_file::{FileError, duration},
};

/// Longest token, in bytes: a signature of RSA with 4096 bits and claims of a few names fit well.
const TOKEN_MAX: usize = 8 * 1024;

/// Shortest secret of HS256, in bytes: as long as its hash (RFC 7518, section 3.2).
const SECRET_MIN: usize = 32;

/// Longest key file, in bytes.
const KEY_MAX: u64 = 64 * 1024;

/// Most leeway: a clock that is further off is broken.
const LEEWAY_MAX: Duration = Duration::from_mins(10);

/// How tokens are signed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum Algorithm {
    /// HMAC with SHA-256: a secret that both sides know.
    #[serde(rename = "HS256")]
    Hs256,
    /// Ed25519: a public key.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA with P-256: a public key.
    #[serde(rename = "ES256")]
    Es256,
    /// RSA with SHA-256: a public key.
    #[serde(rename = "RS256")]
    Rs256,
}

/// `[http.jwt]`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct JwtConfig {
    /// The one algorithm that is taken.
    pub algorithm: Algorithm,
    /// The secret, or the public key as PEM; relative to the configuration file.
    pub key_file: PathBuf,
    /// What `iss` must be; absent: anything.
    #[serde(default)]
    pub issuer: Option<String>,
    /// What `aud` must name; absent: a token must not have one.
    #[serde(default)]
    pub audience: Option<String>,
    /// How far clocks may be apart.
    #[serde(default, deserialize_with = "duration")]
    pub leeway: Duration,
}

/// What a token says.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Claims {
    /// What it is for: `admin`, `node`, `lb` or `join`, or several with spaces between them.
    pub scope: String,
    /// Whose it is: the node or LB that it lets in.
    #[serde(default)]
    pub sub: Option<String>,
    /// The room that it lets into.
    #[serde(default)]
    pub room: Option<String>,
    /// Whose room that is.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Whether to publish there.
    #[serde(default = "yes")]
    pub publish: bool,
    /// Whether to play there.
    #[serde(default = "yes")]
    pub subscribe: bool,
    /// When it ends, in seconds since 1970.
    pub exp: f64,
    /// When it begins.
    #[serde(default)]
    pub nbf: Option<f64>,
}

const fn yes() -> bool {
    true
}

/// Why a token is not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// It is not a token of this kind at all.
    #[error("this is not the token")]
    Malformed,
    /// The key did not make it.
    #[error("this token was not signed with the key that this control knows")]
    Signature,
    /// It says to be signed in another way.
    #[error("this token is not signed by the algorithm that this control takes")]
    Algorithm,
    /// It is somebody else's word.
    #[error("this token is not from the issuer that this control trusts")]
    Issuer,
    /// It is for somebody else.
    #[error("this token is for another audience")]
    Audience,
    /// It was good until some time ago.
    #[error("this token has ended")]
    Ended,
    /// It will be good.
    #[error("this token is not valid yet")]
    NotYet,
    /// A claim is missing, or not what it should be.
    #[error("the claims of this token are not as they should be: {0}")]
    Claims(String),
}

/// Knows tokens by one algorithm and one key. Clones share them.
#[derive(Clone)]
pub struct Verifier {
    known: Arc<(DecodingKey, Validation)>,
    leeway: Duration,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({:?}, …)", self.known.1.algorithms)
    }
}

impl JwtConfig {
    /// The key that it names, and what is asked of tokens.
    ///
    /// # Errors
    /// One sentence naming the file with the key.
    pub fn verifier(&self) -> Result<Verifier, FileError> {
        let file = self.key_file.as_path();
        let wrong = |problem: &dyn fmt::Display| FileError::of_file(file, problem);
        let length = fs::metadata(file).map_or(0, |about| about.len());
        if length > KEY_MAX {
            return Err(wrong(&format_args!("a key has at most {KEY_MAX} bytes")));
        }
        let bytes = fs::read(file)
            .map_err(|error| wrong(&format_args!("the key cannot be read: {error}")))?;
        let is_pem = bytes.windows(11).any(|window| window == b"-----BEGIN ");
        let (alg, key) = match self.algorithm {
            // A public key as a secret is how anybody could sign.
            Algorithm::Hs256 if is_pem => {
                return Err(wrong(&"is a PEM file, and HS256 takes a secret of its own"));
            }
            Algorithm::Hs256 => {
                let secret = bytes.trim_ascii_end();
                if secret.len() < SECRET_MIN {
                    return Err(wrong(&format_args!(
                        "the secret must have at least {SECRET_MIN} bytes, as from `openssl rand \
                         -hex 32`"
                    )));
                }
                (Alg::HS256, Ok(DecodingKey::from_secret(secret)))
            }
            Algorithm::EdDsa => (Alg::EdDSA, DecodingKey::from_ed_pem(&bytes)),
            Algorithm::Es256 => (Alg::ES256, DecodingKey::from_ec_pem(&bytes)),
            Algorithm::Rs256 => (Alg::RS256, DecodingKey::from_rsa_pem(&bytes)),
        };
        let key = key.map_err(|_| {
            wrong(&format_args!("is not the public key of {:?} as PEM", self.algorithm))
        })?;
        Ok(Verifier::new(alg, key, self.issuer.as_deref(), self.audience.as_deref(), self.leeway))
    }

    /// What is wrong with it but the key.
    ///
    /// # Errors
    /// The key and one sentence.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        for (key, text) in
            [("http.jwt.issuer", &self.issuer), ("http.jwt.audience", &self.audience)]
        {
            if text.as_ref().is_some_and(|text| text.is_empty() || text.len() > 1024) {
                return Err((key, "must have 1 to 1024 bytes".to_owned()));
            }
        }
        if self.leeway > LEEWAY_MAX {
            return Err(("http.jwt.leeway", "must be at most 10 min".to_owned()));
        }
        Ok(())
    }
}

impl Verifier {
    fn new(
        alg: Alg,
        key: DecodingKey,
        issuer: Option<&str>,
        audience: Option<&str>,
        leeway: Duration,
    ) -> Self {
        let mut validation = Validation::new(alg);
        // By the caller's clock, below.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        if let Some(issuer) = issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        if let Some(audience) = audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        Self { known: Arc::new((key, validation)), leeway }
    }

    /// For what the fleet itself signs with a secret.
    pub(crate) fn of_secret(secret: &[u8], issuer: &str, audience: Option<&str>) -> Self {
        let key = DecodingKey::from_secret(secret);
        Self::new(Alg::HS256, key, Some(issuer), audience, Duration::ZERO)
    }

    /// What a token says, if it is to be believed.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn read(&self, token: &[u8], now: SystemTime) -> Result<Claims, Refused> {
        if token.len() > TOKEN_MAX {
            return Err(Refused::Malformed);
        }
        let (key, validation) = &*self.known;
        let TokenData { claims, .. } =
            decode::<Claims>(token, key, validation).map_err(|error| match error.into_kind() {
                ErrorKind::InvalidSignature => Refused::Signature,
                ErrorKind::InvalidAlgorithm => Refused::Algorithm,
                ErrorKind::InvalidIssuer => Refused::Issuer,
                ErrorKind::InvalidAudience => Refused::Audience,
                ErrorKind::MissingRequiredClaim(claim) => {
                    Refused::Claims(format!("{claim} is missing"))
                }
                ErrorKind::Json(error) if error.is_data() => Refused::Claims(error.to_string()),
                _ => Refused::Malformed,
            })?;
        let leeway = self.leeway.as_secs_f64();
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        if now >= claims.exp + leeway {
            return Err(Refused::Ended);
        }
        if claims.nbf.is_some_and(|nbf| now + leeway < nbf) {
            return Err(Refused::NotYet);
        }
        claims.check()?;
        Ok(claims)
    }
}

impl Claims {
    /// What must hold of names before anything is compared with them.
    fn check(&self) -> Result<(), Refused> {
        for (claim, text) in [("sub", &self.sub), ("room", &self.room), ("tenant", &self.tenant)] {
            let fits = text.as_ref().is_none_or(|text| is_name(text, crate::rooms::NAME_MAX));
            // A person's mail address may be whose an operator's token is.
            if !fits && (claim != "sub" || self.is_for("node") || self.is_for("lb")) {
                return Err(Refused::Claims(format!("{claim} is not a name")));
            }
        }
        Ok(())
    }

    /// Whether it is for that.
    #[must_use]
    pub fn is_for(&self, scope: &str) -> bool {
        self.scope.split(' ').any(|one| one == scope)
    }
}
