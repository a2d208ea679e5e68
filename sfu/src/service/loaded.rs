use std::path::Path;

use control::{fleet::Warning, fleet_file::FleetFile, line::Line, toml_file::FileError};

use super::ServiceError;
use crate::{
    config::{Config, NO_FLEET},
    identity::Identity,
    quic::Certificate,
};

/// How a node begins.
pub enum Beginning {
    /// With its place in what a file holds.
    File(Box<(FleetFile, Identity)>),
    /// Without one, until a control or a store has let it in.
    Line(Line),
}

/// All that a node is made of but its sockets.
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) beginning: Beginning,
    pub(super) certificate: Option<Certificate>,
    /// About the fleet.
    pub(super) warnings: Vec<Warning>,
}

impl Loaded {
    pub(super) fn read(file: &Path) -> Result<Self, ServiceError> {
        let config = Config::read(file)?;
        let (beginning, warnings) = match (&config.fleet.path, config.fleet.line(file)?) {
            (Some(path), None) => {
                let (fleet_file, fleet, warnings) = FleetFile::open(path)?;
                let identity = Identity::new(&config.name, &fleet, config.config_id())
                    .map_err(|problem| ServiceError::Fleet { file: path.clone(), problem })?;
                (Beginning::File(Box::new((fleet_file, identity))), warnings)
            }
            (_, Some(line)) => (Beginning::Line(line), Vec::new()),
            (None, None) => {
                return Err(FileError::at_key(file, "fleet", NO_FLEET).into());
            }
        };
        let certificate = certificate(&config)?;
        Ok(Self { config, beginning, certificate, warnings })
    }
}

/// The certificate that is configured, if there is one.
pub(super) fn certificate(config: &Config) -> Result<Option<Certificate>, ServiceError> {
    match (&config.webtransport.certificate, &config.webtransport.key) {
        (Some(certificate), Some(key)) => {
            Certificate::read(certificate, key).map(Some).map_err(ServiceError::Certificate)
        }
        _ => Ok(None),
    }
}

pub(super) fn lacks_keys(config: &Config) -> Option<Warning> {
    (config.fleet.path.is_some() && (config.keys.reset.is_none() || config.keys.token.is_none()))
        .then(|| {
            Warning(
            "[keys] reset and token are not both set: this node makes up its own, so no other node \
             can end its clients' connections if it goes down"
                .to_owned(),
        )
        })
}

#[cfg(test)]
mod tests {
    use crate::{quic::tests::made, service::load, service::restart::tests::CONFIG};

    #[test]
    fn a_certificate_that_cannot_be_used_is_found_before_anything_is_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).expect("written");
            file
        };
        write(
            "fleet.toml",
            "hash_key = \"00112233445566778899aabbccddeeff\"\n[[routing]]\nconfig = 0\n\
             [[node]]\nid = \"a\"\nserver_id = \"0000000a\"\naddress = \"10.0.0.1:7\"\n",
        );
        let files = "[webtransport]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n";
        let file = write("sfu.toml", &format!("{CONFIG}{files}"));
        let ((certificate, key), (_, other)) = (made(), made());
        write("c.pem", &certificate);
        write("k.pem", &key);
        assert!(load(&file).is_ok());
        write("k.pem", &other);
        let loaded = load(&file).map(drop);
        let problem = loaded.expect_err("it is another's key").to_string();
        let expected =
            format!("{}: it cannot be used with ", folder.path().join("k.pem").display());
        assert!(problem.starts_with(&expected), "{problem}");
    }
}
