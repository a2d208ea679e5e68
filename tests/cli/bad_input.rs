//! Configuration that is wrong: one sentence naming file and key, exit 2.

use std::net::{TcpListener, UdpSocket};

use crate::process::{Folder, fails, free_port, succeeds};

const FLEET: &str = r#"
hash_key = "00112233445566778899aabbccddeeff"
[[routing]]
config = 0
[[node]]
id = "sfu-a"
server_id = "0000000a"
address = "127.0.0.1:7001"
"#;

const LB: &str = r#"
name = "lb-1"
[listen]
udp = ["127.0.0.1:4433"]
[fleet]
source = "file"
path = "fleet.toml"
[io]
driver = "auto"
workers = 1
tunnel = "127.0.0.1:0"
batch_window = "50us"
[quic]
sni = true
[limits]
flows = 1_000
flow_idle = "60s"
[admin]
listen = "127.0.0.1:9090"
drain = "0s"
"#;

const SFU: &str = r#"
name = "sfu-a"
[fleet]
path = "fleet.toml"
[tunnel]
listen = "127.0.0.1:7001"
lbs = ["127.0.0.1/32"]
[ice]
candidates = ["127.0.0.1:4433"]
[signalling]
listen = "127.0.0.1:8080"
[admin]
listen = "127.0.0.1:9091"
"#;

const CONTROL: &str = r#"
name = "control-1"
[store]
kind = "embedded"
path = "control.redb"
[http]
listen = "127.0.0.1:8000"
token = "0123456789abcdef"
[nodes]
ttl = "10s"
[fleet]
path = "fleet.toml"
[admin]
drain = "0s"
"#;

