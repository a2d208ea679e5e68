//! `onevip demo`: sessions of both kinds that change networks over and over, and a count of what
//! that cost.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time};

use crate::{
    client::{
        ClientError, Log, WebRtcClient, WebRtcOptions, WebTransportClient, WebTransportOptions,
        webtransport_offer,
    },
    measure::{Calm, Change, Gap, Losses, SETTLING},
    report::{KindReport, Report},
    system::{Shape, System, SystemError, node_name},
};

/// What a demo is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The VIP.
    pub vip: SocketAddr,
    /// How many nodes.
    pub nodes: usize,
    /// How long clients move about.
    pub seconds: u64,
}

/// Why a demo could not run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A part of the system does not start.
    #[error(transparent)]
    System(#[from] SystemError),
    /// A client cannot do what it is told.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl From<io::Error> for DemoError {
    fn from(error: io::Error) -> Self {
        Self::Client(error.into())
    }
}

/// How long a session may take to connect, or to recover, before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(25);

/// Calm between a recovery and the next change. A WebRTC client checks its path every three seconds,
/// and more often just after a change: pauses differ, so that changes fall anywhere in between.
const WEBRTC_PAUSE: (Duration, Duration) =
    (Duration::from_millis(150), Duration::from_millis(2_150));
const WEBTRANSPORT_PAUSE: (Duration, Duration) =
    (Duration::from_millis(150), Duration::from_millis(450));

/// Spreads pauses evenly between two lengths, the same in every run.
fn pause((least, most): (Duration, Duration), index: usize, turn: usize) -> Duration {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let share = ((turn as f64) * GOLDEN + (index as f64) * GOLDEN * GOLDEN).fract();
    SETTLING + least + (most - least).mul_f64(share)
}

/// What is on its way at the end still arrives within this.
const LAST_ARRIVALS: Duration = Duration::from_millis(500);

/// A running system and the clients' counters.
pub struct Demo {
    /// The system.
    pub system: Arc<System>,
    progress: Arc<Progress>,
    options: Options,
}

/// Counted live.
#[derive(Debug, Default)]
pub struct Progress {
    connected: AtomicUsize,
    webrtc_changes: AtomicUsize,
    webtransport_changes: AtomicUsize,
    recovering: AtomicUsize,
}

impl Progress {
    fn line(&self, elapsed: Duration, sessions: usize, misrouted: u64) -> String {
        let value = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        format!(
            "{:>4} s   {}/{} sessions   address changes: WebRTC {}, WebTransport {}   \
             recovering now: {}   misrouted: {misrouted}",
            elapsed.as_secs(),
            value(&self.connected),
            sessions,
            value(&self.webrtc_changes),
            value(&self.webtransport_changes),
            value(&self.recovering),
        )
    }
}

/// What one runner measured.
#[derive(Debug, Default)]
struct Outcome {
    sessions: usize,
    gaps: Vec<Gap>,
    /// Changes of each of its sessions.
    changes: Vec<usize>,
    losses: Losses,
    lost: usize,
    wrong_node: u64,
}

impl Demo {
    /// Starts the system.
    ///
    /// # Errors
    /// [`DemoError`].
    pub async fn start(options: Options) -> Result<Self, DemoError> {
        let shape = Shape { vip: options.vip, nodes: options.nodes, ..Shape::default() };
        let system = Arc::new(System::start(&shape).await?);
        Ok(Self { system, progress: Arc::default(), options })
    }

    /// Lets clients move about for the time that the options say. `show` gets a line each second.
    ///
    /// # Errors
    /// [`DemoError`] when a client cannot even join.
    pub async fn run(&self, mut show: impl FnMut(&str)) -> Result<Report, DemoError> {
        let pairs = self.options.nodes.max(3);
        let mirrored = pairs * 2;
        let begin = Instant::now();
        let deadline = begin + Duration::from_secs(self.options.seconds);

        let mut webrtc = JoinSet::new();
        let mut webtransport = JoinSet::new();
        for index in 0..pairs {
            let runner = self.runner(index, deadline);
            webrtc.spawn(async move { runner.webrtc_pair().await });
        }
        for index in 0..mirrored {
            let runner = self.runner(index, deadline);
            webtransport.spawn(async move { runner.webtransport().await });
        }

        let (mut rtc_report, mut wt_report) = (KindReport::default(), KindReport::default());
        let mut tick = time::interval(Duration::from_secs(1));
        while !(webrtc.is_empty() && webtransport.is_empty()) {
            tokio::select! {
                Some(done) = webrtc.join_next() => rtc_report.add(finished(done)?),
                Some(done) = webtransport.join_next() => wt_report.add(finished(done)?),
                _ = tick.tick() => {
                    let misrouted = self.misrouted(None);
                    show(&self.progress.line(begin.elapsed(), pairs * 2 + mirrored, misrouted));
                }
            }
        }
        rtc_report.misrouted = self.misrouted(Some(sfu::metrics::Kind::Ice));
        wt_report.misrouted = self.misrouted(Some(sfu::metrics::Kind::Quic));
        Ok(Report { webrtc: rtc_report, webtransport: wt_report })
    }

