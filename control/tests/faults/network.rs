//! A wire to a cluster that can be cut.

use std::sync::Arc;

use control::{
    follow::{Followed, Topics, follow},
    store::{
        AnyStore,
        etcd::{Etcd, EtcdOptions},
    },
};
use local_etcd::Cluster;
use tokio::{
    io,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// Relays to all members, for one client.
pub(crate) struct Cut {
    endpoints: Vec<String>,
    is_whole: watch::Sender<bool>,
    _relays: JoinSet<()>,
}

impl Cut {
    pub(crate) async fn before(cluster: &Cluster) -> Self {
        let (is_whole, _) = watch::channel(true);
        let mut endpoints = Vec::new();
        let mut relays = JoinSet::new();
        for endpoint in cluster.endpoints() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            endpoints.push(format!("http://{}", listener.local_addr().expect("bound")));
            let to = endpoint.trim_start_matches("http://").to_owned();
            relays.spawn(relay(listener, to, is_whole.clone()));
        }
        Self { endpoints, is_whole, _relays: relays }
    }

    pub(crate) fn client(&self) -> Arc<AnyStore> {
        let options = EtcdOptions::new(self.endpoints.clone(), "default").expect("a name");
        Arc::new(Etcd::new(&options).expect("members").into())
    }

    /// Follows the fleet behind the wire.
    pub(crate) fn follow(&self, topics: Topics) -> watch::Receiver<Followed> {
        let (sender, receiver) = watch::channel(Followed::default());
        tokio::spawn(follow(self.client(), topics, sender));
        receiver
    }

    /// Ends all connections, and lets none begin.
    pub(crate) fn cut(&self) {
        self.is_whole.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.is_whole.send_replace(true);
    }
}

async fn relay(listener: TcpListener, to: String, is_whole: watch::Sender<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let (to, mut is_whole) = (to.clone(), is_whole.subscribe());
        connections.spawn(async move {
            if !*is_whole.borrow_and_update() {
                return;
            }
            let Ok(mut server) = TcpStream::connect(to).await else { return };
            tokio::select! {
                _ = io::copy_bidirectional(&mut client, &mut server) => {}
                _ = is_whole.wait_for(|whole| !whole) => {}
            }
        });
    }
}
