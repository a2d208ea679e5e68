//! The same answers by DNS, asked by another's program.

use std::{
    io::{Read, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    process::Command,
    time::Duration,
};

use control::{
    dns::{DnsConfig, bind, serve},
    resolve::ResolveConfig,
};
use serde_json::json;

use crate::world::{LONG, World};

/// A world with VIPs in two regions, and where it is asked.
fn world() -> (World, SocketAddr) {
    let world = World::new(LONG);
    for (name, region, addresses) in [
        ("fra", "eu", vec!["203.0.113.1:4433", "203.0.113.2:443", "[2001:db8::1]:4433"]),
        ("nyc", "us", vec!["198.51.100.1:4433"]),
    ] {
        let vip = json!({ "addresses": addresses, "region": region });
        world.put(&format!("/v1/vips/{name}"), &vip).is(200);
    }
    world.eventually("both are seen", |world| {
        world.get("/resolve").json()["vips"].as_array().is_some_and(|vips| vips.len() == 2)
    });
    let prefixes = json!({ "127.0.0.0/8": "eu", "192.0.2.0/24": "us" });
    let config = json!({ "ttl": "7s", "prefixes": prefixes });
    let config: ResolveConfig = serde_json::from_value(config).expect("valid");
    world.api.set_locator(config.locator().expect("no database"));
    let address = respond(&world);
    (world, address)
}

fn respond(world: &World) -> SocketAddr {
    let config = json!({
        "listen": "127.0.0.1:0", "zone": "rtc.example.test", "servers": ["ns1.example.test"],
    });
    let config: DnsConfig = serde_json::from_value(config).expect("valid");
    let responder = config.responder(world.api.sight()).expect("valid");
    let sockets = world.runtime.block_on(bind(config.listen)).expect("a port is free");
    let address = sockets.0.local_addr().expect("bound");
    let locator = world.api.locator();
    world.runtime.spawn(serve(responder, sockets, move || locator.clone()));
    address
}

/// What `dig` says to this.
fn dig(at: SocketAddr, ask: &str) -> String {
    let ran = Command::new("dig")
        .args(["@127.0.0.1", "-p", &at.port().to_string(), "+tries=1", "+timeout=10"])
        .args(ask.split(' '))
        .output()
        .expect("dig is there: make need-test");
    String::from_utf8(ran.stdout).expect("text")
}

fn short(at: SocketAddr, ask: &str) -> Vec<String> {
    let mut lines: Vec<_> = dig(at, &format!("+short {ask}")).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_rooms_name_is_the_best_vip_for_who_asks_by_udp_and_tcp() {
    let (_world, at) = world();
    for how in ["+notcp", "+tcp"] {
        let a = short(at, &format!("{how} lobby.rtc.example.test A"));
        assert_eq!(a, ["203.0.113.1", "203.0.113.2"], "{how}");
        assert_eq!(short(at, &format!("{how} lobby.rtc.example.test AAAA")), ["2001:db8::1"]);
    }
    let whole = dig(at, "LoBBy.RTC.example.test A");
    assert!(whole.contains("status: NOERROR") && whole.contains(" aa "), "{whole}");
    assert!(whole.contains("LoBBy.RTC.example.test.\t7\tIN\tA\t203.0.113.1"), "{whole}");
}

#[test]
fn a_resolver_that_names_its_clients_network_is_answered_for_that() {
    let (_world, at) = world();
    let answer = dig(at, "+subnet=192.0.2.0/24 lobby.rtc.example.test A");
    assert!(answer.contains("\tA\t198.51.100.1"), "{answer}");
    assert!(answer.contains("CLIENT-SUBNET: 192.0.2.0/24/24"), "{answer}");
    let nearest_without = short(at, "+subnet=192.0.2.0/24 lobby.rtc.example.test AAAA");
    assert_eq!(nearest_without, ["2001:db8::1"], "of the next that has one");
    assert_eq!(short(at, "+subnet=0.0.0.0/0 lobby.rtc.example.test A").len(), 2);
}

#[test]
fn a_vips_name_is_that_vip_wherever_one_asks_from() {
    let (_world, at) = world();
    assert_eq!(short(at, "nyc.rtc.example.test A"), ["198.51.100.1"]);
    assert_eq!(short(at, "FRA.rtc.example.test A").len(), 2);
    let none = dig(at, "nyc.rtc.example.test AAAA");
    assert!(none.contains("status: NOERROR") && none.contains("ANSWER: 0"), "{none}");
    assert!(none.contains("\tIN\tSOA\tns1.example.test. hostmaster.rtc.example.test."), "{none}");
}

#[test]
fn the_zone_says_who_serves_it_and_what_is_not_in_it_is_refused() {
    let (_world, at) = world();
    assert_eq!(short(at, "rtc.example.test NS"), ["ns1.example.test."]);
    assert!(short(at, "rtc.example.test SOA")[0].starts_with("ns1.example.test."));
    for (ask, status) in [
        ("rtc.example.test A", "NOERROR"),
        ("lobby.rtc.example.test TXT", "NOERROR"),
        ("a.b.rtc.example.test A", "NXDOMAIN"),
        ("a\\032b.rtc.example.test A", "NXDOMAIN"),
        ("*.rtc.example.test A", "NXDOMAIN"),
        ("example.test A", "REFUSED"),
        ("otherrtc.example.test A", "REFUSED"),
        (". NS", "REFUSED"),
        ("lobby.rtc.example.test A -c CH", "REFUSED"),
        ("rtc.example.test AXFR +tcp", "Transfer failed"),
        ("+edns=1 +noednsnegotiation lobby.rtc.example.test A", "BADVERS"),
        ("+opcode=UPDATE lobby.rtc.example.test A", "NOTIMP"),
        ("+opcode=NOTIFY lobby.rtc.example.test A", "NOTIMP"),
    ] {
        let answer = dig(at, ask);
        assert!(answer.contains(status), "{ask}: {answer}");
        let records = answer.lines().filter(|line| line.contains("\tIN\tA\t"));
        assert_eq!(records.count(), 0, "{ask}: {answer}");
    }
}

#[test]
fn more_than_a_datagram_takes_is_asked_again_by_tcp() {
    let (world, at) = world();
    let addresses: Vec<_> = (1..=16).map(|last| format!("[2001:db8::{last}]:443")).collect();
    world.put("/v1/vips/fra", &json!({ "addresses": addresses, "region": "eu" })).is(200);
    world.eventually("it is seen", |_| short(at, "+tcp lobby.rtc.example.test AAAA").len() == 16);
    let name = "lobby.rtc.example.test AAAA";
    // 16 records of 28 bytes fit into 512 only just; with a longer name they do not.
    let long = format!("{}.rtc.example.test AAAA", "x".repeat(60));
    let cut = dig(at, &format!("+noedns +ignore {long}"));
    assert!(cut.contains(" tc ") && cut.contains("ANSWER: 0"), "{cut}");
    assert_eq!(short(at, &format!("+noedns {long}")).len(), 16, "dig has asked by TCP");
    assert_eq!(short(at, &format!("+bufsize=1232 +ignore {name}")).len(), 16);
}

#[test]
fn nonsense_has_no_answer_or_says_that_it_is_nonsense_and_holds_nobody_up() {
    let (_world, at) = world();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(at).expect("connected");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    // Too short, an answer, and an answer that is nonsense: to none of them anything is said.
    let mut response = [0_u8; 12];
    response[2] = 0x80;
    let cut = [&response[..], b"\x03xyz"].concat();
    for said in [&b""[..], b"abc", &response, &cut] {
        socket.send(said).expect("sent");
    }
    let mut query = [0_u8; 12];
    (query[0], query[1], query[5]) = (0xab, 0xcd, 1);
    socket.send(&[&query[..], b"\x3fhalf a label"].concat()).expect("sent");
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).expect("an answer");
    assert_eq!((&answer[..2], answer[3] & 0x0f, length), (&[0xab, 0xcd][..], 1, 12), "FORMERR");
    // Those who connect and say little, or announce too much.
    let mut stay = Vec::new();
    for said in [&b""[..], b"\x00", b"\x00\x20abc"] {
        let mut stream = TcpStream::connect(at).expect("it listens");
        stream.write_all(said).expect("sent");
        stay.push(stream);
    }
    let mut much = TcpStream::connect(at).expect("it listens");
    much.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    much.write_all(b"\xff\xff").expect("sent");
    assert!(matches!(much.read(&mut [0; 1]), Ok(0) | Err(_)), "closed at once");
    assert_eq!(short(at, "+tcp lobby.rtc.example.test A").len(), 2);
}

#[test]
fn a_zone_that_cannot_be_is_refused_with_its_key() {
    let world = World::new(LONG);
    let wrong = |zone: &str, servers: &[&str]| {
        let config = json!({ "listen": "127.0.0.1:0", "zone": zone, "servers": servers });
        let config: DnsConfig = serde_json::from_value(config).expect("its types are right");
        config.responder(world.api.sight()).expect_err("no zone").0
    };
    let long = ["a"; 100].join(".");
    for zone in ["", ".", "a..b", &"x".repeat(64), &long] {
        assert_eq!(wrong(zone, &[]), "dns.zone", "{zone}");
    }
    assert_eq!(wrong("a.test", &["a..b"]), "dns.servers");
    assert_eq!(wrong("a.test", &["a.test"; 9]), "dns.servers");
}
