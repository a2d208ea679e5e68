use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Value, json};

use super::*;
use crate::{
    records,
    store::{Entry, Revision},
};

const FRANKFURT: Location = Location { latitude: 50.11, longitude: 8.68 };
const PARIS: Location = Location { latitude: 48.86, longitude: 2.35 };
const NEW_YORK: Location = Location { latitude: 40.71, longitude: -74.01 };
const SYDNEY: Location = Location { latitude: -33.87, longitude: 151.21 };

fn entry(key: &str, value: &Value) -> Entry {
    let at = Revision(1);
    let value = value.to_string().into_bytes();
    Entry { key: key.to_owned(), value, created: at, modified: at, lease: None }
}

fn vip(name: &str, region: &str, more: &Value) -> Entry {
    let mut vip = json!({ "addresses": ["203.0.113.1:4433"], "region": region });
    for (key, value) in more.as_object().expect("an object") {
        vip[key] = value.clone();
    }
    entry(&records::vip(&crate::fleet::NodeId::try_from(name.to_owned()).expect("a name")), &vip)
}

fn at(location: Location) -> Value {
    json!({ "location": location })
}

/// A node of a region that is in use by so many percent.
fn node(name: &str, region: &str, percent: u32) -> [Entry; 2] {
    let node = json!({ "address": "10.0.0.1:7000", "region": region });
    let stats = json!({ "report": 1, "sessions": percent, "sessions_max": 100 });
    [
        entry(&format!("nodes-known/{name}"), &json!({ "epoch": 1, "node": node })),
        entry(&format!("stats/{name}"), &stats),
    ]
}

fn seen(entries: &[Entry]) -> Seen {
    let mut seen = Seen::default();
    assert!(seen.begin(entries, Revision(1)).is_empty());
    seen
}

fn names(seen: &Seen, client: &Place, room: Option<&str>) -> Vec<String> {
    rank(seen, client, room).into_iter().map(|choice| choice.name).collect()
}

fn of(region: &str) -> Place {
    Place { region: Some(region.to_owned()), location: None }
}

fn world() -> Vec<Entry> {
    vec![
        vip("fra", "eu", &at(FRANKFURT)),
        vip("nyc", "us", &at(NEW_YORK)),
        vip("syd", "ap", &at(SYDNEY)),
    ]
}

#[test]
fn the_way_along_the_surface_is_as_long_as_it_is() {
    for (from, to, km) in [
        (FRANKFURT, FRANKFURT, 0.0),
        (FRANKFURT, PARIS, 478.0),
        (FRANKFURT, NEW_YORK, 6200.0),
        (NEW_YORK, SYDNEY, 15_990.0),
    ] {
        let (there, back) = (from.km_to(to), to.km_to(from));
        assert!((there - km).abs() <= km * 0.01 && (there - back).abs() < 0.001, "{there}");
    }
    let (north, south) = (
        Location { latitude: 90.0, longitude: 0.0 },
        Location { latitude: -90.0, longitude: 77.0 },
    );
    assert!((north.km_to(south) - 20_015.0).abs() < 1.0);
}

#[test]
fn the_nearest_comes_first_by_region_or_by_where_on_earth_it_is() {
    let seen = seen(&world());
    assert_eq!(names(&seen, &of("us"), None), ["nyc", "fra", "syd"], "by the region's own place");
    let paris = Place { region: None, location: Some(PARIS) };
    assert_eq!(names(&seen, &paris, None), ["fra", "nyc", "syd"]);
    // Its region is an operator's word, and beats a database.
    let said = Place { region: Some("ap".to_owned()), ..paris };
    assert_eq!(names(&seen, &said, None)[0], "syd");
    assert_eq!(names(&seen, &of("nowhere"), None), ["fra", "nyc", "syd"], "by name");
}

#[test]
fn a_rooms_region_counts_where_nothing_is_known_of_the_client() {
    let seen = seen(&world());
    assert_eq!(names(&seen, &Place::default(), Some("ap"))[0], "syd");
    assert_eq!(names(&seen, &of("us"), Some("ap"))[0], "nyc");
    let paris = Place { region: None, location: Some(PARIS) };
    assert_eq!(names(&seen, &paris, Some("ap"))[0], "fra");
}

#[test]
fn of_those_as_near_the_least_loaded_comes_first_and_an_overloaded_region_last() {
    let mut entries = world();
    entries.push(vip("par", "fr", &at(PARIS)));
    let near = Place { region: None, location: Some(Location { latitude: 49.4, longitude: 5.5 }) };
    for (eu, fr, expected) in [
        (50, 20, ["par", "fra", "nyc", "syd"]),
        (20, 50, ["fra", "par", "nyc", "syd"]),
        (79, 85, ["fra", "nyc", "syd", "par"]),
        (95, 85, ["nyc", "syd", "par", "fra"]),
    ] {
        let loads = [node("sfu-1", "eu", eu), node("sfu-2", "fr", fr)].concat();
        let seen = seen(&[entries.clone(), loads].concat());
        assert_eq!(names(&seen, &near, None), expected, "{eu} {fr}");
    }
}

