//! The system's control: its API on loopback, and its store in memory.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use control::{
    api::RoutingView,
    client::Client,
    fleet::{NodeId, State},
    hex,
    http::{Api, Token, Tokens},
    line::Line,
    records::{self, NodeSecrets, Routing, Vip},
    registry::Registry,
    source::CLUSTER,
    store::{
        AnyStore, List, PAGE_MAX, Store, Txn,
        etcd::{Etcd, EtcdOptions},
    },
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{self, Instant},
};

use super::{PATIENCE, Shape, SystemError, io_error, node_name};
use crate::client::WebTransportOffer;

pub(super) struct Control {
    store: Arc<AnyStore>,
    registry: Registry<AnyStore>,
    address: SocketAddr,
    tokens: [String; 3],
    serving: JoinSet<()>,
}

/// What a client needs to be in a room.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The node that the room is on.
    pub node: String,
    /// What `/whip` and `/whep` must be told.
    pub token: String,
    /// The way in for WebTransport.
    pub webtransport: WebTransportOffer,
}

fn failed(problem: impl std::fmt::Display) -> SystemError {
    SystemError::Control(problem.to_string())
}

fn random<const N: usize>() -> String {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    hex::encode(&bytes)
}

impl Control {
    pub(super) async fn start(loopback: IpAddr, shape: &Shape) -> Result<Self, SystemError> {
        let store = Arc::new(match &shape.etcd {
            None => AnyStore::in_memory(),
            Some(endpoints) => {
                let options = EtcdOptions::new(endpoints.iter().cloned(), CLUSTER);
                Etcd::new(&options.map_err(failed)?).map_err(failed)?.into()
            }
        });
        let mut config = json!({ "config": 0, "key": random::<16>() });
        if shape.ice_key {
            config["ice_key"] = json!(random::<32>());
        }
        let routing = Routing { hash_key: Some(random::<16>()), routing: vec![config] };
        let secrets = NodeSecrets { reset: random::<32>(), token: random::<32>() };
        let then = vec![
            records::put(records::ROUTING.to_owned(), &routing, None),
            records::put(records::NODE_SECRETS.to_owned(), &secrets, None),
        ];
        store.commit(Txn { when: Vec::new(), then }).await.map_err(failed)?;

        let tokens = [(); 3].map(|()| random::<32>());
        let token = |text: &String| Token::try_from(text.clone()).map(Some).map_err(failed);
        let [operator, node, lb] = &tokens;
        let known = Tokens { operator: token(operator)?, node: token(node)?, lb: token(lb)? };
        let listener = TcpListener::bind((loopback, 0)).await.map_err(io_error("control"))?;
        let address = listener.local_addr().map_err(io_error("control"))?;
        let api = Api::new(store.clone(), shape.ttl, known).quiet(shape.quiet);
        let mut serving = JoinSet::new();
        serving.spawn(async {
            if let Err(problem) = api.serve(listener).await {
                tracing::error!("control has ended: {problem}");
            }
        });
        let registry = Registry::new(store.clone());
        Ok(Self { store, registry, address, tokens, serving })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn stop(&mut self) {
        self.serving.shutdown().await;
    }

    pub(super) fn operator_token(&self) -> &str {
        &self.tokens[0]
    }

    /// The way of nodes to their fleet: where there is a cluster, they speak to it themselves.
    pub(super) fn line_of_nodes(&self) -> Result<Line, SystemError> {
        self.line(&self.tokens[1])
    }

    pub(super) fn line_of_lbs(&self) -> Result<Line, SystemError> {
        self.line(&self.tokens[2])
    }

    fn line(&self, token: &str) -> Result<Line, SystemError> {
        match self.store.etcd() {
            Some(store) => Ok(Line::Etcd(Arc::new(store.clone()))),
            None => self.client(token).map(Line::Control),
        }
    }

    fn client(&self, token: &str) -> Result<Client, SystemError> {
        let token = Token::try_from(token.to_owned()).map_err(failed)?;
        Client::new(&format!("http://{}", self.address), Some(token)).map_err(failed)
    }

    /// Waits until so many LBs have reported.
    pub(super) async fn has_heard_of(&self, lbs: usize) -> Result<(), SystemError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let list = List { prefix: records::LBS, after: None, limit: PAGE_MAX, at: None };
            if self.store.list(list).await.map_err(failed)?.entries.len() >= lbs {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(failed("an LB does not report"));
            }
            time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Says what clients are told.
    pub(super) async fn tell_vip(&self, vip: SocketAddr) -> Result<(), SystemError> {
        let key = format!("{}default", records::VIPS);
        let then = vec![records::put(key, &Vip { addresses: vec![vip], ..Vip::default() }, None)];
        self.store.commit(Txn { when: Vec::new(), then }).await.map(drop).map_err(failed)
    }

    pub(super) async fn want(&self, index: usize, state: State) -> Result<(), SystemError> {
        let id = NodeId::try_from(node_name(index)).map_err(failed)?;
        self.registry.want(&id, state).await.map_err(failed)
    }

    pub(super) async fn rotate(&self) -> Result<RoutingView, SystemError> {
        let client = self.client(self.operator_token())?;
        client.post("/v1/routing/rotate").await.map_err(failed)
    }

    pub(super) async fn routing(&self) -> Result<RoutingView, SystemError> {
        let client = self.client(self.operator_token())?;
        client.get("/v1/routing").await.map_err(failed)
    }

    pub(super) async fn join(&self, room: &str) -> Result<Joined, SystemError> {
        let client = self.client(self.operator_token())?;
        let path = format!("/v1/rooms/{room}/join");
        let joined: Value = client.post(&path).await.map_err(failed)?;
        let read = || {
            Some(Joined {
                node: joined["node"].as_str()?.to_owned(),
                token: joined["token"].as_str()?.to_owned(),
                webtransport: WebTransportOffer::read(&joined["webtransport"])?,
            })
        };
        read().ok_or_else(|| failed(format_args!("{joined} is not what was asked for")))
    }
}
