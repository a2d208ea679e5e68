//! `onevip sfu` without an LB, and its signals.

use std::net::SocketAddr;

use crate::process::{Folder, Running, eventually, free_port, get, metric};

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

    node.signal("TERM");
    eventually("it is not ready", || ready(503));
    assert_eq!(node.wait(), 0);
}