#[track_caller]
fn each_is_refused(commands: &[&[&str]], file: &str, whole: &str, cases: &[(&str, &str, &str)]) {
    let folder = Folder::new();
    folder.write("fleet.toml", FLEET);
    let mut wrong = Vec::new();
    for (what, by, expected) in cases {
        assert_eq!(whole.matches(what).count(), 1, "{what:?} must stand in the file once");
        let path = folder.write(file, &whole.replace(what, by));
        for command in commands {
            let (code, error) = fails(&[command, &["--config", &path][..]].concat());
            let folder = folder.path("").display().to_string();
            let named = error.starts_with(&format!("onevip: {folder}")) && error.contains(".toml");
            if code != 2 || !named || !error.contains(expected) || error.lines().count() != 1 {
                wrong.push(format!("{command:?} with {by:?}: {code}\n  {error}\n  …{expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not upheld:\n{}", wrong.join("\n"));
}

#[test]
fn an_lb_configuration_with_a_mistake_is_refused_by_check_and_lb_alike() {
    each_is_refused(
        &[&["check"], &["lb"]],
        "lb.toml",
        LB,
        &[
            ("[quic]", "[quick]", "lb.toml:13: quick: unknown field `quick`"),
            ("sni = true", "snni = true", "lb.toml:14: quic.snni: unknown field `snni`"),
            (
                "udp = [\"127.0.0.1:4433\"]",
                "udp = []",
                "listen.udp: there must be at least one address",
            ),
            ("\"127.0.0.1:4433\"", "\"127.0.0.1\"", "listen.udp[0]: invalid socket address"),
            (
                "\"127.0.0.1:4433\"",
                "\"127.0.0.1:4433\", \"127.0.0.1:4433\"",
                "listen.udp: 127.0.0.1:4433 is there twice",
            ),
            (
                "[listen]\n",
                "[listen]\ntcp = [\"127.0.0.1:1\"]\n",
                "listen.tcp: ICE-TCP is not available",
            ),
            ("source = \"file\"", "source = \"etcd\"", "fleet.endpoints: is missing"),
            ("source = \"file\"", "source = \"consul\"", "fleet.source: unknown variant `consul`"),
            (
                "source = \"file\"",
                "source = \"etcd\"\nendpoints = [\"127.0.0.1:2379\"]",
                "fleet.endpoints: endpoint \"127.0.0.1:2379\" cannot be used: must begin with http",
            ),
            (
                "source = \"file\"",
                "source = \"etcd\"\nendpoints = []",
                "fleet.endpoints: endpoints names no member",
            ),
            (
                "source = \"file\"",
                "source = \"etcd\"\nendpoints = [\"https://a:1\"]",
                "cannot be used: https needs ca",
            ),
            (
                "source = \"file\"",
                "source = \"etcd\"\nendpoints = [\"https://a:1\"]\nca = \"none.pem\"",
                "none.pem",
            ),
            (
                "source = \"file\"",
                "source = \"etcd\"\nendpoints = [\"http://a:1\"]\ncluster = \"a/b\"",
                "fleet.cluster: \"a/b\" is not a cluster name",
            ),
            (
                "source = \"file\"",
                "source = \"etcd\"\nendpoints = [\"http://a:1\"]\nuser = \"lb\"",
                "fleet.user: goes with password_file, which is missing",
            ),
            ("source = \"file\"", "cluster = \"one\"", "fleet.cluster: goes with source \"etcd\""),
            ("path = \"fleet.toml\"", "path = \"none.toml\"", "none.toml: there is no such file"),
            ("driver = \"auto\"", "driver = \"dpdk\"", "io.driver: unknown variant `dpdk`"),
            (
                "batch_window = \"50us\"",
                "batch_window = \"often\"",
                "io.batch_window: \"often\" is not a duration",
            ),
            (
                "batch_window = \"50us\"",
                "batch_window = \"1s\"",
                "io.batch_window: must be at most 10 ms",
            ),
            ("workers = 1", "pin = 1", "io.pin: invalid type: integer `1`, expected a boolean"),
            ("workers = 1", "busy_poll = 50", "io.busy_poll: invalid type: integer `50`"),
            ("workers = 1", "busy_poll = \"50\"", "io.busy_poll: \"50\" is not a duration"),
            ("workers = 1", "busy_poll = \"2ms\"", "io.busy_poll: must be at most 1 ms"),
            ("flows = 1_000", "flows = 0", "limits.flows: must be 1 to 100000000"),
            ("flows = 1_000", "flows = 1_000_000_000_000", "limits.flows: must be 1 to 100000000"),
            ("workers = 1", "workers = 100_000", "io.workers: must be at most 1024"),
            ("[quic]", "[tunnel]\nlbs = []\n[quic]", "tunnel: unknown field `tunnel`"),
            ("flows = 1_000", "flows = -1", "limits.flows: invalid value"),
            ("flows = 1_000", "nat_ports = 0", "limits.nat_ports: must be 1 to 65536"),
            ("flows = 1_000", "nat_ports = 65537", "limits.nat_ports: must be 1 to 65536"),
            ("flows = 1_000", "nat_mappings = 0", "limits.nat_mappings: must be 1 to 100000000"),
            ("flow_idle = \"60s\"", "flow_idle = \"10ms\"", "limits.flow_idle: must be between"),
            (
                "tunnel = \"127.0.0.1:0\"",
                "tunnel = \"[::1]:0\"",
                "node sfu-a has address 127.0.0.1:7001, which cannot be reached",
            ),
            ("[fleet]", "[fleet", "lb.toml:5: "),
        ],
    );
}

#[test]
fn a_node_configuration_with_a_mistake_is_refused_by_check_and_sfu_alike() {
    each_is_refused(
        &[&["check"], &["sfu"]],
        "sfu.toml",
        SFU,
        &[
            ("[ice]", "[ise]", "ise: unknown field `ise`"),
            ("name = \"sfu-a\"", "name = \"sfu-z\"", "the fleet has no node sfu-z"),
            ("path = \"fleet.toml\"", "path = \"none.toml\"", "none.toml: there is no such file"),
            (
                "path = \"fleet.toml\"",
                "path = \"fleet.toml\"\nconfig = 3",
                "no routing configuration 3",
            ),
            (
                "path = \"fleet.toml\"",
                "path = \"fleet.toml\"\nconfig = 9",
                "fleet.config: must be 0 to 6",
            ),
            ("lbs = [\"127.0.0.1/32\"]", "lbs = []", "tunnel.lbs: must name the LBs"),
            (
                "candidates = [\"127.0.0.1:4433\"]",
                "",
                "ice.candidates: must name the VIP's addresses",
            ),
            (
                "\"127.0.0.1:4433\"",
                "\"0.0.0.0:4433\"",
                "ice.candidates: must be addresses that clients can send to",
            ),
            (
                "[signalling]",
                "[keys]\nreset = \"00\"\n[signalling]",
                "keys.reset: must be 32 bytes",
            ),
            (
                "[signalling]",
                "[webtransport]\nkey = \"k.pem\"\n[signalling]",
                "webtransport: certificate and key go together",
            ),
        ],
    );
}

#[test]
fn a_control_configuration_with_a_mistake_is_refused_by_check_and_control_alike() {
    each_is_refused(
        &[&["check"], &["control"]],
        "control.toml",
        CONTROL,
        &[
            ("[nodes]", "[nods]", "control.toml:9: nods: unknown field `nods`"),
            ("ttl = \"10s\"", "tttl = \"10s\"", "nodes.tttl: unknown field `tttl`"),
            ("ttl = \"10s\"", "ttl = \"soon\"", "nodes.ttl: \"soon\" is not a duration"),
            ("ttl = \"10s\"", "ttl = \"10ms\"", "nodes.ttl: must be between 1 s and 1 h"),
            ("ttl = \"10s\"", "ttl = \"2h\"", "nodes.ttl: must be between 1 s and 1 h"),
            ("kind = \"embedded\"", "kind = \"etcd\"", "store.path: goes with kind \"embedded\""),
            (
                "kind = \"embedded\"\npath = \"control.redb\"",
                "kind = \"etcd\"",
                "store.endpoints: is missing",
            ),
            (
                "kind = \"embedded\"\npath = \"control.redb\"",
                "kind = \"etcd\"\nendpoints = [\"http://127.0.0.1:2379/v3\"]",
                "store.endpoints: endpoint \"http://127.0.0.1:2379/v3\" cannot be used",
            ),
            ("kind = \"embedded\"", "cluster = \"a\"", "store.cluster: goes with kind \"etcd\""),
            ("kind = \"embedded\"", "kind = \"paper\"", "store.kind: unknown variant `paper`"),
            ("\"127.0.0.1:8000\"", "\"127.0.0.1\"", "http.listen: invalid socket address"),
            ("0123456789abcdef", "short", "http.token: must be at least 16 characters"),
            ("0123456789abcdef", "0123456789 abcdef", "http.token: must be at least 16 characters"),
            (
                "token = \"0123456789abcdef\"",
                "token_file = \"no.toml\"",
                "no.toml: the token cannot be read",
            ),
            (
                "token = \"0123456789abcdef\"",
                "token_file = \"fleet.toml\"",
                "fleet.toml: the token must be at least 16 characters",
            ),
            (
                "[nodes]",
                "token_file = \"token\"\n[nodes]",
                "http: token and token_file are both there",
            ),
            ("path = \"fleet.toml\"", "path = \"none.toml\"", "none.toml: there is no such file"),
            ("path = \"fleet.toml\"", "path = \"control.toml\"", "control.toml:13: admin: unknown"),
            ("[fleet]", "[fleet", "control.toml:11: "),
        ],
    );
}

#[test]
fn a_control_without_a_token_is_for_loopback_only() {
    let folder = Folder::new();
    folder.write("fleet.toml", FLEET);
    let open = CONTROL.replace("token = \"0123456789abcdef\"", "");
    let path = folder.write("control.toml", &open);
    let report = succeeds(&["check", "--config", &path]);
    assert!(report.contains("so nothing can be changed through the API"), "{report}");
    for address in ["0.0.0.0:8000", "[::]:8000", "192.0.2.1:8000"] {
        let path = folder.write("control.toml", &open.replace("127.0.0.1:8000", address));
        for command in ["check", "control"] {
            let (code, error) = fails(&[command, "--config", &path]);
            assert_eq!(code, 2, "{error}");
            let says = format!("control.toml: http: listens on {address}, which is not a loopback");
            assert!(error.contains(&says), "{error}");
        }
    }
}

#[test]
fn addresses_in_use_are_named() {
    let folder = Folder::new();
    folder.write("fleet.toml", FLEET);
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let udp = taken.local_addr().expect("bound").to_string();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let tcp = listener.local_addr().expect("bound").to_string();
    let free = || format!("127.0.0.1:{}", free_port());

    let lb = |udp: &str, tunnel: &str, admin: &str| {
        LB.replace("127.0.0.1:4433", udp)
            .replace("tunnel = \"127.0.0.1:0\"", &format!("tunnel = \"{tunnel}\""))
            .replace("127.0.0.1:9090", admin)
    };
    for (file, address, what) in [
        (lb(&udp, "127.0.0.1:0", &free()), &udp, "listen.udp: "),
        (lb(&free(), &udp, &free()), &udp, "io.tunnel: "),
        (lb(&free(), "127.0.0.1:0", &tcp), &tcp, "admin.listen: "),
    ] {
        let path = folder.write("lb.toml", &file);
        let (code, error) = fails(&["lb", "--config", &path]);
        assert_eq!(code, 2, "{error}");
        let last = error.lines().last().expect("a sentence");
        assert!(last.contains(address.as_str()) && last.contains(what), "{last}");
    }
    let sfu = |tunnel: &str, signalling: &str, admin: &str| {
        SFU.replace("127.0.0.1:7001", tunnel)
            .replace("127.0.0.1:8080", signalling)
            .replace("127.0.0.1:9091", admin)
    };
    for (file, address, what) in [
        (sfu(&udp, &free(), &free()), &udp, "tunnel.listen"),
        (sfu(&free(), &tcp, &free()), &tcp, "signalling.listen"),
        (sfu(&free(), &free(), &tcp), &tcp, "admin.listen"),
    ] {
        let path = folder.write("sfu.toml", &file);
        let (code, error) = fails(&["sfu", "--config", &path]);
        assert_eq!(code, 2, "{error}");
        let last = error.lines().last().expect("a sentence");
        assert!(last.contains(address.as_str()) && last.contains(what), "{last}");
    }
}

#[test]
fn missing_files_are_named_and_check_wants_to_know_which() {
    for command in ["lb", "sfu", "control", "check"] {
        let (code, error) = fails(&[command, "--config", "/nonexistent/file.toml"]);
        assert_eq!(code, 2);
        assert_eq!(error, "onevip: /nonexistent/file.toml: there is no such file");
    }
    let (code, error) = fails(&["check"]);
    assert_eq!((code, error.contains("--config")), (2, true), "{error}");
}

#[test]
fn check_warns_of_server_ids_that_clients_hit_by_accident() {
    let folder = Folder::new();
    let fleet = FLEET
        .replace("config = 0", "config = 0\nserver_id_len = 2\nnonce_len = 14")
        .replace("0000000a", "000a");
    let path = folder.write("fleet.toml", &fleet);
    let report = succeeds(&["check", "--config", &path]);
    assert!(report.contains("warning: routing configuration 0 has server_id_len 2"), "{report}");
    let json = succeeds(&["check", "--config", &path, "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["valid"], true);
    assert_eq!(json["warnings"].as_array().map(Vec::len), Some(1));
}
