//! Fleet files that change, and signals.

use std::{
    fs,
    time::{Duration, Instant},
};

use kit::{Connection, Hello, quic, sample, stun};

use super::world::{ROUTING, SERVERS, World, fleet};
use crate::process::{Signal, eventually, get};

#[test]
fn a_changed_fleet_file_is_applied_within_a_second_and_a_broken_one_changes_nothing() {
    let mut world = World::start("");
    let [a, _] = SERVERS;
    let file = world.folder.path("fleet.toml");
    let revision = "onevip_lb_fleet_revision";
    let to_a = quic::short(&ROUTING.cid(&a, 1), b"to a");
    world.reaches(0, &to_a);

    let written = Instant::now();
    fs::write(&file, fleet(&world.nodes, ["down", "serving"])).expect("written");
    eventually("it is applied", || world.metric(revision) == 2);
    assert!(written.elapsed() < Duration::from_secs(1), "after {:?}", written.elapsed());
    assert_eq!(world.metric("onevip_lb_node_up{node=\"sfu-a\"}"), 0);
    // QUIC that names a node that is down goes to a live one, which resets it.
    world.reaches(1, &to_a);

    // Files that must change nothing, and what the log must say of each.
    let good = fleet(&world.nodes, ["serving", "serving"]);
    for (broken, says) in [
        (good.replace("serving", "dead"), "unknown variant `dead`"),
        (good[..good.len() / 2].to_owned(), "fleet.toml"),
        (String::new(), "the fleet has no node; the fleet in use is kept"),
        (good.replace("0000000b", "0000000a"), "is the server ID of node"),
        ("\u{0}\u{1}".to_owned(), "fleet.toml:1: "),
    ] {
        let before = world.lb.log().len();
        fs::write(&file, &broken).expect("written");
        eventually(says, || world.lb.log()[before..].contains(says));
        assert_eq!(world.metric(revision), 2, "{broken:?} was applied");
        world.reaches(1, &to_a);
    }
    fs::remove_file(&file).expect("removed");
    eventually("its absence is told", || world.lb.log().contains("there is no such file"));
    world.reaches(1, &to_a);

    // A new file is renamed into place, as careful people do.
    let fresh = world.folder.write("fleet.new", &good);
    fs::rename(fresh, &file).expect("renamed");
    eventually("it is applied", || world.metric(revision) == 3);
    world.reaches(0, &to_a);
    assert!(!world.lb.has_ended());
}

#[test]
fn after_sigterm_it_is_not_ready_but_forwards_for_the_drain_time_and_ends_with_0() {
    let mut world = World::start("drain = \"3s\"\n");
    let [a, _] = SERVERS;
    let to_a = quic::short(&ROUTING.cid(&a, 1), b"still");
    let told = Instant::now();
    world.lb.signal(Signal::TERM);
    eventually("it is not ready", || {
        get(world.admin, "/readyz").is_some_and(|(status, _)| status == 503)
    });
    world.reaches(0, &to_a);
    assert_eq!(get(world.admin, "/healthz").expect("answers").0, 200, "it is alive");
    // The fleet is followed to the end.
    let file = world.folder.path("fleet.toml");
    fs::write(&file, fleet(&world.nodes, ["down", "serving"])).expect("written");
    eventually("it is applied", || world.metric("onevip_lb_fleet_revision") == 2);
    world.reaches(1, &to_a);
    assert_eq!(world.lb.wait(), 0);
    assert!(told.elapsed() >= Duration::from_secs(3), "after {:?}", told.elapsed());
}

#[test]
fn told_twice_to_leave_it_goes_at_once() {
    let mut world = World::start("drain = \"1h\"\n");
    world.lb.signal(Signal::TERM);
    eventually("it is not ready", || {
        get(world.admin, "/readyz").is_some_and(|(status, _)| status == 503)
    });
    world.lb.signal(Signal::TERM);
    assert_eq!(world.lb.wait(), 0);
}

#[test]
fn sighup_takes_over_what_can_change_and_names_what_cannot() {
    let mut world = World::start("");
    let config = world.folder.path("lb.toml");
    let text = fs::read_to_string(&config).expect("readable");
    let other = text.replace("workers = 2", "workers = 1\npin = true");
    fs::write(&config, format!("{other}[quic]\nsni = false\n")).expect("written");
    world.lb.signal(Signal::HUP);
    eventually("it says so", || {
        world.lb.log().contains("io.pin has changed, which takes a restart")
    });
    // Without SNI, a hello that names a node is hashed like any other.
    let label = format!("{}.example.test", ROUTING.label(&SERVERS[1], 9));
    world.send(&Connection::v1(b"original", b"source").hello(&Hello::named(&label).bytes()));
    let hash = "onevip_lb_routes_total{by=\"hash\"}";
    eventually("it goes by hash", || world.metric(hash) == 1);
    assert_eq!(world.metric("onevip_lb_routes_total{by=\"sni\"}"), 0);
    assert_eq!(world.drain(), 1);

    fs::write(&config, "[listen]\nudp = []\n").expect("written");
    world.lb.signal(Signal::HUP);
    eventually("a broken one is refused", || {
        world.lb.log().contains("the configuration in use is kept")
    });
    world.reaches(0, &quic::short(&ROUTING.cid(&SERVERS[0], 1), b"as before"));
    assert!(!world.lb.has_ended());
}

#[test]
fn sighup_changes_the_number_of_workers_and_media_go_on() {
    let mut world = World::start("");
    let config = world.folder.path("lb.toml");
    let text = fs::read_to_string(&config).expect("readable");
    let ufrag = ROUTING.ufrag(&SERVERS[0], 1);
    let password = ROUTING.password(&ufrag);
    world.reaches(0, &stun::check(&format!("{ufrag}:cli"), &password, [4; 12]));
    for workers in [4, 1, 3] {
        let changed = text.replace("workers = 2", &format!("workers = {workers}"));
        fs::write(&config, changed).expect("written");
        let before = world.lb.log().len();
        world.lb.signal(Signal::HUP);
        eventually("it says so", || {
            world.lb.log()[before..].contains("io.workers has changed, and flows were handed over")
        });
        world.reaches(0, &sample::srtp());
    }
    assert_eq!(world.metric("onevip_lb_drops_total{reason=\"no_flow\"}"), 0);
    assert!(!world.lb.log().contains("takes a restart"));
    assert!(!world.lb.has_ended());
}
