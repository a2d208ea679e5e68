//! Chromium, told what to do by its driver: W3C WebDriver, of which five plain calls are all it takes.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use ureq::http::{Method, Request};

/// A browser without a screen, whose camera shows a picture of its own. It and its driver end with it.
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    /// The browser's own process.
    process: Option<Pid>,
    /// What it writes down, which nobody wants.
    _profile: TempDir,
}

impl Browser {
    /// Starts it. A call to its page takes no longer than `patience`.
    pub(crate) async fn start(patience: Duration) -> Self {
        spawn_blocking(move || Self::start_now(patience)).await.expect("started")
    }

    fn start_now(patience: Duration) -> Self {
        let profile = tempfile::tempdir().expect("a folder");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|problem| {
                panic!(
                    "chromedriver cannot be started ({problem}): install the packages chromium and \
                     chromium-driver, as `make need-test` does"
                )
            });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port(&mut driver)));
        // From here on it is stopped in any case.
        let mut browser =
            Self { driver, address, session: String::new(), process: None, _profile: profile };
        let begun = browser.ask(
            Method::POST,
            "/session",
            &json!({ "capabilities": browser.wanted(patience) }),
        );
        browser.session = begun["sessionId"].as_str().expect("a session").to_owned();
        let process = begun["capabilities"]["goog:processID"].as_i64();
        let process = process.and_then(|process| i32::try_from(process).ok());
        browser.process = process.and_then(Pid::from_raw);
        browser
    }

    fn wanted(&self, patience: Duration) -> Value {
        let profile = format!("--user-data-dir={}", self._profile.path().display());
        let milliseconds = u64::try_from(patience.as_millis()).expect("small");
        json!({ "alwaysMatch": {
            "browserName": "chrome",
            "timeouts": { "script": milliseconds * 2 },
            "goog:chromeOptions": { "args": [
                "--headless=new",
                // Tests run as root in containers, where its sandbox does not start.
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                "--autoplay-policy=no-user-gesture-required",
                // The VIP is on loopback.
                "--allow-loopback-in-peer-connection",
                profile,
            ] },
        } })
    }

    /// Opens a page.
    pub(crate) async fn open(&self, url: &str) {
        self.tell(Method::POST, "/url", json!({ "url": url })).await;
    }

    /// Calls a function of the page, and says what came of it.
    pub(crate) async fn run(&self, call: &str, arguments: Value) -> Value {
        let script = "run(arguments[0], arguments[1], arguments[2])";
        let asked = json!({ "script": script, "args": [call, arguments] });
        self.tell(Method::POST, "/execute/async", asked).await
    }

    /// Closes it as a user would.
    pub(crate) async fn stop(mut self) {
        self.tell(Method::DELETE, "", json!({})).await;
        self.process = None;
    }

    async fn tell(&self, method: Method, path: &str, body: Value) -> Value {
        let (address, path) = (self.address, format!("/session/{}{path}", self.session));
        spawn_blocking(move || ask(address, method, &path, &body)).await.expect("asked")
    }

    fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        ask(self.address, method, path, body)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // In a test that failed; otherwise it has ended.
        if let Some(process) = self.process {
            let _gone = kill_process(process, Signal::KILL);
        }
        let _gone = self.driver.kill();
        let _status = self.driver.wait();
    }
}

/// The port that the driver has found, as it says.
fn port(driver: &mut Child) -> u16 {
    let said = BufReader::new(driver.stdout.take().expect("piped"));
    let mut lines = said.lines().map_while(Result::ok);
    let port = lines.find_map(|line| {
        let (_, port) = line.split_once("started successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    });
    port.expect("chromedriver says its port")
}

fn ask(driver: SocketAddr, method: Method, path: &str, body: &Value) -> Value {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{driver}{path}"))
        .header("content-type", "application/json")
        .body(body.to_string());
    let mut answer = agent.run(request.expect("a request")).expect("the driver answers");
    let text = answer.body_mut().read_to_string().expect("text");
    let mut read: Value = serde_json::from_str(&text).expect("JSON");
    assert!(answer.status().is_success(), "{path}: {text}");
    read["value"].take()
}
