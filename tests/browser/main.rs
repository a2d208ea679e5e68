//! A real browser, which knows nothing of us: Chromium publishes by WHIP and plays by WHEP.

mod driver;
mod page;

use std::time::Duration;

use demo::system::{Shape, System};
use driver::Browser;
use serde_json::{Value, json};
use sfu::metrics::{Drop, Kind};

/// Longer than anything here takes; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(40);

/// What the page says about a session.
async fn ask(browser: &Browser, call: &str, arguments: Value) -> Value {
    let answer = browser.run(call, arguments).await;
    assert_eq!(answer["error"], Value::Null, "{call}: {answer}");
    answer
}

/// Waits until the player has decoded more frames than it has now.
async fn plays_on(browser: &Browser, player: &Value) {
    let milliseconds = u64::try_from(PATIENCE.as_millis()).expect("small");
    let frames = ask(browser, "playsOn", json!([player["id"], milliseconds])).await;
    assert!(frames["after"].as_u64() > frames["before"].as_u64(), "no frame was decoded: {frames}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_publishes_by_whip_and_plays_by_whep_through_the_vip() {
    let system = System::start(&Shape::default()).await.expect("loopback has room for a system");
    let node = system.node(1).expect("it runs");
    let base = format!("http://{}", node.signalling());
    let page = page::serve().await;
    let browser = Browser::start(PATIENCE).await;
    browser.open(&format!("http://{page}/")).await;

    let player = ask(&browser, "play", json!([base, "live"])).await;
    let publisher = ask(&browser, "publish", json!([base, "live"])).await;
    plays_on(&browser, &player).await;

    // What the page could read of the answers, across origins, and what it trickled.
    for session in [&publisher, &player] {
        let location = session["location"].as_str().expect("a location");
        assert!(location.starts_with("/sessions/"), "{session}");
        assert!(session["etag"].as_str().expect("an entity tag").starts_with('"'), "{session}");
        let trickled = ask(&browser, "trickled", json!([session["id"]])).await;
        let statuses = trickled["statuses"].as_array().expect("a list");
        assert!(!statuses.is_empty(), "the browser has candidates: {trickled}");
        assert!(statuses.iter().all(|status| status == 204), "{trickled}");
        let remote = ask(&browser, "remote", json!([session["id"]])).await;
        assert_eq!(remote["address"], system.vip().to_string(), "media goes by the VIP");
    }

    // Each restarts ICE by a fragment, and the media goes on under the new ufrag.
    for session in [&publisher, &player] {
        let restarted = ask(&browser, "restart", json!([session["id"]])).await;
        assert_eq!(restarted["status"], 200, "{restarted}");
        assert_ne!(restarted["etag"], session["etag"], "another ICE session");
        plays_on(&browser, &player).await;
    }

    for session in [&publisher, &player] {
        let left = ask(&browser, "leave", json!([session["id"]])).await;
        assert_eq!(left["status"], 200, "{left}");
    }
    assert_eq!(node.handle().load().sessions, 0);
    for node in system.nodes() {
        assert_eq!(node.metrics().misrouted_count(Kind::Ice), 0);
        assert_eq!(node.metrics().drops_count(Drop::Unauthenticated), 0);
    }
    browser.stop().await;
}
