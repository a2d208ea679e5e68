use crate::process::{free_port, run, succeeds};

#[test]
fn the_demo_ends_with_0_and_says_what_every_change_cost() {
    let vip = format!("127.0.0.1:{}", free_port());
    let table = succeeds(&["demo", "--headless", "--seconds", "6", "--vip", &vip]);
    for said in [
        &vip,
        "12/12 sessions",
        "address changes",
        "by silent NAT rebinding / by a new socket",
        "LB changes with them",
        "until the client's next STUN check",
        "sessions lost                                                         0                  0",
        "datagrams misrouted (judged by the nodes)                             0                  0",
    ] {
        assert!(table.contains(said), "{said:?} is not in:\n{table}");
    }
}

#[test]
fn as_json_the_demo_is_for_scripts() {
    let vip = format!("127.0.0.1:{}", free_port());
    let arguments = ["demo", "--headless", "--seconds", "3", "--vip", &vip, "--output", "json"];
    let summary: serde_json::Value = serde_json::from_str(&succeeds(&arguments)).expect("JSON");
    for kind in ["webrtc", "webtransport"] {
        let kind = &summary[kind];
        assert_eq!(kind["sessions"], 6, "{kind}");
        for nothing in ["sessions_lost", "wrong_node", "misrouted"] {
            assert_eq!(kind[nothing], 0, "{nothing} in {kind}");
        }
        assert!(kind["judged"].as_u64().expect("a number") > 100, "{kind}");
    }
}

#[test]
fn a_vip_that_cannot_be_told_to_clients_or_is_in_use_is_refused() {
    let output = run(&["demo", "--headless", "--vip", "0.0.0.0:4433"]);
    assert_eq!(output.status.code(), Some(2));
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("bound").to_string();
    let output = run(&["demo", "--headless", "--vip", &address]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&address), "{error}");
}
