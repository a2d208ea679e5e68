//! Delivering: whose turn it is, and how often.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use reqwest::{StatusCode, header};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{self, Instant},
};
use tracing::{debug, info, warn};

use super::{
    Hooks,
    hook::{Cursor, Hook},
};
use crate::{
    join, records,
    store::{Condition, LeaseId, Outcome, Revision, Store, StoreError, Txn},
};

/// How long who delivers may be silent before another takes over.
const TTL: Duration = Duration::from_secs(9);

/// How often it is looked whether it is one's turn.
const TURN: Duration = Duration::from_secs(2);

/// How often it is said how far one came.
const SAY: Duration = Duration::from_secs(1);

/// How long to wait before a URL that does not take it is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Delivers for ever, to each URL by itself.
pub async fn run<S: Store>(store: Arc<S>, hooks: Arc<Hooks>) {
    let mut tasks = JoinSet::new();
    for at in 0..hooks.all.len() {
        let (store, hooks) = (store.clone(), hooks.clone());
        tasks.spawn(async move {
            let Some(hook) = hooks.all.get(at) else { return };
            loop {
                if let Err(problem) = turn(&*store, hook, &hooks.http).await {
                    debug!(?hook, "webhooks wait for the store: {problem}");
                }
                hook.owned.store(false, Ordering::Relaxed);
                time::sleep(TURN).await;
            }
        });
    }
    // They never end.
    while tasks.join_next().await.is_some() {}
}

fn owner(hook: &Hook) -> String {
    format!("{}{}/owner", records::WEBHOOKS, hook.hash)
}

fn cursor(hook: &Hook) -> String {
    format!("{}{}/cursor", records::WEBHOOKS, hook.hash)
}

/// Delivers while it is this control's turn. Ends when it is another's.
async fn turn<S: Store>(store: &S, hook: &Hook, http: &reqwest::Client) -> Result<(), StoreError> {
    let key = owner(hook);
    if store.get(&key).await?.0.is_some() {
        return Ok(());
    }
    let lease = store.grant(TTL).await?;
    let then = vec![records::put(key.clone(), &json!({}), Some(lease))];
    let Outcome::Committed(since) =
        store.commit(Txn { when: vec![Condition::Absent(key)], then }).await?
    else {
        return store.revoke(lease).await;
    };
    if let Some(entry) = store.get(&cursor(hook)).await?.0
        && let Ok(told) = records::read(&entry)
    {
        hook.skip(&told);
    }
    hook.owned.store(true, Ordering::Relaxed);
    info!(?hook, "delivering");
    tokio::select! {
        () = keep(store, lease) => Ok(()),
        ended = deliver(store, hook, http, since) => ended,
    }
}

/// Keeps the lease. Ends when it cannot be known to be held any more.
async fn keep<S: Store>(store: &S, lease: LeaseId) {
    let mut heard = Instant::now();
    loop {
        time::sleep(TTL / 3).await;
        let asked = Instant::now();
        match time::timeout(TTL / 3, store.keep_alive(lease)).await {
            Ok(Ok(_)) => heard = asked,
            Ok(Err(StoreError::LeaseEnded(_))) => return,
            Ok(Err(_)) | Err(_) if heard.elapsed() > TTL => return,
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Ends when another delivers.
async fn deliver<S: Store>(
    store: &S,
    hook: &Hook,
    http: &reqwest::Client,
    since: Revision,
) -> Result<(), StoreError> {
    let mut retry = RETRY.0;
    let mut told: Option<Cursor> = None;
    let mut said = Instant::now();
    loop {
        if told.is_some() && said.elapsed() >= SAY {
            let then = vec![records::put(cursor(hook), &told, None)];
            let when = vec![Condition::Created(owner(hook), since)];
            if let Outcome::Refused(_) = store.commit(Txn { when, then }).await? {
                return Ok(());
            }
            (told, said) = (None, Instant::now());
        }
        let batch = hook.front();
        let Some((last, newest)) = batch.last() else {
            let _waited = time::timeout(SAY, hook.wake.notified()).await;
            continue;
        };
        let events: Vec<_> = batch.iter().map(|(_, event)| event).collect();
        let count = events.len() as u64;
        let body = json!({ "events": events }).to_string().into_bytes();
        match post(hook, http, body).await {
            Took::Yes => drop(hook.delivered.fetch_add(count, Ordering::Relaxed)),
            Took::Never(status) => {
                warn!(?hook, %status, "it does not want what it is told");
                hook.refused.fetch_add(count, Ordering::Relaxed);
            }
            Took::NotNow(problem) => {
                debug!(?hook, "told again later: {problem}");
                time::sleep(retry).await;
                retry = (retry * 2).min(RETRY.1);
                continue;
            }
        }
        retry = RETRY.0;
        hook.done(*last);
        told = Some(Cursor { id: newest.id.clone(), revision: newest.revision });
    }
}

/// What became of a call.
enum Took {
    Yes,
    NotNow(String),
    /// The same again will not be taken either.
    Never(StatusCode),
}

async fn post(hook: &Hook, http: &reqwest::Client, body: Vec<u8>) -> Took {
    let signature = hook.signature(&body, join::now());
    let request = http
        .post(&hook.url)
        .header(header::CONTENT_TYPE, "application/json")
        .header("onevip-signature", signature)
        .body(body);
    match request.send().await {
        Ok(answer) => match answer.status() {
            status if status.is_success() => Took::Yes,
            status if status.is_client_error() && !matches!(status.as_u16(), 408 | 425 | 429) => {
                Took::Never(status)
            }
            status => Took::NotNow(status.to_string()),
        },
        // Without the URL, which may hold a secret.
        Err(error) => Took::NotNow(error.without_url().to_string()),
    }
}
