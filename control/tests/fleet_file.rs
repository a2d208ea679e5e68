//! What a fleet file may say, and the one sentence that answers what it may not.

use std::path::Path;

use control::fleet::{Fleet, Forward, Serves, State};

const WHOLE: &str = r#"
hash_key = "00112233445566778899aabbccddeeff"

[[routing]]
config = 0
server_id_len = 4
nonce_len = 12
key = "8f95f09245765f80256934e50c66207f"
ice_key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

[[node]]
id = "sfu-b"
server_id = "0000000b"
address = "[::1]:7002"
state = "draining"
serves = ["quic"]
weight = 50
pool = "eu"

[[node]]
id = "sfu-a"
server_id = "0000000a"
address = "127.0.0.1:7001"
prefix = ["127.0.0.0/30"]

[[session]]
ufrag = "abcd"
node = "sfu-a"
client_ufrag = "wxyz"
address = "127.0.0.2:20002"
"#;

fn parse(text: &str) -> Result<(Fleet, Vec<String>), String> {
    Fleet::parse(Path::new("fleet.toml"), text)
        .map(|(fleet, warnings)| {
            (fleet, warnings.into_iter().map(|warning| warning.to_string()).collect())
        })
        .map_err(|error| error.to_string())
}

#[test]
fn a_whole_file_reads_with_its_defaults_and_nodes_sorted_by_name() {
    let (fleet, warnings) = parse(WHOLE).expect("valid");
    assert_eq!(warnings, Vec::<String>::new());
    let [a, b] = &fleet.nodes[..] else { panic!("two nodes: {:?}", fleet.nodes) };
    assert_eq!((a.id.as_str(), b.id.as_str()), ("sfu-a", "sfu-b"));
    assert_eq!((a.forward, a.state, a.weight), (Forward::Tunnel, State::Serving, 100));
    assert_eq!((a.serves, a.pool.as_str()), (Serves { ice: true, quic: true }, "default"));
    assert_eq!((b.state, b.weight, b.pool.as_str()), (State::Draining, 50, "eu"));
    assert_eq!(b.serves, Serves { ice: false, quic: true });
    assert_eq!(b.prefix, ["::1/128".parse().expect("a prefix")], "its own address by default");
    assert_eq!(fleet.sessions[0].node, 0, "sessions point at nodes in their sorted order");
    assert!(fleet.routing[0].ice_key.is_some());
}

