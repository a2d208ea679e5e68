//! How crowds spread, whatever is asked for.

use super::*;

#[test]
fn only_open_nodes_that_have_room_are_chosen() {
    let mut world = World::new(4);
    world.nodes[0].open = false;
    world.nodes[1].stats.sessions = 100;
    world.nodes[2].weight = 0;
    for selector in Selector::ALL {
        world.selector = selector;
        assert!(world.always(3), "{selector:?}");
    }
    world.nodes[3].open = false;
    for selector in Selector::ALL {
        world.selector = selector;
        assert_eq!(world.choose("lobby", &Wanted::default()), None, "{selector:?}");
    }
}

#[test]
fn a_crowd_that_joins_between_two_reports_spreads_over_all_nodes() {
    let mut world = World::new(4);
    // One was idle when it reported, the others nearly so.
    for node in 1..4 {
        world.nodes[node].stats.sessions = 5;
    }
    let counts = world.place_many(100);
    assert!(counts.iter().all(|&count| (15..=35).contains(&count)), "{counts:?}");
}

#[test]
fn a_crowd_spreads_over_many_nodes_by_every_selector_that_goes_by_load() {
    for selector in Selector::ALL {
        if matches!(selector, Selector::Nearest | Selector::ConsistentHash) {
            continue;
        }
        let mut world = World::new(100);
        world.selector = selector;
        for (at, node) in world.nodes.iter_mut().enumerate() {
            let idle = if at == 50 { 0 } else { 5 };
            node.stats.busy_percent = 10;
            node.stats.sessions = idle;
            node.stats.measured = Measures {
                process_percent: Some(10),
                sysload_percent: Some(10),
                participants: Some(idle),
                tracks: Some(idle),
                out_bps: Some(u64::from(idle) * 1_000_000),
                ..Measures::default()
            };
        }
        let counts = world.place_many(500);
        let most = counts.iter().max().expect("nodes");
        assert!(*most <= 20, "{selector:?}: {most} of 500 rooms on one of 100 nodes");
    }
}

#[test]
fn a_crowd_spreads_after_every_report() {
    let mut world = World::new(2);
    for report in 1..5 {
        for (node, sessions) in [(0, 0), (1, 6)] {
            let stats = Stats { report, sessions, ..world.nodes[node].stats.clone() };
            world.nodes[node].report(stats);
        }
        let counts = world.place_many(20);
        assert!(counts.iter().all(|&count| count >= 5), "{counts:?} after report {report}");
    }
}

#[test]
fn with_a_new_report_what_was_assigned_before_counts_no_more() {
    let mut world = World::new(2);
    world.place_many(40);
    for (node, sessions) in [(0, 0), (1, 70)] {
        let stats = Stats { report: 2, sessions, ..world.nodes[node].stats.clone() };
        world.nodes[node].report(stats);
    }
    assert!((0..10).all(|_| world.place(&Wanted::default()) == Some(0)));
}

#[test]
fn an_overloaded_node_is_taken_only_when_all_are() {
    let overloads: [fn(&mut Candidate); 5] = [
        |node| node.stats.busy_percent = 80,
        |node| node.stats.measured.process_percent = Some(95),
        |node| node.stats.sessions = 80,
        |node| {
            node.limits.rooms = Some(10);
            node.rooms = 8;
        },
        |node| {
            node.limits.bandwidth_bps = Some(1_000_000_000);
            node.stats.sessions = 50;
            node.stats.measured.out_bps = Some(800_000_000);
        },
    ];
    for selector in Selector::ALL {
        for (which, overload) in overloads.iter().enumerate() {
            let mut world = World::new(3);
            world.selector = selector;
            overload(&mut world.nodes[0]);
            overload(&mut world.nodes[2]);
            assert!(world.always(1), "{selector:?}, overload {which}");
            overload(&mut world.nodes[1]);
            assert!(world.place(&Wanted::default()).is_some(), "{selector:?}, overload {which}");
        }
    }
}

#[test]
fn a_full_node_is_never_taken_whatever_its_limit_is_of() {
    let fill: [fn(&mut Candidate); 4] = [
        |node| node.stats.sessions = 100,
        |node| {
            node.limits.sessions = Some(10);
            node.given = 10;
        },
        |node| {
            node.limits.rooms = Some(3);
            node.rooms = 3;
        },
        |node| {
            node.limits.bandwidth_bps = Some(1_000_000);
            node.stats.measured.in_bps = Some(1_000_000);
        },
    ];
    for (which, fill) in fill.iter().enumerate() {
        let mut world = World::new(2);
        fill(&mut world.nodes[0]);
        assert!(world.always(1), "limit {which}");
        fill(&mut world.nodes[1]);
        assert_eq!(world.choose("lobby", &Wanted::default()), None, "limit {which}");
    }
}

#[test]
fn the_nearest_region_is_taken_unless_it_is_overloaded() {
    let mut world = World::new(4);
    world.nodes[2].region = "eu".to_owned();
    let near = Wanted { region: "eu".to_owned(), ..Wanted::default() };
    assert!((0..10).all(|_| world.place(&near) == Some(2)));
    world.nodes[2].stats.busy_percent = 95;
    assert!((0..10).all(|_| world.place(&near) != Some(2)));
    for node in [0, 1, 3] {
        world.nodes[node].stats.busy_percent = 95;
    }
    assert_eq!(world.place(&near), Some(2), "all are overloaded, so the near one");
}

#[test]
fn weights_are_shares_among_two_and_among_two_hundred() {
    let mut world = World::new(2);
    world.nodes[0].weight = 300;
    for selector in [Selector::TwoChoices, Selector::ConsistentHash] {
        world.selector = selector;
        let chosen =
            |world: &mut World, name: String| world.choose(&name, &Wanted::default()) == Some(0);
        let heavy = (0..400).filter(|room| chosen(&mut world, format!("room-{room}"))).count();
        assert!((270..=330).contains(&heavy), "{selector:?}: {heavy}");
    }
    let mut world = World::new(200);
    for node in world.nodes.iter_mut().step_by(2) {
        node.weight = 300;
    }
    let chosen = |world: &mut World| world.choose("", &Wanted::default()).expect("there is room");
    let heavy = (0..4000).filter(|_| chosen(&mut world) % 2 == 0).count();
    assert!((2800..=3200).contains(&heavy), "{heavy}");
}
