//! Any fleet: a choice is one that a slow and obvious rule allows.

use proptest::{collection::vec, prelude::*};

use super::*;

/// Where the reference and the code would differ by rounding alone, places are far from each other.
const PLACES: [(f64, f64); 4] = [(50.1, 8.7), (39.0, -77.5), (1.3, 103.8), (-33.9, 151.2)];

fn any_node() -> impl Strategy<Value = Candidate> {
    let place = prop::option::of(0..PLACES.len());
    let labels = (0..3_u8, 0..3_u8, place);
    let load = (0..100_u32, prop::option::of(0..100_u8), 0..100_u8, 0..60_u32, 0..30_u32);
    let limits = (prop::option::of(1..60_u32), prop::option::of(1..120_u32), 0..120_u32);
    let measures = prop::option::of((0..50_u32, 0..50_u32, 0..1_000_000_000_u64));
    (any::<bool>(), 0..3_u32, labels, load, limits, measures).prop_map(
        |(open, weight, (region, zone, place), load, limits, measures)| {
            let mut node = node("any");
            (node.open, node.weight) = (open, weight * 100);
            (node.region, node.zone) = (format!("r{region}"), format!("z{zone}"));
            node.location = place.map(|place| {
                let (latitude, longitude) = PLACES[place];
                Point::of(Location { latitude, longitude })
            });
            let (sessions, process, busy, given, rooms) = load;
            (node.given, node.rooms) = (given, rooms);
            node.limits = Limits { rooms: limits.0, sessions: limits.1, ..NO_LIMITS };
            node.stats = measured(|its| {
                its.process_percent = process;
                its.sysload_percent = process.map(u32::from);
                if let Some((participants, tracks, bps)) = measures {
                    (its.participants, its.tracks) = (Some(participants), Some(tracks));
                    its.out_bps = Some(bps);
                }
            });
            (node.stats.sessions, node.stats.busy_percent) = (sessions, busy);
            node.stats.sessions_max = limits.2;
            node
        },
    )
}

/// Those that may be chosen: the first of these groups that anybody is in.
fn best(world: &World, wanted: &Wanted) -> Vec<usize> {
    const OVERLOAD: u64 = 80 * WHOLE / 100;
    let by_distance = world.selector == Selector::Nearest && wanted.location.is_some();
    let is_near =
        |node: &Candidate| by_distance || wanted.region.is_empty() || node.region == wanted.region;
    let is_calm = |node: &Candidate| node.load(OVERLOAD) < OVERLOAD;
    let all = || {
        let nodes = world.nodes.iter().enumerate();
        nodes.filter(|(_, node)| node.open && node.weight > 0 && !node.is_full())
    };
    let groups: [Vec<usize>; 4] = [
        all().filter(|(_, node)| is_near(node) && is_calm(node)).map(|(at, _)| at).collect(),
        all().filter(|(_, node)| is_calm(node)).map(|(at, _)| at).collect(),
        all().filter(|(_, node)| is_near(node)).map(|(at, _)| at).collect(),
        all().map(|(at, _)| at).collect(),
    ];
    groups.into_iter().find(|group| !group.is_empty()).unwrap_or_default()
}

/// Whether a selector could have chosen this one of the best.
fn allows(world: &World, wanted: &Wanted, room: &str, best: &[usize], chosen: usize) -> bool {
    let node = |at: usize| &world.nodes[at];
    let least = |measure: &dyn Fn(usize) -> Option<u64>| {
        let said: Vec<u64> = best.iter().filter_map(|&at| measure(at)).collect();
        said.iter().min().is_none_or(|least| measure(chosen) == Some(*least))
    };
    match world.selector {
        // Which two is chance; that the less busy of all is never beaten by all others is not.
        Selector::TwoChoices => {
            let load = |at: usize| node(at).load(80 * WHOLE / 100);
            let busier = best.iter().filter(|&&at| load(at) > load(chosen)).count();
            best.len() < 2
                || busier > 0
                || best.iter().filter(|&&at| load(at) == load(chosen)).count() > 1
        }
        Selector::RoundRobin => best.first() == Some(&chosen),
        Selector::ConsistentHash => {
            // Without any other it would be the same.
            best.iter().filter(|&&at| at != chosen).all(|&other| {
                let mut pair = World::of(vec![node(chosen).clone(), node(other).clone()]);
                pair.selector = Selector::ConsistentHash;
                pair.choose(room, wanted) == Some(0)
            })
        }
        Selector::Nearest => wanted.location.is_none_or(|here| {
            least(&|at| {
                let km = node(at).location.map(|there| Point::of(here).km(there));
                Some(km.map_or(u64::MAX, u64::from))
            })
        }),
        Selector::ZoneSpread => {
            let crowd = |at: usize| {
                let zone = |node: &Candidate| (node.region.clone(), node.zone.clone());
                let alike = || {
                    let nodes = world.nodes.iter();
                    nodes.filter(|node| node.open && zone(node) == zone(&world.nodes[at]))
                };
                let weight: u64 = alike().map(|node| u64::from(node.weight)).sum();
                let rooms: u64 = alike().map(|node| u64::from(node.rooms)).sum();
                rooms * WHOLE / weight.max(1)
            };
            least(&|at| Some(crowd(at)))
        }
        by => least(&|at| node(at).measure(by)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_the_fleet_is_a_choice_is_one_of_the_best_and_as_the_selector_says(
        nodes in vec(any_node(), 0..60),
        region in 0..4_u8,
        place in prop::option::of(0..PLACES.len()),
        seed in 1..u64::MAX,
    ) {
        let named = nodes.into_iter().enumerate().map(|(number, node)| {
            let name = format!("sfu-{number:03}");
            Candidate { id: id(&name), hash: hash(&name), ..node }
        });
        let mut world = World::of(named.collect());
        world.seed = seed;
        let wanted = Wanted {
            region: if region == 3 { String::new() } else { format!("r{region}") },
            location: place.map(|place| Location { latitude: PLACES[place].0, longitude: PLACES[place].1 }),
            ..Wanted::default()
        };
        for selector in Selector::ALL {
            world.selector = selector;
            world.turn = Turn::default();
            let best = best(&world, &wanted);
            match world.choose("lobby", &wanted) {
                None => prop_assert!(best.is_empty(), "{:?} chose nobody of {:?}", selector, best),
                Some(at) => {
                    prop_assert!(best.contains(&at), "{:?} chose {}, not of {:?}", selector, at, best);
                    let is_allowed = allows(&world, &wanted, "lobby", &best, at);
                    prop_assert!(is_allowed, "{:?} chose {} of {:?}", selector, at, best);
                }
            }
        }
    }
}
