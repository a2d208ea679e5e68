//! What happens, told to whoever wants to know: signed, again and again until it is taken, and by one
//! control at a time.
//!
//! Every control sees the same events ([`observe`](crate::observe)) and keeps the last of them for each
//! URL. Who holds the leased key `webhooks/<hash>/owner` delivers, and says at `webhooks/<hash>/cursor`
//! now and then how far it came; who takes over begins there. So each event is told at least once, those
//! around a take-over perhaps twice, with the same `id`. What happens while no control runs is not told.

mod deliver;
mod hook;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::Deserialize;

use crate::{observe::Event, tls::Trust, toml_file::FileError};
use hook::Hook;

pub use deliver::run;

/// Events that wait for a URL; beyond them the oldest goes.
pub const WAITING_MAX: usize = 4096;

/// Most events of one call.
const BATCH_MAX: usize = 64;

/// Most URLs.
const URLS_MAX: usize = 8;

/// Shortest secret, in bytes.
const SECRET_MIN: usize = 16;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// `[webhooks]`
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct WebhooksConfig {
    /// Who is told.
    pub urls: Vec<String>,
    /// What calls are signed with; relative to the configuration file.
    pub secret_file: Option<PathBuf>,
    /// PEM file of the authority that their certificates are from; absent: the system's.
    pub ca: Option<PathBuf>,
}

impl WebhooksConfig {
    /// With its paths seen from `folder`.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        let at = |path: Option<PathBuf>| path.map(|path| folder.join(path));
        Self { secret_file: at(self.secret_file), ca: at(self.ca), ..self }
    }

    /// What is wrong with it but its files.
    ///
    /// # Errors
    /// The key and one sentence.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.urls.len() > URLS_MAX {
            return Err(("webhooks.urls", format!("must be at most {URLS_MAX}")));
        }
        for url in &self.urls {
            let parsed = reqwest::Url::parse(url).ok();
            let fits = parsed.filter(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.username().is_empty()
                    && url.password().is_none()
            });
            if fits.is_none() {
                let problem = "must be like [\"https://example.test/hooks\"], without a user";
                return Err(("webhooks.urls", problem.to_owned()));
            }
        }
        match (&self.secret_file, self.urls.is_empty()) {
            (None, false) => {
                let problem = "is missing: whoever is told must know that it is true";
                Err(("webhooks.secret_file", problem.to_owned()))
            }
            (Some(_), true) => {
                Err(("webhooks.secret_file", "goes with urls, which are missing".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Whom to tell, and how.
    ///
    /// # Errors
    /// One sentence naming the file at fault.
    pub fn hooks(&self) -> Result<Option<Hooks>, FileError> {
        let Some(file) = self.secret_file.as_ref().filter(|_| !self.urls.is_empty()) else {
            return Ok(None);
        };
        let wrong = |problem: &dyn fmt::Display| FileError::of_file(file, problem);
        let bytes = fs::read(file)
            .map_err(|error| wrong(&format_args!("the secret cannot be read: {error}")))?;
        let secret = bytes.trim_ascii_end();
        if secret.len() < SECRET_MIN {
            return Err(wrong(&format_args!("the secret must have at least {SECRET_MIN} bytes")));
        }
        let tls = match self.urls.iter().any(|url| url.starts_with("https://")) {
            true => Trust { ca: self.ca.as_deref(), identity: None }.client()?,
            false => crate::tls::nobody(),
        };
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|error| wrong(&error))?;
        let all = self.urls.iter().map(|url| Hook::new(url, secret)).collect();
        Ok(Some(Hooks { all, http }))
    }
}

/// All that are told.
#[derive(Debug)]
pub struct Hooks {
    all: Vec<Hook>,
    http: reqwest::Client,
}

impl Hooks {
    /// Keeps an event for each.
    pub fn tell(&self, event: &Event) {
        self.all.iter().for_each(|hook| hook.keep(event.clone()));
    }

    /// Events told, refused and dropped so far.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 3] {
        let sum = |count: fn(&Hook) -> &AtomicU64| {
            self.all.iter().map(|hook| count(hook).load(Ordering::Relaxed)).sum()
        };
        [
            ("delivered", sum(|hook| &hook.delivered)),
            ("refused", sum(|hook| &hook.refused)),
            ("dropped", sum(|hook| &hook.dropped)),
        ]
    }
}
