//! `control.toml`: its tokens, and what clients are told.

use std::{fs, path::Path};

use control::{
    config::Config,
    placement::{Orphans, Selector},
};

const OPERATOR: &str = "operator-operator-operator";
const NODE: &str = "node-node-node-node-node";

/// What is made of a text, or why nothing is.
fn read(text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("control.toml");
    fs::write(&file, text).expect("written");
    fs::write(folder.path().join("lb.token"), "lb-lb-lb-lb-lb-lb-lb\n").expect("written");
    Config::read(&file).map_err(|error| error.to_string())
}

#[test]
fn the_example_is_as_this_version_takes_it() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/control.toml");
    let config = Config::read(&examples).expect("valid");
    let tokens = config.http.tokens();
    assert!(tokens.operator.is_some() && tokens.node.is_some() && tokens.lb.is_some());
    assert_eq!(config.vip().expect("there").addresses.len(), 2);
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
}

#[test]
fn each_token_may_stand_in_a_file_of_its_own() {
    let text = format!(
        "[http]\ntoken = \"{OPERATOR}\"\nnode_token = \"{NODE}\"\nlb_token_file = \"lb.token\"\n"
    );
    let config = read(&text).expect("valid");
    let tokens = config.http.tokens();
    assert_eq!(tokens.lb, Some("lb-lb-lb-lb-lb-lb-lb".to_owned().try_into().expect("a token")));
    let shown = format!("{config:?}");
    assert!(!shown.contains(OPERATOR) && !shown.contains("node-node"), "{shown}");
}

#[test]
fn what_would_not_hold_is_refused_with_the_key_at_fault() {
    let operator = format!("token = \"{OPERATOR}\"\n");
    for (http, says) in [
        (format!("{operator}node_token = \"{OPERATOR}\"\n"), "token, node_token and lb_token must"),
        (
            format!("node_token = \"{NODE}\"\nlb_token = \"{NODE}\"\n"),
            "token, node_token and lb_token must",
        ),
        (format!("node_token = \"{NODE}\"\nnode_token_file = \"a\"\n"), "node_token_file are both"),
        ("node_token = \"short\"\n".to_owned(), "must be at least 16 characters"),
        ("lb_token_file = \"nothing\"\n".to_owned(), "the token cannot be read"),
        (format!("{operator}public_url = \"control.example\"\n"), "http.public_url: must be like"),
        (format!("{operator}public_url = \"http://a/b\"\n"), "http.public_url: must be like"),
        (format!("{operator}public_url = \"http://me:x@a\"\n"), "http.public_url: must be like"),
        (format!("{operator}[vip]\naddresses = [\"0.0.0.0:1\"]\n"), "vip: addresses: 0.0.0.0:1"),
        (format!("{operator}[vip]\naddresses = [\"a:1\"]\n"), "vip.addresses"),
    ] {
        let problem = read(&format!("[http]\n{http}")).expect_err(says);
        assert!(problem.contains(says), "{problem:?} does not say {says:?}");
        assert!(problem.contains("control.toml") || problem.contains("nothing"), "{problem}");
    }
}

#[test]
fn who_listens_everywhere_is_warned_that_joins_lead_nowhere() {
    let text = format!("[http]\ntoken = \"{OPERATOR}\"\nlisten = \"0.0.0.0:8000\"\n");
    let warned = |text: &str| {
        let warnings = read(text).expect("valid").warnings();
        warnings.iter().any(|warning| warning.0.starts_with("http.public_url is missing"))
    };
    assert!(warned(&text));
    assert!(!warned(&format!("{text}public_url = \"https://control.example\"\n")));
}

#[test]
fn a_vip_is_taken_in_its_one_form() {
    let vip = "[vip]\naddresses = [\"[::ffff:203.0.113.1]:4433\", \"203.0.113.1:4433\"]\n";
    let config = read(vip).expect("valid");
    let expected = vec!["203.0.113.1:4433".parse().expect("an address")];
    assert_eq!(config.vip().expect("there").addresses, expected);
}

