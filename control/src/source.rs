//! Where an LB or a node has its fleet from: a file, a control, or etcd itself.

mod cluster;

use std::{fs, path::Path, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{self, Interval},
};

use crate::{
    client::{Client, NoClient, View},
    fleet::{Fleet, Warning},
    fleet_file::FleetFile,
    follow::Topics,
    freshness::Freshness,
    http::Token,
    line::Line,
    tls::Trust,
    toml_file::FileError,
};

pub use cluster::{CLUSTER, Cluster};

/// How often a fleet file is looked at: a change is told after two looks.
const POLL: Duration = Duration::from_millis(250);

/// How a control is reached, as it stands in `[fleet]` of a configuration: `url`, `token` and
/// `token_file`.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// The section it stands in.
    pub section: &'static str,
    /// What the URL is called there.
    pub url_key: &'static str,
    /// Where it is: `http://HOST:PORT` or `https://HOST:PORT`.
    pub url: Option<&'a str>,
    /// What it must be told.
    pub token: Option<&'a Token>,
    /// The same, in a file of its own; relative to the configuration file.
    pub token_file: Option<&'a Path>,
    /// PEM file of the authority that its certificate is from; absent: the system's.
    pub ca: Option<&'a Path>,
    /// PEM file of our own certificate.
    pub cert: Option<&'a Path>,
    /// PEM file of its key.
    pub key: Option<&'a Path>,
}

impl Access<'_> {
    /// The control, if one is named.
    ///
    /// # Errors
    /// One sentence naming `file`, a configuration, and the key at fault.
    pub fn client(&self, file: &Path) -> Result<Option<Client>, FileError> {
        let wrong = |key: &str, problem: &dyn std::fmt::Display| {
            FileError::at_key(file, format!("{}.{key}", self.section), problem)
        };
        let folder = file.parent().unwrap_or(Path::new(""));
        let (ca, cert, key) = (self.ca, self.cert, self.key);
        let Some(url) = self.url else {
            let stray = [
                ("token", self.token.is_some()),
                ("token_file", self.token_file.is_some()),
                ("ca", ca.is_some()),
                ("cert", cert.is_some()),
                ("key", key.is_some()),
            ];
            return match stray.into_iter().find(|(_, there)| *there) {
                Some((key, _)) => Err(wrong(key, &"goes with url, which is missing")),
                None => Ok(None),
            };
        };
        let token = match (self.token, self.token_file) {
            (Some(_), Some(_)) => {
                return Err(wrong("token", &"and token_file are both there, one is enough"));
            }
            (Some(token), None) => Some(token.clone()),
            (None, Some(path)) => Some(read_token(&folder.join(path))?),
            (None, None) => None,
        };
        let is_plain = !url.starts_with("https://");
        if let Some((name, _)) =
            [("ca", ca), ("cert", cert), ("key", key)].into_iter().find(|(_, path)| path.is_some())
            && is_plain
        {
            return Err(wrong(name, &"goes with a url that begins with https://"));
        }
        let ca = ca.map(|path| folder.join(path));
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((folder.join(cert), folder.join(key))),
            (None, None) => None,
            (Some(_), None) => return Err(wrong("cert", &"goes with key, which is missing")),
            (None, Some(_)) => return Err(wrong("key", &"goes with cert, which is missing")),
        };
        let identity = identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
        let trust = Trust { ca: ca.as_deref(), identity };
        match Client::trusting(url, token, trust) {
            Ok(client) => Ok(Some(client)),
            Err(NoClient::Url(problem)) => Err(wrong(self.url_key, &problem)),
            Err(NoClient::Tls(problem)) => Err(problem),
        }
    }
}

/// Reads a token that stands in a configuration itself: for `#[serde(deserialize_with)]`.
///
/// # Errors
/// A text that cannot be a token.
pub fn token<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Token>, D::Error> {
    let text = <String as serde::Deserialize>::deserialize(deserializer)?;
    Token::try_from(text).map(Some).map_err(serde::de::Error::custom)
}

/// The token in a file of its own, which may end its line.
///
/// # Errors
/// One sentence naming the file.
pub fn read_token(file: &Path) -> Result<Token, FileError> {
    Token::try_from(read_secret(file, "token")?)
        .map_err(|error| FileError::of_file(file, format_args!("the token {error}")))
}

/// A secret in a file of its own, which may end its line.
fn read_secret(file: &Path, what: &str) -> Result<String, FileError> {
    let text = fs::read_to_string(file).map_err(|error| {
        FileError::of_file(file, format_args!("the {what} cannot be read: {error}"))
    })?;
    Ok(text.trim_end().to_owned())
}

/// A fleet that changes, and where it is from.
pub enum Source {
    /// A file, looked at now and then.
    File(FleetFile, Interval),
    /// A control or a store, which is followed by a task of its own.
    Line(Line, watch::Receiver<Option<Arc<View>>>, Freshness),
}

/// A fleet that is another than the last.
#[derive(Clone, Debug)]
pub struct News {
    /// The fleet.
    pub fleet: Arc<Fleet>,
    /// What seems odd about it.
    pub warnings: Vec<Warning>,
    /// What else a control or a store said.
    pub view: Option<Arc<View>>,
}

impl Source {
    /// What is in a file.
    #[must_use]
    pub fn file(file: FleetFile) -> Self {
        Self::File(file, time::interval(POLL))
    }

    /// What a control or a store says, from now on. Must be called within a tokio runtime.
    #[must_use]
    pub fn line(line: Line, topics: Topics) -> Self {
        let (newest, view) = watch::channel(None);
        let freshness = Freshness::default();
        tokio::spawn(line.clone().follow(topics, newest, freshness.clone()));
        Self::Line(line, view, freshness)
    }

    /// Whether what it says is the newest. For whoever applies it to say if it cannot be used.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        match self {
            Self::File(..) => Freshness::default(),
            Self::Line(_, _, freshness) => freshness.clone(),
        }
    }

    /// What to call it in messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File(file, _) => file.path().display().to_string(),
            Self::Line(line, ..) => line.name(),
        }
    }

    /// The next fleet; may be dropped and called again.
    ///
    /// # Errors
    /// One sentence naming the file that is wrong; what was applied before should be kept.
    pub async fn next(&mut self) -> Result<News, FileError> {
        match self {
            Self::File(file, interval) => loop {
                interval.tick().await;
                if let Some(changed) = file.poll() {
                    return changed.map(News::of_file);
                }
            },
            Self::Line(_, view, _) => loop {
                // The task that feeds it ends only when nobody looks.
                if view.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                if let Some(view) = view.borrow_and_update().clone() {
                    return Ok(News::of_view(view));
                }
            },
        }
    }
}

impl News {
    /// What a file holds.
    #[must_use]
    pub fn of_file((fleet, warnings): (Fleet, Vec<Warning>)) -> Self {
        Self { fleet: Arc::new(fleet), warnings, view: None }
    }

    fn of_view(view: Arc<View>) -> Self {
        let (fleet, warnings) = (view.fleet.clone(), view.warnings.to_vec());
        Self { fleet, warnings, view: Some(view) }
    }
}
