//! Who may change the fleet: whoever knows the token.

use std::fmt;

use axum::http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// Fewest characters of a token: a short one can be guessed.
pub const TOKEN_MIN: usize = 16;

/// A bearer token (RFC 6750). Never shown.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(String);

/// A text that cannot be a token; never repeats it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "must be at least {TOKEN_MIN} characters of A-Z a-z 0-9 - . _ ~ + / =, as from `openssl rand -hex 32`"
)]
pub struct InvalidToken;

impl TryFrom<String> for Token {
    type Error = InvalidToken;

    fn try_from(text: String) -> Result<Self, InvalidToken> {
        let fits = text.len() >= TOKEN_MIN
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
        if fits { Ok(Self(text)) } else { Err(InvalidToken) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Whether a call that changes something may go on.
///
/// # Errors
/// 401 without the right token, 403 where there is none to know.
pub(super) fn check(token: Option<&Token>, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(token) = token else {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "no_token_configured",
            "nothing can be changed through this control, since its configuration has neither \
             http.token nor http.token_file",
        ));
    };
    let Some(said) = headers.get(header::AUTHORIZATION) else {
        return Err(Problem::unauthorized(false, "this call needs a bearer token"));
    };
    let bearer = said.as_bytes().split_at_checked("Bearer ".len());
    match bearer {
        Some((scheme, said)) if scheme.eq_ignore_ascii_case(b"Bearer ") => {
            // How long it takes tells at most the length.
            if bool::from(said.trim_ascii().ct_eq(token.0.as_bytes())) {
                Ok(())
            } else {
                Err(Problem::unauthorized(true, "this is not the token"))
            }
        }
        _ => Err(Problem::unauthorized(false, "this call needs a bearer token, as in RFC 6750")),
    }
}
