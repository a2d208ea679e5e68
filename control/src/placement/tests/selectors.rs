//! What each selector prefers.

use super::*;

const FRANKFURT: Location = Location { latitude: 50.1, longitude: 8.7 };
const PARIS: Location = Location { latitude: 48.9, longitude: 2.4 };
const VIRGINIA: Location = Location { latitude: 39.0, longitude: -77.5 };
const LYON: Location = Location { latitude: 45.8, longitude: 4.8 };

/// Gives a node a value of some measure.
type Set = fn(&mut Candidate, u32);

fn near(location: Location) -> Wanted {
    Wanted { location: Some(location), ..Wanted::default() }
}

#[test]
fn each_of_the_least_goes_by_its_own_measure() {
    let measures: [(Selector, Set); 5] = [
        (Selector::LeastCpu, |node, value| {
            node.stats.busy_percent = u8::try_from(value).expect("a percentage");
        }),
        (Selector::LeastSysload, |node, value| {
            node.stats.measured.sysload_percent = Some(value);
        }),
        (Selector::LeastParticipants, |node, value| {
            node.stats.measured.participants = Some(value);
        }),
        (Selector::LeastTracks, |node, value| node.stats.measured.tracks = Some(value)),
        (Selector::LeastRooms, |node, value| node.rooms = value),
    ];
    for (selector, set) in measures {
        let mut world = World::new(3);
        world.selector = selector;
        for (node, value) in [(0, 30), (1, 20), (2, 25)] {
            set(&mut world.nodes[node], value);
        }
        assert!(world.always(1), "{selector:?}");
    }
    let mut world = World::new(3);
    world.selector = Selector::LeastBandwidth;
    for (node, input, output) in [(0, 1, 90), (1, 80, 3), (2, 85, 85)] {
        world.nodes[node].stats = measured(|measured| {
            (measured.in_bps, measured.out_bps) = (Some(input), Some(output));
        });
    }
    assert!(world.always(1), "the busier direction counts");
}

#[test]
fn of_those_that_measure_it_one_is_chosen_and_where_nobody_does_by_load() {
    let mut world = World::new(3);
    world.selector = Selector::LeastTracks;
    world.nodes[2].stats.measured.tracks = Some(1000);
    assert!(world.always(2), "the only one that says");
    world.nodes[2].stats.measured.tracks = None;
    world.nodes[0].stats.sessions = 50;
    let counts = world.place_many(30);
    assert!(counts[0] < counts[1] && counts[0] < counts[2], "{counts:?}");
}

#[test]
fn the_nearest_node_is_chosen_and_when_it_is_overloaded_the_next() {
    let mut world = World::new(4);
    world.selector = Selector::Nearest;
    for (node, place) in [(0, VIRGINIA), (1, FRANKFURT), (2, PARIS)] {
        world.nodes[node].location = Some(Point::of(place));
    }
    let order = |world: &mut World| {
        let mut order = Vec::new();
        while let Some(at) = world.choose("lobby", &near(LYON))
            && !order.contains(&at)
        {
            order.push(at);
            world.nodes[at].stats.busy_percent = 90;
        }
        order
    };
    assert_eq!(order(&mut world), [2, 1, 0, 3], "who does not say where it is comes last");
    let back = world.choose("lobby", &near(LYON));
    assert_eq!(back, Some(2), "all are overloaded, so the nearest");
}

#[test]
fn of_equally_near_nodes_the_less_busy_is_chosen_and_the_region_does_not_matter() {
    let mut world = World::new(3);
    world.selector = Selector::Nearest;
    for (node, sessions) in [(0, 40), (1, 20), (2, 0)] {
        world.nodes[node].location = Some(Point::of(if node < 2 { PARIS } else { VIRGINIA }));
        world.nodes[node].stats.sessions = sessions;
    }
    world.nodes[2].region = "eu".to_owned();
    let wanted = Wanted { region: "eu".to_owned(), ..near(LYON) };
    assert_eq!(world.choose("lobby", &wanted), Some(1));
    let nowhere = Wanted { region: "eu".to_owned(), ..Wanted::default() };
    assert_eq!(world.choose("lobby", &nowhere), Some(2), "nobody says where, so the region");
}

#[test]
fn zones_get_rooms_by_their_weight_however_many_nodes_they_have() {
    let mut world = World::new(6);
    world.selector = Selector::ZoneSpread;
    for (node, zone) in world.nodes.iter_mut().zip(["a", "a", "a", "a", "b", "c"]) {
        node.zone = zone.to_owned();
        node.weight = if zone == "a" { 25 } else { 100 };
        node.stats.sessions_max = 10_000;
    }
    let counts = world.place_many(300);
    let zones = [counts[..4].iter().sum::<usize>(), counts[4], counts[5]];
    assert!(zones.iter().all(|&count| (98..=102).contains(&count)), "{zones:?}");
    assert!(counts[..4].iter().all(|&count| (15..=35).contains(&count)), "{counts:?}");
}

#[test]
fn a_zone_of_one_name_in_two_regions_is_two_zones() {
    let mut world = World::new(3);
    world.selector = Selector::ZoneSpread;
    for (node, region) in world.nodes.iter_mut().zip(["eu", "eu", "us"]) {
        (node.region, node.zone) = (region.to_owned(), "1".to_owned());
        node.stats.sessions_max = 0;
        node.weight = if region == "eu" { 50 } else { 100 };
    }
    let counts = world.place_many(60);
    assert!((29..=31).contains(&counts[2]), "{counts:?}");
}

#[test]
fn everybody_has_its_turn_whoever_comes_and_goes() {
    let mut world = World::new(4);
    world.selector = Selector::RoundRobin;
    let next = |world: &mut World| world.place(&Wanted::default()).expect("there is room");
    let round: Vec<_> = (0..8).map(|_| next(&mut world)).collect();
    assert_eq!(round, [0, 1, 2, 3, 0, 1, 2, 3]);
    assert_eq!(next(&mut world), 0);
    world.nodes[1].open = false;
    assert_eq!(next(&mut world), 2);
    world.nodes[1].open = true;
    assert_eq!([next(&mut world), next(&mut world), next(&mut world)], [3, 0, 1]);
}

#[test]
fn a_room_is_always_where_its_name_says_and_only_the_rooms_of_a_node_that_goes_move() {
    let mut world = World::new(20);
    world.selector = Selector::ConsistentHash;
    let all = |world: &mut World| -> Vec<usize> {
        let at = |room| world.choose(&format!("rooms/default/{room}"), &Wanted::default());
        (0..2000).map(at).map(|at| at.expect("there is room")).collect()
    };
    let before = all(&mut world);
    assert_eq!(all(&mut world), before);
    for node in 0..20 {
        let rooms = before.iter().filter(|&&at| at == node).count();
        assert!((60..=140).contains(&rooms), "{rooms} of 2000 rooms on node {node} of 20");
    }
    world.nodes[7].open = false;
    for (room, (before, now)) in before.iter().zip(all(&mut world)).enumerate() {
        assert!(*before == 7 || *before == now, "room {room} was on {before} and is on {now}");
        assert_ne!(now, 7);
    }
    world.nodes[7].open = true;
    assert_eq!(all(&mut world), before, "and they come back with it");
}