    fn runner(&self, index: usize, deadline: Instant) -> Runner {
        Runner {
            index,
            node: index % self.options.nodes,
            deadline,
            system: self.system.clone(),
            progress: self.progress.clone(),
        }
    }

    /// Datagrams that came to a node although their ID names another: the nodes' own count.
    fn misrouted(&self, kind: Option<sfu::metrics::Kind>) -> u64 {
        let kinds = [sfu::metrics::Kind::Ice, sfu::metrics::Kind::Quic];
        let wanted = kinds.into_iter().filter(|one| kind.is_none_or(|kind| kind == *one));
        wanted
            .flat_map(|kind| {
                self.system.nodes().map(move |node| node.metrics().misrouted_count(kind))
            })
            .sum()
    }
}

fn finished(
    done: Result<Result<Outcome, DemoError>, tokio::task::JoinError>,
) -> Result<Outcome, DemoError> {
    done.unwrap_or_else(|error| Err(ClientError::WebRtc(error.to_string()).into()))
}

/// Moves one pair of WebRTC clients, or one WebTransport client, about.
struct Runner {
    index: usize,
    node: usize,
    deadline: Instant,
    system: Arc<System>,
    progress: Arc<Progress>,
}

impl Runner {
    fn signalling(&self) -> Result<SocketAddr, DemoError> {
        let node = self.system.node(self.node).ok_or(ClientError::Ended)?;
        Ok(node.signalling())
    }

    /// Two clients in a room, who send each other audio and video. They move in turn.
    async fn webrtc_pair(self) -> Result<Outcome, DemoError> {
        let room = format!("demo-{}", self.index);
        let node = self.signalling()?;
        let vip = self.system.vip();
        let number = |half: usize| u32::try_from(1 + 2 * self.index + half).unwrap_or(u32::MAX);
        let first = WebRtcClient::join(node, vip, &room, WebRtcOptions::new(number(0))).await?;
        let second = WebRtcClient::join(node, vip, &room, WebRtcOptions::new(number(1))).await?;
        let pair = [first, second];
        let mut outcome = Outcome { sessions: 2, changes: vec![0; 2], ..Outcome::default() };
        if !self.connected(&pair).await {
            outcome.lost = 2;
            return Ok(outcome);
        }

        let mut calm = Vec::new();
        let mut recovered = Instant::now();
        for turn in 0.. {
            time::sleep(pause(WEBRTC_PAUSE, self.index, turn)).await;
            if Instant::now() >= self.deadline {
                break;
            }
            // First, second, second, first: each has both kinds of changes in every four turns.
            let (mover, peer) = if turn % 4 == 0 || turn % 4 == 3 { (0, 1) } else { (1, 0) };
            let change = Change::nth(turn);
            calm.extend(Calm::between(recovered, Instant::now()));
            let gap = self.counted(&self.progress.webrtc_changes, async {
                self.move_webrtc(&pair[mover], &pair[peer], change).await
            });
            match gap.await? {
                Some(gap) => {
                    outcome.gaps.push(gap);
                    outcome.changes[mover] += 1;
                }
                None => {
                    outcome.lost += 1;
                    return Ok(outcome);
                }
            }
            recovered = Instant::now();
        }
        calm.extend(Calm::between(recovered, Instant::now()));
        time::sleep(LAST_ARRIVALS).await;

        let name = node_name(self.node);
        for (sender, receiver) in [(0, 1), (1, 0)] {
            let (sender, receiver) = (&pair[sender], &pair[receiver]);
            outcome.wrong_node += wrong_node(receiver.log(), &name);
            let sent = sender.log().read();
            let received = receiver.log().read();
            let losses = Losses::between(&sent, sender.number(), &received, &calm);
            outcome.losses = outcome.losses.and(losses);
            outcome.lost += usize::from(sent.ended.is_some());
        }
        Ok(outcome)
    }

