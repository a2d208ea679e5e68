//! etcd as a subject: each test has a cluster of its own.

use std::{sync::Arc, time::Duration};

use control::store::{
    Revision, Store,
    etcd::{Etcd, EtcdOptions},
};
use local_etcd::{Cluster, Shape};

use crate::{
    subject::{FORGETTING, Subject, put, write},
    suite::conformance,
};

/// A cluster of one member.
pub(crate) struct Alone {
    store: Arc<Etcd>,
    cluster: Cluster,
}

conformance! {
    crate::etcd::Alone,
    timed: tokio::test,
    threaded: tokio::test(flavor = "multi_thread", worker_threads = 2)
}

/// The store of fleet `default` in a cluster.
pub(crate) fn store_in(cluster: &Cluster) -> Etcd {
    let options = EtcdOptions::new(cluster.endpoints(), "default").expect("a name");
    Etcd::new(&options).expect("members")
}

impl Subject for Alone {
    type Store = Etcd;

    async fn fresh() -> Self {
        let cluster = Cluster::start(&Shape::default()).expect("an etcd");
        Self { store: Arc::new(store_in(&cluster)), cluster }
    }

    fn store(&self) -> &Arc<Etcd> {
        &self.store
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn forget(&self) {
        let Revision(newest) = write(&*self.store, [put(FORGETTING, "")]).await;
        self.cluster.compact(newest).expect("compacted");
        // It is forgotten at once, and not only when the disk has been tidied up.
        let gone = self.store.get(FORGETTING).await.expect("it answers");
        assert_eq!(gone.1, Revision(newest));
    }
}
