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
    /// A file that cannot be read, or holds none, and a key that is not the certificate's, each
    /// naming the file.
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
        let own =
            PrivateKeyDer::from_pem_slice(&pem(key)?).map_err(|error| problem(key, &error))?;
        let read = Self { chain, key: own };
        let shown = certificate.display();
        super::check(&read).map_err(|error| {
            problem(key, &format_args!("it cannot be used with {shown}: {error}"))
        })?;
        Ok(read)
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A certificate and its key, as PEM.
    pub(crate) fn made() -> (String, String) {
        let pem = |label: &str, der: &[u8]| {
            let body = data_encoding::BASE64.encode(der);
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        let made = Certificate::self_signed().expect("made");
        (pem("CERTIFICATE", &made.chain[0]), pem("PRIVATE KEY", made.key.secret_der()))
    }

    /// A certificate and a key that need not be its own, as PEM files.
    fn read(certificate: &str, key: &str) -> Result<Certificate, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate_file, key_file) =
            (folder.path().join("c.pem"), folder.path().join("k.pem"));
        fs::write(&certificate_file, certificate).expect("written");
        fs::write(&key_file, key).expect("written");
        let read = Certificate::read(&certificate_file, &key_file);
        read.map_err(|problem| {
            problem.to_string().replace(&folder.path().display().to_string(), "")
        })
    }

    #[test]
    fn a_certificate_is_read_with_its_own_key_and_refused_with_anything_else() {
        let ((certificate, key), (_, other)) = (made(), made());
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
        assert!(read(&certificate, &key).is_ok());
        let cases = [
            ("another's key", read(&certificate, &other), "/k.pem: it cannot be used with "),
            ("no key", read(&certificate, &certificate), "/k.pem: "),
            ("no certificate", read(&key, &key), "/c.pem: there is no certificate in it"),
            ("another kind of text", read(&garbage, &key), "/k.pem: it cannot be used with "),
            ("half a file", read(&certificate[..40], &key), "/c.pem: "),
        ];
        for (what, read, expected) in cases {
            let problem = read.expect_err(what);
            assert!(problem.starts_with(expected), "{what}: {problem}");
        }
    }
}
