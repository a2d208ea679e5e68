//! Controls that are killed while keys are rotated.

use std::time::Duration;

use control::{
    fleet::Phase::{self, Issuing, Published, Retiring},
    records::{self, Balancer, IdUses, Ids, Lb, Routing},
    registry::Registered,
    rotation::{self, Configuration},
    store::{Change, Revision, Store},
};
use tokio::{
    task::JoinSet,
    time::{self, Instant},
};

use crate::world::{PATIENCE, World, client, id};

/// How long nobody must use what retires.
const QUIET: Duration = Duration::from_secs(2);

/// Two LBs and a node that do as they are told, when they are asked to.
struct Fleet {
    world: World,
    node: Registered,
    _alive: JoinSet<()>,
}

impl Fleet {
    async fn new() -> Self {
        let world = World::new().await;
        let mut alive = JoinSet::new();
        let node = world.node(1, &mut alive).await;
        let fleet = Self { world, node, _alive: alive };
        let balancer = Balancer { addresses: vec!["10.9.0.1".parse().expect("an address")] };
        for lb in ["lb-1", "lb-2"] {
            fleet.world.put(&records::balancer(&id(lb)), &balancer).await;
        }
        fleet.lbs_apply(&[]).await;
        fleet.node_issues(0, &[]).await;
        fleet
    }

    /// The LBs have applied what there is, and have met these configurations so many seconds ago.
    async fn lbs_apply(&self, configs: &[(u8, u64)]) {
        let revision = self.world.store.get(records::ROUTING).await.expect("there").1.0;
        let report = Lb { revision, configs: configs.iter().copied().collect(), ..Lb::default() };
        for lb in ["lb-1", "lb-2"] {
            self.world.put(&records::lb(&id(lb)), &report).await;
        }
    }

    async fn node_issues(&self, issues: u8, sessions: &[(u8, u64)]) {
        let uses = IdUses { issues, sessions: sessions.iter().copied().collect() };
        let ids = Ids { epoch: self.node.epoch, uses };
        self.world.put(&records::ids(&id("sfu-1")), &ids).await;
    }

    /// A store whose leader has just died is asked again until it has another.
    async fn phases(&self) -> Vec<(u8, Phase)> {
        let begin = Instant::now();
        loop {
            match rotation::look(&*self.world.store).await {
                Ok(view) => return phases(&view.expect("a routing").routing),
                Err(error) => assert!(begin.elapsed() < PATIENCE, "{error}"),
            }
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A control that lives so long, and is killed at whatever it does then.
    async fn control_for(&self, life: Duration) {
        let killed = time::timeout(life, rotation::keep(client(&self.world.cluster), QUIET));
        assert!(killed.await.is_err(), "it never ends by itself");
    }

    /// Controls come, and are killed a few milliseconds later, until the phases are these. Whoever comes
    /// later lives longer: on a machine that is busy, a step takes its time.
    async fn killed_again_and_again_until(&self, expected: &[(u8, Phase)]) {
        let all = async {
            for number in 0.. {
                self.control_for(Duration::from_millis(number % 50 * (1 + number / 50))).await;
                if self.phases().await == expected {
                    return;
                }
            }
        };
        let ended = time::timeout(PATIENCE, all).await;
        assert!(ended.is_ok(), "never {expected:?}, but {:?}", self.phases().await);
    }
}

fn phases(routing: &[Configuration]) -> Vec<(u8, Phase)> {
    routing.iter().map(|config| (config.config, config.phase())).collect()
}

/// Every step, as the store has seen them.
async fn history(world: &World, from: Revision, steps: usize) -> Vec<Vec<(u8, Phase)>> {
    let mut watch = world.store.watch(records::ROUTING, from).await.expect("a watch");
    let mut history = Vec::new();
    while history.len() < steps {
        let changes = time::timeout(PATIENCE, watch.next()).await.expect("soon");
        for change in changes.expect("it goes on").expect("nothing was compacted").changes {
            let Change::Put(entry) = change else { panic!("the routing is gone") };
            let Routing { routing, .. } = records::read(&entry).expect("valid");
            let read = |config| serde_json::from_value(config).expect("a configuration");
            history.push(phases(&routing.into_iter().map(read).collect::<Vec<_>>()));
        }
    }
    history
}

#[tokio::test(flavor = "multi_thread")]
async fn controls_that_are_killed_at_each_step_of_a_rotation_take_each_step_once() {
    let mut fleet = Fleet::new().await;
    let (_, begun) = rotation::begin(&*fleet.world.store).await.expect("begins");
    fleet.control_for(QUIET).await;
    assert_eq!(fleet.phases().await, [(0, Issuing), (1, Published)], "no LB has applied it");

    fleet.lbs_apply(&[]).await;
    fleet.killed_again_and_again_until(&[(0, Issuing), (1, Issuing)]).await;

    fleet.node_issues(1, &[(0, 1)]).await;
    // Also of a store whose leader has just died.
    let leader = fleet.world.leader().await;
    fleet.world.cluster.kill(leader);
    fleet.killed_again_and_again_until(&[(0, Retiring), (1, Issuing)]).await;
    fleet.world.cluster.restart(leader).expect("started");

    // A session is still named by it.
    fleet.lbs_apply(&[(0, 60), (1, 0)]).await;
    fleet.control_for(QUIET * 2).await;
    assert_eq!(fleet.phases().await, [(0, Retiring), (1, Issuing)]);
    fleet.node_issues(1, &[(1, 1)]).await;
    // Nobody has seen for long enough that nobody uses it.
    fleet.control_for(QUIET / 2).await;
    fleet.control_for(QUIET / 2).await;
    assert_eq!(fleet.phases().await, [(0, Retiring), (1, Issuing)]);
    fleet.control_for(QUIET * 2).await;
    assert_eq!(fleet.phases().await, [(1, Issuing)]);

    let first = Revision(begun.0 - 1);
    let steps: [&[_]; 4] = [
        &[(0, Issuing), (1, Published)],
        &[(0, Issuing), (1, Issuing)],
        &[(0, Retiring), (1, Issuing)],
        &[(1, Issuing)],
    ];
    assert_eq!(history(&fleet.world, first, steps.len()).await, steps);
}
