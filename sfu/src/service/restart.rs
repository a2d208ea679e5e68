use control::hex::Key;

use crate::{config::Config, quic::KEY_LEN};

/// The keys that differ and are only read at the start.
pub(super) fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let tunnel = |config: &Config| config.tunnel.as_ref().map(|tunnel| tunnel.listen);
    let udp = |config: &Config| config.udp.as_ref().map(|udp| udp.listen);
    let (keys, new_keys) = (&old.keys, &new.keys);
    let key = |key: &Option<Key<KEY_LEN>>| key.as_ref().map(|key| key.0);
    let (web, new_web) = (&old.webtransport, &new.webtransport);
    let changed = [
        ("name", old.name != new.name),
        ("fleet.url", old.fleet.url != new.fleet.url),
        ("fleet.token", old.fleet.token != new.fleet.token),
        ("fleet.token_file", old.fleet.token_file != new.fleet.token_file),
        ("fleet.endpoints", old.fleet.etcd() != new.fleet.etcd()),
        ("node", old.node != new.node),
        ("fleet.config", old.fleet.config != new.fleet.config),
        ("tunnel.listen", tunnel(old) != tunnel(new)),
        ("udp.listen", udp(old) != udp(new)),
        ("ice.candidates", old.ice.candidates != new.ice.candidates),
        ("webtransport.domain", web.domain != new_web.domain),
        ("webtransport.cid_lifetime", web.cid_lifetime != new_web.cid_lifetime),
        // Between two of files, it changes at once.
        ("webtransport.certificate", web.certificate.is_some() != new_web.certificate.is_some()),
        ("keys.reset", key(&keys.reset) != key(&new_keys.reset)),
        ("keys.token", key(&keys.token) != key(&new_keys.token)),
        ("signalling.listen", old.signalling.listen != new.signalling.listen),
        ("admin.listen", old.admin.listen != new.admin.listen),
    ];
    changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;

    use super::*;

    pub(crate) const CONFIG: &str = "name = \"a\"\n[fleet]\npath = \"fleet.toml\"\n\
                          [tunnel]\nlisten = \"127.0.0.1:7001\"\nlbs = [\"127.0.0.1/32\"]\n\
                          [ice]\ncandidates = [\"203.0.113.1:4433\"]\n";

    fn config(text: &str) -> Config {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("sfu.toml");
        std::fs::write(&file, text).expect("written");
        let mut config = Config::read(&file).expect("valid");
        config.fleet.path = Some(PathBuf::new());
        config
    }

    #[test]
    fn every_key_that_takes_a_restart_is_named_when_it_changes_and_no_other() {
        let key = "00".repeat(KEY_LEN);
        let cases: &[(&str, String)] = &[
            ("", CONFIG.to_owned()),
            ("", CONFIG.replace("127.0.0.1/32", "127.0.0.0/8")),
            ("", format!("{CONFIG}[admin]\ndrain = \"5s\"\n")),
            ("name", CONFIG.replace("\"a\"", "\"b\"")),
            ("fleet.config", CONFIG.replace("[tunnel]", "config = 1\n[tunnel]")),
            ("tunnel.listen", CONFIG.replace("7001", "7002")),
            ("udp.listen", format!("{CONFIG}[udp]\nlisten = \"127.0.0.1:7003\"\n")),
            ("ice.candidates", CONFIG.replace("4433", "4434")),
            ("webtransport.domain", format!("{CONFIG}[webtransport]\ndomain = \"x.test\"\n")),
            (
                "webtransport.cid_lifetime",
                format!("{CONFIG}[webtransport]\ncid_lifetime = \"9s\"\n"),
            ),
            (
                "webtransport.certificate",
                format!("{CONFIG}[webtransport]\ncertificate = \"c\"\nkey = \"k\"\n"),
            ),
            ("keys.reset", format!("{CONFIG}[keys]\nreset = \"{key}\"\n")),
            ("keys.token", format!("{CONFIG}[keys]\ntoken = \"{key}\"\n")),
            ("signalling.listen", format!("{CONFIG}[signalling]\nlisten = \"127.0.0.1:1\"\n")),
            ("admin.listen", format!("{CONFIG}[admin]\nlisten = \"127.0.0.1:1\"\n")),
        ];
        let old = config(CONFIG);
        for (key, text) in cases {
            let named = needs_restart(&old, &config(text)).join(" ");
            assert_eq!(named, *key, "{text}");
        }
    }
}
