//! `control.toml`.

mod overflow;
mod sections;

use std::{path::Path, time::Duration};

use serde::Deserialize;

use crate::{
    dns::DnsConfig,
    federation::FederationConfig,
    fleet::{Fleet, Warning},
    http::vips,
    jwt::JwtConfig,
    observe::Sight,
    placement::Policy,
    records::{Routing, Vip},
    resolve::ResolveConfig,
    source::read_token,
    tls::ServerTls,
    toml_file::{self, FileError},
    webhooks::WebhooksConfig,
};

pub use overflow::OverflowConfig;
use overflow::is_base;
pub use sections::{Admin, Http, Nodes, Rotation, Seed, StoreConfig, StoreKind, VipConfig};

/// Shortest and longest time that a node may live without a word.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

/// Shortest and longest time that nobody must have used a configuration before it goes.
const QUIET: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(7 * 24);

/// One control's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What it is called in logs.
    #[serde(default = "default_name")]
    pub name: String,
    /// Where the fleet is kept.
    #[serde(default)]
    pub store: StoreConfig,
    /// The API.
    #[serde(default)]
    pub http: Http,
    /// What holds for all nodes.
    #[serde(default)]
    pub nodes: Nodes,
    /// Which node a room goes to.
    #[serde(default)]
    pub placement: Policy,
    /// What a new store begins with.
    #[serde(default)]
    pub fleet: Seed,
    /// How keys are rotated.
    #[serde(default)]
    pub routing: Rotation,
    /// What clients are told.
    #[serde(default)]
    pub vip: VipConfig,
    /// Which VIP clients are told to use.
    #[serde(default)]
    pub resolve: ResolveConfig,
    /// What is not taken here.
    #[serde(default)]
    pub overflow: OverflowConfig,
    /// The same answers by DNS.
    #[serde(default)]
    pub dns: Option<DnsConfig>,
    /// The cluster that this one is part of.
    #[serde(default)]
    pub federation: Option<FederationConfig>,
    /// Who is told what happens.
    #[serde(default)]
    pub webhooks: WebhooksConfig,
    /// How it leaves.
    #[serde(default)]
    pub admin: Admin,
}

fn default_name() -> String {
    "control".to_owned()
}

