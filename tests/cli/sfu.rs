//! `onevip sfu` without an LB, and its signals.

use std::net::SocketAddr;

use crate::process::{Folder, Running, Signal, eventually, free_port, get, metric};

#[test]
fn a_node_serves_by_itself_leaves_on_sigterm_and_ends_with_0() {
    let folder = Folder::new();
    let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (udp, signalling, admin) = (address(), address(), address());
    folder.write(
        "fleet.toml",
        &format!(
            "hash_key = \"00112233445566778899aabbccddeeff\"\n[[routing]]\nconfig = 0\n[[node]]\n\
         id = \"sfu-a\"\nserver_id = \"0000000a\"\naddress = \"{udp}\"\n"
        ),
    );
    let config = folder.write("sfu.toml", &format!(
        "name = \"sfu-a\"\n[fleet]\npath = \"fleet.toml\"\n[udp]\nlisten = \"{udp}\"\n\
         [signalling]\nlisten = \"{signalling}\"\n[admin]\nlisten = \"{admin}\"\ndrain = \"500ms\"\n"
    ));
    let mut node = Running::start(&["sfu", "--config", &config], &folder.path("log"));
    let ready = |status| get(admin, "/readyz").is_some_and(|(have, _)| have == status);
    eventually("the node is ready", || ready(200));
    assert!(node.log().contains("[keys] reset and token are not both set"), "{}", node.log());
    let metrics = get(admin, "/metrics").expect("answers").1;
    for kind in ["ice", "quic"] {
        for name in ["migrations_total", "misrouted_total", "sessions"] {
            assert_eq!(metric(&metrics, &format!("onevip_sfu_{name}{{kind=\"{kind}\"}}")), 0);
        }
    }

    // Clients of both kinds, straight to its plain socket.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        use demo::client::{
            WebRtcClient, WebRtcOptions, WebTransportClient, WebTransportOptions,
            webtransport_offer,
        };
        let options = WebRtcOptions { mirror: true, ..WebRtcOptions::new(1) };
        let webrtc = WebRtcClient::join(signalling, udp, "room", options).await.expect("joins");
        let offer = webtransport_offer(signalling, "room").await.expect("offers");
        let options = WebTransportOptions { number: 2, post_quantum: true };
        let webtransport =
            WebTransportClient::connect(udp, &offer, options).await.expect("connects");
        let since = std::time::Instant::now();
        let patience = crate::process::PATIENCE;
        assert!(webrtc.log().wait_media(patience, 1, since).await.is_some());
        assert!(webtransport.log().wait_media(patience, 2, since).await.is_some());
        assert!(webrtc.log().read().nodes.contains_key("sfu-a"));

        // Bad requests get a problem document, and change nothing.
        let url = format!("http://{signalling}/rooms/room/sessions");
        let post = move |body: &'static str| {
            let agent: ureq::Agent =
                ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let mut answer = agent.post(&url).send(body).expect("answers");
            (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
        };
        let (status, problem) =
            tokio::task::spawn_blocking(move || post("v=0\r\nnonsense")).await.expect("ran");
        assert_eq!(status, 400, "{problem}");
        assert!(problem.contains("the offer cannot be answered"), "{problem}");
    });

    node.signal(Signal::TERM);
    eventually("it is not ready", || ready(503));
    assert_eq!(node.wait(), 0);
}

/// A node's files: a fleet of one, and its configuration with `more` in it.
struct World {
    folder: Folder,
    config: String,
    admin: SocketAddr,
    tunnel: SocketAddr,
}

impl World {
    fn new(more: &str) -> Self {
        let folder = Folder::new();
        let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (tunnel, signalling, admin) = (address(), address(), address());
        folder.write("fleet.toml", &Self::fleet(""));
        let config = folder.write(
            "sfu.toml",
            &format!(
                "name = \"sfu-a\"\n[fleet]\npath = \"fleet.toml\"\n\
                 [tunnel]\nlisten = \"{tunnel}\"\nlbs = [\"127.0.0.2/32\"]\n\
                 [ice]\ncandidates = [\"203.0.113.1:4433\"]\n\
                 [signalling]\nlisten = \"{signalling}\"\n[admin]\nlisten = \"{admin}\"\n{more}"
            ),
        );
        Self { folder, config, admin, tunnel }
    }

    fn fleet(more: &str) -> String {
        format!(
            "hash_key = \"00112233445566778899aabbccddeeff\"\n[[routing]]\nconfig = 0\n[[node]]\n\
             id = \"sfu-a\"\nserver_id = \"0000000a\"\naddress = \"10.0.0.1:7001\"\n{more}"
        )
    }

    fn change(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.config).expect("it is there");
        assert!(text.contains(from), "{text}");
        self.folder.write("sfu.toml", &text.replace(from, to));
    }

    fn start(&self) -> Running {
        let node = Running::start(&["sfu", "--config", &self.config], &self.folder.path("log"));
        eventually("the node is ready", || {
            get(self.admin, "/readyz").is_some_and(|(status, _)| status == 200)
        });
        node
    }
}

#[test]
fn a_reload_applies_what_it_can_and_names_what_takes_a_restart() {
    let world = World::new("");
    let mut node = world.start();
    let probe = || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        socket.set_read_timeout(Some(std::time::Duration::from_millis(50))).expect("set");
        let tuple = wire::FiveTuple::new(
            kit::address("198.51.100.7:5000"),
            kit::address("203.0.113.1:4433"),
        );
        let ask = kit::Stun::request([9; 12]).fingerprint().bytes();
        socket.send_to(&kit::tunnelled(&tuple, &ask), world.tunnel).expect("sent");
        socket.recv(&mut [0; 500]).is_ok()
    };
    assert!(!probe(), "127.0.0.1 is no LB");
    world.change("127.0.0.2/32", "127.0.0.0/8");
    world.change("203.0.113.1", "203.0.113.2");
    world.folder.write("fleet.toml", &World::fleet("[[routing]]\nconfig = 1\nnonce_len = 8\n"));
    node.signal(Signal::HUP);
    eventually("the LBs are others", probe);
    let said = "sfu.toml: ice.candidates has changed, which takes a restart";
    eventually("it is said", || node.log().contains(said));
    let said = "fleet.toml: routing configurations have IDs of";
    eventually("what is odd about the fleet is said", || node.log().contains(said));
    assert!(!node.has_ended());
}

#[test]
fn while_it_leaves_a_node_follows_the_fleet_and_a_second_signal_ends_it() {
    let world = World::new("drain = \"1h\"\n");
    let mut node = world.start();
    node.signal(Signal::TERM);
    eventually("it leaves", || get(world.admin, "/readyz").is_some_and(|(have, _)| have == 503));
    world.folder.write("fleet.toml", &World::fleet("state = \"draining\"\n"));
    eventually("the fleet is followed", || node.log().contains("fleet.toml: applied"));
    world.folder.write("fleet.toml", &World::fleet("").replace("0000000a", "0000000b"));
    eventually("another server ID is refused", || {
        node.log().contains("the server ID would be 0000000b instead of 0000000a")
    });
    node.signal(Signal::TERM);
    assert_eq!(node.wait(), 0);
}
