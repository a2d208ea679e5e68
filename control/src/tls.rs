//! TLS at both ends of the API, by one crypto provider.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use rustls_platform_verifier::Verifier;
use serde::Deserialize;

use crate::toml_file::FileError;

/// `[http.tls]`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file of the certificate and those between it and its authority; relative to the configuration
    /// file.
    pub cert: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
    /// PEM file of the authority that nodes' and LBs' certificates must be from. Absent: they need none.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

impl TlsConfig {
    /// With its paths seen from `folder`.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        Self {
            cert: folder.join(self.cert),
            key: folder.join(self.key),
            client_ca: self.client_ca.map(|path| folder.join(path)),
        }
    }

    fn server(&self) -> Result<ServerConfig, FileError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|problem| FileError::of_file(&self.cert, problem))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(authority(ca)?);
                // Browsers have none: what needs one is refused by its call.
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .allow_unauthenticated()
                    .build()
                    .map_err(|problem| FileError::of_file(ca, problem))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (cert, key) = identity(&self.cert, &self.key)?;
        let mut server = builder.with_single_cert(cert, key).map_err(|problem| {
            FileError::of_file(
                &self.key,
                format_args!("does not go with the certificate: {problem}"),
            )
        })?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(server)
    }
}

/// What a server shows, which can be replaced while it runs. Clones are the same.
#[derive(Clone)]
pub struct ServerTls {
    current: Arc<RwLock<Arc<ServerConfig>>>,
    /// Whether nodes and LBs must have certificates.
    pub(crate) certifies: bool,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls(…)")
    }
}

impl ServerTls {
    /// Reads what a configuration names.
    ///
    /// # Errors
    /// One sentence naming the file at fault.
    pub fn new(config: &TlsConfig) -> Result<Self, FileError> {
        let current = Arc::new(RwLock::new(Arc::new(config.server()?)));
        Ok(Self { current, certifies: config.client_ca.is_some() })
    }

    /// Reads it again; connections that are there stay as they are.
    ///
    /// # Errors
    /// One sentence naming the file at fault; what was shown before still is.
    pub fn reload(&self, config: &TlsConfig) -> Result<(), FileError> {
        let new = Arc::new(config.server()?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whom a client believes, and who it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust<'a> {
    /// PEM file of the authority that servers' certificates are from; absent: the system's.
    pub ca: Option<&'a Path>,
    /// PEM files of the client's own certificate and its key.
    pub identity: Option<(&'a Path, &'a Path)>,
}

impl Trust<'_> {
    /// For a client that speaks TLS.
    ///
    /// # Errors
    /// One sentence naming the file at fault.
    pub fn client(&self) -> Result<ClientConfig, FileError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|problem| FileError::of_file(Path::new("TLS"), problem))?;
        let builder = match self.ca {
            Some(ca) => builder.with_root_certificates(authority(ca)?),
            None => {
                let system = Verifier::new(provider()).map_err(|problem| {
                    let problem = format_args!("the system's authorities are not known: {problem}");
                    FileError::of_file(Path::new("TLS"), problem)
                })?;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(system))
            }
        };
        match self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some((cert, key)) => {
                let (cert, private) = identity(cert, key)?;
                builder.with_client_auth_cert(cert, private).map_err(|problem| {
                    let problem = format_args!("does not go with the certificate: {problem}");
                    FileError::of_file(key, problem)
                })
            }
        }
    }
}

/// For a client that speaks plain HTTP: nobody is believed.
pub(crate) fn nobody() -> ClientConfig {
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.expect("the provider has the ciphers of its versions");
    builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let wrong = |problem: &dyn fmt::Display| FileError::of_file(file, problem);
    let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let all: Vec<_> =
        all.map_err(|problem| wrong(&format_args!("the certificate cannot be read: {problem}")))?;
    if all.is_empty() {
        return Err(wrong(&"there is no certificate in it"));
    }
    Ok(all)
}

fn authority(file: &Path) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|problem| {
            FileError::of_file(file, format_args!("is no certificate authority: {problem}"))
        })?;
    }
    Ok(roots)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(cert: &Path, key: &Path) -> Result<Identity, FileError> {
    let private = PrivateKeyDer::from_pem_file(key).map_err(|problem| {
        FileError::of_file(key, format_args!("the key cannot be read: {problem}"))
    })?;
    Ok((certificates(cert)?, private))
}
