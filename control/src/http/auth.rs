//! Who may do what: whoever knows the token for it.

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

impl Token {
    /// The text, to be said to another control.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The tokens of a control, each with less to do than the one before.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tokens {
    /// May do everything.
    pub operator: Option<Token>,
    /// Lets nodes register, and read the fleet with the keys that nodes share.
    pub node: Option<Token>,
    /// Lets LBs report, and read the fleet without those keys.
    pub lb: Option<Token>,
}

impl From<Option<Token>> for Tokens {
    fn from(operator: Option<Token>) -> Self {
        Self { operator, node: None, lb: None }
    }
}

/// What somebody is by the token that was said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    Operator,
    Node,
    Lb,
}

/// The text behind `Bearer`, if anything was said.
///
/// # Errors
/// 401 for another scheme.
pub(super) fn said(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let Some(said) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    match said.as_bytes().split_at_checked("Bearer ".len()) {
        Some((scheme, said)) if scheme.eq_ignore_ascii_case(b"Bearer ") => {
            Ok(Some(said.trim_ascii()))
        }
        _ => Err(Problem::unauthorized(false, "this call needs a bearer token, as in RFC 6750")),
    }
}

impl Tokens {
    /// Whose token this is.
    pub(super) fn scope(&self, said: &[u8]) -> Option<Scope> {
        let known =
            [(&self.operator, Scope::Operator), (&self.node, Scope::Node), (&self.lb, Scope::Lb)];
        // All are compared, so how long it takes tells at most their lengths.
        known.into_iter().fold(None, |found, (token, scope)| {
            let is = token.as_ref().is_some_and(|token| bool::from(said.ct_eq(token.0.as_bytes())));
            if is && found.is_none() { Some(scope) } else { found }
        })
    }

    /// Whether a call that needs one of `scopes` may go on, and with which.
    ///
    /// # Errors
    /// 401 without the right token, 403 with one for something else, or where there is none to know.
    pub(super) fn check(&self, scopes: &[Scope], headers: &HeaderMap) -> Result<Scope, Problem> {
        let known = scopes.iter().any(|scope| match scope {
            Scope::Operator => self.operator.is_some(),
            Scope::Node => self.node.is_some(),
            Scope::Lb => self.lb.is_some(),
        });
        if !known {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "no_token_configured",
                "nothing can be changed through this control, since its configuration has neither \
                 http.token nor http.token_file",
            ));
        }
        let Some(said) = said(headers)? else {
            return Err(Problem::unauthorized(false, "this call needs a bearer token"));
        };
        match self.scope(said) {
            Some(scope) if scopes.contains(&scope) => Ok(scope),
            Some(_) => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "other_scope",
                "this token is for other calls than this one",
            )),
            None => Err(Problem::unauthorized(true, "this is not the token")),
        }
    }
}