    async fn connected(&self, pair: &[WebRtcClient; 2]) -> bool {
        let now = Instant::now();
        for (client, peer) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            let ready = client.log().wait_connected(PATIENCE).await
                && client.log().wait_media(PATIENCE, peer.number(), now).await.is_some();
            if !ready {
                return false;
            }
            self.progress.connected.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    async fn move_webrtc(
        &self,
        mover: &WebRtcClient,
        peer: &WebRtcClient,
        change: Change,
    ) -> Result<Option<Gap>, DemoError> {
        let switch = self.system.switch();
        let lb_before = switch.place(mover.local_addr()).map(|place| place.lb);
        let changed = Instant::now();
        match change {
            Change::Rebinding => drop(switch.rebind(mover.local_addr())?),
            Change::NewSocket => drop(mover.new_socket().await?),
        }
        let (up, down) = tokio::join!(
            peer.log().wait_media(PATIENCE, mover.number(), changed),
            mover.log().wait_media(PATIENCE, peer.number(), changed),
        );
        let (Some(up), Some(down)) = (up, down) else {
            return Ok(None);
        };
        let lb_after = switch.place(mover.local_addr()).map(|place| place.lb);
        let check = mover.log().read().checks.iter().find(|check| **check >= changed).copied();
        Ok(Some(Gap {
            change,
            lb_changed: lb_before != lb_after,
            up: up.at - changed,
            down: down.at - changed,
            check: check.map(|check| check - changed),
        }))
    }

    /// A client at a node's mirror.
    async fn webtransport(self) -> Result<Outcome, DemoError> {
        let number = u32::try_from(1_000 + self.index).unwrap_or(u32::MAX);
        let offer = webtransport_offer(self.signalling()?, "demo").await?;
        // Half of the hellos take two datagrams, as browsers' do.
        let options = WebTransportOptions { number, post_quantum: self.index.is_multiple_of(2) };
        let client = WebTransportClient::connect(self.system.vip(), &offer, options).await?;
        let mut outcome = Outcome { sessions: 1, changes: vec![0], ..Outcome::default() };
        let now = Instant::now();
        if client.log().wait_media(PATIENCE, number, now).await.is_none() {
            outcome.lost = 1;
            return Ok(outcome);
        }
        self.progress.connected.fetch_add(1, Ordering::Relaxed);

        let mut calm = Vec::new();
        let mut recovered = Instant::now();
        for turn in 0.. {
            time::sleep(pause(WEBTRANSPORT_PAUSE, self.index, turn)).await;
            if Instant::now() >= self.deadline {
                break;
            }
            calm.extend(Calm::between(recovered, Instant::now()));
            let change = Change::nth(turn);
            let gap = self.counted(&self.progress.webtransport_changes, async {
                self.move_webtransport(&client, change).await
            });
            match gap.await? {
                Some(gap) => {
                    outcome.gaps.push(gap);
                    outcome.changes[0] += 1;
                }
                None => {
                    outcome.lost += 1;
                    return Ok(outcome);
                }
            }
            recovered = Instant::now();
        }
        calm.extend(Calm::between(recovered, Instant::now()));
        time::sleep(LAST_ARRIVALS).await;

        outcome.wrong_node = wrong_node(client.log(), &node_name(self.node));
        let record = client.log().read();
        outcome.losses = Losses::between(&record, number, &record, &calm);
        outcome.lost += usize::from(record.ended.is_some());
        Ok(outcome)
    }

    async fn move_webtransport(
        &self,
        client: &WebTransportClient,
        change: Change,
    ) -> Result<Option<Gap>, DemoError> {
        let switch = self.system.switch();
        let lb_before = switch.place(client.local_addr()?).map(|place| place.lb);
        let changed = Instant::now();
        match change {
            Change::Rebinding => drop(switch.rebind(client.local_addr()?)?),
            Change::NewSocket => drop(client.new_socket()?),
        }
        let echo = client.log().wait_media(PATIENCE, client.number(), changed).await;
        let Some(echo) = echo else { return Ok(None) };
        let lb_after = switch.place(client.local_addr()?).map(|place| place.lb);
        Ok(Some(Gap {
            change,
            lb_changed: lb_before != lb_after,
            up: echo.at_node.unwrap_or(echo.at).saturating_duration_since(changed),
            down: echo.at - changed,
            check: None,
        }))
    }

    async fn counted<T>(&self, changes: &AtomicUsize, recovery: impl Future<Output = T>) -> T {
        self.progress.recovering.fetch_add(1, Ordering::Relaxed);
        let done = recovery.await;
        self.progress.recovering.fetch_sub(1, Ordering::Relaxed);
        changes.fetch_add(1, Ordering::Relaxed);
        done
    }
}

/// Datagrams that another node put its name on, or none.
fn wrong_node(log: &Log, name: &str) -> u64 {
    let record = log.read();
    let others = record.nodes.iter().filter(|(node, _)| *node != name).map(|(_, count)| count);
    others.sum::<u64>() + record.unnamed
}

impl KindReport {
    fn add(&mut self, outcome: Outcome) {
        self.sessions += outcome.sessions;
        self.gaps.extend(outcome.gaps);
        self.changes.extend(outcome.changes);
        self.losses = self.losses.and(outcome.losses);
        self.lost += outcome.lost;
        self.wrong_node += outcome.wrong_node;
    }
}
