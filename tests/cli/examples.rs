//! What the documentation gives to begin with: configuration files, and units for systemd.

use std::{collections::BTreeSet, fs, path::Path};

use crate::process::succeeds;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");

fn files(folder: &str, ending: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("{DOCS}/{folder}")).expect("it is there").flatten();
    let names = entries.map(|entry| entry.file_name().into_string().expect("text"));
    names.filter(|name| name.ends_with(ending)).collect()
}

#[test]
fn each_example_file_is_valid_and_says_what_it_is_for() {
    let says = [
        ("lb.toml", "LB lb-1 would forward datagrams sent to 0.0.0.0:4433 and [::]:4433"),
        ("lb-control.toml", "the fleet would be that of control at http://10.0.0.1:8000"),
        ("sfu.toml", "node sfu-a would take datagrams from LBs in 10.0.0.0/29"),
        ("sfu-control.toml", "it would register with control at http://10.0.0.1:8000"),
        (
            "lb-etcd.toml",
            "the fleet would be that of etcd at http://10.0.0.5:2379, http://10.0.0.6:2379",
        ),
        ("sfu-etcd.toml", "it would register with etcd at http://10.0.0.5:2379"),
        (
            "control-etcd.toml",
            "control control-1 would keep the fleet in etcd at http://10.0.0.5:2379",
        ),
        ("control.toml", "control control-1 would keep the fleet in /var/lib/onevip/control.redb"),
        ("fleet.toml", "node sfu-b: 10.0.0.12:7001 by tunnel"),
        ("routing.toml", "routing configuration 0: IDs of 17 bytes"),
    ];
    let tried: BTreeSet<_> = says.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(files("examples", ".toml"), tried);
    for (file, says) in says {
        let report = succeeds(&["check", "--config", &format!("{DOCS}/examples/{file}")]);
        assert!(report.contains("is valid") && report.contains(says), "{report}");
        // That nobody is in it is what routing.toml is for.
        let warned = report.lines().filter(|line| line.contains("warning"));
        let odd = |line: &&str| file != "routing.toml" || !line.contains("there is no node");
        assert_eq!(warned.filter(odd).count(), 0, "{report}");
    }
}

#[test]
fn each_unit_runs_a_role_that_there_is_as_somebody_who_may_do_little() {
    let units = files("systemd", ".service");
    let roles = ["control", "lb", "sfu"].map(|role| format!("onevip-{role}.service"));
    assert_eq!(units, BTreeSet::from(roles));
    for unit in units {
        let text = fs::read_to_string(format!("{DOCS}/systemd/{unit}")).expect("it is there");
        let role = unit.trim_start_matches("onevip-").trim_end_matches(".service");
        let value = |key: &str| {
            let mut values = text.lines().filter_map(|line| line.strip_prefix(key));
            values.next().and_then(|value| value.strip_prefix('=')).unwrap_or_default()
        };
        let command = format!("/usr/local/bin/onevip {role} --config /etc/onevip/{role}.toml");
        assert_eq!(value("ExecStart"), command, "{unit}");
        assert!(succeeds(&[role, "--help"]).contains("--config <FILE>"), "{unit}");
        assert!(Path::new(&format!("{DOCS}/examples/{role}.toml")).exists(), "{unit}");
        assert_eq!((value("User"), value("NoNewPrivileges")), ("onevip", "yes"), "{unit}");
        assert!(value("Environment").starts_with("RUST_LOG="), "{unit}");
        let held: Vec<_> = value("CapabilityBoundingSet").split(' ').collect();
        assert!(held.iter().all(|name| name.starts_with("CAP_NET_")), "{unit}: {held:?}");
        assert_eq!(value("AmbientCapabilities"), value("CapabilityBoundingSet"), "{unit}");
    }
}
