//! Logs as programs read them.

use std::net::SocketAddr;

use serde_json::Value;

use crate::process::{Folder, Running, Signal, eventually, free_port, get, onevip};

/// The lines of a log, each of which must be an event.
#[track_caller]
fn events(log: &str) -> Vec<Value> {
    let event = |line: &str| -> Value {
        let event: Value =
            serde_json::from_str(line).unwrap_or_else(|problem| panic!("{problem}: {line}"));
        for key in ["timestamp", "level", "target", "message"] {
            let text = event[key].as_str();
            assert!(text.is_some_and(|text| !text.is_empty()), "no {key}: {line}");
        }
        event
    };
    log.lines().map(event).collect()
}

const FLEET: &str = "hash_key = \"00112233445566778899aabbccddeeff\"\n[[routing]]\nconfig = 0\n\
                     [[node]]\nid = \"sfu-a\"\nserver_id = \"0000000a\"\n\
                     address = \"127.0.0.1:7001\"\n";

#[test]
fn each_line_of_a_role_s_log_is_an_event_where_that_is_asked_for() {
    let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
    for role in ["lb", "sfu", "control"] {
        let folder = Folder::new();
        folder.write("fleet.toml", FLEET);
        let (api, other) = (address(), address());
        let text = match role {
            "lb" => format!(
                "[listen]\nudp = [\"{other}\"]\n[fleet]\npath = \"fleet.toml\"\n\
                 [admin]\nlisten = \"{api}\"\n"
            ),
            "sfu" => format!(
                "name = \"sfu-a\"\n[fleet]\npath = \"fleet.toml\"\n\
                 [tunnel]\nlisten = \"127.0.0.1:0\"\nlbs = [\"127.0.0.0/8\"]\n\
                 [ice]\ncandidates = [\"203.0.113.1:4433\"]\n\
                 [signalling]\nlisten = \"{other}\"\n[admin]\nlisten = \"{api}\"\n"
            ),
            _ => format!("[http]\nlisten = \"{api}\"\n"),
        };
        let config = folder.write("config.toml", &text);
        let arguments = ["--log-format", "json", role, "--config", &config];
        let mut running = Running::start(&arguments, &folder.path("log"));
        eventually("it is ready", || get(api, "/readyz").is_some_and(|(have, _)| have == 200));
        running.signal(Signal::TERM);
        assert_eq!(running.wait(), 0, "{role}");
        let events = events(&running.log());
        let begun = |event: &&Value| {
            let says = event["message"].as_str().unwrap_or_default();
            says == "serving" || says == "forwarding"
        };
        let begun = events.iter().find(begun).unwrap_or_else(|| panic!("{role}: {events:?}"));
        assert_eq!(begun["level"], "INFO");
        assert!(begun["name"].is_string(), "values have names of their own: {begun}");
    }
}

#[test]
fn why_a_role_does_not_begin_is_an_event_too() {
    let folder = Folder::new();
    let config = folder.write("lb.toml", "[listen]\nudp = []\n");
    let mut command = onevip();
    let output =
        command.env("ONEVIP_LOG_FORMAT", "json").args(["lb", "--config", &config]).output();
    let output = output.expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
    let log = String::from_utf8(output.stderr).expect("text");
    let events = events(&log);
    let last = events.last().expect("it says why");
    assert_eq!(last["level"], "ERROR");
    assert!(last["message"].as_str().expect("text").contains("listen.udp"), "{last}");
}
