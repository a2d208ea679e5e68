//! Control as LBs and nodes see it: followed through its ends and returns.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use control::{
    api::{Heartbeat, LbReport},
    client::{Client, ClientError, View, follow},
    freshness::Freshness,
    http::{Api, Token, Tokens},
    store::AnyStore,
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinHandle,
    time,
};

use crate::world::{World, id};

/// Longer than anything here takes; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn token() -> Token {
    Token::try_from(TOKEN.to_owned()).expect("a token")
}

/// A control that can be killed.
struct Control {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Control {
    fn on(listener: TcpListener, store: Arc<AnyStore>) -> Self {
        let address = listener.local_addr().expect("bound");
        let api = Api::new(store, Duration::from_secs(600), Tokens::from(Some(token())));
        let serving = tokio::spawn(async move {
            api.serve(listener).await.expect("it serves");
        });
        Self { address, serving }
    }

    async fn new(store: Arc<AnyStore>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a free port"), store)
    }

    /// Ends, and its connections with it.
    async fn kill(self) -> SocketAddr {
        self.serving.abort();
        let _aborted = self.serving.await;
        self.address
    }

    fn client(&self) -> Client {
        Client::new(&format!("http://{}/", self.address), Some(token())).expect("a URL")
    }
}

/// A control where one was before.
async fn again(address: SocketAddr, store: Arc<AnyStore>) -> Control {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("set");
    socket.bind(address).expect("its port is free");
    Control::on(socket.listen(64).expect("it listens"), store)
}

fn heartbeat(number: u8) -> Heartbeat {
    let node = json!({ "address": format!("10.0.0.{number}:7000") });
    serde_json::from_value(json!({ "instance": "first", "node": node })).expect("valid")
}

fn names(view: &View) -> Vec<&str> {
    view.fleet.nodes.iter().map(|node| node.id.as_str()).collect()
}

async fn becomes(newest: &mut watch::Receiver<Option<Arc<View>>>, expected: &[&str]) -> Arc<View> {
    let is = |view: &Option<Arc<View>>| view.as_ref().is_some_and(|view| names(view) == expected);
    let waited = time::timeout(PATIENCE, newest.wait_for(is)).await;
    waited.expect("in time").expect("followed").clone().expect("a view")
}

fn followed(control: &Control) -> watch::Receiver<Option<Arc<View>>> {
    followed_by(control, Freshness::default())
}

fn followed_by(control: &Control, freshness: Freshness) -> watch::Receiver<Option<Arc<View>>> {
    let (newest, view) = watch::channel(None);
    tokio::spawn(follow(control.client(), newest, freshness));
    view
}

#[tokio::test]
async fn a_fleet_is_old_while_control_is_gone_and_new_when_it_says_that_it_is_the_same() {
    let world = World::new().await;
    let control = Control::new(world.store.clone()).await;
    let freshness = Freshness::default();
    let mut view = followed_by(&control, freshness.clone());
    becomes(&mut view, &[]).await;
    assert!(!freshness.is_old());
    let is_old = async |old| {
        let waiting = async {
            while freshness.is_old() != old {
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        time::timeout(PATIENCE, waiting).await.expect("in time");
    };
    let address = control.kill().await;
    is_old(true).await;
    let _control = again(address, world.store.clone()).await;
    is_old(false).await;
}

#[tokio::test]
async fn who_follows_keeps_the_last_fleet_while_control_is_gone_and_has_the_next_when_it_is_back() {
    let world = World::new().await;
    let control = Control::new(world.store.clone()).await;
    let mut view = followed(&control);
    control.client().register(&id("sfu-1"), &heartbeat(1)).await.expect("let in");
    let before = becomes(&mut view, &["sfu-1"]).await;
    let client = control.client();
    let address = control.kill().await;
    let gone = client.register(&id("sfu-2"), &heartbeat(2)).await.expect_err("nobody is there");
    assert!(matches!(gone, ClientError::Unreachable { .. }), "{gone}");
    assert_eq!(names(view.borrow().as_ref().expect("kept")), ["sfu-1"]);
    // Its store has lived on, and nothing has changed: so nobody is told anything.
    view.mark_unchanged();
    let control = again(address, world.store.clone()).await;
    control.client().register(&id("sfu-2"), &heartbeat(2)).await.expect("let in");
    let after = becomes(&mut view, &["sfu-1", "sfu-2"]).await;
    assert!(after.revision > before.revision);
}

#[tokio::test]
async fn who_follows_goes_on_with_a_control_that_has_lost_its_store() {
    let world = World::new().await;
    let control = Control::new(world.store.clone()).await;
    let mut view = followed(&control);
    for number in 1..=3 {
        let name = id(&format!("sfu-{number}"));
        control.client().register(&name, &heartbeat(number)).await.expect("let in");
    }
    let before = becomes(&mut view, &["sfu-1", "sfu-2", "sfu-3"]).await;
    let address = control.kill().await;
    let fresh = World::new().await;
    let control = again(address, fresh.store.clone()).await;
    let after = becomes(&mut view, &[]).await;
    assert!(after.revision < before.revision, "it has begun anew");
    control.client().register(&id("sfu-9"), &heartbeat(9)).await.expect("let in");
    becomes(&mut view, &["sfu-9"]).await;
}

#[tokio::test]
async fn another_fleet_of_the_same_revision_is_another_fleet() {
    let world = World::new().await;
    let control = Control::new(world.store.clone()).await;
    let mut view = followed(&control);
    control.client().register(&id("sfu-1"), &heartbeat(1)).await.expect("let in");
    let before = becomes(&mut view, &["sfu-1"]).await;
    let address = control.kill().await;
    // The same has happened here, but to another node.
    let fresh = World::new().await;
    let other = Control::new(fresh.store.clone()).await;
    other.client().register(&id("sfu-2"), &heartbeat(2)).await.expect("let in");
    other.kill().await;
    let _control = again(address, fresh.store.clone()).await;
    let after = becomes(&mut view, &["sfu-2"]).await;
    assert_eq!(after.revision, before.revision);
}

#[tokio::test]
async fn who_is_refused_is_told_in_the_words_of_control_and_never_the_token() {
    let world = World::new().await;
    let control = Control::new(world.store.clone()).await;
    let url = format!("http://{}", control.address);
    let other = Token::try_from("x".repeat(32)).expect("a token");
    let stranger = Client::new(&url, Some(other)).expect("a URL");
    let refused = stranger.report(&id("lb-1"), &LbReport::default()).await.expect_err("a stranger");
    assert_eq!(refused.to_string(), format!("control at {url}: this is not the token"));
    let ClientError::Refused { refusal, .. } = refused else { panic!("{refused}") };
    assert_eq!((refusal.status, refusal.code.as_str()), (401, "unauthorized"));
    let client = control.client();
    client.report(&id("lb-1"), &LbReport::default()).await.expect("let in");
    let shown = format!("{client:?} {stranger:?}");
    assert!(!shown.contains(TOKEN) && !shown.contains("xxx"), "{shown}");
    let known = client.fleet(None).await.expect("there").expect("told");
    assert!(!format!("{known:?}").contains("00112233"), "{known:?}");
}

#[test]
fn what_is_no_place_for_a_control_is_refused() {
    for url in ["", "control", "ftp://control:8000", "http://", "http://c/?a", "http://c/#a"] {
        let refused = Client::new(url, None).expect_err("no place").to_string();
        assert!(refused.ends_with("could be: http://HOST:PORT or https://HOST:PORT"), "{refused}");
    }
    let refused = Client::new("http://me:secret@control:8000", None).expect_err("no place");
    assert_eq!(
        refused.to_string(),
        "\"http://…@control\" is not where a control could be: http://HOST:PORT or https://HOST:PORT"
    );
}
