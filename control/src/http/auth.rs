//! Who may do what: whoever knows the token for it, or has a signed one that says so.

use std::{fmt, sync::Arc};

use axum::{
    RequestExt,
    extract::{MatchedPath, RawPathParams, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use subtle::ConstantTimeEq;

use super::{Api, problem::Problem, rooms::TENANT, serve::Peer};
use crate::{
    join,
    jwt::{Claims, Refused, Verifier},
    records::{self, Parent},
    store::Store,
};

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
    /// Of one room only; always by a signed token.
    Join,
}

impl Scope {
    /// What it is called in signed tokens.
    const fn name(self) -> &'static str {
        match self {
            Self::Operator => "admin",
            Self::Node => "node",
            Self::Lb => "lb",
            Self::Join => "join",
        }
    }
}

/// Who calls.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) scope: Scope,
    /// What the token says, where it is a signed one.
    pub(super) claims: Option<Arc<Claims>>,
}

impl Caller {
    /// Whether this may speak for a node or an LB. A token of the configuration is for all of them, a
    /// signed one for that which it names.
    ///
    /// # Errors
    /// 403 for another's.
    pub(super) fn is(&self, id: &str) -> Result<(), Problem> {
        let (Scope::Node | Scope::Lb, Some(claims)) = (self.scope, &self.claims) else {
            return Ok(());
        };
        match &claims.sub {
            Some(sub) if sub == id => Ok(()),
            Some(sub) => Err(forbidden(
                "other_subject",
                format_args!("this token is {sub}'s, and says nothing for {id}"),
            )),
            None => Err(forbidden(
                "other_subject",
                "this token has no sub, so it says nothing for anybody",
            )),
        }
    }

    /// Whether this may be in a room. Who may do everything may.
    ///
    /// # Errors
    /// 403 for another room's.
    fn may_enter(&self, room: &str) -> Result<(), Problem> {
        let (Scope::Join, Some(claims)) = (self.scope, &self.claims) else { return Ok(()) };
        if admits(claims, room) {
            return Ok(());
        }
        Err(forbidden("other_room", format_args!("this is no token for room {room:?}")))
    }
}

/// Whether what a token says is about a room.
pub(super) fn admits(claims: &Claims, room: &str) -> bool {
    let tenant = claims.tenant.as_deref().unwrap_or(TENANT);
    claims.is_for("join") && claims.room.as_deref() == Some(room) && tenant == TENANT
}

pub(super) fn forbidden(code: &'static str, detail: impl fmt::Display) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, code, detail)
}

/// Lets a call on that may go on; what it is known for goes with it.
pub(super) async fn authorize(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let scopes = needed(request.method(), route);
    let own = ["/v1/nodes/{id}", "/v1/lbs/{id}"].contains(&route);
    if let Some(scopes) = scopes {
        let caller = match api.check(scopes, request.headers()).await {
            Ok(caller) => caller,
            Err(problem) => return problem.into_response(),
        };
        let certified = request.extensions().get::<Peer>().is_none_or(|peer| peer.certified);
        if !certified && matches!(caller.scope, Scope::Node | Scope::Lb) {
            let problem =
                "nodes and LBs must show a certificate of the authority http.tls.client_ca";
            return forbidden("no_certificate", problem).into_response();
        }
        if caller.claims.is_some() && caller.scope != Scope::Operator {
            let params = request.extract_parts::<RawPathParams>().await;
            // One that cannot be read is refused by its handler.
            for (name, value) in params.iter().flatten() {
                let may = match name {
                    "id" if own => caller.is(value),
                    "room" => caller.may_enter(value),
                    _ => Ok(()),
                };
                if let Err(problem) = may {
                    return problem.into_response();
                }
            }
        }
        request.extensions_mut().insert(caller.scope);
        request.extensions_mut().insert(caller);
    }
    next.run(request).await
}

