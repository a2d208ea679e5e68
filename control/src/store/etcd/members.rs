//! The cluster's members, and which of them is asked.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use etcd_client::{Client, ConnectOptions, Error};
use tokio::{
    sync::Mutex,
    time::{self, Instant},
};

use super::{ConnectError, EtcdOptions, failure::Failure};

/// How long a connection may take.
pub(super) const CONNECTING: Duration = Duration::from_secs(2);

/// How often a connection that is in use is asked whether it lives; etcd allows every 5 s.
pub(super) const PING: Duration = Duration::from_secs(6);

/// How long it may take to say so.
pub(super) const PING_PATIENCE: Duration = Duration::from_secs(3);

/// How long one member may take to answer, before another is asked.
const ANSWERING: Duration = Duration::from_secs(2);

/// How long all of them may take: a leader that is lost is replaced within two seconds or so.
const PATIENCE: Duration = Duration::from_secs(6);

/// A pause before members that refused are asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// The members of a cluster.
///
/// One is asked until it fails, and then the next: a request that could go to any would meet a member
/// that is gone every so often.
pub(super) struct Members {
    members: Vec<Member>,
    options: ConnectOptions,
    asked: AtomicUsize,
}

struct Member {
    endpoint: String,
    /// Made when it is first asked: with a user, it is asked for a token then.
    client: Mutex<Option<Client>>,
}

impl Members {
    pub(super) fn new(options: &EtcdOptions) -> Result<Self, ConnectError> {
        options.check()?;
        let member =
            |endpoint: &String| Member { endpoint: endpoint.clone(), client: Mutex::default() };
        let members: Vec<_> = options.endpoints.iter().map(member).collect();
        // Those who share a cluster do not all begin with the same.
        let first = std::process::id() as usize % members.len();
        Ok(Self { members, options: options.connect()?, asked: AtomicUsize::new(first) })
    }

    /// Their URLs.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| &*member.endpoint)
    }

    /// The member that is asked now.
    async fn current(&self) -> (usize, Result<Client, Failure>) {
        let index = self.asked.load(Ordering::Relaxed) % self.members.len();
        let member = &self.members[index];
        let mut client = member.client.lock().await;
        if let Some(client) = &*client {
            return (index, Ok(client.clone()));
        }
        let connecting = Client::connect([member.endpoint.clone()], Some(self.options.clone()));
        let made = match time::timeout(CONNECTING, connecting).await {
            Ok(Ok(made)) => Ok(client.insert(made).clone()),
            Ok(Err(error)) => Err(Failure::of(&error)),
            Err(_) => Err(self.late(index)),
        };
        (index, made)
    }

    /// From now on another than this one is asked.
    fn turn_from(&self, index: usize) {
        let next = (index + 1) % self.members.len();
        // Else somebody else has turned already.
        let _turned =
            self.asked.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn late(&self, index: usize) -> Failure {
        let endpoint = &self.members[index].endpoint;
        Failure::Unavailable(format!("etcd at {endpoint} does not answer in time"))
    }

    /// Asks one member, once.
    pub(super) async fn once<T, F: Future<Output = Result<T, Error>> + Send>(
        &self,
        ask: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, Failure> {
        let (index, client) = self.reachable().await?;
        let answer = match time::timeout(PATIENCE, ask(client)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Failure::of(&error).at(&self.members[index].endpoint),
            Err(_) => self.late(index),
        };
        if answer.is_of_member() {
            self.turn_from(index);
        }
        Err(answer)
    }

    /// A member that answers: one that is gone would lose what is asked only once.
    async fn reachable(&self) -> Result<(usize, Client), Failure> {
        let mut failure = None;
        for _ in 0..self.members.len() {
            match self.current().await {
                (index, Ok(client)) => return Ok((index, client)),
                (index, Err(problem)) => {
                    self.turn_from(index);
                    failure = Some(problem.at(&self.members[index].endpoint));
                }
            }
        }
        Err(failure.unwrap_or_else(|| Failure::Unavailable("there is no member".to_owned())))
    }

    /// Asks one member after another, until one answers or it has taken too long.
    pub(super) async fn repeat<T, F: Future<Output = Result<T, Error>> + Send>(
        &self,
        ask: impl Fn(Client) -> F + Send + Sync,
    ) -> Result<T, Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            let (index, client) = self.current().await;
            let failure = match client {
                Ok(client) => match time::timeout(ANSWERING, ask(client)).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(error)) => Failure::of(&error),
                    Err(_) => self.late(index),
                },
                Err(failure) => failure,
            };
            if !failure.is_of_member() {
                return Err(failure);
            }
            self.turn_from(index);
            if Instant::now() + PAUSE >= end {
                return Err(failure.at(&self.members[index].endpoint));
            }
            time::sleep(PAUSE).await;
        }
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<_> = self.members.iter().map(|member| &*member.endpoint).collect();
        f.write_str(&endpoints.join(", "))
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.members.iter().map(|member| &member.endpoint)).finish()
    }
}