#[test]
fn keys_do_not_show_in_debug_output() {
    let (fleet, _) = parse(WHOLE).expect("valid");
    let shown = format!("{fleet:?}");
    for secret in ["8f95f0", "00112233", "0x8f", "143"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn each_mistake_gets_one_sentence_that_names_file_and_key() {
    // What to replace in the whole file, by what, and what the answer must be.
    let cases = [
        ("weight = 50", "wieght = 50", "fleet.toml:17: node[0].wieght: unknown field `wieght`"),
        ("[[session]]", "[[sesion]]", "fleet.toml:26: sesion: unknown field `sesion`"),
        (
            "\"sfu-a\"\nserver",
            "\"sfu-b\"\nserver",
            "fleet.toml: node[1].id: there are two nodes sfu-b",
        ),
        (
            "\"0000000a\"",
            "\"0000000b\"",
            "fleet.toml: node[1].server_id: 0000000b is the server ID of node sfu-b already",
        ),
        (
            "\"0000000a\"",
            "\"00000a\"",
            "fleet.toml: node[1].server_id: 00000a has 3 bytes, which is the server_id_len of no [[routing]]",
        ),
        (
            "\"0000000a\"",
            "\"0000000x\"",
            "fleet.toml:22: node[1].server_id: \"0000000x\" is not pairs of hex digits",
        ),
        (
            "\"8f95f09245765f80256934e50c66207f\"",
            "\"8f95\"",
            "fleet.toml:8: routing[0].key: must be 16 bytes (32 hex digits), has 2 bytes",
        ),
        (
            "1e1f\"",
            "1e\"",
            "fleet.toml:9: routing[0].ice_key: must be 32 bytes (64 hex digits), has 31 bytes",
        ),
        (
            "ccddeeff\"",
            "ccddee\"",
            "fleet.toml:2: hash_key: must be 16 bytes (32 hex digits), has 15 bytes",
        ),
        ("config = 0", "config = 7", "fleet.toml: routing[0].config: must be 0 to 6, not 7"),
        (
            "nonce_len = 12",
            "nonce_len = 3",
            "fleet.toml: routing[0]: nonce_len must be 4 to 18 bytes, not 3",
        ),
        (
            "nonce_len = 12",
            "nonce_len = 16",
            "fleet.toml: routing[0]: server_id_len and nonce_len together must be at most 19 bytes, not 20",
        ),
        ("nonce_len = 12", "nonce_len = -1", "fleet.toml:7: routing[0].nonce_len: invalid value"),
        (
            "127.0.0.1:7001",
            "127.0.0.1",
            "fleet.toml:23: node[1].address: invalid socket address syntax",
        ),
        (
            "127.0.0.1:7001",
            "0.0.0.0:7001",
            "fleet.toml: node[1].address: 0.0.0.0:7001 is not an address that datagrams can be sent to",
        ),
        (
            "127.0.0.1:7001",
            "[::1]:7002",
            "fleet.toml: node[1].address: [::1]:7002 is the address of node sfu-b already",
        ),
        (
            "127.0.0.1:7001",
            "[fe80::1]:7001",
            "fleet.toml: node[1].address: [fe80::1]:7001 is not an address that datagrams can be sent to",
        ),
        ("\"draining\"", "\"dead\"", "fleet.toml:15: node[0].state: unknown variant `dead`"),
        ("[\"quic\"]", "[\"http\"]", "fleet.toml:16: node[0].serves[0]: unknown variant `http`"),
        (
            "id = \"sfu-b\"",
            "id = \"sfu b\"",
            "fleet.toml:12: node[0].id: \"sfu b\" is not a node name",
        ),
        ("id = \"sfu-b\"", "id = \"..\"", "fleet.toml:12: node[0].id: \"..\" is not a node name"),
        (
            "127.0.0.0/30",
            "127.0.0.0/33",
            "fleet.toml:24: node[1].prefix[0]: invalid IP address syntax",
        ),
        (
            "127.0.0.2:20002",
            "127.0.0.9:20002",
            "fleet.toml: session[0].address: 127.0.0.9:20002 lies outside the prefix of node sfu-a",
        ),
        (
            "node = \"sfu-a\"",
            "node = \"sfu-c\"",
            "fleet.toml: session[0].node: there is no node sfu-c",
        ),
        ("\"abcd\"", "\"abc\"", "fleet.toml: session[0].ufrag: \"abc\" is not an ICE ufrag"),
        (
            "\"wxyz\"",
            "\"wx yz\"",
            "fleet.toml: session[0].client_ufrag: \"wx yz\" is not an ICE ufrag",
        ),
        (
            "hash_key = \"00112233445566778899aabbccddeeff\"",
            "",
            "fleet.toml: hash_key: is missing, but node sfu-a serves QUIC",
        ),
        (
            "[[node]]\nid = \"sfu-a\"",
            "[[node\nid = \"sfu-a\"",
            "fleet.toml:20: unclosed array table",
        ),
        ("id = \"sfu-a\"\n", "", "fleet.toml:20: node[1]: missing field `id`"),
    ];
    let mut wrong = Vec::new();
    for (what, by, expected) in cases {
        assert_eq!(WHOLE.matches(what).count(), 1, "{what:?} must stand in the file once");
        match parse(&WHOLE.replace(what, by)) {
            Ok(_) => wrong.push(format!("{by:?} was accepted, expected: {expected}")),
            Err(error) if error.starts_with(expected) && !error.contains('\n') => {}
            Err(error) => wrong.push(format!("{by:?}:\n  {error}\n  {expected}")),
        }
    }
    assert!(wrong.is_empty(), "not upheld:\n{}", wrong.join("\n"));
}

#[test]
fn a_second_routing_or_session_of_the_same_number_or_ufrag_is_refused() {
    let routing = format!("{WHOLE}\n[[routing]]\nconfig = 0\n");
    assert_eq!(
        parse(&routing).map(|_| ()),
        Err("fleet.toml: routing[1].config: configuration 0 is defined twice".to_owned())
    );
    let again = "\n[[session]]\nufrag = \"abcd\"\nnode = \"sfu-b\"\nclient_ufrag = \"wxyz\"\n";
    assert_eq!(
        parse(&format!("{WHOLE}{again}")).map(|_| ()),
        Err("fleet.toml: session[1].ufrag: abcd is registered by session[0] already".to_owned())
    );
    let told_apart = again.replace("wxyz", "stuv");
    assert!(parse(&format!("{WHOLE}{told_apart}")).is_ok(), "the client's ufrag tells them apart");
}

#[test]
fn a_session_may_not_take_over_a_ufrag_that_names_another_node() {
    // `tests/vectors/carriers.json`, the first: server ID 0000000a, which is sfu-a.
    let session = |node| {
        format!("{WHOLE}\n[[session]]\nufrag = \"ELRX2JH9uc63ehm7zIIbjcE\"\nnode = \"{node}\"\n")
    };
    assert!(parse(&session("sfu-a")).is_ok());
    assert_eq!(
        parse(&session("sfu-b")).map(|_| ()),
        Err("fleet.toml: session[1].ufrag: ELRX2JH9uc63ehm7zIIbjcE is a routing ID of node sfu-a"
            .to_owned())
    );
}

#[test]
fn a_session_may_not_lie_at_another_nodes_address() {
    let text = WHOLE.replace("127.0.0.2:20002", "127.0.0.3:7003")
        + "\n[[node]]\nid = \"sfu-c\"\naddress = \"127.0.0.3:7003\"\n";
    assert_eq!(
        parse(&text).map(|_| ()),
        Err("fleet.toml: session[0].address: 127.0.0.3:7003 is the address of node sfu-c"
            .to_owned())
    );
}

#[test]
fn sessions_of_two_nodes_may_not_lie_at_one_address() {
    let session = |ufrag: &str, node: &str| {
        format!(
            "\n[[session]]\nufrag = \"{ufrag}\"\nnode = \"{node}\"\naddress = \"127.0.0.1:7009\"\n"
        )
    };
    let both = WHOLE.replace("[::1]:7002", "127.0.0.1:7002");
    let of = |first, second| both.clone() + &session("efgh", first) + &session("ijkl", second);
    assert!(parse(&of("sfu-a", "sfu-a")).is_ok());
    assert_eq!(
        parse(&of("sfu-a", "sfu-b")).map(|_| ()),
        Err("fleet.toml: session[2].address: 127.0.0.1:7009 has a session of node sfu-a already"
            .to_owned())
    );
}

#[test]
fn what_is_allowed_but_hardly_meant_gets_a_warning() {
    let warnings = |text: &str| parse(text).expect("valid").1.join("\n");
    let short = "\n[[routing]]\nconfig = 1\nserver_id_len = 2\nnonce_len = 14\n";
    assert!(warnings(&format!("{WHOLE}{short}")).contains("configuration 1 has server_id_len 2"));
    let longer = "\n[[routing]]\nconfig = 1\nserver_id_len = 4\nnonce_len = 13\n";
    assert!(warnings(&format!("{WHOLE}{longer}")).contains("IDs of [17, 18] bytes"));
    assert!(warnings("").contains("there is no node"));
}

#[test]
fn a_file_that_is_missing_or_no_text_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("none.toml");
    let error = Fleet::read(&missing).expect_err("there is none").to_string();
    assert_eq!(error, format!("{}: there is no such file", missing.display()));
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).expect("written");
    let error = Fleet::read(&binary).expect_err("no text").to_string();
    assert_eq!(error, format!("{}: the file is not UTF-8 text", binary.display()));
}