/// Whose tokens a call needs one of. `None`: it needs none. What is not known to change nothing needs
/// the operator's, so that no route is forgotten.
fn needed(method: &Method, route: &str) -> Option<&'static [Scope]> {
    match (method.as_str(), route) {
        ("GET" | "HEAD", "/v1/fleet") => Some(&[Scope::Operator, Scope::Node, Scope::Lb]),
        ("GET" | "HEAD" | "OPTIONS", _) => None,
        ("PUT", "/v1/nodes/{id}") => Some(&[Scope::Operator, Scope::Node]),
        ("POST", "/v1/sessions") | ("DELETE", "/v1/sessions/{ufrag}") => {
            Some(&[Scope::Operator, Scope::Node])
        }
        // The handler knows who may be in the room, and a session's URL is its own key.
        ("POST", "/whip/{room}" | "/whep/{room}") => None,
        ("PATCH" | "DELETE", "/sessions/{node}/{id}") => None,
        ("POST", "/v1/rooms/{room}/join") => Some(&[Scope::Operator, Scope::Join]),
        ("PUT", "/v1/lbs/{id}") => Some(&[Scope::Operator, Scope::Lb]),
        _ => Some(&[Scope::Operator]),
    }
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

    /// Whether anybody can be known for one of `scopes`.
    fn know(&self, scopes: &[Scope]) -> bool {
        scopes.iter().any(|scope| match scope {
            Scope::Operator => self.operator.is_some(),
            Scope::Node => self.node.is_some(),
            Scope::Lb => self.lb.is_some(),
            Scope::Join => false,
        })
    }
}

impl Api {
    /// Whether a call that needs one of `scopes` may go on, and whose it is.
    ///
    /// # Errors
    /// 401 without the right token, 403 with one for something else, or where there is none to know.
    async fn check(&self, scopes: &[Scope], headers: &HeaderMap) -> Result<Caller, Problem> {
        let (tokens, verifier) = self.keys();
        if scopes.contains(&Scope::Join)
            && let Ok(Some(said)) = said(headers)
            && tokens.scope(said).is_none()
            && let Some(claims) = self.of_parent(said).await?
        {
            return Ok(Caller { scope: Scope::Join, claims: Some(Arc::new(claims)) });
        }
        if !tokens.know(scopes) && verifier.is_none() {
            return Err(forbidden(
                "no_token_configured",
                "this call needs a token, and this control has none: its configuration has neither \
                 http.token nor http.token_file",
            ));
        }
        let Some(said) = said(headers)? else {
            return Err(Problem::unauthorized(false, "this call needs a bearer token"));
        };
        let other = || forbidden("other_scope", "this token is for other calls than this one");
        match (tokens.scope(said), verifier) {
            (Some(scope), _) if scopes.contains(&scope) => Ok(Caller { scope, claims: None }),
            (Some(_), _) => Err(other()),
            (None, Some(verifier)) => {
                let claims = read(&verifier, said)?;
                let scope = scopes.iter().copied().find(|scope| claims.is_for(scope.name()));
                let scope = scope.ok_or_else(other)?;
                Ok(Caller { scope, claims: Some(Arc::new(claims)) })
            }
            (None, None) => Err(Problem::unauthorized(true, "this is not the token")),
        }
    }
}

impl Api {
    /// What a token says that this cluster's parent has made for it, if it is one.
    async fn of_parent(&self, said: &[u8]) -> Result<Option<Claims>, Problem> {
        let Some(entry) = self.store.get(records::PARENT).await?.0 else { return Ok(None) };
        let parent: Parent = records::read(&entry)?;
        Ok(join::read_of_parent(&parent, said, join::now()).ok())
    }
}

/// What a signed token says.
pub(super) fn read(verifier: &Verifier, said: &[u8]) -> Result<Claims, Problem> {
    verifier
        .read(said, join::now())
        .map_err(|refused: Refused| Problem::unauthorized(true, refused))
}
