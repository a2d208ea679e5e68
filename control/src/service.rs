//! `onevip control`: the fleet's registry in the foreground, with its API and its signals.

mod plant;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{net::TcpListener, time::Instant};
use tracing::{error, info, warn};

use crate::{
    config::{Config, Http, StoreKind},
    dns, federation,
    fleet::Warning,
    foreground::{NoSignals, Signals, Told, reached},
    http::Api,
    records::Routing,
    store::{
        AnyStore, StoreError,
        embedded::{Embedded, OpenError},
    },
    tls::ServerTls,
    toml_file::FileError,
};
use plant::{make_secrets, plant, plant_vip, wait_for};

/// Why a control ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A file is wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store's file cannot be used.
    #[error("{}: store.path: {problem}", file.display())]
    Open {
        /// The configuration file.
        file: PathBuf,
        /// What is wrong with the store's.
        problem: OpenError,
    },
    /// The address cannot be used.
    #[error("{}: http.listen: {address} cannot be used: {source}", file.display())]
    Listen {
        /// The configuration file.
        file: PathBuf,
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The address of DNS cannot be used.
    #[error("{}: dns.listen: {address} cannot be used: {source}", file.display())]
    Dns {
        /// The configuration file.
        file: PathBuf,
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The store failed before it was used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Signals cannot be listened for.
    #[error(transparent)]
    Signals(#[from] NoSignals),
    /// Something failed while running.
    #[error("{0}")]
    Running(String),
}

impl ServiceError {
    /// Whether the configuration is at fault, rather than something that happened later.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::File(_) | Self::Open { .. } | Self::Listen { .. } | Self::Dns { .. } => true,
            Self::Store(_) | Self::Signals(_) | Self::Running(_) => false,
        }
    }
}

/// A configuration, what it puts into a new store, and what seems odd about both.
///
/// # Errors
/// One sentence naming the file and the key at fault.
pub fn load(file: &Path) -> Result<(Config, Option<Routing>, Vec<Warning>), FileError> {
    let config = Config::read(file)?;
    config.resolve.locator()?;
    config.webhooks.hooks()?;
    let mut warnings = config.warnings();
    let seed = config.seed()?;
    let routing = seed.map(|(routing, odd)| {
        warnings.extend(odd);
        routing
    });
    Ok((config, routing, warnings))
}

/// Runs until SIGTERM or SIGINT, and then for `[admin] drain` longer.
///
/// # Errors
/// [`ServiceError`].
pub async fn run(file: &Path) -> Result<(), ServiceError> {
    let mut signals = Signals::new()?;
    let (config, seed, warnings) = load(file)?;
    for warning in warnings {
        warn!("{}: {warning}", file.display());
    }
    let address = config.http.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| ServiceError::Listen {
        file: file.to_owned(),
        address,
        source,
    })?;
    let dns = match &config.dns {
        Some(dns) => Some(dns::bind(dns.listen).await.map_err(|source| ServiceError::Dns {
            file: file.to_owned(),
            address: dns.listen,
            source,
        })?),
        None => None,
    };
    let store = match (config.store.kind, &config.store.path) {
        (StoreKind::Etcd, _) => AnyStore::from(config.store.etcd().store(file)?),
        (StoreKind::Embedded, None) => AnyStore::in_memory(),
        (StoreKind::Embedded, Some(path)) => Embedded::open(path)
            .await
            .map_err(|problem| ServiceError::Open { file: file.to_owned(), problem })?
            .into(),
    };
    let store = Arc::new(store);
    if !wait_for(&store, &mut signals).await {
        return Ok(());
    }
    plant(&store, seed, &config).await?;
    plant_vip(&store, &config, file).await?;
    make_secrets(&store).await?;
    let api = Api::new(store.clone(), config.nodes.ttl, config.http.tokens());
    let api = api.quiet(config.routing.quiet);
    api.set_verifier(config.http.verifier.clone());
    api.set_connections_max(config.http.connections);
    api.set_overflow(&config.overflow.clusters, config.overflow.rooms);
    api.set_locator(config.resolve.locator()?);
    api.set_placement(config.placement.clone());
    if config.overflow.ca.is_some() {
        api.set_cluster_ca(config.overflow.ca.as_deref())?;
    }
    if let Some(hooks) = config.webhooks.hooks()? {
        api.set_hooks(hooks);
    }
    let api = match &config.http.public_url {
        Some(url) => api.at(url),
        None => api,
    };
    if let (Some(config), Some(sockets)) = (&config.dns, dns) {
        let responder = config.responder(api.sight());
        let responder =
            responder.map_err(|(key, problem)| FileError::at_key(file, key, problem))?;
        let api = api.clone();
        tokio::spawn(dns::serve(responder, sockets, move || api.locator()));
    }
    if let Some(federation) = &config.federation {
        let parent = federation.client(file)?;
        tokio::spawn(federation::run(federation.clone(), parent, api.clone(), store.clone()));
    }
    let tls = config.http.tls.as_ref().map(ServerTls::new).transpose()?;
    let served = Service { file: file.to_owned(), config, api, tls }.serve(listener, signals).await;
    // What was asked is done, and the file is let go of.
    store.close().await;
    served
}

