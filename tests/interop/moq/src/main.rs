//! Publishes a frame to a moq-relay every 20 ms on one connection, and subscribes to it on another.
//!
//! `interop-moq URL TLS-HOST-NAME PUBLISHER-ADDRESS SUBSCRIBER-ADDRESS`. Writes a line for each thing
//! that happens: `connected`, `sent`, `came`, `ended WHY`.

use std::{env, net::SocketAddr, time::Duration};

use moq_tokio::{Client, moq_net};
use tokio::time;
use url::Url;

type Error = Box<dyn std::error::Error + Send + Sync>;

const BROADCAST: &str = "interop";
const TRACK: &str = "ticks";
const TICK: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() {
    let ended = match run().await {
        Ok(()) => "the track has ended".to_owned(),
        Err(error) => error.to_string(),
    };
    println!("ended {ended}");
}

async fn run() -> Result<(), Error> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [url, host, publisher, subscriber] = arguments.as_slice() else {
        return Err(
            "usage: interop-moq URL TLS-HOST-NAME PUBLISHER-ADDRESS SUBSCRIBER-ADDRESS".into()
        );
    };
    // The process has one provider; another one installed first would be as good.
    let _first = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let url: Url = url.parse()?;
    tokio::select! {
        ended = publish(client(host, publisher.parse()?)?, url.clone()) => ended,
        ended = subscribe(client(host, subscriber.parse()?)?, url) => ended,
    }
}

fn client(host: &str, bind: SocketAddr) -> Result<Client, Error> {
    let mut config = moq_tokio::connect::Config::default();
    config.tls.insecure = Some(true);
    config.tls.host_name = Some(host.to_owned());
    config.bind = Some(bind);
    // A connection that is lost stays lost: what it survives is what is measured.
    config.once = Some(true);
    Ok(config.init(Default::default())?)
}

async fn publish(client: Client, url: Url) -> Result<(), Error> {
    let origin = moq_tokio::origin::spawn();
    let broadcast = origin.create_broadcast(BROADCAST)?;
    let track = broadcast.create_track(TRACK, None)?;
    broadcast.announce(Default::default())?;
    let connection = client.with_publisher(&origin).connect(url);
    let send = async {
        let mut tick = time::interval(TICK);
        loop {
            tick.tick().await;
            let mut group = track.append_group()?;
            group.write_frame(moq_net::Timestamp::ZERO, b"tick".as_ref())?;
            group.finish()?;
            println!("sent");
        }
    };
    tokio::select! {
        ended = send => ended,
        closed = connection.closed() => Err(format!("the publisher: {}", reason(closed)).into()),
    }
}

async fn subscribe(client: Client, url: Url) -> Result<(), Error> {
    let origin = moq_tokio::origin::spawn();
    let consumer = origin.consume();
    let mut announced = consumer.announced();
    let connection = client.with_subscriber(origin).connect(url);
    let receive = async {
        let update = announced.next().await.ok_or("nothing is announced")?;
        let broadcast = consumer.request_broadcast(&update.prefix).await?;
        let mut track = broadcast.track(TRACK)?.subscribe(None).await?;
        println!("connected");
        while let Some(mut group) = track.recv_group().await? {
            while group.read_frame().await?.is_some() {
                println!("came");
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = receive => ended,
        closed = connection.closed() => Err(format!("the subscriber: {}", reason(closed)).into()),
    }
}

fn reason(closed: Result<(), moq_tokio::Error>) -> String {
    closed.map_or_else(|error| error.to_string(), |()| "closed".to_owned())
}