impl Config {
    /// Reads and checks a configuration file, and the token file it names.
    ///
    /// # Errors
    /// One sentence naming the file and the key at fault.
    pub fn read(file: &Path) -> Result<Self, FileError> {
        let mut config: Self = toml_file::read(file)?;
        let wrong = |(key, problem): (&str, String)| FileError::at_key(file, key, problem);
        config.check().map_err(wrong)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        for path in [&mut config.store.path, &mut config.fleet.path] {
            *path = path.take().map(|path| folder.join(path));
        }
        let http = &mut config.http;
        for (path, token) in [
            (&mut http.token_file, &mut http.token),
            (&mut http.node_token_file, &mut http.node_token),
            (&mut http.lb_token_file, &mut http.lb_token),
        ] {
            *path = path.take().map(|path| folder.join(path));
            if let Some(file) = path {
                *token = Some(read_token(file)?);
            }
        }
        if let Some(jwt) = &mut http.jwt {
            jwt.key_file = folder.join(&jwt.key_file);
            http.verifier = Some(jwt.verifier()?);
        }
        if let Some(tls) = http.tls.take().map(|tls| tls.within(folder)) {
            // Whatever is wrong with it is said now.
            ServerTls::new(&tls)?;
            http.tls = Some(tls);
        }
        config.overflow.ca = config.overflow.ca.map(|path| folder.join(path));
        config.resolve = config.resolve.within(folder);
        config.webhooks = config.webhooks.within(folder);
        if let Some(federation) = &config.federation {
            federation.client(file)?;
        }
        match (config.store.kind, config.store.etcd().stray(false)) {
            // Whatever is wrong with it is said now.
            (StoreKind::Etcd, _) => drop(config.store.etcd().store(file)?),
            (StoreKind::Embedded, Some(key)) => {
                let problem = "goes with kind \"etcd\"".to_owned();
                return Err(FileError::at_key(file, format!("store.{key}"), problem));
            }
            (StoreKind::Embedded, None) => {}
        }
        let tokens = [&http.token, &http.node_token, &http.lb_token];
        if (1..3).any(|at| tokens[at].is_some() && tokens[..at].contains(&tokens[at])) {
            let problem = "token, node_token and lb_token must differ, or nobody is told apart";
            return Err(wrong(("http", problem.to_owned())));
        }
        let is_open = http.token.is_none() && http.jwt.is_none();
        if is_open && !config.http.listen.ip().to_canonical().is_loopback() {
            let problem = format!(
                "listens on {}, which is not a loopback address, so it needs token, token_file or jwt",
                config.http.listen
            );
            return Err(wrong(("http", problem)));
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.store.kind == StoreKind::Etcd && self.store.path.is_some() {
            return Err(("store.path", "goes with kind \"embedded\"".to_owned()));
        }
        for (name, both) in [
            ("token", self.http.token.is_some() && self.http.token_file.is_some()),
            ("node_token", self.http.node_token.is_some() && self.http.node_token_file.is_some()),
            ("lb_token", self.http.lb_token.is_some() && self.http.lb_token_file.is_some()),
        ] {
            if both {
                let problem = format!("{name} and {name}_file are both there, one is enough");
                return Err(("http", problem));
            }
        }
        if self.http.connections == 0 {
            return Err(("http.connections", "must be at least 1".to_owned()));
        }
        self.http.jwt.as_ref().map_or(Ok(()), JwtConfig::check)?;
        if !self.http.public_url.as_deref().is_none_or(is_base) {
            let problem = "must be like \"https://control.example.test\", without a path";
            return Err(("http.public_url", problem.to_owned()));
        }
        self.resolve.check()?;
        self.webhooks.check()?;
        if let Some(dns) = &self.dns {
            dns.responder(Sight::default())?;
        }
        self.overflow.check()?;
        if !self.vip.addresses.is_empty() {
            let mut vip = Vip { addresses: self.vip.addresses.clone(), ..Vip::default() };
            vips::check(&mut vip).map_err(|problem| ("vip", problem))?;
        }
        self.placement.check()?;
        if !TTL.contains(&self.nodes.ttl) {
            return Err(("nodes.ttl", "must be between 1 s and 1 h".to_owned()));
        }
        if !QUIET.contains(&self.routing.quiet) {
            return Err(("routing.quiet", "must be between 1 s and 7 days".to_owned()));
        }
        Ok(())
    }

    /// What the fleet file says that a new store begins with, and what seems odd about it. `None`: no
    /// file is named.
    ///
    /// # Errors
    /// One sentence naming the fleet file and the key at fault.
    pub fn seed(&self) -> Result<Option<(Routing, Vec<Warning>)>, FileError> {
        /// What is taken of a fleet file that was found valid; the rest of it is none of ours.
        #[derive(Deserialize)]
        struct Taken {
            hash_key: Option<String>,
            #[serde(default)]
            routing: Vec<serde_json::Value>,
        }
        let Some(file) = &self.fleet.path else { return Ok(None) };
        let (fleet, mut warnings) = Fleet::read(file)?;
        // That nobody is in it is as it should be here.
        warnings.retain(|warning| !warning.0.starts_with("there is no node"));
        if !fleet.nodes.is_empty() || !fleet.sessions.is_empty() {
            warnings.push(Warning(
                "its nodes and sessions are not taken: with a control they register themselves"
                    .to_owned(),
            ));
        }
        let Taken { hash_key, routing } = toml_file::read(file)?;
        Ok(Some((Routing { hash_key, routing }, warnings)))
    }

    /// The VIP that a store without one begins with.
    #[must_use]
    pub fn vip(&self) -> Option<Vip> {
        let mut vip = Vip { addresses: self.vip.addresses.clone(), ..Vip::default() };
        // What cannot be was refused when it was read.
        vips::check(&mut vip).is_ok().then_some(vip)
    }

    /// What is valid, but hardly meant.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if self.http.token.is_none() && self.http.jwt.is_none() {
            warnings.push(Warning(
                "http.token and token_file are missing, so nothing can be changed through the API"
                    .to_owned(),
            ));
        }
        if self.http.public_url.is_none() && self.http.listen.ip().is_unspecified() {
            warnings.push(Warning(
                "http.public_url is missing and http.listen is a wildcard, so clients that join are \
                 told URLs that lead nowhere"
                    .to_owned(),
            ));
        }
        if self.store.kind == StoreKind::Embedded && self.store.path.is_none() {
            warnings.push(Warning(
                "store.path is missing, so the fleet is forgotten when the process ends".to_owned(),
            ));
        }
        warnings
    }
}