#[test]
fn placement_is_read_with_its_pools_and_tenants_and_what_cannot_be_is_named() {
    let config = read(
        "[placement]\nselector = \"nearest\"\norphans = \"end\"\njoins_per_second = 50\n\
         [placement.pool.big]\nselector = \"least-cpu\"\n[placement.tenants]\nacme = \"big\"\n",
    );
    let placement = config.expect("valid").placement;
    assert_eq!(placement.selector("default"), Selector::Nearest);
    assert_eq!(placement.selector("big"), Selector::LeastCpu);
    assert_eq!((placement.orphans, placement.joins_per_second), (Orphans::End, 50));
    for (text, expected) in [
        ("[placement]\nselectr = \"nearest\"\n", "placement.selectr"),
        ("[placement]\nselector = \"nearby\"\n", "placement.selector"),
        ("[placement]\noverload_percent = 0\n", "placement.overload_percent: must be 1 to 100"),
        ("[placement.tenants]\nacme = \"\"\n", "placement.tenants: acme must name a pool"),
    ] {
        let refused = read(text).expect_err(text);
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn what_cannot_be_of_the_api_is_refused_with_its_key_or_file() {
    let pem = "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n";
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("control.toml");
    fs::write(folder.path().join("public.pem"), pem).expect("written");
    let refused = |text: &str| {
        fs::write(&file, text).expect("written");
        Config::read(&file).map(|_| ()).expect_err(text).to_string()
    };
    for (text, says) in [
        (
            "[http.jwt]\nalgorithm = \"none\"\nkey_file = \"a\"",
            "http.jwt.algorithm: unknown variant",
        ),
        ("[http.jwt]\nalgorithm = \"HS256\"", "missing field `key_file`"),
        ("[http.jwt]\nalgorithm = \"HS256\"\nkey_file = \"none\"", "none: the key cannot be read"),
        ("[http.jwt]\nalgorithm = \"HS256\"\nkey_file = \"public.pem\"", "is a PEM file"),
        ("[http.jwt]\nalgorithm = \"EdDSA\"\nkey_file = \"a\"\nleeway = \"1h\"", "http.jwt.leeway"),
        ("[http.jwt]\nalgorithm = \"EdDSA\"\nkey_file = \"a\"\nissuer = \"\"", "http.jwt.issuer"),
        ("[http.jwt]\nalgorithm = \"EdDSA\"\nkey_file = \"a\"\nkeys = 1", "unknown field `keys`"),
        ("[http.tls]\ncert = \"a.pem\"\nkey = \"a.key\"", "a.key: the key cannot be read"),
        ("[http.tls]\ncert = \"a.pem\"", "missing field `key`"),
        ("[http]\nconnections = 0", "http.connections: must be at least 1"),
        ("[resolve]\nttl = \"0s\"", "resolve.ttl: must be 1 s to 24 h"),
        ("[resolve.prefixes]\n\"10.0.0.0/40\" = \"eu\"", "resolve.prefixes"),
        ("[dns]\nlisten = \"127.0.0.1:53\"\nzone = \"a..b\"", "dns.zone: \"a..b\" is not a name"),
        ("[overflow]\nclusters = [\"https://a.test/path\"]", "overflow.clusters: must be like"),
        ("[webhooks]\nurls = [\"http://a.test\"]", "webhooks.secret_file: is missing"),
        ("[federation]\nparent = \"a\"\nname = \"b\"", "federation.parent: \"a\" is not where"),
        ("[federation]\nparent = \"http://a\"\nname = \"b/c\"", "federation.name"),
        (
            "[federation]\nparent = \"http://a\"\nname = \"b\"\nca = \"c\"",
            "federation.ca: goes with a url that begins with https://",
        ),
    ] {
        let problem = refused(text);
        assert!(problem.contains(says), "{text}: {problem}");
        assert_eq!(problem.lines().count(), 1, "{problem}");
    }
}

#[test]
fn a_control_whose_only_tokens_are_signed_may_listen_anywhere_and_is_not_warned() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("control.toml");
    fs::write(folder.path().join("jwt.key"), [b'x'; 32]).expect("written");
    let jwt = "[http.jwt]\nalgorithm = \"HS256\"\nkey_file = \"jwt.key\"\n";
    let http = "[http]\nlisten = \"0.0.0.0:8000\"\npublic_url = \"https://a.test\"\n";
    fs::write(&file, format!("store.path = \"a\"\n{http}{jwt}")).expect("written");
    let config = Config::read(&file).expect("valid");
    assert!(config.http.verifier.is_some());
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
    fs::write(&file, http).expect("written");
    let problem = Config::read(&file).expect_err("no token").to_string();
    assert!(problem.contains("it needs token, token_file or jwt"), "{problem}");
}