struct Service {
    file: PathBuf,
    config: Config,
    api: Api,
    tls: Option<ServerTls>,
}

impl Service {
    async fn serve(
        mut self,
        listener: TcpListener,
        mut signals: Signals,
    ) -> Result<(), ServiceError> {
        info!(
            name = self.config.name,
            http = ?listener.local_addr().ok(),
            store = ?self.config.store.path,
            "serving"
        );
        let mut serving = tokio::spawn(self.api.clone().serve_by(listener, self.tls.clone()));
        let mut end = None;
        loop {
            tokio::select! {
                told = signals.next() => match told {
                    Told::Reload => self.reload(),
                    // Told twice, it goes at once.
                    Told::Leave if end.is_some() => return Ok(()),
                    Told::Leave => {
                        self.api.leave();
                        let drain = self.config.admin.drain;
                        info!(?drain, "leaving");
                        end = Some(Instant::now() + drain);
                    }
                },
                () = reached(end) => return Ok(()),
                _ = &mut serving => {
                    return Err(ServiceError::Running("the API has ended unexpectedly".to_owned()));
                }
            }
        }
    }

    /// SIGHUP: takes over what can change while running, and says what cannot.
    fn reload(&mut self) {
        let new = match Config::read(&self.file) {
            Ok(new) => new,
            Err(problem) => return error!("{problem}; the configuration in use is kept"),
        };
        for key in needs_restart(&self.config, &new) {
            warn!("{}: {key} has changed, which takes a restart", self.file.display());
        }
        self.config.admin.drain = new.admin.drain;
        let tls_stays = match (&self.tls, &self.config.http.tls, &new.http.tls) {
            (Some(tls), Some(old), Some(new))
                if old.client_ca.is_some() == new.client_ca.is_some() =>
            {
                if let Err(problem) = tls.reload(new) {
                    error!("{problem}; the certificate in use is kept");
                }
                true
            }
            (_, old, new) => old == new,
        };
        if !tls_stays {
            warn!("{}: http.tls has changed, which takes a restart", self.file.display());
        }
        match new.resolve.locator() {
            Ok(locator) => self.api.set_locator(locator),
            Err(problem) => error!("{problem}; what says where clients are is kept"),
        }
        self.api.set_overflow(&new.overflow.clusters, new.overflow.rooms);
        let Http { listen, public_url, .. } = self.config.http.clone();
        self.config.http = Http { listen, public_url, ..new.http };
        self.api.set_tokens(self.config.http.tokens());
        self.api.set_verifier(self.config.http.verifier.clone());
        self.api.set_connections_max(self.config.http.connections);
        self.config.placement = new.placement;
        self.api.set_placement(self.config.placement.clone());
        info!("{}: applied", self.file.display());
    }
}

/// The keys that differ and are only read at the start.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let changed = [
        ("name", old.name != new.name),
        ("store", old.store != new.store),
        ("http.listen", old.http.listen != new.http.listen),
        ("http.public_url", old.http.public_url != new.http.public_url),
        ("nodes.ttl", old.nodes.ttl != new.nodes.ttl),
        ("routing.quiet", old.routing != new.routing),
        ("fleet.path", old.fleet.path != new.fleet.path),
        ("federation", old.federation != new.federation),
        ("overflow.ca", old.overflow.ca != new.overflow.ca),
        ("dns", old.dns != new.dns),
        ("webhooks", old.webhooks != new.webhooks),
    ];
    changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
}
