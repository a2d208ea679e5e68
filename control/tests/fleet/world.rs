use std::{sync::Arc, time::Duration};

use control::{
    fleet::{NodeId, State},
    follow::{Followed, Topics, follow},
    records::{self, Alive, Description, Routing, Stats},
    registry::{Registered, Registry, RegistryError, Wish},
    rooms::Rooms,
    store::{AnyStore, Outcome, Store, Txn},
};
use tokio::sync::watch;

/// How long a node lives without a word.
pub(crate) const TTL: Duration = Duration::from_secs(10);

/// A store with a routing configuration.
pub(crate) struct World {
    pub(crate) store: Arc<AnyStore>,
    pub(crate) registry: Registry<AnyStore>,
    pub(crate) rooms: Arc<Rooms<AnyStore>>,
}

pub(crate) fn id(name: &str) -> NodeId {
    NodeId::try_from(name.to_owned()).expect("a name")
}

pub(crate) fn node(address: &str) -> Description {
    serde_json::from_str(&format!(r#"{{"address":"{address}"}}"#)).expect("valid")
}

/// The rooms in a store, as another control has them.
pub(crate) fn control(store: &Arc<AnyStore>) -> Arc<Rooms<AnyStore>> {
    let rooms = Arc::new(Rooms::new(store.clone()));
    let followed = rooms.clone();
    tokio::spawn(async move { followed.follow().await });
    rooms
}

impl World {
    pub(crate) async fn new() -> Self {
        let store = Arc::new(AnyStore::in_memory());
        let world = Self { registry: Registry::new(store.clone()), rooms: control(&store), store };
        let routing = Routing {
            hash_key: Some("00112233445566778899aabbccddeeff".to_owned()),
            routing: vec![serde_json::json!({ "config": 0 })],
        };
        world.put(records::ROUTING.to_owned(), &routing, None).await;
        world
    }

    pub(crate) async fn put<T: serde::Serialize>(
        &self,
        key: String,
        record: &T,
        lease: Option<control::store::LeaseId>,
    ) {
        let then = vec![records::put(key, record, lease)];
        let outcome = self.store.commit(Txn { when: Vec::new(), then }).await.expect("there");
        assert!(matches!(outcome, Outcome::Committed(_)));
    }

    /// Lets node `sfu-N` in, at an address of its own.
    pub(crate) async fn node(&self, number: u8) -> Registered {
        let node = node(&format!("10.0.0.{number}:7000"));
        self.register(&format!("sfu-{number}"), &node, &Wish::Any).await.expect("let in")
    }

    pub(crate) async fn register(
        &self,
        name: &str,
        node: &Description,
        wish: &Wish,
    ) -> Result<Registered, RegistryError> {
        self.registry.register(&id(name), node, wish, TTL).await
    }

    /// The node reports, with its lease.
    pub(crate) async fn report(&self, name: &str, of: &Registered, stats: Stats) {
        self.put(records::stats(&id(name)), &stats, Some(of.lease)).await;
    }

    /// The node says what it is.
    pub(crate) async fn says(&self, name: &str, of: &Registered, state: State) {
        let there = self.store.get(&records::node(&id(name))).await.expect("there").0;
        let there: Alive = records::read(&there.expect("it holds its lease")).expect("readable");
        let alive = Alive { epoch: of.epoch, state, ..there };
        self.put(records::node(&id(name)), &alive, Some(of.lease)).await;
    }

    /// Waits until all that the store says is known to who places rooms.
    pub(crate) async fn settled(&self) {
        let (_, newest) = self.store.get(records::ROUTING).await.expect("there");
        let waited = tokio::time::timeout(TTL, self.rooms.reached(newest)).await;
        waited.expect("it is followed");
    }

    /// Follows the fleet from now on.
    pub(crate) fn follow(&self) -> watch::Receiver<Followed> {
        let (sender, receiver) = watch::channel(Followed::default());
        tokio::spawn(follow(self.store.clone(), Topics::All, sender));
        receiver
    }
}

/// Names and states of the nodes, once it is as expected: soon, so that no lease ends meanwhile.
pub(crate) async fn becomes(followed: &mut watch::Receiver<Followed>, expected: &[(&str, State)]) {
    let is = |followed: &Followed| {
        followed.snapshot.as_ref().is_some_and(|snapshot| {
            let nodes = snapshot.fleet.nodes.iter();
            nodes.map(|node| (node.id.as_str(), node.state)).eq(expected.iter().copied())
        })
    };
    let waited = tokio::time::timeout(TTL / 3, followed.wait_for(is)).await;
    let became = matches!(waited, Ok(Ok(_)));
    drop(waited);
    assert!(became, "never {expected:?}, but {:?}", followed.borrow());
}
