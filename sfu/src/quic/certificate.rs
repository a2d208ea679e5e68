use std::{fs, io, path::Path};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use time::{Duration, OffsetDateTime};

/// How long a self-signed certificate is valid in all. Browsers take one by its hash only up to two
/// weeks (W3C WebTransport, `serverCertificateHashes`).
const VALIDITY: Duration = Duration::days(10);

/// A certificate, those that vouch for it, and its key.
#[derive(Debug)]
pub struct Certificate {
    /// The node's own first.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// A fresh self-signed one, ECDSA P-256, which browsers take by its hash.
    ///
    /// # Errors
    /// Those of key generation.
    pub fn self_signed() -> io::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
        let mut params = CertificateParams::new(vec![
            "onevip.invalid".to_owned(),
            "*.onevip.invalid".to_owned(),
        ])
        .map_err(io::Error::other)?;
        let now = OffsetDateTime::now_utc();
        // Clients' clocks are a little behind sometimes.
        params.not_before = now - Duration::hours(1);
        params.not_after = params.not_before + VALIDITY;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "onevip");
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        Ok(Self {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        })
    }

    /// One from PEM files.
    ///
    /// # Errors
    /// A file that cannot be read, or holds none, each naming the file.
    pub fn read(certificate: &Path, key: &Path) -> io::Result<Self> {
        let problem = |file: &Path, error: &dyn std::fmt::Display| {
            io::Error::other(format!("{}: {error}", file.display()))
        };
        let pem = |file: &Path| fs::read(file).map_err(|error| problem(file, &error));
        let chain = CertificateDer::pem_slice_iter(&pem(certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| problem(certificate, &error))?;
        if chain.is_empty() {
            return Err(problem(certificate, &"there is no certificate in it"));
        }
        let key =
            PrivateKeyDer::from_pem_slice(&pem(key)?).map_err(|error| problem(key, &error))?;
        Ok(Self { chain, key })
    }

    /// The certificates, the node's own first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// SHA-256 of the node's own: what a browser is given as `serverCertificateHashes`.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        let hash = digest(&SHA256, self.chain.first().map_or(&[], |own| own.as_ref()));
        hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}
