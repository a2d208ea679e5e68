//! What goes wrong is said in one sentence, and told apart by the exit code.

use super::world::{Asked, LB_TOKEN, World};
use crate::process::{Folder, free_port, onevip};

#[test]
fn what_control_refuses_is_one_sentence_and_exit_code_1() {
    let world = World::new();
    world.register(1, None);
    let at = format!("onevip: control at http://{}: ", world.api);
    let cases: &[(&[&str], &str)] = &[
        (&["node", "drain", "nobody"], "there is no node nobody"),
        (&["node", "undrain", "nobody"], "there is no node nobody"),
        (&["node", "remove", "sfu-1"], "node sfu-1"),
        (&["room", "show", "nowhere"], "room nowhere is not placed"),
        (&["room", "remove", "nowhere"], "room nowhere is not placed"),
        (&["room", "place", "a/b"], "\"a/b\""),
        (&["room", "place", "lobby", "--pool", "empty"], "no node can take the room"),
        (&["session", "remove", "none"], "there is no session \"none\""),
        (&["session", "add", "--node", "nobody", "--ufrag", "abcd"], "there is no node nobody"),
        (&["session", "add", "--node", "sfu-1", "--ufrag", "a-b-c-d"], "a-b-c-d"),
        (
            &["session", "add", "--node", "sfu-1", "--ufrag", "abcd", "--address", "9.9.9.9:1"],
            "prefix",
        ),
        (&["node", "undrain", "sfu-1", "--token", "0123456789abcdef"], "this is not the token"),
        (&["node", "undrain", "sfu-1", "--token", LB_TOKEN], "this token is for other calls"),
    ];
    for (arguments, says) in cases {
        let (code, error) = world.fails(arguments);
        assert_eq!(code, 1, "{arguments:?}: {error}");
        assert!(error.starts_with(&at) && error.contains(says), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    }
}

#[test]
fn without_a_token_fleets_can_be_seen_and_not_changed() {
    let world = World::new();
    world.register(1, None);
    let ask = |arguments: &[&str]| {
        let mut command = world.cli(arguments);
        command.env_remove("ONEVIP_TOKEN");
        Asked::of(command, None)
    };
    // Routing is shown without its keys.
    let seen = [
        ["node", "list"],
        ["room", "list"],
        ["session", "list"],
        ["lb", "list"],
        ["routing", "show"],
    ];
    for seen in seen {
        ask(&seen).succeeds();
    }
    let changes: [&[&str]; 4] = [
        &["node", "drain", "sfu-1"],
        &["room", "place", "lobby"],
        &["session", "add", "--node", "sfu-1", "--ufrag", "abcd"],
        &["routing", "rotate"],
    ];
    for arguments in changes {
        let (code, error) = ask(arguments).fails();
        let said =
            format!("onevip: control at http://{}: this call needs a bearer token", world.api);
        assert_eq!((code, error), (1, said), "{arguments:?}");
    }
}

#[test]
fn a_control_that_is_not_there_is_named() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let mut command = onevip();
    command.args(["node", "list", "--control", &url]).env_remove("ONEVIP_CONTROL");
    let said = format!("onevip: control at {url}: Connection refused (os error 111)");
    assert_eq!(Asked::of(command, None).fails(), (1, said));
}

#[test]
fn bad_usage_is_exit_code_2() {
    let folder = Folder::new();
    let short = folder.write("token", "short\n");
    let missing = folder.path("nothing").display().to_string();
    let cases: &[(&[&str], &str)] = &[
        (&["node", "list", "--control", "127.0.0.1:8000"], "\"127.0.0.1:8000\" is not where"),
        (&["node", "list", "--control", "ftp://control"], "\"ftp://control\" is not where"),
        (&["node", "list", "--control", "http://me:secret@control"], "http://…@control"),
        (&["node", "list", "--token", "short"], "--token: it must be at least 16"),
        (&["node", "list", "--token-file", &short], "the token must be at least 16"),
        (&["node", "list", "--token-file", &missing], &missing),
        (&["node", "list", "--token", &"x".repeat(16), "--token-file", &short], "cannot be used"),
        (&["node", "drain", "a", "--no-wait", "--timeout", "1"], "cannot be used"),
        (&["room", "remove", ".."], "\"..\" cannot be a name"),
        (&["node", "remove", ""], "\"\" cannot be a name"),
        (&["node", "drain"], "<ID>"),
        (&["node"], "Usage"),
        (&["session", "add", "--node", "a"], "--sdp"),
        (&["session", "add", "--node", "a", "--sdp", "x", "--ufrag", "abcd"], "cannot be used"),
        (&["session", "add", "--node", "a", "--sdp", &missing], &missing),
        (&["session", "add", "--node", "a", "--ufrag", "abcd", "--address", "x"], "--address"),
    ];
    for (arguments, says) in cases {
        let mut command = onevip();
        command.args(*arguments).env_remove("ONEVIP_CONTROL").env_remove("ONEVIP_TOKEN");
        let (code, error) = Asked::of(command, None).fails();
        assert_eq!(code, 2, "{arguments:?}: {error}");
        assert!(error.contains(says), "{arguments:?}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn who_stops_reading_ends_the_program_well() {
    let world = World::new();
    world.register(1, None);
    for arguments in [&["node", "list"][..], &["node", "list", "--output", "json"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = world.cli(arguments).stdout(writer).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    }
}