#[test]
fn weights_are_shares_and_none_is_never_told() {
    let weigh = |a: u32, b: u32| {
        let vips =
            [vip("a", "eu", &json!({ "weight": a })), vip("b", "eu", &json!({ "weight": b }))];
        names(&seen(&vips), &of("eu"), None)
    };
    assert_eq!(weigh(100, 100), ["a", "b"]);
    assert_eq!(weigh(100, 200), ["b", "a"]);
    assert_eq!(weigh(0, 1), ["b"]);
    assert_eq!(weigh(0, 0), [""; 0]);
}

fn locator(prefixes: &[(&str, &str)], proxies: &[&str]) -> Locator {
    let network = |text: &str| text.parse().expect("a network");
    let prefixes: BTreeMap<_, _> =
        prefixes.iter().map(|(text, region)| (network(text), (*region).to_owned())).collect();
    let trusted_proxies = proxies.iter().map(|text| network(text)).collect();
    let config = ResolveConfig { prefixes, trusted_proxies, ..ResolveConfig::default() };
    config.locator().expect("no database")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn the_longest_network_that_an_address_lies_in_says_its_region() {
    let locator =
        locator(&[("10.0.0.0/8", "eu"), ("10.1.0.0/16", "us"), ("2001:db8::/32", "ap")], &[]);
    for (address, region) in [
        ("10.2.3.4", Some("eu")),
        ("10.1.3.4", Some("us")),
        ("::ffff:10.1.3.4", Some("us")),
        ("2001:db8::1", Some("ap")),
        ("192.0.2.1", None),
    ] {
        assert_eq!(locator.locate(ip(address)).region.as_deref(), region, "{address}");
    }
}

#[test]
fn who_calls_is_whom_a_proxy_of_ours_says_and_nobody_elses_word_counts() {
    let locator = locator(&[], &["10.0.0.0/8", "::1/128"]);
    for (peer, said, caller) in [
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        // Made up, and handed on by the first proxy with whom it has seen.
        ("10.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "nonsense, 10.0.0.3", "10.0.0.3"),
        ("::1", "2001:db8::7", "2001:db8::7"),
    ] {
        assert_eq!(locator.caller(ip(peer), [said].into_iter()), ip(caller), "{peer} {said}");
    }
}

/// A database of one network, as its format's description says (MaxMind DB 2.0): a tree of one node for
/// each bit, the data, and what it is.
fn database(network: [u8; 2], location: Location) -> Vec<u8> {
    let text =
        |text: &str| [&[0x40 | u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let map = |pairs: u8| vec![0xe0 | pairs];
    let double = |value: f64| [&[0x68], &value.to_be_bytes()[..]].concat();
    let number = |kind: u8, value: u8| vec![kind, value];
    let bits: Vec<bool> =
        network.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
    let nodes = u32::try_from(bits.len()).expect("few");
    let mut file = Vec::new();
    for (at, bit) in (1..).zip(&bits) {
        // The way on, or behind the last bit the data; the other way leads nowhere.
        let on = if at == nodes { nodes + 16 } else { at };
        for record in if *bit { [nodes, on] } else { [on, nodes] } {
            file.extend_from_slice(&record.to_be_bytes()[1..]);
        }
    }
    file.extend_from_slice(&[0; 16]);
    for part in [
        map(1),
        text("location"),
        map(2),
        text("latitude"),
        double(location.latitude),
        text("longitude"),
        double(location.longitude),
    ] {
        file.extend_from_slice(&part);
    }
    file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    let nodes = u8::try_from(nodes).expect("few");
    for part in [
        map(9),
        [text("node_count"), number(0xc1, nodes)].concat(),
        [text("record_size"), number(0xa1, 24)].concat(),
        [text("ip_version"), number(0xa1, 4)].concat(),
        [text("database_type"), text("Test")].concat(),
        [text("languages"), vec![0x00, 0x04]].concat(),
        [text("binary_format_major_version"), number(0xa1, 2)].concat(),
        [text("binary_format_minor_version"), vec![0xa0]].concat(),
        [text("build_epoch"), vec![0x01, 0x02, 1]].concat(),
        [text("description"), map(0)].concat(),
    ] {
        file.extend_from_slice(&part);
    }
    file
}

#[test]
fn a_database_says_where_an_address_is_and_the_table_still_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("geo.mmdb");
    std::fs::write(&file, database([198, 51], NEW_YORK)).expect("written");
    let prefixes = [("198.51.100.0/24".parse().expect("a network"), "eu".to_owned())].into();
    let config = ResolveConfig { geoip: Some(file), prefixes, ..ResolveConfig::default() };
    let locator = config.locator().expect("a database");
    let place =
        |region: Option<&str>, location| Place { region: region.map(str::to_owned), location };
    assert_eq!(locator.locate(ip("198.51.7.7")), place(None, Some(NEW_YORK)));
    assert_eq!(locator.locate(ip("::ffff:198.51.7.7")), place(None, Some(NEW_YORK)));
    assert_eq!(locator.locate(ip("198.51.100.7")), place(Some("eu"), Some(NEW_YORK)));
    assert_eq!(locator.locate(ip("198.52.0.1")), Place::default());
    assert_eq!(locator.locate(ip("2001:db8::1")), Place::default());
    let seen = seen(&world());
    assert_eq!(names(&seen, &locator.locate(ip("198.51.7.7")), None)[0], "nyc");
}
