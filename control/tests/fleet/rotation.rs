//! Rotations of keys on a store, by controls that come and go, in virtual time.

use std::{collections::BTreeMap, time::Duration};

use control::{
    fleet::Phase,
    records::{self, Balancer, IdUses, Ids, Lb, Member},
    rotation::{self, Configuration, Refused, RotationError},
    store::{LeaseId, Store},
};
use tokio::{task::JoinHandle, time};

use crate::world::{World, id};

const QUIET: Duration = Duration::from_secs(60);

/// LBs and a node that do as they are told, when they are asked to.
struct Fleet {
    world: World,
    /// The node's.
    lease: LeaseId,
}

impl Fleet {
    async fn new() -> Self {
        let world = World::new().await;
        let lease = world.node(1).await.lease;
        let fleet = Self { world, lease };
        for lb in ["lb-1", "lb-2"] {
            let balancer = Balancer { addresses: vec!["10.9.0.1".parse().expect("an address")] };
            fleet.world.put(records::balancer(&id(lb)), &balancer, None).await;
            fleet.lb(lb, &[]).await;
        }
        fleet.node_issues(0, &[]).await;
        fleet
    }

    async fn revision(&self) -> u64 {
        self.world.store.get(records::ROUTING).await.expect("there").1.0
    }

    /// An LB has applied what there is now, and has met these configurations so many seconds ago.
    async fn lb(&self, name: &str, configs: &[(u8, u64)]) {
        let (revision, configs) = (self.revision().await, configs.iter().copied().collect());
        let lb = Lb { revision, configs, ..Lb::default() };
        self.world.put(records::lb(&id(name)), &lb, None).await;
    }

    async fn node_issues(&self, issues: u8, sessions: &[(u8, u64)]) {
        let key = records::member(&id("sfu-1"));
        let member = self.world.store.get(&key).await.expect("there").0.expect("a member");
        let Member { epoch, .. } = records::read(&member).expect("valid");
        let sessions: BTreeMap<_, _> = sessions.iter().copied().collect();
        let ids = Ids { epoch, uses: IdUses { issues, sessions } };
        self.world.put(records::ids(&id("sfu-1")), &ids, None).await;
    }

    fn control(&self) -> JoinHandle<()> {
        tokio::spawn(rotation::keep(self.world.store.clone(), QUIET))
    }

    async fn phases(&self) -> Vec<(u8, Phase)> {
        let view = rotation::look(&*self.world.store).await.expect("there").expect("a routing");
        view.routing.iter().map(|config| (config.config, Configuration::phase(config))).collect()
    }

    /// What the phases are after a while.
    async fn later(&self) -> Vec<(u8, Phase)> {
        self.pass(Duration::from_secs(5)).await;
        self.phases().await
    }

    /// Time passes, and the node keeps its lease.
    async fn pass(&self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.world.store.keep_alive(self.lease).await.expect("it runs");
            time::sleep(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_control_that_is_killed_at_any_step_leaves_nothing_that_the_next_one_does_not_finish() {
    use Phase::{Issuing, Published, Retiring};
    let fleet = Fleet::new().await;
    rotation::begin(&*fleet.world.store).await.expect("begins");

    // Each control sees one step come, and is gone; what lags holds it up.
    let control = fleet.control();
    fleet.lb("lb-1", &[]).await;
    assert_eq!(fleet.later().await, [(0, Issuing), (1, Published)], "lb-2 has not applied it");
    control.abort();
    fleet.lb("lb-2", &[]).await;
    assert_eq!(fleet.later().await, [(0, Issuing), (1, Published)], "nobody is there");

    let [one, other] = [fleet.control(), fleet.control()];
    assert_eq!(fleet.later().await, [(0, Issuing), (1, Issuing)], "the node issues by 0");
    one.abort();
    other.abort();
    fleet.node_issues(1, &[(0, 2)]).await;

    let control = fleet.control();
    assert_eq!(fleet.later().await, [(0, Retiring), (1, Issuing)]);
    control.abort();
    for lb in ["lb-1", "lb-2"] {
        fleet.lb(lb, &[(0, 70), (1, 0)]).await;
    }

    let control = fleet.control();
    fleet.pass(QUIET * 2).await;
    assert_eq!(fleet.phases().await, [(0, Retiring), (1, Issuing)], "two sessions are named by it");
    control.abort();
    fleet.node_issues(1, &[(1, 2)]).await;

    let control = fleet.control();
    fleet.pass(QUIET - Duration::from_secs(2)).await;
    assert_eq!(
        fleet.phases().await,
        [(0, Retiring), (1, Issuing)],
        "it waits for the quiet time anew"
    );
    assert_eq!(fleet.later().await, [(1, Issuing)]);
    control.abort();
}

#[tokio::test(start_paused = true)]
async fn two_controls_that_begin_at_once_begin_one_rotation() {
    let fleet = Fleet::new().await;
    let store = &*fleet.world.store;
    let (one, other) = tokio::join!(rotation::begin(store), rotation::begin(store));
    let refused = |begun: &Result<_, RotationError>| {
        matches!(begun, Err(RotationError::Refused(Refused::UnderWay(1))))
    };
    assert!(
        one.is_ok() != other.is_ok() && (refused(&one) || refused(&other)),
        "{one:?} {other:?}"
    );
    assert_eq!(fleet.phases().await, [(0, Phase::Issuing), (1, Phase::Published)]);
    rotation::abort(store).await.expect("taken back");
    assert_eq!(fleet.phases().await, [(0, Phase::Issuing)]);
}

#[tokio::test(start_paused = true)]
async fn a_report_of_a_nodes_former_self_does_not_count() {
    let mut fleet = Fleet::new().await;
    rotation::begin(&*fleet.world.store).await.expect("begins");
    fleet.node_issues(1, &[]).await;
    // It registers again, and has not said anything since.
    fleet.lease = fleet.world.node(1).await.lease;
    for lb in ["lb-1", "lb-2"] {
        fleet.lb(lb, &[]).await;
    }
    let _control = fleet.control();
    let both = [(0, Phase::Issuing), (1, Phase::Issuing)];
    assert_eq!(fleet.later().await, both);
    fleet.node_issues(1, &[]).await;
    assert_eq!(fleet.later().await[0], (0, Phase::Retiring));
}
