use std::{sync::Arc, time::Duration};

use control::{
    fleet::{NodeId, State},
    follow::{Followed, Topics, follow},
    records::{self, Alive, Description, Routing},
    registry::{Registered, Registry, Wish},
    rooms::Rooms,
    store::{
        AnyStore, Condition, Outcome, Revision, Store, StoreError, Txn, Write,
        etcd::{Etcd, EtcdOptions},
    },
};
use local_etcd::{Cluster, Shape};
use tokio::{
    sync::watch,
    task::{self, JoinSet},
    time::{self, Instant},
};

/// How long a node lives without a word.
pub(crate) const TTL: Duration = Duration::from_secs(5);

/// Whatever happens at all takes less.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// A cluster, and a store in it.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) store: Arc<AnyStore>,
    pub(crate) registry: Registry<AnyStore>,
}

pub(crate) fn id(name: &str) -> NodeId {
    NodeId::try_from(name.to_owned()).expect("a name")
}

pub(crate) fn node(number: u8) -> Description {
    serde_json::from_str(&format!(r#"{{"address":"10.0.0.{number}:7000"}}"#)).expect("valid")
}

/// Another client of the cluster, as another process would be.
pub(crate) fn client(cluster: &Cluster) -> Arc<AnyStore> {
    let options = EtcdOptions::new(cluster.endpoints(), "default").expect("a name");
    Arc::new(Etcd::new(&options).expect("members").into())
}

impl World {
    /// Three members, and a routing configuration.
    pub(crate) async fn new() -> Self {
        let shape = Shape { members: 3, ..Shape::default() };
        let starting = task::spawn_blocking(move || Cluster::start(&shape));
        let cluster = starting.await.expect("no panic").expect("an etcd cluster");
        let store = client(&cluster);
        let world = Self { registry: Registry::new(store.clone()), store, cluster };
        world.put(records::ROUTING, &routing()).await;
        world
    }

    /// Another control's view of the rooms.
    pub(crate) fn rooms(&self) -> Arc<Rooms<AnyStore>> {
        let rooms = Arc::new(Rooms::new(client(&self.cluster)));
        let following = rooms.clone();
        tokio::spawn(async move { following.follow().await });
        rooms
    }

    pub(crate) async fn put<T: serde::Serialize>(&self, key: &str, record: &T) {
        put_text(&*self.store, key, &serde_json::json!(record).to_string()).await;
    }

    /// Lets node `sfu-N` in, and keeps its lease until `alive` is dropped.
    pub(crate) async fn node(&self, number: u8, alive: &mut JoinSet<()>) -> Registered {
        let name = id(&format!("sfu-{number}"));
        let registered = self.registry.register(&name, &node(number), &Wish::Any, TTL).await;
        let registered = registered.expect("let in");
        let (store, lease) = (self.store.clone(), registered.lease);
        alive.spawn(async move {
            loop {
                // What fails now is tried again before the lease ends.
                let _kept = store.keep_alive(lease).await;
                time::sleep(TTL / 10).await;
            }
        });
        registered
    }

    /// A node says what it wants to be.
    pub(crate) async fn says(&self, number: u8, of: &Registered, state: State) {
        let key = records::node(&id(&format!("sfu-{number}")));
        let there = self.store.get(&key).await.expect("there").0.expect("it holds its lease");
        let there: Alive = records::read(&there).expect("readable");
        let then = vec![records::put(key, &Alive { state, ..there }, Some(of.lease))];
        self.store.commit(Txn { when: Vec::new(), then }).await.expect("committed");
    }

    /// Follows the fleet as `topics` do, by a client of its own.
    pub(crate) fn follow(&self, topics: Topics) -> watch::Receiver<Followed> {
        let (sender, receiver) = watch::channel(Followed::default());
        tokio::spawn(follow(client(&self.cluster), topics, sender));
        receiver
    }

    /// The member that leads.
    pub(crate) async fn leader(&self) -> usize {
        let begin = Instant::now();
        loop {
            if let Some(leader) = self.cluster.leader() {
                return leader;
            }
            assert!(begin.elapsed() < PATIENCE, "no leader");
            time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub(crate) fn routing() -> Routing {
    serde_json::from_value(serde_json::json!({
        "hash_key": "00112233445566778899aabbccddeeff",
        "routing": [{ "config": 0 }],
    }))
    .expect("valid")
}

/// Puts a text at a key, as an operator's hand would.
pub(crate) async fn put_text(store: &impl Store, key: &str, text: &str) -> Revision {
    let then =
        vec![Write::Put { key: key.to_owned(), value: text.as_bytes().to_vec(), lease: None }];
    match store.commit(Txn { when: Vec::new(), then }).await.expect("committed") {
        Outcome::Committed(revision) => revision,
        Outcome::Refused(_) => unreachable!("there is no condition"),
    }
}

/// Puts `value` where nothing is, again and again until the store has said that it is there: what an
/// unavailable store says of a transaction leaves open whether it happened.
pub(crate) async fn place(store: &impl Store, key: &str, value: &str) -> Result<bool, StoreError> {
    let when = vec![Condition::Absent(key.to_owned())];
    let then =
        vec![Write::Put { key: key.to_owned(), value: value.as_bytes().to_vec(), lease: None }];
    Ok(matches!(store.commit(Txn { when, then }).await?, Outcome::Committed(_)))
}

/// Waits until the fleet has these nodes, in these states.
pub(crate) async fn becomes(followed: &mut watch::Receiver<Followed>, expected: &[(&str, State)]) {
    let is = |followed: &Followed| {
        followed.snapshot.as_ref().is_some_and(|snapshot| {
            let nodes = snapshot.fleet.nodes.iter();
            nodes.map(|node| (node.id.as_str(), node.state)).eq(expected.iter().copied())
        })
    };
    let waited = time::timeout(PATIENCE, followed.wait_for(is)).await;
    let became = matches!(waited, Ok(Ok(_)));
    drop(waited);
    assert!(became, "never {expected:?}, but {:?}", followed.borrow());
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        time::sleep(Duration::from_millis(50)).await;
    }
}
