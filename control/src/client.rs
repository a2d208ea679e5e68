//! Control as its callers see it: nodes, LBs and the command line.

mod follow;

use std::{fmt, time::Duration};

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use follow::{View, follow};

use crate::{
    api::{FleetView, Heartbeat, LbRegistration, LbReport, Registration},
    fleet::NodeId,
    http::Token,
    tls::{self, Trust},
    toml_file::FileError,
};

/// How long a call may take that waits for nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection may be silent where an answer to the network is due.
const DEAD: Duration = Duration::from_secs(3);

/// How long a call waits for another fleet, in seconds.
const WAIT: u64 = 25;

/// Longest answer, in bytes: far more than any fleet.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// A control's API. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    token: Option<Token>,
    http: reqwest::Client,
}

/// Why control did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It cannot be reached, or does not speak HTTP.
    #[error("control at {base}: {problem}")]
    Unreachable {
        /// Where it should be.
        base: String,
        /// What happened.
        problem: String,
    },
    /// The store does not do its part.
    #[error("{base}: {problem}")]
    Store {
        /// Where it should be.
        base: String,
        /// What happened.
        problem: String,
    },
    /// It said no.
    #[error("{base}: {refusal}")]
    Refused {
        /// What and where it is.
        base: String,
        /// What it said.
        refusal: Refusal,
    },
    /// What it said is not what was asked for.
    #[error("control at {base} answered what cannot be: {problem}")]
    Answer {
        /// Where it is.
        base: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// A problem document (RFC 9457).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// The status of the answer.
    pub status: u16,
    /// What was refused, for programs.
    pub code: String,
    /// The same for people.
    pub detail: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.as_str() {
            "" => write!(f, "status {}", self.status),
            detail => f.write_str(detail),
        }
    }
}

/// A text that is not where a control could be.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not where a control could be: http://HOST:PORT or https://HOST:PORT")]
pub struct InvalidUrl(String);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum NoClient {
    /// It would not know where to call.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// It would not know whom to believe.
    #[error(transparent)]
    Tls(#[from] FileError),
}

/// What is sent along with a call.
type Body<'a, B> = Option<&'a B>;

impl Client {
    /// A client of the control at `url`, such as `http://127.0.0.1:8000`. By `https` it believes the
    /// system's authorities.
    ///
    /// # Errors
    /// [`NoClient`].
    pub fn new(url: &str, token: Option<Token>) -> Result<Self, NoClient> {
        Self::trusting(url, token, Trust::default())
    }

    /// The same, where it is said who is believed by `https`.
    ///
    /// # Errors
    /// [`NoClient`].
    pub fn trusting(url: &str, token: Option<Token>, trust: Trust<'_>) -> Result<Self, NoClient> {
        let invalid = || InvalidUrl(url.to_owned());
        let parsed = reqwest::Url::parse(url).map_err(|_| invalid())?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            // Which is a secret, perhaps, and not to be repeated.
            let host = parsed.host_str().unwrap_or_default();
            return Err(InvalidUrl(format!("{}://…@{host}", parsed.scheme())).into());
        }
        let tls = match parsed.scheme() {
            "http" => tls::nobody(),
            "https" => trust.client()?,
            _ => return Err(invalid().into()),
        };
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(invalid().into());
        }
        let _set_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(PATIENCE)
            // A connection that is dead without a word must not hold up what is asked.
            .tcp_user_timeout(DEAD)
            .tcp_keepalive(DEAD)
            .tcp_keepalive_interval(Duration::from_secs(1))
            .tcp_keepalive_retries(3)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|_| invalid())?;
        Ok(Self { base: url.trim_end_matches('/').to_owned(), token, http })
    }

    /// Where it is.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// What somebody says who has waited for long enough.
    #[must_use]
    pub fn late(&self) -> ClientError {
        let problem = "it does not answer in time".to_owned();
        ClientError::Unreachable { base: self.base.clone(), problem }
    }

    /// Reads something.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, None::<&()>).await
    }

    /// Asks for something without saying more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::POST, path, None::<&()>).await
    }

    /// Asks for something that has an answer; `body` goes as JSON.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Body<'_, B>,
    ) -> Result<T, ClientError> {
        let (_, bytes) = self.call(method, path, body, PATIENCE).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.answer(&error))
    }

    /// Asks for something that has none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tell<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: Body<'_, B>,
    ) -> Result<(), ClientError> {
        self.call(method, path, body, PATIENCE).await.map(drop)
    }

    /// Lets a node in, or keeps it in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn register(
        &self,
        id: &NodeId,
        heartbeat: &Heartbeat,
    ) -> Result<Registration, ClientError> {
        self.ask(Method::PUT, &format!("/v1/nodes/{id}"), Some(heartbeat)).await
    }

    /// Lets an LB in, or keeps it in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn report(
        &self,
        id: &NodeId,
        report: &LbReport,
    ) -> Result<LbRegistration, ClientError> {
        self.ask(Method::PUT, &format!("/v1/lbs/{id}"), Some(report)).await
    }

    /// The fleet, when it is another than that of revision `known`. `None`: it still is the same.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn fleet(&self, known: Option<u64>) -> Result<Option<FleetView>, ClientError> {
        let after = known.map(|known| format!("after={known}&")).unwrap_or_default();
        let path = format!("/v1/fleet?{after}wait={WAIT}");
        let patience = PATIENCE + Duration::from_secs(WAIT);
        let (status, bytes) = self.call(Method::GET, &path, None::<&()>, patience).await?;
        if status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| self.answer(&error))
    }

    async fn call<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: Body<'_, B>,
        patience: Duration,
    ) -> Result<(StatusCode, Vec<u8>), ClientError> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable = |error: reqwest::Error| ClientError::Unreachable {
            base: self.base.clone(),
            problem: cause(&error),
        };
        let mut response = request.timeout(patience).send().await.map_err(unreachable)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_MAX {
                return Err(self.answer(&format_args!("it is longer than {ANSWER_MAX} bytes")));
            }
        }
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok((status, bytes));
        }
        let refusal: Refusal = serde_json::from_slice(&bytes).unwrap_or_default();
        let refusal = Refusal { status: status.as_u16(), ..refusal };
        Err(ClientError::Refused { base: format!("control at {}", self.base), refusal })
    }

    fn answer(&self, problem: &dyn fmt::Display) -> ClientError {
        ClientError::Answer { base: self.base.clone(), problem: problem.to_string() }
    }
}

/// The innermost cause, which says what happened; those around it say where.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
