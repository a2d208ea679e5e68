use crate::process::{free_port, run, succeeds};

/// The two numbers of a row of the closing table.
fn row<'a>(table: &'a str, name: &str) -> [&'a str; 2] {
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("{name:?} is not in:\n{table}"));
    let values: Vec<_> =
        line.split("  ").map(str::trim).filter(|value| !value.is_empty()).collect();
    <[&str; 2]>::try_from(values).unwrap_or_else(|row| panic!("{name}: {row:?}"))
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

#[test]
fn the_demo_ends_with_0_and_says_what_every_change_cost() {
    let vip = format!("127.0.0.1:{}", free_port());
    let table = succeeds(&["demo", "--headless", "--seconds", "6", "--vip", &vip]);
    assert!(table.contains(&vip) && table.contains("12/12 sessions"), "{table}");
    for name in ["sessions", "address changes", "of one session, at least", "LB changes with them"]
    {
        assert!(row(&table, name).into_iter().all(|value| number(value) > 0), "{name}:\n{table}");
    }
    for name in
        ["by silent NAT rebinding / by a new socket", "of the port alone / of the IP address too"]
    {
        for value in row(&table, name) {
            let (one, other) = value.split_once(" / ").expect("both");
            assert!(number(one) > 0 && number(other) > 0, "{name}:\n{table}");
        }
    }
    for gap in ["silent rebinding", "new socket", "change of the port alone"] {
        assert!(table.contains(&format!("gap after a {gap}, ms, p50 / p99")), "{gap}:\n{table}");
    }
    let [until_check, _] = row(&table, "of which: until the client's next STUN check");
    assert!(until_check.contains(" / "), "{until_check}");
    for (name, expected) in [
        ("of these lost", ["0", "0"]),
        ("of these never arrived, after repair", ["0", "-"]),
        ("sessions lost", ["0", "0"]),
        ("media from a wrong node (judged by the clients)", ["0", "0"]),
        ("datagrams misrouted (judged by the nodes)", ["0", "0"]),
        ("media at a node without its session (no_session)", ["0", "-"]),
        ("checks at a node without their session", ["0", "-"]),
        ("dropped: names nobody (ufrag / connection ID)", ["0 / 0", "0 / 0"]),
        ("dropped: all else", ["0", "0"]),
    ] {
        assert_eq!(row(&table, name), expected, "{name}:\n{table}");
    }
    let judged = row(&table, "sent once, later than 100 ms after recovery");
    assert!(judged.into_iter().all(|value| number(value) > 100), "{judged:?}");
    let received = row(&table, "clients' datagrams");
    assert!(received.into_iter().all(|value| number(value) > 100), "both LBs: {received:?}");
}

#[test]
fn as_json_the_demo_is_for_scripts_and_even_a_short_one_shows_something() {
    let vip = format!("127.0.0.1:{}", free_port());
    let arguments = ["demo", "--headless", "--seconds", "3", "--vip", &vip, "--output", "json"];
    let summary: serde_json::Value = serde_json::from_str(&succeeds(&arguments)).expect("JSON");
    let at_least = |value: &serde_json::Value, least: u64| {
        assert!(value.as_u64().expect("a number") >= least, "{value} of {summary}");
    };
    for kind in ["webrtc", "webtransport"] {
        let kind = &summary[kind];
        assert_eq!(kind["sessions"], 6, "{kind}");
        for nothing in [
            "sessions_lost",
            "wrong_node",
            "misrouted",
            "lost_later_than_100ms_after_recovery",
            "lost_after_repair",
        ] {
            assert_eq!(kind[nothing], 0, "{nothing} in {kind}");
        }
        at_least(&kind["judged"], 100);
        at_least(&kind["changes_of_one_session_at_least"], 1);
        at_least(&kind["lb_changes"], 1);
    }
    at_least(&summary["webtransport"]["ip_changes"], 1);
    assert_eq!(summary["nodes"], serde_json::json!({ "no_session": 0, "unknown_ufrag": 0 }));
    for lb in summary["lbs"].as_array().expect("two") {
        at_least(&lb["received"], 100);
        for nothing in ["unknown_ufrag", "unknown_cid", "other_drops"] {
            assert_eq!(lb[nothing], 0, "{nothing} in {lb}");
        }
    }
    assert_eq!(summary["faults"], serde_json::json!([]));
}

#[test]
fn a_vip_that_cannot_be_told_to_clients_or_is_in_use_is_refused() {
    let output = run(&["demo", "--headless", "--vip", "0.0.0.0:4433"]);
    assert_eq!(output.status.code(), Some(2));
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("bound").to_string();
    let output = run(&["demo", "--headless", "--vip", &address]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains(&address), "{error}");
}

/// What must be 0 in a closing table, whatever keeps the fleet.
fn nothing_is_lost(table: &str) {
    for name in [
        "sessions lost",
        "media from a wrong node (judged by the clients)",
        "datagrams misrouted (judged by the nodes)",
    ] {
        assert_eq!(row(table, name), ["0", "0"], "{name}:\n{table}");
    }
    assert_eq!(row(table, "of these lost"), ["0", "0"], "{table}");
    let judged = row(table, "sent once, later than 100 ms after recovery");
    assert!(judged.into_iter().all(|value| number(value) > 100), "{judged:?}");
}

#[test]
fn a_demo_whose_etcd_is_killed_half_way_loses_nothing_and_says_that_joins_are_refused() {
    let vip = format!("127.0.0.1:{}", free_port());
    let arguments = ["demo", "--headless", "--seconds", "10", "--vip", &vip, "--store", "etcd"];
    let table = succeeds(&[&arguments[..], &["--kill-store"]].concat());
    assert!(table.contains("every etcd member is killed"), "{table}");
    assert!(table.contains("who joins now is refused: "), "{table}");
    nothing_is_lost(&table);
    let output = run(&["demo", "--headless", "--kill-store"]);
    assert_eq!(output.status.code(), Some(2), "what this process keeps cannot be killed alone");
}

#[test]
fn a_demo_on_etcd_rotates_its_keys_twice_in_a_row_and_prints_phases_and_acknowledgements() {
    let vip = format!("127.0.0.1:{}", free_port());
    let arguments = ["demo", "--headless", "--seconds", "12", "--vip", &vip, "--store", "etcd"];
    let table = succeeds(&[&arguments[..], &["--rotate", "2"]].concat());
    for says in ["rotation 1 of 2: 0 to 1", "rotation 2 of 2: 1 to 2", "lb-1", "sfu-a"] {
        assert!(table.contains(says), "{says:?} is not in:\n{table}");
    }
    nothing_is_lost(&table);
}
